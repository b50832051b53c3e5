"""How far samples are copies of training images: by their distances to the nearest one, beside those of real images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from vae.outliers import auroc

Array = NDArray[Any]

#: Real images and samples that a cell has at least, so that its z-score is about normal.
LEAST = 20


@dataclass(frozen=True)
class Copying:
    """Whether samples lie nearer to training images than held-out real images do."""

    nearer: float  # chance that a sample is nearer than a real image: 1/2 for equals, 1 for copies, 0 for too far
    nearer_se: float  # over samples and real images, given the training images
    c_t: float  # a z-score: about 0 for equals, below -3 copied, above 3 too far
    cells: int  # parts of the space with enough of both, whose z-scores `c_t` averages


def copying(training: Array, real: Array, samples: Array, cells: int, seed: int) -> Copying:
    """Two comparisons of distances to the nearest training image (Meehan et al. 2020).

    `nearer` is the chance that a sample is nearer than a real image, ties counted half; its error is that of DeLong
    et al. 1988. `c_t` is their C_T: the mean, weighted by the real images of each cell, of the z-score
    of Mann and Whitney's U in it. Cells are those of k-means on the training images; distances are to the training
    images of the same cell. It finds copies of one kind that farther samples of another kind would hide, but grows with
    the number of images, so compare it only with its own value for held-out real images in place of samples.

    Args:
        training: (count, features), all that the model saw: leaving some out hides their copies.
        real: (count, features) held-out images, which the model did not see.
        samples: (count, features).
        cells: Parts of the space, at most the training images.
        seed: Of k-means.

    Raises:
        ValueError: If no cell has `LEAST` of both sets.
    """
    distances = [nearest(training, points)[1][:, 0] for points in (real, samples)]
    farther, error = auroc(*distances)
    parts = KMeans(cells, n_init=1, random_state=seed).fit(training)
    of_training, of_real, of_samples = parts.labels_, parts.predict(real), parts.predict(samples)
    scores, weights = [], []
    for cell in range(cells):
        own, own_real, own_samples = training[of_training == cell], real[of_real == cell], samples[of_samples == cell]
        if min(len(own_real), len(own_samples)) >= LEAST:
            scores.append(_z_score(*(nearest(own, points)[1][:, 0] for points in (own_real, own_samples))))
            weights.append(len(own_real))
    if not scores:
        raise ValueError(
            f"cells = {cells}: no cell has {LEAST} real images and samples; take fewer cells, or more images"
        )
    return Copying(1 - farther, error, float(np.average(scores, weights=weights)), len(scores))


def nearest(training: Array, samples: Array, count: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of the `count` nearest training images of each sample, and their Euclidean distances, nearest first.

    Args:
        training: (images, features).
        samples: (samples, features).
        count: At most the training images.

    Returns:
        Both (samples, count).
    """
    distances, places = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(training).kneighbors(samples)
    return places, distances


def _z_score(real: NDArray[np.float64], samples: NDArray[np.float64]) -> float:
    """U of samples above real distances, less its mean for equals, over its deviation for equals without ties."""
    farther, _ = auroc(real, samples)
    return (farther - 0.5) / np.sqrt((len(real) + len(samples) + 1) / (12 * len(real) * len(samples)))
