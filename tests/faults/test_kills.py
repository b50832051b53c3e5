"""kill -9 of a stage, or of the DVC that runs it, at points drawn by a seed: the next run ends with the right bytes."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from conftest import ROOT, Project, outs_of, without_results
from ruamel.yaml import YAML

from pipeline.files import files_of

GRAPH: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

#: Renames in each stage at which it is killed.
RENAMES = 2

#: Stages of which `make test-more` tries one fault of a kind.
QUICK = {"kill": [*GRAPH][::5], "disk": [*GRAPH][1::5]}


def points() -> Iterator[Any]:
    """Draws where to kill each stage, or its DVC: before or after renames that put outputs in place.

    Then where to kill the stage as it writes: a share of its largest output. Then, for `train`, each epoch.
    """
    generator, whole = random.Random(0), pytest.mark.whole
    for stage, facts in GRAPH.items():
        renames = sum(len(facts.get(kind, [])) for kind in ("outs", "metrics", "plots"))
        numbers = generator.sample(range(1, renames + 1), min(RENAMES, renames))
        for place, number in enumerate(numbers):
            when, who = generator.choice(["before", "after"]), "dvc" if generator.random() < 0.3 else "stage"
            marks = [whole] if place or stage not in QUICK["kill"] else []
            yield pytest.param(stage, "", number, when, who, id=f"{stage}, {who}, {when} rename {number}", marks=marks)
        share = generator.random()
        yield pytest.param(stage, "", share, "within", "stage", id=f"{stage}, within a write, {share:.0%}", marks=whole)
    for epoch in (1, 2, 3):
        name = f"train, before epoch {epoch} is kept"
        yield pytest.param("train", ".npz", epoch, "before", "stage", id=name, marks=whole)


@pytest.mark.parametrize(("stage", "path", "point", "when", "who"), list(points()))
def test_the_next_run_ends_with_the_right_bytes(
    project: Project,
    killer: Callable[..., dict[str, str]],
    counts: Counter[str],
    stage: str,
    path: str,
    point: float,
    when: str,
    who: str,
) -> None:
    before, files = project.tracked_results(), project.files()
    number = 1 + int(point * (largest(project, stage) - 1)) if when == "within" else int(point)
    without_results(project, stage)
    killed = project.run("dvc", "repro", stage, env=killer(stage, path, number, when, who))
    assert killed.returncode != 0, killed.stdout
    _, alive = psutil.wait_procs(orphans(project), timeout=60)
    assert not alive
    project.repro()
    assert project.tracked_results() == before
    assert project.files() == files
    counts["kills survived"] += 1


def largest(project: Project, stage: str) -> int:
    """Bytes of the largest file that a stage writes."""
    outs = [project.folder / path for path in outs_of(project, stage)]
    return max(file.stat().st_size for out in outs for file in files_of(out))


def orphans(project: Project) -> list[psutil.Process]:
    """Processes that work in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.folder):
                found.append(process)
        except psutil.Error:
            continue
    return found
