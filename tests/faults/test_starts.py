"""The same work started twice at once: one start does it, the other says so, and the bytes are the right ones."""

from collections import Counter

import pytest
from conftest import ROOT, Project, command_of, without_results
from test_kills import GRAPH

#: What DVC says to the second.
REFUSALS = ("is busy", "Unable to acquire lock")

#: Stages that keep unfinished work.
RESUMABLE = [stage for stage in GRAPH if ": Resumable" in (ROOT / f"stages/{stage}.py").read_text(encoding="utf-8")]


def test_the_pipeline_started_twice_is_run_once(project: Project, counts: Counter[str]) -> None:
    before = project.tracked_results()
    without_results(project, "preprocess")
    both = [project.start("dvc", "repro") for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert 0 in [one.returncode for one in both], said
    for one, words in zip(both, said, strict=True):
        assert one.returncode == 0 or any(refusal in words for refusal in REFUSALS), words
        assert "Traceback" not in words
    project.repro()
    assert project.tracked_results() == before
    counts["starts at once"] += 1


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[] if stage == "train" else pytest.mark.whole) for stage in RESUMABLE]
)
def test_a_stage_started_twice_by_hand_is_run_once(project: Project, counts: Counter[str], stage: str) -> None:
    before = project.tracked_results()
    both = [project.start(*command_of(project, stage)) for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert sorted(one.returncode for one in both) == [0, 1], said
    assert "is held by process" in "".join(said)
    project.repro()
    assert project.tracked_results() == before
    counts["starts at once"] += 1
