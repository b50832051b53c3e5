"""Figures: what they show, in which order, with which words, and that their bytes repeat."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from vae import plots
from vae.fashion_mnist import CLASS_NAMES
from vae.latent_space import Plane, gaussian_quantiles, principal_plane

Array = NDArray[np.floating]

TERMS = ("loss", "reconstruction", "kl")
FLOORS = {"train": 188.25, "validation": 189.75}
CLASSES = len(CLASS_NAMES)

#: A plane of two latents, and one of five.
FLAT = principal_plane(np.zeros((2, 2)), np.zeros((2, 2)))
TILTED = Plane(np.ones(5), np.eye(2, 5), 0.634)


def history() -> dict[str, Array]:
    columns = [f"{split}_{term}" for split in ("train", "validation") for term in TERMS]
    values = {name: np.array([300.0, 280, 270]) + number for number, name in enumerate(columns)}
    return {"epoch": np.array([1.0, 2, 3]), **values}


def gray_images(count: int) -> Array:
    """Image number i has the value i / count in each pixel."""
    return np.broadcast_to(np.arange(count)[:, None, None] / count, (count, 28, 28))


def class_rows() -> dict[str, dict[str, float]]:
    """Losses that fall from the first class to the last but for one."""
    totals = dict(zip(CLASS_NAMES, range(300, 200, -10), strict=True)) | {"Bag": 350}
    return {
        name: {"reconstruction_nats": total - 7.0, "kl_nats": 7.0, "elbo_nats_se": 2.0}
        for name, total in totals.items()
    }


def draw_learning_curves() -> Figure:
    return plots.learning_curves(history(), FLOORS, "gray")


def draw_reconstructions() -> Figure:
    """Six images a class, of loss 100 to 105 in an order of their own; image number i has the value i."""
    numbers = np.arange(6 * CLASSES, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None], (6 * CLASSES, 28, 28))
    labels = np.tile(np.arange(CLASSES, dtype=np.uint8), 6)
    loss = np.repeat([103.0, 100, 105, 101, 104, 102], CLASSES)
    return plots.reconstructions(images, 255 - images, labels, loss)


def draw_samples() -> Figure:
    return plots.samples(gray_images(7))


def draw_latent_plane() -> Figure:
    return plots.latent_plane(gray_images(81), gaussian_quantiles(9), FLAT)


def draw_latent_traversals() -> Figure:
    images = gray_images(6).reshape(2, 3, 28, 28)
    return plots.latent_traversals(images, ["z4: 3.10 nats", "z0: 1.20 nats"], np.array([-1.0, 0, 1]))


def draw_latent_means(plane: Plane = FLAT) -> Figure:
    """Three images a class, around (class, 2 * class) in the first two latents."""
    labels = np.repeat(np.arange(CLASSES, dtype=np.uint8), 3)
    offsets = np.tile([-0.5, 0.0, 0.25], CLASSES)
    mean = np.zeros((labels.size, len(plane.origin)))
    mean[:, :2] = np.stack([labels + offsets, 2 * labels - offsets], axis=1)
    return plots.latent_means(mean, labels, plane)


def draw_loss_per_class() -> Figure:
    return plots.loss_per_class(class_rows())


def draw_loss_histogram() -> Figure:
    """Thirty images of NLL 100, 110, ...; image number i has the value i."""
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None], (30, 28, 28))
    return plots.loss_histogram(np.arange(100.0, 400, 10), images, np.arange(30, dtype=np.uint8) % CLASSES)


def draw_kl_per_latent() -> Figure:
    return plots.kl_per_latent(
        np.array([0.5, 3.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.0, 0.1]), np.array([True, True, False, True])
    )


def draw_calibration() -> Figure:
    """The second of four intervals has no pixel."""
    pixels, predicted = np.array([100, 0, 10, 1000]), np.array([0.1, 0.375, 0.6, 0.9])
    return plots.calibration(pixels, predicted, np.array([0.2, 0.375, 0.5, 0.8]), np.array([0.01, 0, 0.03, 0.02]))


ALL = [
    draw_loss_histogram,
    draw_kl_per_latent,
    draw_calibration,
    draw_learning_curves,
    draw_reconstructions,
    draw_samples,
    draw_latent_plane,
    draw_latent_traversals,
    draw_latent_means,
    draw_loss_per_class,
]


def png(figure: Figure) -> bytes:
    """What the figures stage writes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, metadata={"Software": None})
    return buffer.getvalue()


