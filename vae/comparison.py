"""Is one model better than another: the paired difference of a loss over the same images, with its error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import nct, t

#: Chance that equal models are said to differ, and that a difference of the smallest visible size is seen.
LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Spread:
    """How far apart seeds of training put a mean loss.

    Attributes:
        deviation: Sample deviation over seeds, nats.
        seeds: How many there were, 2 or more.
    """

    deviation: float
    seeds: int


@dataclass(frozen=True)
class Difference:
    """A mean difference, after less before, with its error.

    Attributes:
        before: Mean loss of the first model, nats per image.
        after: That of the second.
        paired_se: Standard error over images of the mean of the paired differences.
        error: With the spread over seeds, if there is one.
        degrees: Degrees of freedom of `error`.
        resolution: Step that losses of images were rounded to, nats: no smaller difference is taken for one.
    """

    before: float
    after: float
    paired_se: float
    error: float
    degrees: float
    resolution: float

    @property
    def difference(self) -> float:
        """Mean loss after less that before."""
        return self.after - self.before

    @property
    def half_width(self) -> float:
        """Half of the interval that holds the true difference but for a share `LEVEL` of comparisons (Student)."""
        return float(t.isf(LEVEL / 2, self.degrees)) * self.error

    @property
    def seen(self) -> bool:
        """Whether the interval excludes zero, and the difference is one that rounding could not make."""
        return abs(self.difference) > max(self.half_width, self.resolution)

    @property
    def smallest_visible(self) -> float:
        """The true difference that is seen in a share `POWER` of comparisons with this error.

        From the noncentral distribution of Student's t, as the error is estimated; that it is seen as one of the other
        sign does not count.
        """
        critical = float(t.isf(LEVEL / 2, self.degrees))

        def missing(shift: float) -> float:
            return float(nct.sf(critical, self.degrees, shift)) - POWER

        return max(float(brentq(missing, 0, 3 * critical + 3)) * self.error, self.resolution)


def paired_difference(
    before: NDArray[Any], after: NDArray[Any], spreads: Sequence[Spread] = (), resolution: float = 0.0
) -> Difference:
    """Difference of two models' mean losses over the same images.

    Its error is sqrt(paired_se^2 + sd_before^2 + sd_after^2), where a seed was drawn for each model; if the spread of
    one model only is known, the other is taken to have the same. Degrees of freedom by Welch (1947) and Satterthwaite
    (1946): a spread of few seeds is itself uncertain.

    Args:
        before: (count,) loss of each image, nats; draws of latents are noise of the image.
        after: (count,) of the same images in the same order.
        spreads: None, one for both models, or one of each: over seeds of training. With none the difference is that of
            these two sets of weights, not of how they were trained.
        resolution: Step that the losses were rounded to, nats.

    Raises:
        ValueError: If the shapes differ, or there are fewer than 2 images.
    """
    if before.shape != after.shape or before.ndim != 1 or before.size < 2:
        raise ValueError(f"before and after have shapes {before.shape} and {after.shape}; expected (count,), 2 or more")
    pairs = after.astype(np.float64) - before.astype(np.float64)
    paired_se = float(pairs.std(ddof=1)) / math.sqrt(pairs.size)
    share = 2 / max(len(spreads), 1)
    parts = [(paired_se**2, pairs.size - 1), *((share * spread.deviation**2, spread.seeds - 1) for spread in spreads)]
    variance = math.fsum(part for part, _ in parts)
    uncertainty = math.fsum(part**2 / degrees for part, degrees in parts)
    mean = float(before.astype(np.float64).mean())
    return Difference(
        before=mean,
        after=mean + float(pairs.mean()),
        paired_se=paired_se,
        error=math.sqrt(variance),
        degrees=variance**2 / uncertainty if uncertainty else pairs.size - 1,
        resolution=resolution,
    )
