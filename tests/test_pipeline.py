"""dvc.yaml tells the truth: about parameters, paths and what is tracked where."""

import ast
import os
import shlex
from importlib import import_module
from typing import Any, get_type_hints

import pytest
from conftest import ROOT, Project, as_committed
from ruamel.yaml import YAML

from pipeline.stage import Input, Output, Source

GRAPH: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")
STAGES: dict[str, Any] = GRAPH["stages"]


def names(entries: list[Any] | None) -> list[str]:
    """Paths of a list of outputs, with or without options."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or []]


def arguments(stage: str) -> dict[str, str]:
    """Options of a stage's command."""
    python, *words = shlex.split(STAGES[stage]["cmd"])
    assert [python, *words[:3]] == ["${python}", "-m", "stages", stage]
    return dict(zip(words[3::2], words[4::2], strict=True))


def deps(stage: str) -> list[str]:
    paths: list[str] = STAGES[stage].get("deps", [])
    return paths


def hints(stage: str) -> dict[str, Any]:
    """Annotations of a stage's `run`."""
    return get_type_hints(import_module(f"stages.{stage}").run, include_extras=True)


def outs(stage: str) -> list[str]:
    return [path for kind in ("outs", "metrics", "plots") for path in names(STAGES[stage].get(kind))]


def test_stages_are_the_modules() -> None:
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_sections_that_run_takes(stage: str) -> None:
    taken = {name for name, kind in hints(stage).items() if kind.__module__.startswith("pipeline.params.")}
    if stage == "check":
        assert STAGES[stage]["params"] == [{"params.yaml": None}]
        assert taken == {"params"}
    else:
        *sections, code = STAGES[stage]["params"]
        assert set(sections) == taken | {"kernels"}
        assert code == {"metrics/code.json": [stage]}


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_states_each_declared_path_once_and_no_other(stage: str) -> None:
    options = arguments(stage)
    paths = (Input, Source, Output)
    kinds = {f"--{name.replace('_', '-')}": kind for name, kind in hints(stage).items() if kind in paths}
    assert options.keys() == kinds.keys()
    inputs = [options[name] for name, kind in kinds.items() if kind != Output]
    assert sorted(inputs) == sorted([] if stage == "check" else deps(stage))
    outputs = [options[name] for name, kind in kinds.items() if kind == Output]
    assert sorted([*outputs, f"metrics/provenance/{stage}.json"]) == sorted(outs(stage))


def test_the_check_depends_on_all_code() -> None:
    assert sorted(deps("check")) == ["numeric.txt", "pipeline", "stages", "vae"]


def test_stages_run_by_the_python_of_the_project() -> None:
    assert GRAPH["vars"] == [{"python": 'env PATH="$PWD/.venv/bin:$PATH" python -E'}]


def test_neither_training_nor_what_it_needs_reads_the_test_split() -> None:
    readers = {stage for stage in STAGES if any("/test" in dep for dep in deps(stage))}
    assert readers == {"evaluate", "refine", "summarise", "baseline", "represent", "outliers", "samples", "figures"}


def test_the_baseline_needs_no_model() -> None:
    assert {*deps("baseline")}.isdisjoint(outs("train"))
    assert {"model", "train"}.isdisjoint(STAGES["baseline"]["params"][:-1])


@pytest.mark.parametrize("stage", STAGES)
def test_metrics_are_tracked_by_git_and_data_by_dvc(stage: str) -> None:
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[stage].get(kind, []):
            path = names([entry])[0]
            uncached = isinstance(entry, dict) and entry[path].get("cache") is False
            assert uncached == path.startswith("metrics/")
            assert path.startswith(("metrics/", "data/"))


def test_only_the_cheapest_stages_forgo_the_run_cache() -> None:
    """DVC keeps a run only if each uncached output is a stage-level metric or plot."""
    forgoing = {s for s in STAGES if any(path.startswith("metrics/") for path in names(STAGES[s].get("outs")))}
    assert forgoing == {"check", "summarise", "describe", "explore"}


def test_no_file_is_both_a_metric_and_a_parameter() -> None:
    """`dvc exp show` of DVC 3.67 puts values under the wrong names where it is, and cannot drop the columns."""
    entries = [entry for stage in STAGES.values() for entry in stage["params"]]
    taken = {file for entry in entries if isinstance(entry, dict) for file in entry}
    assert "metrics/code.json" in taken
    assert taken.isdisjoint(path for stage in STAGES.values() for path in names(stage.get("metrics")))


def test_init_files_hold_a_docstring_only() -> None:
    files = [path for room in ("pipeline", "stages", "vae", "workflow") for path in (ROOT / room).rglob("__init__.py")]
    for path in files:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr)


@pytest.mark.skipif(os.environ.get("STALE_LOCK") == "retrain", reason="STALE_LOCK=retrain: workflow/retrain.py runs it")
@as_committed("params.yaml", "dvc.yaml", "numeric.txt", "stages", "vae", "pipeline", "dvc.lock", "metrics")
def test_committed_results_belong_to_this_code_and_these_parameters() -> None:
    said = Project(ROOT).repro("--dry", "--allow-missing")
    assert said.splitlines()[-1] == "Data and pipelines are up to date.", said
