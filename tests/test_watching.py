"""What a person sees of a training while it runs, and that nothing takes it for a result."""

import csv
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, Project, outs_of, remove, without_results
from ruamel.yaml import YAML
from test_training import RECIPE

from pipeline.events import forget_events, join_events, write_events
from vae.model import build_vae
from vae.training import Run, Trainer, fit, weights_of
from vae.watching import reconstruction_row
from workflow.history.lock import unfinished as unfinished_in
from workflow.history.revisions import Revision

HISTORY, STATES = "metrics/history.csv", ".npz"


@pytest.fixture
def untrained(trained: Project, tmp_path: Path) -> Project:
    """A project of three epochs, whose training is still to be done; its commit has the results."""
    project = trained.copy_to(tmp_path / "project")
    without_results(project, "train")
    remove(project, "runs")
    return project


def epochs(project: Project) -> list[int]:
    with (project.folder / HISTORY).open(encoding="utf-8", newline="") as handle:
        return [int(row["epoch"]) for row in csv.DictReader(handle)]


def shown(folder: Path) -> list[tuple[int, list[str]]]:
    """Step and names of each event that TensorBoard would read, in its order."""
    events = []
    for path in sorted(folder.rglob("*tfevents*")):
        first, *rest = (tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path)))
        assert first.file_version == "brain.Event:2"
        events += [
            (event.step, [value.tag for value in event.summary.value]) for event in rest if not event.file_version
        ]
    return events


NAMES = [
    *("train_loss", "train_reconstruction", "train_kl"),
    *("validation_loss", "validation_reconstruction", "validation_kl"),
    *("learning_rate", "images_per_second"),
]

#: What the events of three epochs, each validated, should be.
ALL = [(1, NAMES), (2, NAMES), (3, [*NAMES, "reconstructions"])]


def test_dvc_draws_the_curve_so_far_while_training_runs(
    trained: Project, untrained: Project, killer: Callable[..., dict[str, str]]
) -> None:
    running = untrained.start("dvc", "repro", env=killer("train", HISTORY, 2, "wait"))
    try:
        deadline = time.monotonic() + 120
        while not ((untrained.folder / HISTORY).is_file() and len(epochs(untrained)) == 2):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        drawn = json.loads(untrained.succeed("dvc", "plots", "show", "--json", HISTORY, forks=False))
        assert [event[0] for event in shown(untrained.folder / "runs")] == [1, 2]
    finally:
        (untrained.folder / "go").touch()
        said, _ = running.communicate(timeout=120)
    (plot,) = drawn["data"][HISTORY]
    assert {point["epoch"] for point in plot["content"]["data"]["values"]} == {"1", "2"}
    assert running.returncode == 0, said
    assert untrained.tracked_results() == trained.tracked_results()
    assert shown(untrained.folder / "runs") == ALL
    best = min((float(row["validation_loss"]), int(row["epoch"])) for row in rows(untrained))
    assert f"train: the lowest validation loss was {best[0]:.2f} nats, after epoch {best[1]}; kept" in said
    assert "dvc plots show Loss" in said
    assert "Loss" in str(YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"])


def rows(project: Project) -> list[dict[str, str]]:
    with (project.folder / HISTORY).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(
    ("path", "number", "when", "left", "events"),
    [
        (HISTORY, 2, "after", [1, 2], 2),
        # the events of the second epoch are there, and it has to be done again
        pytest.param(STATES, 2, "before", [1], 2, marks=pytest.mark.whole),
        # its state is there, its row is not
        pytest.param(HISTORY, 2, "before", [1], 2, marks=pytest.mark.whole),
        # its events are half there
        pytest.param("tfevents.000002", 1, "before", [1], 1, marks=pytest.mark.whole),
    ],
)
def test_a_kill_and_a_resume_leave_one_curve(
    trained: Project,
    untrained: Project,
    killer: Callable[..., dict[str, str]],
    path: str,
    number: int,
    when: str,
    left: list[int],
    events: int,
) -> None:
    killed = untrained.run("dvc", "repro", env=killer("train", path, number, when))
    assert killed.returncode != 0
    assert epochs(untrained) == left
    assert shown(untrained.folder / "runs") == ALL[:events]
    assert HISTORY in untrained.fail("python", "-m", "workflow.report")
    assert "resumes after epoch" in untrained.repro()
    assert untrained.tracked_results() == trained.tracked_results()
    assert shown(untrained.folder / "runs") == ALL


def test_a_failure_leaves_the_curve_so_far_and_the_way_back(
    trained: Project, untrained: Project, killer: Callable[..., dict[str, str]]
) -> None:
    failed = untrained.run("dvc", "repro", env=killer("train", STATES, 2, "fail"))
    assert failed.returncode == 255
    assert "git restore dvc.lock metrics" in failed.stderr
    assert epochs(untrained) == [1]
    assert HISTORY in untrained.fail("python", "-m", "workflow.report")
    assert "resumes after epoch 1" in untrained.repro()
    assert untrained.tracked_results() == trained.tracked_results()
    assert shown(untrained.folder / "runs") == ALL


@pytest.mark.whole
def test_a_refusal_leaves_no_curve(untrained: Project) -> None:
    untrained.set_params({"train": {"batch_size": 10_000}})
    assert untrained.run("dvc", "repro").returncode == 255
    assert not (untrained.folder / HISTORY).exists()
    assert shown(untrained.folder / "runs") == []


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("workflow.summary",), 1),
        (("workflow.compare", "HEAD", "workspace"), 2),
        (("workflow.report", "workspace"), 1),
        (("workflow.report", "HEAD", "workspace"), 1),
        (("workflow.release", "0.1.0"), 1),
    ],
)
def test_nothing_takes_an_unfinished_curve_for_a_result(
    unfinished: Project, command: tuple[str, ...], status: int
) -> None:
    said = unfinished.fail("python", "-m", *command, status=status)
    assert f"{HISTORY} of workspace is stated neither by dvc.lock nor by metrics/provenance/train.json" in said


