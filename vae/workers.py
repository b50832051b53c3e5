"""Data-parallel training: several processes, the workers, that each take a share of every batch.

The engine is `tf.distribute`; which processes there are, and which of them this one is, stands in TF_CONFIG.
"""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

#: What the other workers raise when one of them is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def join(count: int) -> tf.distribute.Strategy:
    """The strategy by which `count` workers train, once all of them are there; before TensorFlow's first operation.

    Args:
        count: Workers; one is this process alone.

    Raises:
        ValueError: If TF_CONFIG is malformed, or names another number of workers.
    """
    if not named_workers(count) and count > 1:  # `check` lets that pass: only training has to be started so
        raise ValueError(f"train.workers = {count}, but TF_CONFIG names 0 (none): it should name as many")
    if count == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MultiWorkerMirroredStrategy()


def named_workers(count: int) -> list[str]:
    """Addresses of the workers that TF_CONFIG names, the chief first; none where it is not set.

    Raises:
        ValueError: If it is malformed, or names others than `count`.
    """
    stated = os.environ.get("TF_CONFIG", "")
    if not stated:
        return []
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        cluster = resolver.cluster_spec().as_dict()
        if set(cluster) - {"chief", "worker"}:
            raise ValueError("it names tasks other than chief and worker")
        if cluster and resolver.task_id not in range(len(cluster[resolver.task_type])):
            raise ValueError(f"its task {resolver.task_type} {resolver.task_id} is none of the cluster")
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(
            f"TF_CONFIG = {stated!r}: {error}; expected "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    named = [*cluster.get("chief", []), *cluster.get("worker", [])]
    if len(named) != count and (named or count > 1):
        raise ValueError(
            f"train.workers = {count}, but TF_CONFIG names {len(named)} ({', '.join(named) or 'none'}): "
            f"it should name as many"
        )
    return named


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
    """What the chief has, by name, on every worker; None if it has nothing."""
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
