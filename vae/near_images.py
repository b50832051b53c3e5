"""Points of the latent plane where images lie: the mean of the aggregate posterior over each point."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from vae.latent_space import Plane

Array = NDArray[np.floating]

#: Points of the plane whose weights of all images are in memory at the same time.
_POINTS = 100


def points_near_images(plane: Plane, coordinates: Array, mean: Array) -> NDArray[np.float32]:
    """Latents over points of the plane, moved off it to the mean of the other directions given the two of the plane.

    The mean is the kernel regression of the images' posterior means (Nadaraya 1964; Watson 1964) on their coordinates.
    The kernel is Gaussian. Its bandwidth is Scott's in two dimensions, count^(-1/6) standard deviations (Scott 1992),
    in which the coordinates are. Far from all images it is the nearest one's. The coordinates in the
    plane stay as they are, so in a latent space of two dimensions these are the plane's own points.

    Args:
        plane: Of the two leading directions.
        coordinates: (points, 2), in standard deviations.
        mean: (count, latent), posterior means of images, such as those that the plane was made of.

    Returns:
        (points, latent) float32.
    """
    own = plane.coordinates(mean)
    others = mean - (plane.origin + own @ plane.axes)
    bandwidth = len(mean) ** (-1 / 6)
    parts = [coordinates[start : start + _POINTS] for start in range(0, len(coordinates), _POINTS)]
    moves = [softmax(-_squares(part, own) / (2 * bandwidth**2), axis=1) @ others for part in parts]
    return plane.points(coordinates) + np.concatenate(moves).astype(np.float32)


def _squares(points: Array, images: Array) -> NDArray[np.float64]:
    """Squared distances (points, images) of coordinates (points, 2) and (images, 2)."""
    return np.square(points[:, None] - images).sum(axis=2)
