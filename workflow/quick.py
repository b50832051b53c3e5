"""`make quick`: every stage on the real data with cut-down parameters, in a temporary copy."""

import json
import shutil
import subprocess
from pathlib import Path

from pipeline.params.section import PARAMS_FILE
from workflow.command import end
from workflow.history.lock import LOCK
from workflow.history.presets import write_params
from workflow.history.working_copy import working_copy
from workflow.summary import EVALUATION, FIGURES, table

PRESET = "quick"
KEPT = Path("runs/quick")


def main() -> int:
    """Runs the pipeline and keeps its metrics and figures.

    Returns:
        Exit status of `dvc repro`.
    """
    with working_copy() as copy:
        write_params(PRESET, copy / PARAMS_FILE)
        (copy / LOCK).unlink(missing_ok=True)  # DVC writes it anew after each stage: a short one takes less time
        status = subprocess.run(["dvc", "repro"], cwd=copy, check=False).returncode
        if status:
            return status
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(copy / "metrics", KEPT)
    print(table(json.loads((KEPT / EVALUATION.name).read_text(encoding="utf-8")), None))
    print(f"\nCut-down parameters (presets/{PRESET}.yaml): these figures only show that every stage works.")
    print(f"Figures: {KEPT / FIGURES.name}/")
    return 0


if __name__ == "__main__":
    end("quick", main)
