"""Accuracies against votes in numpy and logistic regression by scipy, and how settings are chosen."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from vae.representation import Labelled, accuracies

Sets = tuple[Labelled, Labelled, Labelled]


def labelled(features: Any, labels: Any) -> Labelled:
    """One feature an image if `features` is a list of numbers."""
    array = np.array(features, np.float32)
    return Labelled(array.reshape(len(array), -1), np.array(labels, np.uint8))


def blobs(classes: int, distance: float, counts: Sequence[int] = (120, 90, 70)) -> Sets:
    """Training, validation and test images: Gaussians of deviation 1 about centres so far from zero, four features."""
    generator = np.random.default_rng(0)
    sets = []
    for count in counts:
        labels = generator.permutation(np.arange(count) % classes)
        sets.append(labelled(distance * np.eye(classes, 4)[labels] + generator.normal(size=(count, 4)), labels))
    return sets[0], sets[1], sets[2]


def scaled(sets: Sets, factors: Sequence[float]) -> Sets:
    train, validation, test = (Labelled(part.features * np.float32(factors), part.labels) for part in sets)
    return train, validation, test


def found(
    sets: Sets, neighbours: Sequence[int] = (1,), strengths: Sequence[float] = (1.0,), iterations: int = 100
) -> dict[str, dict[str, float]]:
    return accuracies(
        *sets, neighbours=neighbours, inverse_regularisation=strengths, iterations=iterations, advance=lambda: None
    )


def vote(train: Labelled, images: Labelled, neighbours: int) -> float:
    """Share of the images whose label has most votes."""
    right = 0
    for features, label in zip(images.features.astype(np.float64), images.labels, strict=True):
        nearest = np.argsort(np.linalg.norm(train.features - features, axis=1))[:neighbours]
        right += np.bincount(train.labels[nearest]).argmax() == label
    return right / len(images.labels)


def logistic(train: Labelled, images: Labelled, strength: float) -> float:
    """Share of the images that regularised logistic regression, minimised by BFGS, has right."""
    centre, spread = train.features.mean(axis=0), train.features.std(axis=0)
    inputs, others = ((part.features - centre) / spread for part in (train, images))
    classes = int(train.labels.max()) + 1

    def logits(weights: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
        table = weights.reshape(-1, classes)
        return points @ table[1:] + table[0]

    def loss(weights: NDArray[np.float64]) -> float:
        scores = logits(weights, inputs)
        nll = logsumexp(scores, axis=1) - scores[np.arange(len(scores)), train.labels]
        return float(strength * nll.sum() + np.sum(weights[classes:] ** 2) / 2)

    weights = minimize(loss, np.zeros((inputs.shape[1] + 1) * classes), method="BFGS").x
    return float(np.mean(logits(weights, others).argmax(axis=1) == images.labels))


@pytest.mark.parametrize(("classes", "neighbours"), [(2, 1), (2, 3), (3, 1)])
def test_the_vote_of_the_nearest_neighbours_is_that_of_a_loop(classes: int, neighbours: int) -> None:
    train, validation, test = scaled(blobs(classes, 1.5), [1, 3, 0.3, 1])
    report = found((train, validation, test), neighbours=[neighbours])["nearest_neighbours"]
    assert report["neighbours"] == neighbours
    for name, images in (("validation", validation), ("test", test)):
        expected = vote(train, images, neighbours)
        assert 0.4 < expected < 0.95
        assert report[f"{name}_accuracy"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_linear_probe_is_regularised_logistic_regression(strength: float) -> None:
    train, validation, test = scaled(blobs(3, 1.5), [1, 10, 0.1, 1])
    report = found((train, validation, test), strengths=[strength])["linear_probe"]
    assert report["inverse_regularisation"] == strength
    for name, images in (("validation", validation), ("test", test)):
        assert report[f"{name}_accuracy"] == pytest.approx(logistic(train, images, strength), rel=1e-12)


@pytest.mark.parametrize("order", [[1, 3], [3, 1]])
def test_the_neighbours_are_chosen_on_validation_and_reported_on_test(order: list[int]) -> None:
    """A training image of class 1 among those of class 0: one neighbour believes it, three do not."""
    train = labelled([0, 1, 2, 10, 11, 12], [0, 0, 1, 1, 1, 1])
    validation = labelled([2.1, 2.2, 0.1, 11.1], [1, 1, 0, 1])
    test = labelled([2.1, 2.2, 2.3, 0.1], [0, 0, 0, 0])
    assert (vote(train, validation, 1), vote(train, validation, 3)) == (1, 0.5)
    assert (vote(train, test, 1), vote(train, test, 3)) == (0.25, 1)
    report = found((train, validation, test), neighbours=order)["nearest_neighbours"]
    assert report["neighbours"] == 1
    assert (report["validation_accuracy"], report["test_accuracy"]) == (1, 0.25)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_of_equally_good_settings_the_first_is_chosen(order: tuple[int, ...]) -> None:
    neighbours, strengths = ([values[place] for place in order] for values in ([1, 3, 5], [0.1, 1.0, 10.0]))
    report = found(blobs(2, 15), neighbours, strengths)
    assert report["nearest_neighbours"]["neighbours"] == neighbours[0]
    assert report["linear_probe"]["inverse_regularisation"] == strengths[0]


def test_the_errors_are_those_of_shares_of_images() -> None:
    report = found(blobs(3, 1))
    for classifier in ("linear_probe", "nearest_neighbours"):
        for name, count in (("validation_accuracy", 90), ("test_accuracy", 70)):
            share = report[classifier][name]
            assert 0.2 < share < 0.9
            assert report[classifier][f"{name}_se"] == pytest.approx(math.sqrt(share * (1 - share) / (count - 1)))


def test_progress_counts_each_classifier() -> None:
    calls: list[int] = []
    settings: dict[str, Any] = {"neighbours": [1, 3, 5], "inverse_regularisation": [0.1, 1.0]}
    accuracies(*blobs(2, 3), **settings, iterations=20, advance=lambda: calls.append(1))
    assert len(calls) == 5


def test_an_optimiser_is_ended_after_its_iterations_and_says_nothing() -> None:
    sets = blobs(3, 1)
    with pytest.warns(ConvergenceWarning):
        LogisticRegression(max_iter=1).fit(sets[0].features, sets[0].labels)
    with warnings.catch_warnings(action="error", category=ConvergenceWarning):
        ended, free = (found(sets, iterations=most)["linear_probe"]["iterations"] for most in (1, 100))
    assert (ended, 1 < free < 100) == (1, True)
