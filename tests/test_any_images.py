"""Other data sets through the whole pipeline and every command: scikit-learn's digits, and a folder of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import VALIDATION, Project
from PIL import Image
from ruamel.yaml import YAML

#: DVC's status when a stage fails.
FAILED = 255

pytestmark = pytest.mark.whole

#: What the tests' parameters have to be for few images.
FEW: dict[str, dict[str, Any]] = {
    "preprocess": {"split": "stratified"},
    "train": {"batch_size": 20},
    **{section: {"images": "all"} for section in ("refine", "outliers", "explore", "export")},
    "samples": {"images": "all", "neighbours": 1},
}
FOLDER = {"name": "folder", "source": "images", "side": 12, "fit": "pad", "background": 0, "invert": False}
CLASSES = {"bars": (9, 30), "dots": (20, 20)}


def choose(project: Project, data: dict[str, Any]) -> None:
    """Makes a data set the project's, in place of its own, and commits what it gives."""
    params = YAML(typ="safe").load(project.folder / "params.yaml")
    with (project.folder / "params.yaml").open("w", encoding="utf-8") as handle:
        YAML().dump({**params, "data": data}, handle)
    project.set_params(FEW)
    project.repro()
    project.commit(f"Another data set: {data['name']}")


def write_images(folder: Path) -> None:
    """Eighty images of each class: bright on dark, of many sizes, in colour or gray."""
    generator = np.random.default_rng(0)
    for name, (rows, columns) in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(80):
            height, width = generator.integers(40, 80, 2)
            pixels = np.zeros((height, width, 3), np.uint8)
            top, left = generator.integers(0, (height - rows, width - columns))
            pixels[top : top + rows, left : left + columns] = generator.integers(150, 256, 3)
            image = Image.fromarray(pixels)
            (image.convert("L") if number % 2 else image).save(folder / name / f"{number:02}.png")


def test_digits_pass_every_stage_and_command(project: Project) -> None:
    choose(project, {"name": "digits", "source": "datasets.json"})
    facts, found = project.json("metrics/data.json"), project.json("metrics/evaluation.json")
    assert (facts["image_shape"], facts["all"]["count"]) == ([8, 8], 1797)
    # an untrained model of the mean image has 64 ln 2 nats
    assert 0 < found["test"]["binarised"]["nll_nats"] < 64 * np.log(2)
    bits = found["test"]["binarised"]["nll_nats"] / (64 * np.log(2))
    assert found["test"]["binarised"]["nll_bits_per_dim"] == pytest.approx(bits, rel=1e-4)
    tests = len(np.load(project.folder / "data/prepared/test/labels.npy"))
    assert found["test"]["gap"]["images"] == tests
    assert project.json("metrics/outliers.json")["test"]["images"] == 229 // 3  # of the smaller split, validation

    project.succeed("python", "-m", "workflow.report", "HEAD", "--output", "page.html")
    assert "class 0" not in (project.folder / "page.html").read_text(encoding="utf-8")
    project.succeed("python", "-m", "workflow.audit", "HEAD", "--quick")
    project.succeed("python", "-m", "workflow.generate", "samples", "--count", "9", "--output", "samples.png")
    assert Image.open(project.folder / "samples.png").size == (3 * (8 + 2) + 2,) * 2
    Image.new("RGB", (30, 20), "white").save(project.folder / "white.png")
    said = project.succeed("python", "-m", "workflow.generate", "reconstruct", "white.png", "--output", "made")
    assert "gray from RGB" in said
    assert Image.open(project.folder / "made/white.png").size == (8, 8)
    said = project.fail("python", "-m", "workflow.compare", "HEAD~1", "HEAD", status=2)
    assert "fashion_mnist" in said
    assert "digits" in said


def test_a_folder_of_images_passes_every_stage_and_command(project: Project) -> None:
    write_images(project.folder / "images")
    project.succeed("dvc", "add", "images")
    choose(project, FOLDER)
    assert project.json("metrics/data.json")["classes"] == ["bars", "dots"]
    assert "up to date" in project.succeed("dvc", "status")
    project.succeed("python", "-m", "workflow.report", "HEAD", "--output", "page.html")
    project.succeed("python", "-m", "workflow.audit", "HEAD", "--quick")
    project.succeed("python", "-m", "workflow.generate", "samples", "--output", "samples.png")
    given = project.folder / "images/bars/00.png"
    said = project.succeed("python", "-m", "workflow.generate", "reconstruct", str(given), "--output", "made")
    assert "gray from RGB" in said

    kept = given.read_bytes()
    given.write_bytes((project.folder / "images/dots/01.png").read_bytes())
    assert "fetch:" in project.succeed("dvc", "status")
    given.unlink()
    assert "fetch:" in project.succeed("dvc", "status")
    given.write_bytes(kept)
    assert "up to date" in project.succeed("dvc", "status")

    project.succeed("dvc", "config", "cache.type", "symlink")
    project.succeed("dvc", "checkout", "--relink", "images")
    assert given.is_symlink()  # into the cache, which is no foreign link
    project.set_params({"data": {"side": 16}})
    project.repro("preprocess")
    assert np.load(project.folder / "data/prepared/test/images.npy").shape[1:] == (16, 16)


def test_gray_targets_alone_pass_every_stage(project: Project) -> None:
    project.set_params({"preprocess": {"binarisation": "none"}})
    project.repro()
    found = project.json("metrics/evaluation.json")["test"]
    assert found.keys() == {"gray"}
    project.commit("No binary images")
    project.succeed("python", "-m", "workflow.report", "HEAD", "--output", "page.html")
    project.succeed("python", "-m", "workflow.audit", "HEAD", "--quick")
    project.succeed("python", "-m", "workflow.summary")
    assert "no difference seen" in project.succeed("python", "-m", "workflow.compare", "HEAD", "workspace")


def test_going_back_to_a_data_set_trains_nothing(project: Project) -> None:
    before = project.tracked_results()
    project.set_params({"preprocess": {"split": "stratified"}, "train": {"epochs": 1}})
    assert "Running stage 'train'" in project.repro("train")
    project.succeed("git", "restore", "params.yaml")
    assert "Running stage 'train'" not in project.repro()
    assert project.tracked_results() == before


def test_a_count_beyond_the_images_is_refused_with_the_greatest(project: Project) -> None:
    project.set_params({"export": {"images": VALIDATION + 1}})
    said = project.fail("dvc", "repro", "export", status=FAILED)
    assert f"export.images = {VALIDATION + 1}: it should be at most {VALIDATION}" in said
