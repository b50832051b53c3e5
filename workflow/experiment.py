"""`make experiment NAME=preset`: runs a preset as the DVC experiment of that name and records what it found."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline.params.section import PARAMS_FILE
from pipeline.schedule import in_words
from workflow.command import end
from workflow.history.presets import DATA_SECTION, METRICS, read_preset, record_run, recorded, stale_presets
from workflow.summary import table


def main(arguments: Sequence[str]) -> int:
    """Says how long its recorded run took, and runs `dvc exp run` with its values; what follows the name goes to it.

    Returns:
        Exit status: 0, or that of DVC.

    Raises:
        StageError: If there is no such preset.
    """
    name, *options = arguments or [""]
    settings = [
        part
        for setting in overrides(read_preset(name), YAML(typ="safe").load(PARAMS_FILE))
        for part in ("--set-param", setting)
    ]
    print(expected(name, recorded(name)), flush=True)
    done = subprocess.run(["dvc", "exp", "run", "--name", name, *settings, *options], check=False)
    if done.returncode:
        return done.returncode
    path = record_run(name)
    print(table(json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8")), None))
    print(f"\nRecorded in {path}. Beside the others: dvc exp show --only-changed")
    print("Back to the commit: git restore params.yaml dvc.lock metrics && git clean -fdq metrics && dvc checkout")
    return 0


def expected(name: str, record: Mapping[str, Any] | None) -> str:
    """How long training and evaluating took in the recorded run of a preset, and where.

    Args:
        name: Of the preset.
        record: What was recorded of it, or None.
    """
    if record is None:
        return f"{name}: how long it takes is not known, as no run of it is recorded"
    train, evaluate = record["train_seconds"], record["evaluate_seconds"]
    return (
        f"{name}: stage train took {in_words(train)} and stage evaluate {in_words(evaluate)} in the recorded run"
        f"{', of earlier code' if name in stale_presets() else ''} (processor {record['processor']}, threads: "
        f"{record['intra_op']}); other stages come on top. If you stop it, the same command goes on from there"
    )


def overrides(sections: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What `dvc exp run --set-param` reads: `++section.key=value`, and `~section.key` of one that another data set has.

    Args:
        sections: The preset's.
        present: Those of `params.yaml`.
    """
    for section, values in sections.items():
        for key, value in values.items():
            yield f"++{section}.{key}={json.dumps(value)}"
    if DATA_SECTION in sections:
        for key in present.get(DATA_SECTION, {}).keys() - sections[DATA_SECTION].keys():
            yield f"~{DATA_SECTION}.{key}"


if __name__ == "__main__":
    end("experiment", lambda: main(sys.argv[1:]))
