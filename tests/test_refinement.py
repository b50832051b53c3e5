"""Refined posteriors against the best diagonal Gaussian of a linear-Gaussian model, which has a closed form."""

from typing import Any

import numpy as np
import pytest
from linear_gaussian import LATENTS, Exact, drawn_images, linear_gaussian, truth_of
from numpy.typing import NDArray

from vae import refinement
from vae.evaluation import Evaluator, Posterior
from vae.model import VAE
from vae.refinement import refine

Array = NDArray[np.float32]

COUNT = 4


def poor_posterior() -> Posterior:
    generator = np.random.default_rng(2)
    return Posterior(*(generator.normal(0, 1, (COUNT, LATENTS)).astype(np.float32) for _ in range(2)))


def refined(vae: VAE, images: Array, posterior: Posterior, **changes: Any) -> Posterior:
    settings: dict[str, Any] = {"seed": 0, "steps": 60, "learning_rate": 0.05, "samples": 2, "advance": lambda _: None}
    return refine(vae, images, posterior, **{**settings, **changes})


def elbos(vae: VAE, images: Array, posterior: Posterior) -> tuple[Exact, Exact]:
    """Mean over 1000 draws for each image, and its error."""
    often = Posterior(np.tile(posterior.mean, (100, 1)), np.tile(posterior.log_var, (100, 1)))
    terms = Evaluator(vae, 100 * COUNT).terms(np.tile(images, (100, 1, 1)), often, seed=5, samples=10)
    draws = -np.add(*terms).reshape(1000, COUNT).astype(np.float64)
    return draws.mean(axis=0), draws.std(axis=0) / np.sqrt(1000)


@pytest.mark.parametrize(
    ("learned_prior", "jit_compile"),
    [*(pytest.param(*pair, marks=pytest.mark.whole) for pair in ((False, False), (False, True))), (True, True)],
)
def test_a_poor_posterior_becomes_the_best_diagonal_gaussian(learned_prior: bool, jit_compile: bool) -> None:
    vae = linear_gaussian(learned_prior)
    images, poor = drawn_images(vae, COUNT), poor_posterior()
    truth = truth_of(vae, images)
    precisions = np.diag(truth.precision)
    assert 1 < precisions.min() < precisions.max() < 20
    assert np.all(np.diag(np.linalg.inv(truth.precision)) * precisions > 1.1)  # latents are correlated given the image

    found = refined(vae, images, poor, steps=2000, samples=64, jit_compile=jit_compile)
    for moments in (found.mean, found.log_var):
        assert (moments.shape, moments.dtype) == ((COUNT, LATENTS), np.float32)
    np.testing.assert_allclose(found.mean, truth.mean, rtol=0, atol=0.02)
    np.testing.assert_allclose(found.log_var, np.tile(-np.log(precisions), (COUNT, 1)), rtol=0, atol=0.05)

    gap = 0.5 * (np.log(precisions).sum() - np.linalg.slogdet(truth.precision)[1])  # KL from the true posterior
    before, (after, error) = elbos(vae, images, poor)[0], elbos(vae, images, found)
    assert 5 * error.max() < gap
    assert np.all(np.abs(after - (truth.log_likelihood - gap)) < 4 * error)
    assert np.all(after > before + 1)


def test_an_image_is_refined_whatever_the_others_are() -> None:
    vae = linear_gaussian()
    images, poor = drawn_images(vae, COUNT), poor_posterior()
    others, mean, log_var = images.copy(), poor.mean.copy(), poor.log_var.copy()
    others[0], mean[0], log_var[0] = 30 * images[0], 9, -2
    first, second = refined(vae, images, poor), refined(vae, others, Posterior(mean, log_var))
    for found, other in ((first.mean, second.mean), (first.log_var, second.log_var)):
        assert np.all(found[0] != other[0])
        np.testing.assert_array_equal(found[1:], other[1:])


@pytest.mark.parametrize("learned_prior", [False, True])
def test_neither_the_weights_nor_the_posterior_given_change(learned_prior: bool) -> None:
    vae = linear_gaussian(learned_prior)
    poor = poor_posterior()
    before = [weight.numpy().copy() for weight in vae.variables]
    found = refined(vae, drawn_images(vae, COUNT), poor)
    for weight, old in zip(vae.variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    for moments, given, old in zip(
        vars(found).values(), vars(poor).values(), vars(poor_posterior()).values(), strict=True
    ):
        np.testing.assert_array_equal(given, old)
        assert np.all(moments != given)


@pytest.mark.parametrize("steps", [1, 25, 60])
def test_progress_counts_the_updates(steps: int) -> None:
    vae = linear_gaussian()
    counts: list[int] = []
    refined(vae, drawn_images(vae, COUNT), poor_posterior(), steps=steps, advance=counts.append)
    assert sum(counts) == steps
    assert min(counts) > 0


def test_the_first_update_is_as_long_as_the_learning_rate() -> None:
    """Adam's first step is the learning rate along the sign of each gradient."""
    vae = linear_gaussian()
    poor = poor_posterior()
    found = refined(vae, drawn_images(vae, COUNT), poor, steps=1, learning_rate=0.03)
    np.testing.assert_allclose(np.abs(found.mean - poor.mean), 0.03, rtol=1e-3)
    np.testing.assert_allclose(np.abs(found.log_var - poor.log_var), 0.03, rtol=1e-3)


def test_the_result_belongs_to_its_seed_and_not_to_the_calls_that_updates_are_split_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vae = linear_gaussian()
    images, poor = drawn_images(vae, COUNT), poor_posterior()
    first, other = (refined(vae, images, poor, seed=seed) for seed in (1, 2))
    assert np.all(first.mean != other.mean)
    for steps in (25, 7):
        monkeypatch.setattr(refinement, "_STEPS_PER_CALL", steps)
        again = refined(vae, images, poor, seed=1)
        np.testing.assert_array_equal(again.mean, first.mean)
        np.testing.assert_array_equal(again.log_var, first.log_var)
