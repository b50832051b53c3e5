"""The losses of each image that a revision holds, `metrics/per_image.npz`."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

PER_IMAGE = "metrics/per_image.npz"

#: Numbers of the splits in it.
SPLITS = {"validation": 0, "test": 1}

#: Arrays by name, a row an image.
Values = Mapping[str, NDArray[Any]]


def values_in(content: bytes) -> Values:
    """The values of all images.

    Raises:
        ValueError, EOFError, BadZipFile: If the content is no such file.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def of_split(values: Values, split: str) -> dict[str, NDArray[Any]]:
    """Those of the images of one split."""
    chosen = values["split"] == SPLITS[split]
    return {name: array[chosen] for name, array in values.items()}
