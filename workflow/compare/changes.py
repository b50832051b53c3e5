"""What lies between two revisions: parameters, code, versions, data, results, and every metric before and after."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from workflow.compare.tolerance import flatten
from workflow.history.lock import DATA, PARAMS, outputs
from workflow.history.revisions import Revision

#: What results follow from beside parameters and data.
CODE = ("dvc.yaml", "numeric.txt", "stages", "vae", "pipeline")

#: Metrics that are shown before and after: metrics/NAME.json.
METRICS = ("evaluation", "representation", "baseline", "outliers", "samples", "train")

#: Endings of the errors of a metric, which stand beside it.
_ERRORS = ("_se", "_mc")

#: Outputs that hold images; what lies below `DATA` beside them follows from training.
_IMAGES = (f"{DATA}raw", f"{DATA}prepared")


def changes(base: Revision, head: Revision) -> dict[str, list[Any]]:
    """By kind, what differs.

    Returns:
        `params`: dicts of name, before, after (None where a revision has no such parameter); `code`: paths;
        `data`: outputs of dvc.lock that hold images; `lock`: its other outputs.
    """
    before, after = outputs(base), outputs(head)
    differing = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    sources, those = base.hashes(*CODE), head.hashes(*CODE)
    return {
        "params": _params(base.read_yaml(PARAMS), head.read_yaml(PARAMS)),
        "code": sorted(path for path in sources.keys() | those.keys() if sources.get(path) != those.get(path)),
        "data": [path for path in differing if path.startswith(_IMAGES)],
        "lock": [path for path in differing if not path.startswith(_IMAGES)],
    }


def _params(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    left, right = dict(_flat(before)), dict(_flat(after))
    names = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    return [{"name": name, "before": left.get(name), "after": right.get(name)} for name in names]


def _flat(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{section}.{key}", value) for section, values in params.items() for key, value in values.items())


def values(base: Revision, head: Revision) -> list[dict[str, Any]]:
    """Every metric of both revisions, a dict each of file, name, before, after and their errors over images.

    What a revision does not have is None.
    """
    rows = []
    for file in METRICS:
        before, after = _metrics(base, file), _metrics(head, file)
        for name in dict.fromkeys([*before, *after]):
            if not name.endswith(_ERRORS):
                row = {"file": file, "name": name, "before": before.get(name), "after": after.get(name)}
                error = {"error_before": before.get(f"{name}_se"), "error_after": after.get(f"{name}_se")}
                rows.append({**row, **error})
    return rows


def _metrics(revision: Revision, file: str) -> dict[str, float]:
    content = revision.read(f"metrics/{file}.json")
    return dict(flatten(json.loads(content))) if content is not None else {}
