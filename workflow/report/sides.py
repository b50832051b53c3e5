"""What a page says of one revision beside its figures: where it comes from, and why something of it is not there."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.provenance import digest_of
from workflow.history.lock import LOCK, PARAMS, contradictions, outputs
from workflow.history.revisions import Revision, git

_GRAPH = "dvc.yaml"
_PROVENANCE = "metrics/provenance"
_PROCESSOR = "metrics/processor.json"
_VERSIONS = "numeric.txt"
_CARD = "metrics/model_card.md"


def origin(revision: Revision, when: str) -> dict[str, str]:
    """Label, commit, date and subject of a revision, and `when` it is of two; of the workspace that it is no commit."""
    facts = {"label": revision.label, "when": when, "commit": "", "date": "", "subject": "the files as they stand"}
    if revision.commit is None:
        return facts
    said = git(Path(), "show", "--no-patch", "--format=%cI%n%s", revision.commit)
    date, _, subject = said.strip().partition("\n")
    return {**facts, "commit": revision.commit, "date": date, "subject": subject}


def provenance(revision: Revision) -> dict[str, Any]:
    """What the results of a revision follow from.

    Returns:
        `untrue`: what contradicts its dvc.lock, phrases; `digests`: sha256 of what each stage worked from;
        `outputs`: md5 of each output of dvc.lock; `processor` and `versions`: by name; `card`: the model card or None;
        `missing`: sentences.
    """
    wanted = (LOCK, PARAMS, _PROCESSOR, _VERSIONS, _CARD)
    found = {path: content.decode() for path in wanted if (content := revision.read(path)) is not None}
    return {
        "untrue": contradictions(revision) if {LOCK, PARAMS} <= found.keys() else [],
        "digests": _digests(revision),
        "outputs": outputs(revision) if LOCK in found else {},
        "processor": json.loads(found.get(_PROCESSOR, "{}")),
        "versions": _versions(found.get(_VERSIONS, "")),
        "card": found.get(_CARD),
        "missing": [why_missing(revision, path) for path in wanted if path not in found],
    }


def _digests(revision: Revision) -> dict[str, str]:
    records = [json.loads(revision.require(path)) for path in sorted(revision.hashes(_PROVENANCE))]
    return {record[0]["stage"]: digest_of(record[0]) for record in records}


def _versions(text: str) -> Mapping[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split(maxsplit=1) for line in lines)


def why_missing(revision: Revision, path: str) -> str:
    """A sentence that a revision has no such file, and why: it has no stage that writes it, or that has not run."""
    graph = (revision.read(_GRAPH) or b"").decode()
    names = [str(name) for name in (PurePosixPath(path), *PurePosixPath(path).parents)]
    if any(name in graph for name in names if "/" in name):
        return f"{revision.label} has no {path}: the stage that writes it has not run there, or wrote none"
    return f"{revision.label} has no {path}: it is older than what writes it"
