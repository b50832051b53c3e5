"""A learned prior: a normalising flow of affine coupling layers (Dinh et al. 2017, RealNVP)."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

#: Bound of a layer's log-scale on either side, so that no layer can overflow.
_BOUND = 2.0


def build(latent_dim: int, widths: Sequence[int]) -> tuple[keras.Model, keras.Model]:
    """A coupling layer for each width; every two of them move every latent.

    A layer keeps the first half of the latents, y_a = x_a, and moves and scales the other by what two hidden
    layers make of it: y_b = (x_b + t(x_a)) exp(s(x_a)). With s, t = 0 at first, the prior begins as N(0, I).
    Before every other layer the latents are put in another fixed random order, before the rest the halves change
    places.

    Args:
        latent_dim: Latents, at least two.
        widths: Units of both hidden layers of each coupling layer.

    Returns:
        `normalise`, (batch, latent_dim) latents to (batch, latent_dim) noise, standard normal under the prior,
        and (batch,) log |det d noise / d latents|; and its inverse `generate`, noise to latents, of the same
        layers. All float32.

    Raises:
        ValueError: If there is nothing to couple.
    """
    if latent_dim < 2:
        raise ValueError(f"latent_dim = {latent_dim}: coupling_flow needs two latents or more, as it couples halves")
    if not widths:
        raise ValueError("prior_widths = []: coupling_flow needs the hidden units of one coupling layer or more")
    kept = latent_dim // 2
    networks = [_network(kept, latent_dim - kept, width, number) for number, width in enumerate(widths)]
    swapped = np.roll(np.arange(latent_dim), -kept)
    orders = [
        swapped if number % 2 else np.random.default_rng(number).permutation(latent_dim)
        for number in range(len(widths))
    ]

    latent = keras.Input((latent_dim,), name="latent")
    hidden, log_det = latent, 0.0
    for order, network in zip(orders, networks, strict=True):
        hidden = ops.take(hidden, order, axis=-1)
        first, second = hidden[:, :kept], hidden[:, kept:]
        log_scale, shift = network(first)
        hidden = ops.concatenate([first, (second + shift) * ops.exp(log_scale)], axis=-1)
        log_det = log_det + ops.sum(log_scale, axis=-1)
    normalise = keras.Model(latent, [hidden, log_det], name="normalise")

    noise = keras.Input((latent_dim,), name="noise")
    hidden = noise
    for order, network in zip(reversed(orders), reversed(networks), strict=True):
        first, second = hidden[:, :kept], hidden[:, kept:]
        log_scale, shift = network(first)
        hidden = ops.concatenate([first, second * ops.exp(-log_scale) - shift], axis=-1)
        hidden = ops.take(hidden, np.argsort(order), axis=-1)
    return normalise, keras.Model(noise, hidden, name="generate")


def _network(inputs: int, outputs: int, width: int, number: int) -> keras.Model:
    """Log-scale, within the bound, and shift of a coupling layer, each (batch, outputs); both zero at first."""
    kept = keras.Input((inputs,))
    hidden = layers.Dense(width, activation="relu", name="hidden_1")(kept)
    hidden = layers.Dense(width, activation="relu", name="hidden_2")(hidden)
    log_scale = layers.Dense(outputs, kernel_initializer="zeros", name="log_scale")(hidden)
    shift = layers.Dense(outputs, kernel_initializer="zeros", name="shift")(hidden)
    return keras.Model(kept, [_BOUND * ops.tanh(log_scale / _BOUND), shift], name=f"coupling_{number}")
