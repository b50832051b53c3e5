"""The pipeline as a user runs it, on a slice of real-shaped data: repeatable, resumable, cached, and strict."""

import signal
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
    new_project,
    outs_of,
    remove,
    without_results,
)
from numpy.typing import NDArray
from ruamel.yaml import YAML

from pipeline.code import code_digests, read_file, sources_of
from pipeline.params.model import named_modules

#: Exit status of a DVC whose stage failed.
FAILED = 255

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
    """Makes the project that other tests copy, by one whole run of the real DVC."""
    stages = locked_stages(finished)
    assert len(stages) == 15
    for name in stages:
        assert finished.json(f"runs/{name}.json")["stage"] == name
    assert finished.succeed("git", "status", "--porcelain") == ""


def test_another_parameter_runs_what_follows_from_it(finished: Project, two_revisions: Project) -> None:
    """Makes the branch that other tests compare, by a second whole run."""
    before, after = finished.tracked_results(), two_revisions.tracked_results()
    same = {path for path in before if before[path] == after[path]}
    assert {"metrics/data.json", "metrics/provenance/preprocess.json", "metrics/baseline.json"} <= same
    assert not {"metrics/history.csv", "metrics/evaluation.json", "metrics/figures/samples.png", "dvc.lock"} & same


def test_a_parameter_changed_back_runs_nothing_again(two_revisions: Project, tmp_path: Path) -> None:
    project = two_revisions.copy_to(tmp_path / "project")
    project.succeed("git", "switch", "-q", "main")
    assert "Running stage" not in project.repro()
    assert project.succeed("git", "status", "--porcelain") == ""


def test_a_fork_ends_with_the_bytes_of_a_fresh_process(training: Project) -> None:
    """Tests start stages as forks of a Python that has imported the libraries: `tests/fork/server.py`."""
    before = training.tracked_results()
    without_results(training, "train")
    training.succeed(*command_of(training, "train"), forks=False)
    assert training.tracked_results() == before  # provenance has the sha256 of the weights


#: The features of the default: gated layers, a learned prior, compiled steps, averaged weights, rare validation,
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
    project: Project, tmp_path: Path, killer: Callable[..., dict[str, str]]
) -> None:
    other = new_project(tmp_path / "a b ü 衣服 'quoted'")
    for one in (project, other):
        one.set_params(ENGINE)
        keep_stages(one, *TRAINING_STAGES, "evaluate", "refine", "summarise")
    project.repro()
    killed = other.run("dvc", "repro", "train", env=killer("train", ".npz", 2, "after"))
    assert killed.returncode != 0
    assert "resumes after epoch 4" in other.repro()
    assert other.tracked_results() == project.tracked_results()
    assert table(project, "metrics/history.csv")["epoch"].tolist() == [2, 4, 5]
    binarised = project.json("metrics/evaluation.json")["test"]["binarised"]
    assert binarised["nll_samples"] == IMPORTANCE_SAMPLES
    assert binarised["nll_nats"] < -binarised["elbo_nats"]


