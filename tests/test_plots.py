"""Figures: what they show, in which order, with which words, and that their bytes repeat."""

import io
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from stages.figures import _as_text
from vae import plots
from vae.latent_space import Plane, gaussian_quantiles, principal_plane

Array = NDArray[np.floating]

TERMS = ("loss", "reconstruction", "kl")
FLOORS = {"train": 188.25, "validation": 189.75}
CLASS_NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CLASSES = len(CLASS_NAMES)

#: A plane of two latents, and one of five.
FLAT = principal_plane(np.zeros((2, 2)), np.zeros((2, 2)))
TILTED = Plane(np.ones(5), np.eye(2, 5), 0.634)


HISTORY = {"epoch": np.array([1.0, 2, 3])} | {
    f"{split}_{term}": np.array([300.0, 280, 270]) + number
    for number, (split, term) in enumerate(product(("train", "validation"), TERMS))
}


def gray_images(count: int) -> Array:
    """Image number i has the value i / count in each pixel."""
    return np.broadcast_to(np.arange(count)[:, None, None] / count, (count, 28, 28))


#: Losses that fall from the first class to the last but for one.
TOTALS = dict(zip(CLASS_NAMES, range(300, 200, -10), strict=True)) | {"Bag": 350}
CLASS_ROWS = {
    name: {"reconstruction_nats": total - 7.0, "kl_nats": 7.0, "elbo_nats_se": 2.0} for name, total in TOTALS.items()
}


def latent_means(plane: Plane) -> Figure:
    """Three images a class, around (class, 2 * class) in the first two latents."""
    labels = np.repeat(np.arange(CLASSES, dtype=np.uint8), 3)
    offsets = np.tile([-0.5, 0.0, 0.25], CLASSES)
    mean = np.zeros((labels.size, len(plane.origin)))
    mean[:, :2] = np.stack([labels + offsets, 2 * labels - offsets], axis=1)
    return plots.latent_means(mean, labels, CLASS_NAMES, plane)


def reconstructions() -> Figure:
    """Four pictures of five images a class; all have different values."""
    images = gray_images(CLASSES * 5 * 4).reshape(CLASSES, 5, 4, 28, 28)
    losses = 100.0 + np.arange(CLASSES * 5).reshape(CLASSES, 5)
    return plots.reconstructions(images, losses, CLASS_NAMES, "Four pictures")


def loss_histogram() -> Figure:
    """Thirty images of NLL 100, 110, ...; image number i has the value i / 30."""
    labels = np.arange(30, dtype=np.uint8) % CLASSES
    return plots.loss_histogram(np.arange(100.0, 400, 10), gray_images(30), labels, CLASS_NAMES, "NLL")


def kl_per_latent() -> Figure:
    kl, error = np.array([0.5, 3.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.0, 0.1])
    return plots.kl_per_latent(kl, error, np.array([True, True, False, True]), "gray")


def calibration() -> Figure:
    """The second of four intervals has no pixel."""
    pixels, predicted = np.array([100, 0, 10, 1000]), np.array([0.1, 0.375, 0.6, 0.9])
    return plots.calibration(pixels, predicted, np.array([0.2, 0.375, 0.5, 0.8]), np.array([0.01, 0, 0.03, 0.02]))


DRAW: dict[str, Callable[[], Figure]] = {
    "loss_histogram": loss_histogram,
    "kl_per_latent": kl_per_latent,
    "calibration": calibration,
    "learning_curves": lambda: plots.learning_curves(HISTORY, FLOORS, "gray"),
    "reconstructions": reconstructions,
    "samples": lambda: plots.samples(gray_images(7)),
    "latent_plane": lambda: plots.latent_plane(gray_images(81), gaussian_quantiles(9), FLAT),
    "nearest": lambda: plots.nearest(
        gray_images(2), gray_images(6).reshape(2, 3, 28, 28), gray_images(8).reshape(2, 4, 28, 28)
    ),
    "interpolations": lambda: plots.interpolations(gray_images(10).reshape(2, 5, 28, 28), "Paths"),
    "traversals": lambda: plots.traversals(
        gray_images(2), gray_images(6).reshape(2, 3, 28, 28), np.array([3.1, 1.2]), np.array([-1.0, 0, 1])
    ),
    "latent_means": lambda: latent_means(FLAT),
    "loss_per_class": lambda: plots.loss_per_class(CLASS_ROWS),
}


