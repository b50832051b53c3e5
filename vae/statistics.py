"""Means over images, with their errors, from values of each image."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Losses of an image are multiples of this many nats: far below their noise, and small when compressed.
GRID_NATS = 2.0**-7

TARGETS = ("gray", "binarised")


def targets_of(values: Mapping[str, NDArray[Any]]) -> list[str]:
    """Lists the targets that losses of images were found for; `preprocess.binarisation: none` leaves the gray ones."""
    return [targets for targets in TARGETS if f"{targets}_kl_nats" in values]


def nats_per_bit_per_dim(image_shape: Iterable[int]) -> float:
    """Nats of an image that are one bit for each of its pixels."""
    return math.prod(image_shape) * math.log(2)


def on_grid(nats: NDArray[np.float32]) -> NDArray[np.float32]:
    """`nats` rounded to multiples of `GRID_NATS`, float32 of the same shape.

    What is published of each image and what is averaged is then the same number.
    """
    return (np.round(nats / GRID_NATS) * GRID_NATS).astype(np.float32)


def mean_and_error(values: NDArray[Any]) -> tuple[float, float]:
    """Mean over images and its standard error, s / sqrt(n) with the sample deviation s, (count,) to two floats."""
    exact = values.astype(np.float64)
    return float(exact.mean()), float(exact.std(ddof=1) / np.sqrt(exact.size))


def over_draws(nats: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean over draws and its standard error, s / sqrt(n), of each image.

    Args:
        nats: (draws, count), two draws or more.

    Returns:
        Two of (count,) float32.
    """
    exact = nats.astype(np.float64)
    mean, error = exact.mean(axis=0), exact.std(axis=0, ddof=1) / np.sqrt(len(exact))
    return mean.astype(np.float32), error.astype(np.float32)


def error_over_draws(errors: NDArray[np.floating]) -> float:
    """Standard error over draws of a mean over images whose draws are independent, from each image's, (count,)."""
    return float(np.sqrt(np.square(errors.astype(np.float64)).sum()) / errors.size)


def losses_of(values: dict[str, NDArray[Any]], targets: str) -> dict[str, NDArray[np.float32]]:
    """Losses of each image for gray or binarised `targets`, (count,) float32, nats.

    Reconstruction loss, KL and ELBO, which is the bound itself, so negative: -(reconstruction loss + KL); and for
    binarised targets, which alone have a likelihood, the NLL.
    """
    reconstruction, kl = (values[f"{targets}_{term}_nats"] for term in ("reconstruction", "kl"))
    losses = {"reconstruction_nats": reconstruction, "kl_nats": kl, "elbo_nats": -(reconstruction + kl)}
    return losses | ({"nll_nats": values["binarised_nll_nats"]} if targets == "binarised" else {})


def summarise(values: dict[str, NDArray[Any]]) -> dict[str, dict[str, float]]:
    """For each kind of targets the mean of each loss, its error over images (`_se`) and over draws (`_mc`).

    The NLL also in bits per dimension, with the draws per image (`nll_samples`), the mean over images of how many draws
    of equal weight they are worth (`nll_effective_samples`, Kong 1992), and by how much its expectation is above
    -log p(x) (`nll_nats_bias`), to the first order in the variance of a mean weight, so only where they are many.
    """
    summary: dict[str, dict[str, float]] = {}
    for targets in targets_of(values):
        summary[targets] = {}
        for name, nats in losses_of(values, targets).items():
            mean, error = mean_and_error(nats)
            over = error_over_draws(values[f"{targets}_{name.removesuffix('_nats')}_mc_nats"])
            summary[targets] |= {name: mean, f"{name}_se": error, f"{name}_mc": over}
    if "binarised" not in summary:
        return summary
    binarised, per_bit = summary["binarised"], nats_per_bit_per_dim(values["image_shape"].tolist())
    for ending in ("", "_se", "_mc"):
        binarised[f"nll_bits_per_dim{ending}"] = binarised[f"nll_nats{ending}"] / per_bit
    samples = int(values["binarised_nll_samples"])
    variance = np.square(values["binarised_nll_mc_nats"].astype(np.float64))
    binarised["nll_samples"] = samples
    binarised["nll_effective_samples"] = float(np.mean(1 / (variance + 1 / samples)))
    binarised["nll_nats_bias"] = float(variance.mean() / 2)
    return summary


def summarise_gap(refined: dict[str, NDArray[Any]]) -> dict[str, float]:
    """The gap from ELBO to log-likelihood of binarised images, with its errors over images and over draws.

    It is the amortisation gap, which the encoder loses against the best diagonal Gaussian of each image, and the
    approximation gap, which that one loses against the true posterior (Cremer et al. 2018). The log-likelihood is
    importance-weighted with draws of the refined posterior: few of them suffice even where the encoder's are poor.

    Args:
        refined: Of each image, (count,) each: elbo_nats, refined_elbo_nats, refined_nll_nats, their errors over draws
            `_mc_nats`, and that of the difference of the first two, amortisation_mc_nats.
    """
    elbo, best, log_likelihood = refined["elbo_nats"], refined["refined_elbo_nats"], -refined["refined_nll_nats"]
    nll_error = refined["refined_nll_mc_nats"]
    parts = {
        "elbo_to_nll_nats": (log_likelihood - elbo, np.hypot(nll_error, refined["elbo_mc_nats"])),
        "amortisation_nats": (best - elbo, refined["amortisation_mc_nats"]),
        "approximation_nats": (log_likelihood - best, np.hypot(nll_error, refined["refined_elbo_mc_nats"])),
    }
    gap: dict[str, float] = {"images": len(elbo)}
    for name, (nats, errors) in parts.items():
        mean, error = mean_and_error(nats)
        gap |= {name: mean, f"{name}_se": error, f"{name}_mc": error_over_draws(errors)}
    return gap
