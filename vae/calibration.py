"""Whether predicted probabilities of pixels are the frequencies that are observed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Intervals of probability, equally wide.
BINS = 20


@dataclass(frozen=True)
class Reliability:
    """Pixels by their predicted probability, each (bins,) float64 but the counts, which are int64."""

    pixels: NDArray[np.int64]
    predicted: NDArray[np.float64]  # mean predicted probability; the bin's centre where it has no pixel
    observed: NDArray[np.float64]  # share of the pixels that are 1; the centre where there is none
    gap_se: NDArray[np.float64]  # standard error of observed - predicted over images, as pixels of one are correlated


def reliability(probabilities: NDArray[np.float32], images: NDArray[np.floating], bins: int = BINS) -> Reliability:
    """Predicted against observed.

    Args:
        probabilities: (count, rows, columns), of each pixel being 1.
        images: (count, rows, columns), 0 or 1.
        bins: Intervals.
    """
    count = len(images)
    flat = probabilities.reshape(count, -1).astype(np.float64)
    cell = np.minimum((flat * bins).astype(np.int64), bins - 1) + bins * np.arange(count)[:, None]

    def per_image(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(cell.ravel(), weights.ravel(), count * bins).reshape(count, bins).astype(np.float64)

    pixels, predicted, ones = per_image(np.ones_like(flat)), per_image(flat), per_image(images.astype(np.float64))
    total, centres = pixels.sum(axis=0), (np.arange(bins) + 0.5) / bins
    filled = np.maximum(total, 1)
    gap = (ones - predicted).sum(axis=0) / filled
    residual = ones - predicted - gap * pixels  # of the ratio estimator, linearised
    return Reliability(
        pixels=total.astype(np.int64),
        predicted=np.where(total > 0, predicted.sum(axis=0) / filled, centres),
        observed=np.where(total > 0, ones.sum(axis=0) / filled, centres),
        gap_se=np.sqrt(np.square(residual).sum(axis=0)) / filled,
    )
