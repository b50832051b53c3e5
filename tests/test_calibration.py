"""Reliability against a loop over pixels in exact fractions, a bootstrap, and images drawn from their probabilities."""

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


def test_there_are_twenty_bins_unless_asked_otherwise() -> None:
    found = reliability(*correlated(2, 0))
    assert BINS == 20
    for figures in (found.pixels, found.predicted, found.observed, found.gap_se):
        assert figures.shape == (20,)


def test_a_bin_holds_its_lower_edge_and_not_its_upper_one() -> None:
    probabilities = np.full((2, 28, 28), 0.25, np.float32)
    probabilities[1] = 0.5
    np.testing.assert_array_equal(reliability(probabilities, np.zeros_like(probabilities), 4).pixels, [0, 784, 784, 0])


def test_a_probability_just_below_an_edge_is_not_rounded_over_it() -> None:
    probabilities = np.full((2, 28, 28), 0.35, np.float32)
    assert Fraction(float(probabilities[0, 0, 0])) < Fraction(7, 20)
    assert np.float32(20) * probabilities[0, 0, 0] == 7
    assert reliability(probabilities, np.zeros_like(probabilities)).pixels[6] == 2 * 784


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    ones = np.ones((2, 28, 28), np.float32)
    found = reliability(ones, ones)
    assert found.pixels.tolist() == [0] * 19 + [2 * 784]
    assert (found.predicted[-1], found.observed[-1], found.gap_se[-1]) == (1, 1, 0)


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


def test_images_drawn_from_their_own_probabilities_are_calibrated_within_their_errors() -> None:
    found = reliability(*correlated(500, 0))
    deviations = (found.observed - found.predicted) / found.gap_se
    assert np.abs(deviations).max() < 4
    assert 0.5 < deviations.std() < 1.5


def test_probabilities_that_are_too_sure_of_themselves_are_seen() -> None:
    probabilities, images = correlated(500, 0)
    odds = (probabilities / (1 - probabilities)) ** 1.2
    found = reliability(odds / (1 + odds), images)
    deviations = (found.observed - found.predicted) / found.gap_se
    assert np.all(deviations[:7] > 5)
    assert np.all(deviations[13:] < -5)
