"""A folder of images that git ignores and DVC keeps: what audits and comparisons make of it without the folder."""

import shutil
from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from pipeline.errors import StageError
from workflow.audit.checkout import bring_images
from workflow.history.lock import contradictions
from workflow.history.revisions import resolve
from workflow.history.staleness import stale_stages

IMAGES = {"images/boots/a.png": b"a boot", "images/b.png": b"no class"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stage that reads a folder of images, run and committed."""
    project = Project(tmp_path_factory.mktemp("kept") / "project")
    for path, content in IMAGES.items():
        (project.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / path).write_bytes(content)
    stage = {"cmd": "mkdir -p data && cp images/b.png data/raw", "deps": ["images"], "params": ["data"]}
    YAML().dump({"stages": {"fetch": {**stage, "outs": ["data/raw"]}}}, project.folder / "dvc.yaml")
    YAML().dump({"data": {"name": "folder", "source": "images"}, "model": {}}, project.folder / "params.yaml")
    project.succeed("git", "init", "-q", "-b", "main")
    project.succeed("dvc", "init", "-q")
    project.succeed("dvc", "add", "-q", "images")
    project.succeed("dvc", "repro", "-q")
    project.commit("Results")
    return project


@pytest.fixture
def kept(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = made.copy_to(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    return project


def test_images_that_dvc_keeps_need_not_be_here(kept: Project) -> None:
    shutil.rmtree(kept.folder / "images")
    assert contradictions(resolve("HEAD")) == contradictions(resolve("workspace")) == []
    assert stale_stages() == []
    replaced = (kept.folder / "images.dvc").read_text(encoding="utf-8").replace("md5: ", "md5: 0", 1)
    (kept.folder / "images.dvc").write_text(replaced, encoding="utf-8")
    assert contradictions(resolve("workspace")) == ["images: not what fetch read"]


def test_an_audit_brings_them_from_the_cache(kept: Project, tmp_path: Path) -> None:
    shutil.rmtree(kept.folder / "images")
    place = tmp_path / "checkout"
    place.mkdir()
    shutil.copy(kept.folder / "params.yaml", place)
    assert bring_images(resolve("HEAD"), place)
    assert {str(file.relative_to(place)): file.read_bytes() for file in (place / "images").rglob("*.png")} == IMAGES
    next((kept.folder / ".dvc/cache/files/md5").rglob("*.dir")).unlink()
    with pytest.raises(StageError, match="DVC's cache lacks images; `dvc pull`"):
        bring_images(resolve("HEAD"), place)


def test_images_that_nobody_else_has_are_said_to_be_so(kept: Project) -> None:
    kept.succeed("git", "rm", "-q", "images.dvc")
    kept.commit("Forgotten")
    said = "images: neither in git nor kept by DVC, and fetch read it: `dvc add images`"
    assert contradictions(resolve("HEAD")) == [said]
    with pytest.raises(StageError, match=r"kept by DVC, so nobody else has them; expected images\.dvc"):
        bring_images(resolve("HEAD"), kept.folder)
    YAML().dump({"data": {"name": "digits", "source": "dvc.yaml"}}, kept.folder / "params.yaml")
    assert not bring_images(resolve("HEAD"), kept.folder)
