"""Means over images, with their errors, from figures of each image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Figures of an image are multiples of this many nats: far below their noise, and small when compressed.
GRID_NATS = 2.0**-7

TARGETS = ("gray", "binarised")
TERMS = ("reconstruction", "kl")
NLL = "binarised_nll_nats"

#: Endings of names of metrics that are no means of nats: errors over images and over draws, and counts of draws.
NOT_MEANS = ("_se", "_mc", "_samples")


def on_grid(nats: NDArray[np.float32]) -> NDArray[np.float32]:
    """`nats` rounded to multiples of `GRID_NATS`, float32 of the same shape.

    What is published of each image and what is averaged is then the same number.
    """
    return (np.round(nats / GRID_NATS) * GRID_NATS).astype(np.float32)


def mean_and_error(nats: NDArray[np.floating]) -> tuple[float, float]:
    """Mean over images and its standard error, s / sqrt(n) with the sample deviation s, (count,) to two floats."""
    values = nats.astype(np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def losses_of(figures: dict[str, NDArray[Any]], targets: str) -> dict[str, NDArray[np.float32]]:
    """Losses of each image for gray or binarised `targets`, (count,) float32, nats.

    Reconstruction loss, KL and ELBO, which is the bound itself, so negative: -(reconstruction loss + KL); and for
    binarised targets, which alone have a likelihood, the NLL.
    """
    reconstruction, kl = (figures[f"{targets}_{term}_nats"] for term in TERMS)
    losses = {"reconstruction_nats": reconstruction, "kl_nats": kl, "elbo_nats": -(reconstruction + kl)}
    return losses | ({"nll_nats": figures[NLL]} if targets == "binarised" else {})


def summarise(figures: dict[str, NDArray[Any]]) -> dict[str, dict[str, float]]:
    """For gray and for binarised targets, the mean of each loss and its standard error over images (`_se`).

    Of the NLL also the error over draws (`_mc`) and the draws per image (`nll_samples`).
    """
    summary: dict[str, dict[str, float]] = {}
    for targets in TARGETS:
        summary[targets] = {}
        for name, nats in losses_of(figures, targets).items():
            summary[targets][name], summary[targets][f"{name}_se"] = mean_and_error(nats)
    errors = figures["binarised_nll_mc_nats"].astype(np.float64)
    summary["binarised"]["nll_nats_mc"] = float(np.sqrt(np.square(errors).sum()) / errors.size)
    summary["binarised"]["nll_samples"] = int(figures["binarised_nll_samples"])
    return summary
