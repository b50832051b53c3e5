"""`make sweep SPEC=sweeps/NAME.yaml`: many trainings, each with other parameters, compared on validation images."""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import write_json
from workflow.command import end
from workflow.history.sweeps import FAILED, ranked
from workflow.scale.cluster import prepare
from workflow.scale.engine import Ended, Plan, head_commit, run
from workflow.scale.record import content, table
from workflow.scale.spec import Spec, read_spec, trial_defaults, with_values

#: The stage that trials run up to: it sees training and validation images only.
TARGET = "train"


def main(arguments: Sequence[str]) -> int:
    """Runs a sweep, or goes on with it, and writes what came of it beside its specification, as NAME.json.

    Returns:
        Exit status: 0, or 1 if no trial was completed.

    Raises:
        StageError: If it was refused.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.scale.sweep", allow_abbrev=False)
    parser.add_argument("spec", metavar="SPEC", type=Path)
    path = parser.parse_args(arguments).spec
    prepare()
    spec = read_spec(path)
    commit = head_commit()
    ended = run(_plan(path, spec, commit))
    record = content(spec, commit, ended.cores, ended.trials, _importance(spec, ended.trials))
    output = path.with_suffix(".json")
    write_json(output, record)
    print(f"{table(record)}\n\nsweep: wrote {output}. The trials: dvc exp show --only-changed")
    best = ranked(record["trials"], spec.objective)
    failed = {trial.error: trial.number for trial in reversed(ended.trials) if trial.verdict == FAILED}
    for error, number in failed.items():  # each reason once
        print(f"sweep: trial {number} failed: {error}\nThe same command tries it again.", file=sys.stderr)
    if not best:
        print("sweep: no trial was completed, so there is none to take", file=sys.stderr)
        return 1
    print(f"Take the best, and run the rest of its pipeline: dvc exp apply {best[0]['experiment']} && dvc repro")
    return 0


def _importance(spec: Spec, trials: Sequence[Ended]) -> dict[str, float]:
    from workflow.scale.search import importance

    return importance(spec, trials)


def _plan(path: Path, spec: Spec, commit: str) -> Plan:
    from workflow.scale.search import scheduler, searcher

    fixed = {**trial_defaults(spec), **spec.fixed}
    epochs = with_values(fixed)["train"]["epochs"]
    digest = hashlib.sha256(f"{commit} {spec!r}".encode()).hexdigest()
    return Plan(
        command="sweep",
        key=f"{path.stem}-{digest[:8]}",
        job={"project": str(Path().resolve()), "commit": commit, "targets": [TARGET], "name": path.stem + "-{trial}"},
        values=fixed,
        threads=spec.threads,
        trials=spec.budget.trials,
        hours=spec.budget.hours,
        objective=spec.objective,
        search=searcher(spec),
        scheduler=scheduler(spec, epochs),
    )


if __name__ == "__main__":
    end("sweep", lambda: main(sys.argv[1:]))
