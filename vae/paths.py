"""Paths through the noise of the prior: between two images, and along directions that tell much of an image."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.latent_space import gaussian_quantiles
from vae.model import VAE

Array = NDArray[np.floating]

#: Below this sine of the angle of two noises the great circle through them is not unique, or rounding decides it.
_LEAST_SINE = 1e-6


def noise_of(vae: VAE, latents: Array) -> NDArray[np.float32]:
    """The standard normal noise that the prior makes `latents` of, both (count, latent) float32."""
    return latents.astype(np.float32) if vae.prior is None else vae.prior.normalise(tf.constant(latents))[0].numpy()


def great_circles(starts: Array, ends: Array, steps: int) -> NDArray[np.float64]:
    """Points between pairs of noises: the direction follows a great circle at an even pace (Shoemake 1985, slerp).

    The norm changes linearly, so that the points are as likely under N(0, I) as the ends; those of a straight line
    would be shorter. Noises of the same or opposite direction, which have no single great circle, have a straight line.

    Args:
        starts: (pairs, latent).
        ends: (pairs, latent).
        steps: Points of a path with both ends, at least 2.

    Returns:
        (pairs, steps, latent); the first and the last are `starts` and `ends`.
    """
    shares = np.linspace(0, 1, steps)[:, None]
    ends_of = np.stack([starts, ends], axis=1).astype(np.float64)  # (pairs, 2, latent)
    norms = np.linalg.norm(ends_of, axis=2, keepdims=True)
    straight = (1 - shares) * ends_of[:, :1] + shares * ends_of[:, 1:]
    units = ends_of / np.where(norms > 0, norms, 1)
    angles = np.arccos(np.clip((units[:, :1] * units[:, 1:]).sum(axis=2, keepdims=True), -1, 1))
    sines = np.where(np.sin(angles) > _LEAST_SINE, np.sin(angles), 1)
    directions = (np.sin((1 - shares) * angles) * units[:, :1] + np.sin(shares * angles) * units[:, 1:]) / sines
    lengths = (1 - shares) * norms[:, :1] + shares * norms[:, 1:]
    unique = (np.sin(angles) > _LEAST_SINE) & norms.all(axis=1, keepdims=True)
    paths = np.where(unique, lengths * directions, straight)
    paths[:, 0], paths[:, -1] = starts, ends
    return paths


def interpolations(vae: VAE, starts: Array, ends: Array, steps: int) -> NDArray[np.float32]:
    """Latents between pairs of latents, along great circles of the prior's noise.

    Args:
        vae: Its prior makes latents of noise.
        starts: (pairs, latent) float32, such as posterior means of images.
        ends: (pairs, latent) float32.
        steps: Points of a path with both ends, at least 2.

    Returns:
        (pairs, steps, latent) float32; the first and the last are `starts` and `ends` exactly.
    """
    paths = great_circles(noise_of(vae, starts), noise_of(vae, ends), steps)
    latents = _latents_of(vae, paths)
    latents[:, 0], latents[:, -1] = starts, ends
    return latents


def telling_directions(noise: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthogonal directions of the prior's noise, by how much their coordinate tells of the image.

    They are the principal directions of the mean covariance of q(noise|x) over images, the narrowest first. Under the
    prior a coordinate is standard normal along each. One of variance v given the image tells -log(v) / 2: for Gaussian
    q a lower bound, by Jensen's inequality, of its mean information in an image whose noises follow the prior.

    Args:
        noise: (draws, count, latent), the noise of draws of q(z|x) of each image, two draws or more.

    Returns:
        Directions (latent, latent), a unit vector a row, whose largest component is positive; and what each tells,
        (latent,) nats an image, falling, 0 at least.
    """
    within = (noise - noise.mean(axis=0, dtype=np.float64)).reshape(-1, noise.shape[2])
    covariance = within.T @ within / (len(within) - noise.shape[1])
    variances, columns = np.linalg.eigh(covariance)
    directions = columns.T * np.sign(columns.T[np.arange(len(columns)), np.abs(columns).argmax(axis=0)])[:, None]
    return directions, np.maximum(0, -0.5 * np.log(variances))


def traversals(vae: VAE, latents: Array, directions: Array, steps: int) -> NDArray[np.float32]:
    """Latents of images moved in the prior's noise along one direction at a time, through the Gaussian quantiles.

    The image's own coordinate along the direction is replaced; the rest of its noise stays.

    Args:
        vae: Its prior makes latents of noise.
        latents: (rows, latent) float32, where each row starts, such as the posterior mean of a real image.
        directions: (rows, latent) unit vectors, one of each row.
        steps: Points of a row.

    Returns:
        (rows, steps, latent) float32.
    """
    noise = noise_of(vae, latents)
    moved = gaussian_quantiles(steps) - (noise * directions).sum(axis=1, keepdims=True)  # (rows, steps)
    return _latents_of(vae, noise[:, None] + moved[..., None] * directions[:, None])


def _latents_of(vae: VAE, noise: Array) -> NDArray[np.float32]:
    """Latents of noise, both (rows, steps, latent)."""
    flat = tf.constant(noise.reshape(-1, noise.shape[-1]).astype(np.float32))
    latents: NDArray[np.float32] = vae.from_noise(flat).numpy()
    return latents.reshape(noise.shape)
