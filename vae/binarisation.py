"""Binary images drawn from gray ones: the fixed draws that validation and test images are scored on."""

import numpy as np
from numpy.typing import NDArray

#: Seed of the draw that published numbers are computed on.
PUBLISHED_SEED = 777


def published_draw(
    validation: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The draw of the published numbers: each pixel is 1 with probability of its gray value, validation first.

    Source: Norouzi, Fleet and Norouzi, "Exemplar VAEs" (2020), their code, which draws with numpy's
    legacy global generator; `RandomState` is the same stream without the global state.

    Args:
        validation: (count, rows, columns) in [0, 1], validation images of the published split.
        test: (count, rows, columns) in [0, 1].

    Returns:
        Binary validation and test images of the same shapes, uint8.
    """
    generator = np.random.RandomState(PUBLISHED_SEED)
    first = generator.binomial(1, validation).astype(np.uint8)
    return first, generator.binomial(1, test).astype(np.uint8)


def seeded_draw(images: NDArray[np.floating], seed: int, stream: int = 1) -> NDArray[np.uint8]:
    """A draw of our own, for images that have no published one.

    Args:
        images: (count, rows, columns) in [0, 1].
        seed: Of the draw.
        stream: Draws of the same seed and of other streams are independent.

    Returns:
        Binary images of the same shape, uint8.
    """
    generator = np.random.default_rng([seed, stream])
    return (generator.random(images.shape) < images).astype(np.uint8)
