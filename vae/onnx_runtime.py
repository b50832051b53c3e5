"""The exported networks at work in ONNX Runtime: no TensorFlow, no Keras."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or its first session makes an id of this machine in the home, and sends it
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[np.float32]


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A network that is ready to run, on one thread: equal inputs give equal bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class ExportedVAE:
    """A VAE of exported networks, which draws nothing itself: all noise is passed in."""

    encoder: onnxruntime.InferenceSession
    decoder: onnxruntime.InferenceSession
    prior: onnxruntime.InferenceSession | None  # None is the standard normal

    @classmethod
    def load(cls, networks: Mapping[str, bytes]) -> "ExportedVAE":
        """The model of the networks `encoder`, `decoder` and, where it is learned, `prior`, as ONNX."""
        prior = networks.get("prior")
        return cls(session(networks["encoder"]), session(networks["decoder"]), session(prior) if prior else None)

    @property
    def latent_dim(self) -> int:
        """Latents of an image."""
        return int(self.decoder.get_inputs()[0].shape[1])

    @property
    def autoregressive(self) -> bool:
        """Whether a pixel's probability depends on earlier pixels besides the latents."""
        return len(self.decoder.get_inputs()) > 1

    def encode(self, images: Array) -> tuple[Array, Array]:
        """Mean and log_var of q(z|x), each (count, latent) float32, of `images`, (count, 28, 28) float32 in [0, 1]."""
        mean, log_var = self.encoder.run(["mean", "log_var"], {"image": images})
        return mean, log_var

    def from_noise(self, noise: Array) -> Array:
        """Draws of the prior from standard normal noise, both (count, latent) float32."""
        if self.prior is None:
            return noise
        (latent,) = self.prior.run(["latent"], {"noise": noise})
        return np.asarray(latent)

    def logits(self, latent: Array, images: Array) -> Array:
        """Log-odds of each pixel, (count, 28, 28) float32, given latents and, if autoregressive, the earlier pixels."""
        given = {"latent": latent} | ({"image": images} if self.autoregressive else {})
        (logits,) = self.decoder.run(["logits"], given)
        return np.asarray(logits)

    def decode(self, latent: Array) -> Array:
        """Probability of each pixel, (count, 28, 28) float32, given latents (count, latent) alone.

        An autoregressive decoder is given the probabilities of earlier pixels in place of their draws, which
        approximates the mean over these.
        """
        return self._settled(latent, lambda probabilities: probabilities)

    def draw(self, latent: Array, uniform: Array) -> Array:
        """Binary images drawn from p(x|z), exactly, (count, 28, 28) float32.

        Args:
            latent: (count, latent) float32.
            uniform: (count, 28, 28) float32, uniform on [0, 1): a pixel is 1 where it is below its probability.
        """
        return self._settled(latent, lambda probabilities: (uniform < probabilities).astype(np.float32))

    def _settled(self, latent: Array, pixels: Callable[[Array], Array]) -> Array:
        """Computes the pixels from their probabilities given latents and image, again until the image stays the same.

        Each pass settles the pixels whose earlier pixels are settled, so the loop ends.
        """
        image = pixels(_sigmoid(self.logits(latent, np.zeros((len(latent), 28, 28), np.float32))))
        while self.autoregressive:
            settled = pixels(_sigmoid(self.logits(latent, image)))
            if not (np.abs(settled - image) > 0).any():
                break
            image = settled
        return image


def _sigmoid(logits: Array) -> Array:
    probabilities = np.empty_like(logits)
    rising = logits >= 0  # exp(-x) of these cannot overflow, nor can exp(x) of the others
    probabilities[rising] = 1 / (1 + np.exp(-logits[rising]))
    odds = np.exp(logits[~rising])
    probabilities[~rising] = odds / (1 + odds)
    return probabilities