def ran(said: str) -> set[str]:
    """The stages that a `dvc repro` ran."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}


def modules(project: Project) -> list[str]:
    """Every file of the code that stages run."""
    folders = (project.folder / name for name in ("pipeline", "stages", "vae"))
    return [str(path.relative_to(project.folder)) for folder in folders for path in sorted(folder.rglob("*.py"))]


def test_a_comment_in_every_module_runs_the_check_alone(project: Project, tmp_path: Path) -> None:
    before = project.tracked_results()
    for path in modules(project):
        source = (project.folder / path).read_text(encoding="utf-8")
        reworded = source.replace('"""', '"""In other words: ', 1) + "# why\n"
        (project.folder / path).write_text(reworded, encoding="utf-8")
    barred = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None"
    (tmp_path / "sitecustomize.py").write_text(barred, encoding="utf-8")
    assert ran(project.repro(env={"PYTHONPATH": str(tmp_path)})) == {"check"}
    after = project.tracked_results()
    assert {path for path in before if before[path] != after.get(path)} == {"dvc.lock"}
    project.commit("Comments")
    project.succeed("python", "-m", "workflow.audit", "--quick")


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
    """Each stage writes which modules it loaded. A change of one changes the digest of the stages that loaded it."""
    project.append("stages/__init__.py", LOADED)
    project.commit("Stages that tell")
    stages = {*locked_stages(project)}
    assert ran(project.repro()) == stages
    loaded = {name: {*project.json(f"state/loaded-{name}.json"), "stages/__main__.py"} for name in stages}
    params = YAML(typ="safe").load(project.folder / "params.yaml")
    read = partial(read_file, folder=project.folder)
    loaded["describe"] |= {*sources_of(named_modules(params["model"]), read)}  # it takes `model`, and builds no network
    others = sorted(stages - {"check"})
    before = code_digests(others, params, read)
    for path in modules(project):
        project.append(path, "x = 1")
        after = code_digests(others, params, read)
        project.succeed("git", "restore", path)
        for name in others:
            assert (before[name] != after[name]) == (path in loaded[name]), (name, path)
    for path in ("vae/plots.py", "vae/representation.py"):
        project.append(path, "x = 1")
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
    training.append("vae/objective.py", "# why")
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
    ("changes", "message"),
    [
        ({"train": {"betta": 1.0}}, "train.betta = 1.0 is unknown"),  # by its section
        # by the stage
        pytest.param({"model": {"widths": [4, 8]}}, "widths = [4, 8]", marks=pytest.mark.whole),
    ],
)
def test_a_bad_parameter_is_refused_and_removes_nothing(
    training: Project, changes: dict[str, dict[str, object]], message: str
) -> None:
    results, files = training.tracked_results(), training.files()
    training.set_params(changes)
    assert message in training.fail("dvc", "repro", status=FAILED)
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
    said = project.fail(*command_of(project, stage))
    assert array in said
    assert "has sha256" in said
    assert project.files() == before


@pytest.mark.parametrize("stage", ["preprocess", "train"])
def test_a_write_that_fails_ends_with_a_sentence_and_no_half_file(project: Project, stage: str) -> None:
    remove(project, *outs_of(project, stage), "runs/tensorboard")
    before = project.files()
    limited = 'ulimit -f 40; exec "$@"'  # a file may have 40 blocks, less than an array or the state of training
    said = project.fail("sh", "-c", limited, "sh", *command_of(project, stage), forks=False)  # a fork ignores the limit
    assert "git restore dvc.lock metrics && dvc checkout" in said
    shown = {path for path in project.files() if path.startswith("runs/tensorboard/")}
    assert project.files() - shown == before
    assert [path[-6:] for path in shown] == (["000001"] if stage == "train" else [])  # whole, of the first epoch


def test_the_command_that_restores_committed_results_does(project: Project) -> None:
    before, files = project.tracked_results(), project.files()
    for stage in ("check", "train", "evaluate", "summarise", "figures"):
        remove(project, *outs_of(project, stage))
    project.succeed("sh", "-c", "git restore dvc.lock metrics && dvc checkout")
    assert (project.tracked_results(), project.files()) == (before, files)


@pytest.mark.parametrize(
    "command",
    [
        *("metrics diff --md", "plots diff", "exp show"),
        *(pytest.param(more, marks=pytest.mark.whole) for more in ("metrics show", "params diff", "plots show", "dag")),
    ],
)
def test_dvc_compares_in_a_clone_without_a_remote(finished: Project, tmp_path: Path, command: str) -> None:
    finished.succeed("git", "clone", "-q", ".", str(tmp_path / "clone"))
    done = Project(tmp_path / "clone").run("dvc", *command.split())
    assert done.returncode == 0, done.stderr
    assert "failed to load" not in done.stdout + done.stderr


def test_evaluation_is_the_mean_of_the_published_figures_of_each_image(finished: Project) -> None:
    evaluation = finished.json("metrics/evaluation.json")
    with np.load(finished.folder / "metrics/per_image.npz", allow_pickle=False) as rows:
        assert np.bincount(rows["split"]).tolist() == [VALIDATION, TEST]
        for number, split in enumerate(("validation", "test")):
            for targets in ("gray", "binarised"):
                of_split = rows["split"] == number
                reconstruction = rows[f"{targets}_reconstruction_nats"][of_split].astype(float)
                kl = rows[f"{targets}_kl_nats"][of_split].astype(float)
                elbo = -(reconstruction + kl)
                expected = {
                    "elbo_nats": elbo.mean(),
                    "elbo_nats_se": elbo.std(ddof=1) / len(elbo) ** 0.5,
                    "reconstruction_nats": reconstruction.mean(),
                    "kl_nats": kl.mean(),
                }
                said = {name: evaluation[split][targets][name] for name in expected}
                assert said == pytest.approx(expected, rel=1e-5)


def test_every_metric_has_its_errors_beside_it(finished: Project) -> None:
    names = ("evaluation", "baseline", "representation", "outliers", "samples")
    found = {name: finished.json(f"metrics/{name}.json") for name in names}
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


def table(project: Project, path: str) -> NDArray[np.void]:
    """The rows of a CSV file of numbers, with its header as the names of fields."""
    return np.genfromtxt(project.folder / path, delimiter=",", names=True)


def test_tables_hold_a_row_for_each_latent_and_each_interval_of_probability(finished: Project) -> None:
    latents = table(finished, "metrics/latents.csv")
    assert latents["latent"].tolist() == [0, 1]
    arrays = finished.folder / "data/evaluation/test"
    for name in ("gray_latent_kl_nats", "binarised_latent_variance", "binarised_latent_variance_se"):
        np.testing.assert_allclose(latents[f"test_{name}"], np.load(arrays / f"{name}.npy"), rtol=1e-5)
    bins = table(finished, "metrics/calibration.csv")
    assert len(bins) == 20
    assert bins["test_pixels"].sum() == pytest.approx(784 * TEST)
    ones = np.load(finished.folder / "data/prepared/test/binarised.npy").sum()
    assert bins["test_pixels"] @ bins["test_observed"] == pytest.approx(ones, rel=1e-4)


def test_training_learns_and_the_history_says_so(finished: Project) -> None:
    history = table(finished, "metrics/history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["validation_loss"][-1] < history["validation_loss"][0]
    floors = finished.json("metrics/train.json")["entropy_floor_nats"]
    assert history["validation_reconstruction"][-1] > floors["validation"]


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
    training.append("pipeline/datasets/fashion_mnist.py", "TEST_ONES += 1")
    said = training.fail("dvc", "repro", "preprocess", status=FAILED)
    assert "this numpy does not draw the published images" in said
