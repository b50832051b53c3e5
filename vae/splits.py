"""Which of the upstream training images train, and which validate."""

import numpy as np
from numpy.typing import NDArray

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


def published_split(count: int, validation_count: int) -> Split:
    """The split of the published numbers: the last `validation_count` of `count` images validate.

    Source: Norouzi, Fleet and Norouzi, "Exemplar VAEs" (2020), their code.

    Returns:
        Indices that train and indices that validate, int64, ascending.
    """
    index = np.arange(count, dtype=np.int64)
    return index[: count - validation_count], index[count - validation_count :]


def stratified_split(labels: NDArray[np.integer], validation_count: int, seed: int) -> Split:
    """A random split in which each class keeps its share.

    Args:
        labels: (count,) class of each image.
        validation_count: Images that validate.
        seed: Of the draw.

    Returns:
        Indices that train and indices that validate, int64, ascending. Each class has its share of the
        validation images, rounded down or up so that the sum is `validation_count`.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * validation_count / labels.size
    shares = np.floor(exact).astype(int)
    largest_remainders = np.argsort(shares - exact, kind="stable")
    shares[largest_remainders[: validation_count - shares.sum()]] += 1
    generator = np.random.default_rng(seed)
    drawn = [
        generator.choice(np.flatnonzero(labels == label), size=share, replace=False)
        for label, share in zip(classes, shares, strict=True)
    ]
    validation = np.sort(np.concatenate(drawn)).astype(np.int64)
    return np.setdiff1d(np.arange(labels.size, dtype=np.int64), validation), validation