@pytest.mark.parametrize(
    ("lock", "record", "refused"),
    [
        *[(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
        *[(True, odd, False) for odd in ("[]", "{}", '{"a', "")],
        (False, "[]", True),
    ],
)
def test_a_curve_is_a_result_if_the_lock_or_the_record_states_it(
    tmp_path: Path, lock: bool, record: bool | str, refused: bool
) -> None:
    content = b"epoch,validation_loss\n1,2\n"
    (tmp_path / "metrics/provenance").mkdir(parents=True)
    (tmp_path / HISTORY).write_bytes(content)
    md5 = hashlib.md5(content if lock else b"of an earlier run").hexdigest()
    stages = {"train": {"outs": [{"path": HISTORY, "md5": md5}]}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    sha256 = hashlib.sha256(content if record else b"of an earlier run").hexdigest()
    stated = record if isinstance(record, str) else json.dumps([{"outputs": {HISTORY: sha256}}])
    (tmp_path / "metrics/provenance/train.json").write_text(stated, encoding="utf-8")
    assert bool(unfinished_in(Revision("workspace", None, tmp_path))) == refused


@pytest.mark.parametrize("lock", ["", "schema: '2.0'", "stages:"])
def test_a_lock_that_states_nothing_states_no_curve(tmp_path: Path, lock: str) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / HISTORY).touch()
    (tmp_path / "dvc.lock").write_text(lock, encoding="utf-8")
    assert len(unfinished_in(Revision("workspace", None, tmp_path))) == 1


def test_before_the_first_validation_the_training_has_not_ended_either(unfinished: Project) -> None:
    (unfinished.folder / HISTORY).unlink()
    said = unfinished.fail("python", "-m", "workflow.compare", "HEAD", "workspace", status=2)
    assert f"workspace has neither {HISTORY} nor metrics/train.json: its training has not ended" in said


def test_an_audit_names_an_unfinished_curve(unfinished: Project) -> None:
    done = unfinished.run("python", "-m", "workflow.audit", "workspace", "--quick")
    assert done.returncode == 1
    assert f"{HISTORY}: not what train wrote" in done.stdout


@pytest.fixture
def unfinished(project: Project) -> Project:
    """A finished project in which `train` was killed after an epoch, as DVC removes its outputs first."""
    lines = (project.folder / HISTORY).read_text(encoding="utf-8").splitlines(keepends=True)
    remove(project, *outs_of(project, "train"))
    (project.folder / HISTORY).write_text("".join(lines[:2]), encoding="utf-8")
    (project.folder / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n', encoding="utf-8")
    (project.folder / "CHANGELOG.md").write_text("## 0.1.0\n", encoding="utf-8")
    return project


def test_to_be_watched_changes_no_weight() -> None:
    images = np.random.default_rng(0).random((60, 8, 8), np.float32).round()
    recipe = replace(RECIPE, binarised=True, batch_size=20, kl_warmup_start=1, ema_momentum=0.9)
    ended = []
    for watched in (False, True):
        keras.utils.set_random_seed(0)
        vae = build_vae("gated_dense", 2, [8, 8], (8, 8), autoregressive_units=16)
        run = Run(Trainer(vae, images, recipe))
        fit(run, images, lambda _, vae=vae, on=watched: on and reconstruction_row(vae, images[:5]), lambda *_: None)
        ended.append((run.history, weights_of(vae)))
    assert ended[0][0] == ended[1][0]
    assert all((a == b).all() for a, b in zip(ended[0][1], ended[1][1], strict=True))


@pytest.mark.parametrize("units", [0, 16])
def test_reconstructions_stand_below_their_images(units: int) -> None:
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", 2, [8, 8], (8, 8), autoregressive_units=units)
    images = np.random.default_rng(0).random((5, 8, 8), np.float32).round()
    row = reconstruction_row(vae, images)
    assert row.shape == (16, 40)
    assert (row[:8] == np.hstack(list(images))).all()
    made = np.stack(np.hsplit(row[8:], 5))
    probability = tf.sigmoid(vae.logits(vae.encoder(images)[0], tf.constant(made if units else images))).numpy()
    assert (made == (probability > 0.5 if units else probability)).all()


def test_events_hold_what_they_were_given(tmp_path: Path) -> None:
    picture = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    write_events(tmp_path / "run", 7, {"loss": 2.5}, {"row": picture})
    (path,) = (tmp_path / "run").iterdir()
    _, event = (tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path)))
    loss, row = event.summary.value
    assert (event.step, loss.tag, loss.simple_value, row.tag) == (7, "loss", 2.5, "row")
    decoded = tf.io.decode_png(row.image.encoded_image_string)[..., 0].numpy()
    assert (decoded == np.round(picture * 255)).all()


def test_what_is_written_of_an_epoch_again_is_there_once(tmp_path: Path) -> None:
    for epoch in (5, 10, 10, 100):
        write_events(tmp_path, epoch, {"loss": 1.0}, {})
    assert [step for step, _ in shown(tmp_path)] == [5, 10, 100]
    forget_events(tmp_path, 10)
    assert [step for step, _ in shown(tmp_path)] == [5, 10]


def test_all_of_a_training_ends_in_one_file(tmp_path: Path) -> None:
    for epoch in (5, 10, 100):
        write_events(tmp_path, epoch, {"loss": float(epoch)}, {})
    for _ in range(2):
        join_events(tmp_path)
        (path,) = tmp_path.iterdir()
        records = [tf.compat.v1.Event.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(path))]
        assert [event.step for event in records if event.summary.value] == [5, 10, 100]


def test_a_disk_that_takes_no_event_is_named(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from pipeline.events import write_events\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: write_events(Path(sys.argv[1]), 1, {'loss': 1.0} | {str(n): 1.0 for n in range(50)}, {})\n"
        "except OSError as error: print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("refused"), done.stderr
    assert "File too large" in done.stdout
    assert not list(tmp_path.iterdir())
