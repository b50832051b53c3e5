"""Retraining by a CI: `python -m workflow.retrain BASE --output FOLDER` in the checkout of a branch.

A stale dvc.lock triggers `dvc repro`. Then the results are compared with BASE's, and written to the folder whatever the
exit status. On main nothing may be stale, which `.ci/run` proves.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import StageError
from pipeline.files import atomic
from workflow.command import end
from workflow.compare.comparison import compare
from workflow.compare.formats import FORMATS, sentence
from workflow.compare.tolerance import held_against
from workflow.compare.verdicts import WORSE
from workflow.history.lock import LOCK, contradictions
from workflow.history.presets import STAGES
from workflow.history.revisions import WORKSPACE, git, resolve
from workflow.history.staleness import stale_stages
from workflow.report.page import render
from workflow.summary import EVALUATION, RESULTS

#: Exit statuses: an untrue or a worse branch, and one that could not be judged.
REFUSED, FAILED = 1, 2


@dataclass
class Findings:
    """What a run has found so far.

    Attributes:
        reasons: Sentences, each of which refuses the branch.
        remarks: Sentences that do not.
        comparison: `Comparison.as_dict()`, once the two are compared.
        page: The page with both side by side, once they are.
        patch: The new results, once there are any.
        failure: Why the branch could not be judged.
    """

    reasons: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    comparison: Mapping[str, Any] | None = None
    page: str = ""
    patch: bytes = b""
    failure: str = ""

    @property
    def sentences(self) -> list[str]:
        """All sentences, what counts most first."""
        failed = [f"Not judged: {self.failure}"] if self.failure else []
        return [*failed, *self.reasons, *self.remarks]

    @property
    def status(self) -> int:
        """Exit status of the run."""
        if self.failure:
            return FAILED
        return REFUSED if self.reasons else 0


def main(arguments: Sequence[str]) -> int:
    """Retrains where that is needed, and writes verdict.md, verdict.json, report.html and results.patch.

    Returns:
        0; 1 if the branch is worse than its base beyond the error, or its committed results are not what its own
        pipeline gives; 2 with a sentence if that could not be found out.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.retrain", allow_abbrev=False)
    parser.add_argument("base", metavar="BASE", help="revision that the branch is held against")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for what was found")
    parser.add_argument("--again", action="store_true", help="run every stage again, though nothing is stale")
    options = parser.parse_args(arguments)
    findings = Findings()
    try:
        judge(findings, options.base, again=options.again)
    except StageError as error:
        findings.failure = str(error)
    write(findings, options.output)
    for said in findings.sentences:
        print(f"retrain: {said}", file=sys.stderr if findings.failure else sys.stdout)
    return findings.status


def judge(findings: Findings, base_name: str, *, again: bool) -> None:
    """Retrains and compares; what was found before a failure stays found.

    Raises:
        StageError: If a revision or its results are missing, or a stage fails.
    """
    base, head = resolve(base_name), resolve(WORKSPACE)
    stale = stale_stages()
    edited = [said for said in contradictions(head) if said.startswith("metrics/")]
    findings.reasons += [f"A committed result is not its pipeline's: {said}." for said in edited]
    if stale or again:
        _retrain(findings, stale, again=again)
    else:
        findings.remarks.append(f"{LOCK} belongs to the code and the parameters: nothing to retrain.")
    findings.patch = results_patch()
    comparison = compare(base, head).as_dict()
    said = findings.reasons if comparison["verdict"] == WORSE else findings.remarks
    said.insert(0, sentence(comparison))
    findings.comparison, findings.page = comparison, render(head, base)


def _retrain(findings: Findings, stale: Sequence[str], *, again: bool) -> None:
    """Runs the pipeline. Metrics have to be the committed ones, unless what they follow from has changed."""
    options = ["--force", "--no-run-cache"] if again else []
    if subprocess.run(["dvc", "repro", *options], check=False).returncode:
        raise StageError("`dvc repro` failed; the log has its message")
    if stale:
        findings.remarks.append(
            f"{LOCK} was stale for {', '.join(stale)}, so `dvc repro` ran: `git apply results.patch` takes the results."
        )
    committed = resolve("HEAD").read(EVALUATION)
    if committed is None or set(stale) & set(STAGES):
        return
    words, beyond = held_against({str(EVALUATION): EVALUATION.read_bytes()}, {str(EVALUATION): committed})
    if beyond:
        findings.reasons.append(
            f"The run gave other results than the committed ones, beyond what is tolerated between processor classes, "
            f"though nothing that they follow from has changed: {words}."
        )
    else:
        findings.remarks.append(f"The run gave the committed results within tolerance; most differs {words}.")


def results_patch() -> bytes:
    """The patch from the committed results to those of the workspace; empty if they are the same."""
    index = git(Path(), "rev-parse", "--git-path", "index").removesuffix("\n")
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        scratch = Path(folder) / "index"  # so that the user's own stays as it is
        shutil.copyfile(index, scratch)
        git(Path(), "add", "--all", "--", *RESULTS, GIT_INDEX_FILE=str(scratch))
        form = ("--cached", "--binary", "--relative", "--no-ext-diff", "--unified=3")
        return os.fsencode(git(Path(), "diff", *form, "HEAD", "--", *RESULTS, GIT_INDEX_FILE=str(scratch)))


def write(findings: Findings, output: Path) -> None:
    """Writes the folder anew: the verdict always, the page and the patch if there are any."""
    comparison = findings.comparison or {}
    tables = f"\n{FORMATS['md'](comparison)}\n" if comparison else ""
    facts = json.dumps({"status": findings.status, "findings": findings.sentences, **comparison}, indent=2)
    with atomic(output) as partial:
        partial.mkdir()
        lines = "\n\n".join(findings.sentences)
        (partial / "verdict.md").write_text(f"{lines}\n{tables}", encoding="utf-8")
        (partial / "verdict.json").write_text(f"{facts}\n", encoding="utf-8")
        if findings.page:
            (partial / "report.html").write_text(findings.page, encoding="utf-8")
        if findings.patch:
            (partial / "results.patch").write_bytes(findings.patch)


if __name__ == "__main__":
    end("retrain", lambda: main(sys.argv[1:]))
