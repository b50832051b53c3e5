"""What stages recorded of their work, against the files that they are about."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.code import code_digests
from workflow.audit.findings import CACHE, Finding
from workflow.history.lock import DATA, PARAMS, stages_of
from workflow.history.revisions import Revision
from workflow.release.pack import held_outputs, is_proven, md5_file, objects
from workflow.release.pack import place as place_in

FOLDER = "metrics/provenance"

#: Parts of a record that have sha256 by path; older commits have their sources so, too.
_HASHED = ("inputs", "outputs")
_SOURCES = "sources"

Records = Mapping[str, Mapping[str, Any]]


def records_of(revision: Revision) -> dict[str, dict[str, Any]]:
    """What each stage of dvc.lock recorded, by its name; empty where there is no record, or one of another form."""
    return {name: _record(revision.read(f"{FOLDER}/{name}.json") or b"[]") for name in stages_of(revision)}


def _record(content: bytes) -> dict[str, Any]:
    try:
        (record,) = json.loads(content)
        parts = {part: record[part] for part in _HASHED} | {_SOURCES: record.get(_SOURCES, {})}
        hashes = {part: {path: str(digest) for path, digest in found.items()} for part, found in parts.items()}
        code = "" if _SOURCES in record else str(record["code"])
        return {**hashes, "params": dict(record["params"]), "code": code}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def recorded_outputs(records: Records) -> dict[str, str]:
    """sha256 of each file that a stage wrote, by path."""
    return {path: digest for record in records.values() if record for path, digest in record["outputs"].items()}


def provenance_findings(revision: Revision, place: str) -> Iterator[Finding]:
    """Records that do not agree with the revision's files, or with those of the stages before."""
    records = records_of(revision)
    written = recorded_outputs(records)
    params = revision.read_yaml(PARAMS)
    parts = [record[part] for record in records.values() if record for part in (*_HASHED, _SOURCES)]
    files = {path: _sha256(revision, path) for path in {path for part in parts for path in part}}
    stages = [stage for stage, record in records.items() if record.get("code")]
    code = code_digests(stages, params["model"], revision.read) if stages else {}
    for stage, record in records.items():
        if not record:
            words = f"missing, or not of the form that {stage} writes"
            yield Finding("provenance", place, f"{FOLDER}/{stage}.json", words)
            continue
        for path, digest in {**record["sources"], **record["inputs"], **record["outputs"]}.items():
            found, by = files[path], "the file has"
            if found is None and path.startswith(DATA):  # as in a commit, where only what its stage recorded is known
                found, by = written.get(path), "the stage that wrote it recorded"
            if found != digest:
                words = f"{stage} recorded sha256 {digest[:12]}, {by} {found[:12] if found else 'none'}"
                yield Finding("provenance", place, path, words)
        if stage in code and code[stage] != record["code"]:
            words = f"{stage} recorded digest {record['code'][:12]}, its modules have {code[stage][:12]}"
            yield Finding("provenance", place, f"the code of {stage}", words)
        for section, values in _sections(record["params"]).items():
            if params.get(section) != values:
                words = f"{stage} recorded {values}, now {params.get(section)}"
                yield Finding("provenance", place, f"{PARAMS} {section}", words)


def _sections(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sections by name; a stage that takes the whole file recorded it as `params`."""
    whole: Mapping[str, Any] = recorded.get("params", recorded)
    return whole


def _sha256(revision: Revision, path: str) -> str | None:
    content = revision.read(path)
    return None if content is None else sha256(content).hexdigest()


def cache_findings(revision: Revision, cache: Path) -> tuple[list[Finding], int]:
    """What a cache holds of a revision's data that is not as its name and the stages' records say.

    Returns:
        The findings, and how many files were looked at; a cache need hold none.
    """
    written = recorded_outputs(records_of(revision))
    findings: list[Finding] = []
    seen = 0
    for output, output_md5 in held_outputs(revision).items():
        for path, md5 in objects(cache, output, output_md5).items():
            file = place_in(cache, md5)
            if file.is_file():
                seen += 1
                findings += _object_findings(path, md5, file, written)
    return findings, seen


def _object_findings(path: str, md5: str, file: Path, written: Mapping[str, str]) -> Iterator[Finding]:
    if not is_proven(file, md5):
        yield Finding(
            "cache", CACHE, path, f"the object {md5} has md5 {md5_file(file)}: remove it, and run `dvc repro`"
        )
    elif not md5.endswith(".dir"):
        digest = sha256(file.read_bytes()).hexdigest()
        if written.get(path) != digest:
            recorded = (written.get(path) or "none")[:12]
            words = f"has sha256 {digest[:12]}, its stage recorded {recorded}"
            yield Finding("provenance", CACHE, path, words)
