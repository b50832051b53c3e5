"""Retraining as a CI runs it: the steps of the workflow files, on real branches of the slice."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from conftest import WORKFLOWS, Project, keep_stages, run_steps, workflow

from workflow.compare.tolerance import tolerated

#: A name that git allows for a branch and no shell may run.
HOSTILE = "x$(touch${IFS}pwned);`touch${IFS}pwned`"


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def switch(project: Project, name: str) -> None:
    done = project.run("git", "switch", "-q", "-c", name, "main")
    assert done.returncode == 0, done.stderr


def forget(project: Project, *folders: str) -> None:
    """Removes what no fresh checkout has, or what a CI has not restored."""
    for folder in folders:
        shutil.rmtree(project.folder / folder)


def stages_run(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Stages whose command DVC ran."""
    return re.findall(r"^Running stage '(\w+)':$", done.stdout, flags=re.MULTILINE)


def verdict_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return content


def retrain(project: Project, base: str = "main") -> tuple[subprocess.CompletedProcess[str], Path]:
    """The pull request's job, and its folder."""
    first, *_ = run_steps(project, "retrain.yml", "retrain", {"github.event.pull_request.base.sha": base})
    return first, project.folder / "verdict"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("changes", "absent", "status", "verdict"),
    [
        ({"learning_rate": 1e-6}, ("data",), 1, "Worse"),
        ({"learning_rate": 3e-3, "epochs": 8}, ("data", ".dvc/cache"), 0, "Better"),
    ],
    ids=["worse, cache restored", "better, nothing restored"],
)
def test_a_stale_branch_is_retrained_and_judged(
    checkout: Project, changes: Mapping[str, Any], absent: tuple[str, ...], status: int, verdict: str
) -> None:
    keep_stages(checkout, "check", "fetch", "preprocess", "train", "evaluate", "refine", "summarise")
    checkout.commit("What is judged")
    switch(checkout, HOSTILE)
    checkout.set_params({"train": changes})
    checkout.commit("Another learning rate")
    forget(checkout, *absent)
    done, folder = retrain(checkout)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("preprocess" in stages_run(done)) == (".dvc/cache" in absent)
    text = (folder / "verdict.md").read_text(encoding="utf-8")
    assert text.startswith(f"{verdict}: the binarised NLL of validation images went from")
    assert "dvc.lock was stale for check, train, " in text
    assert text == (checkout.folder / "summary.md").read_text(encoding="utf-8")
    assert (verdict_of(folder)["verdict"], verdict_of(folder)["status"]) == (verdict.lower(), status)
    assert f'class="verdict {verdict.lower()}"' in (folder / "report.html").read_text(encoding="utf-8")
    assert not list(checkout.folder.glob("**/pwned"))

    trained = checkout.tracked_results()
    assert checkout.run("git", "checkout", "-q", "--", "dvc.lock", "metrics").returncode == 0
    assert checkout.tracked_results() != trained
    assert checkout.run("git", "apply", "verdict/results.patch").returncode == 0
    assert checkout.tracked_results() == trained


@pytest.mark.whole
def test_a_branch_whose_lock_is_true_runs_nothing_and_needs_no_data(checkout: Project) -> None:
    switch(checkout, "same")
    forget(checkout, "data", ".dvc/cache")
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


