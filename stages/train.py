"""Trains the VAE; an interrupted run resumes at its last validation and ends with the same bytes.

Of several workers each runs this stage in a working copy of its own, and ends with the same weights.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.events import forget_events, join_events, write_events
from pipeline.files import atomic, load_arrays, significant, write_metrics
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.params.train import Train
from pipeline.processor import caches, instruction_set
from pipeline.progress import progress
from pipeline.stage import RUNS, Input, Output, Resumable
from pipeline.tf_config import join
from pipeline.weights import save_weights
from vae.model import build_vae, fix_threads
from vae.objective import bernoulli_entropy
from vae.training import COLUMNS, Recipe, Run, Trainer, fit
from vae.watching import reconstruction_row
from vae.workers import LOST, of_chief

#: Where TensorBoard finds each training in a folder of its own.
TENSORBOARD = RUNS / "tensorboard"

#: Validation images that are shown with their reconstructions while the model trains, and about how many epochs apart.
_SHOWN, _EPOCHS_APART = 10, 5


def run(
    model: Model,
    train: Train,
    threads: Threads,
    training_set: Input,
    validation_set: Input,
    weights: Output,
    history: Output,
    metrics: Output,
    processor: Output,
    state: Resumable,
) -> None:
    """Trains and writes the weights.

    Outputs:
        weights: Folder of encoder.weights.h5 and decoder.weights.h5.
        history: CSV of the columns of `vae.training`, a row for each validation; replaced whole at each of them.
        metrics: JSON of what training ended with.
        processor: JSON of the processor class that the bytes depend on.

    Raises:
        FloatingPointError: If a term of the loss is not finite, in training or on validation.
        StageError: If another process does the same work, TF_CONFIG names other workers than `train.workers`, or one
            of them is lost; or if a batch is larger than the training images.
    """
    fix_threads(**threads.model_dump())
    strategy = _join(train.workers)
    images = load_arrays(training_set)["images"]
    validation = load_arrays(validation_set)
    targets = validation["images" if train.targets == "gray" else "binarised"].astype(np.float32)
    if train.batch_size > len(images):
        raise StageError(
            f"train.batch_size = {train.batch_size}: it should be at most {len(images)}, the training images"
        )
    with state.held():
        trainer = build_trainer(model, train, images, strategy)
        with _lost_workers_named(train.workers):
            run = Run(trainer, of_chief(strategy, state.load()))
            if run.epochs:
                print(f"train: resumes after epoch {run.epochs}", flush=True)
                _save_history(run.history, history)
            per_epoch = trainer.steps_per_epoch * train.batch_size
            keeper = _Keeper(run, state, history, targets[:_SHOWN])
            with progress("train", train.epochs * per_epoch, " images", run.epochs * per_epoch) as shown:
                fit(run, targets, keeper.keep, shown.advance)
            keeper.end()
        save_weights(trainer.vae, weights)
        floors = {"train": _entropy(images), "validation": _entropy(validation["images"])}
        write_metrics(metrics, {**_summary(run), "entropy_floor_nats": floors})
        write_metrics(processor, {"instruction_set": instruction_set(), "caches": caches(), **threads.model_dump()})
        print(_last_words(run), flush=True)


class _Keeper:
    """Keeps a run at each validation: shows it, and then saves the state that it would go on from."""

    def __init__(self, run: Run, state: Resumable, history: Path, images: NDArray[np.float32]) -> None:
        self._run, self._state, self._history, self._images = run, state, history, images
        self._events = TENSORBOARD / state.path.stem
        with _only_watched():
            forget_events(self._events, run.epochs)
        self._epochs, self._since = run.epochs, time.monotonic()

    def keep(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Shows the epochs since the last validation, and saves the run's arrays."""
        trainer, now = self._run.trainer, time.monotonic()
        images = (self._run.epochs - self._epochs) * trainer.steps_per_epoch * trainer.recipe.batch_size
        numbers = dict(zip(COLUMNS[1:], self._run.history[-1][1:], strict=True))
        numbers |= {"learning_rate": trainer.learning_rate, "images_per_second": images / (now - self._since)}
        pictures = {"reconstructions": reconstruction_row(trainer.vae, self._images)} if self._to_show() else {}
        with _only_watched():
            write_events(self._events, self._run.epochs, numbers, pictures)
        self._state.save(arrays)
        _save_history(self._run.history, self._history)
        self._epochs, self._since = self._run.epochs, time.monotonic()

    def end(self) -> None:
        """Puts what TensorBoard shows together, once the run is at its end."""
        with _only_watched():
            join_events(self._events)

    def _to_show(self) -> bool:
        """Whether the run has just passed a multiple of `_EPOCHS_APART`, or is at its end."""
        epochs = self._run.epochs
        return epochs // _EPOCHS_APART > self._epochs // _EPOCHS_APART or epochs == self._run.trainer.recipe.epochs


