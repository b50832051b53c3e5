"""The likelihood by a second program: numpy in float64, with draws and masks of its own, from a paper's page each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from ruamel.yaml import YAML

from pipeline.weights import load_weights
from vae.evaluation import Evaluator
from vae.model import VAE, build_vae

Array = NDArray[np.float64]

#: Side of a patch and of the window around it, and the numbers of a patch's pixels but the last.
PATCH, WINDOW, NUMBERS = 4, 8, 15


def bayer(side: int) -> NDArray[np.int64]:
    """The matrix of ordered dithering, by its recursion (Bayer 1973)."""
    if side == 1:
        return np.zeros((1, 1), np.int64)
    half = 4 * bayer(side // 2)
    return np.block([[half, half + 2], [half + 3, half + 1]])


def sigmoid(value: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(value / 2)


@dataclass(frozen=True)
class Second:
    """The default's model in numpy: gated dense layers, affine couplings, and gated patches that see earlier pixels."""

    vae: VAE  # read for its weights alone

    def dense(self, network: keras.Model, name: str, value: Array) -> Array:
        layer = network.get_layer(name)
        given = value @ layer.kernel.numpy().astype(np.float64)
        return given + layer.bias.numpy() if layer.use_bias else given

    def gated(self, network: keras.Model, name: str, value: Array) -> Array:
        for number in (1, 2):
            linear = self.dense(network, f"{name}_{number}", value)
            value = linear * sigmoid(self.dense(network, f"{name}_{number}_gate", value))
        return value

    def posterior(self, images: Array) -> tuple[Array, Array]:
        hidden = self.gated(self.vae.encoder, "encoder", images.reshape(len(images), -1))
        return self.dense(self.vae.encoder, "mean", hidden), self.dense(self.vae.encoder, "log_var", hidden)

    def log_prior(self, latent: Array) -> Array:
        assert self.vae.prior is not None
        value, log_det, size = latent, np.zeros(len(latent)), latent.shape[1]
        for number in range(4):
            mixed = np.random.default_rng(number).permutation(size)
            value = value[:, mixed] if number % 2 == 0 else np.roll(value, -(size // 2), axis=1)
            first, second = np.split(value, [size // 2], axis=1)
            network = self.vae.prior.normalise.get_layer(f"coupling_{number}")
            hidden = np.maximum(self.dense(network, "hidden_1", first), 0)
            hidden = np.maximum(self.dense(network, "hidden_2", hidden), 0)
            log_scale = 2 * np.tanh(self.dense(network, "log_scale", hidden) / 2)
            second = (second + self.dense(network, "shift", hidden)) * np.exp(log_scale)
            value, log_det = np.concatenate([first, second], axis=1), log_det + log_scale.sum(axis=1)
        return normal(value) + log_det

    def log_likelihood(self, latent: Array, images: Array) -> Array:
        """Log p(x|z), patch by patch; each pixel by its own loop over the units that it may see."""
        decoder = self.vae.decoder
        logits = self.dense(decoder, "pixels", self.gated(decoder, "decoder", latent)).reshape(images.shape)
        scale, shift = 1 + self.dense(decoder, "scale", latent), self.dense(decoder, "shift", latent)
        of_pixels, of_logits, correction = (
            decoder.get_layer(name).kernel.numpy().astype(np.float64)
            for name in ("near_pixels", "near_logits", "correction")
        )
        units = len(correction)
        number = np.arange(units) * NUMBERS // units
        order, places = bayer(PATCH), list(np.ndindex(2, 2, PATCH, PATCH))  # of a window: block by block, then pixels
        around = [(PATCH * a + row, PATCH * b + column) for a, b, row, column in places]
        numbers = np.array([order[(y - 2) % PATCH, (x - 2) % PATCH] for y, x in around])
        of_pixels = of_pixels * np.concatenate([numbers[:, None] <= number] * 2, axis=1)
        total = np.zeros(len(images))
        padded = [np.pad(array, ((0, 0), (2, 2), (2, 2))) for array in (images - 0.5, logits)]
        for top, left in np.ndindex(images.shape[1] // PATCH, images.shape[2] // PATCH):
            pixels, near = (
                np.stack([array[:, PATCH * top + y, PATCH * left + x] for y, x in around], axis=1) for array in padded
            )
            value = (pixels @ of_pixels + near @ of_logits) * scale + shift
            hidden = value[:, :units] * sigmoid(value[:, units:])
            for row, column in np.ndindex(PATCH, PATCH):
                y, x = PATCH * top + row, PATCH * left + column
                seen = number < order[row, column]
                odds = logits[:, y, x] + hidden[:, seen] @ correction[seen, PATCH * row + column]
                total -= np.logaddexp(0, np.where(images[:, y, x] == 1, -odds, odds))
        return total

    def nll(self, images: Array, draws: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """Minus log of the mean weight p(x, z) / q(z|x) of each image, and its error over draws."""
        mean, log_var = self.posterior(images)
        weights = []
        for _ in range(draws):
            noise = generator.standard_normal(mean.shape)
            latent = mean + np.exp(log_var / 2) * noise
            log_q = normal(noise) - log_var.sum(axis=1) / 2
            weights.append(self.log_likelihood(latent, images) + self.log_prior(latent) - log_q)
        log_weights = np.array(weights)
        greatest = log_weights.max(axis=0)
        relative = np.exp(log_weights - greatest)
        error = relative.std(axis=0, ddof=1) / relative.mean(axis=0) / np.sqrt(draws)
        return -(greatest + np.log(relative.mean(axis=0))), error


def normal(value: Array) -> Array:
    """Log-density of N(0, I)."""
    density: Array = -0.5 * (np.square(value) + np.log(2 * np.pi)).sum(axis=1)
    return density


def random_vae() -> tuple[VAE, Array]:
    """The default's layers, smaller, with random weights of every kind, and random images."""
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", 6, [20, 20], (12, 12), "coupling_flow", [16] * 4, autoregressive_units=32)
    generator = np.random.default_rng(1)
    for weight in vae.variables:
        weight.assign(weight + generator.normal(0, 0.05, weight.shape).astype(np.float32))
    return vae, (generator.random((20, 12, 12)) < 0.5).astype(np.float64)


def workspace_vae() -> tuple[VAE, Array]:
    """The model that `make`, or an experiment that was applied, has left here, and its first validation images."""
    if not (ROOT / "data/model").is_dir():
        pytest.skip("no data/model: make, or dvc exp apply record")
    model: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")["model"]
    names = ("architecture", "latent_dim", "widths", "prior", "prior_widths", "autoregressive_units")
    images = np.load(ROOT / "data/prepared/validation/binarised.npy")[:100].astype(np.float64)
    vae = build_vae(**{name: model[name] for name in names}, image_shape=images.shape[1:])
    load_weights(vae, ROOT / "data/model")
    return vae, images


@pytest.mark.parametrize("made", [random_vae, pytest.param(workspace_vae, marks=pytest.mark.whole)])
def test_two_programs_find_the_same_likelihood(made: Callable[[], tuple[VAE, Array]]) -> None:
    vae, images = made()
    single = images.astype(np.float32)
    evaluator = Evaluator(vae, 50)
    ours = evaluator.likelihood(single, evaluator.encode(single), seed=3, samples=200)
    nll, error = Second(vae).nll(images, 200, np.random.default_rng(4))
    combined = np.sqrt(np.square(error).sum() + np.square(ours.monte_carlo_error.astype(np.float64)).sum()) / len(
        images
    )
    assert combined < 0.05
    assert abs(ours.nll.mean() - nll.mean()) < 4 * combined
    latent = np.random.default_rng(5).standard_normal((len(images), vae.latent_dim))
    pairs = (
        (vae.reconstruction_loss(latent.astype(np.float32), single), -Second(vae).log_likelihood(latent, images)),
        (vae.log_prior(latent.astype(np.float32)), Second(vae).log_prior(latent)),
    )
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-4)
