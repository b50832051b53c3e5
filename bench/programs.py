"""What is timed. `python -m bench.programs NAME [ARGUMENT]` runs one, alone in its process, and prints its figures.

A rate is taken after the first calls, which compile. Every program has the threads of `params.yaml`.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bench.operations import operations
from pipeline.files import load_arrays
from pipeline.params.whole import Params, load_params
from pipeline.weights import load_weights
from stages.train import build_trainer
from vae.evaluation import Evaluator, Posterior
from vae.model import VAE, build_vae, fix_threads
from vae.objective import bernoulli_nll, gaussian_kl, reparameterise
from vae.training import STEPS_PER_CALL
from workflow.history.presets import resolved

#: Seconds over which a rate is taken.
SECONDS = 10.0

#: Blocks of steps from one validation to the next on the way to the textbook's loss.
BLOCKS = 4

#: Sides of the square matrices whose products give the peak.
SIDES = (2048, 3072, 4096)

#: Images of the call that compiles the draws of the likelihood, and of the shapes that operations are counted for.
BATCH = 100

PREPARED = Path("data/prepared")

Figures = dict[str, float]


class KerasTextbook(keras.Model):
    """The textbook model as people write it for `fit`."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.encoder, self.decoder = vae.encoder, vae.decoder
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Logits of the reconstructions; the KL is added to the loss."""
        mean, log_var = self.encoder(images)
        self.add_loss(tf.reduce_mean(tf.reduce_sum(gaussian_kl(mean, log_var), axis=1)))
        noise = keras.random.normal(tf.shape(mean), seed=self.seeds)
        return self.decoder(reparameterise(mean, log_var, noise))


def keras_rate(steps_per_execution: int) -> Figures:
    """Images per second of the textbook model in plain Keras `fit`, fed from arrays, from its second epoch on."""
    model, params = _keras_textbook(steps_per_execution)
    images = _training_images()[: 100 * params.train.batch_size]
    ends: list[float] = []

    def read_clock(*_: object) -> None:
        ends.append(time.perf_counter())
        model.stop_training = ends[-1] - ends[0] > SECONDS

    clock = keras.callbacks.LambdaCallback(on_epoch_end=read_clock)
    model.fit(images, images, batch_size=params.train.batch_size, epochs=1000, verbose=0, callbacks=[clock])
    return {"images_per_second": (len(ends) - 1) * len(images) / (ends[-1] - ends[0])}


def keras_whole(steps_per_execution: str) -> Figures:
    """Seconds of the textbook model's whole training in plain Keras `fit`, without validation."""
    model, params = _keras_textbook(int(steps_per_execution))
    images = _training_images()
    began = time.perf_counter()
    model.fit(images, images, batch_size=params.train.batch_size, epochs=params.train.epochs, verbose=0)
    return {"seconds": time.perf_counter() - began}


def _keras_textbook(steps_per_execution: int) -> tuple[KerasTextbook, Params]:
    params = resolved("textbook")
    model = KerasTextbook(_built(params))
    model.compile(
        keras.optimizers.Adam(params.train.learning_rate),
        loss=lambda targets, logits: bernoulli_nll(logits, targets),
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    return model, params


def default() -> Figures:
    """Images per second of the default's training, and operations of an image's share of a step."""
    params = load_params()
    trainer = build_trainer(params.model, params.train, _training_images())
    recipe = trainer.recipe
    blocks = trainer.run_epochs(range(recipe.epochs))
    next(blocks)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        _, losses = next(blocks)
        images += len(losses.kl) * recipe.batch_size
    elapsed = time.perf_counter() - began
    batch = tf.TensorSpec((recipe.batch_size, 28, 28), tf.float32)
    per_step = operations(trainer.step, batch, tf.TensorSpec((), tf.int64))
    return {"images_per_second": images / elapsed, "operations_per_image": per_step / recipe.batch_size}


def matmul_peak() -> Figures:
    """Operations per second of the best of several square float32 products."""
    return {"operations_per_second": max(_product_rate(side) for side in SIDES)}


def _product_rate(side: int) -> float:
    left, right = (tf.random.stateless_normal((side, side), (seed, 0)) for seed in (1, 2))
    product = tf.function(tf.matmul)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        product(left, right).numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)