@contextmanager
def _only_watched() -> Iterator[None]:
    """Ends no training for what is only looked at."""
    try:
        yield
    except OSError as error:
        print(f"train: TensorBoard will not show all: {error}", flush=True)


def _last_words(run: Run) -> str:
    """What was best, and where to look."""
    loss = next(row[4] for row in run.history if row[0] == run.best_epoch)
    return (
        f"train: the lowest validation loss was {loss:.2f} nats, after epoch {run.best_epoch}; kept are the weights of "
        f"epoch {run.kept_epoch}\n"
        f"train: to see it, `dvc plots show Loss`, or `tensorboard --logdir {TENSORBOARD}` where that is installed"
    )


def _join(workers: int) -> tf.distribute.Strategy:
    if workers > 1:
        print(f"train: waits until all {workers} workers of TF_CONFIG are there", flush=True)
    try:
        return join(workers)
    except ValueError as error:
        raise StageError(f"{error}: docs/scaling.md") from error


@contextmanager
def _lost_workers_named(workers: int) -> Iterator[None]:
    try:
        yield
    except LOST as error:
        if workers == 1:
            raise
        raise StageError(
            f"one of the {workers} workers is lost ({str(error).splitlines()[0]}), and the others end with it; start "
            f"all of them again, and they go on from the last epoch that the chief kept"
        ) from error


def build_trainer(
    model: Model, train: Train, images: NDArray[np.float32], strategy: tf.distribute.Strategy | None = None
) -> Trainer:
    """The trainer of the parameters, with fresh weights; `images` are (count, rows, columns) float32 in [0, 1]."""
    keras.utils.set_random_seed(train.seed)
    recipe = Recipe(
        binarised=train.targets == "binarised",
        jit_compile=model.jit_compile,
        **train.model_dump(exclude={"targets", "workers"}),
    )
    return Trainer(build_vae(**model.networks, image_shape=images.shape[1:]), images, recipe, strategy)


def _summary(run: Run) -> dict[str, Any]:
    """What training ended with; nothing that differs from run to run."""
    return {
        "epochs": run.epochs,
        "steps": run.epochs * run.trainer.steps_per_epoch,
        "best_epoch": run.best_epoch,
        "kept_epoch": run.kept_epoch,
        "validation_loss_nats": next(row[4] for row in run.history if row[0] == run.kept_epoch),
        "parameters": int(sum(array.size for array in run.kept)),
    }


def _entropy(images: NDArray[np.float32]) -> float:
    """Mean entropy of the images' pixels in nats per image, which no expected loss is below."""
    parts = np.array_split(images, max(1, len(images) // 10_000))
    return float(np.concatenate([bernoulli_entropy(part) for part in parts]).mean(dtype=np.float64))


def _save_history(history: list[list[float]], path: Path) -> None:
    rows = [[str(int(row[0])), *map(significant, row[1:])] for row in history]
    with atomic(path) as partial:
        partial.write_text("\n".join(",".join(row) for row in [COLUMNS, *rows]) + "\n", encoding="utf-8")
