"""The networks: shapes, numbers of weights by hand, widths that are refused, and the threads they run on."""

from collections.abc import Sequence
from itertools import pairwise

import keras
import numpy as np
import pytest
from conftest import ROOT, Project

from vae.architectures import gated_dense, textbook
from vae.model import VAE, build_vae


@pytest.fixture(scope="module")
def vae() -> VAE:
    keras.utils.set_random_seed(0)
    return build_vae("textbook", 3, [2, 4, 5], (28, 28))


def test_weights_that_are_not_trained_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(latent_dim: int, widths: Sequence[int], shape: tuple[int, int]) -> tuple[keras.Model, keras.Model]:
        encoder, decoder = gated_dense.build(latent_dim, widths, shape)
        return encoder, keras.Sequential([decoder, keras.layers.BatchNormalization()])

    monkeypatch.setattr(textbook, "build", build)
    with pytest.raises(ValueError, match=r"architecture = textbook, .*: a layer keeps statistics of its own"):
        build_vae("textbook", 3, [5], (28, 28))


def test_the_encoder_gives_mean_and_log_variance_of_each_latent_of_either_sign(vae: VAE) -> None:
    mean, log_var = vae.encoder(100 * np.random.default_rng(0).random((50, 28, 28), np.float32))
    assert mean.shape == log_var.shape == (50, vae.latent_dim) == (50, 3)
    assert not np.allclose(mean, log_var)
    for moments in (mean.numpy(), log_var.numpy()):
        assert moments.min() < 0 < moments.max()


def test_the_decoder_gives_a_logit_for_each_pixel_and_no_probability(vae: VAE) -> None:
    logits = vae.decoder(1000 * np.eye(3, dtype=np.float32)).numpy()
    assert (logits.shape, logits.dtype) == ((3, 28, 28), np.float32)
    assert logits.min() < 0
    assert logits.max() > 1


def test_images_of_a_batch_do_not_change_each_other(vae: VAE) -> None:
    images = np.random.default_rng(0).random((4, 28, 28), np.float32)
    together = vae.encoder(images)[0].numpy()
    alone = np.concatenate([vae.encoder(images[[place]])[0].numpy() for place in range(4)])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("latent_dim", "widths"), [(2, (32, 64, 16)), (3, (2, 4, 5)), (1, (1, 1, 1))])
def test_textbook_has_the_weights_counted_by_hand(latent_dim: int, widths: tuple[int, int, int]) -> None:
    vae, (first, second, units) = build_vae("textbook", latent_dim, widths, (28, 28)), widths
    convolutions = (9 * 1 + 1) * first + (9 * first + 1) * second
    encoder = convolutions + (7 * 7 * second + 1) * units + 2 * (units + 1) * latent_dim
    convolutions = (9 * second + 1) * second + (9 * second + 1) * first + (9 * first + 1) * 1
    decoder = (latent_dim + 1) * 7 * 7 * second + convolutions
    assert (vae.encoder.count_params(), vae.decoder.count_params()) == (encoder, decoder)
    if widths == (32, 64, 16):
        assert (encoder, decoder) == (69_076, 65_089)  # printed by keras.io, generative/vae


@pytest.mark.parametrize("widths", [[], [32], [32, 64], [32, 64, 16, 8]])
def test_textbook_refuses_other_than_three_widths(widths: Sequence[int]) -> None:
    with pytest.raises(ValueError, match=r"widths = \[.*\]: textbook needs three"):
        build_vae("textbook", 2, widths, (28, 28))


@pytest.mark.parametrize("widths", [[0, 4, 5], [2, 0, 5], [2, 4, 0]])
def test_textbook_refuses_a_width_of_zero(widths: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="0"):
        build_vae("textbook", 2, widths, (28, 28))


def test_weights_come_encoder_first(vae: VAE) -> None:
    expected = [weight.path for weight in (*vae.encoder.weights, *vae.decoder.weights)]
    assert [weight.path for weight in vae.variables] == expected
    assert [weight.path for weight in vae.trainable_variables] == expected
    assert len(set(map(id, vae.variables))) == 18  # nine layers, kernel and bias


def test_a_frozen_layer_keeps_its_place_among_the_weights_only() -> None:
    vae = build_vae("textbook", 2, [1, 1, 2], (28, 28))
    mean = vae.encoder.get_layer("mean")
    mean.trainable = False
    assert len(vae.variables) == 18
    trained = {id(weight) for weight in vae.trainable_variables}
    assert trained == {id(weight) for weight in vae.variables} - {id(weight) for weight in mean.weights}


def test_fresh_weights_belong_to_the_seed_of_keras() -> None:
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights = build_vae("textbook", 2, [1, 1, 2], (28, 28)).variables
        drawn.append(np.concatenate([weight.numpy().ravel() for weight in weights]))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


FIX_THREADS = """
import tensorflow as tf
from vae.model import fix_threads
fix_threads(1, 3)
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
try:
    tf.random.uniform(())  # refused without a seed if operations are deterministic
except RuntimeError as error:
    print(error)
fix_threads(1, 3)
try:
    fix_threads(2, 3)
except RuntimeError as error:
    print(error)
"""


def test_threads_are_fixed_before_the_first_operation_and_changing_them_later_is_refused() -> None:
    done = Project(ROOT).run("python", "-c", FIX_THREADS)
    threads, determinism, change = done.stdout.splitlines()
    assert threads == "1 3"
    assert "determinism" in determinism
    assert "Intra op parallelism cannot be modified" in change


@pytest.mark.parametrize(("latent_dim", "widths"), [(40, (300, 300)), (3, (5,)), (2, (4, 6, 7))])
def test_gated_dense_has_the_weights_counted_by_hand(latent_dim: int, widths: tuple[int, ...]) -> None:
    """Each gated layer has two kernels and two biases."""
    vae = build_vae("gated_dense", latent_dim, widths, (28, 28))
    for network, first, last in ((vae.encoder, 784, 2 * latent_dim), (vae.decoder, latent_dim, 784)):
        sizes = [first, *widths]
        gated = sum(2 * (before + 1) * after for before, after in pairwise(sizes))
        assert network.count_params() == gated + (sizes[-1] + 1) * last


def test_gated_dense_has_the_published_number_of_weights() -> None:
    vae = build_vae("gated_dense", 40, [300, 300], (28, 28))
    assert vae.encoder.count_params() + vae.decoder.count_params() == pytest.approx(1.12e6, rel=0.01)


def test_a_gated_layer_is_a_linear_one_times_its_gate() -> None:
    vae = build_vae("gated_dense", 2, [3], (28, 28))
    for weight in vae.variables:
        weight.assign(np.random.default_rng(0).normal(0, 1, weight.shape))
    kernels = {layer.name: layer.get_weights() for layer in vae.decoder.layers if layer.get_weights()}
    latents = np.random.default_rng(1).normal(0, 1, (5, 2))
    linear, gate = (latents @ kernel + bias for kernel, bias in (kernels["decoder_1"], kernels["decoder_1_gate"]))
    kernel, bias = kernels["pixels"]
    expected = (linear / (1 + np.exp(-gate))) @ kernel + bias
    np.testing.assert_allclose(vae.decoder(latents).numpy().reshape(5, -1), expected, rtol=1e-4, atol=1e-4)
