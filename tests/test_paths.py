"""Paths of the prior's noise against closed forms: norms, angles, ends, and directions of constructed posteriors."""

import math

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from vae.latent_space import gaussian_quantiles
from vae.model import VAE, build_vae
from vae.paths import great_circles, interpolations, noise_of, telling_directions, traversals

Array = NDArray[np.float64]


def vae_of(prior: str) -> VAE:
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", 4, [5], (28, 28), prior, [6, 6] if prior == "coupling_flow" else [])
    if vae.prior:
        generator = np.random.default_rng(1)
        for weight in vae.prior.normalise.weights:
            weight.assign(generator.normal(0, 0.5, weight.shape))
    return vae


def points(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 4))


def test_the_norm_changes_linearly_and_the_angle_evenly() -> None:
    starts, ends = points(20), points(20, 1) * 3
    paths = great_circles(starts, ends, 5)
    norms = np.linalg.norm(paths, axis=2)
    np.testing.assert_allclose(norms, np.linspace(norms[:, 0], norms[:, -1], 5, axis=1))
    units = paths / norms[..., None]
    angles = np.arccos(np.minimum(1, (units[:, :1] * units).sum(axis=2)))
    np.testing.assert_allclose(angles, np.linspace(0, angles[:, -1], 5, axis=1), atol=1e-6)
    both = np.stack([starts, ends], axis=1)
    assert all(
        np.linalg.matrix_rank(np.vstack([pair, path]), tol=1e-9) == 2 for pair, path in zip(both, paths, strict=True)
    )


def test_a_quarter_circle_is_that_of_cosine_and_sine() -> None:
    path = great_circles(np.array([[2.0, 0]]), np.array([[0, 2.0]]), 7)[0]
    angles = np.linspace(0, math.pi / 2, 7)
    np.testing.assert_allclose(path, 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-12)


@pytest.mark.parametrize("factor", [-2.0, 0.0, 1.0, 3.0])
def test_noises_without_a_single_great_circle_have_a_straight_line(factor: float) -> None:
    start = points(1)
    path = great_circles(start, factor * start, 3)
    np.testing.assert_allclose(path[:, 1], (1 + factor) / 2 * start)


@pytest.mark.parametrize("prior", ["standard_normal", "coupling_flow"])
def test_interpolations_have_their_ends_exactly_and_the_noise_of_great_circles(prior: str) -> None:
    vae = vae_of(prior)
    starts, ends = (points(3, seed).astype(np.float32) for seed in (0, 1))
    found = interpolations(vae, starts, ends, 4)
    assert (found.shape, found.dtype) == ((3, 4, 4), np.float32)
    np.testing.assert_array_equal(found[:, [0, -1]], np.stack([starts, ends], axis=1))
    noise = noise_of(vae, found.reshape(-1, 4)).reshape(found.shape)
    assert (np.abs(noise - found).max() > 0.1) == (prior == "coupling_flow")
    np.testing.assert_allclose(noise, great_circles(noise[:, 0], noise[:, -1], 4), atol=1e-4)


@pytest.mark.parametrize("prior", ["standard_normal", "coupling_flow"])
def test_a_traversal_changes_one_coordinate_of_the_noise_alone(prior: str) -> None:
    vae = vae_of(prior)
    latents = points(2).astype(np.float32)
    basis = np.linalg.qr(points(4, 1))[0].T
    found = traversals(vae, latents, basis[:2], 5)
    noise = noise_of(vae, found.reshape(-1, 4)).reshape(found.shape)
    coordinates = noise @ basis.T
    own = noise_of(vae, latents) @ basis.T
    for row in (0, 1):
        np.testing.assert_allclose(coordinates[row, :, row], gaussian_quantiles(5), atol=1e-4)
        others = [place for place in range(4) if place != row]
        np.testing.assert_allclose(coordinates[row][:, others], np.tile(own[row, others], (5, 1)), atol=1e-4)


def test_directions_are_those_that_posteriors_were_made_of_the_narrowest_first() -> None:
    """Two draws, mean plus and minus one deviation along one axis an image, have exactly known covariances."""
    basis = np.linalg.qr(points(4, 1))[0].T
    deviations = np.array([0.5, 0.1, 0.9, 0.2])
    offsets = np.tile(deviations[:, None] * basis, (6, 1))  # each axis in a quarter of the images
    means = 5 * points(24, 2)
    directions, nats = telling_directions(np.stack([means + offsets, means - offsets]))
    order = [1, 3, 0, 2]
    np.testing.assert_allclose(np.abs(directions @ basis[order].T), np.eye(4), atol=1e-9)
    assert (directions[np.arange(4), np.abs(directions).argmax(axis=1)] > 0).all()
    variances = 2 * deviations[order] ** 2 / 4  # of two draws s^2 = 2 * offset^2
    np.testing.assert_allclose(nats, np.maximum(0, -0.5 * np.log(variances)))


def test_a_gaussian_channel_tells_its_capacity_and_the_prior_nothing() -> None:
    generator = np.random.default_rng(0)
    variances = np.array([1.0, 0.25])
    means = generator.normal(size=(4000, 2)) * np.sqrt(1 - variances)
    noise = means + generator.normal(size=(4, 4000, 2)) * np.sqrt(variances)
    directions, nats = telling_directions(noise)
    np.testing.assert_allclose(np.abs(directions), [[0, 1], [1, 0]], atol=0.05)
    np.testing.assert_allclose(nats, [math.log(2), 0], atol=0.03)
