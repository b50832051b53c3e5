"""Draws images from the model and says how far they are from the data."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.files import load_arrays, write_metrics
from pipeline.params.model import Model
from pipeline.params.samples import Samples
from pipeline.params.threads import Threads
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.binarisation import seeded_draw
from vae.copies import copying
from vae.coverage import closeness, principal_components, project
from vae.evaluation import Evaluator

Array = NDArray[np.floating]

_BATCH = 500

#: Images of either set that are held against all training images, at most, and those of a part of the space.
_COPIES, _IN_CELL = 2000, 200


def run(
    model: Model,
    samples: Samples,
    threads: Threads,
    training_set: Input,
    validation_set: Input,
    test_set: Input,
    weights: Input,
    metrics: Output,
) -> None:
    """Writes how close the model's samples are to real images, and whether they copy training images.

    For reference, the same of real images in place of the samples.

    Binary images throughout, as they are what the model draws: its samples, the published draws of validation and test
    images, and a draw of the training images. The space in which they are compared is fitted to other training images.

    Outputs:
        metrics: JSON, split -> `model`, samples of the model, or `reference`, training images for the validation
            split and validation images for the test split -> density and coverage with their errors, and
            `copying`: whether the first of them lie nearer to training images than those of the split do. Its
            reference for the validation split is the test images, as training images are copies of themselves.
    """
    vae = load_vae(model, threads, weights)
    generator = np.random.default_rng(samples.seed)
    noise = generator.standard_normal((samples.images, model.latent_dim), np.float32)
    uniform = generator.random((samples.images, 28, 28), np.float32)
    drawn = Evaluator(vae, _BATCH).draws(noise, uniform)
    training = seeded_draw(load_arrays(training_set)["images"], samples.seed)
    validation, test = (load_arrays(path)["binarised"] for path in (validation_set, test_set))
    with threadpool_limits(threads.intra_op):
        space = principal_components(training[samples.images :], samples.components)
        trained = project(space, training).astype(np.float32)
        places = [project(space, images[: samples.images]) for images in (drawn, training, validation, test)]
        of_model, of_training, of_validation, of_test = places

        def closeness_to(real: Array, others: Array, unseen: Array) -> dict[str, Any]:
            """Closeness of `others` to the real images, and whether images that were not trained on copy these."""
            first, other = (part[:_COPIES].astype(np.float32) for part in (real, unseen))
            copied = copying(trained, first, other, max(1, len(first) // _IN_CELL), samples.seed)
            return {**asdict(closeness(real, others, samples.neighbours)), "copying": asdict(copied)}

        found = {
            "validation": {
                "model": closeness_to(of_validation, of_model, of_model),
                "reference": closeness_to(of_validation, of_training, of_test),
            },
            "test": {
                "model": closeness_to(of_test, of_model, of_model),
                "reference": closeness_to(of_test, of_validation, of_validation),
            },
        }
    write_metrics(metrics, found)
