"""A forge's workspace starts with what the README asks for."""

import json
from typing import Any

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    return content


def test_it_has_the_python_that_results_are_made_by(container: dict[str, Any]) -> None:
    image, _, tag = container["image"].partition(":")
    assert image == "python"
    assert tag.split("-")[0] == "3.11"


def test_it_makes_the_environment_by_a_target_of_the_makefile(container: dict[str, Any]) -> None:
    make, target = container["postCreateCommand"].split()
    assert make == "make"
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_its_editor_shows_dvc_and_takes_the_python_of_the_environment(container: dict[str, Any]) -> None:
    editor = container["customizations"]["vscode"]
    assert {"iterative.dvc", "ms-python.python"} <= {*editor["extensions"]}
    for key in ("python.defaultInterpreterPath", "dvc.pythonPath"):
        assert editor["settings"][key] == "${containerWorkspaceFolder}/.venv/bin/python"
