"""Evaluates the model on validation and test images, image by image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import load_arrays, save_arrays
from pipeline.params import Evaluate, Model, Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output
from pipeline.weights import load_weights
from vae.evaluation import Evaluator, information_per_latent
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

    The encoder sees the targets: the gray image for gray targets, the binary one for binary targets. Only binary
    targets have a likelihood.

    Args:
        model: The networks.
        evaluate: How the bound and the likelihood are estimated.
        threads: TensorFlow's thread counts.
        validation_set: Folder of the validation images.
        test_set: Folder of the test images.
        weights: Folder of the model's weights.
        validation: Folder of arrays: index (count,) int64 and label (count,) uint8; for gray and for binarised
            targets, `_reconstruction_nats` and `_kl_nats` (count,) float32 and `_information_per_latent_nats`
            (latent,) float32; the gray posterior's mean and log_var (count, latent) float32;
            gray_reconstruction (count, 28, 28) uint8, the image decoded from the posterior mean; and
            binarised_nll_nats and its error over draws binarised_nll_mc_nats (count,) float32, with the number of
            draws binarised_nll_samples () int64.
        test: The same for the test images.
    """
    fix_threads(**threads.model_dump())
    vae = build_vae(**model.networks)
    load_weights(vae, weights)
    splits = {validation: load_arrays(validation_set), test: load_arrays(test_set)}
    work = sum(len(arrays["images"]) for arrays in splits.values())
    work *= len(TARGETS) * evaluate.latent_samples + evaluate.importance_samples
    with progress("evaluate", work, " draws") as shown:
        evaluator = Evaluator(vae, evaluate.batch_size, shown.advance, jit_compile=model.jit_compile)
        for folder, arrays in splits.items():
            save_arrays(folder, _evaluate(evaluator, arrays, evaluate))


def _evaluate(evaluator: Evaluator, arrays: dict[str, NDArray[Any]], evaluate: Evaluate) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {"index": arrays["index"], "label": arrays["labels"]}
    images = {"gray": arrays["images"], "binarised": arrays["binarised"].astype(np.float32)}
    for name in TARGETS:
        posterior = evaluator.encode(images[name])
        reconstruction, kl = evaluator.terms(
            images[name], posterior, seed=evaluate.seed, samples=evaluate.latent_samples
        )
        found[f"{name}_reconstruction_nats"] = on_grid(reconstruction)
        found[f"{name}_kl_nats"] = on_grid(kl)
        found[f"{name}_information_per_latent_nats"] = information_per_latent(posterior)
        if name == "gray":
            found |= {"mean": posterior.mean, "log_var": posterior.log_var}
            found["gray_reconstruction"] = np.round(evaluator.decode(posterior.mean) * 255).astype(np.uint8)
        else:
            likelihood = evaluator.likelihood(
                images[name], posterior, seed=evaluate.seed, samples=evaluate.importance_samples
            )
            found["binarised_nll_nats"] = on_grid(likelihood.nll)
            found["binarised_nll_mc_nats"] = likelihood.monte_carlo_error
            found["binarised_nll_samples"] = np.array(likelihood.samples)
    return found
