"""Retraining by a CI: `python -m workflow.retrain BASE --output FOLDER` in the checkout of a branch.

A stale dvc.lock triggers `dvc repro`. Then the results are held against BASE's, and the folder has all that people want
of it, also when the exit status is not 0. On main, where nothing may be stale, `.ci/run` proves that.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import StageError
from pipeline.files import atomic
from workflow.compare import compare
from workflow.lock import LOCK, contradictions
from workflow.report.page import render
from workflow.revisions import WORKSPACE, resolve
from workflow.summary import EVALUATION
from workflow.tables import FORMATS, sentence
from workflow.tolerance import TOLERANCE_NATS, largest_difference
from workflow.verdicts import WORSE

#: Exit statuses: an untrue or a worse branch, and one that could not be judged.
REFUSED, FAILED = 1, 2

UP_TO_DATE = "Data and pipelines are up to date."
RESULTS = (LOCK, "metrics")


@dataclass
class Findings:
    """What a person reads first, and whether any of it is a reason to refuse the branch."""

    sentences: list[str] = field(default_factory=list)
    refused: bool = False

    def refuse(self, sentence: str) -> None:
        """Adds a sentence that is a reason."""
        self.sentences.append(sentence)
        self.refused = True


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
    try:
        findings = judge(options.base, options.output, again=options.again)
    except StageError as error:
        print(f"retrain: {error}", file=sys.stderr)
        return FAILED
    for said in findings.sentences:
        print(f"retrain: {said}")
    return REFUSED if findings.refused else 0


def judge(base_name: str, output: Path, *, again: bool) -> Findings:
    """Retrains, compares, and writes the folder.

    Raises:
        StageError: If a revision or its results are missing, or a stage fails.
    """
    base, head = resolve(base_name), resolve(WORKSPACE)
    findings = Findings()
    edited = [said for said in contradictions(head) if said.startswith("metrics/")]
    for said in edited:
        findings.refuse(f"A committed result is not its pipeline's: {said}.")
    stale = stale_stages()
    if stale or again:
        _retrain(findings, stale, again=again)
    else:
        findings.sentences.append(f"{LOCK} belongs to the code and the parameters: nothing to retrain.")
    comparison = compare(base, head).as_dict()
    findings.sentences.append(sentence(comparison))
    findings.refused |= comparison["verdict"] == WORSE
    with atomic(output) as partial:
        partial.mkdir()
        lines = "\n\n".join(findings.sentences)
        _write(partial / "verdict.md", f"{lines}\n\n{FORMATS['md'](comparison)}\n")
        _write(partial / "verdict.json", json.dumps({"findings": findings.sentences, **comparison}, indent=2) + "\n")
        _write(partial / "report.html", render(head, base))
        patch = results_patch()
        if patch:
            (partial / "results.patch").write_bytes(patch)
    return findings


def stale_stages() -> list[str]:
    """Stages that `dvc repro` would run; data need not be there.

    Raises:
        StageError: If DVC cannot tell.
    """
    done = subprocess.run(["dvc", "repro", "--dry", "--allow-missing"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc repro --dry` failed: {done.stderr.strip()}")
    if done.stdout.strip().endswith(UP_TO_DATE):
        return []
    return re.findall(r"^Running stage '(.*)':$", done.stdout, flags=re.MULTILINE)


def _retrain(findings: Findings, stale: Sequence[str], *, again: bool) -> None:
    """Runs the pipeline; where nothing was stale its metrics have to be the committed ones."""
    committed = json.loads(EVALUATION.read_text(encoding="utf-8")) if EVALUATION.is_file() else None
    options = ["--force", "--no-run-cache"] if again else []
    if subprocess.run(["dvc", "repro", *options], check=False).returncode:
        raise StageError("`dvc repro` failed, its message stands above")
    if stale:
        findings.sentences.append(
            f"{LOCK} was stale, {', '.join(stale)} ran again: take the results with `git apply results.patch`."
        )
        return
    found = json.loads(EVALUATION.read_text(encoding="utf-8"))
    difference = largest_difference(found, committed) if committed else 0.0
    told = f"Every stage ran again; a metric is at most {difference:.3g} nats from the committed one"
    if difference > TOLERANCE_NATS:
        findings.refuse(f"{told}, beyond the tolerance of {TOLERANCE_NATS:g} between processor classes.")
    else:
        findings.sentences.append(f"{told} (tolerance between processor classes: {TOLERANCE_NATS:g}).")


def results_patch() -> bytes:
    """What `git apply` needs to bring the committed results to those of the workspace; empty if they are the same."""
    index = subprocess.run(["git", "rev-parse", "--git-path", "index"], capture_output=True, text=True, check=True)
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        scratch = Path(folder) / "index"  # so that the user's own stays as it is
        shutil.copyfile(index.stdout.strip(), scratch)
        environment = {**os.environ, "GIT_INDEX_FILE": str(scratch)}
        subprocess.run(["git", "add", "--all", "--", *RESULTS], env=environment, check=True)
        command = ["git", "diff", "--cached", "--binary", "--no-ext-diff", "HEAD", "--", *RESULTS]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
