"""Means over images, with their errors, from figures of each image."""

import numpy as np
from numpy.typing import NDArray

#: Figures of an image are multiples of this many nats: far below their noise, and small when compressed.
GRID_NATS = 2.0**-8

TARGETS = ("gray", "binarised")
TERMS = ("reconstruction", "kl")


def on_grid(nats: NDArray[np.float32]) -> NDArray[np.float32]:
    """`nats` rounded to multiples of `GRID_NATS`, float32 of the same shape.

    What is published of each image and what is averaged is then the same number.
    """
    return (np.round(nats / GRID_NATS) * GRID_NATS).astype(np.float32)


def mean_and_error(nats: NDArray[np.floating]) -> tuple[float, float]:
    """Mean over images and its standard error, s / sqrt(n) with the sample deviation s, (count,) to two floats."""
    values = nats.astype(np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def losses_of(figures: dict[str, NDArray[np.float32]], targets: str) -> dict[str, NDArray[np.float32]]:
    """Reconstruction loss, KL and ELBO of each image for gray or binarised `targets`, (count,) float32, nats.

    The ELBO is the bound itself, so negative: -(reconstruction loss + KL).
    """
    reconstruction, kl = (figures[f"{targets}_{term}_nats"] for term in TERMS)
    return {"reconstruction_nats": reconstruction, "kl_nats": kl, "elbo_nats": -(reconstruction + kl)}


def summarise(figures: dict[str, NDArray[np.float32]]) -> dict[str, dict[str, float]]:
    """For gray and for binarised targets, the mean of each loss and its standard error over images (`_se`)."""
    summary: dict[str, dict[str, float]] = {}
    for targets in TARGETS:
        summary[targets] = {}
        for name, nats in losses_of(figures, targets).items():
            summary[targets][name], summary[targets][f"{name}_se"] = mean_and_error(nats)
    return summary
