"""Mean images against the average over images that the model itself draws, and against enumeration."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from vae.autoregression import LEAST_UNITS, ORDER
from vae.mean_image import MeanImages
from vae.model import VAE, build_vae

Array = NDArray[np.float32]

NUMBER = np.tile(ORDER, (7, 7))


def vae_of(units: int, shape: tuple[int, int] = (28, 28)) -> VAE:
    """A VAE with strong random weights."""
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", 3, [5], shape, autoregressive_units=units)
    generator = np.random.default_rng(1)
    for weight in vae.decoder.weights:
        weight.assign(generator.normal(0, 0.5, weight.shape))
    return vae


def latents_of(count: int) -> Array:
    return np.random.default_rng(2).normal(0, 1, (count, 3)).astype(np.float32)


def chances_of(vae: VAE, latents: Array, images: Array) -> Array:
    return 1 / (1 + np.exp(-vae.logits(latents, images).numpy()))


@pytest.mark.parametrize(("units", "shape"), [(LEAST_UNITS, (28, 28)), (37, (28, 28)), (LEAST_UNITS, (8, 12))])
def test_it_is_the_average_over_the_images_that_the_model_draws(units: int, shape: tuple[int, int]) -> None:
    vae, latents = vae_of(units, shape), latents_of(3)
    mean = MeanImages(vae, draws=4, seed=4)
    draws = [vae.draw(tf.constant(latents), np.tile(uniform, (3, 1, 1))).numpy() for uniform in mean.uniform]
    assert np.std(draws, axis=0).max() > 0.3
    expected = np.mean([chances_of(vae, latents, drawn) for drawn in draws], axis=0)
    np.testing.assert_allclose(mean.decode(latents), expected, atol=1e-5)


def test_pixels_after_one_step_meet_the_sum_over_all_earlier_ones() -> None:
    """Those of number 1 see four pixels of number 0, which are independent: sixteen cases, the same for all patches."""
    vae, latents, draws = vae_of(2 * LEAST_UNITS), latents_of(2), 2000
    for name, factor in (("near_pixels", 20), ("correction", 3)):  # so that a pixel bends what it tells of the next
        layer = vae.decoder.get_layer(name)
        layer.set_weights([factor * layer.get_weights()[0]])
    chances = chances_of(vae, latents, np.zeros((2, 28, 28), np.float32))[:, ::4, ::4]
    corner = 2 * (np.arange(7)[:, None] % 2) + np.arange(7) % 2  # no window has two patches of one kind
    exact = np.zeros((2, 7, 7))
    for case in itertools.product([0, 1], repeat=4):
        image = np.zeros((2, 28, 28), np.float32)
        image[:, ::4, ::4] = np.array(case)[corner]
        given = chances_of(vae, latents, image)[:, NUMBER == 1].reshape(2, 7, 7)
        of_pixel = np.where(np.array(case)[corner], chances, 1 - chances)
        padded = np.pad(of_pixel, ((0, 0), (0, 1), (0, 1)), constant_values=0.5)  # beyond the edge both cases are one
        exact += given * of_pixel * padded[:, 1:, :-1] * padded[:, :-1, 1:] * padded[:, 1:, 1:]
    found = MeanImages(vae, draws, seed=5).decode(latents)[:, NUMBER == 1].reshape(2, 7, 7)
    assert np.abs(found - exact).max() < 5 * 0.5 / np.sqrt(draws)
    plugged_in = chances_of(vae, latents, chances_of(vae, latents, np.zeros((2, 28, 28), np.float32)))
    assert np.abs(plugged_in[:, NUMBER == 1].reshape(2, 7, 7) - exact).max() > 0.1


def test_independent_pixels_have_their_probabilities_exactly() -> None:
    vae, latents = vae_of(0), latents_of(7)
    np.testing.assert_allclose(MeanImages(vae).decode(latents), chances_of(vae, latents, latents), rtol=1e-5)


def test_each_pixel_has_one_uniform_number_in_each_interval() -> None:
    uniform = MeanImages(vae_of(LEAST_UNITS), draws=9).uniform
    assert (uniform.shape, uniform.dtype) == ((9, 28, 28), np.float32)
    assert (np.sort(np.floor(9 * uniform), axis=0) == np.arange(9)[:, None, None]).all()
    assert len({tuple(pixel) for pixel in np.argsort(uniform, axis=0).reshape(9, -1).T}) > 700  # of 784 orders


def test_the_seed_decides_and_parts_change_nothing() -> None:
    vae, latents = vae_of(LEAST_UNITS), latents_of(3)
    mean = MeanImages(vae, 400, seed=1)
    found = mean.decode(latents)  # one image a call
    np.testing.assert_allclose(mean.of(latents), found, atol=1e-6)
    np.testing.assert_array_equal(MeanImages(vae, 400, seed=1).uniform, mean.uniform)
    assert (MeanImages(vae, 400, seed=2).uniform != mean.uniform).mean() > 0.99


def test_changed_weights_are_seen() -> None:
    vae, latents = vae_of(LEAST_UNITS), latents_of(1)
    mean = MeanImages(vae, 1)
    mean.decode(latents)
    vae.decoder.get_layer("correction").set_weights([np.zeros((LEAST_UNITS, 16))])
    expected = chances_of(vae, latents, np.zeros((1, 28, 28), np.float32))
    np.testing.assert_allclose(mean.decode(latents), expected, atol=1e-6)


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="draws = 0: it should be 1 or more"):
        MeanImages(vae_of(0), draws=0)
