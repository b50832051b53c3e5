"""Which processes train together: TF_CONFIG names all workers, and which of them this one is."""

import os

import tensorflow as tf


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
