"""Geometry of the latent space: where the aggregate posterior lies, and points to decode."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

#: A latent is active if the variance of its posterior means over images is above this (Burda et al. 2016, section 5.2).
ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class Plane:
    """A plane through the latent space: points are origin + u * axes[0] + v * axes[1]."""

    origin: NDArray[np.float64]  # (latent,)
    axes: NDArray[np.float64]  # (2, latent), orthogonal, each as long as the standard deviation along it, or zero
    explained: float  # share of the aggregate posterior's variance that lies in the plane, in [0, 1]

    def points(self, coordinates: Array) -> NDArray[np.float32]:
        """Latents (count, latent) float32 at `coordinates` (count, 2), in standard deviations."""
        return (self.origin + coordinates @ self.axes).astype(np.float32)

    def coordinates(self, latents: Array) -> NDArray[np.float64]:
        """Coordinates (count, 2) in standard deviations of the projections of `latents`, (count, latent)."""
        lengths = np.square(self.axes).sum(axis=1)
        return (latents - self.origin) @ self.axes.T / np.where(lengths > 0, lengths, 1.0)


def variance_of_means(mean: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance over images of the posterior means (count, latent), and its standard error; two of (latent,).

    The error is that of a sample variance, sqrt((m4 - v^2) / n), whatever the distribution.
    """
    squares = np.square(mean - mean.mean(axis=0, dtype=np.float64))
    return squares.mean(axis=0), squares.std(axis=0) / np.sqrt(len(mean))


def principal_plane(mean: Array, log_var: Array) -> Plane:
    """The plane of the two leading principal directions of the aggregate posterior.

    The aggregate posterior, the mixture of q(z|x) over images, has the covariance of the means plus the
    mean of the variances. A latent space of two dimensions is that plane itself: there the axes are the
    latents, in units of the prior, so that a grid of Gaussian quantiles covers the prior.

    Args:
        mean: (count, latent), latent at least 1; one latent has a second axis of length zero.
        log_var: (count, latent), log of the variances.
    """
    latents = mean.shape[1]
    if latents <= 2:
        return Plane(np.zeros(latents), np.eye(2, latents), 1.0)
    means = mean.astype(np.float64)
    covariance = np.cov(means, rowvar=False, bias=True)
    covariance += np.diag(np.exp(log_var.astype(np.float64)).mean(axis=0))
    variances, directions = np.linalg.eigh(covariance)
    leading = directions[:, [-1, -2]].T
    leading *= np.sign(leading[np.arange(2), np.abs(leading).argmax(axis=1)])[:, None]  # one of two signs
    axes = leading * np.sqrt(variances[[-1, -2]])[:, None]
    return Plane(means.mean(axis=0), axes, float(variances[-2:].sum() / variances.sum()))


def gaussian_quantiles(count: int) -> NDArray[np.float64]:
    """Centres of `count` intervals that are equally likely under the standard normal, (count,), ascending."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((number + 0.5) / count) for number in range(count)])


def square_grid(along: Array) -> NDArray[np.float64]:
    """Coordinates (side * side, 2) of a square grid of those `along` an axis, (side,); row by row from the top left."""
    across, down = np.meshgrid(along, along[::-1])
    return np.stack([across.ravel(), down.ravel()], axis=1)
