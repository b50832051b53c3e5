"""`make quick [NAME=preset]`: every stage on the real data with cut-down parameters, in a temporary copy."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.params.section import PARAMS_FILE
from workflow.command import end
from workflow.history.lock import LOCK
from workflow.history.presets import read_preset, write_params
from workflow.history.working_copy import bring_source, working_copy
from workflow.summary import EVALUATION, FIGURES, table

PRESET = "quick"
KEPT = Path("runs/quick")

#: Sections whose values say how large the model and its training are.
_CUT = ("model", "train", "evaluate")

#: Values of parameters by section and key.
Sections = Mapping[str, Mapping[str, Any]]


def main(arguments: Sequence[str]) -> int:
    """Runs the pipeline and keeps its metrics and figures.

    Args:
        arguments: The name of a preset that is cut down, if any.

    Returns:
        Exit status of `dvc repro`.

    Raises:
        StageError: If there is no such preset.
    """
    changes = cut_down(read_preset(arguments[0])) if arguments else [read_preset(PRESET)]
    with working_copy() as copy:
        write_params(copy / PARAMS_FILE, *changes)
        bring_source(Path(), copy)
        (copy / LOCK).unlink(missing_ok=True)  # DVC writes it anew after each stage: a short one takes less time
        status = subprocess.run(["dvc", "repro"], cwd=copy, check=False).returncode
        if status:
            return status
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(copy / "metrics", KEPT)
    print(table(json.loads((KEPT / EVALUATION.name).read_text(encoding="utf-8")), None))
    presets = " and ".join(f"presets/{name}.yaml" for name in (PRESET, *arguments))
    print(f"\nCut-down parameters ({presets}): these figures only show that every stage works.")
    print(f"Figures: {KEPT / FIGURES.name}/")
    return 0


def cut_down(preset: Sections) -> list[Sections]:
    """Changes of parameters, the last of which count most.

    Where both have a value, that of `quick` counts in model, train and evaluate, and that of the preset elsewhere and
    as `train.batch_size`: it knows how many images there are.
    """
    counts = {section: values for section, values in preset.items() if section not in _CUT}
    batch = {key: value for key, value in preset.get("train", {}).items() if key == "batch_size"}
    return [preset, read_preset(PRESET), counts, {"train": batch}]


if __name__ == "__main__":
    end("quick", lambda: main(sys.argv[1:]))
