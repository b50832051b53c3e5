"""Draws images from the model and says how far they are from the data."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.counts import fitting
from pipeline.errors import StageError
from pipeline.files import load_arrays, write_metrics
from pipeline.params.model import Model
from pipeline.params.samples import LEAST, MOST, Samples
from pipeline.params.threads import Threads
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.binarisation import seeded_draw
from vae.copies import copying
from vae.coverage import BLOCKS, closeness, principal_components, project
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
    images, and draws of images that have none, as training images have. The space in which they are compared is fitted
    to other training images.

    Outputs:
        metrics: JSON, `images`, of each set, and split -> `model`, samples of the model, or `reference`, training
            images for the validation split and validation images for the test split -> density and coverage with their
            errors, and `copying`: whether the first of them lie nearer to training images than those of the split do.
            Its reference for the validation split is the test images, as training images are copies of themselves.

    Raises:
        StageError: If there are too few images for the parameters.
    """
    sets = [load_arrays(path) for path in (training_set, validation_set, test_set)]
    shape = sets[0]["images"].shape[1:]
    count = _count(samples, [len(arrays["images"]) for arrays in sets], math.prod(shape))
    vae = load_vae(model, threads, weights, shape)
    generator = np.random.default_rng(samples.seed)
    noise = generator.standard_normal((count, model.latent_dim), np.float32)
    uniform = generator.random((count, *shape), np.float32)
    drawn = Evaluator(vae, _BATCH).draws(noise, uniform)
    training, validation, test = (
        arrays["binarised"] if "binarised" in arrays else seeded_draw(arrays["images"], samples.seed, stream)
        for stream, arrays in enumerate(sets, 1)
    )
    with threadpool_limits(threads.intra_op):
        space = principal_components(training[count:], samples.components)
        trained = project(space, training).astype(np.float32)
        places = [project(space, images[:count]) for images in (drawn, training, validation, test)]
        of_model, of_training, of_validation, of_test = places

        def closeness_to(real: Array, others: Array, unseen: Array) -> dict[str, Any]:
            """Closeness of `others` to the real images, and whether images that were not trained on copy these."""
            first, other = (part[:_COPIES].astype(np.float32) for part in (real, unseen))
            try:
                copied = copying(trained, first, other, max(1, len(first) // _IN_CELL), samples.seed)
            except ValueError as error:
                raise StageError(f"samples.images = {count}: {error}") from error
            return {**asdict(closeness(real, others, samples.neighbours)), "copying": asdict(copied)}

        found: dict[str, Any] = {
            "images": count,
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


def _count(samples: Samples, images: Sequence[int], pixels: int) -> int:
    """Images of each set, of which there are `images` for training, validation and test.

    Raises:
        StageError: If the data have fewer, or a parameter does not fit them.
    """
    training, *others = images
    greatest = min(training // 2, *others)  # other training images make the space
    count = fitting("samples.images", samples.images, greatest, MOST, least=LEAST)
    for name, most in (("components", min(pixels, training - count)), ("neighbours", count // BLOCKS - 1)):
        if getattr(samples, name) > most:
            raise StageError(
                f"samples.{name} = {getattr(samples, name)}: it should be at most {most} with {count} images"
            )
    return count
