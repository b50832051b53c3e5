"""Training against a gradient step in numpy, and what must not change its result."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from vae import training
from vae.datasets import epoch_order
from vae.model import VAE, Flow, build_vae
from vae.noise import binarise, latent_noise
from vae.priors import coupling_flow
from vae.training import Losses, Recipe, Trainer

Array = NDArray[np.floating]

COUNT, BATCH, STEPS, LATENTS = 9, 4, 2, 2
RECIPE = Recipe(
    seed=5,
    binarised=False,
    epochs=3,
    batch_size=BATCH,
    learning_rate=0.01,
    learning_rate_warmup_epochs=0,
    schedule="constant",
    weight_decay=0,
    beta=1.0,
    kl_warmup_epochs=0,
    kl_warmup_start=0,
    importance_samples=1,
    importance_epochs=0,
    ema_momentum=0,
    validation_interval=1,
    keep="last",
    jit_compile=False,
)


@pytest.fixture
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((COUNT, 2, 3), np.float32)


def linear_vae() -> VAE:
    """Images of 2 x 3 pixels, two latents, one dense layer for each of mean, log_var and logits; always the same."""
    keras.utils.set_random_seed(0)
    image, latent = keras.Input((2, 3)), keras.Input((LATENTS,))
    hidden = layers.Flatten()(image)
    encoder = keras.Model(image, [layers.Dense(LATENTS)(hidden), layers.Dense(LATENTS)(hidden)])
    decoder = keras.Model(latent, layers.Reshape((2, 3))(layers.Dense(6)(latent)))
    return VAE(encoder, decoder)


def trainer_of(images: NDArray[np.float32], recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(linear_vae(), images, recipe)


def train(trainer: Trainer, epochs: Sequence[int]) -> list[Losses]:
    """The losses of consecutive epochs."""
    return [losses for _, losses in trainer.run_epochs(range(epochs[0], epochs[-1] + 1))]


def weights_of(trainer: Trainer) -> list[Array]:
    trainer.update_model()
    return [*training.weights_of(trainer.vae)]


def first_moments_of(trainer: Trainer) -> list[Array]:
    """Adam's first moment of each weight, cut out of the two vectors, of kernels and of biases."""
    left = dict(zip((2, 1), trainer.state()[-4::2], strict=True))
    moments = []
    for weight in weights_of(trainer):
        moments.append(left[weight.ndim][: weight.size].reshape(weight.shape))
        left[weight.ndim] = left[weight.ndim][weight.size :]
    return moments


def assert_same_bytes(first: Sequence[Array], second: Sequence[Array]) -> None:
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]


def batch_and_noise(images: Array, recipe: Recipe, step: int) -> tuple[Array, Array]:
    """What step number `step` of training sees, in float64: flat images and latent noise."""
    epoch, within = divmod(step, STEPS)
    seen = images[epoch_order(COUNT, recipe.seed, epoch)[within * BATCH : (within + 1) * BATCH]]
    number = tf.constant(step, tf.int64)
    if recipe.binarised:
        seen = binarise(tf.constant(seen), recipe.seed, number).numpy()
    draw = tf.function(latent_noise, jit_compile=recipe.jit_compile)  # XLA has its own normal draws
    noise = draw(BATCH, LATENTS, recipe.seed, number).numpy()
    return seen.reshape(BATCH, -1).astype(np.float64), noise.astype(np.float64)


def losses_and_gradient(
    weights: Sequence[Array], images: Array, noise: Array, kl_weight: float
) -> tuple[float, float, list[Array]]:
    """Reconstruction loss and KL of a batch, and the gradient of their weighted sum, by the chain rule."""
    to_mean, mean_bias, to_log_var, log_var_bias, to_logits, logit_bias = weights
    mean, log_var = images @ to_mean + mean_bias, images @ to_log_var + log_var_bias
    deviation = np.exp(log_var / 2)
    latent = mean + deviation * noise
    logits = latent @ to_logits + logit_bias
    reconstruction = (np.logaddexp(0, logits) - images * logits).sum() / BATCH
    kl = (mean**2 + deviation**2 - 1 - log_var).sum() / 2 / BATCH

    by_logits = (1 / (1 + np.exp(-logits)) - images) / BATCH
    by_latent = by_logits @ to_logits.T
    by_mean = by_latent + kl_weight * mean / BATCH
    by_log_var = by_latent * noise * deviation / 2 + kl_weight * (deviation**2 - 1) / 2 / BATCH
    gradient = []
    for inputs, by_outputs in ((images, by_mean), (images, by_log_var), (latent, by_logits)):
        gradient += [inputs.T @ by_outputs, by_outputs.sum(axis=0)]
    return float(reconstruction), float(kl), gradient