def seconds_to(gray_validation_loss: str) -> Figures:
    """Seconds from the default's first step until its gray validation loss is at or below the one given.

    Compilation and validations count. The loss is that of the averaged weights, of one draw an image, on all
    validation images, after every few blocks of steps.
    """
    params, goal = load_params(), float(gray_validation_loss)
    images, validation = _training_images(), load_arrays(PREPARED / "validation")["images"]
    trainer = build_trainer(params.model, params.train, images)
    evaluator = Evaluator(trainer.vae, params.evaluate.batch_size)
    began = time.perf_counter()
    for number, _ in enumerate(trainer.run_epochs(range(params.train.epochs)), 1):
        if number % BLOCKS:
            continue
        trainer.update_model()
        terms = evaluator.terms(validation, evaluator.encode(validation), seed=params.train.seed, samples=1)
        loss = float(np.add(*terms).mean(dtype=np.float64))
        if loss <= goal:
            seconds = time.perf_counter() - began
            return {"seconds": seconds, "steps": number * STEPS_PER_CALL, "gray_validation_loss": loss}
    raise SystemExit(f"the default's gray validation loss ended at {loss:.2f}, expected {goal:.2f} or less")


def validation_nll(weights: str) -> Figures:
    """NLL of the binarised validation images by the weights of the folder given, of the model of `params.yaml`."""
    params, vae, evaluator, images = _scored()
    load_weights(vae, Path(weights))
    samples = params.evaluate.importance_samples
    found = evaluator.likelihood(images, evaluator.encode(images), seed=params.evaluate.seed, samples=samples)
    return {"nll_nats": float(found.nll.mean(dtype=np.float64)), "nll_samples": found.samples}


def likelihood() -> Figures:
    """Draws of the default's likelihood per second, and operations of a draw: all, and the decoder's."""
    params, vae, evaluator, images = _scored()
    posterior, seed, samples = evaluator.encode(images), params.evaluate.seed, 100
    first = Posterior(posterior.mean[:BATCH], posterior.log_var[:BATCH])
    evaluator.likelihood(images[:BATCH], first, seed=seed, samples=samples)
    began = time.perf_counter()
    evaluator.likelihood(images, posterior, seed=seed, samples=samples)
    elapsed = time.perf_counter() - began
    latents, pixels = tf.TensorSpec((BATCH, vae.latent_dim), tf.float32), tf.TensorSpec((BATCH, 28, 28), tf.float32)
    decoder = operations(vae.logits, latents, pixels) / BATCH
    prior = operations(vae.log_prior, latents) / BATCH
    return {
        "draws_per_second": len(images) * samples / elapsed,
        "operations_per_draw": decoder + prior,
        "decoder_operations": decoder,
    }


def _built(params: Params) -> VAE:
    return build_vae(**params.model.networks, image_shape=params.data.image_shape)


def _training_images() -> NDArray[np.float32]:
    return load_arrays(PREPARED / "train")["images"]


def _scored() -> tuple[Params, VAE, Evaluator, NDArray[np.float32]]:
    """What `evaluate` works with: parameters, their model before training, and the binarised validation images."""
    params = load_params()
    vae = _built(params)
    evaluator = Evaluator(
        vae, params.evaluate.batch_size, jit_compile=params.model.jit_compile, workers=params.threads.intra_op
    )
    return params, vae, evaluator, load_arrays(PREPARED / "validation")["binarised"].astype(np.float32)


PROGRAMS: dict[str, Callable[..., Figures]] = {
    "keras_1": lambda: keras_rate(1),
    "keras_50": lambda: keras_rate(50),
    "keras_whole": keras_whole,
    "default": default,
    "likelihood": likelihood,
    "matmul_peak": matmul_peak,
    "seconds_to": seconds_to,
    "validation_nll": validation_nll,
}


def main() -> None:
    """Prints the figures of the program named, as the last line."""
    name, *arguments = sys.argv[1:]
    threads = load_params().threads
    fix_threads(threads.intra_op, threads.inter_op, op_determinism=False)
    print(json.dumps(PROGRAMS[name](*arguments)))


if __name__ == "__main__":
    main()
