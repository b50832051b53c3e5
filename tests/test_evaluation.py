"""Estimates of the bound against numeric integration and closed forms, and what must not change them."""

from dataclasses import dataclass
from typing import Any

import keras
import linear_gaussian
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from vae import evaluation
from vae.evaluation import Evaluator, Likelihood, Posterior, kl_per_latent
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


def test_encoding_is_the_network_also_after_a_change_of_its_weights(
    evaluator: Evaluator, vae: VAE, images: Array
) -> None:
    for _ in range(2):
        posterior = evaluator.encode(images)
        for found, expected in zip((posterior.mean, posterior.log_var), vae.encoder(images), strict=True):
            assert (found.shape, found.dtype) == ((COUNT, 3), np.float32)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        for weight in vae.variables:
            weight.assign(-weight / 2)


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
    uniform = np.full((2, 28, 28), 0.5, np.float32)
    np.testing.assert_array_equal(evaluator.draws(latents, uniform), evaluator.draws(latents, uniform))
    for weight, old in zip(vae.variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_the_kl_per_latent_of_an_image_is_that_of_two_gaussians() -> None:
    """Against integration on a line, for posteriors of unequal means and variances."""
    generator = np.random.default_rng(2)
    mean, deviation = generator.normal(1, 2, (5, 2)), generator.uniform(0.3, 2, (5, 2))
    found = kl_per_latent(Posterior(mean.astype(np.float32), np.log(deviation**2).astype(np.float32)))
    assert found.dtype == np.float32
    line = np.linspace(-40, 40, 80_001)[:, None, None]

    def log_normal(centre: Array, spread: Array) -> NDArray[np.float64]:
        return -0.5 * ((line - centre) / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi))

    aggregate = np.sqrt((mean**2 + deviation**2).mean(axis=0) - mean.mean(axis=0) ** 2)
    log_q = log_normal(mean, deviation)
    gap = np.exp(log_q) * (log_q - log_normal(mean.mean(axis=0), aggregate))
    np.testing.assert_allclose(found, gap.sum(axis=0) * (line[1] - line[0]), rtol=1e-4, atol=1e-5)


def test_the_kl_from_the_standard_normal_is_exact(evaluator: Evaluator, images: Array) -> None:
    posterior = Posterior(*(np.full((COUNT, 3), value, np.float32) for value in (2, np.log(4))))
    kl = evaluator.terms(images, posterior, seed=1, samples=1)[1]
    assert (kl.shape, kl.dtype) == ((1, COUNT), np.float32)
    np.testing.assert_allclose(kl, 3 * (4 + 4 - 1 - np.log(4)) / 2, rtol=1e-6)


