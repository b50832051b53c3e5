"""Trains the VAE; an interrupted run resumes at its last validation and ends with the same bytes.

Of several workers each runs this stage in a working copy of its own, and ends with the same weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import atomic, load_arrays, significant, write_metrics
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.params.train import Train
from pipeline.processor import caches, instruction_set
from pipeline.progress import Progress, progress
from pipeline.stage import Input, Output, Resumable
from pipeline.state import State
from pipeline.weights import save_weights
from vae.evaluation import Evaluator
from vae.model import VAE, build_vae, fix_threads
from vae.objective import bernoulli_entropy
from vae.training import Losses, Recipe, Trainer
from vae.workers import LOST, join, of_chief

#: Columns of the history, all but the first in nats per image.
COLUMNS = (
    "epoch",
    "train_loss",
    "train_reconstruction",
    "train_kl",
    "validation_loss",
    "validation_reconstruction",
    "validation_kl",
)

_VALIDATION_BATCH = 500


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

    Args:
        model: The networks.
        train: The recipe.
        threads: TensorFlow's thread counts.
        training_set: Folder of the training images.
        validation_set: Folder of the validation images, gray and binarised.
        weights: Folder of encoder.weights.h5 and decoder.weights.h5.
        history: CSV, a row a validation: the terms of the loss in nats per image. Training terms are averaged
            over the steps since the row before, their loss is at the final beta whatever the warm-up; validation
            terms are at the end of the epoch, of the average of the weights where there is one, their loss is
            -ELBO (beta = 1).
        metrics: JSON of what training ended with.
        processor: JSON of the processor class that the bytes depend on.
        state: Unfinished work.

    Raises:
        FloatingPointError: If a term of the loss is not finite, in training or on validation.
        StageError: If another process does the same work, TF_CONFIG names other workers than `train.workers`, or one
            of them is lost.
    """
    fix_threads(**threads.model_dump())
    strategy = _join(train.workers)
    images = load_arrays(training_set)["images"]
    validation = load_arrays(validation_set)
    binarised = train.targets == "binarised"
    targets = validation["binarised"].astype(np.float32) if binarised else validation["images"]
    with state.held():
        trainer = build_trainer(model, train, images, strategy)
        keep_best = train.keep == "best"
        with _lost_workers_named(train.workers):
            run_ = Run(trainer, targets, interval=train.validation_interval, keep_best=keep_best, state=state)
            run_.train()
        save_weights(trainer.vae, weights)
        _save_history(run_.history, history)
        floors = {"train": _entropy(images), "validation": _entropy(validation["images"])}
        write_metrics(metrics, {**run_.summary(), "entropy_floor_nats": floors})
        write_metrics(processor, {"instruction_set": instruction_set(), "caches": caches(), **threads.model_dump()})


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
    """The trainer of the parameters, with fresh weights; `images` are (count, 28, 28) float32 in [0, 1]."""
    keras.utils.set_random_seed(train.seed)
    recipe = Recipe(
        binarised=train.targets == "binarised",
        jit_compile=model.jit_compile,
        **train.model_dump(exclude={"targets", "keep", "validation_interval", "workers"}),
    )
    return Trainer(build_vae(**model.networks), images, recipe, strategy)


