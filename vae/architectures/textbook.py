"""The textbook convolutional VAE ("Deep Learning with Python", chapter on VAEs; keras.io `generative/vae`)."""

from collections.abc import Sequence

import keras
from keras import layers


def build(latent_dim: int, widths: Sequence[int], image_shape: tuple[int, int]) -> tuple[keras.Model, keras.Model]:
    """Two strided convolutions and a dense layer; the decoder mirrors the convolutions.

    Args:
        latent_dim: Latents.
        widths: Filters of the first and the second convolution, units of the encoder's dense layer.
        image_shape: Rows and columns of an image, multiples of 4.

    Returns:
        Encoder, (batch, rows, columns) image to mean and log_var of q(z|x), each (batch, latent_dim); and
        decoder, (batch, latent_dim) latent to (batch, rows, columns) logits.

    Raises:
        ValueError: If there are not three widths, or a side is no multiple of 4.
    """
    if len(widths) != 3:
        raise ValueError(f"widths = {list(widths)}: textbook needs three, filters of two convolutions and dense units")
    if any(side % 4 for side in image_shape):
        raise ValueError(
            f"architecture = textbook with images of {image_shape[0]} x {image_shape[1]} pixels: its two strides need "
            f"sides that are multiples of 4"
        )
    first, second, units = widths
    rows, columns = (side // 4 for side in image_shape)

    image = keras.Input(image_shape, name="image")
    hidden = layers.Reshape((*image_shape, 1))(image)
    hidden = layers.Conv2D(first, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = layers.Conv2D(second, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = layers.Dense(units, activation="relu")(layers.Flatten()(hidden))
    mean = layers.Dense(latent_dim, name="mean")(hidden)
    log_var = layers.Dense(latent_dim, name="log_var")(hidden)
    encoder = keras.Model(image, [mean, log_var], name="encoder")

    latent = keras.Input((latent_dim,), name="latent")
    hidden = layers.Dense(rows * columns * second, activation="relu")(latent)
    hidden = layers.Reshape((rows, columns, second))(hidden)
    hidden = layers.Conv2DTranspose(second, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = layers.Conv2DTranspose(first, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = layers.Conv2D(1, 3, padding="same")(hidden)
    decoder = keras.Model(latent, layers.Reshape(image_shape, name="logits")(hidden), name="decoder")
    return encoder, decoder
