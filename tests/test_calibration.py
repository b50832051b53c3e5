"""Reliability against a loop over pixels in exact fractions, and its error against a bootstrap."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from vae.calibration import BINS, reliability

Array = NDArray[np.float32]


def correlated(count: int, spread: float) -> tuple[Array, Array]:
    """Probabilities, and images each of whose log-odds are all off by the same normal shift."""
    generator = np.random.default_rng(0)
    logits = generator.normal(generator.normal(0, 1, (count, 1, 1)), 1, (count, 28, 28))
    shifted = logits + generator.normal(0, spread, (count, 1, 1))
    images = generator.random(logits.shape) < 1 / (1 + np.exp(-shifted))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), images.astype(np.float32)


@pytest.mark.parametrize("bins", [1, 7, 20])
def test_counts_means_and_shares_are_those_of_a_loop_over_pixels(bins: int) -> None:
    probabilities, images = correlated(4, 1)
    cells: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for probability, pixel in zip(probabilities.ravel().tolist(), images.ravel().tolist(), strict=True):
        cells[math.floor(Fraction(probability) * bins)].append((probability, pixel))
    found = reliability(probabilities, images, bins)
    assert found.pixels.dtype == np.int64
    assert found.pixels.tolist() == [len(cell) for cell in cells]
    for number, cell in enumerate(cells):
        predicted, observed = (math.fsum(values) / len(cell) for values in zip(*cell, strict=True))
        assert found.predicted[number] == pytest.approx(predicted, rel=1e-12)
        assert found.observed[number] == pytest.approx(observed, rel=1e-12)


@pytest.mark.parametrize(
    ("probability", "bins", "expected"),
    [
        pytest.param(0.25, 4, 1, id="an edge belongs to the bin above it"),
        pytest.param(0.5, 4, 2, id="another edge"),
        pytest.param(0.35, BINS, 6, id="just below an edge and not rounded over it"),
        pytest.param(1, BINS, 19, id="a probability of one is in the last bin"),
    ],
)
def test_edges_of_bins(probability: float, bins: int, expected: int) -> None:
    probabilities = np.full((2, 28, 28), probability, np.float32)
    found = reliability(probabilities, np.ones_like(probabilities), bins)
    assert found.pixels.tolist() == [2 * 784 * (number == expected) for number in range(bins)]
    assert (found.predicted[expected], found.observed[expected]) == (probabilities[0, 0, 0], 1)


def test_empty_bins_are_at_their_centres_without_error() -> None:
    probabilities = np.full((3, 28, 28), 0.3, np.float32)
    images = (np.arange(3 * 784).reshape(3, 28, 28) % 5 == 0).astype(np.float32)
    found = reliability(probabilities, images, 4)
    np.testing.assert_array_equal(found.pixels, [0, 3 * 784, 0, 0])
    empty = [0, 2, 3]
    np.testing.assert_array_equal(found.predicted[empty], [0.125, 0.625, 0.875])
    np.testing.assert_array_equal(found.observed[empty], [0.125, 0.625, 0.875])
    np.testing.assert_array_equal(found.gap_se[empty], [0, 0, 0])
    assert found.observed[1] == pytest.approx(0.2, abs=1e-3)


def test_the_error_is_that_of_a_bootstrap_over_images_and_not_over_pixels() -> None:
    probabilities, images = correlated(400, 1)
    probabilities **= 2  # so that there is a gap, whose bins have a random number of pixels
    found = reliability(probabilities, images, 5)
    edges = np.linspace(0, 1, 6)
    pixels = np.array([np.histogram(image, edges)[0] for image in probabilities])
    ones = np.array([np.histogram(p[x > 0], edges)[0] for p, x in zip(probabilities, images, strict=True)])
    times = np.random.default_rng(1).multinomial(400, np.full(400, 1 / 400), 4000)
    predicted = np.array([np.histogram(image, edges, weights=image)[0] for image in probabilities])
    resampled = (times @ (ones - predicted)) / (times @ pixels)
    np.testing.assert_allclose(found.gap_se, resampled.std(axis=0), rtol=0.1)
    independent = np.sqrt(found.observed * (1 - found.observed) / found.pixels)
    assert np.all(found.gap_se > 3 * independent)
