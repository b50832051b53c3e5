"""Training: one step, written once, and the epochs made of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.datasets import training_batches
from vae.model import VAE
from vae.noise import latent_noise
from vae.objective import bernoulli_nll, gaussian_kl, kl_weight, reparameterise

#: Steps that one call of the compiled loop takes; changes nothing but speed and how often progress is seen.
STEPS_PER_CALL = 50


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are those of `train` in `params.yaml`."""

    seed: int
    binarised: bool
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str  # "constant" or "cosine"
    beta: float
    kl_warmup_epochs: float


@dataclass(frozen=True)
class Losses:
    """Terms of the loss at consecutive steps, each (steps,) float32, nats per image, averaged over the batch."""

    reconstruction: NDArray[np.float32]
    kl: NDArray[np.float32]


class Trainer:
    """Trains a VAE on images in memory; its whole state is the arrays of `state()`."""

    def __init__(self, vae: VAE, images: NDArray[np.float32], recipe: Recipe) -> None:
        """Prepares training.

        Args:
            vae: Trained in place.
            images: (count, 28, 28) float32 in [0, 1].
            recipe: How to train.

        Raises:
            ValueError: If a batch needs more images than there are.
        """
        if recipe.batch_size > len(images):
            raise ValueError(
                f"batch_size = {recipe.batch_size}: it should be at most {len(images)}, the training images"
            )
        self.vae = vae
        self.recipe = recipe
        self.steps_per_epoch = len(images) // recipe.batch_size
        self._images = tf.constant(images)
        self._optimizer = keras.optimizers.Adam(self._learning_rate())
        self._optimizer.build(vae.trainable_variables)

    def _learning_rate(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
        if self.recipe.schedule == "constant":
            return self.recipe.learning_rate
        steps = self.recipe.epochs * self.steps_per_epoch
        return keras.optimizers.schedules.CosineDecay(self.recipe.learning_rate, steps)

    def state(self) -> list[NDArray[np.float32]]:
        """Weights, then the optimizer's variables, as arrays in a fixed order."""
        return [variable.numpy().copy() for variable in self._state_variables()]

    def restore(self, state: list[NDArray[np.float32]]) -> None:
        """Takes up training where `state()` was read."""
        for variable, array in zip(self._state_variables(), state, strict=True):
            variable.assign(array)

    def _state_variables(self) -> list[keras.Variable]:
        return [*self.vae.variables, *self._optimizer.variables]

    def run_epoch(self, epoch: int) -> Iterator[Losses]:
        """Trains one epoch; yields the losses of the steps taken since the last yield.

        Raises:
            FloatingPointError: If a term of the loss is not finite, naming term, step and epoch.
        """
        recipe = self.recipe
        batches = iter(
            training_batches(
                self._images,
                batch_size=recipe.batch_size,
                seed=recipe.seed,
                epoch=epoch,
                binarised=recipe.binarised,
            )
        )
        for first in range(0, self.steps_per_epoch, STEPS_PER_CALL):
            count = min(STEPS_PER_CALL, self.steps_per_epoch - first)
            reconstruction, kl = self._steps(batches, tf.constant(count))
            losses = Losses(reconstruction.numpy(), kl.numpy())
            _refuse_nonfinite(losses, epoch, first)
            yield losses

    @tf.function
    def _steps(self, batches: Iterator[tuple[tf.Tensor, tf.Tensor]], count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes `count` steps; the loss terms of each, two (count,) float32."""
        reconstructions = tf.TensorArray(tf.float32, count)
        kls = tf.TensorArray(tf.float32, count)
        for number in tf.range(count):
            images, step = next(batches)
            reconstruction, kl = self._step(images, step)
            reconstructions = reconstructions.write(number, reconstruction)
            kls = kls.write(number, kl)
        return reconstructions.stack(), kls.stack()

    def _step(self, images: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The training step: one update of the weights.

        Args:
            images: (batch, 28, 28) float32, seen by the encoder and reconstructed by the decoder.
            step: () int64, from the start of training; with the seed it fixes the latent noise.

        Returns:
            Reconstruction loss and KL before the update, () float32, nats per image, averaged over the batch.
        """
        recipe = self.recipe
        noise = latent_noise(recipe.batch_size, self.vae.latent_dim, recipe.seed, step)
        with tf.GradientTape() as tape:
            mean, log_var = self.vae.encoder(images, training=True)
            logits = self.vae.decoder(reparameterise(mean, log_var, noise), training=True)
            reconstruction = tf.reduce_sum(bernoulli_nll(logits, images)) / recipe.batch_size
            kl = tf.reduce_sum(gaussian_kl(mean, log_var)) / recipe.batch_size
            weight = kl_weight(step, self.steps_per_epoch, recipe.beta, recipe.kl_warmup_epochs)
            loss = reconstruction + weight * kl
        variables = self.vae.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return reconstruction, kl


def _refuse_nonfinite(losses: Losses, epoch: int, first: int) -> None:
    for term, values in (("reconstruction loss", losses.reconstruction), ("KL divergence", losses.kl)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise FloatingPointError(
                f"the {term} became {values[bad[0]]} at step {first + bad[0] + 1} of epoch {epoch + 1}: "
                f"a lower learning rate or a longer KL warm-up may help"
            )
