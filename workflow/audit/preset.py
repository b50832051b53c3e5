"""Audits of presets: what a preset's record says its full run found, against a run anew."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.audit.checkout import Checkout
from workflow.audit.outcomes import DIFFERS, IDENTICAL, WITHIN, Outcome
from workflow.presets import FOLDER
from workflow.revisions import Revision
from workflow.tolerance import held_against

#: Parts of a record, and the files of a run that they are.
_PARTS = {"metrics": "metrics/evaluation.json", "training": "metrics/train.json"}

#: Puts a preset's parameters in place by the commit's own code, or says why its record is not of that code.
_PUT = """
import sys
from pathlib import Path
from workflow.presets import stale_presets, write_params
sys.exit(stale_presets().get(sys.argv[1]) or write_params(sys.argv[1], Path("params.yaml")))
"""


def require_recorded(revision: Revision, preset: str) -> None:
    """Proves that a revision has the preset and a record of its run.

    Raises:
        StageError: If it has not.
    """
    for path in (FOLDER / f"{preset}.yaml", FOLDER / f"{preset}.json"):
        if revision.read(path) is None:
            names = sorted(Path(name).stem for name in revision.hashes(str(FOLDER)) if name.endswith(".json"))
            raise StageError(
                f"PRESET = {preset!r}: {revision.label} has no {path}; expected one with a record: {', '.join(names)}"
            )


def put(preset: str, place: Checkout, programs: Path) -> None:
    """Puts the preset's parameters into the checkout.

    Raises:
        StageError: If the record is of other code, parameters or versions than the commit's.
    """
    done = subprocess.run(
        ["python", "-c", _PUT, preset],
        cwd=place.project,
        env=place.environment(programs),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StageError(
            f"preset {preset} is stale in this commit: {done.stderr.strip()}; audit the commit that made it"
        )


def preset_outcomes(revision: Revision, made: Revision, preset: str) -> list[Outcome]:
    """A verdict on each part of the preset's record."""
    return list(_outcomes(revision.read_json(FOLDER / f"{preset}.json"), made, preset))


def _outcomes(record: dict[str, Any], made: Revision, preset: str) -> Iterator[Outcome]:
    here = made.read_json("metrics/processor.json")
    same_class = all(here[name] == record.get(name) for name in ("instruction_set", "caches", "intra_op"))
    for part, path in _PARTS.items():
        ours, theirs = _canonical(made.read_json(path)), _canonical(record[part])
        name = f"{FOLDER}/{preset}.json: {part}"
        if ours == theirs:
            yield Outcome(name, _md5(theirs), _md5(ours), IDENTICAL, "")
        else:
            words, beyond = held_against({path: ours}, {path: theirs})
            verdict = DIFFERS if beyond or same_class else WITHIN
            yield Outcome(name, _md5(theirs), _md5(ours), verdict, words)


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
