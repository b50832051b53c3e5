"""A variational autoencoder as two Keras models; the objective stands outside both."""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from vae import architectures


@dataclass(frozen=True)
class VAE:
    """Encoder of q(z|x) and decoder of p(x|z)."""

    encoder: keras.Model  # (batch, 28, 28) image -> mean, log_var, each (batch, latent)
    decoder: keras.Model  # (batch, latent) -> (batch, 28, 28) logits

    @property
    def latent_dim(self) -> int:
        """Latents of an image."""
        return int(self.decoder.input_shape[-1])

    @property
    def variables(self) -> list[keras.Variable]:
        """Weights in a fixed order, encoder first."""
        return [*self.encoder.weights, *self.decoder.weights]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Weights that training changes, encoder first."""
        return [*self.encoder.trainable_variables, *self.decoder.trainable_variables]


def architecture_names() -> list[str]:
    """What `model.architecture` may be: the modules of `vae/architectures`, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(architectures.__path__))


def build_vae(architecture: str, latent_dim: int, widths: Sequence[int]) -> VAE:
    """A VAE with fresh weights, drawn from Keras' global seed.

    Raises:
        ValueError: If the architecture cannot have these widths.
    """
    module = importlib.import_module(f"vae.architectures.{architecture}")
    encoder, decoder = module.build(latent_dim, widths)
    return VAE(encoder, decoder)


def fix_threads(intra_op: int, inter_op: int) -> None:
    """Fixes TensorFlow's thread counts and makes its operations deterministic; before its first operation.

    Equal bytes need an equal count of intra-op threads: sums are split over them.
    """
    tf.config.threading.set_intra_op_parallelism_threads(intra_op)
    tf.config.threading.set_inter_op_parallelism_threads(inter_op)
    tf.config.experimental.enable_op_determinism()
