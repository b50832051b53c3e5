"""The record of an audit: an in-toto Statement with a SLSA provenance predicate, which standard tools read."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from pipeline.environment import LOCK_FILE
from pipeline.errors import StageError
from workflow.audit.checks import MALFORMED, unreadable
from workflow.audit.records import FOLDER, recorded_outputs
from workflow.audit.verdict import Audit
from workflow.history.data_sets import facts_of
from workflow.history.lock import LOCK
from workflow.history.revisions import Revision

#: Files of an audit's folder: the record, and the record in an envelope with its signature.
RECORD, ENVELOPE = "audit.json", "audit.dsse.json"

PREDICATE = "https://slsa.dev/provenance/v1"

#: What was done, and by what: names, not addresses.
BUILD_TYPE = "urn:fashion-vae:dvc-repro"
BUILDER = "urn:fashion-vae:workflow.audit"


def statement(audit: Audit) -> dict[str, Any]:
    """The record as plain content, which the schemas of both standards allow.

    Subjects are the files that the commit's pipeline writes, with the sha256 that the commit states. The verdicts on
    them stand among the byproducts, with the md5 that dvc.lock states and the one that was found.
    """
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "commit": audit.revision.commit or "",
                "preset": "",
                "seed": "",
                **({audit.recorded.kind: audit.recorded.value} if audit.recorded else {}),
                "quick": audit.quick,
            },
            "internalParameters": {"machine": audit.machine, "class": audit.run.classes if audit.run else {}},
            "resolvedDependencies": _dependencies(audit),
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {"startedOn": audit.started, "finishedOn": audit.finished},
            "byproducts": [{"name": "audit", "annotations": _annotations(audit)}],
        },
    }
    json_format.ParseDict(predicate, Provenance())  # refuses what the schema does not have
    subjects = [
        ResourceDescriptor(name=name, digest={"sha256": digest}).pb for name, digest in _subjects(audit).items()
    ]
    made = Statement(subjects, PREDICATE, predicate)
    made.validate()
    return json_format.MessageToDict(made.pb)


def serialised(content: Mapping[str, Any]) -> bytes:
    """The bytes of a record, which are what is signed."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _subjects(audit: Audit) -> dict[str, str]:
    """sha256 by path of dvc.lock, the records of the stages, and what these say that the stages wrote.

    A recorded run is about its record alone: nothing else was run.
    """
    revision, recorded = audit.revision, audit.recorded
    own = [str(recorded.path)] if recorded else [LOCK, *sorted(revision.hashes(FOLDER))]
    found = {path: sha256(content).hexdigest() for path in own if (content := revision.read(path)) is not None}
    return found if recorded or unreadable(revision) else found | recorded_outputs(revision)


def _dependencies(audit: Audit) -> list[dict[str, Any]]:
    """The commit, the lock of the environment, the arrays of images and labels, and the installed packages."""
    commit = audit.revision.commit
    files = {str(LOCK_FILE): sha256(audit.revision.require(LOCK_FILE)).hexdigest()}
    files |= _arrays(audit.revision)
    return [
        *([{"name": "source", "digest": {"gitCommit": commit}}] if commit else []),  # none of a workspace
        *({"name": name, "digest": {"sha256": digest}} for name, digest in files.items()),
        *(
            {"name": name, "uri": f"pkg:pypi/{name}@{facts['version']}", "digest": {"sha256": facts["sha256"]}}
            for name, facts in audit.packages.items()
        ),
    ]


def _arrays(revision: Revision) -> dict[str, str]:
    """sha256 of the arrays that the commit states; check `data` holds them against the published ones."""
    try:
        facts = facts_of(revision)
        return {f"{facts['name']}/{array}": str(digest) for array, digest in facts["sha256"].items()}
    except (StageError, *MALFORMED):  # a finding already
        return {}


def _annotations(audit: Audit) -> dict[str, Any]:
    run = asdict(audit.run) if audit.run else {}
    return {
        "verdict": audit.verdict,
        "findings": [asdict(finding) for finding in audit.findings],
        "outputs": run.pop("outcomes", []),
        "looked_at": dict(audit.looked_at),
        "not_proved": dict(audit.not_proved),
        "run": {name: told for name, told in run.items() if name not in ("machine", "packages", "classes")},
    }
