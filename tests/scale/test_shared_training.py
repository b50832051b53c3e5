"""One training shared by two workers, started by hand and by Ray, beside the same training alone."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from clusters import PATIENCE, Namespace, isolated
from conftest import Project
from numpy.typing import NDArray

WORKERS = isolated(sys.executable, "-m", "workflow.scale.shared_training")
ADDRESSES = ("127.0.0.1:2222", "127.0.0.1:2223")

pytestmark = pytest.mark.usefixtures("one_ray")

#: 20 steps that use all that a step can have.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "model": {
        "architecture": "gated_dense",
        "widths": [20],
        "autoregressive_units": 30,
        "prior": "coupling_flow",
        "prior_widths": [8, 8],
    },
    "train": {
        "targets": "binarised",
        "batch_size": 40,
        "epochs": 2,
        "schedule": "cosine",
        "weight_decay": 0.5,
        "importance_samples": 3,
        "importance_epochs": 1,
        "ema_momentum": 0.5,
    },
}


@pytest.fixture(scope="module")
def alone(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Training of 20 steps by one process."""
    project = trained.copy_to(tmp_path_factory.mktemp("alone") / "project")
    project.set_params(CHANGES)
    project.repro()
    project.commit("Twenty steps")
    assert json.loads((project.folder / "metrics/train.json").read_text())["steps"] == 20
    return project


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.end()


def for_two(alone: Project, folder: Path) -> Project:
    """The same training, to be shared by two workers."""
    project = alone.copy_to(folder)
    project.set_params({"train": {"workers": 2}})
    project.commit("Two workers")
    return project


def weights_of(project: Project) -> dict[str, NDArray[np.float32]]:
    """Weights that training ended with, by file and name."""
    found: dict[str, NDArray[np.float32]] = {}
    for path in sorted((project.folder / "data/model").glob("*.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, path=path: (
                    found.update({f"{path.name}/{name}": item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
    return found


def assert_same_within_rounding(found: Project, expected: Project) -> None:
    weights, others = weights_of(found), weights_of(expected)
    assert set(weights) == set(others)
    assert len(weights) > 20
    for name, array in others.items():
        assert np.linalg.norm(weights[name] - array) <= 1e-5 * np.linalg.norm(array), name


def start(project: Project, namespace: Namespace, number: int, **variables: str) -> "subprocess.Popen[str]":
    """Starts the worker of that number in the project."""
    task = {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": number}}
    env = project.environment({"TF_CONFIG": json.dumps(task), **variables})
    command = namespace.inside("dvc", "repro")
    return subprocess.Popen(
        command, cwd=project.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_killed_worker_ends_the_run_which_resumes_and_equals_one_worker_alone(
    alone: Project, namespace: Namespace, tmp_path: Path, killer: Callable[..., dict[str, str]]
) -> None:
    pair = [for_two(alone, tmp_path / name) for name in ("chief", "other")]
    chief = start(pair[0], namespace, 0)
    other = start(pair[1], namespace, 1, **killer("train", ".npz", 1, "after"))
    said, _ = chief.communicate(timeout=PATIENCE)
    other.communicate(timeout=PATIENCE)
    assert chief.returncode != 0
    assert other.returncode != 0
    assert "train: one of the 2 workers is lost" in said
    assert "Traceback" not in said
    assert not (pair[0].folder / "data/model").exists()

    assert pair[1].run("rm", "-rf", "state").returncode == 0  # the chief's state is taken by all
    again = [start(project, namespace, number) for number, project in enumerate(pair)]
    for worker in again:
        said, _ = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, said
        assert "train: resumes after epoch 1" in said
    assert_same_within_rounding(pair[0], alone)
    assert pair[0].tracked_results() == pair[1].tracked_results()


@pytest.mark.whole
def test_workers_started_by_ray_equal_one_alone_and_become_an_experiment(alone: Project, tmp_path: Path) -> None:
    project = for_two(alone, tmp_path / "project")
    project.set_params({"threads": {"intra_op": 1}})  # of one worker, so that two fit on two cores
    project.commit("A thread each")
    done = project.run(*WORKERS)
    assert done.returncode == 0, done.stdout + done.stderr
    name = done.stdout.split("saved experiment ")[1].split(".")[0]
    assert project.run("dvc", "exp", "apply", name).returncode == 0
    assert "Stage 'train' didn't change" in project.repro()
    assert_same_within_rounding(project, alone)
    assert not list((project.folder / "state").glob("workers/*"))


@pytest.mark.whole
def test_workers_whose_parameters_are_refused_say_why(alone: Project, tmp_path: Path) -> None:
    project = for_two(alone, tmp_path / "project")
    project.set_params({"model": {"jit_compile": True}, "threads": {"intra_op": 1, "op_determinism": False}})
    project.commit("Compiled")
    done = project.run(*WORKERS)
    assert done.returncode == 1
    why = "workers: check: params.yaml is refused:\n  model.jit_compile = True with train.workers = 2"
    assert why in done.stderr, done.stderr
