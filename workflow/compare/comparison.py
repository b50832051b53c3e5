"""What the results of two revisions say. Needs neither data nor weights: the losses of each image are in git."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workflow.compare.changes import changes, values
from workflow.compare.paired import LEVEL, POWER
from workflow.compare.verdicts import GRAY_PRIMARY, PRIMARY, fitting_seeds, verdicts
from workflow.history.data_sets import require_same_images
from workflow.history.lock import contradictions, require_finished
from workflow.history.revisions import Revision


@dataclass(frozen=True)
class Comparison:
    """What the results of two revisions say.

    Attributes:
        base: Label of the revision before.
        head: Label of the revision after.
        verdict: The verdict on the whole, which is that of the row `primary`.
        primary: The row that decides, one of `verdicts`.
        basis: "parameters" if the error has the spread over seeds in it, else "weights".
        basis_reason: What the verdict is about, in words.
        level: Largest chance that equal models are said to differ.
        power: Chance that a difference of the smallest visible size is seen.
        notes: Sentences on what a reader has to know to believe it.
        verdicts: Rows of `workflow.compare.verdicts.verdicts`.
        changes: As `workflow.compare.changes.changes` returns them.
        values: As `workflow.compare.changes.values` returns them.
    """

    base: str
    head: str
    verdict: str
    primary: Mapping[str, Any]
    basis: str
    basis_reason: str
    level: float
    power: float
    notes: Sequence[str]
    verdicts: Sequence[Mapping[str, Any]]
    changes: Mapping[str, Sequence[Any]]
    values: Sequence[Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain content, for JSON, tables and pages."""
        return asdict(self)


def compare(base: Revision, head: Revision) -> Comparison:
    """The comparison of two revisions.

    Raises:
        StageError: If one lacks results or its training has not ended, or they are of different images or targets.
    """
    require_finished(base, head)
    require_same_images(base, head)
    seeds, reason = fitting_seeds(base, head)
    rows = verdicts(base, head, seeds)
    of_loss = {(row["targets"], row["metric"]): row for row in rows}
    primary = of_loss.get(PRIMARY) or of_loss[GRAY_PRIMARY]
    return Comparison(
        base=base.label,
        head=head.label,
        verdict=primary["verdict"],
        primary=primary,
        basis="parameters" if seeds else "weights",
        basis_reason=reason,
        level=LEVEL,
        power=POWER,
        notes=list(_notes(base, head)),
        verdicts=rows,
        changes=changes(base, head),
        values=values(base, head),
    )


def _notes(base: Revision, head: Revision) -> Iterator[str]:
    for revision in (base, head):
        untrue = contradictions(revision)
        if untrue:
            yield not_own(revision.label, untrue)
    before, after = (
        revision.read_json("metrics/evaluation.json")["validation"].get("binarised", {}).get("nll_samples")
        for revision in (base, head)
    )
    if before and after and before != after:
        yield (
            f"The NLL is a bound that more draws tighten, and it is of {before:.0f} draws before and {after:.0f} "
            f"after: with one count for both (evaluate.importance_samples) the difference would be that of the models"
        )


def not_own(label: str, untrue: Sequence[str]) -> str:
    """Says that results are not those of the revision of this label, and the first thing that contradicts them."""
    more = f", and {len(untrue) - 1} more" if len(untrue) > 1 else ""
    return f"The results of {label} are not its own ({untrue[0]}{more}): run `dvc repro` there"
