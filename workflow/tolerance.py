"""The one place that says how far the metrics of two processor classes may lie apart.

Another instruction set rounds otherwise, and training amplifies rounding; so bytes differ, and metrics by a
little. What is tolerated is a small multiple of the largest difference ever measured between instruction sets
on equal code, parameters and data, never the error over images, which is about another question.
"""

from collections.abc import Iterator, Mapping
from typing import Any

#: Largest difference of a mean metric between runs under different instruction sets: docs/reproducibility.md.
LARGEST_MEASURED_NATS = 1.588
MULTIPLE = 2
TOLERANCE_NATS = MULTIPLE * LARGEST_MEASURED_NATS


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Metrics by dotted name, `test.gray.elbo_nats`."""
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        else:
            yield name, float(value)


def largest_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Largest absolute difference of a mean in nats between two evaluations; other figures are not compared.

    Raises:
        ValueError: If the evaluations do not have the same metrics.
    """
    left, right = dict(flatten(ours)), dict(flatten(theirs))
    if left.keys() != right.keys():
        raise ValueError(f"metrics differ: {', '.join(sorted(left.keys() ^ right.keys()))}")
    return max(abs(left[name] - right[name]) for name in left if name.endswith("_nats"))
