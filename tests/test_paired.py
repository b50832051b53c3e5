"""The paired comparison against closed forms, a bootstrap and simulation."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, t, ttest_rel

from workflow.compare.paired import LEVEL, POWER, Difference, Spread, paired_difference

SIMULATIONS = 4000
IMAGES = 200


def losses(seed: int, count: int = 500) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Losses of two models that find the same images hard."""
    generator = np.random.default_rng(seed)
    before = generator.normal(220, 70, count)
    return before.astype(np.float32), (before + generator.normal(0.1, 2, count)).astype(np.float32)


def test_without_seeds_it_is_the_paired_t_test() -> None:
    before, after = losses(0)
    found = paired_difference(before, after)
    expected = ttest_rel(after.astype(float), before.astype(float)).confidence_interval(1 - LEVEL)
    interval = (found.difference - found.half_width, found.difference + found.half_width)
    assert interval == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_paired_error_is_that_of_a_bootstrap_over_images() -> None:
    before, after = losses(1)
    generator = np.random.default_rng(2)
    means = [(after - before)[generator.integers(0, before.size, before.size)].mean() for _ in range(4000)]
    assert paired_difference(before, after).error == pytest.approx(np.std(means), rel=0.05)


@pytest.mark.parametrize(
    ("spreads", "variance"),
    [([Spread(0.3, 5)], 2 * 0.3**2), ([Spread(0.3, 5), Spread(0.1, 3)], 0.3**2 + 0.1**2)],
)
def test_the_spread_over_seeds_is_in_the_error_once_for_each_model(spreads: list[Spread], variance: float) -> None:
    before, after = losses(4)
    paired = ttest_rel(after.astype(float), before.astype(float))
    paired_se = (after.astype(float) - before).mean() / paired.statistic
    assert paired_difference(before, after, spreads).error == pytest.approx(math.sqrt(paired_se**2 + variance))


@pytest.mark.parametrize(("deviation", "degrees"), [(100.0, 3), (0.0, 499)])
def test_the_interval_is_as_uncertain_as_what_it_comes_from(deviation: float, degrees: int) -> None:
    before, after = losses(5)
    found = paired_difference(before, after, [Spread(deviation, 4)])
    assert found.half_width == pytest.approx(t.isf(LEVEL / 2, degrees) * found.error, rel=1e-3)


#: Deviation over seeds, seeds of each seeds file, least share of `LEVEL` that false alarms have: where neither part of
#: the variance prevails the interval is wider than it need be.
LUCKS = [(0.0, (), 0.8), (0.02, (5,), 0.7), (0.05, (3,), 0.4), (0.5, (3,), 0.8), (0.1, (5, 5), 0.4)]


@pytest.mark.parametrize(("deviation", "files", "share"), LUCKS)
def test_equal_models_are_told_apart_at_the_stated_level(
    deviation: float, files: tuple[int, ...], share: float
) -> None:
    generator = np.random.default_rng(6)
    found = [simulated(generator, 0.0, deviation, files) for _ in range(SIMULATIONS)]
    alarms = sum(difference.seen for difference in found)
    assert binom.ppf(0.001, SIMULATIONS, share * LEVEL) <= alarms <= binom.ppf(0.999, SIMULATIONS, LEVEL)


@pytest.mark.parametrize(("deviation", "files", "share"), LUCKS)
def test_the_smallest_visible_difference_is_seen_as_often_as_stated(
    deviation: float, files: tuple[int, ...], share: float
) -> None:
    stated = Difference(
        0.0,
        0.0,
        (1 / IMAGES, *(2 / len(files) * deviation**2 for _ in files)),
        (IMAGES - 1, *(n - 1 for n in files)),
        0.0,
    ).smallest_visible
    generator = np.random.default_rng(7)
    found = [simulated(generator, stated, deviation, files) for _ in range(SIMULATIONS)]
    seen = sum(difference.seen and difference.difference > 0 for difference in found)
    assert binom.ppf(0.001, SIMULATIONS, POWER) <= seen <= binom.ppf(0.999, SIMULATIONS, POWER)


def simulated(generator: np.random.Generator, shift: float, deviation: float, files: tuple[int, ...]) -> Difference:
    """One comparison of two models whose true mean losses differ by `shift`, each with a seed's luck of its own."""
    before = generator.normal(220, 70, IMAGES)
    lucks = generator.normal(0, deviation, 2)
    after = before + shift + generator.normal(0, 1, IMAGES) + lucks[1] - lucks[0]
    measured = [Spread(float(generator.normal(0, deviation, seeds).std(ddof=1)), seeds) for seeds in files]
    return paired_difference(before, after, measured)


def test_a_difference_that_rounding_makes_is_not_seen() -> None:
    before = np.full(100, 200.0)
    after = before + np.where(np.arange(100) % 10, 0.0, 2.0**-7)
    assert paired_difference(before, after).seen
    assert not paired_difference(before, after, resolution=2.0**-7).seen
    assert paired_difference(before, after + 0.1, resolution=2.0**-7).seen


def test_a_model_does_not_differ_from_itself() -> None:
    before, _ = losses(8)
    found = paired_difference(before, before)
    assert (found.difference, found.error, found.seen) == (0, 0, False)


@pytest.mark.parametrize("after", [np.zeros(499), np.zeros((500, 1)), np.zeros(0)])
def test_unequal_shapes_are_refused(after: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"expected \(count,\)"):
        paired_difference(losses(9)[0], after)
