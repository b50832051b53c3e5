"""Estimates of the evidence lower bound, image by image."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.model import VAE
from vae.noise import evaluation_noise
from vae.objective import bernoulli_nll, gaussian_kl, reparameterise

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Posterior:
    """q(z|x) of each image: mean and log of the variance, each (count, latent) float32."""

    mean: Array
    log_var: Array


def kl_per_latent(posterior: Posterior) -> Array:
    """KL(q(z|x) || p(z)) of each image and latent, exact; (count, latent) float32, nats."""
    kl: Array = gaussian_kl(tf.constant(posterior.mean), tf.constant(posterior.log_var)).numpy()
    return kl


def _ignore(images: int) -> None:
    """Shows no progress."""


class Evaluator:
    """Runs a VAE over arrays, a batch a call."""

    def __init__(self, vae: VAE, batch_size: int, advance: Callable[[int], None] = _ignore) -> None:
        """Prepares evaluation.

        Args:
            vae: The model; later changes of its weights are seen.
            batch_size: Images per call; changes speed and memory only.
            advance: Called with the number of images done, for progress.
        """
        self._vae = vae
        self._batch_size = batch_size
        self._advance = advance

    def encode(self, images: Array) -> Posterior:
        """q(z|x) of each of `images`, (count, 28, 28) float32 in [0, 1]."""
        means, log_vars = zip(*(self._encode(tf.constant(images[part])) for part in self._parts(images)), strict=True)
        return Posterior(np.concatenate(means), np.concatenate(log_vars))

    def decode(self, latents: Array) -> Array:
        """Probability of each pixel, (count, 28, 28) float32, given `latents`, (count, latent) float32."""
        return np.concatenate([self._decode(tf.constant(latents[part])) for part in self._parts(latents)])

    def reconstruction_loss(self, images: Array, posterior: Posterior, *, seed: int, samples: int) -> Array:
        """E_q[-log p(x|z)] of each image, estimated with `samples` draws of q(z|x).

        Unbiased (Kingma and Welling 2014, equation 7). The noise belongs to seed, draw and image, so that the
        batch in which an image is evaluated does not change it.

        Args:
            images: (count, 28, 28) float32 in [0, 1], the targets.
            posterior: Of the images that the encoder saw.
            seed: Of the latent noise.
            samples: Draws per image.

        Returns:
            (count,) float32, nats per image.
        """
        total = np.zeros(len(images), np.float64)
        for sample in range(samples):
            noise = evaluation_noise(len(images), self._vae.latent_dim, seed, sample)
            for part in self._parts(images):
                arrays = (images[part], posterior.mean[part], posterior.log_var[part], noise[part])
                total[part] += self._nll(*map(tf.constant, arrays))
                self._advance(len(images[part]))
        return (total / samples).astype(np.float32)

    def _parts(self, array: Array) -> list[slice]:
        return [slice(start, start + self._batch_size) for start in range(0, len(array), self._batch_size)]

    @tf.function
    def _encode(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(self._vae.encoder(images))

    @tf.function
    def _decode(self, latents: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self._vae.decoder(latents))

    @tf.function
    def _nll(self, targets: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        return bernoulli_nll(self._vae.decoder(reparameterise(mean, log_var, noise)), targets)
