"""What `make` ends with: the test metrics, how they differ from the commit's, and where the figures are."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.command import end
from workflow.compare.tolerance import flatten, held_against
from workflow.history.revisions import changed, resolve

EVALUATION = Path("metrics/evaluation.json")
PROCESSOR = Path("metrics/processor.json")
FIGURES = Path("metrics/figures")

#: What the results follow from; where it equals the commit's, the results should too.
CAUSES = ("params.yaml", "dvc.yaml", "numeric.txt", "stages", "vae", "pipeline")
RESULTS = ("dvc.lock", "metrics")
RESTORE = "git restore dvc.lock metrics"


def main() -> int:
    """Prints the summary.

    Returns:
        0; 1 if the same code, parameters and data gave metrics beyond the tolerance.
    """
    ours = json.loads(EVALUATION.read_text(encoding="utf-8"))
    committed = _committed(EVALUATION)
    print(table(ours, json.loads(committed) if committed else None))
    print(f"\nFigures: {FIGURES}/ (learning_curves.png, reconstructions.png, latent_plane.png, ...)")
    verdict, status = _verdict(committed)
    print(verdict)
    return status


def table(ours: Mapping[str, Any], committed: Mapping[str, Any] | None) -> str:
    """The means of the test split with their standard errors over images, beside the commit's.

    Args:
        ours: What the workspace's evaluation found.
        committed: What the commit's did, or None.
    """
    test, before = dict(flatten(ours["test"])), dict(flatten((committed or {}).get("test", {})))
    lines = [f"{'test metric, nats per image':<34}{'this run':>20}{'commit':>12}{'difference':>12}"]
    for name, value in test.items():
        if not name.endswith("_nats"):
            continue
        ours_text = f"{value:.2f} +- {test[f'{name}_se']:.2f}"
        theirs = f"{before[name]:>12.2f}{value - before[name]:>+12.3f}" if name in before else f"{'none':>12}"
        lines.append(f"{name:<34}{ours_text:>20}{theirs}")
    return "\n".join(lines)


def _verdict(committed: bytes | None) -> tuple[str, int]:
    if committed is None:
        return f"No committed results to compare with ({_git_refusal()}).", 0
    if not changed(*RESULTS):
        return "The results are the commit's, byte for byte.", 0
    if causes := changed(*CAUSES):
        return (
            f"Changed since the commit: {', '.join(causes)}. What that did: `dvc metrics diff`, `dvc plots diff`.",
            0,
        )
    words, beyond = held_against({str(EVALUATION): EVALUATION.read_bytes()}, {str(EVALUATION): committed})
    return (
        f"The results differ in bytes from the commit's and {'DO NOT agree' if beyond else 'agree'} within tolerance. "
        f"Most by it differs {words}.\n{_classes()}\n`{RESTORE}` brings the committed files back.",
        int(beyond),
    )


def _classes() -> str:
    here, there = (json.loads(content or "{}") for content in (PROCESSOR.read_bytes(), _committed(PROCESSOR)))
    if here == there:
        return f"Both were made on the processor class {_words(here)}."
    return f"Processor class here: {_words(here)}; of the commit: {_words(there)}."


def _words(processor: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in processor.items())


def _committed(path: Path) -> bytes | None:
    """Content of a file in the commit, or None if there is no such file or no commit."""
    try:
        return resolve("HEAD").read(path)
    except StageError:
        return None


def _git_refusal() -> str:
    """Why git does not show the commit's results, in its own words."""
    command = ["git", "cat-file", "-e", f"HEAD:./{EVALUATION}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return (said.strip().splitlines() or ["git does not say why"])[0]


if __name__ == "__main__":
    end("summary", main)
