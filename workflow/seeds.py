"""`make seeds N=5`: runs the present parameters with N seeds of training, and records how far apart the metrics lie."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pipeline.errors import StageError
from pipeline.files import write_metrics
from pipeline.params.whole import load_params
from workflow.command import end
from workflow.presets import STAGES, run_digest
from workflow.revisions import experiments, resolve
from workflow.sweep.engine import COMPLETED, Plan, forget, head_commit, run

PATH = Path("metrics/seeds.json")

#: Metrics files that are compared, and the stages that they come from.
FILES = ("evaluation", "representation", "outliers", "samples")
TARGETS = ("summarise", "represent", "outliers", "samples")

#: Metrics that have no error over images beside them.
_WITHOUT_ERROR = ("active_units", "calibration_error")


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
    found = [_metrics(name.format(seed=seed)) for seed in seeds]
    write_metrics(PATH, {"digest": digest, "seeds": list(seeds), "metrics": spreads(found)})
    print(f"seeds: wrote {PATH}; commit it with dvc.lock and metrics/. The runs: dvc exp show --only-changed")
    return 0


def seeds_digest() -> str:
    """Hex sha256 of all that the metrics follow from but the data and the seed of training."""
    params = load_params()
    anyone = params.model_copy(update={"train": params.train.model_copy(update={"seed": 0})})
    return run_digest(anyone, (*STAGES, *TARGETS))


def stale() -> bool:
    """Whether `metrics/seeds.json` is there and of other code, parameters or versions."""
    return PATH.is_file() and json.loads(PATH.read_text(encoding="utf-8"))["digest"] != seeds_digest()


def spreads(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, sample deviation, lowest and highest over runs of each metric, nested as the metrics are.

    A metric is what has an error over images beside it, and the few that can have none; errors and settings are left
    out.
    """
    spread: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        if isinstance(values[0], Mapping) and name != "reference":  # of real images, which no training changes
            spread[name] = spreads(values)
        elif f"{name}_se" in runs[0] or name in _WITHOUT_ERROR:
            figures = {"mean": fmean(values), "deviation": stdev(values), "lowest": min(values), "highest": max(values)}
            spread[name] = figures
    return spread


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


def _metrics(name: str) -> dict[str, Any]:
    """Metrics of an experiment, by file."""
    revision = resolve(name)
    return {file: revision.read_json(f"metrics/{file}.json") for file in FILES}


if __name__ == "__main__":
    end("seeds", lambda: main(sys.argv[1:]))
