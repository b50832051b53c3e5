"""The terms of the evidence lower bound against float64, numeric integration and values worked out by hand."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae.objective import (
    bernoulli_entropy,
    bernoulli_nll,
    gaussian_kl,
    importance_weighted_bound,
    kl_weight,
    reparameterise,
    sampled_kl,
    standard_normal_log_prob,
)

Array = NDArray[np.float64]

#: float32 carries 24 bits; sums of a few hundred terms lose a few more.
RELATIVE = 1e-5


def single(value: float) -> tf.Tensor:
    """One image of one pixel."""
    return tf.constant(value, tf.float32, (1, 1, 1))


def nll_of_pixel(logit: float, target: float) -> float:
    return float(bernoulli_nll(single(logit), single(target))[0])


def entropy_of_pixel(probability: float) -> float:
    return float(bernoulli_entropy(single(probability))[0])


def kl_of_latent(mean: float, log_var: float) -> float:
    return float(gaussian_kl(tf.constant([[mean]]), tf.constant([[log_var]]))[0, 0])


def integrated_kl(mean: float, log_var: float) -> float:
    """Integral of q log(q / p) by the trapezoidal rule over twelve deviations: exact to rounding for Gaussians."""
    deviation = math.exp(log_var / 2)
    x = mean + deviation * np.linspace(-12, 12, 4001)
    log_q = -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation)
    log_ratio = log_q + 0.5 * x**2
    return float(np.trapezoid(np.exp(log_q) / math.sqrt(2 * math.pi) * log_ratio, x))


def test_nll_is_the_log_probability_of_binary_pixels_in_float64() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (5, 4, 7)).astype(np.float32)
    pixels = generator.integers(0, 2, (5, 4, 7)).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -np.log(np.where(pixels == 1, probability, 1 - probability)).sum(axis=(1, 2))
    np.testing.assert_allclose(bernoulli_nll(tf.constant(logits), tf.constant(pixels)), expected, RELATIVE)


def test_nll_of_gray_pixels_is_the_mean_over_binary_images_drawn_from_them() -> None:
    gray, logits = np.array([0.25, 0.8], np.float32), np.array([-1.5, 0.4], np.float32)
    mean = 0.0
    for first in (0.0, 1.0):
        for second in (0.0, 1.0):
            chance = (gray[0] if first else 1 - gray[0]) * (gray[1] if second else 1 - gray[1])
            mean += chance * (nll_of_pixel(logits[0], first) + nll_of_pixel(logits[1], second))
    nll = bernoulli_nll(tf.constant(logits.reshape(1, 1, 2)), tf.constant(gray.reshape(1, 1, 2)))
    assert float(nll[0]) == pytest.approx(mean, rel=RELATIVE)


@pytest.mark.parametrize("logit", [-1e6, -200.0, 200.0, 1e6])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_nll_stays_exact_at_extreme_logits(logit: float, target: float) -> None:
    exact = np.logaddexp(0, logit) - target * logit
    assert nll_of_pixel(logit, target) == pytest.approx(exact, rel=RELATIVE, abs=1e-37)  # smaller is zero in float32


def test_nll_keeps_its_digits_where_a_pixel_is_almost_certain() -> None:
    assert nll_of_pixel(30.0, 1.0) == pytest.approx(math.log1p(math.exp(-30)), rel=RELATIVE)


def test_nll_sums_pixels_and_keeps_images_apart() -> None:
    nll = bernoulli_nll(tf.zeros((3, 28, 28)), tf.zeros((3, 28, 28)))
    np.testing.assert_allclose(nll, np.full(3, 784 * math.log(2)), RELATIVE)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 1), (3, 4, 5), (4, 4)])
def test_nll_refuses_targets_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="incompatible"):
        bernoulli_nll(tf.zeros((3, 4, 4)), tf.zeros(shape))


@given(mean=st.floats(-5, 5), log_var=st.floats(-8, 3))
@settings(deadline=None, derandomize=True)
def test_kl_is_the_integral_of_its_definition(mean: float, log_var: float) -> None:
    assert kl_of_latent(mean, log_var) == pytest.approx(integrated_kl(mean, log_var), rel=RELATIVE, abs=1e-6)


@given(mean=st.floats(-10, 10, width=32), log_var=st.floats(-20, 20, width=32))
@settings(deadline=None, derandomize=True)
def test_kl_is_not_negative_up_to_rounding(mean: float, log_var: float) -> None:
    assert kl_of_latent(mean, log_var) >= -np.finfo(np.float32).eps


def test_kl_of_the_prior_itself_is_zero() -> None:
    assert kl_of_latent(0.0, 0.0) == 0


def test_kl_of_each_latent_stands_alone() -> None:
    kl = gaussian_kl(tf.constant([[0.0, 2.0], [1.0, 0.0]]), tf.zeros((2, 2)))
    np.testing.assert_allclose(kl, [[0, 2], [0.5, 0]])


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (4,), (3, 5)])
def test_kl_refuses_variances_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="incompatible"):
        gaussian_kl(tf.zeros((3, 4)), tf.zeros(shape))


def test_a_draw_has_the_mean_and_variance_of_its_posterior() -> None:
    count = 100_000
    noise = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    mean, log_var = np.array([1.5, -0.5], np.float32), np.array([0.8, -2.0], np.float32)
    draws = reparameterise(tf.constant(np.tile(mean, (count, 1))), tf.constant(np.tile(log_var, (count, 1))), noise)
    variance = np.exp(log_var)
    assert np.all(np.abs(np.mean(draws, axis=0) - mean) < 5 * np.sqrt(variance / count))
    assert np.all(np.abs(np.var(draws, axis=0) - variance) < 5 * variance * math.sqrt(2 / count))


def test_a_draw_passes_the_gradient_on_to_mean_and_variance() -> None:
    noise = np.array([[1.2, -0.4]], np.float32)
    mean, log_var = tf.constant([[0.1, 0.2]]), tf.constant([[0.6, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch([mean, log_var])
        draw = reparameterise(mean, log_var, noise)
    by_mean, by_log_var = tape.gradient(draw, [mean, log_var])
    np.testing.assert_allclose(by_mean, [[1, 1]])
    np.testing.assert_allclose(by_log_var, noise * np.exp([[0.3, -0.5]]) / 2, RELATIVE)


@pytest.mark.parametrize("shape", [(1, 2), (3, 1), (2,)])
def test_a_draw_refuses_noise_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="incompatible"):
        reparameterise(tf.zeros((3, 2)), tf.zeros((3, 2)), tf.zeros(shape))


def test_kl_weight_rises_linearly_and_then_stays() -> None:
    weights = [float(kl_weight(tf.constant(step, tf.int64), 2, 0.5, 2.0, 0.0)) for step in range(6)]
    assert weights == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5], rel=1e-6)


def test_kl_weight_warms_up_over_a_part_of_an_epoch() -> None:
    weights = [float(kl_weight(tf.constant(step, tf.int64), 10, 4.0, 0.25, 0.0)) for step in range(4)]
    assert weights == pytest.approx([1.6, 3.2, 4.0, 4.0], rel=1e-6)


def test_kl_weight_rises_from_a_share_of_beta() -> None:
    weights = [float(kl_weight(tf.constant(step, tf.int64), 2, 2.0, 2.0, 0.2)) for step in range(6)]
    np.testing.assert_allclose(weights, [0.8, 1.2, 1.6, 2, 2, 2], rtol=1e-6)


def test_kl_weight_without_warm_up_is_beta_from_the_first_step() -> None:
    assert float(kl_weight(tf.constant(0, tf.int64), 10, 0.25, 0, 0.1)) == 0.25


def test_kl_weight_of_beta_zero_is_zero() -> None:
    assert float(kl_weight(tf.constant(7, tf.int64), 10, 0.0, 2.0, 0.1)) == 0


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_entropy_of_a_certain_pixel_is_zero(probability: float) -> None:
    assert entropy_of_pixel(probability) == 0


def test_entropy_of_an_even_pixel_is_one_bit() -> None:
    assert entropy_of_pixel(0.5) == pytest.approx(math.log(2), rel=RELATIVE)


def test_entropy_of_all_gray_values_is_that_of_float64() -> None:
    gray = (np.arange(1, 255) / 255).astype(np.float32)
    exact = gray.astype(np.float64)
    expected = -exact * np.log(exact) - (1 - exact) * np.log1p(-exact)
    np.testing.assert_allclose(bernoulli_entropy(tf.constant(gray.reshape(-1, 1, 1))), expected, RELATIVE)


@given(probability=st.floats(1e-6, 1 - 1e-6))
@settings(deadline=None, derandomize=True)
def test_nll_of_the_pixels_own_probability_is_their_entropy(probability: float) -> None:
    own = float(np.float32(probability))
    logit = math.log(own) - math.log1p(-own)
    assert nll_of_pixel(logit, own) == pytest.approx(entropy_of_pixel(own), rel=RELATIVE, abs=2e-6)


@given(logit=st.floats(-20, 20, width=32), probability=st.floats(0, 1, width=32))
@settings(deadline=None, derandomize=True)
def test_no_logit_takes_a_gray_pixel_below_its_entropy(logit: float, probability: float) -> None:
    assert nll_of_pixel(logit, probability) >= entropy_of_pixel(probability) - 1e-6


def test_the_gradient_of_both_terms_is_that_of_finite_differences() -> None:
    logit, target, mean, log_var = 0.7, 0.2, -0.4, 0.3
    parameters = [single(logit), tf.constant([[mean]]), tf.constant([[log_var]])]
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        loss = bernoulli_nll(parameters[0], single(target))[0] + gaussian_kl(*parameters[1:])[0, 0]
    gradient = [float(tf.squeeze(part)) for part in tape.gradient(loss, parameters)]

    def exact(at: Array) -> float:
        return float(np.logaddexp(0, at[0]) - target * at[0] + (at[1] ** 2 + np.exp(at[2]) - 1 - at[2]) / 2)

    at = np.array([logit, mean, log_var])
    differences = [(exact(at + step) - exact(at - step)) / 2e-5 for step in 1e-5 * np.eye(3)]
    assert gradient == pytest.approx(differences, rel=1e-4)


def test_the_log_density_of_the_standard_normal_is_that_of_the_standard_library() -> None:
    values = np.random.default_rng(9).normal(0, 2, (6, 3)).astype(np.float32)
    expected = [sum(math.log(NormalDist().pdf(float(value))) for value in row) for row in values]
    np.testing.assert_allclose(standard_normal_log_prob(tf.constant(values)), expected, rtol=1e-5)


def test_the_sampled_kl_is_the_difference_of_two_log_densities() -> None:
    generator = np.random.default_rng(9)
    mean, log_var, noise = generator.normal(0, 1, (3, 6, 3)).astype(np.float32)
    log_prior = generator.normal(0, 1, 6).astype(np.float32)
    latents = mean.astype(np.float64) + np.exp(log_var / 2) * noise
    posterior = [
        sum(math.log(NormalDist(m, math.exp(v / 2)).pdf(z)) for m, v, z in zip(*image, strict=True))
        for image in zip(mean.tolist(), log_var.tolist(), latents.tolist(), strict=True)
    ]
    found = sampled_kl(tf.constant(log_var), tf.constant(noise), tf.constant(log_prior))
    np.testing.assert_allclose(found, np.array(posterior) - log_prior, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [((4, 3), (4, 2), (4,)), ((4, 3), (4, 3), (3,)), ((4, 3), (1, 3), (4,))])
def test_the_sampled_kl_refuses_shapes_that_would_broadcast(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="hape"):
        sampled_kl(*(tf.zeros(shape) for shape in shapes))


def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight() -> None:
    weights = np.random.default_rng(0).random((5, 3)) + 0.1
    found = importance_weighted_bound(tf.constant(np.log(weights), tf.float32))
    np.testing.assert_allclose(found, np.log(weights.mean(axis=0)), rtol=RELATIVE, atol=1e-6)


def test_the_importance_weighted_bound_holds_where_weights_leave_the_range_of_float32() -> None:
    """Log-weights are hundreds of nats: their exponentials underflow, their mean must not."""
    found = importance_weighted_bound(tf.constant([[-1000.0, 1000.0], [-1001.0, 999.0]]))
    np.testing.assert_allclose(found, math.log((1 + math.exp(-1)) / 2) + np.array([-1000, 1000]), rtol=RELATIVE)