@pytest.mark.whole
def test_a_change_of_figures_trains_nothing(checkout: Project) -> None:
    switch(checkout, "figures")
    checkout.set_params({"figures": {"prior_samples": 16}})
    checkout.commit("More samples")
    forget(checkout, "data")
    done, folder = retrain(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(stages_run(done)) == {"check", "figures"}
    assert verdict_of(folder)["verdict"] == "no difference seen"
    assert any("gave the committed results within tolerance" in said for said in verdict_of(folder)["findings"])


#: Damages by name, and the stages that they make stale. Only the first is not left to a whole run.
DAMAGES: Mapping[str, tuple[Callable[[Path], object], list[str]]] = {
    "code": (lambda folder: append(folder / "vae/plots.py", "x = 1\n"), ["check", "figures"]),
    "nothing": (lambda _: None, []),
    "comment": (lambda folder: append(folder / "vae/plots.py", "# why\n"), ["check"]),
    "edited metric": (lambda folder: append(folder / "metrics/samples.json", "\n"), ["samples", "describe"]),
    "missing metric": (lambda folder: (folder / "metrics/samples.json").unlink(), ["samples", "describe"]),
    "command": (lambda folder: edit(folder / "dvc.yaml", "stages samples", "stages  samples"), ["samples"]),
}


@pytest.mark.parametrize("name", ["code", *(pytest.param(name, marks=pytest.mark.whole) for name in [*DAMAGES][1:])])
def test_stale_stages_are_named_without_data(checkout: Project, name: str) -> None:
    damage, stale = DAMAGES[name]
    forget(checkout, "data", ".dvc/cache")
    damage(checkout.folder)
    ask = "from workflow.history.staleness import stale_stages; print(stale_stages())"
    done = checkout.run(sys.executable, "-c", ask)
    assert done.stdout.strip() == str(stale), done.stderr


@pytest.mark.whole
def test_what_cannot_be_judged_has_a_status_of_its_own(checkout: Project) -> None:
    switch(checkout, "broken")
    done, folder = retrain(checkout, base=HOSTILE)
    assert done.returncode == 2
    assert "expected a commit" in done.stderr
    checkout.set_params({"train": {"epochs": 0}})
    done, folder = retrain(checkout)
    assert done.returncode == 2
    assert "train.epochs = 0" in done.stdout + done.stderr
    assert (folder / "verdict.md").read_text(encoding="utf-8").startswith("Not judged: `dvc repro` failed")
    assert not (folder / "results.patch").exists()
    edit(checkout.folder / "dvc.lock", "stages:", "stages: [")
    done, folder = retrain(checkout)
    assert done.returncode == 2
    assert "'./dvc.lock' is invalid" in done.stderr
    assert not list(checkout.folder.glob("**/pwned"))


@pytest.mark.whole
def test_new_results_are_kept_where_the_base_has_none(checkout: Project) -> None:
    switch(checkout, "first")
    assert checkout.run("git", "rm", "-q", "metrics/per_image.npz").returncode == 0
    checkout.commit("Before there were losses of images")
    done, folder = retrain(checkout, base="HEAD")
    assert done.returncode == 2
    assert "has no file metrics/per_image.npz" in done.stderr
    assert verdict_of(folder)["status"] == 2
    assert checkout.run("git", "apply", "--check", "-R", "verdict/results.patch").returncode == 0


@pytest.mark.whole
def test_a_metric_edited_together_with_its_lock_is_found_by_running_again(checkout: Project) -> None:
    true = checkout.tracked_results()
    path, lock = checkout.folder / "metrics" / "evaluation.json", checkout.folder / "dvc.lock"
    before = path.read_bytes()
    metrics = json.loads(before)
    metrics["validation"]["binarised"]["nll_nats"] -= 2 * tolerated("metrics/evaluation.json", "nll_nats")
    path.write_text(json.dumps(metrics), encoding="utf-8")
    edit(lock, *(md5(content, usedforsecurity=False).hexdigest() for content in (before, path.read_bytes())))
    checkout.commit("A better figure, and a lock that agrees")
    done, *_ = run_steps(checkout, "retrain-weekly.yml", "retrain", {})
    assert done.returncode == 1, done.stdout + done.stderr
    found = verdict_of(checkout.folder / "verdict")["findings"]
    assert any("beyond what is tolerated" in said and "nll_nats by" in said for said in found)
    assert checkout.tracked_results() == true


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the forge was asked for, an argument a line, by a program in place of its own."""
    forge = tmp_path / "bin" / "gh"
    forge.parent.mkdir()
    forge.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>"$ASKED"\n', encoding="utf-8")
    forge.chmod(0o755)
    monkeypatch.setenv("PATH", f"{forge.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    return tmp_path / "asked"


def test_the_verdict_is_a_comment(checkout: Project, asked: Path) -> None:
    values = {"github.token": "none", "github.event.pull_request.number": "7", "github.repository": HOSTILE}
    (done,) = run_steps(checkout, "retrain.yml", "comment", values)
    assert done.returncode == 0, done.stderr
    words = asked.read_text(encoding="utf-8").splitlines()
    assert words[:5] == ["pr", "comment", "7", "--repo", HOSTILE]
    assert words[words.index("--body-file") + 1] == "verdict/verdict.md"
    assert not list(checkout.folder.glob("**/pwned"))


def test_new_results_are_offered_on_a_branch(checkout: Project, tmp_path: Path, asked: Path) -> None:
    remote = tmp_path / "remote.git"
    assert checkout.run("git", "init", "-q", "--bare", str(remote)).returncode == 0
    assert checkout.run("git", "remote", "add", "origin", str(remote)).returncode == 0
    folder = checkout.folder / "verdict"
    folder.mkdir()
    (folder / "verdict.md").write_text("Better: a figure\n\nand more\n", encoding="utf-8")
    values = {"github.token": "none", "github.run_id": HOSTILE, "github.ref_name": HOSTILE}

    (done,) = run_steps(checkout, "retrain-weekly.yml", "branch", values)
    assert (done.returncode, done.stdout) == (0, "open_branch: the results are the committed ones; nothing to merge\n")
    history = checkout.folder / "metrics" / "history.csv"
    content = history.read_bytes()
    history.write_bytes(content + b"9,9\n")
    patch = checkout.run("git", "diff", "--binary", "--", "metrics").stdout
    history.write_bytes(content)
    foreign = "diff --git a/stages/new.py b/stages/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/stages/new.py\n"
    (folder / "results.patch").write_text(f"{patch}{foreign}@@ -0,0 +1 @@\n+pwned\n", encoding="utf-8")
    assert checkout.run("git", "status", "--porcelain", "metrics").stdout == ""  # as in a fresh checkout

    (done,) = run_steps(checkout, "retrain-weekly.yml", "branch", values)
    assert done.returncode == 0, done.stderr
    pushed = checkout.run("git", "-C", str(remote), "show", f"retrain/{HOSTILE}:metrics/history.csv").stdout
    assert pushed.encode() == content + b"9,9\n"
    changed = checkout.run("git", "diff", "--name-only", "main", "HEAD").stdout.split()
    assert changed == ["metrics/history.csv"]  # and no source that the patch has beside it
    words = asked.read_text(encoding="utf-8")
    assert f"pr\ncreate\n--base\n{HOSTILE}\n--head\nretrain/{HOSTILE}\n" in words
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
