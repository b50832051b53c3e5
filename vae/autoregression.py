"""Makes any decoder autoregressive: each pixel also sees earlier ones near by.

p(x|z) becomes the product of p(x_j | x_<j, z), still a normalised density (as in PixelVAE, Gulrajani et al. 2017). The
latents say what the image shows; what pixels say of their neighbours is learned once for all places.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

#: The order of the pixels of each 4 x 4 patch, the same in all patches. Pixels of one number are independent given the
#: earlier ones, which lie all around: it is the order of ordered dithering (Bayer 1973).
ORDER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])

#: Least units of a patch: one for each number of the order but the last, whose pixels no other pixel sees.
LEAST_UNITS = int(ORDER.max())

_SIDE = len(ORDER)

#: Pixels that are seen beyond each side of a patch: a window is as large as two by two patches.
_MARGIN = _SIDE // 2


def autoregressive(decoder: keras.Model, units: int) -> keras.Model:
    """Adds a gated layer to a decoder, which corrects its logits by the earlier pixels around each patch.

    The layer, h = (W x + b) * sigmoid(V x + c) (Dauphin et al. 2017, equation 1), is the same for all patches. It sees
    the pixels and the decoder's logits in the window of a patch; the latents scale and shift both of its products
    (FiLM, Perez et al. 2018). Before training the correction is zero.

    Args:
        decoder: (batch, latent) latent to (batch, rows, columns) logits.
        units: Of the layer, for each patch.

    Returns:
        (batch, latent) latent and (batch, rows, columns) image to (batch, rows, columns) logits; a pixel's logit
        depends on the latent and on pixels of the image that are earlier in `ORDER`.

    Raises:
        ValueError: If there are too few units for the order, or a side of the images is no multiple of a patch's.
    """
    shape = decoder.outputs[0].shape[1:]
    if any(side % _SIDE for side in shape):
        raise ValueError(
            f"autoregressive_units = {units} with images of {shape[0]} x {shape[1]} pixels: the layer needs sides that "
            f"are multiples of {_SIDE}, so it should be 0, for none, or the images of another size"
        )
    if units < LEAST_UNITS:
        raise ValueError(f"autoregressive_units = {units}: it should be 0, for none, or {LEAST_UNITS} or more")
    latent, logits = decoder.input, decoder.output
    image = keras.Input(shape, name="image")
    rows, columns = patches(shape)
    seen, seeing = _masks(units)

    near = _Masked(np.tile(seen, 2), name="near_pixels")(_windows(image - 0.5))
    near += layers.Dense(2 * units, use_bias=False, name="near_logits")(_windows(logits))
    near = ops.reshape(near, (-1, rows * columns, 2 * units))
    near *= 1 + ops.expand_dims(layers.Dense(2 * units, kernel_initializer="zeros", name="scale")(latent), 1)
    near += ops.expand_dims(layers.Dense(2 * units, name="shift")(latent), 1)
    hidden = ops.reshape(near[..., :units] * ops.sigmoid(near[..., units:]), (-1, units))
    correction = _Masked(seeing, kernel_initializer="zeros", name="correction")(hidden)
    return keras.Model([latent, image], logits + _image(correction, shape), name=decoder.name)


def patches(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of patches of an image of this shape."""
    return shape[0] // _SIDE, shape[1] // _SIDE


def _masks(units: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Which pixels of a window each unit sees, and which units each pixel of a patch sees.

    As in MADE (Germain et al. 2015, equations 12 and 13): a unit has a number of the order but the last, sees pixels
    up to that number, and is seen by pixels after it.

    Returns:
        (window's pixels, units) and (units, patch's pixels), float32, 0 or 1.
    """
    number = np.arange(units) * LEAST_UNITS // units
    window = np.roll(np.tile(ORDER, (2, 2)), (_MARGIN, _MARGIN), axis=(0, 1))
    blocks = [block for rows in np.split(window, 2) for block in np.split(rows, 2, axis=1)]
    pixels = np.concatenate([block.ravel() for block in blocks])
    seen, seeing = pixels[:, None] <= number, number[:, None] < ORDER.ravel()
    return seen.astype(np.float32), seeing.astype(np.float32)


class _Masked(layers.Dense):
    """A dense layer without bias, some of whose connections are missing."""

    def __init__(self, mask: NDArray[np.float32], **options: object) -> None:
        """Makes the layer.

        Args:
            mask: (inputs, units) float32, 1 where there is a connection and 0 where there is none.
            **options: Of a dense layer.
        """
        super().__init__(mask.shape[1], use_bias=False, **options)
        self.mask = mask

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """(rows, inputs) to (rows, units), float32."""
        return ops.matmul(inputs, self.kernel * self.mask)


def _windows(image: keras.KerasTensor) -> keras.KerasTensor:
    """Each patch with its margin, zero outside of the image.

    (batch, rows, columns) to (batch * patches, window's pixels).

    A window is four blocks of the size of a patch, one after the other, each row by row.
    """
    rows, columns = patches(image.shape[1:])
    padded = ops.pad(image, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    blocks = ops.reshape(padded, (-1, rows + 1, _SIDE, columns + 1, _SIDE))
    blocks = ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, rows + 1, columns + 1, _SIDE**2))
    corners = [blocks[:, row : row + rows, column : column + columns] for row in (0, 1) for column in (0, 1)]
    return ops.reshape(ops.concatenate(corners, axis=-1), (-1, len(corners) * _SIDE**2))


def _image(pixels: keras.KerasTensor, shape: Sequence[int]) -> keras.KerasTensor:
    """(batch * patches, patch's pixels) put together to (batch, rows, columns)."""
    split = ops.reshape(pixels, (-1, *patches(shape), _SIDE, _SIDE))
    return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4)), (-1, *shape))
