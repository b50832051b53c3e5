"""The pipeline as a user runs it, on a slice of real-shaped data: repeatable, resumable, cached, and strict."""

import csv
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    SLICE_PARAMS,
    TEST,
    TRAINING_STAGES,
    VALIDATION,
    Project,
    command_of,
    keep_stages,
    locked_stages,
    outs_of,
    remove,
    without_results,
)
from ruamel.yaml import YAML

from pipeline.code import code_digests, read_file, sources_of
from pipeline.params.model import named_modules

IMPORTANCE_SAMPLES = SLICE_PARAMS["evaluate"]["importance_samples"]


@pytest.fixture(scope="module")
def cut(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project without the stages after training."""
    project = finished.copy_to(tmp_path_factory.mktemp("cut") / "project")
    keep_stages(project, *TRAINING_STAGES)
    project.commit("Up to training")
    return project


@pytest.fixture
def training(cut: Project, tmp_path: Path) -> Project:
    """A finished project that ends with training, which a test may change."""
    return cut.copy_to(tmp_path / "project")


def test_every_stage_runs_once(finished: Project) -> None:
    """What makes the project that other tests copy: one whole run of the real DVC."""
    stages = locked_stages(finished)
    assert len(stages) == 15
    for name in stages:
        record = json.loads((finished.folder / f"runs/{name}.json").read_text(encoding="utf-8"))
        assert record["stage"] == name
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_another_parameter_runs_what_follows_from_it(finished: Project, two_revisions: Project) -> None:
    """What makes the branch that other tests compare: a second whole run."""
    before, after = finished.tracked_results(), two_revisions.tracked_results()
    same = {path for path in before if before[path] == after[path]}
    assert {"metrics/data.json", "metrics/provenance/preprocess.json", "metrics/baseline.json"} <= same
    assert not {"metrics/history.csv", "metrics/evaluation.json", "metrics/figures/samples.png", "dvc.lock"} & same


def test_a_parameter_changed_back_runs_nothing_again(two_revisions: Project, tmp_path: Path) -> None:
    project = two_revisions.copy_to(tmp_path / "project")
    assert project.run("git", "switch", "-q", "main").returncode == 0
    assert "Running stage" not in project.repro()
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_a_fork_ends_with_the_bytes_of_a_fresh_process(training: Project) -> None:
    """Tests start stages as forks of a Python that has imported the libraries: `tests/fork/server.py`."""
    before = training.tracked_results()
    without_results(training, "train")
    environment = training.environment(forks=False)
    command = [sys.executable, *command_of(training, "train")[1:]]
    done = subprocess.run(command, cwd=training.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert training.tracked_results() == before  # provenance has the sha256 of the weights


#: What the default is made of: gated layers, a learned prior, compiled steps, averaged weights, rare validation,
#: several draws in the last epochs.
ENGINE = {
    "model": {
        "architecture": "gated_dense",
        "autoregressive_units": 20,
        "latent_dim": 4,
        "widths": [16, 12],
        "prior": "coupling_flow",
        "prior_widths": [8, 8],
        "jit_compile": True,
    },
    "train": {
        "targets": "binarised",
        "epochs": 5,
        "validation_interval": 2,
        "ema_momentum": 0.9,
        "schedule": "cosine",
        "weight_decay": 0.1,
        "importance_samples": 3,
        "importance_epochs": 2,
    },
    "threads": {"op_determinism": False},
}


@pytest.mark.whole
def test_the_engine_at_full_speed_gives_the_same_bytes_in_another_folder_and_after_a_kill(
    project: Project, make_project: Callable[[str], Project], killer: Callable[..., dict[str, str]]
) -> None:
    other = make_project("a b ü 衣服 'quoted'")
    for one in (project, other):
        one.set_params(ENGINE)
        keep_stages(one, *TRAINING_STAGES, "evaluate", "refine", "summarise")
    project.repro()
    killed = other.run("dvc", "repro", "train", env=killer("train", ".npz", 2, "after"))
    assert killed.returncode != 0
    assert "resumes after epoch 4" in other.repro()
    assert other.tracked_results() == project.tracked_results()
    with (project.folder / "metrics/history.csv").open(encoding="utf-8") as history:
        assert [row["epoch"] for row in csv.DictReader(history)] == ["2", "4", "5"]
    binarised = json.loads((project.folder / "metrics/evaluation.json").read_text())["test"]["binarised"]
    assert binarised["nll_samples"] == IMPORTANCE_SAMPLES
    assert binarised["nll_nats"] < -binarised["elbo_nats"]


def test_a_second_repro_does_nothing(project: Project) -> None:
    assert "Data and pipelines are up to date." in project.repro()


def ran(said: str) -> set[str]:
    """The stages that a `dvc repro` ran."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}


def append(project: Project, path: str, line: str) -> None:
    with (project.folder / path).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")


def modules(project: Project) -> list[str]:
    """Every file of the code that stages run."""
    folders = (project.folder / name for name in ("pipeline", "stages", "vae"))
    return [str(path.relative_to(project.folder)) for folder in folders for path in sorted(folder.rglob("*.py"))]


def test_a_comment_in_every_module_runs_the_check_alone(project: Project) -> None:
    before = project.tracked_results()
    for path in modules(project):
        source = (project.folder / path).read_text(encoding="utf-8")
        reworded = source.replace('"""', '"""In other words: ', 1) + "# why\n"
        (project.folder / path).write_text(reworded, encoding="utf-8")
    (project.folder / "barred").mkdir()
    barred = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None"
    (project.folder / "barred/sitecustomize.py").write_text(barred, encoding="utf-8")
    assert ran(project.repro(env={"PYTHONPATH": str(project.folder / "barred")})) == {"check"}
    remove(project, "barred")
    after = project.tracked_results()
    assert {path for path in before if before[path] != after.get(path)} == {"dvc.lock"}
    project.commit("Comments")
    assert project.run("python", "-m", "workflow.audit", "--quick").returncode == 0


#: Writes which of the project's files a stage has loaded when it ends.
LOADED = """
import atexit, json, os, sys
from pathlib import Path

def loaded():
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    inside = sorted(os.path.relpath(file) for file in files if file.startswith(os.getcwd() + os.sep))
    Path("state").mkdir(exist_ok=True)
    Path("state/loaded-" + os.environ["DVC_STAGE"] + ".json").write_text(json.dumps(inside))

atexit.register(loaded)
"""


@pytest.mark.whole
def test_code_runs_the_stages_again_that_load_it(project: Project) -> None:
    """What a stage loads is told by the stage as it ends; which digests change, for each module in turn."""
    append(project, "stages/__init__.py", LOADED)
    project.commit("Stages that tell")
    stages = {*locked_stages(project)}
    assert ran(project.repro()) == stages
    loaded = {name: json.loads((project.folder / f"state/loaded-{name}.json").read_text()) for name in stages}
    loaded = {name: [*files, "stages/__main__.py"] for name, files in loaded.items()}  # which is run, not imported
    model = YAML(typ="safe").load(project.folder / "params.yaml")["model"]
    named = sources_of(named_modules(model), partial(read_file, folder=project.folder))
    loaded["describe"] += named  # it takes the section `model`, and tells of the networks without building them
    others = sorted(stages - {"check"})
    read = partial(read_file, folder=project.folder)
    before = code_digests(others, model, read)
    for path in modules(project):
        append(project, path, "x = 1")
        after = code_digests(others, model, read)
        project.run("git", "restore", path)
        changed = {name for name in others if before[name] != after[name]}
        assert changed == {name for name in others if path in loaded[name]}, path
    for path in ("vae/plots.py", "vae/representation.py"):  # and DVC runs what has another digest
        append(project, path, "x = 1")
        assert ran(project.repro()) == {name for name in stages if path in loaded[name]} | {"check"}


@pytest.mark.parametrize(
    ("path", "number", "when"),
    [
        (".npz", 2, "after"),  # between the second epoch and the third
        # the first epoch is done, its state not yet kept
        pytest.param(".npz", 1, "before", marks=pytest.mark.whole),
        # training is done, the weights are not yet in place
        pytest.param("data/model", 1, "before", marks=pytest.mark.whole),
        # the weights are in place, the metrics are not
        pytest.param("metrics/train.json", 1, "before", marks=pytest.mark.whole),
        # only the record is missing
        pytest.param("metrics/provenance/train.json", 1, "before", marks=pytest.mark.whole),
    ],
)
def test_a_killed_training_resumes_with_the_same_bytes(
    training: Project, killer: Callable[..., dict[str, str]], path: str, number: int, when: str
) -> None:
    before = training.tracked_results()
    files = training.files()
    without_results(training, "train")
    environment = {**killer("train", path, number, when), "DVC_STAGE": "train"}
    killed = training.run(*command_of(training, "train"), env=environment)
    assert killed.returncode == -signal.SIGKILL
    append(training, "vae/objective.py", "# why")
    said = training.repro()
    assert ("resumes after epoch" in said) == ((number, when) != (1, "before") or path != ".npz")
    training.run("git", "restore", "vae")
    assert ran(training.repro()) == {"check"}
    assert training.tracked_results() == before
    assert training.files() == files


# 4 parts of the validation images, then 4 of the test images
@pytest.mark.whole
@pytest.mark.parametrize("number", [1, 6])
def test_a_killed_evaluation_resumes_with_the_same_bytes(
    project: Project, killer: Callable[..., dict[str, str]], number: int
) -> None:
    before, files = project.tracked_results(), project.files()
    without_results(project, "evaluate")
    killed = project.run("dvc", "repro", "evaluate", env=killer("evaluate", ".npz", number, "after"))
    assert killed.returncode != 0
    (state,) = (project.folder / "state").glob("evaluate-*.npz")
    with np.load(state, allow_pickle=False) as kept:
        assert sum(len(kept[name]) for name in kept.files if name.endswith("_nll")) == 50 * number
    project.repro()
    assert project.tracked_results() == before
    assert project.files() == files


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"represent": {"neighbours": [5]}}, {"represent"}),
        ({"baseline": {"iterations": 5}}, {"baseline"}),
        ({"outliers": {"importance_samples": 6}}, {"outliers", "describe"}),
        ({"samples": {"neighbours": 4}}, {"samples", "describe"}),
        ({"refine": {"steps": 5}}, {"refine", "summarise", "describe"}),
        ({"evaluate": {"importance_samples": 31}}, {"evaluate", "summarise", "figures", "describe"}),
    ],
)
@pytest.mark.whole
def test_a_parameter_runs_its_own_stage_and_what_follows(
    project: Project, changes: dict[str, dict[str, object]], stages: set[str]
) -> None:
    project.set_params(changes)
    assert ran(project.repro()) - {"check"} == stages


