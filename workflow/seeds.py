"""`make seeds N=5`: runs the present parameters with N seeds of training, and records what each of them found."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.files import write_metrics
from pipeline.params.section import PARAMS_FILE
from pipeline.params.whole import load_params
from workflow.command import end
from workflow.lock import WEIGHTS, outputs
from workflow.presets import STAGES, run_digest
from workflow.revisions import Revision, experiments, resolve
from workflow.sweep.engine import COMPLETED, Plan, forget, head_commit, run

PATH = Path("metrics/seeds.json")

#: Metrics files that are compared, and the stages that they come from.
FILES = ("evaluation", "representation", "outliers", "samples")
TARGETS = ("summarise", "represent", "outliers", "samples")

#: Of metrics/processor.json, the class of processor: on one class equal runs give equal bytes.
CLASS = ("instruction_set", "caches", "intra_op")

#: Metrics that have no error over images beside them.
_WITHOUT_ERROR = ("active_units", "calibration_error")

#: Prints the digest that a `metrics/seeds.json` of these files would have, by their own code.
_DIGEST = "from workflow.seeds import seeds_digest; print(seeds_digest())"


def main(arguments: Sequence[str]) -> int:
    """Runs an experiment a seed, from that of the parameters on, by Ray, and writes `metrics/seeds.json`.

    An experiment bears the digest of what it runs in its name: one that is there already is not run again.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If it was refused, or a run failed.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.seeds")
    parser.add_argument("count", metavar="N")
    count = parser.parse_args(arguments).count
    if not count.isdecimal() or int(count) < 2:
        raise StageError(f"N = {count!r}: it should be a number of seeds, 2 or more")
    params = load_params()
    if params.train.workers > 1:
        raise StageError(f"train.workers = {params.train.workers}: expected 1, as each seed is trained by itself")
    seeds = range(params.train.seed, params.train.seed + int(count))
    digest = seeds_digest()
    name = f"seed-{{seed}}-{digest[:8]}"
    missing = [seed for seed in seeds if name.format(seed=seed) not in experiments()]
    if missing:
        _run(missing, name, f"seeds-{digest[:8]}-{seeds[0]}-{seeds[-1]}", params.threads.intra_op)
    write_metrics(PATH, {"digest": digest, "runs": [run_of(resolve(name.format(seed=seed))) for seed in seeds]})
    print(f"seeds: wrote {PATH}; commit it with dvc.lock and metrics/. The runs: dvc exp show --only-changed")
    return 0


def seeds_digest() -> str:
    """Hex sha256 of all that the metrics follow from but the data and the seed of training."""
    params = load_params()
    anyone = params.model_copy(update={"train": params.train.model_copy(update={"seed": 0})})
    return run_digest(anyone, (*STAGES, *TARGETS))


def digest_in(folder: Path) -> str | None:
    """The digest of other files of this project, by their own code; None if that code has no such thing."""
    done = subprocess.run([sys.executable, "-c", _DIGEST], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def stale() -> bool:
    """Whether `metrics/seeds.json` is there and of other code, parameters or versions."""
    return PATH.is_file() and json.loads(PATH.read_text(encoding="utf-8"))["digest"] != seeds_digest()


def runs_in(content: bytes) -> list[dict[str, Any]]:
    """The runs that a `metrics/seeds.json` records; none of the old form, which had spreads that nothing proved.

    Raises:
        StageError: If it cannot be read.
    """
    try:
        runs: list[dict[str, Any]] = json.loads(content).get("runs", [])
    except (ValueError, AttributeError) as error:
        raise StageError(f"{PATH} cannot be read ({error}); expected what `make seeds` writes: run it again") from error
    return runs


def run_of(revision: Revision) -> dict[str, Any]:
    """What is recorded of the run that a revision holds: its seed, class of processor, hash of weights, and metrics."""
    processor = revision.read_json("metrics/processor.json")
    return {
        "seed": revision.read_yaml(PARAMS_FILE)["train"]["seed"],
        **{name: processor[name] for name in CLASS},
        "weights": outputs(revision)[WEIGHTS],
        "metrics": {name: _compared(revision.read_json(f"metrics/{name}.json")) for name in FILES},
    }


def _compared(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that training changes, nested as they are.

    A metric is what has an error over images beside it, and the few that can have none; errors and settings are left
    out, and so is what is said of real images.
    """
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping) and name != "reference":
            found[name] = _compared(value)
        elif f"{name}_se" in metrics or name in _WITHOUT_ERROR:
            found[name] = value
    return found


def _run(seeds: Sequence[int], name: str, key: str, threads: int) -> None:
    """Runs seeds as experiments of that name, as many at once as there are cores for.

    Raises:
        StageError: If one fails, with its reason.
    """
    print(f"seeds: runs {', '.join(map(str, seeds))}", flush=True)
    ended = run(
        Plan(
            command="seeds",
            key=key,
            job={"project": str(Path().resolve()), "commit": head_commit(), "targets": list(TARGETS), "name": name},
            values={},
            threads=threads,
            trials=len(seeds),
            hours=None,
            objective="validation_loss",
            grid={"train.seed": seeds},
        )
    )
    forget(key)
    for trial in ended.trials:
        if trial.verdict != COMPLETED:
            raise StageError(
                f"the run of seed {trial.values['train.seed']} {trial.verdict}: {trial.error}; `make seeds` tries again"
            )


if __name__ == "__main__":
    end("seeds", lambda: main(sys.argv[1:]))
