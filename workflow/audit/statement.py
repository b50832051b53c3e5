"""The record of an audit: an in-toto Statement with a SLSA provenance predicate, which standard tools read."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from workflow.audit.verdict import Audit

#: Files of an audit's folder: the record, and the record in an envelope with its signature.
RECORD, ENVELOPE = "audit.json", "audit.dsse.json"

PREDICATE = "https://slsa.dev/provenance/v1"

#: What was done, and by what: names, not addresses.
BUILD_TYPE = "urn:fashion-vae:dvc-repro"
BUILDER = "urn:fashion-vae:workflow.audit"


def statement(audit: Audit) -> dict[str, Any]:
    """The record as plain content; the same by the schemas of both standards.

    Subjects are the files that the commit's pipeline writes, by the sha256 that the commit states of them; verdicts on
    them stand among the byproducts, with the md5 that dvc.lock states and the one that was found.
    """
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "commit": audit.commit,
                "preset": "",
                "seed": "",
                **({audit.recorded.kind: audit.recorded.value} if audit.recorded else {}),
                "quick": audit.quick,
            },
            "internalParameters": {"machine": audit.machine, "class": audit.classes},
            "resolvedDependencies": _dependencies(audit),
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {"startedOn": audit.started, "finishedOn": audit.finished},
            "byproducts": [{"name": "audit", "annotations": _annotations(audit)}],
        },
    }
    json_format.ParseDict(predicate, Provenance())  # refuses what the schema does not have
    subjects = [ResourceDescriptor(name=name, digest={"sha256": digest}).pb for name, digest in audit.subjects.items()]
    made = Statement(subjects, PREDICATE, predicate)
    made.validate()
    content: dict[str, Any] = json_format.MessageToDict(made.pb)
    return content


def serialised(content: Mapping[str, Any]) -> bytes:
    """The bytes of a record, which are what is signed."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _dependencies(audit: Audit) -> list[dict[str, Any]]:
    packages = [
        {"name": name, "uri": f"pkg:pypi/{name}@{facts['version']}", "digest": {"sha256": facts["sha256"]}}
        for name, facts in audit.packages.items()
    ]
    files = [{"name": name, "digest": {"sha256": digest}} for name, digest in audit.materials.items()]
    source = [{"name": "source", "digest": {"gitCommit": audit.commit}}] if audit.commit else []  # none of a workspace
    return [*source, *files, *packages]


def _annotations(audit: Audit) -> dict[str, Any]:
    run = asdict(audit.run) if audit.run else {}
    return {
        "verdict": audit.verdict,
        "findings": [asdict(finding) for finding in audit.findings],
        "outputs": [asdict(outcome) for outcome in audit.outcomes],
        "looked_at": dict(audit.looked_at),
        "not_proved": dict(audit.not_proved),
        "run": {name: told for name, told in run.items() if name not in ("machine", "packages")},  # told elsewhere
    }
