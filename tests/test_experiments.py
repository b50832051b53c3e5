"""What docs/experiments.md shows works in a clone without a remote, and branches merge to the true result."""

from collections.abc import Mapping
from typing import Any

import pytest
from conftest import Project


def said(project: Project, *command: str) -> str:
    done = project.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def clone(project: Project) -> Project:
    assert said(project, "git", "remote") == said(project, "dvc", "remote", "list") == ""
    return project


def await_queue(project: Project) -> None:
    """Asks DVC, which takes its time to answer, until no task of the queue waits or runs."""
    for _ in range(600):
        if not {"Queued", "Running"} & set(said(project, "dvc", "queue", "status").split()):
            return
    raise AssertionError("the queue did not end")


@pytest.mark.whole
def test_queued_experiments_run_two_at_a_time_and_are_taken_over(clone: Project) -> None:
    with (clone.folder / "vae/representation.py").open("a", encoding="utf-8") as code:
        code.write("changed = True\n")
    for name, neighbours in (("near", "[2]"), ("far", "[9]")):
        setting = f"represent.neighbours={neighbours}"
        said(clone, "dvc", "exp", "run", "--queue", "--name", name, "--set-param", setting, "represent")
    said(clone, "dvc", "queue", "start", "--jobs", "2")
    await_queue(clone)
    listed = said(clone, "dvc", "exp", "list", "--name-only").split()
    assert {"near", "far"} <= set(listed)

    shown = [line.partition(",")[0] for line in said(clone, "dvc", "exp", "show", "--csv").splitlines()]
    assert {"near", "far"} <= set(shown)
    said(clone, "dvc", "exp", "apply", "far")
    assert '"neighbours": 9' in (clone.folder / "metrics" / "representation.json").read_text(encoding="utf-8")
    assert "Running stage" not in clone.repro("represent")  # the digests came with it
    said(clone, "git", "checkout", "--", ".")
    said(clone, "dvc", "exp", "branch", "near", "nearer")
    assert '"neighbours": 2' in said(clone, "git", "show", "nearer:metrics/representation.json")


def change(project: Project, changes: Mapping[str, Mapping[str, Any]], *modules: str) -> None:
    """Changes parameters, and the code of modules."""
    project.set_params(changes)
    for module in modules:
        with (project.folder / module).open("a", encoding="utf-8") as code:
            code.write("changed = True\n")


def commit_of(project: Project, name: str, changes: Mapping[str, Mapping[str, Any]], *modules: str) -> None:
    """A branch from main on which the pipeline ran with these changes."""
    said(project, "git", "switch", "-q", "-c", name, "main")
    change(project, changes, *modules)
    project.repro()
    project.commit(name)


@pytest.mark.whole
def test_branches_that_change_other_parameters_and_other_code_merge_to_the_true_result(clone: Project) -> None:
    commit_of(clone, "wider", {"represent": {"neighbours": [2]}, "export": {"images": 15}}, "stages/export.py")
    commit_of(clone, "farther", {"outliers": {"images": 30}}, "vae/representation.py")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    merged = clone.run("git", *identity, "merge", "wider")
    assert "CONFLICT" in merged.stdout  # of what is generated only; its present side is whole
    unmerged = said(clone, "git", "diff", "--name-only", "--diff-filter=U").split()
    assert unmerged
    assert all(path == "dvc.lock" or path.startswith("metrics/") for path in unmerged)
    clone.repro()
    clone.commit("Merged")
    assert clone.run("git", "merge-base", "--is-ancestor", "wider", "HEAD").returncode == 0
    results = clone.tracked_results()

    said(clone, "git", "switch", "-q", "-c", "at-once", "main")
    changes = {"represent": {"neighbours": [2]}, "export": {"images": 15}, "outliers": {"images": 30}}
    change(clone, changes, "stages/export.py", "vae/representation.py")
    clone.repro("--force", "--no-run-cache")
    assert clone.tracked_results() == results
