"""What a classifier can read off a representation of the images: a linear probe, and the nearest neighbours."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vae.statistics import mean_and_error


@dataclass(frozen=True)
class Labelled:
    """Images as vectors, (count, features) float32, with their classes, (count,)."""

    features: NDArray[np.float32]
    labels: NDArray[np.uint8]


def accuracies(
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    *,
    neighbours: Sequence[int],
    inverse_regularisation: Sequence[float],
    iterations: int,
    advance: Callable[[], None],
) -> dict[str, dict[str, float]]:
    """Accuracies of a linear probe (Alain and Bengio 2017) and of the vote of the nearest neighbours.

    The probe is logistic regression on standardised features, the vote one of the k nearest training images by
    Euclidean distance.

    Args:
        train: What classifiers are fitted to.
        validation: What chooses among their settings.
        test: What the chosen ones are reported on.
        neighbours: k that are tried, each at most the training images.
        inverse_regularisation: C of the L2 regularisation that are tried.
        iterations: Most iterations of the probe's optimiser, L-BFGS; ending it early regularises, too.
        advance: Called after each classifier, for progress.

    Returns:
        Nothing where all images are of one class. Else `linear_probe` and `nearest_neighbours`: the setting chosen, the
        first of equals; `validation_accuracy` and `test_accuracy`, shares of the images, with their errors over images
        (`_se`). For the probe also the `iterations` that it took: if they are the most allowed, it was ended before it
        converged.
    """
    if len(np.unique(train.labels)) < 2:
        return {}
    probes: dict[float, Any] = {
        strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=iterations))
        for strength in inverse_regularisation
    }
    votes: dict[float, Any] = {k: KNeighborsClassifier(k, algorithm="brute") for k in neighbours}
    linear = _best("inverse_regularisation", probes, train, validation, test, advance)
    linear["iterations"] = int(probes[linear["inverse_regularisation"]][-1].n_iter_.max())
    return {
        "linear_probe": linear,
        "nearest_neighbours": _best("neighbours", votes, train, validation, test, advance),
    }


def _best(
    setting: str,
    classifiers: Mapping[float, Any],
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    advance: Callable[[], None],
) -> dict[str, float]:
    """The value of the setting whose classifier is best on validation, and its accuracies."""
    found: dict[float, tuple[float, float]] = {}
    for value, classifier in classifiers.items():
        with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):
            classifier.fit(train.features, train.labels)
        found[value] = _accuracy(classifier, validation)
        advance()
    best = max(found, key=lambda value: found[value][0])
    test_accuracy, test_error = _accuracy(classifiers[best], test)
    return {
        setting: best,
        "validation_accuracy": found[best][0],
        "validation_accuracy_se": found[best][1],
        "test_accuracy": test_accuracy,
        "test_accuracy_se": test_error,
    }


def _accuracy(classifier: Any, images: Labelled) -> tuple[float, float]:
    return mean_and_error(classifier.predict(images.features) == images.labels)
