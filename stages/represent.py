"""Classifies posterior means, to measure what the latents tell of the class, though training saw no labels."""

from threadpoolctl import threadpool_limits

from pipeline.files import load_arrays, write_metrics
from pipeline.params.classifiers import Represent
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.evaluation import Evaluator
from vae.representation import Labelled, accuracies

_BATCH = 1000


def run(
    model: Model,
    represent: Represent,
    threads: Threads,
    training_set: Input,
    validation_set: Input,
    test_set: Input,
    weights: Input,
    metrics: Output,
) -> None:
    """Writes the accuracies of both classifiers on the posterior means of gray images.

    Outputs:
        metrics: JSON, classifier -> what was chosen, and its accuracies with their errors over images.
    """
    splits = [load_arrays(path) for path in (training_set, validation_set, test_set)]
    vae = load_vae(model, threads, weights, splits[0]["images"].shape[1:])
    evaluator = Evaluator(vae, _BATCH)
    sets = [Labelled(evaluator.encode(arrays["images"]).mean, arrays["labels"]) for arrays in splits]
    represent.require_fitting("represent", len(splits[0]["labels"]))
    tried = len(represent.inverse_regularisation) + len(represent.neighbours)
    with progress("represent", tried, " classifiers") as shown, threadpool_limits(threads.intra_op):
        found = accuracies(*sets, **represent.model_dump(), advance=shown.advance)
    write_metrics(metrics, found)