def png(figure: Figure) -> bytes:
    """What the figures stage writes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, metadata={"Software": None})
    return buffer.getvalue()


def shown(axes: Axes) -> NDArray[np.generic]:
    """The array of the only image on `axes`, which is shown from 0 to 1."""
    (image,) = axes.get_images()
    assert image.get_clim() == (0, 1)
    return np.asarray(image.get_array())


def tick_labels(axes: Axes, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_has_the_same_bytes_each_time_and_nothing_stands_outside(name: str) -> None:
    figure = DRAW[name]()
    assert png(figure) == png(DRAW[name]())
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_a_figure_is_saved_in_the_resolution_of_the_style() -> None:
    figure = DRAW["samples"]()
    size = figure.get_size_inches() * plots.STYLE["figure.dpi"]
    assert Image.open(io.BytesIO(png(figure))).size == tuple(size.round())


@pytest.mark.parametrize(("targets", "floored"), [("gray", 1), ("binarised", 0)])
def test_learning_curves_show_each_term_of_each_split_and_the_floors_beside_one(targets: str, floored: int) -> None:
    """An encoder that sees a binary image may tell the decoder each pixel: that loss alone has no floor but zero."""
    figure = plots.learning_curves(HISTORY, FLOORS, targets)
    titles = ["Loss (validation: negative ELBO)", f"Reconstruction loss, {targets} targets"]
    assert [axes.get_title() for axes in figure.axes] == [*titles, "KL divergence of q(z|x) from the prior"]
    for axes, term in zip(figure.axes, TERMS, strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "nats per image")
        assert [line.get_label() for line in axes.lines[:2]] == ["train", "validation"]
        for line, split in zip(axes.lines, ("train", "validation"), strict=False):
            np.testing.assert_array_equal(line.get_xydata(), np.stack([[1, 2, 3], HISTORY[f"{split}_{term}"]], axis=1))
    floors = {line.get_label(): line.get_ydata() for line in figure.axes[floored].lines[2:]}
    assert floors == {
        "entropy floor, train: 188.2": [188.25, 188.25],
        "entropy floor, validation: 189.8": [189.75, 189.75],
    }
    assert sum(len(axes.lines) for axes in figure.axes) == 8
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"train", "validation", *floors}


def test_images_are_ranked_by_the_loss_of_their_class() -> None:
    """Six images a class in an order of their own; the loss of a class is about its number."""
    labels = np.tile(np.arange(CLASSES), 6)
    found = plots.ranked(np.repeat([3.0, 0, 5, 1, 4, 2], CLASSES) / 10 + labels, labels, CLASSES)
    np.testing.assert_array_equal(found, np.arange(CLASSES)[:, None] + CLASSES * np.array([1, 3, 5, 4, 2]))


def test_reconstructions_show_four_pictures_of_each_image_by_class_and_rank() -> None:
    figure = reconstructions()
    assert len(figure.axes) == CLASSES * 5
    for place, axes in enumerate(figure.axes):
        np.testing.assert_allclose(shown(axes)[0, ::28] * CLASSES * 5 * 4, 4 * place + np.arange(4))
        assert axes.get_xlabel() == f"{100 + place} nats"
    assert [axes.get_ylabel() for axes in figure.axes[::5]] == list(CLASS_NAMES)
    ranks = ["best", "better than 75 %", "median", "worse than 75 %", "worst"]
    assert [axes.get_title() for axes in figure.axes[:5]] == ranks
    assert figure.get_suptitle() == "Four pictures"


def test_samples_show_each_image_once_and_count_them() -> None:
    figure = DRAW["samples"]()
    (axes,) = figure.axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28].ravel()[:7], np.arange(7) / 7)
    assert shown(axes).shape == (3 * 28, 3 * 28)
    assert figure.get_suptitle() == "7 samples: latents from the prior, and the mean of their images"


def test_the_latent_plane_shows_a_square_of_images_row_by_row_labelled_by_quantiles() -> None:
    (axes,) = DRAW["latent_plane"]().axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28].ravel(), np.arange(81) / 81)
    assert axes.get_title() == "The latent plane"
    labels = [f"{gaussian_quantiles(9)[place]:.1f}" for place in (0, 2, 4, 6, 8)]
    centres = 28 * np.array([0, 2, 4, 6, 8]) + 13.5  # of pixels 0 to 27
    np.testing.assert_allclose([axes.get_xticks(), axes.get_yticks()], [centres, centres])
    assert tick_labels(axes, "x") == labels
    assert tick_labels(axes, "y") == labels[::-1]  # downwards


def test_samples_stand_beside_what_is_nearest_to_them() -> None:
    figure = DRAW["nearest"]()
    for axes, columns in zip(figure.axes, (1, 3, 4), strict=True):
        np.testing.assert_array_equal(shown(axes)[::28, ::28].ravel(), np.arange(2 * columns) / (2 * columns))
    assert [axes.get_title() for axes in figure.axes] == ["sample", "nearest training images in pixels", "in latents"]


def test_interpolations_show_a_row_a_path_and_set_the_originals_apart() -> None:
    (axes,) = DRAW["interpolations"]().axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28], np.arange(10).reshape(2, 5) / 10)
    assert [line.get_xdata()[0] for line in axes.lines] == [27.5, 111.5]


def test_traversals_show_a_row_a_direction_beside_the_image_that_it_starts_from() -> None:
    (axes,) = DRAW["traversals"]().axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28], [[0, 0, 1 / 6, 2 / 6], [1 / 2, 3 / 6, 4 / 6, 5 / 6]])
    assert tick_labels(axes, "y") == ["3.10 nats", "1.20 nats"]
    assert tick_labels(axes, "x") == ["image", "-1.0", "0.0", "1.0"]
    np.testing.assert_allclose(axes.get_xticks(), [13.5, 41.5, 69.5, 97.5])
    np.testing.assert_allclose(axes.get_yticks(), [13.5, 41.5])


@pytest.mark.parametrize(
    ("plane", "offsets", "names"),
    [
        (FLAT, [[0.5, 2.5], [1, 2], [1.25, 1.75]], ["first latent", "second latent"]),
        (
            TILTED,
            [[-0.5, 1.5], [0, 1], [0.25, 0.75]],  # the origin is one in all latents
            [
                "first principal direction, standard deviations (63% of the variance in this plane)",
                "second principal direction, standard deviations",
            ],
        ),
    ],
)
def test_latent_means_are_points_on_the_plane_in_the_colour_of_their_class_named_at_its_median(
    plane: Plane, offsets: list[list[float]], names: list[str]
) -> None:
    (axes,) = latent_means(plane).axes
    (points,) = axes.collections
    np.testing.assert_allclose(points.get_offsets()[3:6], offsets)
    colours = [tuple(colour) for colour in points.get_facecolors()]
    assert [len(set(colours[start : start + 3])) for start in range(0, 30, 3)] == [1] * CLASSES
    assert len(set(colours)) == CLASSES
    assert [text.get_text() for text in axes.texts] == list(CLASS_NAMES)
    medians = [[number, 2 * number] - plane.origin[:2] for number in range(CLASSES)]
    np.testing.assert_allclose([text.get_position() for text in axes.texts], medians)
    assert axes.get_title() == "Posterior means of the test images, by class"
    for labelled in (axes, plots.latent_plane(gray_images(4), gaussian_quantiles(2), plane).axes[0]):
        assert [labelled.get_xlabel(), labelled.get_ylabel()] == names


def test_names_of_classes_with_the_same_median_are_moved_apart() -> None:
    labels = np.tile(np.arange(CLASSES, dtype=np.uint8), 3)
    mean = np.zeros((labels.size, 2))
    mean[:CLASSES, 1], mean[-CLASSES:, 1] = -50, 50
    (axes,) = plots.latent_means(mean, labels, CLASS_NAMES, FLAT).axes
    assert [text.get_position()[1] for text in axes.texts] == pytest.approx([4 * label for label in range(CLASSES)])


@given(places=st.lists(st.integers(-50, 50), min_size=1, max_size=12), gap=st.integers(0, 20))
@settings(deadline=None, derandomize=True)
def test_places_are_moved_up_as_little_as_keeps_them_apart_in_their_order(places: list[int], gap: int) -> None:
    given_places = np.array(places, np.float64)
    moved = plots.apart(given_places, gap)
    assert given_places.tolist() == places
    order = sorted(range(len(places)), key=lambda place: places[place])
    for rank, place in enumerate(order):
        pushed = [places[lower] + (rank - below) * gap for below, lower in enumerate(order[: rank + 1])]
        assert moved[place] == max(pushed)


def test_latent_means_of_one_latent_have_a_place() -> None:
    line = principal_plane(np.zeros((2, 1)), np.zeros((2, 1)))
    labels = np.arange(CLASSES, dtype=np.uint8)
    (axes,) = plots.latent_means(labels[:, None].astype(np.float64), labels, CLASS_NAMES, line).axes
    places = np.ma.getdata(axes.collections[0].get_offsets())
    np.testing.assert_array_equal(places, np.stack([labels, np.zeros(CLASSES)], axis=1))


def test_loss_per_class_stacks_both_terms_with_the_worst_class_on_top() -> None:
    figure = DRAW["loss_per_class"]()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    worst_first = ["Bag", *(name for name in CLASS_NAMES if name != "Bag")]
    assert tick_labels(axes, "y") == worst_first[::-1]  # upwards
    assert axes.get_ylim()[0] < axes.get_ylim()[1]
    reconstruction, kl = (container for container in axes.containers if hasattr(container, "patches"))
    starts = [CLASS_ROWS[name]["reconstruction_nats"] for name in reversed(worst_first)]
    assert [bar.get_width() for bar in reconstruction] == [bar.get_x() for bar in kl] == starts
    assert [bar.get_width() for bar in kl] == [7] * CLASSES
    (intervals,) = (lines for lines in axes.collections if len(lines.get_segments()) == CLASSES)
    low, high = intervals.get_segments()[-1][:, 0]
    assert (low, high) == pytest.approx((350 - 1.96 * 2, 350 + 1.96 * 2))  # 95 %, of the sum
    assert axes.texts[-1].get_text() == "350.0"
    assert axes.get_xlabel() == "nats per image"
    assert axes.get_title() == "Negative ELBO of the test images by class, gray targets"
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"reconstruction loss", "KL divergence"}


def test_the_loss_histogram_counts_every_image_and_shows_the_worst_first() -> None:
    histogram, *worst = loss_histogram().axes
    assert sum(patch.get_height() for patch in histogram.patches) == 30
    assert [round(30 * shown(axes)[0, 0]) for axes in worst] == list(range(29, 19, -1))
    assert worst[0].get_title() == "390 nats"
    assert worst[0].get_xlabel() == CLASS_NAMES[29 % CLASSES]
    assert [text.get_text() for text in histogram.get_legend().get_texts()] == ["mean: 245.0", "median: 245.0"]


def test_kl_per_latent_shows_latents_by_falling_kl_and_which_are_active() -> None:
    (axes,) = kl_per_latent().axes
    assert tick_labels(axes, "x") == ["1", "3", "0", "2"]
    active, other = [bars for bars in axes.containers if isinstance(bars, BarContainer)]
    assert [bar.get_height() for bar in active] == [3.0, 1.0, 0.5]
    assert [bar.get_height() for bar in other] == [0.0]
    assert (active.get_label(), other.get_label()) == ("active: 3", "not active: 1")


def test_calibration_shows_the_intervals_that_have_pixels() -> None:
    upper, lower = calibration().axes
    observed = upper.lines[1]
    assert observed.get_xdata().tolist() == [0.1, 0.6, 0.9]
    assert observed.get_ydata().tolist() == [0.2, 0.5, 0.8]
    assert [bar.get_height() for bar in lower.patches] == [100, 0, 10, 1000]


def test_a_class_named_with_dollars_is_no_mathematics() -> None:
    losses = {"reconstruction_nats": 1.0, "kl_nats": 1.0, "elbo_nats_se": 0.1}
    for figure in (
        plots.loss_per_class({_as_text("$1_or_$2_"): losses}),
        plots.latent_means(np.ones((2, 2)), np.zeros(2, np.uint8), [_as_text("$1_or_$2_")], FLAT),
    ):
        figure.canvas.draw()


def test_the_latent_plane_is_labelled_on_images_that_are_not_square() -> None:
    (axes,) = plots.latent_plane(np.zeros((9, 4, 6)), gaussian_quantiles(3), FLAT).axes
    assert set(axes.get_xticks()) == {2.5, 8.5, 14.5}
    assert set(axes.get_yticks()) == {1.5, 5.5, 9.5}


def test_a_long_name_of_a_class_is_cut_where_images_are_small() -> None:
    figure = plots.loss_histogram(np.ones(20), np.zeros((20, 4, 6)), np.zeros(20, np.uint8), ["a" * 30], "NLL")
    assert figure.axes[1].get_xlabel() == "a" * 11 + "…"
