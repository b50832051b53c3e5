"""How far samples are from the data, by neighbourhoods in a space of principal components."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

Array = NDArray[Any]

#: Disjoint parts of both sets whose figures' spread gives the standard errors.
BLOCKS = 10


@dataclass(frozen=True)
class Closeness:
    """Density and coverage of samples, each with its standard error over draws of both sets."""

    density: float  # 1 in expectation for samples of the data's own distribution; may exceed 1
    density_se: float
    coverage: float  # share of real images that have a sample near by, in [0, 1]
    coverage_se: float


def principal_components(images: Array, components: int) -> PCA:
    """The leading principal components of `images`, (count, rows, columns), fitted by the covariance's eigenvectors."""
    return PCA(components, svd_solver="covariance_eigh").fit(_flat(images))


def project(space: PCA, images: Array) -> NDArray[np.float64]:
    """Coordinates of `images`, (count, rows, columns), in `space`; (count, components)."""
    coordinates: NDArray[np.float64] = space.transform(_flat(images))
    return coordinates


def closeness(real: Array, samples: Array, neighbours: int) -> Closeness:
    """Density and coverage (Naeem et al. 2020, equations 3 and 4).

    A real image's neighbourhood reaches to its k-th nearest other real image. Density counts, for each sample, the
    neighbourhoods that it lies in, over k; coverage, the neighbourhoods with a sample in them. Rounding decides whether
    a sample exactly at the radius, such as a copy of a real image, is inside. The standard errors are the deviations of
    both over `BLOCKS` disjoint parts of the two sets, over the root of `BLOCKS`; they are uncertain by a quarter.

    Args:
        real: (count, features).
        samples: (count, features).
        neighbours: k, below the real images of a block.
    """
    density, coverage = _density_and_coverage(real, samples, neighbours)
    pairs = zip(np.array_split(real, BLOCKS), np.array_split(samples, BLOCKS), strict=True)
    blocks = np.array([_density_and_coverage(*pair, neighbours) for pair in pairs])
    density_se, coverage_se = (float(error) for error in blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS))
    return Closeness(density, density_se, coverage, coverage_se)


def _density_and_coverage(real: Array, samples: Array, neighbours: int) -> tuple[float, float]:
    distances, _ = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(real).kneighbors()
    radius = distances[:, -1]
    covered, inside = np.zeros(len(real), bool), 0
    for chunk in pairwise_distances_chunked(samples, real):
        near = chunk < radius
        inside += int(near.sum())
        covered |= near.any(axis=0)
    return inside / (neighbours * len(samples)), float(covered.mean())


def _flat(images: Array) -> NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64)
