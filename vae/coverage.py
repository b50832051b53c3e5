"""How far samples are from the data, by neighbourhoods in a space of principal components."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from vae.statistics import mean_and_error

Array = NDArray[Any]


@dataclass(frozen=True)
class Closeness:
    """Density and coverage of samples, each with its standard error given the other set."""

    density: float  # 1 in expectation for samples of the data's own distribution; may exceed 1
    density_se: float  # over samples
    coverage: float  # share of real images that have a sample near by, in [0, 1]
    coverage_se: float  # over real images


def principal_components(images: Array, components: int) -> PCA:
    """The leading principal components of `images`, (count, 28, 28), fitted by the covariance's eigenvectors."""
    return PCA(components, svd_solver="covariance_eigh").fit(_flat(images))


def project(space: PCA, images: Array) -> NDArray[np.float64]:
    """Coordinates of `images`, (count, 28, 28), in `space`; (count, components)."""
    coordinates: NDArray[np.float64] = space.transform(_flat(images))
    return coordinates


def closeness(real: Array, samples: Array, neighbours: int) -> Closeness:
    """Density and coverage (Naeem et al. 2020, equations 3 and 4).

    A real image's neighbourhood reaches to its k-th nearest other real image. Density counts, for each sample, the
    neighbourhoods that it lies in, over k; coverage, the neighbourhoods with a sample in them. Whether a sample at
    just the radius is inside, as a copy of a real image may be, is left to rounding.

    Args:
        real: (count, features).
        samples: (count, features).
        neighbours: k, below the count of real images.
    """
    distances, _ = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(real).kneighbors()
    radius = distances[:, -1]
    covered = np.zeros(len(real), bool)
    counts = []
    for chunk in pairwise_distances_chunked(samples, real):
        inside = chunk < radius
        counts.append(inside.sum(axis=1))
        covered |= inside.any(axis=0)
    density, density_se = mean_and_error(np.concatenate(counts) / neighbours)
    coverage, coverage_se = mean_and_error(covered)
    return Closeness(density, density_se, coverage, coverage_se)


def _flat(images: Array) -> NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64)
