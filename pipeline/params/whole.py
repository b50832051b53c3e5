"""The whole of `params.yaml`."""

from pathlib import Path

from pipeline.params.classifiers import Baseline, Represent
from pipeline.params.data import Data
from pipeline.params.evaluate import Evaluate
from pipeline.params.explore import Explore
from pipeline.params.export import Export
from pipeline.params.figures import Figures
from pipeline.params.kernels import Kernels
from pipeline.params.model import Model
from pipeline.params.outliers import Outliers
from pipeline.params.preprocess import Preprocess
from pipeline.params.refine import Refine
from pipeline.params.samples import Samples
from pipeline.params.section import PARAMS_FILE, Whole, load_whole
from pipeline.params.threads import Threads
from pipeline.params.train import Train


class Params(Whole):
    """The whole of `params.yaml`."""

    data: Data
    preprocess: Preprocess
    model: Model
    train: Train
    evaluate: Evaluate
    refine: Refine
    baseline: Baseline
    represent: Represent
    outliers: Outliers
    samples: Samples
    figures: Figures
    explore: Explore
    export: Export
    kernels: Kernels
    threads: Threads


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The whole of `params.yaml`, checked.

    Raises:
        StageError: If a key is missing, unknown, of a wrong type or out of range; every one is named.
    """
    return load_whole(Params, path)
