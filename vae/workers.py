"""Data-parallel training by `tf.distribute`: several processes, the workers, each take a share of every batch."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

#: Errors that a worker raises when another one is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def share(batch: tf.Tensor) -> tf.Tensor:
    """The rows of a batch that are this worker's, in a step that `Strategy.run` runs."""
    replica = tf.distribute.get_replica_context()
    rows = batch.shape[0] // replica.num_replicas_in_sync
    return batch[replica.replica_id_in_sync_group * rows :][:rows]


def mean(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    """The mean over workers of a value that each of them has."""
    return value if strategy.num_replicas_in_sync == 1 else strategy.reduce("MEAN", value, axis=None)


def of_chief(
    strategy: tf.distribute.Strategy, arrays: Mapping[str, NDArray[Any]] | None
) -> Mapping[str, NDArray[Any]] | None:
    """Gives every worker the arrays of the chief, by name; None if the chief has none."""
    if strategy.num_replicas_in_sync == 1:
        return arrays
    packed = io.BytesIO()
    if arrays is not None:
        np.savez(packed, allow_pickle=False, **arrays)
    words = np.frombuffer(packed.getvalue() + bytes(-packed.tell() % 4), np.int32)
    count = int(_from_chief(strategy, tf.constant(len(words))))
    if not count:
        return None
    words = _from_chief(strategy, tf.constant(np.resize(words, count))).numpy()
    with np.load(io.BytesIO(words.tobytes()), allow_pickle=False) as file:
        return dict(file)


@tf.function
def _from_chief(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    number = strategy.run(lambda: tf.distribute.get_replica_context().replica_id_in_sync_group)
    return strategy.reduce("SUM", tf.where(number == 0, value, tf.zeros_like(value)), axis=None)
