"""What a person sees of the latent space: a grid of decoded points, and real images beside it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Least half side of the square that is shown of the plane, in standard deviations.
_LEAST_EXTENT = 2.5

#: Share of images that lie within the square, on either axis.
_SHOWN = 0.99

#: Posterior means are kept as whole numbers of this step.
MEAN_STEP = 2.0**-8


def stratified_choice(labels: NDArray[np.integer], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Indices (count,) of images chosen at random, ascending, equally many of each class.

    Args:
        labels: (images,) classes.
        count: Images to choose, a multiple of the number of classes.
        generator: Chooses.

    Raises:
        ValueError: If `count` is no multiple of the number of classes, or a class has too few images.
    """
    classes = np.unique(labels)
    each, left = divmod(count, len(classes))
    fewest = min(int((labels == label).sum()) for label in classes)
    if left or each > fewest:
        raise ValueError(
            f"images = {count}: it should be a multiple of {len(classes)}, the classes, up to {fewest * len(classes)}"
        )
    chosen = [generator.choice(np.flatnonzero(labels == label), each, replace=False) for label in classes]
    return np.sort(np.concatenate(chosen))


def extent(positions: NDArray[np.floating]) -> float:
    """Half side of a square about zero that holds nearly all `positions`, (count, 2), on either axis."""
    return max(_LEAST_EXTENT, float(np.ceil(np.quantile(np.abs(positions), _SHOWN, axis=0).max() * 10) / 10))


def sprite(images: NDArray[Any], columns: int) -> NDArray[Any]:
    """Images (count, height, width) as one picture, row by row, `columns` in a row; unused places are black."""
    count, height, width = images.shape
    rows = -(-count // columns)
    filled = np.zeros((rows * columns, height, width), images.dtype)
    filled[:count] = images
    return filled.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def in_steps(means: NDArray[np.floating]) -> NDArray[np.int16]:
    """Posterior means, of any shape, as whole numbers of `MEAN_STEP`; beyond 128 they are cut off."""
    return np.clip(np.round(means / MEAN_STEP), -(2**15), 2**15 - 1).astype("<i2")
