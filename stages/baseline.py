"""Classifies raw pixels, beside which the classifiers on posterior means are read."""

from threadpoolctl import threadpool_limits

from pipeline.files import load_arrays, write_metrics
from pipeline.params.classifiers import Baseline
from pipeline.params.threads import Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output
from vae.representation import Labelled, accuracies


def run(
    baseline: Baseline,
    threads: Threads,
    training_set: Input,
    validation_set: Input,
    test_set: Input,
    metrics: Output,
) -> None:
    """Writes the accuracies of both classifiers on gray pixels.

    Outputs:
        metrics: JSON, classifier -> what was chosen, and its accuracies with their errors over images.
    """
    sets = [
        Labelled(arrays["images"].reshape(len(arrays["images"]), -1), arrays["labels"])
        for arrays in map(load_arrays, (training_set, validation_set, test_set))
    ]
    baseline.require_fitting("baseline", len(sets[0].labels))
    tried = len(baseline.inverse_regularisation) + len(baseline.neighbours)
    with progress("baseline", tried, " classifiers") as shown, threadpool_limits(threads.intra_op):
        found = accuracies(*sets, **baseline.model_dump(), advance=shown.advance)
    write_metrics(metrics, found)