class Run:
    """A training run: epochs, their history, and the weights to keep."""

    def __init__(
        self, trainer: Trainer, validation: NDArray[np.float32], *, interval: int, keep_best: bool, state: State
    ) -> None:
        self.history: list[list[float]] = []
        self._trainer = trainer
        self._validation = validation
        self._evaluator = Evaluator(trainer.vae, _VALIDATION_BATCH)
        self._interval = interval
        self._keep_best = keep_best
        self._state = state
        self._kept = _weights(trainer.vae)
        self._resume()

    def train(self) -> None:
        """Trains the epochs that are left, and puts the weights to keep into the model."""
        recipe, done = self._trainer.recipe, self._epochs_done()
        images = self._trainer.steps_per_epoch * recipe.batch_size
        with progress("train", recipe.epochs * images, " images", done * images) as shown:
            while done < recipe.epochs:
                ahead = range(done, min(done + self._interval, recipe.epochs))
                self._epochs(ahead, shown)
                done = ahead.stop
        for variable, array in zip(self._trainer.vae.variables, self._kept, strict=True):
            variable.assign(array)

    def _epochs_done(self) -> int:
        return int(self.history[-1][0]) if self.history else 0

    def _epochs(self, epochs: range, shown: Progress) -> None:
        """Trains `epochs`, validates, and keeps the state."""
        recipe = self._trainer.recipe
        parts = []
        for epoch in epochs:
            note = f"epoch {epoch + 1}/{recipe.epochs}"
            if self.history:
                note += f", validation loss {self.history[-1][4]:.2f}"
            for losses in self._trainer.run_epoch(epoch):
                parts.append(losses)
                shown.advance(len(losses.kl) * recipe.batch_size, note)
        self._trainer.update_model()
        validation = self._validation_terms()
        _refuse_nonfinite(validation, epochs.stop)
        self.history.append([epochs.stop, *_training_terms(parts, recipe), *validation])
        if not self._keep_best or self._best_epoch() == epochs.stop:
            self._kept = _weights(self._trainer.vae)
        self._save()

    def _validation_terms(self) -> tuple[float, float, float]:
        """Loss (-ELBO), reconstruction loss and KL on the validation images, one draw of q(z|x) an image."""
        posterior = self._evaluator.encode(self._validation)
        terms = self._evaluator.terms(self._validation, posterior, seed=self._trainer.recipe.seed, samples=1)
        reconstruction, kl = (float(nats.mean(dtype=np.float64)) for nats in terms)
        return reconstruction + kl, reconstruction, kl

    def _best_epoch(self) -> int:
        best: list[float] = min(self.history, key=lambda row: row[4])
        return int(best[0])

    def summary(self) -> dict[str, Any]:
        """What training ended with; deterministic figures only."""
        best, epochs = self._best_epoch(), self._epochs_done()
        kept = best if self._keep_best else epochs
        return {
            "epochs": epochs,
            "steps": epochs * self._trainer.steps_per_epoch,
            "best_epoch": best,
            "kept_epoch": kept,
            "validation_loss_nats": next(row[4] for row in self.history if row[0] == kept),
            "parameters": int(sum(array.size for array in self._kept)),
        }

    def _save(self) -> None:
        arrays = {"history": np.array(self.history)}
        arrays |= {f"state_{number:04d}": array for number, array in enumerate(self._trainer.state())}
        arrays |= {f"kept_{number:04d}": array for number, array in enumerate(self._kept)}
        self._state.save(arrays)

    def _resume(self) -> None:
        arrays = of_chief(self._trainer.strategy, self._state.load())
        if arrays is None:
            return
        self.history = arrays["history"].tolist()
        self._trainer.restore([arrays[name] for name in sorted(arrays) if name.startswith("state_")])
        self._kept = [arrays[name] for name in sorted(arrays) if name.startswith("kept_")]
        print(f"train: resumes after epoch {self._epochs_done()}", flush=True)


def _refuse_nonfinite(validation: Sequence[float], epochs: int) -> None:
    """Refuses weights that the last update spoilt, before they replace the last good state."""
    for name, nats in zip(COLUMNS[4:], validation, strict=True):
        if not np.isfinite(nats):
            raise FloatingPointError(
                f"the {name} became {nats} at the end of epoch {epochs}: "
                f"a lower learning rate or a longer KL warm-up may help"
            )


def _weights(vae: VAE) -> list[NDArray[np.float32]]:
    return [variable.numpy().copy() for variable in vae.variables]


def _training_terms(parts: Sequence[Losses], recipe: Recipe) -> tuple[float, float, float]:
    reconstruction = float(np.concatenate([part.reconstruction for part in parts]).mean(dtype=np.float64))
    kl = float(np.concatenate([part.kl for part in parts]).mean(dtype=np.float64))
    return reconstruction + recipe.beta * kl, reconstruction, kl


def _entropy(images: NDArray[np.float32]) -> float:
    """Mean entropy of the images' pixels in nats per image, which no expected loss is below."""
    parts = np.array_split(images, max(1, len(images) // 10_000))
    return float(np.concatenate([bernoulli_entropy(part) for part in parts]).mean(dtype=np.float64))


def _save_history(history: list[list[float]], path: Path) -> None:
    rows = [[str(int(row[0])), *map(significant, row[1:])] for row in history]
    with atomic(path) as partial:
        partial.write_text("\n".join(",".join(row) for row in [COLUMNS, *rows]) + "\n", encoding="utf-8")
