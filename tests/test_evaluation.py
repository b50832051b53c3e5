"""Estimates of the bound against numeric integration, and what must not change them."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from vae.evaluation import Evaluator, Posterior, kl_per_latent
from vae.model import VAE

Array = NDArray[np.float32]

COUNT = 7


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(0).random((COUNT, 28, 28), np.float32)


@pytest.fixture
def vae() -> VAE:
    return linear_vae(3)


@pytest.fixture
def evaluator(vae: VAE) -> Evaluator:
    return Evaluator(vae, 3)


def linear_vae(latent_dim: int) -> VAE:
    """One dense layer for each of mean, log_var and logits; always the same weights, outputs of a few units."""
    keras.utils.set_random_seed(0)
    image, latent = keras.Input((28, 28)), keras.Input((latent_dim,))
    hidden = layers.Flatten()(image)
    encoder = keras.Model(image, [layers.Dense(latent_dim)(hidden), layers.Dense(latent_dim)(hidden)])
    decoder = keras.Model(latent, layers.Reshape((28, 28))(layers.Dense(784, "linear", True, "normal")(latent)))
    return VAE(encoder, decoder)


def test_encoding_is_calling_the_encoder(evaluator: Evaluator, vae: VAE, images: Array) -> None:
    posterior = evaluator.encode(images)
    for found, expected in zip((posterior.mean, posterior.log_var), vae.encoder(images), strict=True):
        assert (found.shape, found.dtype) == ((COUNT, 3), np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_decoding_gives_the_probabilities_of_the_decoders_logits(evaluator: Evaluator, vae: VAE) -> None:
    latents = np.random.default_rng(1).normal(0, 3, (COUNT, 3)).astype(np.float32)
    found = evaluator.decode(latents)
    assert (found.shape, found.dtype) == ((COUNT, 28, 28), np.float32)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-vae.decoder(latents).numpy().astype(np.float64))), rtol=1e-5)


def test_evaluation_changes_no_weight_and_drops_nothing_out(images: Array) -> None:
    image, latent = keras.Input((28, 28)), keras.Input((1,))
    hidden = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Flatten()(image)))
    encoder = keras.Model(image, [layers.Dense(1)(hidden), layers.Dense(1)(hidden)])
    decoder = keras.Model(latent, layers.Reshape((28, 28))(layers.Dropout(0.5)(layers.Dense(784)(latent))))
    vae = VAE(encoder, decoder)
    before = [weight.numpy().copy() for weight in vae.variables]
    evaluator = Evaluator(vae, COUNT)
    np.testing.assert_array_equal(evaluator.encode(images).mean, evaluator.encode(images).mean)
    latents = np.ones((2, 1), np.float32)
    np.testing.assert_array_equal(evaluator.decode(latents), evaluator.decode(latents))
    for weight, old in zip(vae.variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_later_changes_of_the_weights_are_seen(evaluator: Evaluator, vae: VAE, images: Array) -> None:
    latents = np.zeros((2, 3), np.float32)
    evaluator.encode(images)
    evaluator.decode(latents)
    for weight in vae.variables:
        weight.assign(np.ones(weight.shape))
    np.testing.assert_allclose(evaluator.encode(images).mean[:, 0], images.sum(axis=(1, 2)) + 1, rtol=1e-5)
    np.testing.assert_allclose(evaluator.decode(latents), np.full((2, 28, 28), 1 / (1 + np.exp(-1))), rtol=1e-5)


def test_kl_per_latent_is_the_closed_form() -> None:
    posterior = Posterior(np.array([[0, 2, 0]], np.float32), np.log(np.array([[1, 1, 4]], np.float32)))
    kl = kl_per_latent(posterior)
    assert kl.dtype == np.float32
    np.testing.assert_allclose(kl, [[0, 2, (4 - 1 - np.log(4)) / 2]], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 2, 6, 7, 100])
def test_the_batch_size_does_not_change_a_reconstruction_loss(vae: VAE, images: Array, batch_size: int) -> None:
    posterior = Evaluator(vae, 3).encode(images)
    losses = [
        Evaluator(vae, size).reconstruction_loss(images, posterior, seed=1, samples=2) for size in (3, batch_size)
    ]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-3)


def test_images_after_an_image_do_not_change_its_reconstruction_loss(evaluator: Evaluator, images: Array) -> None:
    posterior = evaluator.encode(images)
    first = Posterior(posterior.mean[:4], posterior.log_var[:4])
    some = evaluator.reconstruction_loss(images[:4], first, seed=1, samples=2)
    every = evaluator.reconstruction_loss(images, posterior, seed=1, samples=2)
    np.testing.assert_allclose(some, every[:4], rtol=0, atol=1e-3)


def test_a_reconstruction_loss_belongs_to_its_seed(evaluator: Evaluator, images: Array) -> None:
    posterior = evaluator.encode(images)
    first, again, other = (evaluator.reconstruction_loss(images, posterior, seed=seed, samples=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_a_posterior_without_variance_has_the_loss_of_its_mean(evaluator: Evaluator, vae: VAE, images: Array) -> None:
    mean = np.random.default_rng(1).normal(0, 2, (COUNT, 3)).astype(np.float32)
    posterior = Posterior(mean, np.full_like(mean, -200))
    logits = vae.decoder(mean).numpy().astype(np.float64)
    expected = (np.logaddexp(0, logits) - images * logits).sum(axis=(1, 2))
    for samples in (1, 3):
        found = evaluator.reconstruction_loss(images, posterior, seed=1, samples=samples)
        assert (found.shape, found.dtype) == ((COUNT,), np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_reconstruction_loss_is_unbiased() -> None:
    """One image many times, one latent: the mean of the estimates meets Gauss-Hermite integration."""
    count = 4000
    vae = linear_vae(1)
    image = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    mean, log_var = 0.7, 0.4
    posterior = Posterior(np.full((count, 1), mean, np.float32), np.full((count, 1), log_var, np.float32))
    found = Evaluator(vae, 500).reconstruction_loss(np.tile(image, (count, 1, 1)), posterior, seed=3, samples=2)

    nodes, chances = np.polynomial.hermite_e.hermegauss(60)  # of exp(-x^2 / 2)
    latents = mean + np.exp(log_var / 2) * nodes
    weights, bias = (weight.numpy().astype(np.float64) for weight in vae.decoder.weights)
    logits = latents[:, None] @ weights + bias
    nll = (np.logaddexp(0, logits) - image.ravel() * logits).sum(axis=1)
    exact, square = (float(chances @ nll**power / chances.sum()) for power in (1, 2))
    deviation = np.sqrt((square - exact**2) / 2)  # of an estimate by two draws
    assert abs(found.mean(dtype=np.float64) - exact) < 5 * deviation / np.sqrt(count)
    assert found.std(dtype=np.float64) == pytest.approx(deviation, rel=0.2)


def test_progress_counts_each_draw_of_each_image(vae: VAE, images: Array) -> None:
    steps: list[int] = []
    evaluator = Evaluator(vae, 3, steps.append)
    posterior = evaluator.encode(images)
    assert steps == []
    evaluator.reconstruction_loss(images, posterior, seed=1, samples=4)
    assert steps == [3, 3, 1] * 4
    assert sum(steps) == COUNT * 4
