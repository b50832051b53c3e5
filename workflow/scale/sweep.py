"""`make sweep SPEC=sweeps/NAME.yaml`: many trainings, each with other parameters, compared on validation images."""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pipeline.files import write_json
from workflow.command import end
from workflow.history.sweeps import FAILED, SHOWN, counted, ranked, shown_values
from workflow.scale.cluster import connected, prepare
from workflow.scale.engine import Plan, head_commit, run

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
    from workflow.scale.search import importance, scheduler, searcher  # these need what `prepare` looks for
    from workflow.scale.spec import read_spec, with_values

    spec = read_spec(path)
    commit = head_commit()
    digest = hashlib.sha256(f"{commit} {spec!r}".encode()).hexdigest()
    plan = Plan(
        command="sweep",
        key=f"{path.stem}-{digest[:8]}",
        job={"project": str(Path().resolve()), "commit": commit, "targets": [TARGET], "name": path.stem + "-{trial}"},
        values=spec.values,
        threads=spec.threads,
        trials=spec.budget.trials,
        hours=spec.budget.hours,
        objective=spec.objective,
        search=searcher(spec),
        scheduler=scheduler(spec, with_values(spec.values)["train"]["epochs"]),
    )
    with connected(spec.threads) as cores:
        trials = run(plan)
    record = {
        "commit": commit,
        "cores": cores,
        "parameters": sorted(spec.space),
        "importance": importance(spec, trials),
        "trials": trials,
        **spec.model_dump(include={"objective", "fixed", "threads", "sampler", "pruner"}),
    }
    output = path.with_suffix(".json")
    write_json(output, record)
    print(f"{table(record)}\n\nsweep: wrote {output}. The trials: dvc exp show --only-changed")
    failed = {trial["error"]: trial["number"] for trial in reversed(trials) if trial["verdict"] == FAILED}
    for error, number in failed.items():  # each reason once
        print(f"sweep: trial {number} failed: {error}\nThe same command tries it again.", file=sys.stderr)
    best = ranked(trials, spec.objective)
    if not best:
        print("sweep: no trial was completed, so there is none to take", file=sys.stderr)
        return 1
    print(f"Take the best, and run the rest of its pipeline: dvc exp apply {best[0]['experiment']} && dvc repro")
    return 0


def table(record: Mapping[str, Any]) -> str:
    """The best trials as text."""
    best = ranked(record["trials"], record["objective"])
    rows = [
        [trial["experiment"], trial["history"][-1][record["objective"]], *shown_values(record, trial)]
        for trial in best[:SHOWN]
    ]
    head = ["experiment", record["objective"].replace("_", " "), *record["parameters"]]
    return f"{tabulate(rows, head)}\n\n{counted(record['trials'])}"


if __name__ == "__main__":
    end("sweep", lambda: main(sys.argv[1:]))
