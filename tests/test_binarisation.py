"""The binary images that are scored: the published draw, and a draw of our own."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray

from pipeline.datasets.fashion_mnist import TEST_ONES, VALIDATION
from vae.binarisation import published_draw, seeded_draw

Gray = NDArray[np.float64]
Draw = Callable[[Gray], NDArray[np.uint8]]


@pytest.fixture
def gray() -> tuple[Gray, Gray]:
    """Validation and test images of all gray values, as many as the pixels of a few images."""
    values = np.random.default_rng(0).integers(0, 256, (2, 20, 28, 28)) / 255
    return values[0], values[1]


@pytest.fixture
def global_generator() -> Iterator[None]:
    """Puts numpy's global generator back to where it was."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


RAW = ROOT / "data" / "raw"


@pytest.mark.skipif(not RAW.is_dir(), reason="Fashion-MNIST is not here; `make` fetches it")
def test_the_published_draw_of_the_real_test_images_has_its_ones() -> None:
    training, images = (np.load(RAW / f"{split}_images.npy") for split in ("train", "test"))
    drawn = published_draw(training[-VALIDATION:] / 255, images / 255)[1]
    assert int(drawn.sum(dtype=np.int64)) == TEST_ONES == 2_248_637


@pytest.mark.usefixtures("global_generator")
def test_the_published_draw_is_that_of_the_published_code(gray: tuple[Gray, Gray]) -> None:
    validation, test = gray
    np.random.seed(777)
    expected_validation = np.random.binomial(1, validation.reshape(-1, 784))
    expected_test = np.random.binomial(1, test.reshape(-1, 784))
    drawn_validation, drawn_test = published_draw(validation, test)
    np.testing.assert_array_equal(drawn_validation.reshape(-1, 784), expected_validation)
    np.testing.assert_array_equal(drawn_test.reshape(-1, 784), expected_test)


@pytest.mark.usefixtures("global_generator")
def test_the_published_draw_neither_reads_nor_moves_the_global_generator(gray: tuple[Gray, Gray]) -> None:
    np.random.seed(1)
    first = published_draw(*gray)
    after = np.random.random()
    np.random.seed(2)
    second = published_draw(*gray)
    np.random.seed(1)
    assert np.random.random() == after
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "draw", [lambda images: seeded_draw(images, 5), lambda images: published_draw(images[:1], images)[1]]
)
@pytest.mark.parametrize("value", [0, 1 / 255, 0.2, 0.5, 254 / 255, 1])
def test_a_pixel_is_one_with_the_probability_of_its_gray_value(draw: Draw, value: float) -> None:
    drawn = draw(np.full((100, 28, 28), value))
    assert (drawn.shape, drawn.dtype) == ((100, 28, 28), np.uint8)
    assert set(np.unique(drawn)) <= {0, 1}
    assert abs(drawn.mean() - value) <= 5 * np.sqrt(value * (1 - value) / drawn.size)


def test_our_own_draw_belongs_to_its_seed(gray: tuple[Gray, Gray]) -> None:
    first = seeded_draw(gray[0], 3)
    np.testing.assert_array_equal(seeded_draw(gray[0], 3), first)
    assert not np.array_equal(seeded_draw(gray[0], 4), first)


def test_our_own_draw_follows_float32_images_too() -> None:
    assert np.all(seeded_draw(np.ones((100, 28, 28), np.float32), 0) == 1)
