"""What a person looks at while a model trains."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.explorer import sprite
from vae.model import VAE


def reconstruction_row(vae: VAE, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images, and below them what the model makes of the mean of q(z|x): equal weights give equal pictures.

    Independent pixels are shown as probabilities. An autoregressive decoder sets each pixel to its likelier value,
    given the earlier ones.

    Args:
        vae: The model.
        images: (count, rows, columns) float32 in [0, 1].

    Returns:
        (2 rows, count columns) float32 in [0, 1].
    """
    mean, _ = vae.encoder(images)
    even = tf.fill(images.shape, 0.5)
    made = vae.draw(mean, even) if vae.autoregressive else tf.sigmoid(vae.logits(mean, images))
    shown: NDArray[np.float32] = sprite(np.concatenate([images, made.numpy()]), len(images))
    return shown
