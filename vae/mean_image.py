"""Mean images E[x|z]: what a decoder shows of latents alone, without the dots that a plug-in estimate leaves."""

import math

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae.autoregression import ORDER, patches
from vae.model import VAE

Array = NDArray[np.float32]

#: Draws that are averaged. The error of the default model is then 0.15 gray levels of 255 on average: less than the
#: 0.25 that rounding to a byte adds.
DRAWS = 128

_SIDE = len(ORDER)

#: Place in a patch of the pixel of each number, and in a block of a window, which is shifted by half a patch.
_PLACES = np.argsort(ORDER, axis=None)
_BLOCK_PLACES = np.argsort(np.roll(ORDER, (_SIDE // 2, _SIDE // 2), axis=(0, 1)), axis=None)

#: Draws of all images that are made in one call: their arrays stay in the processor's cache.
_DRAWS_PER_CALL = 640


class MeanImages:
    """Averages p(x_j | x_<j, z) over draws of the earlier pixels; independent pixels need no draws.

    The average is unbiased. The uniform numbers of each pixel are a Latin hypercube over the draws (McKay et al. 1979):
    one in each of `draws` equal intervals, in random order. All images share them. It divides the squared error of
    independent draws by about six.

    All draws of a latent share what the decoder makes of it. Each unit of the autoregressive layer is computed once,
    when its pixels are known, so that a draw costs as much as one pass of that layer.
    """

    def __init__(self, vae: VAE, draws: int = DRAWS, seed: int = 0) -> None:
        """Draws the uniform numbers.

        Args:
            vae: The model; later changes of its weights are seen.
            draws: Of each image, at least 1.
            seed: Of the uniform numbers.

        Raises:
            ValueError: If there are no draws.
        """
        if draws < 1:
            raise ValueError(f"draws = {draws}: it should be 1 or more")
        draws = draws if vae.autoregressive else 1  # which nothing reads
        generator = np.random.default_rng(seed)
        intervals = np.tile(np.arange(draws)[:, None], (1, math.prod(vae.image_shape)))
        uniform = (generator.permuted(intervals, axis=0) + generator.random(intervals.shape)) / draws
        #: (draws, rows, columns) float32: a pixel of a draw is 1 where this is below its probability.
        self.uniform = np.minimum(uniform, np.nextafter(1, 0, dtype=np.float32)).astype(np.float32)
        self.uniform = self.uniform.reshape(draws, *vae.image_shape)
        self._vae = vae
        self._rows, self._columns = patches(vae.image_shape)
        if vae.autoregressive:
            decoder = vae.decoder
            layers = [decoder.get_layer(name) for name in ("near_logits", "scale", "shift")]
            logits = decoder.operations[-1].input[0]  # the decoder's own, to which the correction is added
            self._of_latent = keras.Model(decoder.inputs[0], [logits, *(layer.output for layer in layers)])
        signature = [tf.TensorSpec((None, vae.latent_dim), tf.float32)]
        #: (batch, latent) float32 tensor of latents to (batch, rows, columns) float32 mean images, for export too.
        self.of = tf.function(self._averages if vae.autoregressive else self._exact, input_signature=signature)

    def decode(self, latents: Array) -> Array:
        """Probability of each pixel, (count, rows, columns) float32, given `latents`, (count, latent) float32."""
        step = max(1, _DRAWS_PER_CALL // len(self.uniform))
        parts = [self.of(tf.constant(latents[start : start + step])) for start in range(0, len(latents), step)]
        return np.concatenate(parts)

    def _exact(self, latent: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self._vae.decoder(latent))

    def _averages(self, latent: tf.Tensor) -> tf.Tensor:
        """Pixels are drawn number by number; arrays are (pixels or units, batch, patches, draws)."""
        draws, batch, count = len(self.uniform), tf.shape(latent)[0], self._rows * self._columns
        near_pixels, correction = (self._vae.decoder.get_layer(name) for name in ("near_pixels", "correction"))
        kernel = tf.reshape(near_pixels.kernel * near_pixels.mask, (4, _SIDE**2, -1))
        correcting = tf.transpose(tf.gather(correction.kernel * correction.mask, _PLACES, axis=1))
        number = _SIDE**2 - 1 - correction.mask.sum(axis=1)  # a unit is seen by the pixels after its own
        uniform = self._by_number(tf.constant(self.uniform))  # the draws are its batch
        uniform = tf.transpose(uniform, (0, 3, 2, 1))

        own, near, scale, shift = self._of_latent(latent)
        near = tf.reshape(near, (-1, count, near.shape[-1]))
        scale = 1 + scale[:, None]
        shift = tf.transpose(near * scale + shift[:, None], (2, 0, 1))[..., None]
        scale = tf.transpose(scale, (2, 0, 1))[..., None]
        logits = tf.repeat(self._by_number(own), draws, axis=-1)

        means: list[tf.Tensor] = []
        windows: list[tf.Tensor] = []
        for pixel in range(_SIDE**2):
            probability = tf.sigmoid(logits[0])
            means.append(tf.reduce_mean(probability, axis=-1))
            units = np.flatnonzero(number == pixel)
            if not units.size:
                break
            drawn = tf.cast(uniform[pixel] < probability, tf.float32)
            windows += self._in_windows(drawn - 0.5, pixel)
            both = np.concatenate([units, units + len(number)])  # of the linear half and the gate
            weights = tf.gather(tf.gather(kernel, both, axis=2), _BLOCK_PLACES[: pixel + 1], axis=1)
            weights = tf.reshape(tf.transpose(weights, (2, 1, 0)), (len(both), -1))
            hidden = tf.reshape(weights @ tf.concat(windows, 0), (-1, batch, count, draws))
            hidden = hidden * tf.gather(scale, both) + tf.gather(shift, both)
            hidden = hidden[: units.size] * tf.sigmoid(hidden[units.size :])
            later = tf.gather(correcting, units, axis=1)[pixel + 1 :] @ tf.reshape(hidden, (units.size, -1))
            logits = logits[1:] + tf.reshape(later, (-1, batch, count, draws))
        means_by_place = tf.gather(tf.stack(means, axis=-1), ORDER.ravel(), axis=-1)
        of_patches = tf.reshape(means_by_place, (-1, self._rows, self._columns, _SIDE, _SIDE))
        return tf.reshape(tf.transpose(of_patches, (0, 1, 3, 2, 4)), (-1, *self._vae.image_shape))

    def _by_number(self, images: tf.Tensor) -> tf.Tensor:
        """Pixels of `images` (batch, rows, columns) by their number in the order, (16, batch, patches, 1)."""
        split = tf.reshape(images, (-1, self._rows, _SIDE, self._columns, _SIDE))
        of_patches = tf.reshape(tf.transpose(split, (2, 4, 0, 1, 3)), (_SIDE**2, -1, self._rows * self._columns))
        return tf.gather(of_patches, _PLACES)[..., None]

    def _in_windows(self, drawn: tf.Tensor, pixel: int) -> list[tf.Tensor]:
        """The pixels of a number in each patch's window, zero outside of the image, (1, batch * patches * draws) each.

        Args:
            drawn: (batch, patches, draws), the pixel of each patch.
            pixel: Their number.

        Returns:
            Those of the window's four blocks.
        """
        draws = drawn.shape[-1]
        half = [place < _SIDE // 2 for place in divmod(int(_PLACES[pixel]), _SIDE)]  # a window reaches so far beyond
        margins = [(0, 1) if first else (1, 0) for first in half]
        padded = tf.pad(tf.reshape(drawn, (-1, self._rows, self._columns, draws)), ((0, 0), *margins, (0, 0)))
        corners = [(row, column) for row in (0, 1) for column in (0, 1)]
        return [
            tf.reshape(padded[:, row : row + self._rows, column : column + self._columns], (1, -1))
            for row, column in corners
        ]
