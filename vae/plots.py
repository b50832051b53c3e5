"""Figures from arrays; each function returns a matplotlib figure and touches no disk."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae.explorer import sprite
from vae.latent_space import Plane

Array = NDArray[np.floating]

#: Ten colours that stay apart for colour-blind readers (Petroff 2021, arXiv 2107.02270).
CLASS_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
#: Classes that a figure shows at most, each in a row of its own.
MOST_ROWS = 20

TRAINING, VALIDATION, FLOOR = "#3f90da", "#e76300", "#717581"

STYLE: Any = {  # matplotlib's own type lists every key
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "image.cmap": "gray_r",
    "figure.dpi": 130,
}

#: Images with the highest loss that are shown, and letters of a class' name below each.
_WORST, _SHORT = 10, 12

#: Share of a class' images, ordered by loss, that are better than the one shown.
RANKS = {"best": 0.0, "better than 75 %": 0.25, "median": 0.5, "worse than 75 %": 0.75, "worst": 1.0}


def learning_curves(history: Mapping[str, Array], floors: Mapping[str, float], targets: str) -> Figure:
    """Loss and its two terms over epochs.

    Args:
        history: Columns of the training history, (epochs,) each, nats per image.
        floors: Entropy of the training and validation images, a lower bound of the reconstruction loss of gray targets.
            For binary targets, which the encoder has seen, it is a lower bound of the expected loss only.
        targets: "gray" or "binarised", for the title.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        for axes, term in zip(figure.subplots(1, 3), ("loss", "reconstruction", "kl"), strict=True):
            for split, colour in (("train", TRAINING), ("validation", VALIDATION)):
                axes.plot(history["epoch"], history[f"{split}_{term}"], color=colour, marker=".", label=split)
            axes.set(xlabel="epoch", ylabel="nats per image")
        loss, reconstruction, kl = figure.axes
        floored = reconstruction if targets == "gray" else loss  # binary targets can be told pixel by pixel
        for split, style in (("train", "--"), ("validation", ":")):
            label = f"entropy floor, {split}: {floors[split]:.1f}"
            floored.axhline(floors[split], color=FLOOR, linestyle=style, label=label)
        loss.set_title("Loss (validation: negative ELBO)")
        reconstruction.set_title(f"Reconstruction loss, {targets} targets")
        kl.set_title("KL divergence of q(z|x) from the prior")
        figure.legend(*floored.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def class_colours(count: int) -> list[str]:
    """A colour for each of `count` classes: those of `CLASS_COLOURS`, or more from a rainbow."""
    if count <= len(CLASS_COLOURS):
        return list(CLASS_COLOURS[:count])
    return [mpl.colors.to_hex(mpl.colormaps["turbo"](place)) for place in np.linspace(0.05, 0.95, count)]


def ranked(loss: Array, labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Numbers of the images of each class that have the ranks `RANKS` by loss, (classes, ranks).

    Args:
        loss: (count,) of each image.
        labels: (count,) class of each image.
        classes: The first so many classes.
    """
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        ordered = members[np.argsort(loss[members], kind="stable")]
        chosen.append([ordered[round(share * (len(ordered) - 1))] for share in RANKS.values()])
    return np.array(chosen)


def reconstructions(images: Array, loss: Array, class_names: Sequence[str], title: str) -> Figure:
    """Originals beside reconstructions: for each class the best, three between and the worst by a loss.

    Args:
        images: (classes, ranks, pictures, rows, columns) in [0, 1], what is shown of each image side by side.
        loss: (classes, ranks), nats of each image.
        class_names: The classes that are shown.
        title: What the pictures are.
    """
    rows = len(class_names)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(14, 0.3 + 0.81 * rows), layout="constrained")
        grid = figure.subplots(rows, len(RANKS), squeeze=False)
        for label, row in enumerate(grid):
            for axes, shown, nats in zip(row, images[label], loss[label], strict=True):
                _show(axes, np.hstack(list(shown)))
                axes.set_xlabel(f"{nats:.0f} nats", fontsize=8, labelpad=1)
            row[0].set_ylabel(class_names[label], rotation=0, ha="right", va="center")
        for axes, name in zip(grid[0], RANKS, strict=True):
            axes.set_title(name)
        figure.suptitle(title)
    return figure


def samples(images: Array) -> Figure:
    """Mean images of latents drawn from the prior; (count, rows, columns) in [0, 1]."""
    side = int(np.ceil(np.sqrt(len(images))))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 7.4), layout="constrained")
        _show(figure.subplots(), sprite(images, side))
        figure.suptitle(f"{len(images)} samples: latents from the prior, and the mean of their images")
    return figure


def nearest(images: Array, in_pixels: Array, in_latents: Array) -> Figure:
    """Samples beside the training images that are nearest to them.

    Args:
        images: (samples, rows, columns) in [0, 1].
        in_pixels: (samples, count, rows, columns), nearest first.
        in_latents: The same by the posterior means of the training images.
    """
    columns = {"sample": images[:, None], "nearest training images in pixels": in_pixels, "in latents": in_latents}
    rows = len(images)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1 + 0.75 * rows), layout="constrained")
        widths = [shown.shape[1] for shown in columns.values()]
        for axes, (title, shown) in zip(
            figure.subplots(1, len(columns), width_ratios=widths), columns.items(), strict=True
        ):
            _show(axes, sprite(shown.reshape(-1, *shown.shape[2:]), shown.shape[1]))
            axes.set_title(title, fontsize=10)
        figure.suptitle("Are samples copies? Samples and the training images nearest to them")
    return figure


def interpolations(images: Array, title: str) -> Figure:
    """Paths from one test image to another, along great circles of the prior's noise.

    Args:
        images: (paths, steps, height, width) in [0, 1]; the first and the last of a path are the originals.
        title: What the paths lead from and to.
    """
    rows, steps = images.shape[:2]
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(8, 0.5 + 0.72 * rows), layout="constrained")
        axes = figure.subplots()
        _show(axes, sprite(images.reshape(-1, *images.shape[2:]), steps))
        _separate(axes, images.shape[-1], 1, steps - 1)
        axes.set_title(title)
    return figure


def latent_plane(images: Array, quantiles: Array, plane: Plane) -> Figure:
    """The latent plane on a grid of Gaussian quantiles, each point decoded where images lie over it.

    Args:
        images: (side * side, rows, columns) in [0, 1], row by row from the top left.
        quantiles: (side,) coordinates along an axis, ascending.
        plane: The plane.
    """
    side = len(quantiles)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(8, 8.4), layout="constrained")
        axes = figure.subplots()
        axes.imshow(sprite(images, side), vmin=0, vmax=1)
        shown = np.linspace(0, side - 1, 5).round().astype(int)
        height, width = images.shape[1:]
        axes.set_xticks((shown + 0.5) * width - 0.5, [f"{quantiles[place]:.1f}" for place in shown])
        axes.set_yticks((shown + 0.5) * height - 0.5, [f"{quantiles[side - 1 - place]:.1f}" for place in shown])
        first, second = axis_names(plane)
        title = "The latent plane" + ", each point where images near it lie" * (len(plane.origin) > 2)
        axes.set(title=title, xlabel=first, ylabel=second)
    return figure


def traversals(starts: Array, images: Array, nats: Array, values: Array) -> Figure:
    """What the most telling directions of the prior's noise do to real images.

    Args:
        starts: (rows, height, width) in [0, 1], the test image that each row starts from.
        images: (rows, steps, height, width), decoded along one direction each.
        nats: (rows,), what each direction tells of an image.
        values: (steps,) of the noise along the direction.
    """
    rows, steps = images.shape[:2]
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(8, 1 + 0.6 * rows), layout="constrained")
        axes = figure.subplots()
        shown = np.concatenate([starts[:, None], images], axis=1)
        axes.imshow(sprite(shown.reshape(-1, *shown.shape[2:]), steps + 1), vmin=0, vmax=1)
        size = images.shape[-1]
        _separate(axes, size, 1)
        axes.set_xticks((np.arange(steps + 1) + 0.5) * size - 0.5, ["image", *(f"{value:.1f}" for value in values)])
        axes.set_yticks((np.arange(rows) + 0.5) * size - 0.5, [f"{told:.2f} nats" for told in nats])
        axes.set(
            title="Directions of the prior's noise, by what they tell, each from a real image",
            xlabel="noise along the direction, standard normal under the prior",
        )
    return figure


def latent_means(mean: Array, labels: NDArray[np.uint8], class_names: Sequence[str], plane: Plane) -> Figure:
    """Posterior means of the test images on the latent plane, coloured and named by class.

    Args:
        mean: (count, latent) posterior means.
        labels: (count,) class of each image.
        class_names: Of all classes.
        plane: Where they are projected.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 7.4), layout="constrained")
        axes = figure.subplots()
        places = plane.coordinates(mean)
        colours = class_colours(len(class_names))
        axes.scatter(places[:, 0], places[:, 1], s=5, c=np.array(colours)[labels], alpha=0.55, linewidths=0)
        centres = np.array([np.median(places[labels == label], axis=0) for label in range(len(class_names))])
        heights = apart(centres[:, 1], 0.04 * max(1.0, np.ptp(places[:, 1])))
        for label, name in enumerate(class_names):
            outline = _outline(colours[label])
            axes.text(centres[label, 0], heights[label], name, ha="center", weight="bold", path_effects=outline)
        first, second = axis_names(plane)
        axes.set(title="Posterior means of the test images, by class", xlabel=first, ylabel=second)
    return figure


