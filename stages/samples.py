"""Draws images from the model and says how far they are from the data."""

from dataclasses import asdict

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.files import load_arrays, write_metrics
from pipeline.params.model import Model
from pipeline.params.samples import Samples
from pipeline.params.threads import Threads
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.binarisation import seeded_draw
from vae.coverage import closeness, principal_components, project
from vae.evaluation import Evaluator

_BATCH = 500


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
    """Writes density and coverage of the model's samples and, for reference, of real images that are no part of them.

    Binary images throughout, as they are what the model draws: its samples, the published draws of validation and test
    images, and a draw of the training images. The space in which they are compared is fitted to other training images.

    Outputs:
        metrics: JSON, split -> `model`, samples of the model, or `reference`, training images for the validation
            split and validation images for the test split -> density and coverage with their errors.
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
        places = [project(space, images[: samples.images]) for images in (drawn, training, validation, test)]
        of_model, of_training, of_validation, of_test = places
        found = {
            split: {
                name: asdict(closeness(real, others, samples.neighbours))
                for name, others in (("model", of_model), ("reference", reference))
            }
            for split, real, reference in (
                ("validation", of_validation, of_training),
                ("test", of_test, of_validation),
            )
        }
    write_metrics(metrics, found)
