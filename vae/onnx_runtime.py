"""The exported networks at work in ONNX Runtime: no TensorFlow, no Keras."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or its first session makes an id of this machine in the home, and sends it
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: Mean images of one call: each is averaged over many draws, which should stay in the processor's cache.
_MEAN_IMAGES = 5


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
    mean_image: onnxruntime.InferenceSession
    prior: onnxruntime.InferenceSession | None  # None is the standard normal
    prior_noise: onnxruntime.InferenceSession | None  # its inverse, which older exports do not have

    @classmethod
    def load(cls, networks: Mapping[str, bytes]) -> "ExportedVAE":
        """The model of the networks that `to_onnx` returns, by name, as ONNX."""
        sessions = {name: session(network) for name, network in networks.items()}
        encoder, decoder, mean_image = (sessions[name] for name in ("encoder", "decoder", "mean_image"))
        return cls(encoder, decoder, mean_image, sessions.get("prior"), sessions.get("prior_noise"))

    @property
    def latent_dim(self) -> int:
        """Latents of an image."""
        return int(self.decoder.get_inputs()[0].shape[1])

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        _, rows, columns = self.encoder.get_inputs()[0].shape
        return int(rows), int(columns)

    @property
    def border_gray(self) -> float:
        """Mean gray of the outermost pixels of validation images, 0 to 1; 0 of older exports, which do not state it."""
        return float(self.encoder.get_modelmeta().custom_metadata_map.get("border_gray", 0))

    @property
    def autoregressive(self) -> bool:
        """Whether a pixel's probability depends on earlier pixels besides the latents."""
        return len(self.decoder.get_inputs()) > 1

    def encode(self, images: Array) -> tuple[Array, Array]:
        """Mean and log_var of q(z|x), each (count, latent) float32, of `images`, (count, rows, columns) in [0, 1]."""
        mean, log_var = self.encoder.run(["mean", "log_var"], {"image": images})
        return mean, log_var

    def from_noise(self, noise: Array) -> Array:
        """Draws of the prior from standard normal noise, both (count, latent) float32."""
        if self.prior is None:
            return noise
        (latent,) = self.prior.run(["latent"], {"noise": noise})
        return np.asarray(latent)

    def to_noise(self, latent: Array) -> tuple[Array, Array]:
        """The noise of latents, both (count, latent), and log |det d noise / d latent|, (count,); float32."""
        if self.prior_noise is None:
            return latent, np.zeros(len(latent), np.float32)
        noise, log_det = self.prior_noise.run(["noise", "log_det"], {"latent": latent})
        return noise, log_det

    def logits(self, latent: Array, images: Array) -> Array:
        """Log-odds of each pixel, (count, rows, columns) float32, of latents and, if autoregressive, earlier pixels."""
        given = {"latent": latent} | ({"image": images} if self.autoregressive else {})
        (logits,) = self.decoder.run(["logits"], given)
        return np.asarray(logits)

    def decode(self, latent: Array) -> Array:
        """Mean images given latents (count, latent): the probability of each pixel, (count, rows, columns) float32."""
        parts = [latent[start : start + _MEAN_IMAGES] for start in range(0, len(latent), _MEAN_IMAGES)]
        return np.concatenate([self.mean_image.run(["image"], {"latent": part})[0] for part in parts])

    def draw(self, latent: Array, uniform: Array) -> Array:
        """Binary images drawn from p(x|z), exactly, (count, rows, columns) float32.

        Each pass settles the pixels whose earlier pixels are settled, so it ends when the image stays the same.

        Args:
            latent: (count, latent) float32.
            uniform: (count, rows, columns) float32, uniform on [0, 1): a pixel is 1 where it is below its probability.
        """
        image = np.zeros_like(uniform)
        while True:
            drawn = (uniform < _sigmoid(self.logits(latent, image))).astype(np.float32)
            if not self.autoregressive or (drawn == image).all():
                return drawn
            image = drawn


def _sigmoid(logits: Array) -> Array:
    probabilities = np.empty_like(logits)
    rising = logits >= 0  # exp(-x) of these cannot overflow, nor can exp(x) of the others
    probabilities[rising] = 1 / (1 + np.exp(-logits[rising]))
    odds = np.exp(logits[~rising])
    probabilities[~rising] = odds / (1 + odds)
    return probabilities
