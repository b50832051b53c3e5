"""The notebook docs/tour.ipynb, run as a reader runs it."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from conftest import ROOT, Project
from nbclient import NotebookClient
from PIL import Image

TOUR = ROOT / "docs/tour.ipynb"


def test_it_is_kept_without_what_it_showed() -> None:
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.fixture(scope="module")
def shown(two_revisions: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[dict[str, Any]]]:
    """The project that it ran in, and the data that its cells showed."""
    folder = tmp_path_factory.mktemp("tour")
    project = two_revisions.copy_to(folder / "project")
    (project.folder / "docs").mkdir()
    shutil.copy(TOUR, project.folder / "docs")
    notebook = nbformat.read(TOUR, as_version=4)
    place = {"metadata": {"path": str(project.folder / "docs")}}  # where editors run it
    with pytest.MonkeyPatch.context() as patch:  # nothing is left in the home
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name))
        NotebookClient(notebook, timeout=300, resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return project, [output["data"] for output in outputs if "data" in output]


def picture(data: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))))


@pytest.mark.whole
def test_it_draws_what_the_command_draws(shown: tuple[Project, list[dict[str, Any]]], tmp_path: Path) -> None:
    project, outputs = shown
    command = ("python", "-m", "workflow.generate", "samples", "--count", "20", "--folder", str(tmp_path))
    for data, option in zip(outputs, ((), ("--binary",)), strict=False):
        project.succeed(*command, *option)
        drawn = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("*.png"))]
        sheet = picture(data)[::2, ::2]
        for number, image in enumerate(drawn):
            row, column = divmod(number, 10)
            assert (sheet[28 * row : 28 * row + 28, 28 * column : 28 * column + 28] == image).all()


@pytest.mark.whole
def test_it_interpolates_and_reconstructs(shown: tuple[Project, list[dict[str, Any]]]) -> None:
    project, outputs = shown
    paths, pairs = (picture(data)[::2, ::2] for data in outputs[2:4])
    assert paths.shape == (4 * 28, 280)
    assert len(np.unique(paths)) > 2
    images = np.load(project.folder / "data/prepared/test/images.npy")[:10]
    assert (pairs[:28] == np.round(np.hstack(list(images)) * 255)).all()
    assert (pairs[28:] != pairs[:28]).any()


@pytest.mark.whole
def test_it_says_what_the_comparison_says(shown: tuple[Project, list[dict[str, Any]]]) -> None:
    project, outputs = shown
    (words,) = (data["text/markdown"] for data in outputs if "text/markdown" in data)
    assert words in project.succeed("python", "-m", "workflow.compare", "main", "workspace")
