"""Images that are unlike the data and need no download, and how well a score tells them from real images."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

KINDS = ("rotated", "inverted", "shuffled", "noise", "blended")


def outliers_of(images: Array, generator: np.random.Generator) -> Mapping[str, Array]:
    """Outliers by kind, each (count, rows, columns) float32 in [0, 1].

    Args:
        images: (2 * count, rows, columns) float32 in [0, 1], real images that they are made of.
        generator: Draws what is random.

    Returns:
        `rotated` by 180 degrees; `inverted`, 1 - x; `shuffled`, the pixels of each image in an order of its own;
        `noise`, each pixel uniform on [0, 1); and `blended`, the mean of an image and of one of the second half. All
        but the last are made of the first half.
    """
    images, others = np.split(images, 2)
    pixels = images.reshape(len(images), -1)
    return {
        "rotated": images[:, ::-1, ::-1].copy(),
        "inverted": 1 - images,
        "shuffled": generator.permuted(pixels, axis=1).reshape(images.shape),
        "noise": generator.random(images.shape, np.float32),
        "blended": (images + others) / 2,
    }


def auroc(inliers: NDArray[np.floating], outliers: NDArray[np.floating]) -> tuple[float, float]:
    """Area under the ROC curve of a score that is to be higher for outliers, and its standard error.

    The area is the chance that an outlier has the higher score of a pair, ties counted half; the error is that of
    DeLong, DeLong and Clarke-Pearson 1988, over independent images of both kinds.

    Args:
        inliers: (count,) scores, two or more.
        outliers: (count,) scores, two or more.
    """
    wins = _shares_below(inliers, outliers)
    losses = 1 - _shares_below(outliers, inliers)
    variance = wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses)
    return float(wins.mean()), float(np.sqrt(variance))


def _shares_below(scores: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each value the share of scores that are below it, equal ones counted half."""
    ordered = np.sort(scores)
    below, not_above = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (below + not_above) / (2 * len(ordered))
