"""What a page says of a revision beside its figures: where it comes from, and why a file is missing."""

import json
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
    """Describes a revision for the page's header: label, commit, date, subject, and `when` it is of two.

    The workspace has no commit and no date.
    """
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
    records = [revision.read_json(path)[0] for path in sorted(revision.hashes(_PROVENANCE))]
    wanted = (LOCK, PARAMS, _PROCESSOR, _VERSIONS, _CARD)
    found = {path: content.decode() for path in wanted if (content := revision.read(path)) is not None}
    versions = [line for line in found.get(_VERSIONS, "").splitlines() if line and not line.startswith("#")]
    return {
        "untrue": contradictions(revision) if {LOCK, PARAMS} <= found.keys() else [],
        "digests": {record["stage"]: digest_of(record) for record in records},
        "outputs": outputs(revision) if LOCK in found else {},
        "processor": json.loads(found.get(_PROCESSOR, "{}")),
        "versions": dict(line.split(maxsplit=1) for line in versions),
        "card": found.get(_CARD),
        "missing": [why_missing(revision, path) for path in wanted if path not in found],
    }


def why_missing(revision: Revision, path: str) -> str:
    """Says that a revision has no such file, and why: no stage of it writes the file, or the stage has not run."""
    graph = (revision.read(_GRAPH) or b"").decode()
    names = [str(name) for name in (PurePosixPath(path), *PurePosixPath(path).parents)]
    if any(name in graph for name in names if "/" in name):
        return f"{revision.label} has no {path}: the stage that writes it has not run there, or wrote none"
    return f"{revision.label} has no {path}: it is older than what writes it"