def shown(axes: Axes) -> NDArray[np.generic]:
    """The array of the only image on `axes`."""
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def tick_labels(axes: Axes, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


@pytest.mark.parametrize("draw", ALL)
def test_a_figure_drawn_and_saved_twice_has_the_same_bytes(draw: Callable[[], Figure]) -> None:
    assert png(draw()) == png(draw())


@pytest.mark.parametrize("draw", ALL)
def test_nothing_drawn_stands_outside_its_figure(draw: Callable[[], Figure]) -> None:
    figure = draw()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_a_figure_is_saved_in_the_resolution_of_the_style() -> None:
    figure = draw_samples()
    width, height = figure.get_size_inches() * plots.STYLE["figure.dpi"]
    assert Image.open(io.BytesIO(png(figure))).size == (round(width), round(height))


def test_learning_curves_show_each_term_of_each_split() -> None:
    for axes, term in zip(draw_learning_curves().axes, TERMS, strict=True):
        assert axes.get_xlabel() == "epoch"
        curves = {line.get_label(): line for line in axes.lines}
        for split in ("train", "validation"):
            np.testing.assert_array_equal(curves[split].get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(curves[split].get_ydata(), history()[f"{split}_{term}"])


def test_learning_curves_name_their_terms_and_unit() -> None:
    loss, reconstruction, kl = draw_learning_curves().axes
    assert loss.get_title() == "Loss (validation: negative ELBO)"
    assert loss.get_ylabel() == "nats per image"
    assert reconstruction.get_title() == "Reconstruction loss, gray targets"
    assert kl.get_title() == "KL divergence of q(z|x) from the prior"


def test_learning_curves_show_the_floors_given_beside_the_reconstruction_loss_only() -> None:
    figure = draw_learning_curves()
    loss, reconstruction, kl = figure.axes
    floors = {line.get_label(): line.get_ydata() for line in reconstruction.lines if "floor" in line.get_label()}
    assert floors == {
        "entropy floor, train: 188.2": [188.25, 188.25],
        "entropy floor, validation: 189.8": [189.75, 189.75],
    }
    assert len(loss.lines) == len(kl.lines) == 2
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"train", "validation", *floors}


def test_learning_curves_of_binarised_targets_show_the_floors_beside_the_loss_only() -> None:
    """An encoder that sees a binary image may tell the decoder each pixel: that loss alone has no floor but zero."""
    figure = plots.learning_curves(history(), FLOORS, "binarised")
    loss, reconstruction, kl = figure.axes
    assert reconstruction.get_title() == "Reconstruction loss, binarised targets"
    assert len(reconstruction.lines) == len(kl.lines) == 2
    floors = {str(line.get_label()): list(line.get_ydata()) for line in loss.lines[2:]}
    assert floors == {
        "entropy floor, train: 188.2": [188.25, 188.25],
        "entropy floor, validation: 189.8": [189.75, 189.75],
    }
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"train", "validation", *floors}


def test_reconstructions_show_five_images_a_class_by_loss_beside_their_originals() -> None:
    figure = draw_reconstructions()
    assert len(figure.axes) == CLASSES * 5
    by_loss = [1, 3, 5, 0, 4, 2]  # round of each class, from the lowest loss
    for place, axes in enumerate(figure.axes):
        label, rank = divmod(place, 5)
        original, reconstructed = np.split(shown(axes), 2, axis=1)
        index = by_loss[[0, 1, 2, 4, 5][rank]] * CLASSES + label
        assert np.all(original == index)
        assert np.all(reconstructed == 255 - index)
        assert axes.get_xlabel() == f"{100 + [0, 1, 2, 4, 5][rank]} nats"


def test_reconstructions_name_classes_and_ranks() -> None:
    figure = draw_reconstructions()
    assert [axes.get_ylabel() for axes in figure.axes[::5]] == list(CLASS_NAMES)
    ranks = ["best", "better than 75 %", "median", "worse than 75 %", "worst"]
    assert [axes.get_title() for axes in figure.axes[:5]] == ranks
    assert figure.get_suptitle() == "Test images (left) and their reconstructions (right), by class and loss"


def test_uint8_images_are_shown_from_0_to_255() -> None:
    assert draw_reconstructions().axes[0].get_images()[0].get_clim() == (0, 255)


@pytest.mark.parametrize("draw", [draw_samples, draw_latent_plane, draw_latent_traversals])
def test_probabilities_are_shown_from_0_to_1(draw: Callable[[], Figure]) -> None:
    assert draw().axes[0].get_images()[0].get_clim() == (0, 1)


