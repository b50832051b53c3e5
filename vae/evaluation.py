"""Estimates of the evidence lower bound and of the likelihood, image by image."""

import math
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.model import VAE
from vae.noise import evaluation_draw, evaluation_noise, importance_noise
from vae.objective import reparameterise, sampled_kl

Array = NDArray[np.float32]

#: Images whose importance-weighted draws share one stream of noise, and draws of each in one compiled call.
_IMPORTANCE_IMAGES, _IMPORTANCE_DRAWS = 50, 100


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


def kl_per_latent(posterior: Posterior) -> Array:
    """KL of q(z_j|x) from the Gaussian with the moments of the aggregate posterior, for each image and latent j.

    Its mean over images is the mutual information of image and latent plus the KL of the aggregate posterior from that
    Gaussian (Hoffman and Johnson 2016), so an upper bound of the information, whatever the prior.

    Returns:
        (count, latent) float32, nats.
    """
    mean, log_var = posterior.mean.astype(np.float64), posterior.log_var.astype(np.float64)
    centred, own = mean - mean.mean(axis=0), np.exp(log_var)
    variance = np.square(centred).mean(axis=0) + own.mean(axis=0)
    kl = 0.5 * (np.log(variance) - log_var + (own + np.square(centred)) / variance - 1)
    return kl.astype(np.float32)


