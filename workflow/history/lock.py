"""What a revision's dvc.lock says, and whether the revision's own files agree with it; needs neither data nor DVC."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.code import CODE_FILE, Reader, code_digests
from pipeline.errors import StageError
from workflow.history.revisions import Revision

LOCK = "dvc.lock"
PARAMS = "params.yaml"
DATA = "data/"
WEIGHTS = "data/model"
HISTORY = "metrics/history.csv"

#: What a training ends with, and what it says that it wrote, once it has ended.
_TRAINING, _RECORD = "metrics/train.json", "metrics/provenance/train.json"


def stages_of(revision: Revision) -> Mapping[str, Any]:
    """The stages of a revision's dvc.lock, by name."""
    return revision.read_yaml(LOCK)["stages"]


def outputs(revision: Revision) -> dict[str, str]:
    """Maps each output path in dvc.lock to its md5. A folder's md5 is that of its listing, and ends in `.dir`."""
    return {out["path"]: out["md5"] for stage in stages_of(revision).values() for out in stage.get("outs", [])}


def added(revision: Revision, path: str) -> str | None:
    """md5 of what `dvc add` keeps of a path that git ignores, as PATH.dvc states it; None if that does not exist."""
    pointer = f"{path}.dvc"
    if revision.read(pointer) is None:
        return None
    return next((out["md5"] for out in revision.read_yaml(pointer)["outs"] if out["path"] == Path(path).name), None)


def contradictions(revision: Revision) -> list[str]:
    """Lists the ways in which a revision's files contradict its dvc.lock. Results are its own if the list is empty.

    Looks at code, parameters and the results that git tracks. What DVC alone tracks need not be here.
    """
    stages = stages_of(revision)
    changed = of_other_code(stages, revision.read_yaml(PARAMS), revision.read)
    code = (f"the code of {name}: not what it ran with" for name in changed)
    return sorted({*_params(revision, stages), *code, *_files(revision, stages)})


def unfinished(revision: Revision) -> list[str]:
    """Says that a revision's training has not ended: nothing states its curve, or DVC has removed what it made."""
    content, locked = revision.read(HISTORY), _locked(revision)
    if content is None:  # DVC removes all that a stage made before it runs
        unended = HISTORY in locked and revision.read(_TRAINING) is None
        fault = f"{revision.label} has neither {HISTORY} nor {_TRAINING}: its training has not ended, or lost them"
    else:
        unended = locked.get(HISTORY) != md5_hex(content) and _told(revision) != hashlib.sha256(content).hexdigest()
        fault = (
            f"{HISTORY} of {revision.label} is stated neither by {LOCK} nor by {_RECORD}: it is the curve of a "
            f"training that has not ended, or was changed"
        )
    way = f"`dvc repro` ends the training, and `git restore {LOCK} metrics && dvc checkout` brings the last committed "
    return [f"{fault}; {way}results back"] if unended else []


def _locked(revision: Revision) -> dict[str, str]:
    """What dvc.lock states of each output; empty if there is none."""
    there = revision.read(LOCK) is not None and (revision.read_yaml(LOCK) or {}).get("stages")
    return outputs(revision) if there else {}


def _told(revision: Revision) -> str | None:
    """sha256 of the curve by the record of the training that ended; None if that cannot be read."""
    try:
        told: str = json.loads(revision.read(_RECORD) or b"")[0]["outputs"][HISTORY]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return told


def require_finished(*revisions: Revision) -> None:
    """Proves that no curve of a training that has not ended is taken for a result.

    Raises:
        StageError: If there is one, naming it.
    """
    if found := [words for revision in revisions for words in unfinished(revision)]:
        raise StageError("; ".join(found))


def of_other_code(stages: Mapping[str, Any], params: Mapping[str, Any], read: Reader) -> list[str]:
    """Lists the stages that ran with other code than the files have. `metrics/code.json` is not read: it may lie.

    Args:
        stages: Stages of dvc.lock. Those of older commits name each source among their deps, and are not listed.
        params: The sections of the parameters.
        read: Reads the files.
    """
    file = str(CODE_FILE)
    ran = {name: stage["params"][file][name] for name, stage in stages.items() if file in stage.get("params", {})}
    found = code_digests(ran, params, read) if ran else {}
    return [name for name in ran if found[name] != ran[name]]


def _params(revision: Revision, stages: Mapping[str, Any]) -> Iterator[str]:
    """Names each parameter that changed once, with the stages that take it."""
    stated = revision.read_yaml(PARAMS)
    names: dict[str, list[str]] = {}
    for name, stage in stages.items():
        for section, values in stage.get("params", {}).get(PARAMS, {}).items():
            if stated.get(section) != values:
                names.setdefault(f"{section}{_first_change(values, stated.get(section))}", []).append(name)
    for changed, takers in names.items():
        yield f"{PARAMS}: {changed}, and {', '.join(takers)} did not run with that"


def _first_change(locked: Any, stated: Any) -> str:
    """`.key is VALUE, not VALUE` of the first key of a section that differs."""
    if not isinstance(locked, Mapping) or not isinstance(stated, Mapping):
        return f" is {stated!r}, in {LOCK} {locked!r}"
    keys = [key for key in {**locked, **stated} if locked.get(key) != stated.get(key)]
    return f".{keys[0]} is {stated.get(keys[0])!r}, in {LOCK} {locked.get(keys[0])!r}"


def _files(revision: Revision, stages: Mapping[str, Any]) -> Iterator[str]:
    """Names inputs and results whose md5 is another one. Below data/ git tracks nothing."""
    for name, stage in stages.items():
        source = stage.get("params", {}).get(PARAMS, {}).get("data", {}).get("source")
        for kind, verb in (("deps", "read"), ("outs", "wrote")):
            if kind == "deps" and str(CODE_FILE) in {entry["path"] for entry in stage.get("outs", [])}:
                continue  # it reads all code, of which comments change no result: its digests say the rest
            for entry in stage.get(kind, []):
                path = entry["path"]
                if path.startswith(DATA):
                    continue
                found = _md5(revision, path)
                if found is None and path == source:
                    yield f"{path}: neither in git nor kept by DVC, and {name} read it: `dvc add {path}`"
                elif found != entry["md5"]:
                    yield f"{path}: not what {name} {verb}" if found else f"{path}: missing, and {name} {verb} it"


def _md5(revision: Revision, path: str) -> str | None:
    """md5 of a file, or of a folder's listing as DVC writes it, or what `dvc add` states of it; None if all lack."""
    content = revision.read(path)
    if content is not None:
        return md5_hex(content)
    files = sorted(revision.hashes(path))
    if not files:
        return added(revision, path)
    listing = [
        {"md5": md5_hex(revision.require(file)), "relpath": str(PurePosixPath(file).relative_to(path))}
        for file in files
    ]
    return md5_hex(json.dumps(listing, sort_keys=True).encode()) + ".dir"


def md5_hex(content: bytes) -> str:
    """Hex md5 of some bytes, as DVC names them."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
