"""Copying against closed forms: copies, equals, too far, and U of scipy."""

import math
import statistics
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from threadpoolctl import threadpool_limits

from vae.copies import copying, nearest

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More would wait for one another where other tests work at the same time."""
    with threadpool_limits(1):
        yield


def gaussians(*counts: int, seed: int = 0) -> list[Array]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(count, 3)) for count in counts]


def z_of_all_above(real: int, samples: int) -> float:
    """U is real * samples; its mean and variance for equals are Mann and Whitney's."""
    return (real * samples / 2) / math.sqrt(real * samples * (real + samples + 1) / 12)


def test_copies_are_nearer_than_all_real_images() -> None:
    training, real = gaussians(200, 40)
    found = copying(training, real, training[:50], 1, 0)
    assert (found.nearer, found.nearer_se, found.cells) == (1, 0, 1)
    assert found.c_t == pytest.approx(-z_of_all_above(40, 50))


def test_samples_beyond_all_images_are_too_far() -> None:
    training, real = gaussians(200, 40)
    found = copying(training, real, real[:30] + 100, 1, 0)
    assert (found.nearer, found.nearer_se) == (0, 0)
    assert found.c_t == pytest.approx(z_of_all_above(40, 30))


def test_one_cell_has_the_score_of_scipy() -> None:
    training, real, samples = gaussians(200, 40, 50)
    distances = [
        [min(math.dist(point, image) for image in training) for point in points] for points in (real, samples * 0.8)
    ]
    u = mannwhitneyu(distances[1], distances[0]).statistic
    found = copying(training, real, samples * 0.8, 1, 0)
    assert found.nearer == pytest.approx(1 - u / (40 * 50))
    assert found.c_t == pytest.approx((u - 40 * 50 / 2) / math.sqrt(40 * 50 * 91 / 12))


def test_equals_are_nearer_by_chance_within_the_stated_error() -> None:
    """One training set has equals nearer or farther by its own chance, so each draw has another."""
    found = [copying(*gaussians(200, 60, 50, seed=seed), 1, 0) for seed in range(60)]
    nearer = [one.nearer for one in found]
    spread = statistics.stdev(nearer)
    assert abs(statistics.fmean(nearer) - 0.5) < 4 * spread / math.sqrt(len(nearer))
    assert statistics.fmean(one.nearer_se for one in found) == pytest.approx(spread, rel=0.35)
    assert statistics.stdev(one.c_t for one in found) == pytest.approx(1, rel=0.35)


def test_copies_of_one_kind_are_found_beside_farther_samples_of_another() -> None:
    training, real = gaussians(400, 120)
    for points in (training, real):
        points[::2] += 100
    samples = np.concatenate([training[:60:2], real[1::2] + 5])  # copies of one kind, and twice as many far ones
    found = copying(training, real, samples, 2, 0)
    assert found.nearer < 0.5
    scores = -z_of_all_above(60, 30), z_of_all_above(60, 60)
    assert found.c_t == pytest.approx(statistics.fmean(scores), rel=0.05)  # as many real images of each kind


def test_cells_without_samples_have_no_weight() -> None:
    training, real = gaussians(400, 120)
    for points in (training, real):
        points[::2] += 100
    found = copying(training, real, training[:80:2], 2, 0)
    assert found.cells == 1
    assert found.c_t == pytest.approx(-z_of_all_above(60, 40))


def test_too_few_images_for_a_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="cells = 2: no cell has 20 real images and samples; take fewer cells"):
        copying(*gaussians(50, 19, 50), 2, 0)


def test_the_nearest_are_those_of_a_loop_over_all() -> None:
    training, samples = gaussians(30, 7)
    places, distances = nearest(training, samples, 4)
    for sample, some, far in zip(samples, places, distances, strict=True):
        gaps = sorted((math.dist(sample, image), number) for number, image in enumerate(training))[:4]
        assert some.tolist() == [number for _, number in gaps]
        assert far.tolist() == pytest.approx([gap for gap, _ in gaps])
