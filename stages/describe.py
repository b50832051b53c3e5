"""Writes the model card from parameters, metrics and hashes, so that it cannot be out of date."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipeline.files import atomic
from pipeline.params.model import Model
from pipeline.params.preprocess import Preprocess
from pipeline.params.train import Train
from pipeline.provenance import hash_paths
from pipeline.stage import Input, Output

#: Losses of a class that are shown, and their errors, which a single image has not.
_SHOWN = ("elbo_nats", "elbo_nats_se", "nll_nats", "nll_nats_se")


def run(
    preprocess: Preprocess,
    model: Model,
    train: Train,
    template: Input,
    weights: Input,
    data: Input,
    training: Input,
    processor: Input,
    evaluation: Input,
    per_class: Input,
    outliers: Input,
    samples: Input,
    export: Input,
    card: Output,
) -> None:
    """Fills in the template.

    Inputs:
        template: Of the card, for Jinja.
        data: JSON of what the data are.
        training: JSON of what training ended with.
        processor: JSON of the processor class.
        evaluation: JSON of the losses.
        per_class: CSV of the losses by class.
        outliers: JSON of the AUROC by kind of outlier.
        samples: JSON of density and coverage.
        export: JSON of the exported networks.

    Outputs:
        card: Markdown.
    """
    files = {
        "data": data,
        "training": training,
        "processor": processor,
        "evaluation": evaluation,
        "outliers": outliers,
        "samples": samples,
        "export": export,
    }
    facts = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}
    classes = _classes(per_class, "binarised" if "binarised" in facts["evaluation"]["test"] else "gray")
    counts = {split: sum(of[split]["images"] for of in classes.values()) for split in ("validation", "test")}
    sections = {"preprocess": preprocess, "model": model, "train": train}
    # Markdown, not HTML: nothing is to be escaped, and a name that is missing is an error.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    text = environment.from_string(template.read_text(encoding="utf-8")).render(
        **facts,
        **sections,
        weights=hash_paths([weights]),
        classes=classes,
        binarisation=preprocess.binarisation,
        counts=counts,
        shown=_shown,
    )
    with atomic(card) as partial:
        partial.write_text(text, encoding="utf-8")


def _classes(path: Path, targets: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Class -> split -> images and losses with their errors, of gray or binarised images."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            if row["targets"] == targets:
                values = {name: float(row[name]) for name in _SHOWN if row.get(name)}
                found.setdefault(row["class"], {})[row["split"]] = {"images": int(row["images"]), **values}
    return found


def _shown(found: Mapping[str, Any], name: str, digits: int = 2) -> str:
    """A value with its error over images, which a single image has not."""
    error = f" ± {found[f'{name}_se']:.{digits}f}" if f"{name}_se" in found else ""
    return f"{found[name]:.{digits}f}{error}"
