"""The data set that a revision's results are of, and whether two have the same images."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.history.lock import PARAMS
from workflow.history.revisions import Revision

FACTS = "metrics/data.json"
PER_CLASS = "metrics/per_class.csv"

#: sha256 of the arrays of published data sets, by their names.
PUBLISHED = Path("datasets.json")

#: sha256 of the training images of the one data set that there was when results did not name theirs.
_FASHION_MNIST = "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012"


def facts_of(revision: Revision) -> dict[str, Any]:
    """What a revision states of its data. Older ones state neither name nor image shape, which are then filled in.

    Raises:
        StageError: If it states nothing.
    """
    facts = revision.read_json(FACTS)
    name = "fashion_mnist" if facts["sha256"].get("train_images") == _FASHION_MNIST else "unnamed"
    return {"name": name, "image_shape": [28, 28], **facts}


def class_names(revision: Revision) -> list[str]:
    """Names of the classes, in the order of their labels.

    Raises:
        StageError: If the revision has no losses by class.
    """
    rows = csv.DictReader(io.StringIO(revision.require(PER_CLASS).decode(), newline=""))
    return list(dict.fromkeys(row["class"] for row in rows))


def published(revision: Revision) -> dict[str, str]:
    """sha256 by array, as published, of the data set that a revision's parameters name; empty of a folder of images.

    Older revisions name none and have no file of them: they are held against that of this project.
    """
    known = json.loads(revision.read(PUBLISHED) or PUBLISHED.read_bytes())
    chosen, stated = revision.read_yaml(PARAMS).get("data", {}).get("name", "fashion_mnist"), facts_of(revision)["name"]
    return dict(known.get(stated if stated.startswith(f"{chosen}/") else chosen, {}))  # with its variant, as of emnist


def require_same_images(base: Revision, head: Revision) -> None:
    """Proves that the losses of two revisions are of the same images with the same targets.

    Raises:
        StageError: If they are not, or one states nothing of its data.
    """
    before, after = facts_of(base), facts_of(head)
    if before["name"] != after["name"]:
        raise StageError(
            f"{base.label} has the data set {before['name']}, {head.label} {after['name']}: the loss of other images "
            f"is another quantity; expected the same data set"
        )
    arrays = before["sha256"].keys() | after["sha256"].keys()
    differing = sorted(name for name in arrays if before["sha256"].get(name) != after["sha256"].get(name))
    if differing:
        raise StageError(
            f"{base.label} and {head.label} have the data set {before['name']} with other {' and '.join(differing)}, "
            f"by the sha256 in {FACTS}: losses are compared image by image; expected the same images"
        )
    targets = [_binarisation(side) for side in (base, head)]
    if targets[0] != targets[1]:
        raise StageError(
            f"preprocess.binarisation is {targets[0]} in {base.label} and {targets[1]} in {head.label}: the loss of "
            f"other targets is another quantity; expected the same binarisation"
        )


def _binarisation(revision: Revision) -> str:
    """How images become binary, which older revisions do not state."""
    params = revision.read_yaml(PARAMS) if revision.read(PARAMS) is not None else {}
    return str(params.get("preprocess", {}).get("binarisation", "drawn"))