@pytest.mark.whole
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_killed_dvc_leaves_no_orphan_and_the_next_run_ends_with_the_same_bytes(
    training: Project, killer: Callable[..., dict[str, str]], shell: str
) -> None:
    before = training.tracked_results()
    without_results(training, "train")
    environment = training.environment({**killer("train", ".npz", 2, "after", "dvc"), "SHELL": shell})
    child = subprocess.Popen(
        ["dvc", "repro", "train"],
        cwd=training.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = child.communicate(timeout=120)[0]  # ends when the stage, which holds the pipe, has ended too
    assert child.returncode == -signal.SIGKILL, said
    assert "resumes after epoch 2" in training.repro()
    assert training.tracked_results() == before


@pytest.mark.whole
def test_a_forced_run_after_a_finished_one_trains_every_epoch(training: Project) -> None:
    said = training.repro("--force", "--single-item", "train")
    assert "resumes" not in said
    assert not list((training.folder / "state").glob("*.npz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"betta": 1.0}}, "train.betta = 1.0 is unknown"),  # by the sections themselves
        *(
            pytest.param(*case, marks=pytest.mark.whole)
            for case in (
                ({"model": {"architecture": "nonsense"}}, "model.architecture = 'nonsense'"),  # by the stage
                ({"train": {"beta": -1.0}}, "train.beta = -1.0"),
                ({"train": {"epochs": True}}, "train.epochs = True"),
                ({"model": {"latent_dim": 0}}, "model.latent_dim = 0"),
                ({"train": {"learning_rate": float("nan")}}, "train.learning_rate = nan"),
                ({"model": {"widths": [4, 8]}}, "widths = [4, 8]"),
                ({"model": {"autoregressive_units": 14}}, "autoregressive_units = 14: it should be 0"),
                (
                    {"model": {"autoregressive_units": 15}},
                    "train.targets = 'gray' with model.autoregressive_units = 15",
                ),
                ({"model": {"jit_compile": True}}, "model.jit_compile = True with threads.op_determinism = True"),
            )
        ),
    ],
)
def test_a_bad_parameter_is_refused_and_removes_nothing(
    training: Project, changes: dict[str, dict[str, object]], message: str
) -> None:
    results, files = training.tracked_results(), training.files()
    training.set_params(changes)
    done = training.run("dvc", "repro")
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert training.files() == files
    assert training.tracked_results() == results
    training.run("git", "restore", "params.yaml")
    assert training.repro().splitlines()[-1] == "Data and pipelines are up to date."


@pytest.mark.parametrize(
    ("stage", "array"),
    [
        ("preprocess", "data/raw/train_images.npy"),
        ("train", "data/prepared/train/images.npy"),
        ("evaluate", "data/prepared/test/binarised.npy"),
        ("evaluate", "data/model/decoder.weights.h5"),
    ],
)
def test_a_tampered_input_is_refused_by_name_and_hash(project: Project, stage: str, array: str) -> None:
    path = project.folder / array
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    before = project.files()
    done = project.run(*command_of(project, stage))
    assert done.returncode == 1
    assert array in done.stderr
    assert "has sha256" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.files() == before


def test_a_missing_input_is_refused_by_name(project: Project) -> None:
    (project.folder / "data/prepared/train/images.npy").unlink()
    done = project.run(*command_of(project, "train"))
    assert done.returncode == 1
    assert "data/prepared/train/images.npy is missing" in done.stderr


@pytest.mark.parametrize(
    "stage",
    ["preprocess", "train", *(pytest.param(stage, marks=pytest.mark.whole) for stage in ("evaluate", "figures"))],
)
def test_a_write_that_fails_ends_with_a_sentence_and_no_half_file(project: Project, stage: str) -> None:
    remove(project, *outs_of(project, stage))
    before = project.files()
    limit = 20_000  # bytes a file may have: less than an array, a figure or the state of training

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        command_of(project, stage),
        cwd=project.folder,
        env=project.environment(forks=False),  # a fork has the server's limits
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=no_room,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "git restore dvc.lock metrics && dvc checkout" in done.stderr
    kept = {path for path in project.files() if stage == "evaluate" and path.startswith("state/evaluate-")}
    assert len(kept) == (stage == "evaluate")  # the likelihoods that were done before there was no room
    assert project.files() - kept == before


def test_a_loss_that_is_not_finite_is_named_by_term_and_step(training: Project) -> None:
    textbook = (training.folder / "vae/architectures/textbook.py").read_text()
    wild = textbook.replace('name="log_var"', 'name="log_var", bias_initializer=keras.initializers.Constant(100)')
    assert wild != textbook
    (training.folder / "vae/architectures/wild.py").write_text(wild)
    training.set_params({"model": {"architecture": "wild"}})
    done = training.run("dvc", "repro", "train")
    assert done.returncode != 0
    assert "the KL divergence became inf at step 1 of epoch 1" in done.stderr
    assert "git restore dvc.lock metrics && dvc checkout" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in training.files() if path.endswith(".partial")]
    assert not {"data/model", "metrics/train.json", "metrics/history.csv"} & training.files()