def test_samples_show_each_image_once_and_count_them() -> None:
    figure = draw_samples()
    (axes,) = figure.axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28].ravel()[:7], np.arange(7) / 7)
    assert shown(axes).shape == (3 * 28, 3 * 28)
    assert figure.get_suptitle() == "7 samples: z from the prior, decoded to pixel means"


def test_the_latent_plane_shows_a_square_of_images_row_by_row() -> None:
    (axes,) = draw_latent_plane().axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28].ravel(), np.arange(81) / 81)
    assert axes.get_title() == "The latent plane, decoded at Gaussian quantiles"


def test_the_latent_plane_labels_its_images_by_their_quantiles() -> None:
    (axes,) = draw_latent_plane().axes
    labels = [f"{gaussian_quantiles(9)[place]:.1f}" for place in (0, 2, 4, 6, 8)]
    centres = 28 * np.array([0, 2, 4, 6, 8]) + 13.5  # of pixels 0 to 27
    np.testing.assert_allclose(axes.get_xticks(), centres)
    np.testing.assert_allclose(axes.get_yticks(), centres)
    assert tick_labels(axes, "x") == labels
    assert tick_labels(axes, "y") == labels[::-1]  # downwards


def test_latent_traversals_show_a_row_a_latent() -> None:
    (axes,) = draw_latent_traversals().axes
    np.testing.assert_array_equal(shown(axes)[::28, ::28], np.arange(6).reshape(2, 3) / 6)
    assert tick_labels(axes, "y") == ["z4: 3.10 nats", "z0: 1.20 nats"]
    assert tick_labels(axes, "x") == ["-1.0", "0.0", "1.0"]
    np.testing.assert_allclose(axes.get_xticks(), [13.5, 41.5, 69.5])
    np.testing.assert_allclose(axes.get_yticks(), [13.5, 41.5])
    assert axes.get_xlabel() == "latent, in standard deviations of its posterior means"
    assert axes.get_title() == "Active latents, with what each tells of the image at most; the others at their mean"


def test_latent_means_are_points_in_the_colour_of_their_class() -> None:
    (axes,) = draw_latent_means().axes
    (points,) = axes.collections
    np.testing.assert_allclose(points.get_offsets()[3:6], [[0.5, 2.5], [1, 2], [1.25, 1.75]])
    colours = [tuple(colour) for colour in points.get_facecolors()]
    assert [len(set(colours[start : start + 3])) for start in range(0, 30, 3)] == [1] * CLASSES
    assert len(set(colours)) == CLASSES


def test_latent_means_name_each_class_at_its_median() -> None:
    (axes,) = draw_latent_means().axes
    names = {text.get_text(): text.get_position() for text in axes.texts}
    assert list(names) == list(CLASS_NAMES)
    for label, name in enumerate(CLASS_NAMES):
        assert names[name] == pytest.approx((label, 2 * label))
    assert axes.get_title() == "Posterior means of the test images, by class"


def test_names_of_classes_with_the_same_median_are_moved_apart() -> None:
    labels = np.tile(np.arange(CLASSES, dtype=np.uint8), 3)
    mean = np.zeros((labels.size, 2))
    mean[:CLASSES, 1], mean[-CLASSES:, 1] = -50, 50
    (axes,) = plots.latent_means(mean, labels, FLAT).axes
    assert [text.get_position()[1] for text in axes.texts] == pytest.approx([4 * label for label in range(CLASSES)])


@given(places=st.lists(st.integers(-50, 50), min_size=1, max_size=12), gap=st.integers(0, 20))
@settings(deadline=None, derandomize=True)
def test_places_are_moved_up_as_little_as_keeps_them_apart_in_their_order(places: list[int], gap: int) -> None:
    moved = plots.apart(np.array(places, np.float64), gap)
    order = sorted(range(len(places)), key=lambda place: places[place])
    for rank, place in enumerate(order):
        pushed = [places[lower] + (rank - below) * gap for below, lower in enumerate(order[: rank + 1])]
        assert moved[place] == max(pushed)


def test_moving_places_apart_keeps_the_places_given() -> None:
    places = np.zeros(3)
    plots.apart(places, 1.0)
    assert not places.any()


def test_latent_means_of_a_plane_are_projected_to_it() -> None:
    (points,) = draw_latent_means(TILTED).axes[0].collections
    np.testing.assert_allclose(points.get_offsets()[3:6], [[-0.5, 1.5], [0, 1], [0.25, 0.75]])  # origin: all ones


