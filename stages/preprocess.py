"""Splits the images, scales them once, and draws the binary images that are scored."""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import load_arrays, save_arrays
from pipeline.params.preprocess import Preprocess
from pipeline.stage import Input, Output
from vae.binarisation import published_draw, seeded_draw
from vae.fashion_mnist import PUBLISHED_TEST_ONES, PUBLISHED_VALIDATION_COUNT
from vae.splits import Split, published_split, stratified_split


def run(preprocess: Preprocess, raw: Input, train: Output, validation: Output, test: Output) -> None:
    """Writes the three splits.

    Outputs:
        train: Folder of images (count, 28, 28) float32 in [0, 1], labels (count,) uint8, and index (count,)
            int64, the place in the upstream training images.
        validation: The same, and binarised (count, 28, 28) uint8, drawn once.
        test: The same for the upstream test images; drawn as published whatever the split.
    """
    arrays = load_arrays(raw)
    images, labels = arrays["train_images"], arrays["train_labels"]
    training_index, validation_index = split_of(preprocess, labels)
    binarised = binarise(images, arrays["test_images"], preprocess, validation_index)

    save_arrays(train, _split(images, labels, training_index))
    save_arrays(validation, {**_split(images, labels, validation_index), "binarised": binarised[0]})
    test_index = np.arange(len(arrays["test_labels"]))
    test_split = _split(arrays["test_images"], arrays["test_labels"], test_index)
    save_arrays(test, {**test_split, "binarised": binarised[1]})


def split_of(preprocess: Preprocess, labels: NDArray[np.uint8]) -> Split:
    """Indices of training and of validation images."""
    if preprocess.split == "published":
        return published_split(len(labels), PUBLISHED_VALIDATION_COUNT)
    return stratified_split(labels, PUBLISHED_VALIDATION_COUNT, preprocess.seed)


def binarise(
    images: NDArray[np.uint8], test_images: NDArray[np.uint8], preprocess: Preprocess, index: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Binary validation and test images; those of the test as published, whatever the split.

    Raises:
        StageError: If the drawn test images are not those that published numbers are computed on.
    """
    published_validation = published_split(len(images), PUBLISHED_VALIDATION_COUNT)[1]
    validation, test = published_draw(images[published_validation] / 255, test_images / 255)
    ones = int(test.sum(dtype=np.int64))
    if ones != PUBLISHED_TEST_ONES:
        raise StageError(
            f"the drawn test images have {ones} ones, expected {PUBLISHED_TEST_ONES}: "
            f"this numpy does not draw the published images"
        )
    if preprocess.split != "published":
        validation = seeded_draw(images[index] / 255, preprocess.seed)
    return validation, test


def _split(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], index: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    return {"images": (images[index] / 255).astype(np.float32), "labels": labels[index], "index": index}
