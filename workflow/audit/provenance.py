"""What stages recorded of their work, against the files that they are about."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from workflow.audit.findings import CACHE, Finding
from workflow.lock import DATA, PARAMS, stages_of
from workflow.pack import listed, md5_file
from workflow.pack import place as place_in
from workflow.revisions import Revision

FOLDER = "metrics/provenance"

Records = Mapping[str, Mapping[str, Any]]


def records_of(revision: Revision) -> dict[str, dict[str, Any]]:
    """What each stage of dvc.lock recorded, by its name; empty where there is no record."""
    found = {}
    for name in stages_of(revision):
        content = revision.read(f"{FOLDER}/{name}.json")
        found[name] = json.loads(content)[0] if content else {}
    return found


def recorded_outputs(records: Records) -> dict[str, str]:
    """sha256 of each file that a stage wrote, by path."""
    return {path: digest for record in records.values() for path, digest in record.get("outputs", {}).items()}


def provenance_findings(revision: Revision, place: str) -> Iterator[Finding]:
    """Records that do not agree with the revision's files, or with those of the stages before."""
    records = records_of(revision)
    written = recorded_outputs(records)
    params = revision.read_yaml(PARAMS)
    for stage, record in records.items():
        if not record:
            yield Finding("provenance", place, f"{FOLDER}/{stage}.json", f"missing, and {stage} writes it")
            continue
        for path, digest in {**record["sources"], **record["inputs"], **record["outputs"]}.items():
            found = written.get(path) if path.startswith(DATA) else _sha256(revision, path)
            if found != digest:
                by = "the stage that wrote it recorded" if path.startswith(DATA) else "the file has"
                words = f"{stage} recorded sha256 {digest[:12]}, {by} {found[:12] if found else 'none'}"
                yield Finding("provenance", place, path, words)
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
    for stage in stages_of(revision).values():
        for out in stage.get("outs", []):
            if out["path"].startswith(DATA):
                for path, md5 in _files(out["path"], out["md5"], cache):
                    seen += 1
                    findings += _object_findings(path, md5, place_in(cache, md5), written)
    return findings, seen


def _files(path: str, md5: str, cache: Path) -> Iterator[tuple[str, str]]:
    """Path and md5 of the objects that a cache has of an output, a folder's listing among them."""
    found = place_in(cache, md5)
    if not found.is_file():
        return
    yield path, md5
    if md5.endswith(".dir") and md5_file(found) == md5.removesuffix(".dir"):
        for name, of_file in listed(found.read_bytes()).items():
            if place_in(cache, of_file).is_file():
                yield f"{path}/{name}", of_file


def _object_findings(path: str, md5: str, file: Path, written: Mapping[str, str]) -> Iterator[Finding]:
    if md5_file(file) != md5.removesuffix(".dir"):
        yield Finding(
            "cache", CACHE, path, f"the object {md5} has md5 {md5_file(file)}: remove it, and run `dvc repro`"
        )
    elif not md5.endswith(".dir"):
        digest = sha256(file.read_bytes()).hexdigest()
        if written.get(path) != digest:
            recorded = (written.get(path) or "none")[:12]
            words = f"has sha256 {digest[:12]}, its stage recorded {recorded}"
            yield Finding("provenance", CACHE, path, words)
