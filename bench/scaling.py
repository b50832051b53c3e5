"""`make bench-scale`: a sweep of equal trials on one and on two workers, in turn with the same by hand."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from bench.figures import measured, publish
from pipeline.files import write_json
from workflow.command import end
from workflow.history.working_copy import cache_of, write_settings
from workflow.scale.cluster import environment, prepare
from workflow.scale.copy import WorkingCopy
from workflow.scale.engine import head_commit

PAGE = Path("bench/scaling.md")
RESULTS = Path("bench/scaling.json")

#: Trials of the default model for one epoch, by one thread; only the seed differs, so all take equally long.
SPEC: Mapping[str, Any] = {
    "objective": "validation_loss",
    "space": {"train.seed": {"low": 1, "high": 1_000_000}},
    "fixed": {"train.epochs": 1},
    "threads": 1,
    "pruner": {"name": "none"},
    "budget": {"trials": 6},
}

WORKERS = (1, 2)


def main() -> int:
    """Measures, and writes bench/scaling.md and bench/scaling.json.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If the commit cannot be run.
    """
    prepare()
    commit = head_commit()
    found = measured(lambda: {"workers": {str(workers): _measured(workers, commit) for workers in WORKERS}})
    results = {"cores": os.cpu_count(), **found}
    write_json(RESULTS, results)
    publish(PAGE, results)
    return 0


def _measured(workers: int, commit: str) -> dict[str, Any]:
    """A sweep on so many workers, and before and after it the same by hand, as many at once."""
    with ExitStack() as stack:
        copies = [WorkingCopy(Path().resolve(), commit, ["train"]) for _ in range(workers)]
        for copy in copies:
            stack.callback(copy.remove)
            copy.prepare()
        before = _by_hand(copies, 1)
        sweep = _sweep(workers, commit)
        by_hand = before + _by_hand(copies, 2)
    trial = workers * sweep["trials_seconds"] / len(sweep["pipeline_seconds"])
    return {**sweep, "by_hand_seconds": by_hand, "overhead_seconds": round(trial - fmean(by_hand), 2)}


def _by_hand(copies: Sequence[WorkingCopy], seed: int) -> list[float]:
    """Seconds of `dvc repro train` in each of some working copies, all at once."""
    for number, copy in enumerate(copies):
        seeds = {"train.seed": seed * WORKERS[-1] + number, "train.validation_interval": 1}
        copy.reset({**SPEC["fixed"], **seeds, "threads.intra_op": SPEC["threads"]})
    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(_seconds, copies))


def _seconds(copy: WorkingCopy) -> float:
    began = time.monotonic()
    copy.run("dvc", "repro", "--no-run-cache", "train")
    return round(time.monotonic() - began, 1)


def _sweep(workers: int, commit: str) -> dict[str, Any]:
    """A sweep in a clone, so that its experiments do not stay."""
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        project = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", ".", str(project)], check=True)
        subprocess.run(["git", "-C", str(project), "checkout", "--quiet", "--detach", commit], check=True)
        write_settings(project, cache={"dir": cache_of(Path())})
        with (project / "sweeps/bench.yaml").open("w", encoding="utf-8") as handle:
            sampler = {"name": "random", "seed": secrets.randbelow(2**31)}  # the run cache has trials of other sweeps
            YAML().dump({**SPEC, "sampler": sampler}, handle)
        cores = {"RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": workers})}
        began = time.monotonic()
        command = [sys.executable, "-m", "workflow.scale.sweep", "sweeps/bench.yaml"]
        subprocess.run(command, cwd=project, env={**environment(), **cores}, check=True)
        total = time.monotonic() - began
        trials = json.loads((project / "sweeps/bench.json").read_text(encoding="utf-8"))["trials"]
    return {
        "command_seconds": round(total, 1),
        "trials_seconds": max(trial["ended_seconds"] for trial in trials),
        "pipeline_seconds": [trial["pipeline_seconds"] for trial in trials],
    }


if __name__ == "__main__":
    end("bench", main)
