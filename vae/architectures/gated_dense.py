"""Gated dense layers, the network of the published one-level likelihoods (Tomczak and Welling 2018, VampPrior)."""

import math
from collections.abc import Sequence

import keras
from keras import layers


def build(latent_dim: int, widths: Sequence[int], image_shape: tuple[int, int]) -> tuple[keras.Model, keras.Model]:
    """The widths are the encoder's layers and, from the latents on, the decoder's.

    Args:
        latent_dim: Latents.
        widths: Units of each gated layer, h = (W x + b) * sigmoid(V x + c) (Dauphin et al. 2017, equation 1).
        image_shape: Rows and columns of an image.

    Returns:
        Encoder, (batch, rows, columns) image to mean and log_var of q(z|x), each (batch, latent_dim); and
        decoder, (batch, latent_dim) latent to (batch, rows, columns) logits.
    """
    image = keras.Input(image_shape, name="image")
    hidden = _gated(layers.Flatten()(image), widths, "encoder")
    mean = layers.Dense(latent_dim, name="mean")(hidden)
    log_var = layers.Dense(latent_dim, name="log_var")(hidden)
    encoder = keras.Model(image, [mean, log_var], name="encoder")

    latent = keras.Input((latent_dim,), name="latent")
    hidden = _gated(latent, widths, "decoder")
    logits = layers.Dense(math.prod(image_shape), name="pixels")(hidden)
    decoder = keras.Model(latent, layers.Reshape(image_shape, name="logits")(logits), name="decoder")
    return encoder, decoder


def _gated(hidden: keras.KerasTensor, widths: Sequence[int], name: str) -> keras.KerasTensor:
    for number, width in enumerate(widths, 1):
        linear = layers.Dense(width, name=f"{name}_{number}")(hidden)
        gate = layers.Dense(width, activation="sigmoid", name=f"{name}_{number}_gate")(hidden)
        hidden = layers.Multiply()([linear, gate])
    return hidden