@pytest.mark.parametrize(("batch_size", "count"), [(1, 7), (6, 7), (100, 7), (3, 4)])
def test_neither_the_batch_size_nor_later_images_change_a_reconstruction_loss(
    evaluator: Evaluator, vae: VAE, images: Array, batch_size: int, count: int
) -> None:
    posterior = evaluator.encode(images)
    expected = evaluator.terms(images, posterior, seed=1, samples=2)[0][:, :count]
    first = Posterior(posterior.mean[:count], posterior.log_var[:count])
    found = Evaluator(vae, batch_size).terms(images[:count], first, seed=1, samples=2)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_a_reconstruction_loss_belongs_to_its_seed(evaluator: Evaluator, images: Array) -> None:
    posterior = evaluator.encode(images)
    first, again, other = (evaluator.terms(images, posterior, seed=seed, samples=2)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_a_posterior_without_variance_has_the_loss_of_its_mean(evaluator: Evaluator, vae: VAE, images: Array) -> None:
    mean = np.random.default_rng(1).normal(0, 2, (COUNT, 3)).astype(np.float32)
    posterior = Posterior(mean, np.full_like(mean, -200))
    logits = vae.decoder(mean).numpy().astype(np.float64)
    expected = (np.logaddexp(0, logits) - images * logits).sum(axis=(1, 2))
    for samples in (1, 3):
        found = evaluator.terms(images, posterior, seed=1, samples=samples)[0]
        assert (found.shape, found.dtype) == ((samples, COUNT), np.float32)
        np.testing.assert_allclose(found, np.tile(expected, (samples, 1)), rtol=1e-5)


def test_the_reconstruction_loss_is_unbiased() -> None:
    """One image many times, one latent: the mean of the estimates meets Gauss-Hermite integration."""
    count = 4000
    vae = linear_vae(1)
    image = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    mean, log_var = 0.7, 0.4
    posterior = Posterior(np.full((count, 1), mean, np.float32), np.full((count, 1), log_var, np.float32))
    found = Evaluator(vae, 500).terms(np.tile(image, (count, 1, 1)), posterior, seed=3, samples=2)[0].mean(axis=0)

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
    evaluator.terms(images, posterior, seed=1, samples=4)
    assert steps == [3, 3, 1] * 4
    assert sum(steps) == COUNT * 4


@dataclass(frozen=True)
class Known:
    """A model whose likelihood is known, with images and a Gaussian for each that is wider than its posterior."""

    vae: VAE
    images: Array
    posterior: Posterior
    nll: NDArray[np.float64]

    def likelihood(self, batch_size: int = 50, *, samples: int = 30, **options: Any) -> Likelihood:
        evaluator = Evaluator(self.vae, batch_size, **options)
        return evaluator.likelihood(self.images, self.posterior, seed=1, samples=samples)


def known(count: int, learned_prior: bool = True) -> Known:
    vae = linear_gaussian.linear_gaussian(learned_prior)
    images = linear_gaussian.drawn_images(vae, count)
    truth = linear_gaussian.truth_of(vae, images)
    log_var = np.tile(np.log(3 * np.diag(np.linalg.inv(truth.precision))), (count, 1))
    posterior = Posterior(truth.mean.astype(np.float32), log_var.astype(np.float32))
    return Known(vae, images, posterior, -truth.log_likelihood)


@pytest.mark.parametrize(("learned_prior", "jit_compile"), [(False, False), (True, True)])
def test_the_likelihood_of_a_linear_gaussian_model_is_its_closed_form(learned_prior: bool, jit_compile: bool) -> None:
    """Within its errors over draws, of which each image has draws of its own."""
    case = known(40, learned_prior)
    found = case.likelihood(samples=20_000, jit_compile=jit_compile)
    assert (found.nll.shape, found.nll.dtype, found.samples) == ((40,), np.float32, 20_000)
    assert found.monte_carlo_error.max() < 0.02
    deviations = (found.nll - case.nll) / found.monte_carlo_error
    assert np.abs(deviations).max() < 4
    assert 0.7 < np.sqrt(np.mean(deviations**2)) < 1.4


def test_the_draws_of_a_call_do_not_change_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    case, found = known(7), []
    for draws in (20, 7):
        monkeypatch.setattr(evaluation, "_IMPORTANCE_DRAWS", draws)
        found.append(case.likelihood(samples=50).nll)
    np.testing.assert_allclose(*found, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("batch_size", "workers"), [*(pytest.param(*pair, marks=pytest.mark.whole) for pair in ((1, 1), (500, 2))), (70, 3)]
)
def test_neither_the_batch_size_nor_the_workers_change_a_byte_of_the_likelihood(batch_size: int, workers: int) -> None:
    case = known(120)  # more than two of the parts that are done at a time
    expected, found = case.likelihood(120), case.likelihood(batch_size, workers=workers)
    np.testing.assert_array_equal(found.nll, expected.nll)
    np.testing.assert_array_equal(found.monte_carlo_error, expected.monte_carlo_error)


def test_likelihoods_that_are_done_are_not_made_again_and_the_rest_is_the_same() -> None:
    case = known(120)

    def nll_of_parts(done: int) -> list[Array]:
        evaluator = Evaluator(case.vae, 50)
        parts = evaluator.likelihoods(case.images, case.posterior, seed=1, samples=30, done=done)
        return [part.nll for part in parts]

    whole = nll_of_parts(0)
    assert [len(part) for part in whole] == [50, 50, 20]
    for number in range(4):
        rest = nll_of_parts(done=min(50 * number, 120))
        assert len(rest) == 3 - number
        for found, expected in zip(rest, whole[number:], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_predictions_are_the_probabilities_that_the_first_draw_is_scored_by(vae: VAE, images: Array) -> None:
    binary = (images > 0.5).astype(np.float32)
    posterior = Evaluator(vae, 3).encode(binary)
    chances = Evaluator(vae, 3).predictions(binary, posterior, seed=4).astype(np.float64)
    expected = -np.log(np.where(binary > 0, chances, 1 - chances)).sum(axis=(1, 2))
    found = Evaluator(vae, 3).terms(binary, posterior, seed=4, samples=2)[0][0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_draw_of_the_prior_is_the_draw_of_its_probabilities(evaluator: Evaluator, vae: VAE) -> None:
    generator = np.random.default_rng(0)
    noise, uniform = generator.normal(size=(COUNT, 3)), generator.random((COUNT, 28, 28))
    drawn = evaluator.draws(noise.astype(np.float32), uniform.astype(np.float32))
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, uniform < 1 / (1 + np.exp(-vae.decoder(noise.astype(np.float32)).numpy())))


@pytest.mark.parametrize("samples", [1, 100, 101])
def test_draws_taken_are_draws_asked(evaluator: Evaluator, vae: VAE, images: Array, samples: int) -> None:
    """With a posterior that is the prior and a decoder that ignores it, every draw has the same weight."""
    vae.decoder.weights[0].assign(np.zeros(vae.decoder.weights[0].shape))
    steps: list[int] = []
    posterior = Posterior(np.zeros((COUNT, 3), np.float32), np.zeros((COUNT, 3), np.float32))
    binary = (images > 0.5).astype(np.float32)
    found = Evaluator(vae, 3, steps.append).likelihood(binary, posterior, seed=1, samples=samples)
    assert sum(steps) == COUNT * samples
    assert found.samples == samples
    np.testing.assert_allclose(found.nll, 784 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(found.monte_carlo_error, 0, atol=5e-3)
