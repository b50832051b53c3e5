"""What a data set gives."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError


@dataclass(frozen=True, kw_only=True)
class Given:
    """Arrays of a data set, and what is known of it.

    Attributes:
        title: Its name in print.
        licence: Of the images.
        citation: Of its publication, one line.
        classes: Names of the classes, by label.
        arrays: train_images, train_labels, test_images and test_labels; or images and labels, if no test images are
            published. Images are (count, rows, columns) uint8, labels (count,) uint8 from 0, every class present.
        validation: How many of the last training images the published split validates on.
        test_ones: Ones in the published binary draw of the test images.
        sheet: A contact sheet of its own, an image of Pillow's.

    Raises:
        StageError: If the arrays are others.
    """

    title: str
    licence: str
    citation: str
    classes: tuple[str, ...]
    arrays: dict[str, NDArray[np.uint8]]
    validation: int | None = None
    test_ones: int | None = None
    sheet: Any | None = None

    def __post_init__(self) -> None:
        parts = ("train_", "test_") if len(self.arrays) > 2 else ("",)
        names = [f"{part}{kind}" for part in parts for kind in ("images", "labels")]
        if sorted(self.arrays) != sorted(names):
            raise StageError(f"{self.title} has the arrays {', '.join(self.arrays)}, expected {', '.join(names)}")
        if self.validation is not None and "test_images" not in self.arrays:
            raise StageError(f"{self.title} has a published split without test images, which would be trained on")
        for name, array in self.arrays.items():
            expected = 3 if name.endswith("images") else 1
            if array.dtype != np.uint8 or array.ndim != expected:
                raise StageError(
                    f"{self.title}: {name} is {array.dtype} {array.shape}, expected uint8, {expected} axes"
                )
        for part in parts:
            images, labels = len(self.arrays[f"{part}images"]), self.arrays[f"{part}labels"]
            if images != len(labels):
                raise StageError(f"{self.title} has {images} {part}images, expected {len(labels)} as its labels")
            if not np.array_equal(np.unique(labels), np.arange(len(self.classes))):
                raise StageError(
                    f"{self.title}: {part}labels are not all of 0 to {len(self.classes) - 1}, and only these"
                )
