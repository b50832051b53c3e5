"""Estimators that are wrong on purpose: the test that is there to find each does."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import test_evaluation as right
from conftest import Project

from vae import evaluation
from vae.evaluation import Evaluator
from vae.model import VAE
from vae.objective import gaussian_kl

Break = Callable[[pytest.MonkeyPatch], None]

IMAGES = np.random.default_rng(0).random((right.COUNT, 28, 28), np.float32)


def half_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """K draws are taken for the 2 K that are asked."""
    whole = Evaluator._likelihood

    def half(self: Evaluator, *arguments: object) -> evaluation.Likelihood:
        *arrays, samples = arguments
        assert isinstance(samples, int)
        return whole(self, *arrays, max(1, samples // 2))

    monkeypatch.setattr(Evaluator, "_likelihood", half)


def twice_the_draws_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of K weights is divided by 2 K."""
    monkeypatch.setattr(evaluation, "math", SimpleNamespace(log=lambda draws: math.log(2 * draws), inf=math.inf))


def averaged_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The KL is averaged over latents instead of summed."""

    def kl(self: VAE, mean: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(gaussian_kl(mean, log_var), axis=1)

    monkeypatch.setattr(VAE, "kl", kl)


def averaged_log_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log q(z|x) - log p(z) of a draw is averaged over latents instead of summed."""
    summed = evaluation.sampled_kl
    monkeypatch.setattr(evaluation, "sampled_kl", lambda log_var, *rest: summed(log_var, *rest) / log_var.shape[1])


def variance_for_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw is mean + exp(log_var) * noise."""
    monkeypatch.setattr(
        evaluation, "reparameterise", lambda mean, log_var, noise: mean + tf.exp(tf.convert_to_tensor(log_var)) * noise
    )


def closed_form_kl() -> None:
    right.test_the_kl_from_the_standard_normal_is_exact(Evaluator(right.linear_vae(3), 3), IMAGES)


def draws_taken() -> None:
    vae = right.linear_vae(3)
    right.test_draws_taken_are_draws_asked(Evaluator(vae, 3), vae, IMAGES, 20)


@pytest.mark.parametrize(
    ("break_it", "test"),
    [
        (half_the_draws, draws_taken),
        (twice_the_draws_in_the_mean, right.test_the_likelihood_of_a_linear_gaussian_model_is_its_closed_form),
        (averaged_kl, closed_form_kl),
        (averaged_log_ratio, right.test_the_likelihood_of_a_linear_gaussian_model_is_its_closed_form),
        (variance_for_deviation, right.test_the_reconstruction_loss_is_unbiased),
    ],
)
def test_a_wrong_estimator_fails(break_it: Break, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        test()


def images_are_those_of_their_labels(project: Project, split: str) -> None:
    """Images and labels of a prepared split are the upstream ones of its indices."""
    raw, prepared = project.folder / "data/raw", project.folder / "data/prepared" / split
    upstream = "test" if split == "test" else "train"
    index, labels, images = (np.load(prepared / f"{name}.npy") for name in ("index", "labels", "images"))
    np.testing.assert_array_equal(labels, np.load(raw / f"{upstream}_labels.npy")[index])
    expected = np.load(raw / f"{upstream}_images.npy")[index].astype(np.float64) / 255
    np.testing.assert_allclose(images, expected, rtol=1e-6)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_belong_to_their_labels(finished: Project, split: str) -> None:
    images_are_those_of_their_labels(finished, split)


def test_test_images_shuffled_against_their_labels_are_found(project: Project) -> None:
    stage = project.folder / "stages/preprocess.py"
    source = stage.read_text()
    shuffled = source.replace('_split(arrays["test_images"], ', '_split(arrays["test_images"][::-1], ')
    assert shuffled != source
    stage.write_text(shuffled)
    project.repro("preprocess")
    with pytest.raises(AssertionError):
        images_are_those_of_their_labels(project, "test")