def loss_per_class(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Reconstruction loss and KL of each class, worst first, with 95 % intervals of their sum.

    Args:
        rows: By class: reconstruction_nats, kl_nats and elbo_nats_se of the test images, gray targets.
    """
    names = sorted(rows, key=lambda name: rows[name]["reconstruction_nats"] + rows[name]["kl_nats"])
    reconstruction = np.array([rows[name]["reconstruction_nats"] for name in names])
    kl = np.array([rows[name]["kl_nats"] for name in names])
    errors = 1.96 * np.array([rows[name]["elbo_nats_se"] for name in names])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.3 * max(3, len(names))), layout="constrained")
        axes = figure.subplots()
        axes.barh(names, reconstruction, color=TRAINING, label="reconstruction loss")
        axes.barh(names, kl, left=reconstruction, xerr=errors, capsize=3, color=VALIDATION, label="KL divergence")
        totals = reconstruction + kl
        for place, total in enumerate(totals):
            axes.text(total + errors[place] + 0.013 * totals.max(), place, f"{total:.1f}", va="center")
        axes.set(title="Negative ELBO of the test images by class, gray targets", xlabel="nats per image")
        axes.grid(axis="y", visible=False)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def loss_histogram(
    loss: Array, images: Array, labels: NDArray[np.uint8], class_names: Sequence[str], name: str
) -> Figure:
    """How a loss of the test images is distributed, with the images that have the highest.

    Args:
        loss: (count,) nats of each test image.
        images: (count, rows, columns) in [0, 1], the gray images.
        labels: (count,) class of each image.
        class_names: Of all classes.
        name: Of the loss.
    """
    worst = np.argsort(-loss, kind="stable")[:_WORST]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 5.2), layout="constrained")
        grid = figure.add_gridspec(2, len(worst), height_ratios=(2.4, 1))
        axes = figure.add_subplot(grid[0, :])
        axes.hist(loss, bins=80, color=TRAINING)
        for value, what, style in ((float(loss.mean()), "mean", "-"), (float(np.median(loss)), "median", "--")):
            axes.axvline(value, color=VALIDATION, linestyle=style, label=f"{what}: {value:.1f}")
        axes.set(title=name, xlabel="nats", ylabel="images")
        axes.legend()
        for place, image in enumerate(worst):
            small = figure.add_subplot(grid[1, place])
            _show(small, images[image])
            small.set_title(f"{loss[image]:.0f} nats", fontsize=9)
            small.set_xlabel(_short(class_names[labels[image]]), fontsize=9)
        figure.supxlabel("The images with the highest, in gray", fontsize=10)
    return figure


def kl_per_latent(kl: Array, error: Array, active: NDArray[np.bool_], targets: str) -> Figure:
    """KL of each latent, highest first.

    Args:
        kl: (latent,) nats, mean over images of the KL of q(z_j|x) from the aggregate posterior's Gaussian.
        error: (latent,) its standard error over images.
        active: (latent,) whether the latent is active.
        targets: Of the encoder: "gray" or "binarised".
    """
    order = np.argsort(-kl, kind="stable")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.8), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(order))
        for chosen, colour, name in ((active[order], TRAINING, "active"), (~active[order], FLOOR, "not active")):
            rows = order[chosen]
            if rows.size:
                label = f"{name}: {rows.size}"
                axes.bar(places[chosen], kl[rows], yerr=1.96 * error[rows], color=colour, capsize=2, label=label)
        axes.set_xticks(places, [str(latent) for latent in order], fontsize=7 if len(order) > 30 else 10)
        axes.set(
            title=f"KL of each latent from the aggregate posterior's Gaussian, {targets} test images",
            xlabel="latent",
            ylabel="nats per image",
        )
        axes.grid(axis="x", visible=False)
        axes.legend()
    return figure


def calibration(pixels: NDArray[np.int64], predicted: Array, observed: Array, error: Array) -> Figure:
    """Observed frequency of ones against the predicted probability, and how many pixels have it.

    Args:
        pixels: (bins,) pixels by predicted probability.
        predicted: (bins,) mean predicted probability.
        observed: (bins,) share of ones.
        error: (bins,) standard error over images of the difference of both.
    """
    some = pixels > 0
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 6.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=FLOOR, linestyle=":", label="calibrated")
        upper.errorbar(
            predicted[some], observed[some], 1.96 * error[some], color=TRAINING, marker=".", capsize=2, label="observed"
        )
        upper.set(title="Calibration of pixels, binarised test images", ylabel="share of ones")
        upper.legend()
        lower.bar((np.arange(len(pixels)) + 0.5) / len(pixels), pixels, 0.9 / len(pixels), color=TRAINING)
        lower.set(yscale="log", xlabel="predicted probability", ylabel="pixels")
    return figure


def axis_names(plane: Plane) -> tuple[str, str]:
    """What the axes of `plane` are, for labels."""
    if len(plane.origin) == 1:
        return "the latent", ""
    if len(plane.origin) == 2:
        return "first latent", "second latent"
    share = f"{plane.explained:.0%} of the variance in this plane"
    return (
        f"first principal direction, standard deviations ({share})",
        "second principal direction, standard deviations",
    )


def apart(places: Array, gap: float) -> Array:
    """`places` (count,) moved up as little as leaves at least `gap` between any two, in their order."""
    moved = places.copy()
    order = np.argsort(places, kind="stable")
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    return moved


def _short(name: str) -> str:
    """As much of a name as there is room for below a small image."""
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"


def _show(axes: Axes, image: Array) -> None:
    axes.imshow(image, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _separate(axes: Axes, width: int, *columns: int) -> None:
    """Draws a line before each of these columns of images."""
    for column in columns:
        axes.axvline(column * width - 0.5, color=VALIDATION, linewidth=2)


def _outline(colour: str) -> list[patheffects.AbstractPathEffect]:
    """Black letters with a rim of the class' colour on white, readable on any cloud of points."""
    return [
        patheffects.withStroke(linewidth=5, foreground=colour),
        patheffects.withStroke(linewidth=3, foreground="white"),
    ]