def trained_by_numpy(
    weights: Sequence[Array], images: Array, recipe: Recipe, kl_weights: Sequence[float], rates: Sequence[float]
) -> tuple[list[Array], list[float], list[float]]:
    """Weights after a step for each KL weight and rate, and the losses before each; Adam (Kingma and Ba 2015)."""
    weights = [array.astype(np.float64) for array in weights]
    first, second = [[np.zeros_like(array) for array in weights] for _ in range(2)]
    reconstructions, kls = [], []
    for step, (kl_weight, rate) in enumerate(zip(kl_weights, rates, strict=True)):
        batch, noise = batch_and_noise(images, recipe, step)
        reconstruction, kl, gradient = losses_and_gradient(weights, batch, noise, kl_weight)
        reconstructions.append(reconstruction)
        kls.append(kl)
        for place, slope in enumerate(gradient):
            first[place] = 0.9 * first[place] + 0.1 * slope
            second[place] = 0.999 * second[place] + 0.001 * slope**2
            mean, square = first[place] / (1 - 0.9 ** (step + 1)), second[place] / (1 - 0.999 ** (step + 1))
            decay = recipe.weight_decay if weights[place].ndim == 2 else 0
            weights[place] = weights[place] * (1 - rate * decay) - rate * mean / (np.sqrt(square) + 1e-7)
    return weights, reconstructions, kls


WARM_UP: dict[str, float] = {"beta": 2.0, "kl_warmup_epochs": 2}
COSINE: dict[str, str] = {"schedule": "cosine"}
FALL = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
RISE = [1 / 4, 2 / 4, 3 / 4]
FALL_AFTER_RISE = [*RISE, *((1 + math.cos(math.pi * step / 3)) / 2 for step in range(3))]


@pytest.mark.parametrize(
    ("changes", "kl_weights", "rates"),  # rates in units of the learning rate
    [
        pytest.param({}, [1] * 6, [1] * 6, id="plain"),
        pytest.param({"beta": 0.0}, [0] * 6, [1] * 6, id="without KL"),
        pytest.param({**WARM_UP, "kl_warmup_start": 0.5}, [1.25, 1.5, 1.75, 2, 2, 2], [1] * 6, id="KL warm-up"),
        pytest.param({**WARM_UP, "jit_compile": True}, [0.5, 1, 1.5, 2, 2, 2], [1] * 6, id="compiled KL warm-up"),
        pytest.param(COSINE, [1] * 6, FALL, id="cosine"),
        pytest.param({"learning_rate_warmup_epochs": 1.5}, [1] * 6, [*RISE, 1, 1, 1], id="warm-up"),
        pytest.param({**COSINE, "learning_rate_warmup_epochs": 1.5}, [1] * 6, FALL_AFTER_RISE, id="warm-up and cosine"),
        pytest.param({"weight_decay": 5.0}, [1] * 6, [1] * 6, id="weight decay of kernels"),
        pytest.param({"binarised": True}, [1] * 6, [1] * 6, id="binarised"),
    ],
)
def test_steps_are_those_of_numpy(
    images: NDArray[np.float32], changes: dict[str, Any], kl_weights: Sequence[float], rates: Sequence[float]
) -> None:
    recipe = replace(RECIPE, **changes)
    trainer = trainer_of(images, recipe)
    rates = [recipe.learning_rate * rate for rate in rates]
    weights, reconstructions, kls = trained_by_numpy(weights_of(trainer), images, recipe, kl_weights, rates)
    found = train(trainer, range(recipe.epochs))
    assert found[0].reconstruction.dtype == found[0].kl.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([losses.reconstruction for losses in found]), reconstructions, 1e-5)
    np.testing.assert_allclose(np.concatenate([losses.kl for losses in found]), kls, 1e-4)
    for array, expected in zip(weights_of(trainer), weights, strict=True):
        np.testing.assert_allclose(array, expected, atol=2e-5)  # a step moves a weight by up to 1e-2


def normal_density(value: Array) -> Array:
    density: Array = (np.exp(-(value**2) / 2) / math.sqrt(2 * math.pi)).prod(axis=1)
    return density


