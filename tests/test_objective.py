"""The terms of the evidence lower bound against float64, numeric integration and values worked out by hand."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr

from vae.objective import (
    bernoulli_entropy,
    bernoulli_nll,
    gaussian_kl,
    importance_weighted_bound,
    kl_weight,
    path_kl,
    reparameterise,
    sampled_kl,
    standard_normal_log_prob,
)

#: float32 carries 24 bits; sums of a few hundred terms lose a few more.
RELATIVE = 1e-5


def nll_of_pixel(logit: float, target: float) -> float:
    logits, targets = (tf.constant(value, tf.float32, (1, 1, 1)) for value in (logit, target))
    return float(bernoulli_nll(logits, targets)[0])


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


@pytest.mark.parametrize("logit", [-1e6, -200.0, -30.0, 30.0, 200.0, 1e6])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_nll_stays_exact_at_extreme_logits(logit: float, target: float) -> None:
    exact = max(logit, 0) - target * logit + math.log1p(math.exp(-abs(logit)))
    assert nll_of_pixel(logit, target) == pytest.approx(exact, rel=RELATIVE, abs=1e-37)  # smaller is zero in float32


@given(mean=st.floats(-5, 5), log_var=st.floats(-8, 3))
@settings(deadline=None, derandomize=True)
def test_kl_is_the_integral_of_its_definition(mean: float, log_var: float) -> None:
    assert kl_of_latent(mean, log_var) == pytest.approx(integrated_kl(mean, log_var), rel=RELATIVE, abs=1e-6)


@given(mean=st.floats(-10, 10, width=32), log_var=st.floats(-20, 20, width=32))
@settings(deadline=None, derandomize=True)
def test_kl_is_not_negative_up_to_rounding(mean: float, log_var: float) -> None:
    assert kl_of_latent(mean, log_var) >= -np.finfo(np.float32).eps


def test_kl_of_each_latent_stands_alone() -> None:
    kl = gaussian_kl(tf.constant([[0.0, 2.0], [1.0, 0.0]]), tf.zeros((2, 2)))
    np.testing.assert_allclose(kl, [[0, 2], [0.5, 0]])


@pytest.mark.parametrize(
    ("term", "shapes"),
    [
        *((bernoulli_nll, [(3, 4, 4), other]) for other in ((1, 4, 4), (3, 4, 1), (3, 4, 5), (4, 4))),
        *((gaussian_kl, [(3, 4), other]) for other in ((1, 4), (3, 1), (4,), (3, 5))),
        *((reparameterise, [(3, 2), (3, 2), other]) for other in ((1, 2), (3, 1), (2,))),
        (reparameterise, [(3, 2), (1, 2), (3, 2)]),
        *((sampled_kl, shapes) for shapes in ([(4, 3), (4, 2), (4,)], [(4, 3), (4, 3), (3,)], [(4, 3), (1, 3), (4,)])),
        (path_kl, [(4, 3), (4, 2), (4, 3), (4,)]),
        (path_kl, [(1, 3), (4, 3), (4, 3), (4,)]),
        (path_kl, [(4, 3), (4, 3), (4, 3), (3,)]),
    ],
)
def test_shapes_that_would_broadcast_are_refused(term: Callable[..., tf.Tensor], shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="incompatible"):
        term(*(tf.zeros(shape) for shape in shapes))


def test_a_draw_is_the_mean_and_the_noise_in_deviations_and_passes_their_gradient_on() -> None:
    noise = np.array([[1.2, -0.4]], np.float32)
    mean, log_var = tf.constant([[0.1, 0.2]]), tf.constant([[0.6, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch([mean, log_var])
        draw = reparameterise(mean, log_var, noise)
    moved = noise * np.exp([[0.3, -0.5]])
    np.testing.assert_allclose(draw, mean + moved, RELATIVE)
    by_mean, by_log_var = tape.gradient(draw, [mean, log_var])
    np.testing.assert_allclose(by_mean, [[1, 1]])
    np.testing.assert_allclose(by_log_var, moved / 2, RELATIVE)


@pytest.mark.parametrize(
    ("steps_per_epoch", "beta", "epochs", "start", "expected"),
    [
        (2, 0.5, 2.0, 0.0, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]),
        (10, 4.0, 0.25, 0.0, [1.6, 3.2, 4.0, 4.0]),
        (2, 2.0, 2.0, 0.2, [0.8, 1.2, 1.6, 2, 2, 2]),
        (10, 0.25, 0, 0.1, [0.25, 0.25]),
        (10, 0.0, 2.0, 0.1, [0, 0]),
    ],
)
def test_kl_weight_rises_linearly_and_then_stays(
    steps_per_epoch: int, beta: float, epochs: float, start: float, expected: list[float]
) -> None:
    steps = [tf.constant(step, tf.int64) for step in range(len(expected))]
    weights = [float(kl_weight(step, steps_per_epoch, beta, epochs, start)) for step in steps]
    assert weights == pytest.approx(expected, rel=1e-6)


def test_entropy_of_all_gray_values_is_that_of_scipy() -> None:
    gray = (np.arange(256) / 255).astype(np.float32)
    exact = gray.astype(np.float64)
    found = bernoulli_entropy(tf.constant(gray.reshape(-1, 2, 1)))  # two pixels an image
    np.testing.assert_allclose(found, (entr(exact) + entr(1 - exact)).reshape(-1, 2).sum(axis=1), RELATIVE)


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


def _path_gradients(mean: Any, log_var: Any, noise: Any) -> tuple[Any, list[Any]]:
    """The path estimate of KL(q || N(0, I)) by each draw, and its gradient by the mean and log-variance of each."""
    moments = [tf.constant(np.broadcast_to(moment, noise.shape), tf.float32) for moment in (mean, log_var)]
    with tf.GradientTape() as tape:
        tape.watch(moments)
        latent = reparameterise(*moments, tf.constant(noise))
        kl = path_kl(*moments, latent, standard_normal_log_prob(latent))
    return kl.numpy(), [gradient.numpy() for gradient in tape.gradient(kl, moments)]


def test_the_path_estimate_of_the_kl_has_the_closed_form_and_its_gradient_for_its_mean() -> None:
    """d KL / d mean = mean and d KL / d log_var = (exp(log_var) - 1) / 2, of KL(N(mean, exp(log_var)) || N(0, 1))."""
    mean, log_var = np.array([0.7, -1.2, 0.1]), np.array([-1.0, 0.4, -2.0])
    noise = np.random.default_rng(3).normal(size=(200_000, 3)).astype(np.float32)
    kl, gradients = _path_gradients(mean, log_var, noise)
    exact = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum()
    assert kl.mean(dtype=np.float64) == pytest.approx(exact, abs=5 * float(kl.std()) / len(kl) ** 0.5)
    for found, expected in zip(gradients, (mean, (np.exp(log_var) - 1) / 2), strict=True):
        error = found.std(axis=0) / len(found) ** 0.5
        assert (np.abs(found.mean(axis=0, dtype=np.float64) - expected) < 5 * error).all()


def test_no_noise_is_left_in_the_gradient_where_the_posterior_is_the_prior() -> None:
    noise = np.random.default_rng(4).normal(size=(50, 3)).astype(np.float32)
    _, gradients = _path_gradients(np.zeros(3), np.zeros(3), noise)
    np.testing.assert_allclose(gradients, 0, atol=1e-6)


def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight() -> None:
    """Also where weights leave the range of float32: their exponentials underflow, their mean must not."""
    weights, offsets = np.random.default_rng(0).random((5, 3)) + 0.1, np.array([0, -1000, 1000])
    found = importance_weighted_bound(tf.constant(np.log(weights) + offsets, tf.float32))
    np.testing.assert_allclose(found, np.log(weights.mean(axis=0)) + offsets, rtol=RELATIVE, atol=1e-6)
