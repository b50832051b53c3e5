"""A variational autoencoder as Keras models; the objective stands outside all of them."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from vae.autoregression import autoregressive
from vae.objective import bernoulli_nll, gaussian_kl, path_kl, standard_normal_log_prob


@dataclass(frozen=True)
class Flow:
    """A learned prior p(z): latents are an invertible function of standard normal noise."""

    normalise: keras.Model  # (batch, latent) -> (batch, latent) noise, (batch,) log |det d noise / d latent|
    generate: keras.Model  # its inverse, of the same layers: (batch, latent) noise -> (batch, latent)


@dataclass(frozen=True)
class VAE:
    """Encoder of q(z|x), decoder of p(x|z), and prior p(z)."""

    encoder: keras.Model  # (batch, rows, columns) image -> mean, log_var, each (batch, latent)
    decoder: keras.Model  # (batch, latent) -> (batch, rows, columns) logits; autoregressive: takes the image, too
    prior: Flow | None = None  # None is the standard normal

    @property
    def latent_dim(self) -> int:
        """Latents of an image."""
        return int(self.decoder.inputs[0].shape[-1])

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        rows, columns = self.encoder.inputs[0].shape[1:]
        return rows, columns

    @property
    def autoregressive(self) -> bool:
        """Whether a pixel's probability depends on other pixels besides the latents."""
        return len(self.decoder.inputs) > 1

    @property
    def networks(self) -> list[keras.Model]:
        """Every network that has weights of its own: encoder, decoder, and the prior's if it is learned."""
        return [self.encoder, self.decoder, *([self.prior.normalise] if self.prior else [])]

    @property
    def variables(self) -> list[keras.Variable]:
        """Weights in a fixed order, encoder first."""
        return [weight for network in self.networks for weight in network.weights]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Weights that training changes, encoder first."""
        return [weight for network in self.networks for weight in network.trainable_variables]

    def logits(self, latent: tf.Tensor, images: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """Log-odds of each pixel given the latents and, by an autoregressive decoder, the earlier pixels.

        Args:
            latent: (batch, latent) float32.
            images: (batch, rows, columns) float32, binary, whose earlier pixels are given.
            training: Whether layers that have a training mode run in it.

        Returns:
            (batch, rows, columns) float32.
        """
        return self.decoder([latent, images] if self.autoregressive else latent, training=training)

    def reconstruction_loss(self, latent: tf.Tensor, targets: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """-log p(x|z) of Bernoulli pixels, (batch,) float32, nats per image.

        Args:
            latent: (batch, latent) float32.
            targets: (batch, rows, columns) float32, binary; or gray, for a decoder of independent pixels.
            training: Whether layers that have a training mode run in it.
        """
        return bernoulli_nll(self.logits(latent, targets, training=training), targets)

    def draw(self, latent: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """A binary image drawn from p(x|z), exactly, also by an autoregressive decoder.

        Each pass makes final the pixels whose earlier ones were, so it ends when nothing changes any more, whatever
        the order.

        Args:
            latent: (batch, latent) float32.
            uniform: (batch, rows, columns) float32, uniform on [0, 1): a pixel is 1 where it is below its probability.

        Returns:
            (batch, rows, columns) float32, 0 or 1.
        """
        image = tf.zeros_like(uniform)
        changed = tf.constant(True)
        while changed:
            drawn = tf.cast(uniform < tf.sigmoid(self.logits(latent, image)), tf.float32)
            changed = tf.reduce_any(drawn != image) & self.autoregressive
            image = drawn
        return image

    def log_prior(self, latent: tf.Tensor) -> tf.Tensor:
        """Log p(z) of latents (batch, latent) float32, by the change of variables; (batch,) float32, nats."""
        if self.prior is None:
            return standard_normal_log_prob(latent)
        noise, log_det = self.prior.normalise(latent)
        return standard_normal_log_prob(noise) + log_det

    def kl(self, mean: tf.Tensor, log_var: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        """KL(q(z|x) || p(z)): exact for the standard normal, else its unbiased estimate from one draw, by `path_kl`.

        Args:
            mean: (batch, latent) float32, mean of q(z|x).
            log_var: (batch, latent) float32, log of the variance.
            latent: (batch, latent) float32, the draw.

        Returns:
            (batch,) float32, nats per image.
        """
        if self.prior is None:
            return tf.reduce_sum(gaussian_kl(mean, log_var), axis=1)
        return path_kl(mean, log_var, latent, self.log_prior(latent))

    def from_noise(self, noise: tf.Tensor) -> tf.Tensor:
        """A draw of p(z) from standard normal noise, both (batch, latent) float32."""
        return noise if self.prior is None else self.prior.generate(noise)


def build_vae(
    architecture: str,
    latent_dim: int,
    widths: Sequence[int],
    image_shape: tuple[int, int],
    prior: str = "standard_normal",
    prior_widths: Sequence[int] = (),
    autoregressive_units: int = 0,
) -> VAE:
    """A VAE with fresh weights, drawn from Keras' global seed.

    Args:
        architecture: A module of `vae/architectures`.
        latent_dim: Latents.
        widths: Of the architecture.
        image_shape: Rows and columns of an image.
        prior: A module of `vae/priors`.
        prior_widths: Of the prior.
        autoregressive_units: Of the layer through which each pixel sees earlier ones; 0 for none, so that pixels are
            independent given the latents.

    Raises:
        ValueError: If the architecture or the prior refuses its widths or the images' shape, the autoregressive layer
            has too few units or refuses the shape, or a layer has weights that are not trained.
    """
    encoder, decoder = importlib.import_module(f"vae.architectures.{architecture}").build(
        latent_dim, widths, image_shape
    )
    if autoregressive_units:
        decoder = autoregressive(decoder, autoregressive_units)
    networks = importlib.import_module(f"vae.priors.{prior}").build(latent_dim, prior_widths)
    vae = VAE(encoder, decoder, networks and Flow(*networks))
    if len(vae.variables) > len(vae.trainable_variables):
        raise ValueError(
            f"architecture = {architecture}, prior = {prior}: a layer keeps statistics of its own, as batch "
            f"normalisation does; expected layers whose weights are all trained"
        )
    return vae


def fix_threads(intra_op: int, inter_op: int, *, op_determinism: bool = True) -> None:
    """Fixes TensorFlow's thread counts and whether it has to be deterministic; before its first operation.

    Equal bytes need the same number of intra-op threads, as sums are split over them. On the CPU, code compiled by
    XLA repeats its bytes even without determinism.
    """
    tf.config.threading.set_intra_op_parallelism_threads(intra_op)
    tf.config.threading.set_inter_op_parallelism_threads(inter_op)
    if op_determinism:
        tf.config.experimental.enable_op_determinism()
