"""The numbers of the page: headline values, losses by class, parameters."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vae.statistics import GRID_NATS, mean_and_error
from workflow.compare.changes import by_name, values
from workflow.compare.paired import paired_difference
from workflow.history.data_sets import class_names
from workflow.history.lock import PARAMS
from workflow.history.per_image import PER_IMAGE, SPLITS, of_split, values_in
from workflow.history.revisions import Revision

#: Values at the head of the page: metrics file, name with a place for the split, what it is, unit.
_HEADLINES = (
    ("evaluation", "{}.binarised.nll_nats", "NLL, binarised", "nats"),
    ("evaluation", "{}.binarised.nll_bits_per_dim", "NLL, binarised", "bits per dimension"),
    ("evaluation", "{}.binarised.elbo_nats", "ELBO, binarised", "nats"),
    ("evaluation", "{}.gray.elbo_nats", "ELBO, gray", "nats"),
    ("evaluation", "{}.binarised.reconstruction_nats", "Reconstruction loss, binarised", "nats"),
    ("evaluation", "{}.binarised.kl_nats", "KL, binarised", "nats"),
    ("evaluation", "{}.gap.elbo_to_nll_nats", "ELBO to NLL", "nats"),
    ("evaluation", "{}.binarised.active_units", "Active units", ""),
    ("evaluation", "{}.calibration_error", "Calibration error of pixels", ""),
    ("representation", "linear_probe.{}_accuracy", "Accuracy of a linear probe", ""),
    ("representation", "nearest_neighbours.{}_accuracy", "Accuracy of nearest neighbours", ""),
    ("samples", "{}.model.density", "Density of samples", ""),
    ("samples", "{}.model.coverage", "Coverage by samples", ""),
    ("samples", "{}.model.copying.nearer", "Samples nearer to training images than real ones", ""),
    ("outliers", "{}.rotated.nll_auroc", "AUROC of the NLL, rotated", ""),
    ("outliers", "{}.blended.nll_auroc", "AUROC of the NLL, blended", ""),
)

#: Those of them that stand above the table.
_LEADING = ("{}.binarised.nll_nats", "{}.gap.elbo_to_nll_nats", "nearest_neighbours.{}_accuracy", "{}.model.coverage")


def headlines(sides: Sequence[Revision]) -> list[dict[str, Any]]:
    """Rows of the values that some revision has, each with a (value, error) of each side by split, or None."""
    found = {(row["file"], row["name"]): row for row in values(sides[0], sides[-1])}
    keys = ("before", "after")[-len(sides) :]
    rows = []
    for file, name, words, unit in _HEADLINES:
        of_splits = [found.get((file, name.format(split)), {}) for split in SPLITS]
        pairs = [
            [(row[key], row[f"error_{key}"]) if row.get(key) is not None else None for key in keys] for row in of_splits
        ]
        if any(pair for split in pairs for pair in split):
            rows.append({"words": words, "unit": unit, "splits": pairs, "leads": name in _LEADING})
    return rows


def shown(number: float, error: float | None, *, sign: bool = False) -> str:
    """A number as text, to the second digit of its error."""
    plus = "+" if sign else ""
    if error is None:
        return f"{number:{plus}.5g}"
    decimals = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 3
    return f"{number:{plus}z.{decimals}f}"


def classes(sides: Sequence[Revision]) -> list[dict[str, Any]]:
    """Rows of the NLL of each class of binarised validation images: of each side, and the paired difference of two.

    Losses and differences are (mean, standard error over images), nats; of a single image there is no error and no
    difference. No row of a class without images, and none where a side has no losses of binary images.

    Args:
        sides: Revisions of one data set.
    """
    contents = [side.read(PER_IMAGE) for side in sides]
    losses = [of_split(values_in(content), "validation") for content in contents if content is not None]
    if len(losses) < len(sides) or any("binarised_nll_nats" not in of_side for of_side in losses):
        return []
    paired = len(sides) > 1 and all(np.array_equal(losses[0][name], losses[1][name]) for name in ("index", "label"))
    rows = []
    for label, name in enumerate(class_names(sides[-1])):
        nll = [of_side["binarised_nll_nats"][of_side["label"] == label] for of_side in losses]
        if not all(map(len, nll)):
            continue
        found = paired_difference(nll[0], nll[1], resolution=GRID_NATS) if paired and len(nll[0]) > 1 else None
        rows.append(
            {
                "class": name,
                "images": len(nll[-1]),
                "losses": [mean_and_error(loss) if len(loss) > 1 else (float(loss[0]), None) for loss in nll],
                "difference": (found.difference, found.error) if found else None,
            }
        )
    return rows


def params(sides: Sequence[Revision]) -> list[dict[str, Any]]:
    """Rows of every parameter: name, each side's value as text (None: it has none), and whether it was changed."""
    flat = [by_name(side.read_yaml(PARAMS)) if side.read(PARAMS) is not None else {} for side in sides]
    rows = []
    for name in dict.fromkeys(name for one in reversed(flat) for name in one):
        texts = [json.dumps(one[name]) if name in one else None for one in flat]
        rows.append({"name": name, "values": texts, "changed": len({*texts}) > 1})
    return rows
