"""The prepared splits hold the given images with their own labels, and binary images as the parameters say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import save_arrays
from pipeline.params.preprocess import Preprocess
from stages.preprocess import run

SPLITS = ("train", "validation", "test")
STRATIFIED = {
    "split": "stratified",
    "seed": 3,
    "validation_share": 0.2,
    "test_share": 0.25,
    "binarisation": "drawn",
}
FACTS = {
    "name": "sample",
    "title": "A sample",
    "licence": "",
    "citation": "",
    "classes": ["even", "odd"],
    "image_shape": [6, 8],
    "published": {"validation": None, "test_ones": None},
}


def prepared(folder: Path, labels: list[int], **changes: Any) -> dict[str, dict[str, NDArray[Any]]]:
    """Arrays by split of images number i, all of whose pixels are i, divided without published images."""
    images = np.tile(np.arange(len(labels), dtype=np.uint8)[:, None, None], (1, 6, 8))
    save_arrays(folder / "raw", {"images": images, "labels": np.array(labels, np.uint8)})
    (folder / "facts.json").write_text(json.dumps(FACTS), encoding="utf-8")
    paths = [folder / name for name in ("raw", "facts.json", *SPLITS, "croissant.json")]
    run(Preprocess.model_validate(STRATIFIED | changes), *paths)
    return {split: {file.stem: np.load(file) for file in (folder / split).glob("*.npy")} for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_images_belong_to_their_labels(finished: Project, split: str) -> None:
    raw, prepared = finished.folder / "data/raw", finished.folder / "data/prepared" / split
    upstream = "test" if split == "test" else "train"
    index, labels, images = (np.load(prepared / f"{name}.npy") for name in ("index", "labels", "images"))
    np.testing.assert_array_equal(labels, np.load(raw / f"{upstream}_labels.npy")[index])
    expected = np.load(raw / f"{upstream}_images.npy")[index].astype(np.float64) / 255
    np.testing.assert_allclose(images, expected, rtol=1e-6)


def test_images_without_published_ones_are_divided_by_share_and_class(tmp_path: Path) -> None:
    labels = [0, 1, 1, 1] * 40
    found = prepared(tmp_path, labels)
    assert sorted(np.concatenate([found[split]["index"] for split in SPLITS])) == list(range(160))
    assert [np.bincount(found[split]["labels"]).tolist() for split in SPLITS] == [[24, 72], [6, 18], [10, 30]]
    for arrays in found.values():
        np.testing.assert_allclose(arrays["images"][:, 0, 0] * 255, arrays["index"], rtol=1e-5)
        np.testing.assert_array_equal(arrays["labels"], np.array(labels)[arrays["index"]])
        assert arrays["class_names"].tolist() == ["even", "odd"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_drawn_pixels_are_one_as_often_as_their_gray_value_says(tmp_path: Path, split: str) -> None:
    arrays = prepared(tmp_path, [0, 1] * 120)[split]
    gray = arrays["images"].mean(dtype=np.float64)
    deviation = np.sqrt((arrays["images"] * (1 - arrays["images"])).sum()) / arrays["images"].size
    assert abs(arrays["binarised"].mean() - gray) < 5 * deviation


def test_thresholded_images_are_black_and_white_in_every_split(tmp_path: Path) -> None:
    found = prepared(tmp_path, [0, 1] * 100, binarisation="thresholded")
    for split in SPLITS:
        expected = np.broadcast_to((found[split]["index"] >= 128)[:, None, None], (len(found[split]["index"]), 6, 8))
        np.testing.assert_array_equal(found[split]["images"], expected)
        assert ("binarised" in found[split]) == (split != "train")
    np.testing.assert_array_equal(found["test"]["binarised"], found["test"]["images"])


def test_without_binarisation_there_are_no_binary_images(tmp_path: Path) -> None:
    assert all("binarised" not in arrays for arrays in prepared(tmp_path, [0, 1] * 70, binarisation="none").values())


def test_a_class_of_too_few_images_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"class .odd. has 5 images, .* with 1; expected 2 at least"):
        prepared(tmp_path, [0] * 40 + [1] * 5)
    assert not any((tmp_path / split).exists() for split in SPLITS)


def test_too_few_images_for_a_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="sample has 15 test images, expected 20 at least"):
        prepared(tmp_path, [0, 1] * 30, validation_share=0.45)


def test_a_published_split_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"preprocess\.split = .published.: no split of sample is published"):
        prepared(tmp_path, [0, 1] * 20, split="published")
