"""Estimates of the evidence lower bound and of the likelihood, image by image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.model import VAE
from vae.noise import evaluation_draw, evaluation_noise, importance_noise
from vae.objective import bernoulli_nll, reparameterise, sampled_kl

Array = NDArray[np.float32]

#: Images whose importance-weighted draws share one stream of noise, and draws of each in one compiled call.
_IMPORTANCE_IMAGES, _IMPORTANCE_DRAWS = 250, 20


@dataclass(frozen=True)
class Posterior:
    """q(z|x) of each image: mean and log of the variance, each (count, latent) float32."""

    mean: Array
    log_var: Array


@dataclass(frozen=True)
class Likelihood:
    """Importance-weighted estimate of -log p(x) of each image."""

    nll: Array  # (count,) nats per image; its expectation is an upper bound
    monte_carlo_error: Array  # (count,) nats, standard error of `nll` over draws
    samples: int  # draws per image that were taken


def information_per_latent(posterior: Posterior) -> Array:
    """Mean KL of q(z_j|x) from the Gaussian with the moments of the aggregate posterior, for each latent j.

    It is the mutual information of image and latent plus the KL of the aggregate posterior from that Gaussian
    (Hoffman and Johnson 2016), so an upper bound of the information, whatever the prior.

    Returns:
        (latent,) float32, nats.
    """
    mean, log_var = posterior.mean.astype(np.float64), posterior.log_var.astype(np.float64)
    variance = mean.var(axis=0) + np.exp(log_var).mean(axis=0)
    return (0.5 * (np.log(variance) - log_var.mean(axis=0))).astype(np.float32)


def _ignore(images: int) -> None:
    """Shows no progress."""


class Evaluator:
    """Runs a VAE over arrays, a batch a call."""

    def __init__(
        self, vae: VAE, batch_size: int, advance: Callable[[int], None] = _ignore, *, jit_compile: bool = False
    ) -> None:
        """Prepares evaluation.

        Args:
            vae: The model; later changes of its weights are seen.
            batch_size: Images per call; changes speed and memory only.
            advance: Called with the number of draws done, for progress.
            jit_compile: Whether XLA compiles the draws of `likelihood`.
        """
        self._vae = vae
        self._batch_size = batch_size
        self._advance = advance
        self._draw = tf.function(self._importance_draws, jit_compile=jit_compile)

    def encode(self, images: Array) -> Posterior:
        """q(z|x) of each of `images`, (count, 28, 28) float32 in [0, 1]."""
        means, log_vars = zip(*(self._encode(tf.constant(images[part])) for part in self._parts(images)), strict=True)
        return Posterior(np.concatenate(means), np.concatenate(log_vars))

    def samples(self, noise: Array) -> Array:
        """Probability of each pixel of draws of the prior, (count, 28, 28) float32, from standard normal `noise`."""
        return np.concatenate([self._decode(self._vae.from_noise(tf.constant(noise[p]))) for p in self._parts(noise)])

    def decode(self, latents: Array) -> Array:
        """Probability of each pixel, (count, 28, 28) float32, given `latents`, (count, latent) float32."""
        return np.concatenate([self._decode(tf.constant(latents[part])) for part in self._parts(latents)])

    def terms(self, images: Array, posterior: Posterior, *, seed: int, samples: int) -> tuple[Array, Array]:
        """Reconstruction loss E_q[-log p(x|z)] and KL(q(z|x) || p(z)) of each image, from `samples` draws of q(z|x).

        Unbiased (Kingma and Welling 2014, equations 6 and 7); the KL from a standard normal prior is exact. The
        noise belongs to seed, draw and image, so that the batch in which an image is evaluated does not change it.
        Gray targets stand for the binary images drawn from them: the loss of independent pixels is the mean over
        these in closed form, that of an autoregressive decoder is the loss of one for each draw of q(z|x).

        Args:
            images: (count, 28, 28) float32 in [0, 1], the targets.
            posterior: Of the images that the encoder saw.
            seed: Of the latent noise.
            samples: Draws per image.

        Returns:
            Reconstruction loss and KL, each (count,) float32, nats per image.
        """
        total = np.zeros((2, len(images)), np.float64)
        for sample in range(samples):
            noise = evaluation_noise(len(images), self._vae.latent_dim, seed, sample)
            targets = evaluation_draw(images, seed, sample).numpy() if self._vae.autoregressive else images
            for part in self._parts(images):
                arrays = (targets[part], posterior.mean[part], posterior.log_var[part], noise[part])
                total[:, part] += self._terms(*map(tf.constant, arrays))
                self._advance(len(images[part]))
        reconstruction, kl = (total / samples).astype(np.float32)
        return reconstruction, kl

    def likelihood(self, images: Array, posterior: Posterior, *, seed: int, samples: int) -> Likelihood:
        """Minus log of the mean importance weight p(x, z) / q(z|x) over `samples` draws of q(z|x) for each image.

        Its expectation is an upper bound of -log p(x) that falls with the draws; with one draw it is the
        negative ELBO's (Burda et al. 2016, equation 8 and theorem 1). The weights are summed as they come, so
        memory does not grow with the draws. The error over draws is the delta method's, s / (m sqrt(K)) for
        weights of mean m and deviation s.

        Args:
            images: (count, 28, 28) float32, binary.
            posterior: Of the images that the encoder saw.
            seed: Of the latent noise.
            samples: Draws per image, K.
        """
        sums, squares, taken = [], [], 0
        for number, start in enumerate(range(0, len(images), _IMPORTANCE_IMAGES)):
            part = slice(start, start + _IMPORTANCE_IMAGES)
            arrays = [_filled(array[part]) for array in (images, posterior.mean, posterior.log_var)]
            log_sum = log_square = tf.fill((_IMPORTANCE_IMAGES,), -math.inf)
            taken = 0
            while taken < samples:
                draws = min(_IMPORTANCE_DRAWS, samples - taken)
                log_sum, log_square = self._draw(
                    *arrays, log_sum, log_square, tf.constant([seed, number]), tf.constant(taken), tf.constant(draws)
                )
                taken += draws
                self._advance(len(images[part]) * draws)
            sums.append(log_sum.numpy()[: len(images[part])])
            squares.append(log_square.numpy()[: len(images[part])])
        log_sum, log_square = np.concatenate(sums).astype(np.float64), np.concatenate(squares).astype(np.float64)
        relative_variance = np.maximum(np.exp(log_square - 2 * log_sum) - 1 / taken, 0)
        nll = math.log(taken) - log_sum
        return Likelihood(nll.astype(np.float32), np.sqrt(relative_variance).astype(np.float32), taken)

    def _parts(self, array: Array) -> list[slice]:
        return [slice(start, start + self._batch_size) for start in range(0, len(array), self._batch_size)]

    @tf.function
    def _encode(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(self._vae.encoder(images))

    @tf.function
    def _decode(self, latents: tf.Tensor) -> tf.Tensor:
        return self._vae.decode(latents)

    @tf.function
    def _terms(self, targets: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        latent = reparameterise(mean, log_var, noise)
        nll = bernoulli_nll(self._vae.logits(latent, targets), targets)
        return tf.stack([nll, self._vae.kl(mean, log_var, noise, latent)])

    def _importance_draws(
        self,
        targets: tf.Tensor,
        mean: tf.Tensor,
        log_var: tf.Tensor,
        log_sum: tf.Tensor,
        log_square: tf.Tensor,
        stream: tf.Tensor,
        first: tf.Tensor,
        count: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logs of the sums of weights and of their squares after `count` more draws, numbers `first` on."""
        sample = first
        while sample < first + count:  # XLA would compile anew for every bound of a tf.range
            noise = importance_noise(_IMPORTANCE_IMAGES, self._vae.latent_dim, stream, sample)
            latent = reparameterise(mean, log_var, noise)
            nll = bernoulli_nll(self._vae.logits(latent, targets), targets)
            log_weight = -(nll + sampled_kl(log_var, noise, self._vae.log_prior(latent)))
            log_sum = tf.reduce_logsumexp(tf.stack([log_sum, log_weight]), axis=0)
            log_square = tf.reduce_logsumexp(tf.stack([log_square, 2 * log_weight]), axis=0)
            sample += 1
        return log_sum, log_square


def _filled(array: Array) -> tf.Tensor:
    """`array` with its last row repeated up to the images of one call, so that every call has one shape."""
    missing = _IMPORTANCE_IMAGES - len(array)
    return tf.constant(np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]))
