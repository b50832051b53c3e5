"""Outliers against what their names say, and the area under the curve against scikit-learn, pairs and a bootstrap."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from vae.outliers import KINDS, auroc, outliers_of

Array = NDArray[np.float32]


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(0).random((5, 28, 28), np.float32)


def scores(ties: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of 300 inliers and of 200 outliers that are higher on average; with ties, integers."""
    generator = np.random.default_rng(1)
    inliers, outliers = generator.normal(0, 2, 300), generator.gamma(2, 1, 200)
    return (np.round(inliers), np.round(outliers)) if ties else (inliers, outliers)


def wins_of_pairs(inliers: NDArray[np.float64], outliers: NDArray[np.float64]) -> NDArray[np.float64]:
    """(inliers, outliers), 1 where the outlier has the higher score and 1/2 where they are equal."""
    gaps = outliers - inliers[:, None]
    return (gaps > 0) + (gaps == 0) / 2


def made(images: Array, seed: int = 0) -> dict[str, Array]:
    """Outliers of the images, blended with themselves upside down."""
    return dict(outliers_of(np.concatenate([images, images[:, ::-1]]), np.random.default_rng(seed)))


def test_the_images_stay_whatever_is_done_to_the_outliers(images: Array) -> None:
    before = images.copy()
    for array in outliers_of(images[:4], np.random.default_rng(0)).values():
        array[:] = -1
    np.testing.assert_array_equal(images, before)


def test_the_same_seed_gives_the_same_outliers_and_another_one_others(images: Array) -> None:
    first, again, other = made(images), made(images), made(images, seed=1)
    assert tuple(first) == KINDS
    for kind in KINDS:
        assert (first[kind].shape, first[kind].dtype) == (images.shape, np.float32)
        assert 0 <= first[kind].min() <= first[kind].max() <= 1
        np.testing.assert_array_equal(first[kind], again[kind])
        assert np.array_equal(first[kind], other[kind]) == (kind not in ("shuffled", "noise"))


def test_rotated_is_two_quarter_turns(images: Array) -> None:
    np.testing.assert_array_equal(made(images)["rotated"], np.rot90(images, 2, axes=(1, 2)))


def test_inverted_and_image_add_up_to_one(images: Array) -> None:
    np.testing.assert_allclose(made(images)["inverted"] + images, 1, atol=1e-7)


def test_shuffled_has_the_pixels_of_each_image_in_an_order_of_its_own() -> None:
    image = np.arange(784, dtype=np.float32) / 784
    orders = made(np.tile(image, (5, 1)).reshape(5, 28, 28))["shuffled"].reshape(5, 784)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(image, (5, 1)))
    for number, order in enumerate(orders):
        for other in (image, *orders[:number]):
            assert np.mean(order == other) < 0.02  # by chance one pixel in 784


def test_noise_is_uniform_on_the_unit_interval_in_every_image(images: Array) -> None:
    noise = made(np.tile(images, (40, 1, 1)))["noise"]
    assert 0 <= noise.min() < 1e-4
    assert 1 - 1e-4 < noise.max() < 1
    assert abs(noise.mean(dtype=np.float64) - 0.5) < 5 / np.sqrt(12 * noise.size)
    assert kstest(noise.ravel(), "uniform").pvalue > 1e-3
    assert len(np.unique(noise[:, 0, 0])) == 200


def test_blended_is_the_mean_of_an_image_and_one_of_the_second_half() -> None:
    values = np.array([0.0, 0.5, 1.0, 0.25], np.float32)
    images = np.tile(values[:, None, None], (1, 28, 28))
    blended = outliers_of(images, np.random.default_rng(0))["blended"]
    for image, expected in zip(blended, [0.5, 0.375], strict=True):
        np.testing.assert_array_equal(image, np.full((28, 28), expected))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_area_is_that_of_scikit_learn_and_of_all_pairs(ties: bool, dtype: type) -> None:
    inliers, outliers = (array.astype(dtype) for array in scores(ties))
    area = auroc(inliers, outliers)[0]
    labels = np.repeat([0, 1], [len(inliers), len(outliers)])
    assert area == pytest.approx(roc_auc_score(labels, np.concatenate([inliers, outliers])), abs=1e-12)
    assert area == pytest.approx(wins_of_pairs(inliers, outliers).mean(), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_error_of_the_area_is_that_of_a_bootstrap_over_both_sets(ties: bool) -> None:
    inliers, outliers = scores(ties)
    generator, wins = np.random.default_rng(2), wins_of_pairs(inliers, outliers)
    times = [generator.multinomial(count, np.full(count, 1 / count), 4000) / count for count in wins.shape]
    resampled = np.sum(times[0] @ wins * times[1], axis=1)
    assert auroc(inliers, outliers)[1] == pytest.approx(resampled.std(), rel=0.1)


@pytest.mark.parametrize(
    ("inliers", "outliers", "expected"),
    [
        (np.zeros(10_000), np.array([1.0, 1, 1, -1]), (0.75, 0.25)),  # three of four are above all: sqrt(3 / 16 / 3)
        (np.array([1.0, -1, -1, -1]), np.zeros(10_000), (0.75, 0.25)),
        (np.arange(5.0), np.arange(5.0, 8), (1, 0)),
        (np.zeros(5), np.zeros(8), (0.5, 0)),
    ],
)
def test_areas_and_errors_that_follow_by_hand(
    inliers: NDArray[np.float64], outliers: NDArray[np.float64], expected: tuple[float, float]
) -> None:
    assert auroc(inliers, outliers) == pytest.approx(expected)