def test_the_command_that_restores_committed_results_does(project: Project) -> None:
    before, files = project.tracked_results(), project.files()
    for stage in ("check", "train", "evaluate", "summarise", "figures"):
        remove(project, *outs_of(project, stage))
    assert project.run("sh", "-c", "git restore dvc.lock metrics && dvc checkout").returncode == 0
    assert (project.tracked_results(), project.files()) == (before, files)


@pytest.mark.parametrize(
    "command",
    [
        ("dvc", "metrics", "diff", "--md"),
        ("dvc", "plots", "diff"),
        ("dvc", "exp", "show"),
        *(
            pytest.param(command, marks=pytest.mark.whole)
            for command in (
                ("dvc", "metrics", "show"),
                ("dvc", "params", "diff"),
                ("dvc", "plots", "show"),
                ("dvc", "dag"),
            )
        ),
    ],
)
def test_dvc_compares_in_a_clone_without_a_remote(finished: Project, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert finished.run("git", "clone", "-q", ".", str(tmp_path / "clone")).returncode == 0
    done = Project(tmp_path / "clone").run(*command)
    assert done.returncode == 0, done.stderr
    assert "failed to load" not in done.stdout + done.stderr


def test_evaluation_is_the_mean_of_the_published_figures_of_each_image(finished: Project) -> None:
    evaluation = json.loads((finished.folder / "metrics/evaluation.json").read_text())
    with np.load(finished.folder / "metrics/per_image.npz", allow_pickle=False) as rows:
        assert np.bincount(rows["split"]).tolist() == [VALIDATION, TEST]
        for number, split in enumerate(("validation", "test")):
            for targets in ("gray", "binarised"):
                of_split = rows["split"] == number
                reconstruction = rows[f"{targets}_reconstruction_nats"][of_split].astype(float)
                kl = rows[f"{targets}_kl_nats"][of_split].astype(float)
                elbo = -(reconstruction + kl)
                said = evaluation[split][targets]
                assert said["elbo_nats"] == pytest.approx(elbo.mean(), rel=1e-5)
                assert said["elbo_nats_se"] == pytest.approx(elbo.std(ddof=1) / len(elbo) ** 0.5, rel=1e-5)
                assert said["reconstruction_nats"] == pytest.approx(reconstruction.mean(), rel=1e-5)
                assert said["kl_nats"] == pytest.approx(kl.mean(), rel=1e-5)


def test_every_metric_has_its_errors_beside_it(finished: Project) -> None:
    found = {
        name: json.loads((finished.folder / f"metrics/{name}.json").read_text())
        for name in ("evaluation", "baseline", "representation", "outliers", "samples")
    }
    for split in ("validation", "test"):
        evaluation = found["evaluation"][split]
        for part in (evaluation["gray"], evaluation["binarised"], evaluation["gap"]):
            for name in part:
                if name.endswith("_nats"):
                    assert part[f"{name}_se"] > 0
                    assert part[f"{name}_mc"] >= 0
        assert 0 < evaluation["calibration_error"] < 1
        assert evaluation["binarised"]["active_units"] <= 2
        for kind in ("rotated", "inverted", "shuffled", "noise", "blended"):
            for score in ("negative_elbo", "nll"):
                assert 0 <= found["outliers"][split][kind][f"{score}_auroc"] <= 1
                assert found["outliers"][split][kind][f"{score}_auroc_se"] >= 0
        for whose in ("model", "reference"):
            assert 0 <= found["samples"][split][whose]["coverage"] <= 1
            assert found["samples"][split][whose]["density_se"] >= 0
        for classified in (found["baseline"], found["representation"]):
            for classifier in ("linear_probe", "nearest_neighbours"):
                assert 0.1 < classified[classifier][f"{split}_accuracy"] <= 1


def test_tables_hold_a_row_for_each_latent_and_each_interval_of_probability(finished: Project) -> None:
    with (finished.folder / "metrics/latents.csv").open(newline="") as handle:
        latents = list(csv.DictReader(handle))
    assert [row["latent"] for row in latents] == ["0", "1"]
    arrays = finished.folder / "data/evaluation/test"
    for name in ("gray_latent_kl_nats", "binarised_latent_variance", "binarised_latent_variance_se"):
        np.testing.assert_allclose(
            [float(row[f"test_{name}"]) for row in latents], np.load(arrays / f"{name}.npy"), rtol=1e-5
        )
    with (finished.folder / "metrics/calibration.csv").open(newline="") as handle:
        bins = list(csv.DictReader(handle))
    assert len(bins) == 20
    assert sum(float(row["test_pixels"]) for row in bins) == pytest.approx(784 * TEST)
    ones = np.load(finished.folder / "data/prepared/test/binarised.npy").sum()
    assert sum(float(r["test_pixels"]) * float(r["test_observed"]) for r in bins) == pytest.approx(ones, rel=1e-4)


def test_training_learns_and_the_history_says_so(finished: Project) -> None:
    with (finished.folder / "metrics/history.csv").open(newline="") as handle:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(handle)]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
    floors = json.loads((finished.folder / "metrics/train.json").read_text())["entropy_floor_nats"]
    assert rows[-1]["validation_reconstruction"] > floors["validation"]


@pytest.mark.whole
def test_the_stratified_split_keeps_the_published_test_draw(training: Project) -> None:
    published = (training.folder / "data/prepared/test/binarised.npy").read_bytes()
    validation = (training.folder / "data/prepared/validation/binarised.npy").read_bytes()
    training.set_params({"preprocess": {"split": "stratified"}})
    training.repro("preprocess")
    assert (training.folder / "data/prepared/test/binarised.npy").read_bytes() == published
    assert (training.folder / "data/prepared/validation/binarised.npy").read_bytes() != validation


@pytest.mark.whole
def test_another_numpy_does_not_pass_as_the_published_draw(training: Project) -> None:
    facts = training.folder / "vae/fashion_mnist.py"
    facts.write_text(facts.read_text() + "PUBLISHED_TEST_ONES += 1\n")
    done = training.run("dvc", "repro", "preprocess")
    assert done.returncode != 0
    assert "this numpy does not draw the published images" in done.stderr


def test_two_runs_at_once_are_refused(project: Project) -> None:
    state = project.folder / "state" / "train.lock"
    with state.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        done = project.run(*command_of(project, "train"))
    assert done.returncode == 1
    assert str(os.getpid()) in done.stderr
