"""Times every stage of this commit and of an earlier one, in turn: what goals of speed are measured by."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.progress import progress
from workflow.history.revisions import git

#: The commit whose times are 1: its default has 128 units and 62 epochs, of which the last 12 take four draws.
BASE = "2120bfc120746a1bc68ca27d1ca13f931305c490"

#: Stages that do not depend on the model; the rest are its training and its evaluation.
_OF_THE_DATA = {"check", "fetch", "preprocess", "baseline"}


def against() -> dict[str, Any]:
    """This commit's seconds over those of the earlier one: of training, of evaluation, and of the whole pipeline.

    Each commit has a clone and an installation of its own, which are not timed, and runs each of its stages once.

    Raises:
        StageError: If a commit cannot be run.
    """
    base, head = (_timed(commit) for commit in (BASE, git(Path(), "rev-parse", "HEAD").strip()))
    ratios = {f"{part}_time_ratio": head["seconds"][part] / base["seconds"][part] for part in base["seconds"]}
    return {**ratios, "against": {"base": base, "head": head}}


def sums(stages: Mapping[str, float]) -> dict[str, float]:
    """Seconds of training, of the stages that evaluate the model, and of all stages, from those of each stage."""
    evaluation = sum(seconds for stage, seconds in stages.items() if stage not in _OF_THE_DATA | {"train"})
    return {"train": stages["train"], "evaluation": evaluation, "make": sum(stages.values())}


def _timed(commit: str) -> dict[str, Any]:
    """Seconds of each stage of a commit, and the NLL of the validation images that it ends with."""
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        clone = Path(folder) / "project"
        _run(["git", "clone", "--quiet", ".", str(clone)], Path())
        _run(["git", "checkout", "--quiet", "--detach", commit], clone)
        _run(["make", "setup"], clone)
        stages = YAML(typ="safe").load(clone / "dvc.yaml")["stages"]
        seconds = {}
        with progress(f"bench, stages of {commit[:7]}", len(stages), " stages") as shown:
            for stage in stages:
                began = time.monotonic()
                _run(["dvc", "repro", "--single-item", "--force", "--no-run-cache", stage], clone)
                seconds[stage] = round(time.monotonic() - began, 1)
                shown.advance(note=stage)
        evaluation = json.loads((clone / "metrics/evaluation.json").read_text(encoding="utf-8"))
    found = {key: evaluation["validation"]["binarised"][key] for key in ("nll_nats", "nll_samples")}
    return {"commit": commit, "seconds": sums(seconds), "stages": seconds, **found}


def _run(command: list[str], folder: Path) -> None:
    path = f"{(folder / '.venv/bin').resolve()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
