"""Refines q(z|x) image by image: what is gained is what the encoder loses against the best Gaussian."""

from collections.abc import Callable

import keras
import tensorflow as tf

from vae.evaluation import Array, Posterior
from vae.model import VAE
from vae.noise import latent_noise
from vae.objective import reparameterise

#: Steps of one call of the compiled loop.
_STEPS_PER_CALL = 25


def refine(
    vae: VAE,
    images: Array,
    posterior: Posterior,
    *,
    seed: int,
    steps: int,
    learning_rate: float,
    samples: int,
    advance: Callable[[int], None],
    jit_compile: bool = False,
) -> Posterior:
    """The diagonal Gaussian of each image that has the highest ELBO, found by Adam from the encoder's own.

    Cremer, Li and Duvenaud 2018, section 3.2: the ELBO it gains is the amortisation gap, what is then left to
    log p(x) the approximation gap. The learning rate falls to zero by a cosine.

    Args:
        vae: The model; its weights stay.
        images: (count, rows, columns) float32, binary; all are in memory at once, and so are their logits.
        posterior: q(z|x) of the images by the encoder.
        seed: Of the latent noise.
        steps: Updates.
        learning_rate: Of the first update.
        samples: Draws of q(z|x) per image and update.
        advance: Called with the number of updates done, for progress.
        jit_compile: Whether XLA compiles the updates.
    """
    targets = tf.tile(tf.constant(images), [samples, 1, 1])
    moments = [keras.Variable(posterior.mean), keras.Variable(posterior.log_var)]
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))
    optimizer.build(moments)

    @tf.function(jit_compile=jit_compile)
    def update(first: tf.Tensor, count: tf.Tensor) -> None:
        step = first
        while step < first + count:
            noise = latent_noise(samples * len(images), vae.latent_dim, seed, step)
            values = [moment.value for moment in moments]
            with tf.GradientTape() as tape:
                tape.watch(values)
                mean, log_var = (tf.tile(value, [samples, 1]) for value in values)
                latent = reparameterise(mean, log_var, noise)
                loss = vae.reconstruction_loss(latent, targets) + vae.kl(mean, log_var, latent)
                total = tf.reduce_sum(loss) / samples  # of all images, as no image touches another's moments
            optimizer.apply(tape.gradient(total, values), moments)
            step += 1

    for first in range(0, steps, _STEPS_PER_CALL):
        count = min(_STEPS_PER_CALL, steps - first)
        update(tf.constant(first, tf.int64), tf.constant(count, tf.int64))
        advance(count)
    mean, log_var = (moment.numpy() for moment in moments)
    return Posterior(mean, log_var)
