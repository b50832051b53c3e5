"""Evaluates the model on validation and test images, image by image; interrupted, it goes on where it was."""

from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import load_arrays, save_arrays
from pipeline.params.evaluate import Evaluate
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output, Resumable
from pipeline.state import State
from pipeline.weights import load_vae
from vae.calibration import reliability
from vae.evaluation import Evaluator, Posterior, kl_per_latent
from vae.latent_space import variance_of_means
from vae.statistics import mean_and_error, on_grid, over_draws

Arrays = dict[str, NDArray[Any]]


def run(
    model: Model,
    evaluate: Evaluate,
    threads: Threads,
    validation_set: Input,
    test_set: Input,
    weights: Input,
    validation: Output,
    test: Output,
    state: Resumable,
) -> None:
    """Writes what evaluation found, for each split a folder of arrays whose rows are images.

    The encoder sees the targets: the gray image for gray targets, the binary one for binary targets. Only binary
    targets have a likelihood, and pixels whose probability can be held against a frequency; without binary images there
    is none of what is named `binarised` or `calibration`.

    Outputs:
        validation: Folder of arrays: index (count,) int64 and label (count,) uint8; class_names (classes,) text and
            image_shape (2,) int64; for gray and for binarised
            targets, `_reconstruction_nats` and `_kl_nats` (count,) float32, their errors over draws and that of the
            ELBO `_LOSS_mc_nats`, and of each latent the variance of the posterior means and the KL,
            `_latent_variance` and `_latent_kl_nats` (latent,) with their errors over images (`_se`); the gray
            posterior's mean and log_var (count, latent) float32; binarised_nll_nats and its error over draws
            binarised_nll_mc_nats (count,) float32, with the number of draws binarised_nll_samples () int64; and the
            reliability of predicted pixels, calibration_pixels, _predicted, _observed and _gap_se (bins,).
        test: The same for the test images.

    Raises:
        StageError: If another process does the same work.
    """
    folders = {"validation": validation, "test": test}
    splits = {"validation": load_arrays(validation_set), "test": load_arrays(test_set)}
    binary = "binarised" in splits["test"]
    vae = load_vae(model, threads, weights, splits["test"]["images"].shape[1:])
    with state.held():
        unfinished = state.load() or {}
        done = sum(len(unfinished[name]) for name in unfinished if name.endswith("_nll")) * evaluate.importance_samples
        work = sum(len(arrays["images"]) for arrays in splits.values())
        work *= (1 + binary) * evaluate.latent_samples + binary * evaluate.importance_samples
        with progress("evaluate", work, " draws", done) as shown:
            evaluator = Evaluator(
                vae, evaluate.batch_size, shown.advance, jit_compile=model.jit_compile, workers=threads.intra_op
            )
            found = {
                name: _evaluate(evaluator, arrays, evaluate, name, unfinished, state) for name, arrays in splits.items()
            }
        for name, arrays in found.items():
            save_arrays(folders[name], arrays)


def _evaluate(
    evaluator: Evaluator, arrays: Arrays, evaluate: Evaluate, split: str, unfinished: Arrays, state: State
) -> Arrays:
    found: Arrays = {"index": arrays["index"], "label": arrays["labels"], "class_names": arrays["class_names"]}
    gray = arrays["images"]
    found["image_shape"] = np.array(gray.shape[1:])
    posterior = evaluator.encode(gray)
    found |= _terms(evaluator, gray, posterior, evaluate, "gray")
    found |= {"mean": posterior.mean, "log_var": posterior.log_var}
    if "binarised" not in arrays:
        return found

    binarised = arrays["binarised"].astype(np.float32)
    posterior = evaluator.encode(binarised)
    found |= _terms(evaluator, binarised, posterior, evaluate, "binarised")
    calibration = reliability(evaluator.predictions(binarised, posterior, seed=evaluate.seed), binarised)
    found |= {f"calibration_{name}": array for name, array in vars(calibration).items()}
    nll, error, samples = (f"{split}_{name}" for name in ("nll", "error", "samples"))
    none = np.empty(0, np.float32)
    parts = evaluator.likelihoods(
        binarised,
        posterior,
        seed=evaluate.seed,
        samples=evaluate.importance_samples,
        done=len(unfinished.get(nll, none)),
    )
    with closing(parts):  # an error here ends the draws that are still waiting
        for part in parts:
            unfinished[nll] = np.concatenate([unfinished.get(nll, none), part.nll])
            unfinished[error] = np.concatenate([unfinished.get(error, none), part.monte_carlo_error])
            unfinished[samples] = np.array(part.samples)
            state.save(unfinished)
    found["binarised_nll_nats"] = on_grid(unfinished[nll])
    found["binarised_nll_mc_nats"] = unfinished[error]
    found["binarised_nll_samples"] = unfinished[samples]
    return found


def _terms(
    evaluator: Evaluator, images: NDArray[np.float32], posterior: Posterior, evaluate: Evaluate, targets: str
) -> Arrays:
    """The terms of the bound with their errors over draws, and what each latent holds."""
    reconstruction, kl = evaluator.terms(images, posterior, seed=evaluate.seed, samples=evaluate.latent_samples)
    (reconstruction_mean, reconstruction_error), (kl_mean, kl_error) = over_draws(reconstruction), over_draws(kl)
    _, elbo_error = over_draws(reconstruction + kl)
    found: Arrays = {
        "reconstruction_nats": on_grid(reconstruction_mean),
        "reconstruction_mc_nats": reconstruction_error,
        "kl_nats": on_grid(kl_mean),
        "kl_mc_nats": kl_error,
        "elbo_mc_nats": elbo_error,
    }
    found["latent_variance"], found["latent_variance_se"] = variance_of_means(posterior.mean)
    latents = [mean_and_error(latent) for latent in kl_per_latent(posterior).T]
    found["latent_kl_nats"], found["latent_kl_nats_se"] = (np.array(column) for column in zip(*latents, strict=True))
    return {f"{targets}_{name}": array for name, array in found.items()}
