"""Geometry of the latent space against a singular value decomposition and `math.erf`."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vae.latent_space import (
    ACTIVE_VARIANCE,
    Plane,
    gaussian_quantiles,
    principal_plane,
    square_grid,
    variance_of_means,
)

Array = NDArray[np.float64]


@pytest.fixture
def posterior() -> tuple[Array, Array]:
    """Means and log variances of 300 images and five latents, correlated and of unequal size."""
    generator = np.random.default_rng(0)
    mean = generator.normal(size=(300, 5)) @ generator.normal(size=(5, 5)) + generator.normal(size=5)
    return mean, generator.normal(-1, 1, (300, 5))


@pytest.fixture
def plane(posterior: tuple[Array, Array]) -> Plane:
    return principal_plane(*posterior)


def sigma_points(mean: Array, log_var: Array) -> Array:
    """Points, 2 * latent an image, whose mean and covariance are those of the mixture of posteriors, exactly."""
    latents = mean.shape[1]
    offsets = math.sqrt(latents) * np.exp(log_var / 2)[:, None, :] * np.eye(latents)
    return np.concatenate([mean[:, None, :] + offsets, mean[:, None, :] - offsets]).reshape(-1, latents)


def test_the_plane_is_that_of_a_decomposition_of_the_aggregate_posterior(
    posterior: tuple[Array, Array], plane: Plane
) -> None:
    points = sigma_points(*posterior)
    _, scales, directions = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    deviations = scales / math.sqrt(len(points))
    for axis, deviation, direction in zip(plane.axes, deviations, directions[:2], strict=False):
        assert np.linalg.norm(axis) == pytest.approx(deviation)
        assert abs(axis @ direction) == pytest.approx(deviation)  # parallel
    np.testing.assert_allclose(plane.origin, points.mean(axis=0))
    assert plane.explained == pytest.approx(np.sum(deviations[:2] ** 2) / np.sum(deviations**2))


def test_latents_that_only_their_variances_tell_apart_span_the_plane_by_variance() -> None:
    log_var = np.log(np.tile([1.0, 4.0, 0.25, 9.0], (10, 1)))
    plane = principal_plane(np.zeros((10, 4)), log_var)
    np.testing.assert_allclose(plane.axes, [[0, 0, 0, 3], [0, 2, 0, 0]], atol=1e-12)
    assert plane.explained == pytest.approx(13 / 14.25)


def test_the_largest_component_of_an_axis_is_positive(posterior: tuple[Array, Array]) -> None:
    for sign in (1, -1):
        axes = principal_plane(sign * posterior[0], posterior[1]).axes
        assert np.all(axes[[0, 1], np.abs(axes).argmax(axis=1)] > 0)


def test_float32_posteriors_far_from_the_origin_keep_their_plane(posterior: tuple[Array, Array], plane: Plane) -> None:
    mean, log_var = (array.astype(np.float32) for array in posterior)
    far = principal_plane(mean + np.float32(1000), log_var)
    np.testing.assert_allclose(far.axes, plane.axes, atol=1e-3)


def test_the_origin_is_the_mean_of_many_float32_means_to_their_last_digit() -> None:
    means = np.full((50_000, 3), 1234.567, np.float32)
    origin = principal_plane(means, np.zeros_like(means)).origin
    np.testing.assert_allclose(origin, means[0].astype(np.float64), rtol=1e-9)


def test_two_latents_are_their_own_plane_in_units_of_the_prior() -> None:
    plane = principal_plane(np.full((9, 2), 3.0), np.zeros((9, 2)))
    np.testing.assert_array_equal(plane.origin, [0, 0])
    np.testing.assert_array_equal(plane.axes, np.eye(2))
    assert plane.explained == 1
    np.testing.assert_array_equal(plane.points(np.array([[0.5, -2.0]])), [[0.5, -2]])


def test_one_latent_is_the_first_axis_of_its_plane_and_has_finite_coordinates() -> None:
    plane = principal_plane(np.zeros((9, 1)), np.zeros((9, 1)))
    np.testing.assert_array_equal(plane.points(np.array([[0.5, -2.0], [1.0, 2.0]])), [[0.5], [1]])
    np.testing.assert_array_equal(plane.coordinates(np.array([[0.5], [1.0]])), [[0.5, 0], [1, 0]])


def test_points_and_coordinates_undo_each_other(plane: Plane) -> None:
    coordinates = np.random.default_rng(2).normal(size=(20, 2))
    points = plane.points(coordinates)
    assert (points.shape, points.dtype) == ((20, 5), np.float32)
    np.testing.assert_allclose(plane.coordinates(points), coordinates, atol=1e-5)


def test_coordinates_are_those_of_the_nearest_point_of_the_plane(plane: Plane) -> None:
    latents = np.random.default_rng(3).normal(size=(20, 5))
    nearest = np.linalg.lstsq(plane.axes.T, (latents - plane.origin).T)[0].T
    np.testing.assert_allclose(plane.coordinates(latents), nearest)


@pytest.mark.parametrize("count", [1, 2, 11, 20])
def test_quantiles_are_the_centres_of_equally_likely_intervals(count: int) -> None:
    below = [(1 + math.erf(quantile / math.sqrt(2))) / 2 for quantile in gaussian_quantiles(count)]
    assert below == pytest.approx([(number + 0.5) / count for number in range(count)])


def test_a_grid_runs_from_the_top_left_row_by_row() -> None:
    low, middle, high = gaussian_quantiles(3)
    across = [low, middle, high]
    expected = [(u, v) for v in (high, middle, low) for u in across]
    np.testing.assert_array_equal(square_grid(gaussian_quantiles(3)), expected)


def test_the_variance_of_means_has_the_error_of_a_bootstrap() -> None:
    generator = np.random.default_rng(0)
    mean = np.stack([generator.normal(3, 2, 400), generator.exponential(1, 400)], axis=1).astype(np.float32)
    variance, error = variance_of_means(mean)
    np.testing.assert_allclose(variance, mean.astype(np.float64).var(axis=0), rtol=1e-6)
    resampled = [mean[generator.integers(0, 400, 400)].var(axis=0, dtype=np.float64) for _ in range(2000)]
    np.testing.assert_allclose(error, np.std(resampled, axis=0), rtol=0.1)


def test_many_equal_float32_means_have_no_variance() -> None:
    assert variance_of_means(np.full((50_000, 3), 1234.567, np.float32))[0].max() < ACTIVE_VARIANCE
