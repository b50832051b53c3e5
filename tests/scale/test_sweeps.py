"""Sweeps on one machine and on a cluster: what they leave and survive, and that the numbers of a trial are its own."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from clusters import PATIENCE, PORT, Cluster, isolated, wait_for
from conftest import ROOT, Project
from ruamel.yaml import YAML

SWEEP = (sys.executable, "-m", "workflow.scale.sweep")
ALONE = isolated(*SWEEP)
SPEC: Mapping[str, Any] = {
    "objective": "validation_loss",
    "space": {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.latent_dim": {"choices": [2, 3]},
    },
    "fixed": {"train.epochs": 3},
    "threads": 1,
    "sampler": {"name": "tpe", "seed": 1},
    "pruner": {"name": "asha", "grace_epochs": 1, "reduction": 3},
    "budget": {"trials": 12},
}

pytestmark = pytest.mark.usefixtures("one_ray")

#: Values that the sampler draws without a look at others.
DRAWN = 10


def record_of(project: Project, name: str = "cut") -> Any:
    """What a sweep wrote."""
    return json.loads((project.folder / f"sweeps/{name}.json").read_text(encoding="utf-8"))


def write_spec(project: Project, name: str = "cut", **changes: Any) -> str:
    """Writes a specification and commits it; its path."""
    path = project.folder / "sweeps" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as handle:
        YAML().dump({**SPEC, **changes}, handle)
    project.commit(f"Sweep {name}")
    return str(path.relative_to(project.folder))


def experiments_of(project: Project) -> list[str]:
    """Names of the project's DVC experiments."""
    listed = project.run("dvc", "exp", "list", "--all-commits", "--name-only").stdout
    return sorted(line.strip() for line in listed.splitlines() if line.strip())


@pytest.fixture(scope="session")
def trials(pytestconfig: pytest.Config) -> Any:
    """How many the sweep has."""
    return SPEC["budget"]["trials"] if pytestconfig.getoption("--whole") else 2


