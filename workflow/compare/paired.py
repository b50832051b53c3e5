"""Is one model better than another: the paired difference of a loss over the same images, with its error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

#: Largest chance that equal models are said to differ; chance that a difference of the smallest visible size is seen.
LEVEL = 0.05
POWER = 0.8

#: Quantiles of each uncertain variance over which the chance of being seen is averaged.
_QUANTILES = 200


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
        variances: Estimated parts of the variance of the difference, nats^2: that over images, then those over seeds.
        degrees: Degrees of freedom of each part.
        resolution: Step that losses of images were rounded to, nats: no smaller difference is taken for one.
    """

    before: float
    after: float
    variances: tuple[float, ...]
    degrees: tuple[int, ...]
    resolution: float

    @property
    def difference(self) -> float:
        """Mean loss after less that before."""
        return self.after - self.before

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(math.fsum(self.variances))

    @property
    def half_width(self) -> float:
        """Half of the interval that misses the true difference in a share of comparisons that is at most `LEVEL`."""
        return float(self._half_width([np.array(variance) for variance in self.variances]))

    @property
    def seen(self) -> bool:
        """Whether the interval excludes zero, and the difference is one that rounding could not make."""
        return abs(self.difference) > max(self.half_width, self.resolution)

    @property
    def smallest_visible(self) -> float:
        """The true difference that is seen, with its sign, in a share `POWER` of comparisons with these variances.

        The interval's width is itself uncertain, as its variances are estimated: averaged over their distributions.
        """
        if not self.error:
            return self.resolution
        share = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        estimates = [
            variance * chi2.ppf(share, degrees) / degrees
            for variance, degrees in zip(self.variances, self.degrees, strict=True)
        ]
        grid = np.meshgrid(estimates[0].mean(), *estimates[1:])  # of many images: certain
        thresholds = np.maximum(self._half_width(grid), self.resolution)

        def missing(shift: float) -> float:
            return float(norm.sf((thresholds - shift) / self.error).mean()) - POWER

        return float(brentq(missing, 0, float(thresholds.max()) + 3 * self.error))

    def _half_width(self, variances: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Student's quantiles of the parts, averaged with their variances as weights (Cochran and Cox 1957, 4.14)."""
        quantiles = [float(t.isf(LEVEL / 2, degrees)) for degrees in self.degrees]
        total = sum(variances, np.array(0.0))
        weighted = sum((q * variance for q, variance in zip(quantiles, variances, strict=True)), np.array(0.0))
        return np.divide(weighted, np.sqrt(total), out=np.zeros_like(total), where=total > 0)


def paired_difference(
    before: NDArray[Any], after: NDArray[Any], spreads: Sequence[Spread] = (), resolution: float = 0.0
) -> Difference:
    """Difference of two models' mean losses over the same images.

    Its error is sqrt(paired_se^2 + sd_before^2 + sd_after^2), where a seed was drawn for each model; if the spread of
    one model only is known, the other is taken to have the same.

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
    mean = float(before.astype(np.float64).mean())
    models = 2 / max(len(spreads), 1)
    return Difference(
        before=mean,
        after=mean + float(pairs.mean()),
        variances=(float(pairs.var(ddof=1)) / pairs.size, *(models * spread.deviation**2 for spread in spreads)),
        degrees=(pairs.size - 1, *(spread.seeds - 1 for spread in spreads)),
        resolution=resolution,
    )
