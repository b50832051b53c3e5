"""A VAE whose decoder is linear and whose pixels are Gaussian: its likelihood and posterior have closed forms."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from vae.model import VAE, Flow
from vae.priors import coupling_flow

Exact = NDArray[np.float64]

LATENTS, DEVIATION = 3, 0.5


class LinearGaussian(VAE):
    """p(x|z) = N(W z + b, s^2 I), with W and b the decoder's weights."""

    def reconstruction_loss(self, latent: tf.Tensor, targets: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        assert not training
        residual = (targets - self.decoder(latent)) / DEVIATION
        return tf.reduce_sum(tf.square(residual) / 2 + np.log(DEVIATION * np.sqrt(2 * np.pi)), axis=(1, 2))


@dataclass(frozen=True)
class Truth:
    """Exact moments of the model's posterior, and log p(x) of the images."""

    precision: Exact  # (latents, latents), of the posterior
    mean: Exact  # (count, latents), of the posterior
    log_likelihood: Exact  # (count,)


def linear_gaussian(learned_prior: bool = False) -> LinearGaussian:
    """A model whose loadings overlap; a learned prior is a Gaussian away from the origin."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    image, latent = keras.Input((28, 28)), keras.Input((LATENTS,))
    encoder = keras.Model(image, [layers.Dense(LATENTS)(layers.Flatten()(image)) for _ in range(2)])
    pixels = layers.Dense(784)
    decoder = keras.Model(latent, layers.Reshape((28, 28))(pixels(latent)))
    mixing = np.array([[0.5, 0.6, 0.0], [0.0, 0.8, 1.2], [0.4, 0.4, 1.2]])
    pixels.set_weights([(generator.normal(size=(784, 3)) @ mixing / 28).T, generator.normal(size=784)])
    if not learned_prior:
        return LinearGaussian(encoder, decoder)
    prior = Flow(*coupling_flow.build(LATENTS, [4, 4]))
    for weight in prior.normalise.weights:  # without kernels, scales and shifts depend on nothing
        weight.assign(generator.normal(0, 0.5, weight.shape) if weight.path.endswith("bias") else 0 * weight)
    return LinearGaussian(encoder, decoder, prior)


def drawn_images(vae: VAE, count: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(1)
    latents = vae.from_noise(tf.constant(generator.normal(size=(count, LATENTS)).astype(np.float32)))
    return vae.decoder(latents).numpy() + generator.normal(0, DEVIATION, (count, 28, 28)).astype(np.float32)


def truth_of(vae: VAE, images: NDArray[np.float32]) -> Truth:
    loadings, offset = (weight.numpy().astype(np.float64).T for weight in vae.decoder.weights)
    centre, moved = (vae.from_noise(tf.fill((1, LATENTS), value)).numpy().astype(np.float64)[0] for value in (0.0, 1.0))
    prior_variance = (moved - centre) ** 2
    precision = np.diag(1 / prior_variance) + loadings.T @ loadings / DEVIATION**2
    residual = images.reshape(-1, 784) - offset - loadings @ centre
    covariance = loadings @ np.diag(prior_variance) @ loadings.T + DEVIATION**2 * np.eye(784)
    squares = np.sum(residual * np.linalg.solve(covariance, residual.T).T, axis=1)
    return Truth(
        precision=precision,
        mean=centre + residual @ loadings @ np.linalg.inv(precision) / DEVIATION**2,
        log_likelihood=-0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1]),
    )
