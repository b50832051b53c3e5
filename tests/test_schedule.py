"""The line by each stage's start: which stage of how many, and about how long it still takes."""

import json
from pathlib import Path

import pytest
from conftest import Project, write
from test_end_to_end import ran

from pipeline.schedule import place

GRAPH = """
stages:
  check: {metrics: [{metrics/code.json: {cache: false}}]}
  make: {params: [a, {metrics/code.json: [make]}], outs: [data/made]}
  use: {deps: [data/made], params: [b], outs: [data/used]}
  show: {deps: [data/used], plots: [{picture.png: {cache: false}}]}
  other: {deps: [picture.png], metrics: [{other.json: {cache: false}}]}
"""

LOCK = """
stages:
  check: {outs: [{path: metrics/code.json, md5: '0'}]}
  make: {params: {params.yaml: {a: {x: 1}}, metrics/code.json: {make: digest}}, outs: [{path: data/made, md5: '1'}]}
  use:
    deps: [{path: data/made, md5: '1'}]
    params: {params.yaml: {b: 2}}
    outs: [{path: data/used, md5: '2'}]
  show: {deps: [{path: data/used, md5: '2'}], outs: [{path: picture.png, md5: '3'}]}
  other: {deps: [{path: picture.png, md5: '3'}], outs: [{path: other.json, md5: '4'}]}
"""

FILES = {
    "dvc.yaml": GRAPH,
    "dvc.lock": LOCK,
    "params.yaml": "{a: {x: 1}, b: 2}",
    "metrics/code.json": '{"make": "digest"}',
    **dict.fromkeys(("data/made", "data/used", "picture.png", "other.json"), ""),
}


def took(**seconds: float) -> None:
    for name, number in seconds.items():
        write(f"runs/{name}.json", json.dumps({"seconds": number, "params": {"a": {"x": 1}}}))


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("stage", "path", "before", "after", "number"),
    [
        ("show", "dvc.lock", "", "", 4),  # it was forced: what stands before it is done
        ("make", "params.yaml", "x: 1", "x: 2", 2),  # and all that follows from it
        ("make", "metrics/code.json", "digest", "other", 2),
        ("use", "params.yaml", "b: 2", "b: 3", 3),
        ("use", "dvc.lock", "data/made, md5: '1'}]}", "data/made, md5: '9'}]}", 3),  # `make` has just run
        ("other", "dvc.lock", "  other:", "  gone:", 5),
    ],
)
def test_what_is_done_and_not_to_be_done_again_counts(
    stage: str, path: str, before: str, after: str, number: int
) -> None:
    write(path, FILES[path].replace(before, after, 1))
    assert place(stage, Path("runs")) == f"stage {number} of 5"


@pytest.mark.usefixtures("written")
def test_a_stage_whose_results_are_absent_is_still_to_come() -> None:
    Path("other.json").unlink()
    assert place("use", Path("runs")).startswith("stage 3 of 5")


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ({"show": 400.0, "other": 330.0, "make": 1000.0}, "about 12 minutes to go"),
        ({"show": 59.0, "other": 1.0}, "about a minute to go"),
        ({"show": 9.0, "other": 7.0}, "about half a minute to go"),
        ({"show": 1.0, "other": 0.5}, "about ten seconds to go"),
        ({"show": 180.0}, "about 3 minutes to go, beside 1 that never ran so here"),
    ],
)
def test_the_time_is_that_of_the_last_runs_of_what_is_to_come(seconds: dict[str, float], words: str) -> None:
    took(**seconds)
    assert place("show", Path("runs")) == f"stage 4 of 5, {words}"


@pytest.mark.usefixtures("written")
def test_of_what_never_ran_here_no_time_is_told() -> None:
    took(make=100.0)
    assert place("show", Path("runs")) == "stage 4 of 5"


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    "record", ["", "{", "[]", "{}", '{"seconds": null}', '{"seconds": 9, "params": {"a": {"x": 2}}}']
)
def test_a_record_that_tells_nothing_of_these_parameters_counts_as_none(record: str) -> None:
    took(show=180.0)
    write("runs/other.json", record)
    assert place("show", Path("runs")) == "stage 4 of 5, about 3 minutes to go, beside 1 that never ran so here"


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("params.yaml: {b: 2}", "own.yaml: {b: 2}"),
        ("{path: data/made, md5: '1'}]\n    params", "{path: 'https://example.org/a', etag: e}]\n    params"),
        ("md5: '2'}]", "files: []}]"),
    ],
)
def test_what_users_stages_state_in_other_ways_is_taken_for_unchanged(before: str, after: str) -> None:
    assert before in LOCK
    write("dvc.lock", LOCK.replace(before, after, 1))
    assert place("show", Path("runs")) == "stage 4 of 5"


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("lock", ["", "schema: '2.0'", "stages:"])
def test_a_lock_without_stages_has_run_none(lock: str) -> None:
    write("dvc.lock", lock)
    assert place("check", Path("runs")) == "stage 1 of 5"


def test_dvc_runs_as_many_stages_as_are_said_to_come(trained: Project, tmp_path: Path) -> None:
    project = trained.copy_to(tmp_path / "project")
    project.set_params({"preprocess": {"split": "stratified"}})
    for name, seconds in (("preprocess", 100.0), ("train", 200.0)):
        record = {**project.json(f"runs/{name}.json"), "seconds": seconds}
        (project.folder / f"runs/{name}.json").write_text(json.dumps(record), encoding="utf-8")
    said = project.repro()
    assert ran(said) == {"check", "preprocess", "train"}
    assert "preprocess: stage 3 of 4, about 3 minutes to go, beside 1 that never ran so here" in said.splitlines()
    assert "train: stage 4 of 4, about 3 minutes to go" in said.splitlines()
