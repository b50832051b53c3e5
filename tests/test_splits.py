"""Which images train and which validate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae.splits import published_split, stratified_split

Labels = NDArray[np.uint8]


@st.composite
def labels_and_count(draw: st.DrawFn) -> tuple[Labels, int]:
    """Labels of any shares, some classes missing, and any number of them to validate."""
    labels = np.array(draw(st.lists(st.integers(0, 9), min_size=1, max_size=200)), np.uint8)
    return labels, draw(st.integers(0, labels.size))


def test_the_published_split_keeps_the_last_images_for_validation() -> None:
    training, validation = published_split(60_000, 10_000)
    np.testing.assert_array_equal(training, np.arange(50_000))
    np.testing.assert_array_equal(validation, np.arange(50_000, 60_000))
    assert training.dtype == validation.dtype == np.int64


def test_a_published_split_may_validate_nothing() -> None:
    training, validation = published_split(5, 0)
    assert training.tolist() == [0, 1, 2, 3, 4]
    assert validation.size == 0


@given(drawn=labels_and_count(), seed=st.integers(0, 2**31 - 1))
@settings(deadline=None, derandomize=True)
def test_a_stratified_split_holds_each_image_once_and_in_order(drawn: tuple[Labels, int], seed: int) -> None:
    labels, count = drawn
    training, validation = stratified_split(labels, count, seed)
    assert validation.size == count
    assert sorted([*training, *validation]) == list(range(labels.size))
    assert np.all(np.diff(training) > 0)
    assert np.all(np.diff(validation) > 0)
    assert training.dtype == validation.dtype == np.int64


@given(drawn=labels_and_count(), seed=st.integers(0, 2**31 - 1))
@settings(deadline=None, derandomize=True)
def test_each_class_keeps_its_share_within_one_image(drawn: tuple[Labels, int], seed: int) -> None:
    labels, count = drawn
    validation = stratified_split(labels, count, seed)[1]
    shares = np.bincount(labels, minlength=10) * count / labels.size
    assert np.all(np.abs(np.bincount(labels[validation], minlength=10) - shares) < 1)


def test_the_largest_remainders_are_rounded_up() -> None:
    labels = np.repeat(np.arange(3, dtype=np.uint8), [50, 27, 23])
    validation = stratified_split(labels, 10, 0)[1]  # exact shares: 5.0, 2.7, 2.3
    assert np.bincount(labels[validation]).tolist() == [5, 3, 2]


def test_a_stratified_split_belongs_to_its_seed() -> None:
    labels = np.tile(np.arange(10, dtype=np.uint8), 20)
    first = stratified_split(labels, 50, 1)[1]
    np.testing.assert_array_equal(stratified_split(labels, 50, 1)[1], first)
    assert not np.array_equal(stratified_split(labels, 50, 2)[1], first)


def test_each_image_of_a_class_has_the_same_chance_to_validate() -> None:
    labels, seeds = np.repeat(np.arange(2, dtype=np.uint8), [6, 4]), 4000
    drawn = np.concatenate([stratified_split(labels, 5, seed)[1] for seed in range(seeds)])
    error = np.sqrt(0.5 * 0.5 / seeds)
    assert np.all(np.abs(np.bincount(drawn, minlength=10) / seeds - 0.5) < 5 * error)


def test_more_validation_images_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        stratified_split(np.zeros(3, np.uint8), 4, 0)
