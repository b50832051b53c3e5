"""Verdicts on the losses of two revisions, paired over the images of their `metrics/per_image.npz`."""

from collections.abc import Sequence
from statistics import stdev
from typing import Any

import numpy as np

from pipeline.errors import StageError
from vae.statistics import GRID_NATS, losses_of, targets_of
from workflow.compare.paired import Difference, Spread, paired_difference
from workflow.history.lock import WEIGHTS, outputs
from workflow.history.per_image import PER_IMAGE, SPLITS, Values, of_split, values_in
from workflow.history.revisions import Revision
from workflow.history.seeds import PATH as SEEDS
from workflow.history.seeds import Run, digest_of, record_in

#: The loss that decides, chosen before any is looked at: one question, one chance of error.
PRIMARY = ("binarised", "nll_nats")

#: The one of models without binary images, which have no likelihood.
GRAY_PRIMARY = ("gray", "elbo_nats")

BETTER, WORSE, UNSEEN = "better", "worse", "no difference seen"

#: Losses of which a higher one is better, and those of which neither is.
_HIGHER_IS_BETTER = ("elbo_nats",)
_NEITHER_IS_BETTER = ("kl_nats",)


def verdicts(base: Revision, head: Revision, seeds: Sequence[Sequence[Run]]) -> list[dict[str, Any]]:
    """One row a loss: the difference of validation images with its verdict, and that of test images, which has none.

    Args:
        base: The revision before.
        head: The revision after.
        seeds: The recorded runs of each seeds file that fits.

    Raises:
        StageError: If a revision has no losses of images, or they are of different images.
    """
    before, after = (values_in(revision.require(PER_IMAGE)) for revision in (base, head))
    for revision, values in ((base, before), (head, after)):
        if "binarised" in targets_of(values) and "binarised_nll_nats" not in values:
            raise StageError(f"{PER_IMAGE} of {revision.label} has no NLL; expected a later commit, which estimates it")
    if any(not np.array_equal(before[name], after[name]) for name in ("split", "index")):
        raise StageError(
            f"{PER_IMAGE} of {base.label} and of {head.label} hold different images; expected the same splits: losses "
            f"are compared image by image"
        )
    return [
        _row(targets, loss, before, after, seeds)
        for targets in targets_of(before)
        for loss in losses_of(dict(before), targets)
    ]


def _row(targets: str, loss: str, before: Values, after: Values, seeds: Sequence[Sequence[Run]]) -> dict[str, Any]:
    found = {}
    for split in SPLITS:
        pair = [losses_of(of_split(values, split), targets)[loss] for values in (before, after)]
        spreads = [_spread(runs, split, targets, loss) for runs in seeds]
        found[split] = paired_difference(pair[0], pair[1], spreads, GRID_NATS)
    decisive = found["validation"]
    return {
        "metric": loss,
        "targets": targets,
        **_plain(decisive),
        "low": decisive.difference - decisive.half_width,
        "high": decisive.difference + decisive.half_width,
        "smallest_visible": decisive.smallest_visible,
        "verdict": verdict_on(loss, decisive),
        "test": _plain(found["test"]),
    }


def _spread(runs: Sequence[Run], split: str, targets: str, loss: str) -> Spread:
    return Spread(stdev(run.metrics["evaluation"][split][targets][loss] for run in runs), len(runs))


def _plain(difference: Difference) -> dict[str, float]:
    return {name: getattr(difference, name) for name in ("before", "after", "difference", "error")}


def verdict_on(loss: str, difference: Difference) -> str:
    """Says whether a difference of a loss was seen, and which model it speaks for."""
    if not difference.seen:
        return UNSEEN
    rises = difference.difference > 0
    if loss in _NEITHER_IS_BETTER:
        return "higher" if rises else "lower"
    return BETTER if rises == (loss in _HIGHER_IS_BETTER) else WORSE


def fitting_seeds(base: Revision, head: Revision) -> tuple[list[Sequence[Run]], str]:
    """Finds the recorded runs of either revision's code and parameters, and says what the verdict is about.

    Without such runs a difference is that of two sets of weights: another seed alone might have made it.
    """
    weights = outputs(base).get(WEIGHTS), outputs(head).get(WEIGHTS)
    if weights[0] == weights[1] and weights[0] is not None:
        return [], "these weights, the same in both: what differs is how they are evaluated"
    contents = [content for revision in (base, head) if (content := revision.read(SEEDS)) is not None]
    records = [record for content in contents if (record := record_in(content))]
    digests = {digest_of(revision) for revision in (base, head) if records}
    fitting = {record.digest: record.runs for record in records if record.digest in digests}
    if not fitting:
        what = f"{SEEDS} is stale, of other code or parameters than either has" if contents else f"there is no {SEEDS}"
        return [], f"these two sets of weights, not the parameters, as {what}: `make seeds` measures the spread"
    counts = " and ".join(str(len(runs)) for runs in fitting.values())
    return list(fitting.values()), f"the parameters: the error has the spread over {counts} seeds of {SEEDS} in it"
