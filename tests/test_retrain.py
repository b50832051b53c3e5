"""Retraining as a CI runs it: the steps of the workflow files, on real branches of the slice."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

WORKFLOWS = ROOT / ".github" / "workflows"

#: A name that git allows for a branch and no shell may run.
HOSTILE = "x$(touch${IFS}pwned);`touch${IFS}pwned`"


def workflow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(WORKFLOWS / name)
    return content


def steps(name: str, job: str) -> list[dict[str, Any]]:
    """Steps of a job that run a command, but for the set-up, which would install everything anew."""
    return [step for step in workflow(name)["jobs"][job]["steps"] if step.get("run", "make setup") != "make setup"]


def run_steps(
    project: Project, name: str, job: str, values: Mapping[str, str]
) -> list[subprocess.CompletedProcess[str]]:
    """Runs the steps as GitHub would: bash, stopping at the first error but for steps that run all the same."""
    done: list[subprocess.CompletedProcess[str]] = []
    for step in steps(name, job):
        if any(step_before.returncode for step_before in done) and "cancelled()" not in step.get("if", ""):
            continue
        given = {key: values[str(value).strip("${} ")] for key, value in step.get("env", {}).items()}
        given["GITHUB_STEP_SUMMARY"] = str(project.folder / "summary.md")
        done.append(project.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], env=given))
    return done


@pytest.fixture
def checkout(project: Project) -> Project:
    """The finished project as a checkout whose set-up is done."""
    python = project.folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return project


def switch(project: Project, name: str) -> None:
    done = project.run("git", "switch", "-q", "-c", name, "main")
    assert done.returncode == 0, done.stderr


def retrain(project: Project, base: str = "main") -> tuple[subprocess.CompletedProcess[str], Path]:
    """The pull request's job, and its folder."""
    first, *_ = run_steps(project, "retrain.yml", "retrain", {"github.event.pull_request.base.sha": base})
    return first, project.folder / "verdict"


@pytest.mark.parametrize(
    ("changes", "status", "verdict"),
    [({"learning_rate": 1e-6}, 1, "Worse"), ({"learning_rate": 3e-3, "epochs": 8}, 0, "Better")],
)
def test_a_stale_branch_is_retrained_and_judged(
    checkout: Project, changes: Mapping[str, Any], status: int, verdict: str
) -> None:
    switch(checkout, HOSTILE)
    checkout.set_params({"train": changes})
    checkout.commit("Another learning rate")
    done, folder = retrain(checkout)
    assert done.returncode == status, done.stdout + done.stderr
    text = (folder / "verdict.md").read_text(encoding="utf-8")
    assert text.startswith("dvc.lock was stale, check, train, ")
    assert f"{verdict}: the binarised NLL of validation images went from" in text
    assert text == (checkout.folder / "summary.md").read_text(encoding="utf-8")
    assert json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["verdict"] == verdict.lower()
    assert f'class="verdict {verdict.lower()}"' in (folder / "report.html").read_text(encoding="utf-8")
    assert not list(checkout.folder.glob("**/pwned"))

    trained = checkout.tracked_results()
    assert checkout.run("git", "checkout", "-q", "--", "dvc.lock", "metrics").returncode == 0
    assert checkout.tracked_results() != trained
    assert checkout.run("git", "apply", "verdict/results.patch").returncode == 0
    assert checkout.tracked_results() == trained


def test_a_branch_whose_lock_is_true_runs_nothing_and_needs_no_data(checkout: Project) -> None:
    switch(checkout, "same")
    for folder in ("data", ".dvc/cache"):
        assert checkout.run("rm", "-rf", folder).returncode == 0
    done, folder = retrain(checkout)
    assert done.returncode == 0, done.stderr
    assert "nothing to retrain" in done.stdout
    assert not (checkout.folder / "data").exists()
    assert not (folder / "results.patch").exists()


def test_an_edited_metric_is_refused_though_it_makes_the_branch_better(checkout: Project) -> None:
    switch(checkout, "edited")
    path = checkout.folder / "metrics" / "evaluation.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["validation"]["binarised"]["nll_nats"] -= 0.1
    path.write_text(json.dumps(metrics), encoding="utf-8")
    checkout.commit("A better figure")
    done, folder = retrain(checkout)
    assert done.returncode == 1
    assert "A committed result is not its pipeline's: metrics/evaluation.json" in done.stdout
    assert (folder / "results.patch").stat().st_size  # which brings the true one back


