"""Evaluates the model on validation and test images, image by image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import load_arrays, save_arrays
from pipeline.params import Evaluate, Model, Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output
from pipeline.weights import load_weights
from vae.evaluation import Evaluator, kl_per_latent
from vae.model import build_vae, fix_threads
from vae.statistics import TARGETS, on_grid


def run(
    model: Model,
    evaluate: Evaluate,
    threads: Threads,
    validation_set: Input,
    test_set: Input,
    weights: Input,
    validation: Output,
    test: Output,
) -> None:
    """Writes what evaluation found, for each split a folder of arrays whose rows are images.

    The encoder sees the targets: the gray image for gray targets, the binary one for binary targets.

    Args:
        model: The networks.
        evaluate: How the bound is estimated.
        threads: TensorFlow's thread counts.
        validation_set: Folder of the validation images.
        test_set: Folder of the test images.
        weights: Folder of the model's weights.
        validation: Folder of arrays: index (count,) int64 and label (count,) uint8; for gray and for binarised
            targets, `_reconstruction_nats` and `_kl_nats` (count,) float32 and `_kl_per_latent_nats` (latent,)
            float32; the gray posterior's mean and log_var (count, latent) float32; and
            gray_reconstruction (count, 28, 28) uint8, the image decoded from the posterior mean.
        test: The same for the test images.
    """
    fix_threads(threads.intra_op, threads.inter_op)
    vae = build_vae(model.architecture, model.latent_dim, model.widths)
    load_weights(vae, weights)
    splits = {validation: load_arrays(validation_set), test: load_arrays(test_set)}
    work = sum(len(arrays["images"]) for arrays in splits.values()) * len(TARGETS) * evaluate.latent_samples
    with progress("evaluate", work, " draws") as shown:
        evaluator = Evaluator(vae, evaluate.batch_size, shown.advance)
        for folder, arrays in splits.items():
            save_arrays(folder, _evaluate(evaluator, arrays, evaluate))


def _evaluate(evaluator: Evaluator, arrays: dict[str, NDArray[Any]], evaluate: Evaluate) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {"index": arrays["index"], "label": arrays["labels"]}
    images = {"gray": arrays["images"], "binarised": arrays["binarised"].astype(np.float32)}
    for name in TARGETS:
        posterior = evaluator.encode(images[name])
        kl = kl_per_latent(posterior)
        found[f"{name}_kl_nats"] = on_grid(kl.sum(axis=1))
        found[f"{name}_kl_per_latent_nats"] = kl.mean(axis=0)
        found[f"{name}_reconstruction_nats"] = on_grid(
            evaluator.reconstruction_loss(images[name], posterior, seed=evaluate.seed, samples=evaluate.latent_samples)
        )
        if name == "gray":
            found |= {"mean": posterior.mean, "log_var": posterior.log_var}
            found["gray_reconstruction"] = np.round(evaluator.decode(posterior.mean) * 255).astype(np.uint8)
    return found
