"""`tf.data` pipelines from arrays in memory to batches."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.noise import binarise


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch's images: a permutation that depends on seed and epoch only, (count,) int64."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def training_blocks(
    images: tf.Tensor, *, batch_size: int, block: int, seed: int, epochs: range, binarised: bool
) -> tf.data.Dataset:
    """Training batches of consecutive epochs, delivered in blocks of steps.

    The images are gathered from the tensor in memory. The last batch of an epoch is dropped if it is not full; which
    images that drops changes with the order of the epoch. The last block of an epoch is shorter if the epoch's steps
    are no multiple of `block`. Of these epochs, the first blocks of each are made while the one before is worked on.

    Args:
        images: (count, rows, columns) float32 in [0, 1].
        batch_size: Images in a batch, at most `count`.
        block: Steps in a block.
        seed: Of the order and the binarisation.
        epochs: Their numbers, from 0, one after the other.
        binarised: Whether each image is replaced by a binary draw from it, anew for every batch.

    Returns:
        Dataset of (steps, batch_size, rows, columns) float32 images and the (steps,) int64 steps from the start of
        training.
    """
    count = images.shape[0]
    steps = count // batch_size

    def load(step: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = tf.gather(images, index)
        return (binarise(batch, seed, step) if binarised else batch), step

    def blocks(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.numpy_function(lambda number: epoch_order(count, seed, number), [epoch], tf.int64)
        index = tf.reshape(order[: steps * batch_size], (steps, batch_size))
        numbered = tf.data.Dataset.from_tensor_slices((epoch * steps + tf.range(steps, dtype=tf.int64), index))
        return numbered.map(load, num_parallel_calls=1, deterministic=True).batch(block)

    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune, and the end would wait for the tuner, up to 5 s
    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(blocks).prefetch(2).with_options(options)
