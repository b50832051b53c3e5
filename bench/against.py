"""Times every stage of this commit and of an earlier one, in turn: what goals of speed are measured by."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.progress import progress
from workflow.history.revisions import changed, git, resolve
from workflow.summary import CAUSES

#: The commit whose times are 1: its default has 128 units and 62 epochs, of which the last 12 take four draws.
BASE = "2120bfc120746a1bc68ca27d1ca13f931305c490"

#: Stages that do not depend on the model; the rest are its training and its evaluation.
_OF_THE_DATA = {"check", "fetch", "preprocess", "baseline"}


def against() -> dict[str, Any]:
    """This commit's seconds over those of the earlier one: of training, of evaluation, and of the whole pipeline.

    Each commit has a clone and an installation of its own, which are not timed. Each of its stages runs once, in turn
    with the other's.

    Raises:
        StageError: If the commit is not what stands here, the earlier one is not in this clone, or a command fails.
    """
    if causes := changed(*CAUSES):
        raise StageError(f"not committed: {', '.join(causes)}; a commit is timed, in a clone: commit them")
    try:
        commits = {name: str(resolve(commit).commit) for name, commit in (("base", BASE), ("head", "HEAD"))}
    except StageError as error:
        raise StageError(f"{error}; it is timed, too: `git fetch --unshallow` brings the history") from error
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        clones = {name: _installed(commit, Path(folder) / name) for name, commit in commits.items()}
        stages = _timed_in_turn(clones)
        found: dict[str, dict[str, Any]] = {
            name: {"commit": commits[name], "seconds": sums(stages[name]), "stages": stages[name], **_likelihood(clone)}
            for name, clone in clones.items()
        }
    ratios = {part: seconds / found["base"]["seconds"][part] for part, seconds in found["head"]["seconds"].items()}
    return {**{f"{part}_time_ratio": ratio for part, ratio in ratios.items()}, "against": found}


def sums(stages: Mapping[str, float]) -> dict[str, float]:
    """Seconds of training, of the stages that evaluate the model, and of all stages, from those of each stage."""
    evaluation = sum(seconds for stage, seconds in stages.items() if stage not in _OF_THE_DATA | {"train"})
    return {"train": stages["train"], "evaluation": evaluation, "make": sum(stages.values())}


def _installed(commit: str, folder: Path) -> Path:
    """A clone of a commit with its environment: the project's folder in it."""
    top, prefix = git(Path(), "rev-parse", "--show-toplevel", "--show-prefix").split("\n")[:2]
    git(Path(), "clone", "--quiet", "--no-checkout", top, str(folder))
    git(folder, "checkout", "--quiet", "--detach", commit)
    _run(["make", "setup"], folder / prefix)
    return folder / prefix


def _timed_in_turn(clones: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Seconds of each stage of each clone, in the order of its dvc.yaml."""
    stages = {name: list(YAML(typ="safe").load(clone / "dvc.yaml")["stages"]) for name, clone in clones.items()}
    seconds: dict[str, dict[str, float]] = {name: {} for name in clones}
    with progress("bench, stages of two commits in turn", sum(map(len, stages.values())), " stages") as shown:
        for pair in zip_longest(*stages.values()):
            for (name, clone), stage in zip(clones.items(), pair, strict=True):
                if stage is not None:
                    began = time.monotonic()
                    _run(["dvc", "repro", "--single-item", "--force", "--no-run-cache", stage], clone)
                    seconds[name][stage] = round(time.monotonic() - began, 1)
                    shown.advance(note=f"{stage} of {name}")
    return seconds


def _likelihood(clone: Path) -> dict[str, float]:
    """NLL of the validation images that a clone's pipeline ended with, and by how many draws."""
    evaluation = json.loads((clone / "metrics/evaluation.json").read_text(encoding="utf-8"))
    return {key: evaluation["validation"]["binarised"][key] for key in ("nll_nats", "nll_samples")}


def _run(command: list[str], folder: Path) -> None:
    path = f"{(folder / '.venv/bin').resolve()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
