"""The autoregressive decoder: a pixel sees earlier pixels only, decoding is final, and its likelihood is one."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from vae.autoregression import LEAST_UNITS, ORDER, autoregressive
from vae.evaluation import Evaluator, Posterior
from vae.model import VAE, build_vae

Array = NDArray[np.float32]

PIXELS = 784


def plain_vae() -> VAE:
    return build_vae("gated_dense", 3, [5], (28, 28))


def autoregressive_vae(units: int = 2 * LEAST_UNITS, *, scale: float = 0.7) -> VAE:
    """A VAE with weights drawn with deviation `scale`, so that pixels depend on each other strongly."""
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", 3, [5], (28, 28), autoregressive_units=units)
    generator = np.random.default_rng(1)
    for weight in vae.decoder.weights:
        weight.assign(generator.normal(0, scale, weight.shape))
    return vae


def latents_of(count: int) -> Array:
    return np.random.default_rng(2).normal(0, 1, (count, 3)).astype(np.float32)


def binary_images(count: int) -> Array:
    return np.random.default_rng(3).integers(0, 2, (count, 28, 28)).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 10), (30, 28)])
def test_sides_that_patches_do_not_divide_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"autoregressive_units = 30 with images of {shape[0]} x {shape[1]} pixels"):
        build_vae("gated_dense", 3, [5], shape, autoregressive_units=30)


@pytest.fixture(scope="module")
def influence() -> NDArray[np.bool_]:
    """Whether pixel i changes the logit of pixel j when it is flipped, (784, 784)."""
    vae, image = autoregressive_vae(), binary_images(1).reshape(PIXELS)
    flipped = np.where(np.eye(PIXELS, dtype=bool), 1 - image, image).astype(np.float32)
    images = np.concatenate([flipped, image[None]]).reshape(-1, 28, 28)
    logits = vae.logits(np.repeat(latents_of(1), PIXELS + 1, axis=0), images).numpy().reshape(-1, PIXELS)
    return np.abs(logits[:-1] - logits[-1]) > 1e-3


def test_no_pixel_depends_on_itself_by_any_way_round(influence: NDArray[np.bool_]) -> None:
    """The graph of what depends on what has no cycle, so the product of the conditionals is a density."""
    reached = influence
    for _ in range(int(ORDER.max())):
        assert not reached.diagonal().any()
        reached = (reached.astype(np.float32) @ influence.astype(np.float32)) > 0
    assert not reached.any()


def test_a_pixel_sees_all_earlier_pixels_of_its_window_and_no_others(influence: NDArray[np.bool_]) -> None:
    order = np.tile(ORDER, (7, 7)).ravel()
    row, column = np.divmod(np.arange(PIXELS), 28)

    def within(place: NDArray[np.int64]) -> NDArray[np.bool_]:
        first = 4 * (place // 4) - 2
        return (first <= place[:, None]) & (place[:, None] < first + 8)

    expected = within(row) & within(column) & (order[:, None] < order)
    assert not (influence & ~expected).any()
    assert (influence & expected).sum() / expected.sum() > 0.99  # a weight may be small by chance


def test_before_training_it_is_the_decoder_that_was_given() -> None:
    keras.utils.set_random_seed(0)
    decoder = plain_vae().decoder
    latents = latents_of(4)
    expected = decoder(latents).numpy()
    found = autoregressive(decoder, LEAST_UNITS)([latents, binary_images(4)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("units", [1, LEAST_UNITS - 1])
def test_too_few_units_are_refused(units: int) -> None:
    with pytest.raises(ValueError, match=rf"autoregressive_units = {units}: it should be 0, for none, or 15 or more"):
        build_vae("gated_dense", 3, [5], (28, 28), autoregressive_units=units)


def test_the_layer_has_the_weights_counted_by_hand() -> None:
    units = 20
    plain, more = plain_vae(), autoregressive_vae(units)
    assert (plain.autoregressive, more.autoregressive) == (False, True)
    weights = more.decoder.count_params() - plain.decoder.count_params()
    assert weights == 64 * 2 * units + 64 * 2 * units + 2 * (3 + 1) * 2 * units + units * 16


def test_pixels_are_drawn_one_after_another_in_their_order() -> None:
    """Each given all earlier ones, as a loop of numpy."""
    vae, latents = autoregressive_vae(scale=0.3), latents_of(3)
    uniform = np.random.default_rng(7).random((3, 28, 28), np.float32)
    order = np.tile(ORDER, (7, 7))
    image = np.full((3, 28, 28), 0.3, np.float32)  # what is not yet known changes nothing
    for number in range(ORDER.max() + 1):
        drawn = uniform < 1 / (1 + np.exp(-vae.logits(latents, image).numpy()))
        image[:, order == number] = drawn[:, order == number]
    found = Evaluator(vae, 2).draws(latents, uniform)
    np.testing.assert_array_equal(found, image)
    assert set(np.unique(found)) == {0, 1}


def test_drawing_with_spoilt_weights_ends() -> None:
    vae = autoregressive_vae()
    vae.decoder.get_layer("correction").set_weights([np.full((2 * LEAST_UNITS, 16), np.nan)])
    assert not Evaluator(vae, 2).draws(latents_of(2), np.zeros((2, 28, 28), np.float32)).any()


def test_gray_targets_stand_for_the_binary_images_drawn_from_them() -> None:
    """Where the correction is zero, pixels are independent and the mean over draws is the loss in closed form."""
    vae = autoregressive_vae(scale=0.3)
    vae.decoder.get_layer("correction").set_weights([np.zeros((2 * LEAST_UNITS, 16))])
    gray = np.random.default_rng(4).random((28, 28)).astype(np.float32)
    count = 2000
    posterior = Posterior(np.tile(latents_of(1), (count, 1)), np.full((count, 3), -200, np.float32))
    found = Evaluator(vae, 500).terms(np.tile(gray, (count, 1, 1)), posterior, seed=1, samples=1)[0]
    logits = vae.logits(latents_of(1), gray[None]).numpy().astype(np.float64)[0]
    exact = (np.logaddexp(0, logits) - gray * logits).sum()
    deviation = np.sqrt((gray * (1 - gray) * logits**2).sum())
    assert found.std(dtype=np.float64) == pytest.approx(deviation, rel=0.2)
    assert abs(found.mean(dtype=np.float64) - exact) < 5 * deviation / np.sqrt(count)


def test_a_binary_target_is_scored_as_it_is() -> None:
    vae, images = autoregressive_vae(scale=0.3), binary_images(4)
    posterior = Posterior(latents_of(4), np.full((4, 3), -200, np.float32))
    logits = vae.logits(posterior.mean, images).numpy().astype(np.float64)
    expected = (np.logaddexp(0, logits) - images * logits).sum(axis=(1, 2))
    found = Evaluator(vae, 3).terms(images, posterior, seed=1, samples=3)[0]
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [pytest.param(False, marks=pytest.mark.whole), True])
def test_the_likelihood_meets_numerical_integration_over_one_latent(jit_compile: bool) -> None:
    """With the prior for q(z|x), and the latent's influence small, the weights have little spread."""
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", 1, [5], (28, 28), autoregressive_units=2 * LEAST_UNITS)
    generator = np.random.default_rng(1)
    for weight in vae.decoder.weights:
        weight.assign(generator.normal(0, 0.1, weight.shape))
    images = binary_images(20)
    nodes, chances = np.polynomial.hermite_e.hermegauss(60)  # of exp(-x^2 / 2)
    log_joint = []
    for node in nodes:
        logits = vae.logits(np.full((20, 1), node, np.float32), images).numpy().astype(np.float64)
        log_joint.append(-(np.logaddexp(0, logits) - images * logits).sum(axis=(1, 2)))
    assert np.ptp(log_joint, axis=0).max() > 1  # the latent matters
    exact = -np.logaddexp.reduce(np.array(log_joint) + np.log(chances / chances.sum())[:, None], axis=0)
    posterior = Posterior(np.zeros((20, 1), np.float32), np.zeros((20, 1), np.float32))
    found = Evaluator(vae, 20, jit_compile=jit_compile).likelihood(images, posterior, seed=1, samples=5000)
    assert found.monte_carlo_error.max() < 0.1
    np.testing.assert_allclose(found.nll, exact, rtol=0, atol=5 * found.monte_carlo_error.max())
