"""What stages recorded of their work, against the files that they are about."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from pipeline.code import code_digests
from workflow.audit.findings import CACHE, Finding
from workflow.history.lock import DATA, PARAMS, stages_of
from workflow.history.revisions import Revision
from workflow.release.pack import held_objects, is_proven, md5_file, place

FOLDER = "metrics/provenance"


class Record(BaseModel):
    """What a stage recorded of its work."""

    params: dict[str, Any]  # values by section; a stage that takes the whole file recorded it as `params`
    inputs: dict[str, str]  # sha256 by path
    outputs: dict[str, str]  # likewise
    code: str = ""  # digest of its modules; empty in older commits
    sources: dict[str, str] | None = None  # in older commits, sha256 of each of its modules by path

    @property
    def files(self) -> dict[str, str]:
        """sha256 by path of all files."""
        return {**(self.sources or {}), **self.inputs, **self.outputs}


def records_of(revision: Revision) -> dict[str, Record | None]:
    """What each stage of dvc.lock recorded, by its name; None where there is no record, or one of another form."""
    return {name: _record(revision.read(f"{FOLDER}/{name}.json") or b"[]") for name in stages_of(revision)}


def _record(content: bytes) -> Record | None:
    try:
        (record,) = TypeAdapter(list[Record]).validate_json(content)
    except ValueError:
        return None
    return record if record.code or record.sources is not None else None


def recorded_outputs(revision: Revision) -> dict[str, str]:
    """Maps each file that a stage recorded as written to its sha256."""
    return {
        path: digest for record in records_of(revision).values() if record for path, digest in record.outputs.items()
    }


def provenance_findings(revision: Revision) -> Iterator[tuple[str, str]]:
    """Records that contradict the revision's files, or the records of the stages before."""
    records = records_of(revision)
    written = recorded_outputs(revision)
    params = revision.read_yaml(PARAMS)
    files = {path: _sha256(revision, path) for path in {path for one in records.values() if one for path in one.files}}
    stages = [stage for stage, record in records.items() if record and record.code]
    code = code_digests(stages, params, revision.read) if stages else {}
    for stage, record in records.items():
        if not record:
            yield f"{FOLDER}/{stage}.json", f"missing, or not of the form that {stage} writes"
            continue
        for path, digest in record.files.items():
            found, by = files[path], "the file has"
            if found is None and path.startswith(DATA):  # as in a commit, where only what its stage recorded is known
                found, by = written.get(path), "the stage that wrote it recorded"
            if found != digest:
                yield path, f"{stage} recorded sha256 {digest[:12]}, {by} {found[:12] if found else 'none'}"
        if stage in code and code[stage] != record.code:
            words = f"{stage} recorded digest {record.code[:12]}, its modules have {code[stage][:12]}"
            yield f"the code of {stage}", words
        for section, values in record.params.get("params", record.params).items():
            if params.get(section) != values:
                yield f"{PARAMS} {section}", f"{stage} recorded {values}, now {params.get(section)}"


def _sha256(revision: Revision, path: str) -> str | None:
    content = revision.read(path)
    return None if content is None else sha256(content).hexdigest()


def cache_findings(revision: Revision, cache: Path) -> tuple[list[Finding], int]:
    """Compares the revision's data in a cache with their names, which are hashes, and with the stages' records.

    Returns:
        The findings, and how many files were looked at; a cache need hold none.
    """
    written = recorded_outputs(revision)
    held = {path: md5 for path, md5 in held_objects(revision, cache).items() if place(cache, md5).is_file()}
    found = (_object_finding(path, md5, place(cache, md5), written.get(path)) for path, md5 in held.items())
    return [finding for finding in found if finding], len(held)


def _object_finding(path: str, md5: str, file: Path, recorded: str | None) -> Finding | None:
    if not is_proven(file, md5):
        words = f"the object {md5} has md5 {md5_file(file)}: remove it, and run `dvc repro`"
        return Finding("cache", CACHE, path, words)
    digest = None if md5.endswith(".dir") else sha256(file.read_bytes()).hexdigest()
    if digest is None or digest == recorded:
        return None
    return Finding(
        "provenance", CACHE, path, f"has sha256 {digest[:12]}, its stage recorded {(recorded or 'none')[:12]}"
    )
