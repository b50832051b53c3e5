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
from workflow.audit.statement import PREDICATE
from workflow.command import end
from workflow.history.lock import DATA, outputs
from workflow.history.revisions import Revision, resolve
from workflow.release.pack import cache_folder, objects, place


def main(arguments: Sequence[str]) -> int:
    """Verifies signature, record and the files that it is about.

    Returns:
        Exit status: 0.

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
    envelope, record = (_read(folder / name) for name in ("audit.dsse.json", "audit.json"))
    payload = verified(envelope, key)
    if payload != record:
        raise StageError(
            f"{folder / 'audit.json'} is not the record that was signed; the signed one is in the envelope"
        )
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
    """Files that are not here.

    Raises:
        StageError: If a file is another one than the record's.
    """
    of_data = _data_objects(revision)
    absent = []
    for name, digest in subjects.items():
        content = _content(revision, name, of_data)
        if content is None:
            absent.append(name)
        elif (found := hashlib.sha256(content).hexdigest()) != digest:
            raise StageError(f"{name} of {revision.label} has sha256 {found}, the signed record {digest}")
    return absent


def _content(revision: Revision, name: str, of_data: Mapping[str, Path]) -> bytes | None:
    if not name.startswith(DATA):
        return revision.read(name)
    found = of_data.get(name)
    return found.read_bytes() if found and found.is_file() else None


def _data_objects(revision: Revision) -> dict[str, Path]:
    """Where DVC's cache has, or would have, each file of the data that a commit's dvc.lock states."""
    cache = cache_folder()
    return {
        name: place(cache, of_file)
        for path, md5 in outputs(revision).items()
        for name, of_file in objects(cache, path, md5).items()
    }


if __name__ == "__main__":
    end("verify", lambda: main(sys.argv[1:]))
