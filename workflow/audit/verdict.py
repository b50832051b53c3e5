"""What an audit found, as one verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.audit.findings import Finding
from workflow.audit.outcomes import DIFFERS, IDENTICAL, WITHIN, Outcome
from workflow.audit.recorded import Recorded
from workflow.audit.rerun import Run
from workflow.history.revisions import Revision

#: The verdict of the checks that need no training, where they found nothing.
CONSISTENT = "consistent"


@dataclass(frozen=True)
class Audit:
    """Everything that an audit tells."""

    revision: Revision
    recorded: Recorded | None  # the run of a preset or of another seed that was asked for, if any
    quick: bool  # whether only what needs no training was asked for
    started: str  # UTC, ISO 8601; of an audit that was resumed, of the first attempt
    finished: str  # likewise
    findings: Sequence[Finding]
    looked_at: Mapping[str, Sequence[str]]  # places by check
    run: Run | None  # how the pipeline was run anew, and what came of it; None if it was not
    not_proved: Mapping[str, str]  # numbers in git that it does not prove, by path: what does, or why nothing can
    machine: Mapping[str, Any]  # as workflow.audit.machine tells
    packages: Mapping[str, Mapping[str, str]]  # likewise

    @property
    def verdict(self) -> str:
        """`DIFFERS` if anything is wrong, else `WITHIN`, `IDENTICAL`, or `CONSISTENT` without a run."""
        if self.findings or self.judged(DIFFERS):
            return DIFFERS
        if self.run is None:
            return CONSISTENT
        return WITHIN if self.judged(WITHIN) else IDENTICAL

    def status(self, *, strict: bool) -> int:
        """Exit status: 1 if it differs, or strictly if it is not identical; else 0."""
        return int(self.verdict == DIFFERS or (strict and self.verdict == WITHIN))

    def judged(self, verdict: str) -> list[Outcome]:
        """The outputs of this verdict, if the pipeline was run anew."""
        return [outcome for outcome in (self.run.outcomes if self.run else []) if outcome.verdict == verdict]

    def found_by(self, check: str) -> list[str]:
        """What a check found wrong: files, outputs or parameters, each once."""
        found = [finding.subject for finding in self.findings if finding.check == check]
        if check == "rerun":
            found += [outcome.path for outcome in self.judged(DIFFERS)]
        return list(dict.fromkeys(found))

    @property
    def sentences(self) -> list[str]:
        """What a person has to know, worst first."""
        return [
            *map(str, self.findings),
            *(f"{outcome.path} differs: {outcome.words} (run anew)" for outcome in self.judged(DIFFERS)),
            *(f"{outcome.path} is within tolerance: {outcome.words}" for outcome in self.judged(WITHIN)),
        ]
