"""Draws the figures from what the earlier stages wrote; only latents that no stage decoded are decoded here."""

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.files import atomic, load_arrays
from pipeline.params.figures import Figures
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.params.train import Train
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae import latent_space, plots
from vae.calibration import Reliability
from vae.evaluation import Evaluator
from vae.fashion_mnist import CLASS_NAMES

_BATCH = 500
_TRAVERSAL_STEPS = 11
_TRAVERSAL_ROWS = 20


def run(
    model: Model,
    train: Train,
    figures: Figures,
    threads: Threads,
    history: Input,
    training: Input,
    per_class: Input,
    test_set: Input,
    evaluation: Input,
    weights: Input,
    folder: Output,
) -> None:
    """Draws every figure as a PNG with the same bytes each time.

    Inputs:
        history: CSV of the losses per epoch.
        training: JSON of what training ended with.
        per_class: CSV of the losses per class.
        evaluation: Folder of what evaluation found of the test images.
    """
    matplotlib.rcdefaults()  # a user's own settings would give other bytes
    found = load_arrays(evaluation)
    vae = load_vae(model, threads, weights)
    evaluator = Evaluator(vae, _BATCH)
    floors = json.loads(training.read_text(encoding="utf-8"))["entropy_floor_nats"]
    pixels = np.round(load_arrays(test_set)["images"] * 255).astype(np.uint8)
    gray_loss = found["gray_reconstruction_nats"] + found["gray_kl_nats"]
    losses = np.genfromtxt(history, delimiter=",", names=True, ndmin=1)
    drawn = {
        "learning_curves": plots.learning_curves(
            {name: losses[name] for name in losses.dtype.names or ()}, floors, train.targets
        ),
        "reconstructions": plots.reconstructions(pixels, found["gray_reconstruction"], found["label"], gray_loss),
        "loss_per_class": plots.loss_per_class(_test_rows(per_class)),
        "loss_histogram": plots.loss_histogram(found["binarised_nll_nats"], pixels, found["label"]),
        "kl_per_latent": plots.kl_per_latent(
            found["binarised_latent_kl_nats"],
            found["binarised_latent_kl_nats_se"],
            found["binarised_latent_variance"] > latent_space.ACTIVE_VARIANCE,
        ),
        "calibration": plots.calibration(*(found[f"calibration_{name}"] for name in Reliability.__annotations__)),
        **_latent_figures(evaluator, model.latent_dim, figures, found),
    }
    with atomic(folder) as partial:
        partial.mkdir()
        for name, figure in drawn.items():
            figure.savefig(partial / f"{name}.png", metadata={"Software": None})


def _latent_figures(
    evaluator: Evaluator, latent_dim: int, figures: Figures, found: dict[str, NDArray[Any]]
) -> dict[str, Figure]:
    mean = found["mean"]
    plane = latent_space.principal_plane(mean, found["log_var"])
    noise = np.random.default_rng(figures.seed).standard_normal((figures.prior_samples, latent_dim), np.float32)
    grid = evaluator.decode(plane.points(latent_space.quantile_grid(figures.grid_side)))
    drawn = {
        "samples": plots.samples(evaluator.samples(noise)),
        "latent_plane": plots.latent_plane(grid, latent_space.gaussian_quantiles(figures.grid_side), plane),
        "latent_means": plots.latent_means(mean, found["label"], plane),
    }
    order = _active_by_kl(mean, found["gray_latent_kl_nats"])
    if latent_dim > 2 and order.size:
        latents = latent_space.traversals(mean, order, _TRAVERSAL_STEPS)
        images = evaluator.decode(latents.reshape(-1, latent_dim)).reshape(*latents.shape[:2], *grid.shape[1:])
        names = [f"z{latent}: {found['gray_latent_kl_nats'][latent]:.2f} nats" for latent in order]
        values = latent_space.gaussian_quantiles(_TRAVERSAL_STEPS)
        drawn["latent_traversals"] = plots.latent_traversals(images, names, values)
    return drawn


def _active_by_kl(mean: NDArray[np.float32], kl: NDArray[np.float64]) -> NDArray[np.int64]:
    """Active latents by falling KL, at most as many as a page shows."""
    falling = np.argsort(-kl, kind="stable")
    return falling[latent_space.active_latents(mean)[falling]][:_TRAVERSAL_ROWS]


def _test_rows(path: Path) -> dict[str, dict[str, float]]:
    """Losses by class of the test images, gray targets."""
    with path.open(encoding="utf-8", newline="") as handle:
        rows = {
            row["class"]: row for row in csv.DictReader(handle) if (row["split"], row["targets"]) == ("test", "gray")
        }
    wanted = ("reconstruction_nats", "kl_nats", "elbo_nats_se")
    return {name: {key: float(rows[name][key]) for key in wanted} for name in CLASS_NAMES}
