"""What `make` ends with: the test metrics, how they differ from the commit's, and where the figures are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.command import end
from workflow.compare.tolerance import flatten, held_against
from workflow.history.data_sets import require_same_images
from workflow.history.lock import require_finished
from workflow.history.revisions import WORKSPACE, changed, resolve

EVALUATION = Path("metrics/evaluation.json")
PROCESSOR = Path("metrics/processor.json")
FIGURES = Path("metrics/figures")

#: What the results follow from. While these equal the commit's, the results should, too.
CAUSES = ("params.yaml", "dvc.yaml", "numeric.txt", "stages", "vae", "pipeline")
RESULTS = ("dvc.lock", "metrics")
RESTORE = "git restore dvc.lock metrics"


def main() -> int:
    """Prints the summary.

    Returns:
        0; 1 if the same code, parameters and data gave metrics beyond the tolerance.

    Raises:
        StageError: If a training has not ended.
    """
    require_finished(resolve(WORKSPACE))
    ours = EVALUATION.read_bytes()
    try:
        committed = resolve("HEAD").require(EVALUATION)
        require_same_images(resolve("HEAD"), resolve(WORKSPACE))
    except StageError as error:
        committed, verdict, status = b"null", f"No committed results to compare with: {error}", 0
    else:
        verdict, status = _verdict(ours, committed)
    print(table(json.loads(ours), json.loads(committed)))
    print(f"\nFigures: {FIGURES}/ (learning_curves.png, reconstructions.png, latent_plane.png, ...)")
    print(verdict)
    return status


def table(ours: Mapping[str, Any], committed: Mapping[str, Any] | None) -> str:
    """The means of the test split with their standard errors over images, beside the commit's.

    Args:
        ours: The workspace's `metrics/evaluation.json`.
        committed: The commit's, or None.
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


def _verdict(ours: bytes, committed: bytes) -> tuple[str, int]:
    differing = changed(*RESULTS)
    if not differing:
        return "The results are the commit's, byte for byte.", 0
    if causes := changed(*CAUSES):
        return (
            f"Changed since the commit: {', '.join(causes)}. What that did: `dvc metrics diff`, `dvc plots diff`.",
            0,
        )
    if ours == committed:
        return (
            f"{EVALUATION} is the commit's, byte for byte; {', '.join(differing[:2])}{', ...' * (len(differing) > 2)} "
            f"differ: `git diff --stat`. `{RESTORE}` brings the committed files back.",
            0,
        )
    words, beyond = held_against({str(EVALUATION): ours}, {str(EVALUATION): committed})
    return (
        f"The results differ in bytes from the commit's and {'DO NOT agree' if beyond else 'agree'} within tolerance. "
        f"The largest difference: {words}.\n{_classes()}\n`{RESTORE}` brings the committed files back.",
        int(beyond),
    )


def _classes() -> str:
    contents = (PROCESSOR.read_bytes(), resolve("HEAD").read(PROCESSOR))
    here, there = (json.loads(content or "{}") for content in contents)
    if here == there:
        return f"Both were made on the processor class {_words(here)}."
    return f"Processor class here: {_words(here)}; of the commit: {_words(there)}."


def _words(processor: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in processor.items())


if __name__ == "__main__":
    end("summary", main)