def test_latent_means_of_one_latent_have_a_place() -> None:
    line = principal_plane(np.zeros((2, 1)), np.zeros((2, 1)))
    labels = np.arange(CLASSES, dtype=np.uint8)
    (axes,) = plots.latent_means(labels[:, None].astype(np.float64), labels, line).axes
    places = np.ma.getdata(axes.collections[0].get_offsets())
    np.testing.assert_array_equal(places, np.stack([labels, np.zeros(CLASSES)], axis=1))


def test_axes_of_two_latents_are_the_latents() -> None:
    assert plots.axis_names(FLAT) == ("first latent", "second latent")


def test_axes_of_a_plane_tell_the_share_of_variance_once() -> None:
    first, second = plots.axis_names(TILTED)
    assert first == "first principal direction, standard deviations (63% of the variance in this plane)"
    assert second == "second principal direction, standard deviations"


@pytest.mark.parametrize("plane", [FLAT, TILTED])
def test_figures_of_a_plane_label_its_axes(plane: Plane) -> None:
    for figure in (plots.latent_plane(gray_images(4), gaussian_quantiles(2), plane), draw_latent_means(plane)):
        (axes,) = figure.axes
        assert (axes.get_xlabel(), axes.get_ylabel()) == plots.axis_names(plane)


def test_loss_per_class_stacks_both_terms_with_the_worst_class_on_top() -> None:
    figure = draw_loss_per_class()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    worst_first = ["Bag", *(name for name in CLASS_NAMES if name != "Bag")]
    assert tick_labels(axes, "y") == worst_first[::-1]  # upwards
    assert axes.get_ylim()[0] < axes.get_ylim()[1]
    reconstruction, kl = (container for container in axes.containers if hasattr(container, "patches"))
    totals = [sum(class_rows()[name][term] for term in ("reconstruction_nats", "kl_nats")) for name in worst_first]
    assert [bar.get_width() for bar in reconstruction] == [total - 7 for total in totals[::-1]]
    assert [bar.get_x() for bar in kl] == [total - 7 for total in totals[::-1]]
    assert [bar.get_width() for bar in kl] == [7] * CLASSES


def test_loss_per_class_writes_totals_and_their_unit() -> None:
    figure = draw_loss_per_class()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts][-1] == "350.0"
    assert axes.get_xlabel() == "nats per image"
    assert axes.get_title() == "Negative ELBO of the test images by class, gray targets"
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"reconstruction loss", "KL divergence"}


def test_loss_per_class_shows_95_percent_intervals_of_the_sum() -> None:
    (axes,) = draw_loss_per_class().axes
    (intervals,) = (lines for lines in axes.collections if len(lines.get_segments()) == CLASSES)
    low, high = intervals.get_segments()[-1][:, 0]
    assert (low, high) == pytest.approx((350 - 1.96 * 2, 350 + 1.96 * 2))


def test_the_loss_histogram_counts_every_image_and_shows_the_worst_first() -> None:
    histogram, *worst = draw_loss_histogram().axes
    assert sum(patch.get_height() for patch in histogram.patches) == 30
    assert [int(shown(axes)[0, 0]) for axes in worst] == list(range(29, 19, -1))
    assert worst[0].get_title() == "390 nats"
    assert worst[0].get_xlabel() == CLASS_NAMES[29 % CLASSES]
    (legend,) = [text.get_texts() for text in [histogram.get_legend()] if text]
    assert [text.get_text() for text in legend] == ["mean: 245.0", "median: 245.0"]


def test_kl_per_latent_shows_latents_by_falling_kl_and_which_are_active() -> None:
    (axes,) = draw_kl_per_latent().axes
    assert tick_labels(axes, "x") == ["1", "3", "0", "2"]
    active, other = [bars for bars in axes.containers if isinstance(bars, BarContainer)]
    assert [bar.get_height() for bar in active] == [3.0, 1.0, 0.5]
    assert [bar.get_height() for bar in other] == [0.0]
    assert (active.get_label(), other.get_label()) == ("active: 3", "not active: 1")


def test_calibration_shows_the_intervals_that_have_pixels() -> None:
    upper, lower = draw_calibration().axes
    observed = upper.lines[1]
    assert observed.get_xdata().tolist() == [0.1, 0.6, 0.9]
    assert observed.get_ydata().tolist() == [0.2, 0.5, 0.8]
    assert [bar.get_height() for bar in lower.patches] == [100, 0, 10, 1000]
