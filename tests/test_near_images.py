"""Points over the plane against means that are known, a loop over images, and the plane itself."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vae.latent_space import Plane, gaussian_quantiles, principal_plane, square_grid
from vae.near_images import points_near_images

Array = NDArray[np.float64]


def cloud(count: int, bend: float = 0.0) -> Array:
    """Means whose two leading directions are the first two axes; the third is a line of the first, or a parabola."""
    points = np.random.default_rng(0).normal(size=(count, 4)) * [3.0, 2.0, 0.1, 0.1]
    points[:, 2] += bend * (points[:, 0] / 3) ** 2
    return points


def axis_plane() -> Plane:
    return Plane(np.zeros(4), np.array([[3.0, 0, 0, 0], [0, 2.0, 0, 0]]), 0.9)


@pytest.mark.parametrize("latents", [1, 2])
def test_a_plane_that_is_the_whole_latent_space_has_its_own_points(latents: int) -> None:
    mean = np.random.default_rng(0).normal(size=(50, latents))
    plane, grid = principal_plane(mean, np.zeros_like(mean)), square_grid(gaussian_quantiles(6))
    np.testing.assert_allclose(points_near_images(plane, grid, mean), plane.points(grid), atol=1e-6)


def test_the_coordinates_in_the_plane_stay() -> None:
    plane, grid, mean = axis_plane(), square_grid(gaussian_quantiles(12)), cloud(300)  # more points than a part has
    found = points_near_images(plane, grid, mean)
    assert (found.shape, found.dtype) == ((144, 4), np.float32)
    np.testing.assert_allclose(plane.coordinates(found), grid, atol=1e-6)


def test_points_follow_a_curved_sheet_of_images() -> None:
    """The third latent is the square of the first; the plane itself stays at zero."""
    grid = np.array([[-1.5, 0.0], [0.0, 0.5], [1.5, -0.5]])
    found = points_near_images(axis_plane(), grid, cloud(20_000, bend=2.0))
    np.testing.assert_allclose(found[:, 2], [4.5, 0, 4.5], atol=0.3)
    np.testing.assert_allclose(found[:, 3], 0, atol=0.05)


def test_the_weights_are_those_of_a_loop_with_scotts_bandwidth() -> None:
    plane, mean, point = axis_plane(), cloud(64), np.array([0.3, -0.7])
    weights = [
        math.exp(-(math.dist((row[0] / 3, row[1] / 2), point) ** 2) / (2 * 0.5**2))  # 64^(-1/6) = 1/2
        for row in mean
    ]
    expected = sum(weight * row[2:] for weight, row in zip(weights, mean, strict=True)) / sum(weights)
    np.testing.assert_allclose(points_near_images(plane, point[None], mean)[0, 2:], expected, rtol=1e-5)


def test_far_from_all_images_it_is_the_nearest() -> None:
    mean = cloud(64)
    nearest = np.argmax(mean[:, 0])
    found = points_near_images(axis_plane(), np.array([[1000.0, mean[nearest, 1] / 2]]), mean)[0]
    np.testing.assert_allclose(found[2:], mean[nearest, 2:], rtol=1e-5)
