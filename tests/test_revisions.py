"""Revisions as git, DVC and the workspace have them."""

from pathlib import Path

import pytest
from conftest import Project

from pipeline.errors import StageError
from workflow.history.revisions import WORKSPACE, resolve


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two commits on main, a tag on the first, a branch and an experiment on the second; a change not committed."""
    project = Project(tmp_path)
    assert project.run("git", "init", "-q", "-b", "main").returncode == 0
    for content in ("first", "second"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "a file").write_text(content, encoding="utf-8")
        project.commit(content)
        if content == "first":
            git(project, "tag", "v1")
    git(project, "branch", "feature/other")
    git(project, "update-ref", f"refs/exps/ab/{'c' * 38}/wide", "HEAD")
    (tmp_path / "folder" / "a file").write_text("third", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return project


def git(project: Project, *arguments: str) -> str:
    done = project.run("git", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "content"),
    [("v1", b"first"), ("HEAD", b"second"), ("main", b"second"), ("feature/other", b"second"), ("wide", b"second"),
     ("HEAD~1", b"first"), (WORKSPACE, b"third")],
)  # fmt: skip
def test_each_kind_of_name_is_found(repository: Project, name: str, content: bytes) -> None:
    revision = resolve(name)
    assert revision.read("folder/a file") == content
    assert name in revision.label


def test_an_id_is_a_name(repository: Project) -> None:
    commit = git(repository, "rev-parse", "v1")
    assert resolve(commit[:7]).commit == commit
    assert resolve(commit).label == commit[:9]


@pytest.mark.parametrize("name", ["nix", "", "--help", "main:folder", "exec", "HEAD -- x", "$(touch pwned)"])
def test_other_names_are_refused_by_name(repository: Project, name: str) -> None:
    with pytest.raises(StageError, match="expected a commit, a branch, a tag, a DVC experiment") as refusal:
        resolve(name)
    assert repr(name) in str(refusal.value)
    assert "wide" in str(refusal.value)
    assert not Path("pwned").exists()


def test_two_experiments_of_one_name_are_told_apart_by_their_ids(repository: Project) -> None:
    git(repository, "update-ref", f"refs/exps/ef/{'0' * 38}/wide", "v1")
    with pytest.raises(StageError, match="names 2 DVC experiments"):
        resolve("wide")
    assert resolve(git(repository, "rev-parse", "v1")).read("folder/a file") == b"first"


def test_a_missing_file_is_none_or_an_error_that_says_what_to_do(repository: Project) -> None:
    for revision in (resolve("main"), resolve(WORKSPACE)):
        assert revision.read("metrics/none.json") is None
        assert revision.read("folder") is None
        with pytest.raises(StageError, match=r"has no file metrics/none\.json.*`dvc repro`"):
            revision.require("metrics/none.json")


def test_hashes_are_those_of_git_in_a_commit_and_in_the_workspace(repository: Project) -> None:
    (repository.folder / "folder" / "new").write_text("new", encoding="utf-8")
    here = resolve(WORKSPACE).hashes("folder", "absent")
    assert here == {name: git(repository, "hash-object", name) for name in ("folder/a file", "folder/new")}
    assert resolve("main").hashes("folder") == {"folder/a file": git(repository, "rev-parse", "main:folder/a file")}


def test_paths_are_given_from_the_project_also_where_git_begins_above_it(
    repository: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.folder / "folder")
    assert resolve("v1").read("a file") == b"first"
    assert list(resolve("v1").hashes("a file")) == ["a file"]
