"""What an audit found, as one verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.audit.findings import Finding
from workflow.audit.outcomes import DIFFERS, IDENTICAL, WITHIN, Outcome
from workflow.audit.recorded import Recorded
from workflow.audit.rerun import Run

#: The verdict of the checks that need no training, where they found nothing.
CONSISTENT = "consistent"


@dataclass(frozen=True)
class Audit:
    """Everything that an audit tells.

    Attributes:
        label: Of the revision.
        commit: Full id of the commit; empty for the workspace.
        recorded: The run of a preset or of another seed that was asked for, if any.
        quick: Whether only what needs no training was asked for.
        started: UTC, ISO 8601.
        finished: Likewise.
        findings: What is not as it has to be.
        looked_at: Places by check.
        outcomes: The verdict on each output, if the pipeline was run anew.
        run: How it was run, or None.
        not_proved: Numbers in git that this audit does not prove, by path: the command that does, or why nothing can.
        subjects: sha256 of each file that the commit's pipeline writes, as the commit states it, by path; of a recorded
            run that of the record.
        materials: sha256 of the lock of the environment and of the published arrays, by name.
        machine: As `workflow.audit.machine.machine` tells.
        packages: As `workflow.audit.machine.packages` tells.
        classes: The class of processor of the commit's results, and of those made anew.
    """

    label: str
    commit: str
    recorded: Recorded | None
    quick: bool
    started: str
    finished: str
    findings: Sequence[Finding]
    looked_at: Mapping[str, Sequence[str]]
    outcomes: Sequence[Outcome]
    run: Run | None
    not_proved: Mapping[str, str]
    subjects: Mapping[str, str]
    materials: Mapping[str, str]
    machine: Mapping[str, Any]
    packages: Mapping[str, Mapping[str, str]]
    classes: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """`DIFFERS` if anything is not as it has to be, else `WITHIN`, `IDENTICAL`, or `CONSISTENT` without a run."""
        found = {outcome.verdict for outcome in self.outcomes}
        if self.findings or DIFFERS in found:
            return DIFFERS
        if self.run is None:
            return CONSISTENT
        return WITHIN if WITHIN in found else IDENTICAL

    def status(self, *, strict: bool) -> int:
        """Exit status: 1 if it differs, or strictly if it is not identical; else 0."""
        return int(self.verdict == DIFFERS or (strict and self.verdict == WITHIN))

    @property
    def sentences(self) -> list[str]:
        """What a person has to know, worst first."""
        differing = [outcome for outcome in self.outcomes if outcome.verdict == DIFFERS]
        within = [outcome for outcome in self.outcomes if outcome.verdict == WITHIN]
        return [
            *map(str, self.findings),
            *(f"{outcome.path} differs: {outcome.words} (run anew)" for outcome in differing),
            *(f"{outcome.path} is within tolerance: {outcome.words}" for outcome in within),
        ]
