"""Splits the images, scales them once, and makes the binary images that are scored."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.croissant import description
from pipeline.errors import StageError
from pipeline.files import load_arrays, save_arrays, write_json
from pipeline.params.preprocess import Preprocess
from pipeline.params.samples import LEAST
from pipeline.stage import Input, Output
from vae.binarisation import published_draw, seeded_draw
from vae.splits import published_split, stratified_split

Arrays = dict[str, NDArray[Any]]

#: Images of each class that each split has at least, as errors over images need two.
_OF_CLASS = 2

#: Each byte in [0, 1]: looked up, as a quotient of many images would first take twice the memory.
_GRAYS = (np.arange(256) / 255).astype(np.float32)

#: What is said of each way to make images binary.
_BINARISATIONS = {
    "drawn": "each pixel is 1 with probability of its gray value",
    "thresholded": "each pixel is 1 if its gray value is one half or more, in training images too",
    "none": "none is made",
}


def run(
    preprocess: Preprocess,
    raw: Input,
    facts: Input,
    train: Output,
    validation: Output,
    test: Output,
    croissant: Output,
) -> None:
    """Writes the three splits.

    Inputs:
        raw: Folder of arrays that `fetch` wrote.
        facts: JSON of what they are.

    Outputs:
        train: Folder of images (count, rows, columns) float32 in [0, 1], labels (count,) uint8, index (count,) int64,
            the place in the given images, and class_names (classes,) text.
        validation: The same, and binarised (count, rows, columns) uint8, made once; not if there is no binarisation.
        test: The same of the test images. Published ones are drawn as published whatever the split.
        croissant: JSON-LD that describes all of these (MLCommons' Croissant).

    Raises:
        StageError: If the data set has no published split, a class or a split has too few images, or this numpy does
            not draw the published test images.
    """
    known = json.loads(facts.read_text(encoding="utf-8"))
    given = load_arrays(raw)
    splits = _split(preprocess, given, known)
    if preprocess.binarisation == "thresholded":
        for arrays in splits.values():
            arrays["images"] = np.where(arrays["images"] >= 0.5, 1, 0).astype(np.float32)
            arrays["binarised"] = arrays["images"].astype(np.uint8)
        del splits["train"]["binarised"]
    if preprocess.binarisation == "drawn":
        _draw(preprocess, given, known["published"], splits)
    for name, arrays in splits.items():
        if len(arrays["labels"]) < LEAST:
            raise StageError(
                f"{known['name']} has {len(arrays['labels'])} {name} images, expected {LEAST} at least: add images, or "
                f"change preprocess.validation_share and preprocess.test_share"
            )
    folders = {"train": train, "validation": validation, "test": test}
    for name, folder in folders.items():
        save_arrays(folder, {**splits[name], "class_names": np.array(known["classes"])})
    draw = f"Split: {preprocess.split}. Binary images: {_BINARISATIONS[preprocess.binarisation]}."
    write_json(croissant, description(known, folders, draw, croissant))


def _split(preprocess: Preprocess, given: Arrays, known: Mapping[str, Any]) -> dict[str, Arrays]:
    """Arrays of each split by name, without binary images."""
    if "test_images" in given:
        images, labels = given["train_images"], given["train_labels"]
        test = _part(given["test_images"], given["test_labels"], np.arange(len(given["test_labels"])))
        index = np.arange(len(labels))
    else:
        images, labels = given["images"], given["labels"]
        index, of_test = _stratified(labels, np.arange(len(labels)), preprocess.test_share, preprocess.seed + 1, known)
        test = _part(images, labels, of_test)
    if preprocess.split == "published":
        if known["published"]["validation"] is None:
            raise StageError(
                f"preprocess.split = 'published': no split of {known['name']} is published; it should be 'stratified'"
            )
        training, validation = published_split(len(labels), known["published"]["validation"])
    else:
        training, validation = _stratified(labels, index, preprocess.validation_share, preprocess.seed, known)
    return {
        "train": _part(images, labels, training),
        "validation": _part(images, labels, validation),
        "test": test,
    }


def _stratified(
    labels: NDArray[np.uint8], index: NDArray[np.int64], share: float, seed: int, known: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides the images `index`: those that stay, and a share of each class."""
    stay, go = stratified_split(labels[index], round(share * len(index)), seed)
    for label, name in enumerate(known["classes"]):
        fewest = min(int((labels[part] == label).sum()) for part in (index[stay], index[go]))
        if fewest < _OF_CLASS:
            raise StageError(
                f"class {name!r} has {int((labels == label).sum())} images, of which a share of {share:g} leaves "
                f"a split with {fewest}; expected {_OF_CLASS} at least: add images of it, or change "
                f"preprocess.validation_share and preprocess.test_share"
            )
    return index[stay], index[go]


def _draw(
    preprocess: Preprocess, given: Arrays, published: Mapping[str, int | None], splits: dict[str, Arrays]
) -> None:
    """Adds binary validation and test images, drawn by gray value; as published where a draw is published."""
    drawn: Arrays = {}
    if (count := published["validation"]) is not None:
        gray, test = given["train_images"], given["test_images"]
        of_published = published_split(len(gray), count)[1]
        validation, drawn["test"] = published_draw(gray[of_published] / 255, test / 255)
        ones, expected = int(drawn["test"].sum(dtype=np.int64)), published["test_ones"]
        if expected not in (None, ones):
            raise StageError(
                f"the drawn test images have {ones} ones, expected {expected}: "
                f"this numpy does not draw the published images"
            )
        if preprocess.split == "published":
            drawn["validation"] = validation
    for stream, name in enumerate(("validation", "test"), 2):  # not those of the split, nor of stage `samples`
        if name not in drawn:
            drawn[name] = seeded_draw(splits[name]["images"], preprocess.seed, stream)
        splits[name]["binarised"] = drawn[name]


def _part(images: NDArray[np.uint8], labels: NDArray[np.uint8], index: NDArray[np.int64]) -> Arrays:
    return {"images": _GRAYS[images[index]], "labels": labels[index], "index": index}
