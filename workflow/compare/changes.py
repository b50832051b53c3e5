"""What lies between two revisions: parameters, code, versions, data, results, and every metric before and after."""

import json
from collections.abc import Mapping
from typing import Any

from workflow.compare.tolerance import flatten
from workflow.history.lock import DATA, PARAMS, outputs
from workflow.history.revisions import Revision

#: What results follow from, besides parameters and data.
CODE = ("dvc.yaml", "numeric.txt", "stages", "vae", "pipeline")

#: Metrics that are shown before and after: metrics/NAME.json.
METRICS = ("evaluation", "representation", "baseline", "outliers", "samples", "train")

#: How the names of a metric's errors end; they stand beside the metric.
_ERRORS = ("_se", "_mc")

#: Outputs that hold images; what lies below `DATA` beside them follows from training.
_IMAGES = (f"{DATA}raw", f"{DATA}prepared")


def changes(base: Revision, head: Revision) -> dict[str, list[Any]]:
    """Lists what differs, by kind.

    Returns:
        `params`: dicts of name, before, after (None where a revision has no such parameter); `code`: paths;
        `data`: outputs of dvc.lock that hold images; `lock`: its other outputs.
    """
    before, after = (by_name(side.read_yaml(PARAMS)) for side in (base, head))
    differing = _differing(outputs(base), outputs(head))
    return {
        "params": [
            {"name": name, "before": before.get(name), "after": after.get(name)} for name in _differing(before, after)
        ],
        "code": _differing(base.hashes(*CODE), head.hashes(*CODE)),
        "data": [path for path in differing if path.startswith(_IMAGES)],
        "lock": [path for path in differing if not path.startswith(_IMAGES)],
    }


def by_name(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values of parameters by name, as `train.epochs`."""
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def values(base: Revision, head: Revision) -> list[dict[str, Any]]:
    """Lists every metric of both revisions: dicts of file, name, before, after and their errors over images.

    A value that a revision does not have is None.
    """
    rows = []
    for file in METRICS:
        before, after = _metrics(base, file), _metrics(head, file)
        for name in dict.fromkeys([*before, *after]):
            if not name.endswith(_ERRORS):
                row = {"file": file, "name": name, "before": before.get(name), "after": after.get(name)}
                rows.append(row | {"error_before": before.get(f"{name}_se"), "error_after": after.get(f"{name}_se")})
    return rows


def _metrics(revision: Revision, file: str) -> dict[str, float]:
    content = revision.read(f"metrics/{file}.json")
    return dict(flatten(json.loads(content))) if content is not None else {}