def test_what_cannot_be_judged_has_a_status_of_its_own(checkout: Project) -> None:
    switch(checkout, "broken")
    done, folder = retrain(checkout, base=HOSTILE)
    assert (done.returncode, folder.exists()) == (2, False)
    assert "expected a commit" in done.stderr
    checkout.set_params({"train": {"epochs": 0}})
    done, folder = retrain(checkout)
    assert (done.returncode, folder.exists()) == (2, False)
    assert "train.epochs = 0" in done.stdout + done.stderr
    assert not list(checkout.folder.glob("**/pwned"))


def test_everything_run_again_gives_the_committed_results(checkout: Project) -> None:
    before = checkout.tracked_results()
    done = run_steps(checkout, "retrain-weekly.yml", "retrain", {})
    assert [step.returncode for step in done] == [0, 0], done[0].stderr
    assert "Every stage ran again; a metric is at most 0 nats from the committed one" in done[0].stdout
    assert checkout.tracked_results() == before


def test_new_results_are_offered_on_a_branch(checkout: Project, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    assert checkout.run("git", "init", "-q", "--bare", str(remote)).returncode == 0
    assert checkout.run("git", "remote", "add", "origin", str(remote)).returncode == 0
    fake = tmp_path / "bin" / "gh"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>"$ASKED"\n', encoding="utf-8")
    fake.chmod(0o755)
    folder = checkout.folder / "verdict"
    folder.mkdir()
    (folder / "verdict.md").write_text("Better: a figure\n\nand more\n", encoding="utf-8")
    values = {"github.token": "none", "github.run_id": HOSTILE}
    path = f"{fake.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def offer() -> subprocess.CompletedProcess[str]:
        (step,) = steps("retrain-weekly.yml", "branch")
        given = {key: values[str(value).strip("${} ")] for key, value in step["env"].items()}
        return checkout.run(
            "bash", "-eo", "pipefail", "-c", step["run"], env={**given, "PATH": path, "ASKED": str(tmp_path / "asked")}
        )

    done = offer()
    assert (done.returncode, done.stdout) == (0, "open_branch: the results are the committed ones; nothing to merge\n")
    history = checkout.folder / "metrics" / "history.csv"
    content = history.read_bytes()
    history.write_bytes(content + b"9,9\n")
    patch = checkout.run("git", "diff", "--binary", "--", "metrics").stdout
    history.write_bytes(content)
    (folder / "results.patch").write_text(patch, encoding="utf-8")
    assert checkout.run("git", "status", "--porcelain", "metrics").stdout == ""  # as in a fresh checkout
    done = offer()
    assert done.returncode == 0, done.stderr
    pushed = checkout.run("git", "-C", str(remote), "show", f"retrain/{HOSTILE}:metrics/history.csv").stdout
    assert pushed.encode() == content + b"9,9\n"
    assert "pr\ncreate\n--head\n" + f"retrain/{HOSTILE}" in (tmp_path / "asked").read_text(encoding="utf-8")
    assert not list(checkout.folder.glob("**/pwned"))


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_workflows_have_least_rights_and_no_foreign_text_in_a_shell_line(name: str) -> None:
    content = workflow(name)
    assert content["permissions"] == {"contents": "read"}
    assert not {"pull_request_target", "workflow_run"} & set(content.get("on", content.get(True)))
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 120
        if "permissions" in job:
            commands = " ".join(step.get("run", "") for step in job["steps"])
            assert "make" not in commands.split()
            assert "workflow.retrain" not in commands
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            assert "secrets" not in json.dumps(step)
            if "uses" in step:
                assert len(step["uses"].partition("@")[2]) == 40
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (("actionlint",), "      - run: echo ${{ github.event.pull_request.title }}"),
        (("zizmor", "--offline", "--no-progress"), "      - run: echo ${{ github.event.pull_request.title }}"),
        (("zizmor", "--offline", "--no-progress"), "      - uses: actions/checkout@v5"),
    ],
)
def test_the_linters_find_what_they_are_there_for(program: tuple[str, ...], line: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    head = "name: Bad\non: pull_request\npermissions: {}\njobs:\n  bad:\n    runs-on: ubuntu-24.04\n    steps:\n"
    path.write_text(f"{head}{line}\n", encoding="utf-8")
    assert Project(tmp_path).run(*program, str(path)).returncode != 0
