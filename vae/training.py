"""Training, top down: the loop over epochs (`fit`), the epoch, and the step that it repeats (`Trainer`)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.datasets import training_blocks
from vae.evaluation import Evaluator
from vae.model import VAE
from vae.noise import latent_noise
from vae.objective import importance_weighted_bound, kl_weight, reparameterise, sampled_kl
from vae.workers import mean, share

#: Steps in one call of the compiled loop; after each call progress is shown and the average of the weights updated.
STEPS_PER_CALL = 50

#: Columns of a run's history, all but the first in nats per image.
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


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are those of `train` in `params.yaml`."""

    seed: int
    binarised: bool
    epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_warmup_epochs: float
    schedule: str  # "constant" or "cosine"
    weight_decay: float  # of kernels, decoupled, times the learning rate; 0 for none
    beta: float
    kl_warmup_epochs: float
    kl_warmup_start: float  # share of `beta` that the warm-up starts from
    importance_samples: int  # draws of q(z|x) per image in the last epochs
    importance_epochs: int  # last epochs, which maximise the importance-weighted bound
    ema_momentum: float  # of the average of the weights, per step; 0 for none
    validation_interval: int  # epochs from one validation to the next
    keep: Literal["last", "best"]  # the weights of the last epoch, or of that with the lowest validation loss
    jit_compile: bool


@dataclass(frozen=True)
class Losses:
    """Terms of the loss at consecutive steps, each (steps,) float32, nats per image, averaged over the batch."""

    reconstruction: NDArray[np.float32]
    kl: NDArray[np.float32]


