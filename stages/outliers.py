"""Scores images that are not as the data have them, beside real ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.counts import fitting
from pipeline.files import load_arrays, write_metrics
from pipeline.params.model import Model
from pipeline.params.outliers import MOST, Outliers
from pipeline.params.threads import Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.evaluation import Evaluator
from vae.outliers import KINDS, auroc, outliers_of

_BATCH = 500


def run(
    model: Model,
    outliers: Outliers,
    threads: Threads,
    validation_set: Input,
    test_set: Input,
    weights: Input,
    metrics: Output,
) -> None:
    """Writes how well the bound and the importance-weighted score tell outliers from real images.

    The first images are the real ones, and the next ones are what outliers are made of, each of its own, so that all
    are independent. All are scored by binary draws of their gray values.

    Outputs:
        metrics: JSON, split -> `images`, of each kind, and kind of outliers -> area under the ROC curve of each score
            with its error. A higher score, of the negative ELBO or of the NLL, is to mean an outlier.

    Raises:
        StageError: If there are too few images for `outliers.images`.
    """
    splits = {"validation": load_arrays(validation_set)["images"], "test": load_arrays(test_set)["images"]}
    third = min(len(images) for images in splits.values()) // 3
    count = fitting("outliers.images", outliers.images, third, MOST, least=2, of="images in a third of a split")
    vae = load_vae(model, threads, weights, splits["test"].shape[1:])
    found: dict[str, Any] = {}
    work = len(splits) * (1 + len(KINDS)) * count * (outliers.latent_samples + outliers.importance_samples)
    with progress("outliers", work, " draws") as shown:
        evaluator = Evaluator(vae, _BATCH, shown.advance, jit_compile=model.jit_compile, workers=threads.intra_op)
        for number, (split, images) in enumerate(splits.items()):
            real, others = images[:count], images[count : 3 * count]
            made = outliers_of(others, np.random.default_rng([outliers.seed, number]))
            scores = _scores(evaluator, np.concatenate([real, *made.values()]), outliers, number)
            found[split] = {"images": count, **_aurocs(list(made), scores)}
    write_metrics(metrics, found)


def _scores(
    evaluator: Evaluator, images: NDArray[np.float32], outliers: Outliers, split: int
) -> dict[str, NDArray[np.float32]]:
    """Scores of each image by name, (count,) float32 nats."""
    drawn = (np.random.default_rng([outliers.seed, split, 1]).random(images.shape) < images).astype(np.float32)
    posterior = evaluator.encode(drawn)
    reconstruction, kl = evaluator.terms(drawn, posterior, seed=outliers.seed, samples=outliers.latent_samples)
    likelihood = evaluator.likelihood(drawn, posterior, seed=outliers.seed, samples=outliers.importance_samples)
    return {"negative_elbo": (reconstruction + kl).mean(axis=0), "nll": likelihood.nll}


def _aurocs(kinds: list[str], scores: dict[str, NDArray[np.float32]]) -> dict[str, dict[str, float]]:
    """Of each kind of outliers; the scores are those of real images, then of each kind, as many of each."""
    found: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    for score, values in scores.items():
        real, *others = np.split(values, 1 + len(kinds))
        for kind, other in zip(kinds, others, strict=True):
            found[kind][f"{score}_auroc"], found[kind][f"{score}_auroc_se"] = auroc(real, other)
    return found
