"""`make bench-scale`: a sweep of equal trials on one and on two workers, against one of them alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML
from tabulate import tabulate

from pipeline.errors import StageError
from pipeline.files import atomic, write_json
from pipeline.processor import instruction_set, processor_name
from workflow.cluster import environment, prepare
from workflow.sweep.copy import WorkingCopy
from workflow.sweep.engine import head_commit

PAGE = Path("bench/scaling.md")
RESULTS = Path("bench/scaling.json")

#: Trials of the default model for one epoch, by one thread; only the seed differs, so all take equally long.
SPEC: Mapping[str, Any] = {
    "objective": "validation_loss",
    "space": {"train.seed": {"low": 1, "high": 1_000_000}},
    "fixed": {"train.epochs": 1, "train.importance_epochs": 0},
    "threads": 1,
    "pruner": {"name": "none"},
    "budget": {"trials": 6},
}

WORKERS = (1, 2)


def main() -> int:
    """Measures, and writes bench/scaling.md and bench/scaling.json.

    Returns:
        Exit status: 0, or 1 with a sentence.
    """
    try:
        prepare()
        commit = head_commit()
        alone = _alone(commit)
        found = {str(workers): _sweep(workers, commit) for workers in WORKERS}
    except (StageError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    machine = f"{processor_name()}, {instruction_set()}, {os.cpu_count()} cores"
    write_json(RESULTS, {"machine": machine, "alone_seconds": alone, "workers": found})
    with atomic(PAGE) as partial:
        partial.write_text(_page(machine, alone, found), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0


def _alone(commit: str) -> list[float]:
    """Seconds of the training of a trial by hand, with nothing beside it: `dvc repro train` in a working copy."""
    copy = WorkingCopy(Path().resolve(), commit, ["train"])
    try:
        copy.prepare()
        seconds = []
        for seed in (1, 2):
            copy.reset({**SPEC["fixed"], "train.seed": seed, "threads.intra_op": 1, "train.validation_interval": 1})
            began = time.monotonic()
            copy.run("dvc", "repro", "--no-run-cache", "train")
            seconds.append(round(time.monotonic() - began, 1))
        return seconds
    finally:
        copy.remove()


def _sweep(workers: int, commit: str) -> dict[str, Any]:
    """A sweep in a clone, so that its experiments do not stay."""
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        project = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", ".", str(project)], check=True)
        subprocess.run(["git", "-C", str(project), "checkout", "--quiet", "--detach", commit], check=True)
        cache = str(Path(".dvc/cache").resolve())
        subprocess.run(["dvc", "config", "--local", "cache.dir", cache], cwd=project, env=environment(), check=True)
        with (project / "sweeps/bench.yaml").open("w", encoding="utf-8") as handle:
            sampler = {"name": "random", "seed": workers}  # the run cache has the trials of the other sweep
            YAML(pure=True).dump({**SPEC, "sampler": sampler}, handle)
        cores = {"RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": workers})}
        began = time.monotonic()
        command = [sys.executable, "-m", "workflow.sweep", "sweeps/bench.yaml"]
        subprocess.run(command, cwd=project, env={**environment(), **cores}, check=True)
        total = time.monotonic() - began
        trials = json.loads((project / "sweeps/bench.json").read_text(encoding="utf-8"))["trials"]
    ended = max(trial["ended_seconds"] for trial in trials)
    pipelines = [trial["pipeline_seconds"] for trial in trials]
    return {
        "command_seconds": round(total, 1),
        "trials_seconds": ended,
        "pipeline_seconds": pipelines,
        "overhead_seconds": round((workers * ended - sum(pipelines)) / len(trials), 2),
    }


def _page(machine: str, alone: list[float], found: Mapping[str, Mapping[str, Any]]) -> str:
    mean = sum(alone) / len(alone)
    rows = []
    for workers, measured in found.items():
        trials = len(measured["pipeline_seconds"])
        hourly = 3600 * trials / measured["command_seconds"]
        ideal = 3600 / mean * int(workers)
        pipeline = sum(measured["pipeline_seconds"]) / trials
        rows.append(
            [
                workers,
                trials,
                f"{measured['command_seconds']:.0f}",
                f"{hourly:.0f}",
                f"{ideal:.0f}",
                f"{hourly / ideal:.2f}",
                f"{pipeline:.1f} ({min(measured['pipeline_seconds']):.1f} to {max(measured['pipeline_seconds']):.1f})",
                f"{measured['overhead_seconds']:.1f}",
            ]
        )
    head = [
        "workers",
        "trials",
        "seconds of the command",
        "trials per hour",
        "ideal",
        "share of it",
        "a trial's training, s (lowest to highest)",
        "overhead per trial, s",
    ]
    return "\n".join(
        [
            "# Scaling\n",
            "Written by `make bench-scale`, not by hand. A sweep of equal trials of one thread, the default's model",
            f"for one epoch, on {machine}. The training of one of them by hand, alone, took",
            f"{' and '.join(f'{seconds:.1f}' for seconds in alone)} s, which is what the ideal is made of. Overhead is",
            "what a worker spends a trial beyond its training, for working copy, experiment and Ray; the command",
            "has the start of Ray, of the workers and of their working copies beside it.\n",
            tabulate(rows, head, tablefmt="github", disable_numparse=True),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
