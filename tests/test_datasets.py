"""The batches of an epoch: which images, in which order, with which numbers."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from vae.datasets import epoch_order, training_blocks

Array = NDArray[np.float32]

COUNT, BATCH = 11, 3
STEPS = 3


@pytest.fixture
def images() -> tf.Tensor:
    """Image number i has the value i / COUNT in each pixel."""
    return tf.constant(np.broadcast_to(np.arange(COUNT, dtype=np.float32)[:, None, None] / COUNT, (COUNT, 28, 28)))


def batches(
    images: tf.Tensor, epoch: int = 0, *, seed: int = 1, binarised: bool = False, batch_size: int = BATCH
) -> list[tuple[Array, int]]:
    blocks = training_blocks(images, batch_size=batch_size, block=2, seed=seed, epoch=epoch, binarised=binarised)
    return [(batch, int(step)) for many, steps in blocks for batch, step in zip(many.numpy(), steps, strict=True)]


def numbers(found: list[tuple[Array, int]]) -> list[int]:
    """Which images the batches hold, one after the other."""
    return [round(float(image[0, 0]) * COUNT) for batch, _ in found for image in batch]


def test_an_order_is_a_permutation() -> None:
    assert sorted(epoch_order(1000, 1, 0)) == list(range(1000))


def test_an_order_belongs_to_seed_and_epoch() -> None:
    np.testing.assert_array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    orders = {tuple(epoch_order(50, seed, epoch)) for seed, epoch in ((1, 2), (1, 3), (2, 2), (2, 1))}
    assert len(orders) == 4


def test_each_image_has_the_same_chance_of_each_place() -> None:
    epochs, count = 6000, 4
    first = np.bincount([epoch_order(count, 1, epoch)[0] for epoch in range(epochs)], minlength=count)
    assert np.all(np.abs(first / epochs - 1 / count) < 5 * np.sqrt(1 / count * (1 - 1 / count) / epochs))


def test_an_epoch_holds_each_image_at_most_once(images: tf.Tensor) -> None:
    seen = numbers(batches(images))
    assert len(seen) == len(set(seen)) == STEPS * BATCH


def test_the_last_batch_is_dropped_if_it_is_not_full(images: tf.Tensor) -> None:
    assert [batch.shape for batch, _ in batches(images)] == [(BATCH, 28, 28)] * STEPS


def test_a_full_last_batch_is_kept(images: tf.Tensor) -> None:
    assert sorted(numbers(batches(images, batch_size=COUNT))) == list(range(COUNT))


def test_the_images_dropped_are_others_in_another_epoch(images: tf.Tensor) -> None:
    dropped = {frozenset(range(COUNT)) - frozenset(numbers(batches(images, epoch))) for epoch in range(5)}
    assert len(dropped) > 1


def test_the_order_is_that_of_the_epoch(images: tf.Tensor) -> None:
    assert numbers(batches(images, 4, seed=2)) == list(epoch_order(COUNT, 2, 4)[: STEPS * BATCH])


def test_another_epoch_or_seed_has_another_order(images: tf.Tensor) -> None:
    first = numbers(batches(images, 0, seed=1))
    assert first != numbers(batches(images, 1, seed=1))
    assert first != numbers(batches(images, 0, seed=2))


def test_steps_are_counted_on_over_epochs(images: tf.Tensor) -> None:
    assert [step for epoch in range(3) for _, step in batches(images, epoch)] == list(range(3 * STEPS))


@pytest.mark.parametrize(("block", "expected"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (50, [3])])
def test_steps_come_in_blocks_and_the_last_may_be_shorter(images: tf.Tensor, block: int, expected: list[int]) -> None:
    blocks = training_blocks(images, batch_size=BATCH, block=block, seed=1, epoch=0, binarised=False)
    found = [(batches.shape, steps.shape) for batches, steps in blocks]
    assert found == [((steps, BATCH, 28, 28), (steps,)) for steps in expected]


def test_gray_images_are_passed_on_unchanged(images: tf.Tensor) -> None:
    for batch, step in batches(images):
        order = epoch_order(COUNT, 1, 0)[step * BATCH : (step + 1) * BATCH]
        np.testing.assert_array_equal(batch, images.numpy()[order])


def test_a_second_pass_repeats_the_first(images: tf.Tensor) -> None:
    dataset = training_blocks(images, batch_size=BATCH, block=2, seed=1, epoch=0, binarised=True)
    for (first, _), (second, _) in zip(dataset, dataset, strict=True):
        np.testing.assert_array_equal(first, second)


def test_binarised_batches_are_drawn_from_the_gray_ones(images: tf.Tensor) -> None:
    for (binary, _), (gray, _) in zip(batches(images, binarised=True), batches(images), strict=True):
        assert set(np.unique(binary)) <= {0, 1}
        shares, values = binary.mean(axis=(1, 2), dtype=np.float64), gray[:, 0, 0].astype(np.float64)
        assert np.all(np.abs(shares - values) <= 5 * np.sqrt(values * (1 - values) / 784))


def test_an_image_is_binarised_anew_in_each_epoch() -> None:
    image = tf.fill((1, 28, 28), 0.5)
    first, second = (batches(image, epoch, binarised=True, batch_size=1)[0][0] for epoch in (0, 1))
    assert not np.array_equal(first, second)


def test_equal_images_of_a_batch_are_binarised_apart() -> None:
    batch = batches(tf.fill((2, 28, 28), 0.5), binarised=True, batch_size=2)[0][0]
    assert not np.array_equal(batch[0], batch[1])