class Run:
    """How far a training has come.

    Attributes:
        history: A row of `COLUMNS` for each validation. Training terms are averaged over the steps since the row
            before, and their loss is at the final beta. Validation terms are of the averaged weights where there is an
            average, and their loss is the negative ELBO (beta = 1).
        kept: The weights to keep, an array for each of the model's variables.
    """

    def __init__(self, trainer: "Trainer", saved: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Begins a training, or takes one up.

        Args:
            trainer: With fresh weights.
            saved: What `arrays` returned earlier; None begins anew.
        """
        self.trainer = trainer
        self.history: list[list[float]] = []
        self.kept = weights_of(trainer.vae)
        if saved is not None:
            self.history = saved["history"].tolist()
            self.kept = [saved[name] for name in sorted(saved) if name.startswith("kept_")]
            trainer.restore([saved[name] for name in sorted(saved) if name.startswith("state_")])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns everything that the rest of the training depends on, by name."""
        arrays = {"history": np.array(self.history)}
        arrays |= {f"state_{number:04d}": array for number, array in enumerate(self.trainer.state())}
        return arrays | {f"kept_{number:04d}": array for number, array in enumerate(self.kept)}

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return int(self.history[-1][0]) if self.history else 0

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss; of equal ones the first."""
        best: list[float] = min(self.history, key=lambda row: row[4])
        return int(best[0])

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.best_epoch if self.trainer.recipe.keep == "best" else self.epochs


def fit(
    run: Run,
    validation: NDArray[np.float32],
    save: Callable[[Mapping[str, NDArray[Any]]], None],
    advance: Callable[[int, str], None],
) -> None:
    """Trains the epochs that are left, and puts the weights to keep into the model.

    Args:
        run: The training, which goes on from where it is.
        validation: (count, rows, columns) float32, gray or binarised as the training targets are.
        save: Keeps the run's arrays, after each validation.
        advance: Told the images of each block of steps, and a note for the user.

    Raises:
        FloatingPointError: If a term of the loss is not finite, in training or on validation.
    """
    trainer, recipe = run.trainer, run.trainer.recipe
    evaluator = Evaluator(trainer.vae, _VALIDATION_BATCH)
    while run.epochs < recipe.epochs:
        ahead = range(run.epochs, min(run.epochs + recipe.validation_interval, recipe.epochs))
        validated = f", validation loss {run.history[-1][4]:.2f}" if run.history else ""
        blocks = []
        for epoch, losses in trainer.run_epochs(ahead):
            blocks.append(losses)
            advance(len(losses.kl) * recipe.batch_size, f"epoch {epoch + 1}/{recipe.epochs}{validated}")
        trainer.update_model()
        terms = _validation_terms(evaluator, validation, recipe.seed)
        _refuse_nonfinite(dict(zip(COLUMNS[4:], terms, strict=True)), f"at the end of epoch {ahead.stop}")
        run.history.append([ahead.stop, *_training_terms(blocks, recipe), *terms])
        if run.kept_epoch == ahead.stop:
            run.kept = weights_of(trainer.vae)
        save(run.arrays())
    for variable, array in zip(trainer.vae.variables, run.kept, strict=True):
        variable.assign(array)


def weights_of(vae: VAE) -> list[NDArray[np.float32]]:
    """Copies the weights of a model, an array for each variable."""
    return [variable.numpy().copy() for variable in vae.variables]


def _training_terms(blocks: Sequence[Losses], recipe: Recipe) -> tuple[float, float, float]:
    """Loss at the final beta, reconstruction loss and KL, each the mean over steps in nats per image."""
    reconstruction = float(np.concatenate([block.reconstruction for block in blocks]).mean(dtype=np.float64))
    kl = float(np.concatenate([block.kl for block in blocks]).mean(dtype=np.float64))
    return reconstruction + recipe.beta * kl, reconstruction, kl


def _validation_terms(evaluator: Evaluator, images: NDArray[np.float32], seed: int) -> tuple[float, float, float]:
    """Loss (-ELBO), reconstruction loss and KL in nats per image, by one draw of q(z|x) an image."""
    nats = evaluator.terms(images, evaluator.encode(images), seed=seed, samples=1)
    reconstruction, kl = (float(term.mean(dtype=np.float64)) for term in nats)
    return reconstruction + kl, reconstruction, kl


def _refuse_nonfinite(terms: Mapping[str, float], when: str) -> None:
    """Refuses terms of the loss, nats by name, unless all are finite; the error names the first that is not."""
    for name, nats in terms.items():
        if not math.isfinite(nats):
            raise FloatingPointError(
                f"the {name} became {nats} {when}: a lower learning rate or a longer KL warm-up may help"
            )


class Trainer:
    """Trains a VAE on images in memory; its whole state is the arrays of `state()`.

    Weights are trained as two vectors, one of all kernels and one of the rest: XLA compiles an update of two variables
    in much less time than one of sixty, and it takes no longer. The model's own variables change in `update_model`.
    """

    def __init__(
        self,
        vae: VAE,
        images: NDArray[np.float32],
        recipe: Recipe,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        """Prepares training.

        Args:
            vae: What is trained; its weights are where training starts.
            images: (count, rows, columns) float32 in [0, 1].
            recipe: How to train.
            strategy: Shares every batch among several workers; None trains in this process alone.

        Raises:
            ValueError: If a batch needs more images than there are, or cannot be shared equally; or if the decoder
                needs other targets.
        """
        if vae.autoregressive and not recipe.binarised:
            raise ValueError(
                "binarised = False: an autoregressive decoder predicts pixels from binary ones, so they should be drawn"
            )
        if recipe.batch_size > len(images):
            raise ValueError(
                f"batch_size = {recipe.batch_size}: it should be at most {len(images)}, the training images"
            )
        self.strategy = strategy or tf.distribute.get_strategy()
        self._workers = self.strategy.num_replicas_in_sync
        if recipe.batch_size % self._workers:
            raise ValueError(
                f"batch_size = {recipe.batch_size}: it should be a multiple of {self._workers}, the workers"
            )
        self.vae = vae
        self.recipe = recipe
        self.steps_per_epoch = len(images) // recipe.batch_size
        self._images = tf.constant(images)
        kernels = [weight for weight in vae.trainable_variables if len(weight.shape) > 1]
        others = [weight for weight in vae.trainable_variables if len(weight.shape) <= 1]
        self._groups = [group for group in (kernels, others) if group]
        starts = [np.concatenate([weight.numpy().ravel() for weight in group]) for group in self._groups]
        with self.strategy.scope():
            self._vectors = [keras.Variable(start) for start in starts]
            self._optimizer = self._build_optimizer()
        self._averages = [tf.Variable(vector.value) for vector in self._vectors] if recipe.ema_momentum else []
        self._take_steps = tf.function(self._steps, jit_compile=recipe.jit_compile)

    def _build_optimizer(self) -> keras.Optimizer:
        """Adam, with decoupled weight decay of the kernels (Loshchilov and Hutter 2019, AdamW) if there is any."""
        optimizer = keras.optimizers.Adam(self._learning_rate(), weight_decay=self.recipe.weight_decay or None)
        optimizer.exclude_from_weight_decay(
            var_list=[
                vector for vector, group in zip(self._vectors, self._groups, strict=True) if len(group[0].shape) <= 1
            ]
        )
        optimizer.build(self._vectors)
        return optimizer

    def _learning_rate(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """Rises linearly over the warm-up, then stays, or falls to zero by a cosine over the steps that are left.

        Source of the cosine: Loshchilov and Hutter 2017, equation 5, without restarts.
        """
        recipe = self.recipe
        warmup = round(recipe.learning_rate_warmup_epochs * self.steps_per_epoch)
        if recipe.schedule == "constant" and not warmup:
            return recipe.learning_rate
        return keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / (warmup + 1),
            decay_steps=max(recipe.epochs * self.steps_per_epoch - warmup, 1),
            alpha=1.0 if recipe.schedule == "constant" else 0.0,
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return float(self._optimizer.learning_rate)

    def state(self) -> list[NDArray[np.float32]]:
        """Vectors of weights, of their average if there is one, and the optimizer's variables, in a fixed order."""
        return [variable.numpy().copy() for variable in self._state_variables()]

    def restore(self, state: list[NDArray[np.float32]]) -> None:
        """Takes up training where `state()` was read."""
        for variable, array in zip(self._state_variables(), state, strict=True):
            variable.assign(array)

    def _state_variables(self) -> list[keras.Variable | tf.Variable]:
        return [*self._vectors, *self._averages, *self._optimizer.variables]

    def update_model(self) -> None:
        """Gives the model the average of its weights or, where there is none, the weights as they are.

        The average is an exponential moving one over steps (Polyak and Juditsky 1992), which at step t forgets at
        least as fast as (1 + t) / (10 + t), so that the first weights do not linger.
        """
        for weight, value in self._values(self._averages or self._vectors):
            weight.assign(value)

    def _values(self, vectors: Sequence[keras.Variable | tf.Tensor]) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Each trained weight of the model, and its value cut out of the vectors."""
        pairs = []
        for group, vector in zip(self._groups, vectors, strict=True):
            parts = tf.split(vector, [math.prod(weight.shape) for weight in group])
            pairs += [(weight, tf.reshape(part, weight.shape)) for weight, part in zip(group, parts, strict=True)]
        return pairs

    @tf.function
    def _update_average(self, step: tf.Tensor, count: tf.Tensor) -> None:
        """Brings the weights into the average after `count` more steps, which made it `step` steps in all."""
        done, taken = tf.cast(step, tf.float32), tf.cast(count, tf.float32)
        kept = tf.minimum(self.recipe.ema_momentum**taken, (taken + done) / (10.0 * taken + done))
        for vector, average in zip(self._vectors, self._averages, strict=True):
            average.assign_add((1.0 - kept) * (vector - average))

    def run_epochs(self, epochs: range) -> Iterator[tuple[int, Losses]]:
        """Trains these epochs; yields the epoch and the losses of the steps taken since the last yield.

        Raises:
            FloatingPointError: If a term of the loss is not finite, naming term, step and epoch.
        """
        recipe = self.recipe
        blocks = training_blocks(
            self._images,
            batch_size=recipe.batch_size,
            block=STEPS_PER_CALL,
            seed=recipe.seed,
            epochs=epochs,
            binarised=recipe.binarised,
        )
        for images, steps in blocks:
            count, epoch = len(steps), int(steps[0]) // self.steps_per_epoch
            samples = recipe.importance_samples if epoch >= recipe.epochs - recipe.importance_epochs else 1
            if count < STEPS_PER_CALL:  # filled up, so that the loop is compiled once only
                images = tf.pad(images, [[0, STEPS_PER_CALL - count], [0, 0], [0, 0], [0, 0]])
            reconstruction, kl = self._take_steps(images, steps[0], tf.constant(count), samples)
            losses = Losses(reconstruction.numpy()[:count], kl.numpy()[:count])
            within = 1 + steps.numpy() - epoch * self.steps_per_epoch
            for step, *terms in zip(within, losses.kl, losses.reconstruction, strict=True):
                named = dict(zip(("KL divergence", "reconstruction loss"), terms, strict=True))
                _refuse_nonfinite(named, f"at step {step} of epoch {epoch + 1}")
            if self._averages:
                self._update_average(steps[-1] + 1, tf.constant(count))
            yield epoch, losses

    def _steps(
        self, images: tf.Tensor, first: tf.Tensor, count: tf.Tensor, samples: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes `count` steps from step `first` on; the loss terms of each, two (STEPS_PER_CALL,) float32."""
        reconstructions = tf.TensorArray(tf.float32, STEPS_PER_CALL)
        kls = tf.TensorArray(tf.float32, STEPS_PER_CALL)
        number = tf.constant(0)
        while number < count:  # XLA would compile anew for every bound of a tf.range
            reconstruction, kl = self.step(images[number], first + tf.cast(number, tf.int64), samples)
            reconstructions = reconstructions.write(number, reconstruction)
            kls = kls.write(number, kl)
            number += 1
        return mean(self.strategy, reconstructions.stack()), mean(self.strategy, kls.stack())

    def step(self, images: tf.Tensor, step: tf.Tensor, samples: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
        """The training step: one update of the weights, by all workers together.

        Args:
            images: (batch, rows, columns) float32, seen by the encoder and reconstructed by the decoder; the same on
                every worker, which takes its share of them.
            step: () int64, from the start of training; with the seed it fixes the latent noise.
            samples: Draws of q(z|x) per image. With one, the evidence lower bound is maximised, with more the
                importance-weighted one.

        Returns:
            Reconstruction loss and KL before the update, () float32, nats per image, averaged over draws and this
            worker's images.
        """
        terms: tuple[tf.Tensor, tf.Tensor] = self.strategy.run(self._share_of_step, args=(images, step, samples))
        return terms

    def _share_of_step(self, images: tf.Tensor, step: tf.Tensor, samples: int) -> tuple[tf.Tensor, tf.Tensor]:
        """What one worker does in a step; the optimizer adds up the gradients of all."""
        recipe = self.recipe
        noise = latent_noise(samples * recipe.batch_size, self.vae.latent_dim, recipe.seed, step)
        if self._workers > 1:
            draws = tf.split(noise, samples)  # each of the whole batch
            noise, images = tf.concat([share(draw) for draw in draws], axis=0), share(images)
        vectors = [vector.value for vector in self._vectors]
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            with keras.StatelessScope(self._values(vectors)):
                mean, log_var = (tf.tile(moment, [samples, 1]) for moment in self.vae.encoder(images, training=True))
                latent = reparameterise(mean, log_var, noise)
                targets = tf.tile(images, [samples, 1, 1])
                reconstruction = self.vae.reconstruction_loss(latent, targets, training=True)
                if samples == 1:
                    kl = self.vae.kl(mean, log_var, latent)
                else:
                    kl = sampled_kl(log_var, noise, self.vae.log_prior(latent))
            weight = kl_weight(step, self.steps_per_epoch, recipe.beta, recipe.kl_warmup_epochs, recipe.kl_warmup_start)
            log_weights = tf.reshape(-(reconstruction + weight * kl), (samples, recipe.batch_size // self._workers))
            loss = -tf.reduce_mean(importance_weighted_bound(log_weights)) / self._workers
        self._optimizer.apply(tape.gradient(loss, vectors), self._vectors)
        return tf.reduce_mean(reconstruction), tf.reduce_mean(kl)
