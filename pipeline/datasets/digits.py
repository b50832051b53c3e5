"""Digits of scikit-learn: 1797 handwritten digits of 8x8 pixels, in the environment already (Alpaydin and Kaynak)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.given import Given
from pipeline.params import data as section

#: Gray values go from 0 to this one.
_BRIGHTEST: Final = 16


class Data(section.Published):
    """It needs nothing more."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return 8, 8


def read(data: Data, scratch: Path, say: Callable[[str], None]) -> Given:  # noqa: ARG001 - as every data set's
    """Reads it from scikit-learn, which has its test images only, and so none that are published as such."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return Given(
        title="Optical Recognition of Handwritten Digits",
        licence="CC BY 4.0",
        citation=(
            "Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
            "https://doi.org/10.24432/C50P49"
        ),
        classes=tuple("0123456789"),
        arrays={
            "images": np.round(found.images * 255 / _BRIGHTEST).astype(np.uint8),
            "labels": found.target.astype(np.uint8),
        },
    )
