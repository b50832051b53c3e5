"""Randomness belongs to (seed, step): what it depends on, what it does not, and its distribution."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from vae.noise import binarise, evaluation_draw, evaluation_noise, importance_noise, latent_noise

Array = NDArray[np.float32]
Draw = Callable[[int, int], Array]

COUNT = 40_000

#: Seeds and steps.
PLACES = ((3, 5), (3, 6), (4, 5))


def step(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)


def latent(seed: int, number: int, count: int = 4) -> Array:
    return latent_noise(count, 3, seed, step(number)).numpy()


def evaluation(seed: int, sample: int, count: int = 4) -> Array:
    return evaluation_noise(count, 3, seed, sample).numpy()


def importance(seed: int, sample: int, count: int = 4, part: int = 7) -> Array:
    noise: Array = importance_noise(count, 3, tf.constant([seed, part]), tf.constant(sample)).numpy()
    return noise


def compiled_latent(seed: int, number: int, count: int = 4) -> Array:
    noise: Array = tf.function(latent_noise, jit_compile=True)(count, 3, seed, step(number)).numpy()
    return noise


def binary(seed: int, number: int) -> Array:
    return binarise(tf.fill((4, 5, 5), 0.5), seed, step(number)).numpy()


def evaluated(seed: int, sample: int, count: int = 4) -> Array:
    return evaluation_draw(tf.fill((count, 5, 5), 0.5), seed, sample).numpy()


def correlation(first: Array, second: Array) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("draw", [latent, evaluation, importance, binary, evaluated])
@pytest.mark.parametrize(("seed", "number"), [(4, 5), (3, 6), (5, 3)])
def test_another_seed_or_step_draws_something_else(draw: Draw, seed: int, number: int) -> None:
    assert not np.array_equal(draw(3, 5), draw(seed, number))


@pytest.mark.parametrize("draw", [latent, evaluation, importance, binary, evaluated])
def test_equal_seeds_and_steps_draw_the_same_whatever_the_global_seed_and_earlier_draws(draw: Draw) -> None:
    first = draw(3, 5)
    tf.random.set_seed(99)
    tf.random.normal((7,))
    np.testing.assert_array_equal(draw(3, 5), first)


def test_streams_parts_steps_and_seeds_are_uncorrelated() -> None:
    draws = [draw(seed, number, COUNT) for draw in (latent, evaluation, importance) for seed, number in PLACES]
    draws.append(importance(3, 5, COUNT, part=8))
    correlations = np.corrcoef([draw.ravel() for draw in draws])
    assert np.abs(correlations - np.eye(len(draws))).max() < 5 / np.sqrt(3 * COUNT)


def test_binarisation_and_latents_are_other_streams() -> None:
    """Normals come in pairs of two uniforms, so each of a pair is held against both pixels, and in size too."""
    noise = latent_noise(COUNT, 2, 3, step(5)).numpy()
    pixels = binarise(tf.fill((COUNT, 2, 1), 0.5), 3, step(5)).numpy()
    for column in (*noise.T, *np.abs(noise.T)):
        for place in range(2):
            assert abs(correlation(column, pixels[:, place])) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("draw", [latent, compiled_latent, evaluation, importance])
def test_latent_noise_has_the_moments_of_the_standard_normal(draw: Callable[..., Array]) -> None:
    noise = draw(0, 1, COUNT).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = np.sqrt(variance / noise.size)
        assert abs(np.mean(noise**power) - moment) < 5 * error


@pytest.mark.parametrize("draw", [latent, compiled_latent, evaluation, importance])
def test_each_image_and_latent_has_noise_of_its_own(draw: Callable[..., Array]) -> None:
    assert np.unique(draw(0, 0, 100)).size == 300


@pytest.mark.parametrize("draw", [evaluation, evaluated])
def test_what_is_drawn_for_an_image_does_not_depend_on_the_number_of_images(draw: Callable[..., Array]) -> None:
    many = draw(2, 1, 1000)
    for count in (1, 2, 5, 257, 999):
        np.testing.assert_array_equal(draw(2, 1, count), many[:count])


def test_draws_of_training_and_of_evaluation_are_other_streams() -> None:
    assert np.any(binary(1, 2) != evaluated(1, 2))


def test_training_noise_is_the_same_inside_a_compiled_function_and_whatever_the_type_of_the_step() -> None:
    compiled = tf.function(lambda number: latent_noise(4, 3, 3, number))
    np.testing.assert_array_equal(compiled(step(5)), latent(3, 5))
    np.testing.assert_array_equal(latent_noise(4, 3, 3, tf.constant(5, tf.int32)), latent(3, 5))


def test_a_pixel_is_one_with_the_probability_of_its_gray_value() -> None:
    """So black and white pixels are kept."""
    gray = np.float32([0, 1 / 255, 0.1, 0.5, 0.9, 254 / 255, 1]).reshape(1, 7)
    pixels = binarise(tf.constant(np.tile(gray, (COUNT, 1, 1))), 0, step(0)).numpy()
    assert np.all(np.abs(pixels.mean(axis=0, dtype=np.float64) - gray) <= 5 * np.sqrt(gray * (1 - gray) / COUNT))


def test_pixels_are_drawn_apart() -> None:
    pixels = binarise(tf.fill((COUNT, 1, 2), 0.5), 0, step(0)).numpy()
    assert abs(correlation(pixels[..., 0], pixels[..., 1])) < 5 / np.sqrt(COUNT)


def test_a_binary_image_is_float32_of_zeros_and_ones() -> None:
    pixels = binary(0, 0)
    assert pixels.dtype == np.float32
    assert set(np.unique(pixels)) == {0, 1}


def test_a_pipeline_draws_the_same_binary_images_as_an_eager_call() -> None:
    gray = tf.constant(np.random.default_rng(0).random((6, 28, 28), np.float32))
    steps = tf.data.Dataset.range(3).map(lambda number: binarise(gray, 7, number))
    for number, pixels in enumerate(steps):
        np.testing.assert_array_equal(pixels, binarise(gray, 7, step(number)))
