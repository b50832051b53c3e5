"""What the results of two revisions say. Needs neither data nor weights: the losses of each image are in git."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.compare.changes import changes, values
from workflow.compare.paired import LEVEL, POWER
from workflow.compare.verdicts import PRIMARY, fitting_seeds, verdicts
from workflow.history.lock import contradictions
from workflow.history.revisions import Revision


@dataclass(frozen=True)
class Comparison:
    """What the results of two revisions say.

    Attributes:
        base: The revision before.
        head: The revision after.
        basis: "parameters" if the error has the spread over seeds in it, else "weights".
        basis_reason: What the verdict is about, in words.
        notes: Sentences on what a reader has to know to believe it.
        verdicts: Rows of `workflow.compare.verdicts.verdicts`.
        changes: As `workflow.compare.changes.changes` returns them.
        values: As `workflow.compare.changes.values` returns them.
    """

    base: Revision
    head: Revision
    basis: str
    basis_reason: str
    notes: Sequence[str]
    verdicts: Sequence[Mapping[str, Any]]
    changes: Mapping[str, Sequence[Any]]
    values: Sequence[Mapping[str, Any]]

    @property
    def primary(self) -> Mapping[str, Any]:
        """The row whose verdict is that of the whole."""
        return next(row for row in self.verdicts if (row["targets"], row["metric"]) == PRIMARY)

    def as_dict(self) -> dict[str, Any]:
        """Plain content, for JSON, tables and pages."""
        return {
            "base": self.base.label,
            "head": self.head.label,
            "verdict": self.primary["verdict"],
            "primary": dict(self.primary),
            "basis": self.basis,
            "basis_reason": self.basis_reason,
            "level": LEVEL,
            "power": POWER,
            "notes": list(self.notes),
            "verdicts": list(self.verdicts),
            "changes": dict(self.changes),
            "values": list(self.values),
        }


def compare(base: Revision, head: Revision) -> Comparison:
    """The comparison of two revisions.

    Raises:
        StageError: If one lacks results, or they are of different images.
    """
    seeds, reason = fitting_seeds(base, head)
    return Comparison(
        base=base,
        head=head,
        basis="parameters" if seeds else "weights",
        basis_reason=reason,
        notes=list(_notes(base, head)),
        verdicts=verdicts(base, head, seeds),
        changes=changes(base, head),
        values=values(base, head),
    )


def _notes(base: Revision, head: Revision) -> Iterator[str]:
    for revision in (base, head):
        untrue = contradictions(revision)
        if untrue:
            more = f", and {len(untrue) - 1} more" if len(untrue) > 1 else ""
            yield f"The results of {revision.label} are not its own ({untrue[0]}{more}): run `dvc repro` there"
    draws = [
        revision.read_json("metrics/evaluation.json")["validation"]["binarised"]["nll_samples"]
        for revision in (base, head)
    ]
    if draws[0] != draws[1]:
        yield (
            f"The NLL is a bound that more draws tighten, and it is of {draws[0]:.0f} draws before and {draws[1]:.0f} "
            f"after: with one count for both (evaluate.importance_samples) the difference would be that of the models"
        )