@pytest.fixture(scope="session")
def swept(trained: Project, trials: int, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The trained project, swept. Tests copy it; none changes it."""
    project = trained.copy_to(tmp_path_factory.mktemp("swept") / "project")
    done = project.run(*ALONE, write_spec(project, budget={"trials": trials}))
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def test_every_trial_ends_once_and_the_completed_ones_are_experiments(swept: Project, trials: int) -> None:
    each_ended_once(swept, trials)
    assert experiments_of(swept)
    for trial in record_of(swept)["trials"]:
        assert len(trial["history"]) == 3 or trial["verdict"] == "pruned"
        assert 1e-4 <= trial["values"]["train.learning_rate"] <= 1e-2
        assert trial["values"]["threads.intra_op"] == 1
    assert swept.run("git", "status", "--porcelain").stdout == "?? sweeps/cut.json\n"


def test_the_winner_applied_and_run_alone_gives_the_same_weights_and_numbers(swept: Project, tmp_path: Path) -> None:
    project = swept.copy_to(tmp_path / "project")
    completed = [trial for trial in record_of(project)["trials"] if trial["verdict"] == "completed"]
    best = min(completed, key=lambda trial: trial["history"][-1]["validation_loss"])
    assert project.run("dvc", "exp", "apply", best["experiment"]).returncode == 0
    promised = project.tracked_results()
    assert "metrics/history.csv" in promised
    assert "metrics/evaluation.json" not in promised  # no results of stages that the trial did not run
    project.repro("--force", "--no-run-cache", "train")
    assert project.tracked_results() == promised
    history = (project.folder / "metrics/history.csv").read_text(encoding="utf-8").splitlines()[1:]
    found = [[float(number) for number in line.split(",")] for line in history]
    assert [row[4] for row in found] == [row["validation_loss"] for row in best["history"]]


def test_a_fresh_clone_has_the_experiments_from_a_git_remote(swept: Project, tmp_path: Path) -> None:
    project = swept.copy_to(tmp_path / "project")
    assert project.run("git", "clone", "-q", "--bare", ".", str(tmp_path / "remote.git")).returncode == 0
    assert project.run("git", "remote", "add", "origin", str(tmp_path / "remote.git")).returncode == 0
    names = experiments_of(project)
    assert project.run("dvc", "exp", "push", "--no-cache", "origin", *names).returncode == 0
    assert project.run("git", "clone", "-q", str(tmp_path / "remote.git"), str(tmp_path / "clone")).returncode == 0
    clone = Project(tmp_path / "clone")
    done = clone.run("dvc", "exp", "pull", "--no-cache", "origin", *names)
    assert done.returncode == 0, done.stderr
    shown = clone.run("dvc", "exp", "show", "--csv").stdout
    assert all(name in shown for name in names)


@pytest.mark.whole
def test_a_finished_sweep_is_not_run_again(swept: Project) -> None:
    before, experiments = record_of(swept), experiments_of(swept)
    (swept.folder / "sweeps/cut.json").unlink()  # unfinished work is kept by the folder that it was begun in
    done = swept.run(*ALONE, "sweeps/cut.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert record_of(swept)["trials"] == before["trials"]
    assert experiments_of(swept) == experiments


def test_more_threads_than_cores_and_uncommitted_changes_are_refused(swept: Project, tmp_path: Path) -> None:
    project = swept.copy_to(tmp_path / "project")
    done = project.run(*ALONE, write_spec(project, "wide", threads=1000))
    assert done.returncode == 1
    assert "sweep: threads = 1000: it should be at most" in done.stderr
    project.set_params({"train": {"seed": 5}})
    done = project.run(*ALONE, "sweeps/wide.yaml")
    assert done.returncode == 1
    assert "params.yaml is not as committed; expected a commit to run" in done.stderr
    assert not (project.folder / "sweeps/wide.json").exists()


@pytest.mark.whole
def test_trials_that_are_unfit_are_told_and_do_not_end_the_sweep(swept: Project, tmp_path: Path) -> None:
    project = swept.copy_to(tmp_path / "project")
    space = {"train.learning_rate": {"choices": [1.0e-3, 1.0]}, "train.batch_size": {"choices": [50, 5000]}}
    path = write_spec(project, "unfit", space=space, budget={"trials": 8}, sampler={"name": "random", "seed": 0})
    done = project.run(*ALONE, path)
    assert done.returncode == 0, done.stdout + done.stderr
    for trial in record_of(project, "unfit")["trials"]:
        too_large = trial["values"]["train.batch_size"] == 5000
        assert (trial["verdict"] == "unfit") >= too_large
        if too_large:
            assert trial["error"].startswith("check: ")
            assert trial["history"] == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster")
    try:
        yield made
    finally:
        made.end()


def begun(project: Project) -> int:
    """How many reports of trials have come."""
    return sum(len(path.read_text().splitlines()) for path in project.folder.glob("state/sweeps/*/*/result.json"))


def start_sweep(project: Project, cluster: Cluster) -> "subprocess.Popen[str]":
    env = project.environment({**cluster.variables, "RAY_ADDRESS": f"127.0.0.1:{PORT}"})
    command = cluster.inside(*SWEEP, "sweeps/cut.yaml")
    return subprocess.Popen(
        command, cwd=project.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def unswept(swept: Project, folder: Path) -> Project:
    """The swept project as it was before."""
    project = swept.copy_to(folder)
    assert project.run("rm", "-rf", "state", "sweeps/cut.json").returncode == 0
    for name in experiments_of(project):
        assert project.run("dvc", "exp", "remove", name).returncode == 0
    return project


def same_trials(found: Project, expected: Project) -> None:
    """The first trials, which the sampler draws without a look at others, have the same values and numbers."""
    pairs = list(zip(record_of(found)["trials"], record_of(expected)["trials"], strict=True))
    for one, other in pairs[:DRAWN]:
        assert one["values"] == other["values"]
        for row, its in zip(one["history"], other["history"], strict=False):  # one of the two may have been pruned
            assert row == its


def each_ended_once(project: Project, trials: int) -> None:
    ended = record_of(project)["trials"]
    assert [trial["number"] for trial in ended] == list(range(trials))
    assert {trial["verdict"] for trial in ended} <= {"completed", "pruned"}, [trial["error"] for trial in ended]
    for trial in ended:
        assert [row["epoch"] for row in trial["history"]] == list(range(1, len(trial["history"]) + 1))
    completed = [trial["experiment"] for trial in ended if trial["verdict"] == "completed"]
    assert sorted(completed) == sorted(experiments_of(project))


def test_a_worker_node_killed_in_the_middle_costs_no_trial(
    swept: Project, trials: int, cluster: Cluster, tmp_path: Path
) -> None:
    project = unswept(swept, tmp_path / "project")
    interfaces, listening = cluster.said("cat", "/proc/net/dev", "/proc/net/tcp", "/proc/net/tcp6").split("  sl ", 1)
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]
    assert f":{PORT:04X} " in listening
    sweep = start_sweep(project, cluster)
    wait_for("a few reports", lambda: begun(project) >= max(1, trials // 3) or sweep.poll() is not None)
    cluster.kill(1)
    said, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, said
    each_ended_once(project, trials)
    same_trials(project, swept)


@pytest.mark.whole
def test_a_driver_killed_and_started_again_resumes_the_sweep(
    swept: Project, trials: int, cluster: Cluster, tmp_path: Path
) -> None:
    project = unswept(swept, tmp_path / "project")
    first = start_sweep(project, cluster)
    wait_for("a few reports", lambda: begun(project) >= max(1, trials // 3) or first.poll() is not None)
    first.kill()
    first.communicate()
    assert not (project.folder / "sweeps/cut.json").exists()
    again = start_sweep(project, cluster)
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    assert "goes on with the trials that were begun" in said
    each_ended_once(project, trials)
    same_trials(project, swept)  # a sampler begun anew would propose its first values again


#: Starts Ray as a sweep does, and has another driver knock with a token of its own.
KNOCKS = """
import os, subprocess, sys
from workflow.scale.cluster import connected
with connected(1):
    import ray
    knock = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False)"
    other = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    command = [sys.executable, "-c", knock, ray.get_runtime_context().gcs_address]
    print("let in:", subprocess.run(command, env=other, capture_output=True).returncode == 0)
"""


def test_ray_on_this_machine_lets_nobody_in_who_has_another_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32), encoding="ascii")
    done = Project(ROOT).run(
        *isolated(sys.executable, "-c", KNOCKS), env={"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    )
    assert done.stdout.splitlines()[-1:] == ["let in: False"], done.stdout + done.stderr


@pytest.mark.whole
def test_a_driver_without_the_token_is_refused(swept: Project, cluster: Cluster, tmp_path: Path) -> None:
    project = unswept(swept, tmp_path / "project")
    other = tmp_path / "other"
    other.write_text(secrets.token_hex(32), encoding="ascii")
    cluster.variables = {**cluster.variables, "RAY_AUTH_TOKEN_PATH": str(other)}
    sweep = start_sweep(project, cluster)
    said, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 1
    assert f"sweep: RAY_ADDRESS=127.0.0.1:{PORT}: the cluster refused the connection" in said
    assert experiments_of(project) == []
