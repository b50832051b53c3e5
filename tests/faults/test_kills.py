"""kill -9 of a stage, or of the DVC that runs it, at points drawn by a seed: the next run ends with the right bytes."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from conftest import ROOT, Project, without_results
from ruamel.yaml import YAML

GRAPH: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]

#: Points in each stage, of which the cut takes the first.
POINTS = 2


def points() -> Iterator[Any]:
    """For each stage some of the renames that put its outputs in place, before or after it; it dies, or its DVC."""
    generator = random.Random(0)
    for stage, facts in GRAPH.items():
        renames = sum(len(facts.get(kind, [])) for kind in ("outs", "metrics", "plots"))
        numbers = generator.sample(range(1, renames + 1), min(POINTS, renames))
        for place, number in enumerate(numbers):
            when, who = generator.choice(["before", "after"]), "dvc" if generator.random() < 0.3 else "stage"
            marks = [pytest.mark.whole] if place else []
            yield pytest.param(stage, number, when, who, id=f"{stage}, {who}, {when} rename {number}", marks=marks)


@pytest.mark.parametrize(("stage", "number", "when", "who"), list(points()))
def test_the_next_run_ends_with_the_right_bytes(
    project: Project,
    killer: Callable[..., dict[str, str]],
    counts: Counter[str],
    stage: str,
    number: int,
    when: str,
    who: str,
) -> None:
    before, files = project.tracked_results(), project.files()
    without_results(project, stage)
    killed = project.run("dvc", "repro", stage, env=killer(stage, "", number, when, who))
    assert killed.returncode != 0, killed.stdout
    _, alive = psutil.wait_procs(orphans(project), timeout=60)
    assert not alive
    project.repro()
    assert project.tracked_results() == before
    assert project.files() == files
    counts["kills survived"] += 1


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
