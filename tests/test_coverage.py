"""Density and coverage against a loop over all pairs, the space against numpy's own."""

import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import config_context
from threadpoolctl import threadpool_limits

from vae.coverage import Closeness, closeness, principal_components, project

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More would wait for one another where other tests work at the same time."""
    with threadpool_limits(1):
        yield


def all_pairs(real: Array, samples: Array, neighbours: int) -> tuple[list[int], list[int]]:
    """How many neighbourhoods each sample is in, and how many samples are in each neighbourhood."""
    of_samples, of_real = [0] * len(samples), [0] * len(real)
    for i, centre in enumerate(real):
        radius = sorted(math.dist(centre, other) for j, other in enumerate(real) if j != i)[neighbours - 1]
        for j, sample in enumerate(samples):
            if math.dist(centre, sample) < radius:
                of_samples[j] += 1
                of_real[i] += 1
    return of_samples, of_real


def gaussians(real: int, samples: int, features: int = 3, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(real, features)), generator.normal(size=(samples, features))


def lattice(real: int, samples: int) -> tuple[Array, Array]:
    """Points of a square lattice: many are the same, and many on the edge of a neighbourhood."""
    generator = np.random.default_rng(0)
    points = generator.integers(0, 9, (real + samples, 2)).astype(float)
    return points[:real], points[real:]


@pytest.mark.parametrize("neighbours", [1, 3, 9])
@pytest.mark.parametrize("points", [gaussians, lattice])
def test_density_and_coverage_are_those_of_a_loop_over_all_pairs(
    points: Callable[[int, int], tuple[Array, Array]], neighbours: int
) -> None:
    real, samples = points(110, 130)
    of_samples, of_real = all_pairs(real, samples, neighbours)
    found = closeness(real, samples, neighbours)
    assert found.density == pytest.approx(sum(of_samples) / (neighbours * 130), rel=1e-12)
    assert found.coverage == pytest.approx(sum(count > 0 for count in of_real) / 110, rel=1e-12)


def test_the_errors_are_the_spread_over_draws_of_both_sets() -> None:
    found = [closeness(*gaussians(1000, 800, seed=seed), 5) for seed in range(60)]
    for name in ("density", "coverage"):
        spread = statistics.stdev(getattr(one, name) for one in found)
        stated = statistics.fmean(getattr(one, f"{name}_se") for one in found)
        assert stated == pytest.approx(spread, rel=0.35)


def test_samples_far_away_are_in_no_neighbourhood() -> None:
    real, samples = gaussians(110, 90)
    assert closeness(real, samples + 100, 5) == Closeness(0, 0, 0, 0)


def test_the_real_images_themselves_cover_everything() -> None:
    real = 2.0 ** np.arange(110)[:, None]  # no two distances from a point are equal, and all are exact
    for neighbours in (1, 2, 5):
        found = closeness(real, real, neighbours)
        assert (found.coverage, found.coverage_se) == (1, 0)
        assert found.density == 1  # its centre and the k - 1 nearest ones are in a neighbourhood


def test_the_memory_of_a_chunk_changes_nothing() -> None:
    real, samples = gaussians(100, 90)
    whole = closeness(real, samples, 3)
    with config_context(working_memory=0.003):  # MiB, so three samples a chunk
        assert closeness(real, samples, 3) == whole


def correlated_images(count: int, seed: int) -> NDArray[np.float32]:
    """Images of six patterns of falling strength, the same ones whatever the seed, on a gray ground."""
    patterns = np.random.default_rng(0).normal(size=(6, 784)) * 0.6 ** np.arange(6)[:, None]
    images = 5 + np.random.default_rng(seed).normal(size=(count, 6)) @ patterns
    return images.reshape(count, 28, 28).astype(np.float32)


def test_projections_are_those_of_a_singular_value_decomposition_up_to_signs() -> None:
    fitted, others = correlated_images(80, 1), correlated_images(30, 2)
    flat, flat_others = (images.reshape(len(images), 784).astype(np.float64) for images in (fitted, others))
    directions = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:4]
    expected = (flat_others - flat.mean(axis=0)) @ directions.T
    found = project(principal_components(fitted, 4), others)
    assert (found.shape, found.dtype) == ((30, 4), np.float64)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=0, atol=1e-5)
    for points in (found, expected):
        assert np.ptp(points[:, 3]) > 1
    gaps = [np.linalg.norm(points[:, None] - points, axis=2) for points in (found, expected)]
    np.testing.assert_allclose(*gaps, rtol=0, atol=1e-5)  # signs do not matter to these


def test_pixels_of_eight_bits_are_projected_as_their_values() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6)).astype(np.uint8)
    found = [project(principal_components(kind, 3), kind) for kind in (images, images.astype(np.float64))]
    np.testing.assert_array_equal(*found)
