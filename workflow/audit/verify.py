"""`make verify FROM=audits/COMMIT KEY=key.pub`: proves a signed record, offline, against this repository's commit."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message

from pipeline.errors import StageError
from workflow.audit.signing import verified
from workflow.audit.statement import ENVELOPE, PREDICATE, RECORD
from workflow.command import end
from workflow.history.lock import DATA
from workflow.history.revisions import Revision, resolve
from workflow.release.pack import cache_folder, held_objects, place


def main(arguments: Sequence[str]) -> int:
    """Verifies signature, record and the files that it is about.

    Raises:
        StageError: If anything is not as it was signed, or could not be read.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.audit.verify", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FROM", help="folder that `make audit SIGN=KEY` wrote")
    parser.add_argument("key", type=Path, metavar="KEY", help="public key, PEM")
    options = parser.parse_args(arguments)
    for line in list(_verify(options.folder, options.key)):
        print(f"verify: {line}")
    return 0


def _verify(folder: Path, key: Path) -> Iterator[str]:
    """What was proven, a sentence each.

    Raises:
        StageError: If anything is not as it was signed.
    """
    envelope, record = (_read(folder / name) for name in (ENVELOPE, RECORD))
    payload = verified(envelope, key)
    if payload != record:
        raise StageError(f"{folder / RECORD} is not the record that was signed; the signed one is in the envelope")
    content = _statement(payload)
    yield "the signature is the key's"
    asked = content["predicate"]["buildDefinition"]["externalParameters"]
    commit = asked["commit"]
    revision = resolve(commit)
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in content["subject"]}
    absent = _prove(revision, subjects)
    yield f"{len(subjects) - len(absent)} of {len(subjects)} files of commit {commit[:9]} are those of the record"
    if absent:
        yield f"not here, so not proven: {', '.join(absent)}; `make pull` or `dvc repro` brings them"
    (audit,) = content["predicate"]["runDetails"]["byproducts"]
    run = next((f"{kind} {asked[kind]} of " for kind in ("preset", "seed") if asked.get(kind)), "")
    yield f"the record's verdict on {run}the commit: {audit['annotations']['verdict']}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError(f"{path} cannot be read ({error}); expected what `make audit SIGN=KEY` wrote") from error


def _statement(payload: bytes) -> dict[str, Any]:
    """The record, proven against the schemas of in-toto and SLSA."""
    try:
        content: dict[str, Any] = json.loads(payload)
        Statement.copy_from_pb(json_format.ParseDict(content, Message())).validate()
        if content["predicateType"] != PREDICATE:
            raise ValueError(f"predicate of type {content['predicateType']}, expected {PREDICATE}")
        json_format.ParseDict(content["predicate"], Provenance())
    except (ValueError, KeyError, json_format.ParseError) as error:
        raise StageError(f"the record is no in-toto Statement with a SLSA predicate: {error}") from error
    return content


def _prove(revision: Revision, subjects: Mapping[str, str]) -> list[str]:
    """Compares files with the record, and lists those that are not here.

    Raises:
        StageError: If a file is another one than the record's.
    """
    cache = cache_folder()
    held = {path: place(cache, md5) for path, md5 in held_objects(revision, cache).items()}
    absent = []
    for name, digest in subjects.items():
        if not name.startswith(DATA):
            content = revision.read(name)
        else:
            content = held[name].read_bytes() if name in held and held[name].is_file() else None
        if content is None:
            absent.append(name)
        elif (found := hashlib.sha256(content).hexdigest()) != digest:
            raise StageError(f"{name} of {revision.label} has sha256 {found}, the signed record {digest}")
    return absent


if __name__ == "__main__":
    end("verify", lambda: main(sys.argv[1:]))
