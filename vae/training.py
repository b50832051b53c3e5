"""Training: one step, written once, and the epochs made of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.datasets import training_blocks
from vae.model import VAE
from vae.noise import latent_noise
from vae.objective import importance_weighted_bound, kl_weight, reparameterise, sampled_kl
from vae.workers import mean, share

#: Steps of a block, one call of the compiled loop: progress is seen, and the average of the weights taken, a block.
STEPS_PER_CALL = 50


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
    jit_compile: bool


@dataclass(frozen=True)
class Losses:
    """Terms of the loss at consecutive steps, each (steps,) float32, nats per image, averaged over the batch."""

    reconstruction: NDArray[np.float32]
    kl: NDArray[np.float32]


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
            images: (count, 28, 28) float32 in [0, 1].
            recipe: How to train.
            strategy: By which several workers train, each with a share of every batch; None for this process alone.

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
            recipe.learning_rate / (warmup + 1) if warmup else recipe.learning_rate,
            decay_steps=max(recipe.epochs * self.steps_per_epoch - warmup, 1),
            alpha=1.0 if recipe.schedule == "constant" else 0.0,
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )

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
        """Takes up the weights after `count` steps, the last of which made `step` in all."""
        done, taken = tf.cast(step, tf.float32), tf.cast(count, tf.float32)
        kept = tf.minimum(self.recipe.ema_momentum**taken, (taken + done) / (10.0 * taken + done))
        for vector, average in zip(self._vectors, self._averages, strict=True):
            average.assign_add((1.0 - kept) * (vector - average))

    def run_epoch(self, epoch: int) -> Iterator[Losses]:
        """Trains one epoch; yields the losses of the steps taken since the last yield.

        Raises:
            FloatingPointError: If a term of the loss is not finite, naming term, step and epoch.
        """
        recipe = self.recipe
        samples = recipe.importance_samples if epoch >= recipe.epochs - recipe.importance_epochs else 1
        blocks = training_blocks(
            self._images,
            batch_size=recipe.batch_size,
            block=STEPS_PER_CALL,
            seed=recipe.seed,
            epoch=epoch,
            binarised=recipe.binarised,
        )
        for images, steps in blocks:
            count = len(steps)
            if count < STEPS_PER_CALL:  # filled up, so that the loop is compiled once only
                images = tf.pad(images, [[0, STEPS_PER_CALL - count], [0, 0], [0, 0], [0, 0]])
            reconstruction, kl = self._take_steps(images, steps[0], tf.constant(count), samples)
            losses = Losses(reconstruction.numpy()[:count], kl.numpy()[:count])
            _refuse_nonfinite(losses, epoch, int(steps[0]) - epoch * self.steps_per_epoch)
            if self._averages:
                self._update_average(steps[-1] + 1, tf.constant(count))
            yield losses

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
            images: (batch, 28, 28) float32, seen by the encoder and reconstructed by the decoder; the same on every
                worker, which takes its share of them.
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
                    kl = self.vae.kl(mean, log_var, noise, latent)
                else:
                    kl = sampled_kl(log_var, noise, self.vae.log_prior(latent))
            weight = kl_weight(step, self.steps_per_epoch, recipe.beta, recipe.kl_warmup_epochs, recipe.kl_warmup_start)
            log_weights = tf.reshape(-(reconstruction + weight * kl), (samples, recipe.batch_size // self._workers))
            loss = -tf.reduce_mean(importance_weighted_bound(log_weights)) / self._workers
        self._optimizer.apply(tape.gradient(loss, vectors), self._vectors)
        return tf.reduce_mean(reconstruction), tf.reduce_mean(kl)


def _refuse_nonfinite(losses: Losses, epoch: int, first: int) -> None:
    """Refuses the earliest step with a term that is not finite; of two at one step the KL, which comes first."""
    terms = {"KL divergence": losses.kl, "reconstruction loss": losses.reconstruction}
    bad = {term: int(np.argmin(np.isfinite(values))) for term, values in terms.items() if not np.isfinite(values).all()}
    if bad:
        term = min(bad, key=bad.__getitem__)
        raise FloatingPointError(
            f"the {term} became {terms[term][bad[term]]} at step {first + bad[term] + 1} of epoch {epoch + 1}: "
            f"a lower learning rate or a longer KL warm-up may help"
        )