class Evaluator:
    """Runs a VAE over arrays, one batch a call."""

    def __init__(
        self,
        vae: VAE,
        batch_size: int,
        advance: Callable[[int], None] = lambda _: None,
        *,
        jit_compile: bool = False,
        workers: int = 1,
    ) -> None:
        """Prepares evaluation.

        Args:
            vae: The model; later changes of its weights are seen.
            batch_size: Images per call; changes speed and memory only.
            advance: Called with the number of draws done, for progress.
            jit_compile: Whether XLA compiles the draws of `likelihood`.
            workers: Parts of the images that `likelihood` works on at the same time; changes speed and memory only. One
                for each processor keeps all of them busy, as the work on a part is too small to be split.
        """
        self._vae = vae
        self._batch_size = batch_size
        self._advance = advance
        self._workers = workers
        self._draw = tf.function(self._importance_draws, jit_compile=jit_compile)

    def encode(self, images: Array) -> Posterior:
        """q(z|x) of each of `images`, (count, rows, columns) float32 in [0, 1]."""
        means, log_vars = zip(*self._batches(self._encode, images), strict=True)
        return Posterior(np.concatenate(means), np.concatenate(log_vars))

    def draws(self, noise: Array, uniform: Array) -> Array:
        """Binary images drawn from the model, (count, rows, columns) float32.

        Args:
            noise: (count, latent) float32, standard normal; makes the latents.
            uniform: (count, rows, columns) float32, uniform on [0, 1); makes the pixels.
        """
        return np.concatenate([*self._batches(self._images, noise, uniform)])

    def terms(self, images: Array, posterior: Posterior, *, seed: int, samples: int) -> tuple[Array, Array]:
        """Reconstruction loss -log p(x|z) and KL(q(z|x) || p(z)) of each image, by each of `samples` draws of q(z|x).

        Their means over draws are unbiased (Kingma and Welling 2014, equations 6 and 7); the KL from a standard normal
        prior is exact. The noise belongs to seed, draw and image, so that the batch in which an image is evaluated does
        not change it. Gray targets stand for the binary images drawn from them: the loss of independent pixels is the
        mean over these in closed form, that of an autoregressive decoder is the loss of one for each draw of q(z|x).

        Args:
            images: (count, rows, columns) float32 in [0, 1], the targets.
            posterior: Of the images that the encoder saw.
            seed: Of the latent noise.
            samples: Draws per image.

        Returns:
            Reconstruction loss and KL, each (samples, count) float32, nats per image.
        """
        terms = []
        for sample in range(samples):
            noise = evaluation_noise(len(images), self._vae.latent_dim, seed, sample)
            targets = evaluation_draw(images, seed, sample).numpy() if self._vae.autoregressive else images
            for batch in self._batches(self._terms, targets, posterior.mean, posterior.log_var, noise):
                terms.append(batch)
                self._advance(batch.shape[1])
        reconstruction, kl = np.concatenate(terms, axis=1).reshape(2, samples, len(images))
        return reconstruction, kl

    def predictions(self, images: Array, posterior: Posterior, *, seed: int) -> Array:
        """Probability of each pixel given one draw of q(z|x) and, by an autoregressive decoder, the earlier pixels.

        It is the draw that `terms` takes first.

        Args:
            images: (count, rows, columns) float32, binary.
            posterior: Of the images that the encoder saw.
            seed: Of the latent noise.

        Returns:
            (count, rows, columns) float32.
        """
        noise = evaluation_noise(len(images), self._vae.latent_dim, seed, 0)
        return np.concatenate([*self._batches(self._predictions, images, posterior.mean, posterior.log_var, noise)])

    def likelihood(self, images: Array, posterior: Posterior, *, seed: int, samples: int) -> Likelihood:
        """The estimates of `likelihoods`, joined for all images."""
        parts = list(self.likelihoods(images, posterior, seed=seed, samples=samples))
        nll = np.concatenate([part.nll for part in parts])
        return Likelihood(nll, np.concatenate([part.monte_carlo_error for part in parts]), parts[0].samples)

    def likelihoods(
        self, images: Array, posterior: Posterior, *, seed: int, samples: int, done: int = 0
    ) -> Generator[Likelihood, None, None]:
        """Minus log of the mean importance weight p(x, z) / q(z|x) over `samples` draws of q(z|x) for each image.

        Its expectation is an upper bound of -log p(x) that falls with the draws; with one draw it is the
        negative ELBO's (Burda et al. 2016, equation 8 and theorem 1). The weights are summed as they come, so
        memory does not grow with the draws. The error over draws is the delta method's, s / (m sqrt(K)) for
        weights of mean m and deviation s.

        Args:
            images: (count, rows, columns) float32, binary.
            posterior: Of the images that the encoder saw.
            seed: Of the latent noise.
            samples: Draws per image, K.
            done: Images, from the first on, to skip because an earlier call yielded their estimates.

        Yields:
            Estimates of the next few images.
        """

        def estimate(start: int) -> Likelihood:
            part = slice(start, start + _IMPORTANCE_IMAGES)
            stream = tf.constant([seed, start // _IMPORTANCE_IMAGES])
            return self._likelihood(images[part], posterior.mean[part], posterior.log_var[part], stream, samples)

        with ThreadPoolExecutor(self._workers) as pool:
            for part in pool.map(estimate, range(done, len(images), _IMPORTANCE_IMAGES)):
                self._advance(len(part.nll) * samples)
                yield part

    def _likelihood(self, images: Array, mean: Array, log_var: Array, stream: tf.Tensor, samples: int) -> Likelihood:
        """The estimates of one part of the images."""
        arrays = [_filled(array) for array in (images, mean, log_var)]
        log_sum, log_square = np.full((2, _IMPORTANCE_IMAGES), -np.inf)
        taken = 0
        while taken < samples:
            draws = min(_IMPORTANCE_DRAWS, samples - taken)
            some, some_square = self._draw(*arrays, stream, tf.constant(taken), tf.constant(draws))
            log_sum = np.logaddexp(log_sum, some.numpy())  # in float64, where many draws do not drown the next ones
            log_square = np.logaddexp(log_square, some_square.numpy())
            taken += draws
        log_sum, log_square = log_sum[: len(images)], log_square[: len(images)]
        relative_variance = np.maximum(np.exp(log_square - 2 * log_sum) - 1 / taken, 0)
        nll = math.log(taken) - log_sum
        return Likelihood(nll.astype(np.float32), np.sqrt(relative_variance).astype(np.float32), taken)

    def _batches(self, call: Callable[..., Any], *arrays: Array | tf.Tensor) -> Iterator[Any]:
        """Yields what `call` returns for one batch of all arrays after another."""
        for start in range(0, len(arrays[0]), self._batch_size):
            yield call(*(tf.constant(array[start : start + self._batch_size]) for array in arrays))

    @tf.function
    def _encode(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(self._vae.encoder(images))

    @tf.function
    def _images(self, noise: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        return self._vae.draw(self._vae.from_noise(noise), uniform)

    @tf.function
    def _terms(self, targets: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        latent = reparameterise(mean, log_var, noise)
        nll = self._vae.reconstruction_loss(latent, targets)
        return tf.stack([nll, self._vae.kl(mean, log_var, latent)])

    @tf.function
    def _predictions(self, images: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self._vae.logits(reparameterise(mean, log_var, noise), images))

    def _importance_draws(
        self,
        targets: tf.Tensor,
        mean: tf.Tensor,
        log_var: tf.Tensor,
        stream: tf.Tensor,
        first: tf.Tensor,
        count: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logs of the sums of weights and of their squares over `count` draws, numbers `first` on."""
        log_sum = log_square = tf.fill((_IMPORTANCE_IMAGES,), -math.inf)
        sample = first
        while sample < first + count:  # XLA would compile anew for every bound of a tf.range
            noise = importance_noise(_IMPORTANCE_IMAGES, self._vae.latent_dim, stream, sample)
            latent = reparameterise(mean, log_var, noise)
            nll = self._vae.reconstruction_loss(latent, targets)
            log_weight = -(nll + sampled_kl(log_var, noise, self._vae.log_prior(latent)))
            log_sum = tf.reduce_logsumexp(tf.stack([log_sum, log_weight]), axis=0)
            log_square = tf.reduce_logsumexp(tf.stack([log_square, 2 * log_weight]), axis=0)
            sample += 1
        return log_sum, log_square


def _filled(array: Array) -> tf.Tensor:
    """Repeats the last row of `array` up to the images of one call, so that all calls have the same shape."""
    missing = _IMPORTANCE_IMAGES - len(array)
    return tf.constant(np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]))
