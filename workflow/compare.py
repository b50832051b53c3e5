"""`make compare BASE=main HEAD=workspace`: is one revision's model better than another's, and what was changed.

Needs neither data, weights nor TensorFlow: the losses of each image are in git.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import StageError
from vae.comparison import LEVEL, POWER
from workflow.changes import changes, values
from workflow.command import end
from workflow.lock import contradictions
from workflow.revisions import WORKSPACE, Revision, resolve
from workflow.tables import FORMATS
from workflow.verdicts import PRIMARY, WORSE, fitting_seeds, verdicts

#: Exit statuses.
IS_WORSE, FAILED = 1, 2


@dataclass(frozen=True)
class Comparison:
    """What the results of two revisions say.

    Attributes:
        base: The revision before.
        head: The revision after.
        basis: "parameters" if the error has the spread over seeds in it, else "weights".
        basis_reason: What the verdict is about, in words.
        notes: Sentences on what a reader has to know to believe it.
        verdicts: Rows of `workflow.verdicts.verdicts`.
        changes: As `workflow.changes.changes` returns them.
        values: As `workflow.changes.values` returns them.
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


def main(arguments: Sequence[str]) -> int:
    """Prints the comparison.

    Returns:
        0; with `--fail-if-worse` 1 if the NLL of binarised validation images is worse.

    Raises:
        StageError: If the two cannot be compared or, with `--fail-if-worse`, if the results of one are not its own.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.compare", allow_abbrev=False)
    parser.add_argument("base", metavar="BASE", help="commit, branch, tag, DVC experiment or workspace")
    parser.add_argument("head", metavar="HEAD", nargs="?", default=WORKSPACE, help="likewise; workspace if left out")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--fail-if-worse", action="store_true", help="exit with 1 if HEAD is worse")
    options = parser.parse_args(arguments)
    base, head = resolve(options.base), resolve(options.head)
    comparison = compare(base, head)
    print(FORMATS[options.format](comparison.as_dict()))
    if options.fail_if_worse:
        _refuse_untrue(base, head)
    return IS_WORSE if options.fail_if_worse and comparison.primary["verdict"] == WORSE else 0


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


def _refuse_untrue(*revisions: Revision) -> None:
    for revision in revisions:
        untrue = contradictions(revision)
        if untrue:
            raise StageError(
                f"the results of {revision.label} are not its own, so nothing can be passed or failed by them: "
                f"{'; '.join(untrue)}; run `dvc repro` there and commit dvc.lock and metrics/"
            )


if __name__ == "__main__":
    end("compare", lambda: main(sys.argv[1:]), refused=FAILED)
