"""What `make` says at the end, the tolerance it says it by, and the copies that cut-down runs work in."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from conftest import ROOT, Project, as_committed
from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.params.whole import load_params
from workflow import experiment
from workflow.compare.tolerance import flatten, tolerated
from workflow.experiment import overrides
from workflow.history import staleness
from workflow.history.presets import preset_names, read_preset, run_digest, write_params
from workflow.history.working_copy import working_copy
from workflow.quick import cut_down
from workflow.scale.seeds import main as make_seeds

SUMMARY = ("python", "-m", "workflow.summary")
EXPERIMENT = ("python", "-m", "workflow.experiment")
STALE = ("python", "-m", "workflow.history.staleness")


def edit(project: Project, path: str, changes: Mapping[tuple[str, ...], Any]) -> None:
    """Changes values of a JSON file."""
    file = project.folder / path
    content = json.loads(file.read_text())
    for keys, value in changes.items():
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
    file.write_text(json.dumps(content))


def elbo(project: Project) -> float:
    evaluation = json.loads((project.folder / "metrics/evaluation.json").read_text())
    return float(evaluation["test"]["gray"]["elbo_nats"])


def test_flatten_names_leaves_by_their_path() -> None:
    assert dict(flatten({"test": {"gray": {"a": 1}, "b": 2.5}})) == {"test.gray.a": 1.0, "test.b": 2.5}


def test_the_committed_results_are_recognised(project: Project) -> None:
    done = project.run(*SUMMARY)
    assert done.returncode == 0, done.stderr
    assert "the commit's, byte for byte" in done.stdout
    assert f"{elbo(project):.2f}" in done.stdout
    assert "metrics/figures/" in done.stdout


def test_a_changed_parameter_is_named_as_the_cause(project: Project) -> None:
    project.set_params({"train": {"beta": 2.0}})
    edit(project, "metrics/evaluation.json", {("test", "gray", "elbo_nats"): elbo(project) - 4})
    done = project.run(*SUMMARY)
    assert done.returncode == 0
    assert "Changed since the commit: params.yaml" in done.stdout
    assert "-4.000" in done.stdout


@pytest.mark.parametrize(("share", "status", "words"), [(0.5, 0, "and agree within"), (2.0, 1, "DO NOT agree within")])
def test_the_same_causes_on_another_processor_class(project: Project, share: float, status: int, words: str) -> None:
    moved = elbo(project) - share * tolerated("metrics/evaluation.json", "elbo_nats")
    edit(project, "metrics/evaluation.json", {("test", "gray", "elbo_nats"): moved})
    edit(project, "metrics/processor.json", {("instruction_set",): "x86_64 other"})
    done = project.run(*SUMMARY)
    assert done.returncode == status
    assert words in done.stdout
    assert "metrics/evaluation.json: elbo_nats by" in done.stdout
    assert "instruction_set x86_64 other" in done.stdout
    assert "git restore dvc.lock metrics" in done.stdout


def test_equal_metrics_are_told_though_records_differ(project: Project) -> None:
    edit(project, "metrics/processor.json", {("instruction_set",): "x86_64 other"})
    done = project.run(*SUMMARY)
    assert done.returncode == 0, done.stderr
    assert "metrics/evaluation.json is the commit's, byte for byte; metrics/processor.json differ" in done.stdout


def test_a_commit_without_results_is_said(project: Project) -> None:
    assert project.run("git", "rm", "-q", "-r", "--cached", "metrics").returncode == 0
    with (project.folder / ".git/info/exclude").open("a") as handle:
        handle.write("/metrics/\n")
    project.commit("No results")
    said = project.run(*SUMMARY)
    assert said.returncode == 0
    assert "No committed results to compare with" in said.stdout


@pytest.mark.parametrize("name", preset_names())
@as_committed("params.yaml", "presets")
def test_a_preset_states_what_differs_from_the_parameters_and_only_that(name: str, tmp_path: Path) -> None:
    write_params(tmp_path / "params.yaml", read_preset(name))
    changed = load_params(tmp_path / "params.yaml").model_dump(mode="json")
    params = load_params(ROOT / "params.yaml").model_dump(mode="json")
    found = {
        section: {key: value for key, value in values.items() if value != params[section].get(key)}
        for section, values in changed.items()
    }
    if found["data"]:
        found["data"] = changed["data"]  # whole, as another data set has other keys
    stated = YAML(typ="safe").load(ROOT / "presets" / f"{name}.yaml")
    assert {section: values for section, values in found.items() if values} == stated


@pytest.mark.whole
def test_overrides_are_read_by_dvc_as_the_values_they_are(project: Project) -> None:
    """Also where a data set has other keys, there and back."""
    own = YAML(typ="safe").load(project.folder / "params.yaml")["data"]
    folder = {"name": "folder", "source": "images", "side": 8, "fit": "pad", "background": 0, "invert": False}
    (project.folder / "images").mkdir()
    for data in (folder, own):
        sections = {
            "data": data,
            "model": {"prior": "coupling_flow", "prior_widths": [4, 4]},
            "train": {"beta": 1.0, "epochs": 1},
        }
        present = YAML(typ="safe").load(project.folder / "params.yaml")
        settings = [part for setting in overrides(sections, present) for part in ("--set-param", setting)]
        project.succeed("dvc", "exp", "run", *settings, "check")
        params = load_params(project.folder / "params.yaml").model_dump(mode="json")
        assert params["data"] == data
        for section, values in sections.items():
            assert {key: params[section][key] for key in values} == values


def test_an_experiment_records_what_its_preset_found(two_revisions: Project) -> None:
    def read(path: str) -> Any:
        return json.loads((two_revisions.folder / path).read_text(encoding="utf-8"))

    record = read("presets/longer.json")
    assert record["metrics"] == read("metrics/evaluation.json")
    assert record["training"]["epochs"] == record["history"]["epoch"][-1] == 12
    assert record["history"]["validation_loss"][-1] == pytest.approx(record["training"]["validation_loss_nats"])
    assert record["parent_commit"] == two_revisions.run("git", "rev-parse", "main").stdout.strip()
    assert record["train_seconds"] > 0
    assert "longer" in two_revisions.run("dvc", "exp", "show", "--csv", "--rev", "main").stdout


def test_a_record_is_stale_once_a_source_of_its_run_changed(two_revisions: Project, tmp_path: Path) -> None:
    project = two_revisions.copy_to(tmp_path / "project")
    for line, expected in (("# a comment", False), ("changed = True", True)):
        with (project.folder / "vae/architectures/textbook.py").open("a", encoding="utf-8") as source:
            source.write(f"{line}\n")
        assert ("preset longer is stale" in project.run(*STALE).stdout) == expected


@pytest.mark.parametrize(
    ("stages", "presets", "spread", "named"),
    [
        ([], {}, False, "All results are of this code"),
        (["train"], {}, False, "train would run: `dvc repro`"),
        ([], {"record": "presets/record.json is of other code"}, False, "`make experiment NAME=record`"),
        ([], {}, True, "metrics/seeds.json is stale"),
    ],
)
def test_anything_stale_is_refused(
    stages: list[str],
    presets: dict[str, str],
    spread: bool,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(staleness, "stale_stages", lambda: stages)
    monkeypatch.setattr(staleness, "stale_presets", lambda: presets)
    monkeypatch.setattr(staleness.seeds, "stale", lambda: spread)
    assert staleness.main() == int(bool(stages or presets or spread))
    assert named in capsys.readouterr().out


def test_an_experiment_says_first_how_long_its_recorded_run_took(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"train_seconds": 1553.1, "evaluate_seconds": 2838.8, "intra_op": 2, "processor": "Zen 4"}
    monkeypatch.setattr(experiment, "recorded", {"textbook": record}.get)
    monkeypatch.setattr(experiment, "stale_presets", lambda: {"textbook": "of other code"})
    monkeypatch.setattr(experiment.subprocess, "run", lambda command, **_: CompletedProcess(command, 3))
    assert [experiment.main([name]) for name in ("textbook", "quick")] == [3, 3]  # DVC's
    known, unknown = capsys.readouterr().out.splitlines()
    assert known.startswith(
        "textbook: stage train took 26 minutes and stage evaluate 47 minutes in the recorded run, of earlier code "
        "(processor Zen 4, threads: 2); "
    )
    assert unknown.startswith("quick: how long it takes is not known")


def test_an_unknown_preset_is_refused_with_the_known_ones(project: Project) -> None:
    for arguments in (["nonsense"], ["../params"], [""], []):
        done = project.run(*EXPERIMENT, *arguments)
        assert done.returncode == 1
        assert f"it should be one of: {', '.join(preset_names())}" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_digest_of_a_run_is_of_what_metrics_follow_from() -> None:
    params = load_params(ROOT / "params.yaml").model_dump(mode="json")

    def changed(section: str, **values: int) -> dict[str, Any]:
        return {**params, section: {**params[section], **values}}

    digest = run_digest(params)
    assert run_digest(changed("figures", seed=99)) == digest
    assert run_digest(changed("represent", iterations=9)) == digest
    assert run_digest(changed("train", seed=99)) != digest


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, whose folder is the current one."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", project.environment()["PATH"])
    return project


def test_a_working_copy_is_the_project_as_it_stands(here: Project) -> None:
    (here.folder / "vae/new.py").write_text("new")
    (here.folder / "params.yaml").write_text("edited: {}")
    with working_copy() as copy:
        assert (copy / "vae/new.py").read_text() == "new"
        assert (copy / "params.yaml").read_text() == "edited: {}"
        assert not (copy / "data").exists()
    assert not copy.exists()


def test_a_working_copy_has_the_folder_of_images_that_git_ignores(here: Project) -> None:
    (here.folder / "images" / "boots").mkdir(parents=True)
    (here.folder / "images" / "boots" / "a.png").write_bytes(b"a boot")
    (here.folder / ".gitignore").write_text("/images\n", encoding="utf-8")
    here.set_params({"data": {"name": "folder", "source": "images"}})
    with working_copy() as copy:
        assert (copy / "images" / "boots" / "a.png").read_bytes() == b"a boot"


def test_a_preset_is_cut_down_in_all_but_what_follows_from_its_data(tmp_path: Path, here: Project) -> None:
    preset = {
        "data": {"name": "digits"},
        "model": {"latent_dim": 20, "jit_compile": False},
        "train": {"epochs": 300, "batch_size": 40, "beta": 2.0},
        "samples": {"images": 100},
        "refine": {"images": "all"},
    }
    shutil.copy(ROOT / "presets/quick.yaml", here.folder / "presets")
    write_params(tmp_path / "params.yaml", *cut_down(preset))
    found = YAML(typ="safe").load(tmp_path / "params.yaml")
    quick = YAML(typ="safe").load(ROOT / "presets/quick.yaml")
    assert found["data"] == {"name": "digits"}
    assert found["model"].items() >= {**quick["model"], "jit_compile": False}.items()
    assert found["train"].items() >= {**quick["train"], "batch_size": 40, "beta": 2.0}.items()
    assert found["samples"].items() >= {"images": 100}.items()
    assert found["refine"].items() >= {**quick["refine"], "images": "all"}.items()
    done = here.run("python", "-m", "workflow.quick", "nonsense")
    assert (done.returncode, "NAME = 'nonsense': it should be one of: " in done.stderr) == (1, True)


def test_a_working_copy_runs_from_the_cache_and_leaves_the_project_alone(here: Project) -> None:
    results = here.tracked_results()
    with working_copy() as copy:
        assert "Running stage" not in Project(copy).repro("train")
        assert Project(copy).tracked_results() == results
    assert here.tracked_results() == results
    assert here.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("count", ["1", "0", "-3", "many", ""])
def test_a_count_of_seeds_that_has_no_spread_is_refused(count: str) -> None:
    with pytest.raises(StageError, match=f"N = {count!r}: it should be a number of seeds, 2 or more"):
        make_seeds(["--", count])