def importance_weighted_loss(weights: Sequence[Array], images: Array, noise: Array) -> float:
    """Minus the importance-weighted bound from the densities of Gaussians and Bernoulli pixels, a draw at a time."""
    to_mean, mean_bias, to_log_var, log_var_bias, to_logits, logit_bias = weights
    mean, deviation = images @ to_mean + mean_bias, np.exp((images @ to_log_var + log_var_bias) / 2)
    importance = []
    for draw in noise.reshape(-1, BATCH, LATENTS):
        latent = mean + deviation * draw
        pixels = 1 / (1 + np.exp(-(latent @ to_logits + logit_bias)))
        joint = normal_density(latent) * (pixels**images * (1 - pixels) ** (1 - images)).prod(1)
        importance.append(joint / normal_density((latent - mean) / deviation) * deviation.prod(1))
    return float(-np.log(np.mean(importance, axis=0)).mean())


def test_the_gradient_with_more_draws_is_that_of_the_importance_weighted_bound(images: NDArray[np.float32]) -> None:
    trainer = trainer_of(images)
    weights = [array.astype(np.float64) for array in weights_of(trainer)]
    batch, _ = batch_and_noise(images, RECIPE, 0)
    noise = latent_noise(3 * BATCH, LATENTS, RECIPE.seed, tf.constant(0, tf.int64)).numpy().astype(np.float64)
    ends = np.cumsum([array.size for array in weights])[:-1]

    def loss(flat: Array) -> float:
        parts = [part.reshape(array.shape) for part, array in zip(np.split(flat, ends), weights, strict=True)]
        return importance_weighted_loss(parts, batch, noise)

    gradient = np.split(approx_fprime(np.concatenate([array.ravel() for array in weights]), loss, 1e-7), ends)
    trainer.step(tf.constant(batch.reshape(BATCH, 2, 3), tf.float32), tf.constant(0, tf.int64), 3)
    for moment, expected in zip(first_moments_of(trainer), gradient, strict=True):
        np.testing.assert_allclose(moment.ravel() / 0.1, expected, rtol=1e-3, atol=1e-5)  # after a step a tenth of it


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.whole)])
def test_more_draws_are_taken_in_the_last_epochs_only(images: NDArray[np.float32], jit_compile: bool) -> None:
    recipe = replace(RECIPE, jit_compile=jit_compile)
    plain = trainer_of(images, recipe)
    late = trainer_of(images, replace(recipe, importance_samples=4, importance_epochs=1))
    train(plain, [0, 1])
    train(late, [0, 1])
    assert_same_bytes(plain.state(), late.state())
    train(plain, [2])
    train(late, [2])
    assert not np.array_equal(weights_of(plain)[0], weights_of(late)[0])


def test_the_average_of_the_weights_is_that_of_numpy(
    images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STEPS_PER_CALL", 1)
    plain, averaged = trainer_of(images), trainer_of(images, replace(RECIPE, ema_momentum=0.5))
    expected = weights_of(plain)
    for step, _ in enumerate(plain.run_epochs(range(3))):
        kept = min(0.5, (2 + step) / (11 + step))  # `step` steps were done before this one
        expected = [kept * old + (1 - kept) * new for old, new in zip(expected, weights_of(plain), strict=True)]
    for epoch in range(3):
        train(averaged, [epoch])
        averaged.update_model()
    for found, mean in zip(weights_of(averaged), expected, strict=True):
        np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    assert not np.allclose(weights_of(averaged)[0], weights_of(plain)[0])
    assert_same_bytes(averaged.state()[:2], plain.state()[:2])  # the average leaves training alone


def test_a_learned_prior_learns(images: NDArray[np.float32]) -> None:
    """Images that never change need no latents: a prior that may move meets the posterior and the KL vanishes."""
    keras.utils.set_random_seed(0)
    encoder, decoder = linear_vae().encoder, linear_vae().decoder
    log_var_bias = encoder.trainable_variables[3]
    log_var_bias.assign(np.full(LATENTS, -3.0))  # a narrow posterior, far from N(0, I)
    encoder.trainable = decoder.trainable = False
    vae = VAE(encoder, decoder, Flow(*coupling_flow.build(LATENTS, [4, 4])))
    trainer = Trainer(vae, np.zeros((80, 2, 3), np.float32), replace(RECIPE, epochs=20, learning_rate=0.02))
    kls = np.concatenate([losses.kl for losses in train(trainer, range(20))])
    assert kls[:5].mean() > 1
    assert abs(kls[-50:].mean()) < 0.1


@pytest.mark.parametrize(
    ("schedule", "jit_compile"),
    [
        ("constant", False),
        ("cosine", True),
        *(pytest.param(*pair, marks=pytest.mark.whole) for pair in (("constant", True), ("cosine", False))),
    ],
)
def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    images: NDArray[np.float32], schedule: str, jit_compile: bool
) -> None:
    recipe = replace(
        RECIPE, schedule=schedule, binarised=True, kl_warmup_epochs=1.5, ema_momentum=0.9, jit_compile=jit_compile
    )
    whole, broken, resumed = (trainer_of(images, recipe) for _ in range(3))
    expected = train(whole, range(3))
    train(broken, [0])
    train(resumed, [0, 1])  # what it did before is overwritten
    resumed.restore(broken.state())
    found = train(resumed, [1, 2])
    assert_same_bytes(resumed.state(), whole.state())
    assert_same_bytes([losses.kl for losses in found], [losses.kl for losses in expected[1:]])


