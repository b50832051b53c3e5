"""Stage `fetch`: what the data sets give, what is written of it, and the sha256 that prove it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.datasets import digits, folder
from pipeline.errors import StageError
from pipeline.files import load_arrays
from pipeline.given import Given
from pipeline.params.data import SHA256_FILE, Data
from stages import fetch

DIGITS = {"name": "digits", "source": str(SHA256_FILE)}
FOLDER = {"name": "folder", "source": "mine", "side": 8, "fit": "crop", "background": 0, "invert": False}


def data_of(section: dict[str, Any]) -> Data:
    return Data.chosen(section).model_validate(section)


def run(at: Path, section: dict[str, Any], source: Path) -> dict[str, Any]:
    """Runs the stage; the metrics it writes."""
    fetch.run(data_of(section), source, at / "raw", at / "sheet.png", at / "data.json")
    return json.loads((at / "data.json").read_text(encoding="utf-8"))


def test_digits_are_those_of_scikit_learn_and_proven_by_the_committed_sha256(tmp_path: Path) -> None:
    listed = (ROOT / SHA256_FILE).read_text(encoding="utf-8")
    wrote = run(tmp_path, DIGITS, ROOT / SHA256_FILE)
    assert (ROOT / SHA256_FILE).read_text(encoding="utf-8") == listed
    arrays = load_arrays(tmp_path / "raw")
    pixels, labels = load_digits(return_X_y=True)
    assert arrays["images"].shape == (1797, 8, 8)
    assert np.abs(arrays["images"].reshape(1797, 64) / 255 - pixels / 16).max() <= 0.5 / 255
    np.testing.assert_array_equal(arrays["labels"], labels)
    assert set(np.unique(arrays["images"])) >= {0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 255}
    assert wrote["sha256"] == json.loads(listed)["digits"]
    assert (wrote["name"], wrote["image_shape"], wrote["classes"]) == ("digits", [8, 8], [*"0123456789"])
    assert wrote["published"] == {"validation": None, "test_ones": None}
    assert wrote["all"]["count"] == sum(wrote["all"]["per_class"]) == 1797
    assert wrote["all"]["pixel_mean"] == pytest.approx(pixels.mean() / 16, rel=1e-3)
    before = (tmp_path / "sheet.png").read_bytes()
    run(tmp_path, DIGITS, ROOT / SHA256_FILE)
    assert (tmp_path / "sheet.png").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "sheet.png", "data.json"}


def test_the_first_fetch_adds_to_the_file_and_another_array_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "sha256.json"
    source.write_text('{"other": {"images": "0"}}', encoding="utf-8")
    wrote = run(tmp_path, DIGITS, source)
    added = json.loads(source.read_text(encoding="utf-8"))
    assert added == {"digits": wrote["sha256"], "other": {"images": "0"}}
    assert capsys.readouterr().out == f"first fetch of digits: sha256 written to {source}; commit it\n"
    expected = added["digits"]["images"]
    added["digits"]["images"] = "0" * 64
    source.write_text(json.dumps(added), encoding="utf-8")
    (tmp_path / "again").mkdir()
    said = f"array images of digits: expected sha256 0{{64}}, found {expected}"
    with pytest.raises(StageError, match=said):
        run(tmp_path / "again", DIGITS, source)
    assert [*(tmp_path / "again").iterdir()] == []
    assert json.loads(source.read_text(encoding="utf-8")) == added


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_a_file_of_sha256_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    source = tmp_path / "sha256.json"
    if content:
        source.write_text(content, encoding="utf-8")
    with pytest.raises(StageError, match=r"sha256\.json cannot be read .* brings it back"):
        run(tmp_path, DIGITS, source)


def given(**changes: Any) -> Given:
    arrays = {"images": np.zeros((3, 4, 4), np.uint8), "labels": np.array([0, 1, 1], np.uint8)}
    known = {"title": "Mine", "licence": "", "citation": "", "classes": ("a", "b"), "arrays": arrays}
    return Given(**{**known, **changes})


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": np.zeros((3, 4, 4), np.uint8)}, "the arrays images, labels, pictures, expected train_images,"),
        ({"images": np.zeros((3, 4, 4))}, "images is float64"),
        ({"images": np.zeros((3, 16), np.uint8)}, r"images is uint8 \(3, 16\), expected uint8, 3 axes"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "has 2 images, expected 3 as its labels"),
        ({"labels": np.array([0, 0, 0], np.uint8)}, "labels are not all of 0 to 1"),
        ({"labels": np.array([0, 1, 2], np.uint8)}, "labels are not all of 0 to 1"),
    ],
)
def test_arrays_of_another_form_are_refused(arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(StageError, match=said):
        given(arrays={**given().arrays, **arrays})


def test_a_published_split_needs_published_test_images() -> None:
    with pytest.raises(StageError, match="a published split without test images"):
        given(validation=1)


def test_images_of_another_shape_than_stated_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "read", lambda *_: given())
    with pytest.raises(StageError, match=r"digits: images are of \(4, 4\) pixels, expected \(8, 8\)"):
        run(tmp_path, DIGITS, ROOT / SHA256_FILE)
    assert [*tmp_path.iterdir()] == []


# ---- a folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder of two classes, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB" if number else "L", (8, 8), (number,) * 3 if number else 1).save(tmp_path / "mine" / name)
    return tmp_path


def test_a_folder_is_read_and_what_was_done_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrote = run(project, FOLDER, Path("mine"))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "2 of 3 images: gray from RGB",
        "a/2.png has the pixels of a/1.png",
    ]
    arrays = load_arrays(project / "raw")
    assert arrays["images"][:, 0, 0].tolist() == [1, 1, 2]
    assert arrays["labels"].tolist() == [0, 0, 1]
    assert (wrote["name"], wrote["classes"], wrote["all"]["per_class"]) == ("folder", ["a", "b"], [2, 1])
    assert wrote["sha256"]["images"] == hashlib.sha256(arrays["images"].tobytes()).hexdigest()
    with Image.open(project / "sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_an_image_that_comes_while_others_are_read_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(scratch: Any) -> None:
        Image.new("L", (8, 8)).save(project / "mine/b/new.png")

    from pipeline import image_folder

    real = image_folder.read_folder
    monkeypatch.setattr(image_folder, "read_folder", lambda *rest: (add(None), real(*rest))[1])
    with pytest.raises(StageError, match="images came or went while mine was read"):
        run(project, FOLDER, Path("mine"))
    assert not (project / "raw").exists()


def test_links_lead_into_the_cache_that_dvc_names(project: Path) -> None:
    for command in (["init", "-q", "--no-scm"], ["cache", "dir", "--local", "../shared"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True, capture_output=True)
    assert folder._cache() == project.parent / "shared"
    (project.parent / "shared").mkdir()
    os.rename(project / "mine/a/1.png", project.parent / "shared/kept")
    (project / "mine/a/1.png").symlink_to(project.parent / "shared/kept")
    assert run(project, FOLDER, Path("mine"))["all"]["count"] == 3


@pytest.mark.parametrize("name", ["digits", "emnist", "fashion_mnist", "folder", "kmnist", "mnist"])
def test_what_check_imports_loads_no_heavy_library(name: str) -> None:
    heavy = "tensorflow", "tensorflow_datasets", "sklearn", "PIL"
    script = f"import sys; sys.modules.update(dict.fromkeys({heavy})); import pipeline.datasets.{name}"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
