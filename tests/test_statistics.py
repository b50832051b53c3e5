"""Means over images and their errors, and the grid that figures of an image lie on."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae.statistics import (
    GRID_NATS,
    error_over_draws,
    losses_of,
    mean_and_error,
    on_grid,
    over_draws,
    summarise,
    summarise_gap,
)

Figures = dict[str, NDArray[Any]]

#: Far above the loss of any image: 784 pixels at 30 nats each.
NATS = st.floats(0, 2**15, width=32)


@pytest.fixture
def figures() -> Figures:
    """Three images; gray losses that balance each other, binarised losses that do not."""
    return {
        "gray_reconstruction_nats": np.array([1, 2, 3], np.float32),
        "gray_kl_nats": np.array([5, 4, 3], np.float32),
        **{f"gray_{loss}_mc_nats": np.full(3, 0.5, np.float32) for loss in ("reconstruction", "kl", "elbo")},
        "binarised_reconstruction_mc_nats": np.array([2, 1, 2], np.float32),
        "binarised_kl_mc_nats": np.zeros(3, np.float32),
        "binarised_elbo_mc_nats": np.array([6, 6, 7], np.float32),
        "binarised_reconstruction_nats": np.array([10, 20, 60], np.float32),
        "binarised_kl_nats": np.array([1, 1, 1], np.float32),
        "binarised_nll_nats": np.array([9, 19, 53], np.float32),
        "binarised_nll_mc_nats": np.array([3, 0, 4], np.float32),
        "binarised_nll_samples": np.array(7),
        "image_shape": np.array([28, 28]),
    }


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_mean_and_error_of_an_arithmetic_series_are_their_closed_forms(count: int) -> None:
    mean, error = mean_and_error(np.arange(1, count + 1, dtype=np.float32))
    assert mean == pytest.approx((count + 1) / 2, rel=1e-12)
    assert error == pytest.approx(math.sqrt((count + 1) / 12), rel=1e-12)  # s^2 = n (n + 1) / 12


def test_a_mean_of_many_float32_figures_is_taken_in_float64() -> None:
    figures = np.tile(np.float32([2**24, 1]), 50_000)  # in float32, 2^24 + 1 = 2^24
    assert mean_and_error(figures)[0] == (2**24 + 1) / 2


@given(nats=NATS)
@settings(deadline=None, derandomize=True)
def test_the_grid_is_met_exactly_and_within_half_a_step(nats: float) -> None:
    rounded = on_grid(np.array([nats], np.float32))
    assert rounded.dtype == np.float32
    assert (Fraction(float(rounded[0])) / Fraction(GRID_NATS)).denominator == 1
    assert abs(Fraction(float(rounded[0])) - Fraction(nats)) <= Fraction(GRID_NATS) / 2


def test_a_mean_of_figures_on_the_grid_is_the_same_in_any_order() -> None:
    generator = np.random.default_rng(0)
    figures = on_grid(generator.gamma(4, 60, 10_000).astype(np.float32))
    exact = sum(map(Fraction, figures.tolist())) / figures.size
    for _ in range(5):
        assert mean_and_error(generator.permutation(figures))[0] == float(exact)


@given(reconstruction=NATS, kl=NATS)
@settings(deadline=None, derandomize=True)
def test_the_elbo_of_figures_on_the_grid_is_exact(reconstruction: float, kl: float) -> None:
    terms = on_grid(np.array([reconstruction, kl], np.float32))
    elbo = losses_of({"gray_reconstruction_nats": terms[:1], "gray_kl_nats": terms[1:]}, "gray")["elbo_nats"]
    assert Fraction(float(elbo[0])) == -sum(map(Fraction, terms.tolist()))


def with_errors(name: str, mean: float, over_images: float, over_draws: float) -> dict[str, float]:
    return {name: mean, f"{name}_se": over_images, f"{name}_mc": over_draws}


def test_a_summary_holds_the_mean_and_the_errors_of_each_loss_of_each_kind_of_targets(figures: Figures) -> None:
    summary = summarise(figures)
    assert list(summary) == ["gray", "binarised"]
    over_draws, over_images = 0.5 / math.sqrt(3), 1 / math.sqrt(3)  # of losses 1, 2 and 3
    assert summary["gray"] == pytest.approx(
        {
            **with_errors("reconstruction_nats", 2, over_images, over_draws),
            **with_errors("kl_nats", 4, over_images, over_draws),
            **with_errors("elbo_nats", -6, 0, over_draws),  # each image has -6
        }
    )
    over_images, of_nll, bit = math.sqrt(700 / 3), math.sqrt((18**2 + 8**2 + 26**2) / 6), 784 * math.log(2)
    assert summary["binarised"] == pytest.approx(
        {
            **with_errors("reconstruction_nats", 30, over_images, math.sqrt(2**2 + 1**2 + 2**2) / 3),
            **with_errors("kl_nats", 1, 0, 0),
            **with_errors("elbo_nats", -31, over_images, math.sqrt(6**2 + 6**2 + 7**2) / 3),
            **with_errors("nll_nats", 27, of_nll, math.sqrt(3**2 + 4**2) / 3),
            **with_errors("nll_bits_per_dim", 27 / bit, of_nll / bit, math.sqrt(3**2 + 4**2) / 3 / bit),
            "nll_samples": 7,
            "nll_effective_samples": (1 / (3**2 + 1 / 7) + 7 + 1 / (4**2 + 1 / 7)) / 3,
            "nll_nats_bias": (3**2 + 4**2) / 3 / 2,
        }
    )


def test_errors_over_images_and_over_draws_are_those_of_a_bootstrap() -> None:
    generator = np.random.default_rng(0)
    images = generator.gamma(4, 60, 300).astype(np.float32)
    error = mean_and_error(images)[1]
    resampled = [images[generator.integers(0, 300, 300)].mean() for _ in range(3000)]
    assert error == pytest.approx(np.std(resampled), rel=0.1)

    nats = generator.normal(images, generator.uniform(1, 9, 300), (8, 300)).astype(np.float32)
    mean, errors = over_draws(nats)
    np.testing.assert_allclose(mean, nats.mean(axis=0), rtol=1e-6)
    picks = generator.integers(0, 8, (3000, 8, 300))
    again = np.take_along_axis(nats[None], picks, axis=1).mean(axis=(1, 2))
    assert error_over_draws(errors) == pytest.approx(again.std() * math.sqrt(8 / 7), rel=0.1)


def test_the_gap_has_two_parts_that_make_it_up() -> None:
    refined = {
        "elbo_nats": np.array([-15, -23], np.float32),
        "refined_elbo_nats": np.array([-12, -22], np.float32),
        "refined_nll_nats": np.array([10, 20], np.float32),
        "elbo_mc_nats": np.array([0.4, 0.0], np.float32),
        "refined_elbo_mc_nats": np.array([0.0, 0.8], np.float32),
        "refined_nll_mc_nats": np.array([0.3, 0.0], np.float32),
        "amortisation_mc_nats": np.array([0.6, 0.8], np.float32),
    }
    gap = summarise_gap(refined)
    assert gap["images"] == 2
    assert (gap["elbo_to_nll_nats"], gap["amortisation_nats"], gap["approximation_nats"]) == (4, 2, 2)
    assert gap["amortisation_nats_se"] == pytest.approx(1)  # of 3 and 1
    assert gap["approximation_nats_se"] == 0
    assert gap["elbo_to_nll_nats_mc"] == pytest.approx(0.25)  # hypot(0.3, 0.4) / 2
    assert gap["amortisation_nats_mc"] == pytest.approx(0.5)  # hypot(0.6, 0.8) / 2
    assert gap["approximation_nats_mc"] == pytest.approx(math.hypot(0.3, 0.8) / 2)


def test_one_draw_that_carries_the_sum_is_the_only_effective_one(figures: Figures) -> None:
    alone = math.sqrt(1 - 1 / 7)  # the relative error of a sum in which 6 of 7 weights are nothing
    found = summarise(figures | {"binarised_nll_mc_nats": np.full(3, alone, np.float32)})["binarised"]
    assert found["nll_effective_samples"] == pytest.approx(1)


def test_the_bias_is_that_of_the_log_of_a_mean(figures: Figures) -> None:
    """Against the mean of -log of the mean of log-normal weights, whose true value is known."""
    generator, deviation, draws = np.random.default_rng(0), 0.5, 50
    weights = np.exp(generator.normal(-(deviation**2) / 2, deviation, (200_000, draws)))  # of mean 1
    exact = -np.log(weights.mean(axis=1)).mean()
    errors = weights.std(axis=1) / weights.mean(axis=1) / math.sqrt(draws)
    found = summarise(figures | {"binarised_nll_mc_nats": errors})["binarised"]["nll_nats_bias"]
    assert found == pytest.approx(exact, rel=0.2)