def test_a_state_read_is_not_changed_by_later_training(images: NDArray[np.float32]) -> None:
    trainer = trainer_of(images)
    state = trainer.state()
    before = [array.copy() for array in state]
    train(trainer, [0])
    assert_same_bytes(state, before)


def test_a_state_of_other_length_is_refused(images: NDArray[np.float32]) -> None:
    trainer = trainer_of(images)
    with pytest.raises(ValueError, match="shorter"):
        trainer.restore(trainer.state()[:-1])


@pytest.mark.parametrize("steps_per_call", [1, 2, 3, 100])
def test_steps_per_call_change_no_byte(
    images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, steps_per_call: int
) -> None:
    recipe = replace(RECIPE, batch_size=2)  # four steps an epoch
    expected, trainer = trainer_of(images, recipe), trainer_of(images, recipe)
    all_at_once = train(expected, [0, 1])
    monkeypatch.setattr(training, "STEPS_PER_CALL", steps_per_call)
    parts = train(trainer, [0, 1])
    assert len(parts) == 2 * -(-4 // steps_per_call)
    assert_same_bytes(trainer.state(), expected.state())
    for term in ("reconstruction", "kl"):
        together, apart = (np.concatenate([getattr(part, term) for part in run]) for run in (all_at_once, parts))
        assert_same_bytes([together], [apart])


def test_a_frozen_layer_is_not_trained(images: NDArray[np.float32]) -> None:
    vae = linear_vae()
    vae.decoder.trainable = False
    before = [weight.numpy().copy() for weight in vae.variables]
    trainer = Trainer(vae, images, RECIPE)
    train(trainer, [0])
    after = weights_of(trainer)
    assert_same_bytes(after[4:], before[4:])
    assert not np.array_equal(after[0], before[0])


def test_a_batch_may_hold_all_images_and_no_more(images: NDArray[np.float32]) -> None:
    assert trainer_of(images, replace(RECIPE, batch_size=COUNT)).steps_per_epoch == 1
    with pytest.raises(ValueError, match=f"batch_size = {COUNT + 1}: it should be at most {COUNT}"):
        trainer_of(images, replace(RECIPE, batch_size=COUNT + 1))


def test_an_autoregressive_decoder_is_not_trained_on_gray_images() -> None:
    vae = build_vae("gated_dense", LATENTS, [3], (28, 28), autoregressive_units=15)
    with pytest.raises(ValueError, match="binarised = False: an autoregressive decoder predicts pixels from binary"):
        Trainer(vae, np.zeros((COUNT, 28, 28), np.float32), RECIPE)


@pytest.mark.parametrize("steps_per_call", [1, 50])
def test_a_nan_is_refused_at_the_step_and_epoch_that_met_it(
    images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, steps_per_call: int
) -> None:
    monkeypatch.setattr(training, "STEPS_PER_CALL", steps_per_call)
    dropped_at_first = epoch_order(COUNT, RECIPE.seed, 0)[-1]  # in no batch of the first epoch
    assert dropped_at_first in epoch_order(COUNT, RECIPE.seed, 1)[BATCH : 2 * BATCH]
    images[dropped_at_first, 0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"KL divergence became nan at step 2 of epoch 2\b"):
        train(trainer_of(images), range(2))


def test_an_infinite_kl_is_named_though_the_reconstruction_is_finite(images: NDArray[np.float32]) -> None:
    vae = linear_vae()
    vae.decoder.trainable_variables[0].assign(np.zeros((LATENTS, 6)))
    vae.encoder.trainable_variables[1].assign(np.full(LATENTS, 1e25))  # its square exceeds float32
    with pytest.raises(FloatingPointError, match=r"KL divergence became inf at step 1 of epoch 1\b"):
        train(Trainer(vae, images, RECIPE), [0])
