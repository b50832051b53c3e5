"""Draws the figures from what the earlier stages wrote; images that no stage decoded are decoded here."""

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.files import atomic, load_arrays
from pipeline.params.figures import Figures
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.params.train import Train
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae import latent_space, paths, plots
from vae.calibration import Reliability
from vae.copies import nearest
from vae.evaluation import Evaluator
from vae.mean_image import MeanImages
from vae.model import VAE
from vae.near_images import points_near_images
from vae.objective import reparameterise
from vae.statistics import losses_of, targets_of

_BATCH = 500

#: Samples that are shown beside their nearest training images, and how many of these.
_SAMPLES, _NEAREST = 10, 4

#: Rows of interpolations and of traversals.
_PATHS = 10

#: Images along an interpolation with both ends, and along a traversal.
_BETWEEN, _ALONG = 9, 11

#: Draws of q(z|x) of each image, by which directions are ranked.
_DRAWS = 4

Array = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]


def run(
    model: Model,
    train: Train,
    figures: Figures,
    threads: Threads,
    history: Input,
    training: Input,
    per_class: Input,
    training_set: Input,
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
    found, test = load_arrays(evaluation), load_arrays(test_set)
    names = [_as_text(name) for name in test["class_names"].tolist()]
    targets = targets_of(found)[-1]  # binary images, which have a likelihood, if there are
    loss, name_of_loss = _loss(found, targets)
    vae = load_vae(model, threads, weights, test["images"].shape[1:])
    floors = json.loads(training.read_text(encoding="utf-8"))["entropy_floor_nats"]
    losses = np.genfromtxt(history, delimiter=",", names=True, ndmin=1)
    drawn = {
        "learning_curves": plots.learning_curves(
            {name: losses[name] for name in losses.dtype.names or ()}, floors, train.targets
        ),
        "loss_per_class": plots.loss_per_class(_test_rows(per_class)),
        "loss_histogram": plots.loss_histogram(loss, test["images"], found["label"], names, name_of_loss),
        "kl_per_latent": plots.kl_per_latent(
            found[f"{targets}_latent_kl_nats"],
            found[f"{targets}_latent_kl_nats_se"],
            found[f"{targets}_latent_variance"] > latent_space.ACTIVE_VARIANCE,
            targets,
        ),
        **_Pictures(vae, figures, names).drawn(found, test, load_arrays(training_set)["images"], loss),
    }
    if targets == "binarised":
        columns = (found[f"calibration_{name}"] for name in Reliability.__annotations__)
        drawn["calibration"] = plots.calibration(*columns)
    with atomic(folder) as partial:
        partial.mkdir()
        for name, figure in drawn.items():
            figure.savefig(partial / f"{name}.png", metadata={"Software": None})


class _Pictures:
    """Figures of decoded images. All randomness comes from one generator, in the order in which they are drawn."""

    def __init__(self, vae: VAE, figures: Figures, class_names: list[str]) -> None:
        self._vae = vae
        self._class_names = class_names
        self._figures = figures
        self._means = MeanImages(vae)
        self._evaluator = Evaluator(vae, _BATCH)
        self._generator = np.random.default_rng(figures.seed)

    def drawn(self, found: Arrays, test: Arrays, training_images: Array, loss: Array) -> dict[str, Figure]:
        """The figures by name; `found`, `test` and `loss` are of the test images."""
        noise = self._normal(self._figures.prior_samples, self._vae.latent_dim)
        latents = np.asarray(self._vae.from_noise(tf.constant(noise)))
        samples = self._means.decode(latents)
        plane = latent_space.principal_plane(found["mean"], found["log_var"])
        quantiles = latent_space.gaussian_quantiles(self._figures.grid_side)
        points = points_near_images(plane, latent_space.square_grid(quantiles), found["mean"])
        return {
            "samples": plots.samples(samples),
            "latent_plane": plots.latent_plane(self._means.decode(points), quantiles, plane),
            "latent_means": plots.latent_means(found["mean"], found["label"], self._class_names, plane),
            "nearest": self._nearest(latents[:_SAMPLES], samples[:_SAMPLES], training_images),
            "reconstructions": self._reconstructions(found, test, loss),
            "interpolations": self._interpolations(found, test["images"]),
            "traversals": self._traversals(found, test["images"]),
        }

    def _nearest(self, latents: Array, samples: Array, training: Array) -> Figure:
        """Samples beside the training images that are nearest in pixels, and nearest in latents."""
        flat = training.reshape(len(training), -1)
        in_pixels, _ = nearest(flat, samples.reshape(len(samples), -1), _NEAREST)
        in_latents, _ = nearest(self._evaluator.encode(training).mean, latents, _NEAREST)
        return plots.nearest(samples, training[in_pixels], training[in_latents])

    def _reconstructions(self, found: Arrays, test: Arrays, loss: Array) -> Figure:
        """For each class images by rank of their loss: gray, binary if there are, reconstructed, drawn."""
        shown_classes = self._class_names[: plots.MOST_ROWS]
        chosen = plots.ranked(loss, found["label"], len(shown_classes))
        flat = chosen.ravel()
        gray = test["images"][flat]
        binary = test["binarised"][flat].astype(np.float32) if "binarised" in test else gray
        posterior = self._evaluator.encode(binary)
        noise = self._normal(*posterior.mean.shape)
        latent = reparameterise(tf.constant(posterior.mean), tf.constant(posterior.log_var), noise)
        draws = self._vae.draw(latent, tf.constant(self._generator.random(binary.shape, np.float32)))
        pictures = {"gray": gray, "binary as the model saw it": binary} if "binarised" in test else {"gray": gray}
        pictures |= {"mean of its reconstruction": self._means.decode(posterior.mean), "one draw of it": draws.numpy()}
        shown = np.stack([*pictures.values()], axis=1).reshape(*chosen.shape, len(pictures), *gray.shape[1:])
        missing = len(self._class_names) - len(shown_classes)
        some = f", the first {len(shown_classes)} of {len(self._class_names)} classes" if missing else ""
        title = f"Test images by class and {'NLL' if 'binarised' in test else 'ELBO'}{some}: {', '.join(pictures)}"
        return plots.reconstructions(shown, loss[chosen], shown_classes, title)

    def _interpolations(self, found: Arrays, images: Array) -> Figure:
        """From an image of every other class to another of it, and from one of the rest to one of the next class."""
        pairs, classes = [], len(self._class_names)
        for number in range(_PATHS):
            ends = (number % classes, (number + number % 2) % classes)
            start, end = (self._generator.choice(np.flatnonzero(found["label"] == label)) for label in ends)
            if start == end:
                others = np.flatnonzero(found["label"] == ends[1])
                end = self._generator.choice(others[others != start])
            pairs.append([start, end])
        pairs = pairs[::2] + pairs[1::2]
        start, end = np.array(pairs).T
        between = paths.interpolations(self._vae, found["mean"][start], found["mean"][end], _BETWEEN)
        decoded = self._means.decode(between.reshape(-1, between.shape[2]))
        decoded = decoded.reshape(*between.shape[:2], *images.shape[1:])
        title = "From test images (left) to others (right)" + ": of the same class, then of another" * (classes > 1)
        shown = np.concatenate([images[start][:, None], decoded, images[end][:, None]], axis=1)
        return plots.interpolations(shown, title)

    def _traversals(self, found: Arrays, images: Array) -> Figure:
        """The directions of the prior's noise that tell most, each from an image of another class."""
        mean, deviation = found["mean"], np.exp(found["log_var"] / 2)
        drawn = [paths.noise_of(self._vae, mean + deviation * self._normal(*mean.shape)) for _ in range(_DRAWS)]
        directions, nats = paths.telling_directions(np.stack(drawn))
        rows = min(len(directions), _PATHS)
        labels = np.arange(rows) % len(self._class_names)
        start = np.array([self._generator.choice(np.flatnonzero(found["label"] == label)) for label in labels])
        along = paths.traversals(self._vae, mean[start], directions[:rows], _ALONG)
        decoded = self._means.decode(along.reshape(-1, along.shape[2])).reshape(*along.shape[:2], *images.shape[1:])
        values = latent_space.gaussian_quantiles(_ALONG)
        return plots.traversals(images[start], decoded, nats[:rows], values)

    def _normal(self, *shape: int) -> Array:
        return self._generator.standard_normal(shape, np.float32)


def _loss(found: Arrays, targets: str) -> tuple[Array, str]:
    """The loss of each test image that figures rank by, (count,) nats, and its name."""
    losses = losses_of(found, targets)
    if "nll_nats" in losses:
        return losses["nll_nats"], "NLL of the binarised test images"
    return -losses["elbo_nats"], "Negative ELBO of the gray test images"


def _test_rows(path: Path) -> dict[str, dict[str, float]]:
    """Losses by class of the test images, gray targets."""
    with path.open(encoding="utf-8", newline="") as handle:
        rows = {
            row["class"]: row for row in csv.DictReader(handle) if (row["split"], row["targets"]) == ("test", "gray")
        }
    wanted = ("reconstruction_nats", "kl_nats", "elbo_nats_se")
    return {_as_text(name): {key: float(row[key]) for key in wanted} for name, row in rows.items()}


def _as_text(name: str) -> str:
    """A name that matplotlib writes as it is: it reads mathematics between two dollars."""
    return name.replace("$", r"\$")
