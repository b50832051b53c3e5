"""The batches of an epoch: which images, in which order, with which numbers."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from vae.datasets import epoch_order, training_blocks
from vae.noise import binarise

Array = NDArray[np.float32]

COUNT, BATCH = 11, 3
STEPS = 3


@pytest.fixture
def images() -> tf.Tensor:
    """Image number i has the value i / COUNT in each pixel."""
    return tf.constant(np.broadcast_to(np.arange(COUNT, dtype=np.float32)[:, None, None] / COUNT, (COUNT, 28, 28)))


def batches(
    images: tf.Tensor, *epochs: int, seed: int = 1, binarised: bool = False, batch_size: int = BATCH
) -> list[tuple[Array, int]]:
    span = range(epochs[0], epochs[-1] + 1)
    blocks = training_blocks(images, batch_size=batch_size, block=2, seed=seed, epochs=span, binarised=binarised)
    return [(batch, int(step)) for many, steps in blocks for batch, step in zip(many.numpy(), steps, strict=True)]


def test_an_order_is_a_permutation() -> None:
    assert sorted(epoch_order(1000, 1, 0)) == list(range(1000))


def test_an_order_belongs_to_seed_and_epoch() -> None:
    np.testing.assert_array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    orders = {tuple(epoch_order(50, seed, epoch)) for seed, epoch in ((1, 2), (1, 3), (2, 2), (2, 1))}
    assert len(orders) == 4


def test_a_full_last_batch_is_kept(images: tf.Tensor) -> None:
    ((batch, _),) = batches(images, 0, batch_size=COUNT)
    np.testing.assert_array_equal(batch, images.numpy()[epoch_order(COUNT, 1, 0)])


def test_an_epoch_is_whole_batches_of_unchanged_images_in_the_order_of_seed_and_epoch(images: tf.Tensor) -> None:
    found = [batch for batch, _ in batches(images, 4, 5, seed=2)]
    orders = [epoch_order(COUNT, 2, epoch)[: STEPS * BATCH] for epoch in (4, 5)]  # the rest fills no batch
    np.testing.assert_array_equal(found, images.numpy()[np.reshape(orders, (2 * STEPS, BATCH))])


def test_steps_are_counted_on_over_epochs(images: tf.Tensor) -> None:
    assert [step for _, step in batches(images, 1, 2)] == list(range(STEPS, 3 * STEPS))


@pytest.mark.parametrize(("block", "expected"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (50, [3])])
def test_steps_come_in_blocks_and_the_last_may_be_shorter(images: tf.Tensor, block: int, expected: list[int]) -> None:
    blocks = training_blocks(images, batch_size=BATCH, block=block, seed=1, epochs=range(2), binarised=False)
    found = [(batches.shape, steps.shape) for batches, steps in blocks]
    assert found == [((steps, BATCH, 28, 28), (steps,)) for steps in expected * 2]


def test_a_second_pass_repeats_the_first(images: tf.Tensor) -> None:
    dataset = training_blocks(images, batch_size=BATCH, block=2, seed=1, epochs=range(2), binarised=True)
    for (first, _), (second, _) in zip(dataset, dataset, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_binarised_batch_is_the_draw_of_its_step(images: tf.Tensor) -> None:
    pairs = zip(batches(images, 2, binarised=True), batches(images, 2), strict=True)
    for (binary, step), (gray, _) in pairs:
        np.testing.assert_array_equal(binary, binarise(tf.constant(gray), 1, tf.constant(step, tf.int64)))
