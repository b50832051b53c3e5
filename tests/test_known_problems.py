"""What docs/known_problems.md says of other projects and of this one, and that each test which it names exists."""

import ast
import re
import time
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from conftest import IDENTITY, ROOT, Project
from packaging.requirements import Requirement

PAGE = (ROOT / "docs" / "known_problems.md").read_text(encoding="utf-8")

#: A stage that edits its own source while it runs.
EDITED = """\
stages:
  edited:
    cmd: cat source > made && echo edited > source
    deps: [source]
    outs: [made]
"""


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """An empty repository of git and DVC."""
    project = Project(tmp_path)
    project.succeed("git", "init", "-q")
    project.succeed("dvc", "init", "-q")
    return project


def test_each_line_has_a_link_and_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| \[(\S+)#(\d+)\]\(https://github.com/(\S+)/(?:issues|pull)/(\d+)\)(.*)$", PAGE, re.MULTILINE)
    assert len(rows) == PAGE.count("\n| [") >= 9
    assert rows[0][:2] == ("treeverse/dvc", "11058")
    for owner, number, linked, again, rest in rows:
        assert (owner, number) == (linked, again)
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", rest)
        assert named, owner + number
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_what_tfds_imports_and_does_not_require_is_required_here() -> None:
    theirs = map(Requirement, requires("tensorflow-datasets") or [])
    needed = {it.name for it in theirs if it.marker is None or it.marker.evaluate({"extra": ""})}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "importlib_resources" not in needed  # once it is, the line of the page can go
    assert "importlib-resources" in {Requirement(it).name for it in project["dependencies"]}


@pytest.mark.whole
def test_dvc_alone_takes_an_edit_during_a_run_for_the_cause(bare: Project) -> None:
    (bare.folder / "dvc.yaml").write_text(EDITED, encoding="utf-8")
    (bare.folder / "source").write_text("first\n", encoding="utf-8")
    bare.succeed("dvc", "repro")
    assert (bare.folder / "made").read_text(encoding="utf-8") == "first\n"
    assert "up to date" in bare.succeed("dvc", "status")  # though the source is another one


@pytest.mark.whole
def test_a_hundred_experiments_are_read_once_and_then_shown_soon(finished: Project, tmp_path: Path) -> None:
    """Experiments as DVC keeps them: commits below refs/exps, each with another parameter."""
    finished.succeed("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    base = clone.succeed("git", "rev-parse", "HEAD").strip()
    params = (clone.folder / "params.yaml").read_text(encoding="utf-8")
    for number in range(100):
        other = re.sub(r"latent_dim: \d+", f"latent_dim: {number + 100}", params)
        assert other != params
        (clone.folder / "params.yaml").write_text(other, encoding="utf-8")
        clone.succeed("git", *IDENTITY, "commit", "-q", "--all", "-m", f"trial {number}")
        clone.succeed("git", "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/trial-{number}", "HEAD")
        clone.succeed("git", "reset", "-q", "--hard", base)
    seconds = []
    for _ in range(2):
        start = time.monotonic()
        table = clone.succeed("dvc", "exp", "show", "--csv")
        seconds.append(time.monotonic() - start)
        assert {f"trial-{number}" for number in range(100)} <= set(re.findall(r"trial-\d+", table))
    assert seconds[1] < seconds[0] / 4  # DVC reads an experiment once
