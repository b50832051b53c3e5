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
        started: UTC, ISO 8601; of an audit that was resumed, of the first attempt.
        finished: Likewise.
        findings: What is wrong.
        looked_at: Places by check.
        outcomes: The verdict on each output, if the pipeline was run anew.
        run: How it was run, or None.
        not_proved: Numbers in git that this audit does not prove, by path: the command that does, or why nothing can.
        subjects: sha256 by path of each file that the commit's pipeline writes, as the commit states it; if a recorded
            run was asked for, of its record alone.
        materials: sha256 of the lock of the environment and of the published arrays, by name.
        machine: As `workflow.audit.machine.machine` tells.
        packages: Likewise.
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
        """The outputs of this verdict."""
        return [outcome for outcome in self.outcomes if outcome.verdict == verdict]

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
