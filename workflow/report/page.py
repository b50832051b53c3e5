"""The page: what the files of a revision, or of two, say, put into one HTML file."""

import base64
import csv
import io
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import itables
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workflow.changes import values
from workflow.compare import compare
from workflow.lock import PARAMS, outputs
from workflow.report.charts import curves
from workflow.report.pictures import figure, sprite
from workflow.revisions import Revision
from workflow.tables import name_of, nats, sentence, signed

_FOLDER = Path(__file__).parent

#: Figures of the head of the page: metrics file, name, what it is.
_HEADLINES = (
    ("evaluation", "validation.binarised.nll_nats", "NLL, binarised validation images, nats"),
    ("evaluation", "validation.binarised.elbo_nats", "ELBO, binarised validation images, nats"),
    ("evaluation", "validation.gray.elbo_nats", "ELBO, gray validation images, nats"),
    ("evaluation", "test.binarised.nll_nats", "NLL, binarised test images, nats"),
    ("evaluation", "test.binarised.elbo_nats", "ELBO, binarised test images, nats"),
    ("evaluation", "test.gray.elbo_nats", "ELBO, gray test images, nats"),
    ("evaluation", "test.binarised.nll_bits_per_dim", "NLL of test images, bits per dimension"),
    ("evaluation", "test.binarised.active_units", "active units"),
    ("representation", "linear_probe.test_accuracy", "accuracy of a linear probe on posterior means"),
    ("representation", "nearest_neighbours.test_accuracy", "accuracy of nearest neighbours on posterior means"),
    ("samples", "test.model.density", "density of samples"),
    ("samples", "test.model.coverage", "coverage by samples"),
    ("outliers", "test.rotated.nll_auroc", "AUROC of the NLL, rotated garments"),
)

#: Figures, in the order of the page, with what a reader who sees none of them is told.
_FIGURES = {
    "reconstructions": "Test images beside their reconstructions, by class and loss",
    "samples": "Garments drawn from the model",
    "latent_plane": "Garments decoded over the leading plane of the latent space",
    "latent_means": "Posterior means of test images in that plane, by class",
    "latent_traversals": "Garments decoded along each active latent",
    "kl_per_latent": "KL of each latent",
    "loss_histogram": "Histogram of the NLL of test images, with the worst of them",
    "loss_per_class": "Losses of each class",
    "calibration": "Observed frequency of ones against predicted probability",
    "learning_curves": "Loss and its terms over epochs",
}


def render(head: Revision, base: Revision | None) -> str:
    """The page as HTML.

    Args:
        head: The revision that it is about.
        base: The one that stands beside it, if any.

    Raises:
        StageError: If a revision has no results at all, or the two cannot be compared.
    """
    sides = [head] if base is None else [base, head]
    for side in sides:
        side.require("metrics/evaluation.json")
    images: dict[str, int] = {}
    explorers = [_explorer(side, images) for side in sides]
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    bundle = Path(itables.options.dt_bundle)
    comparison = compare(base, head).as_dict() if base else None
    return environment.get_template("page.html.jinja").render(
        sides=[_side(side) for side in sides],
        comparison=comparison,
        sentence=sentence(comparison) if comparison else "",
        headlines=_headlines(sides),
        figures=[_figure(name, sides) for name in _FIGURES],
        captions=_FIGURES,
        curves=_curves(sides),
        classes=list(_classes(sides)),
        params=_params(sides),
        explorers=explorers,
        images=list(images),
        tables_js=base64.b64encode(bundle.read_bytes()).decode(),
        tables_css=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        style=(_FOLDER / "style.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "explorer.js").read_text(encoding="utf-8"),
        name_of=name_of,
        nats=nats,
        signed=signed,
    )


def _side(revision: Revision) -> dict[str, Any]:
    """Where a revision comes from, and its own words."""
    commit = revision.commit or "HEAD"
    facts = subprocess.run(
        ["git", "show", "-s", "--format=%cI%n%s", commit], capture_output=True, text=True, check=False
    )
    date, _, subject = facts.stdout.strip().partition("\n")
    numeric = (revision.read("numeric.txt") or b"").decode()
    card = revision.read("metrics/model_card.md")
    return {
        "label": revision.label,
        "commit": revision.commit or "not committed",
        "date": date if revision.commit else "",
        "subject": subject if revision.commit else "the files as they stand",
        "processor": revision.read_json("metrics/processor.json"),
        "versions": dict(line.split(maxsplit=1) for line in numeric.splitlines() if line and line[0] not in "# "),
        "outputs": outputs(revision),
        "card": card.decode() if card else None,
    }


def _headlines(sides: Sequence[Revision]) -> list[dict[str, Any]]:
    found = {(row["file"], row["name"]): row for row in values(sides[0], sides[-1])}
    rows = []
    for file, name, words in _HEADLINES:
        row = found.get((file, name))
        if row is not None:
            cells = [(row["before"], row["error_before"]), (row["after"], row["error_after"])]
            rows.append({"words": words, "cells": cells[-len(sides) :]})
    return rows


def _figure(name: str, sides: Sequence[Revision]) -> dict[str, Any]:
    """A figure of each side as a data URI, None where a revision has none, as of two latents no traversals."""
    contents = [side.read(f"metrics/figures/{name}.png") for side in sides]
    return {"name": name, "pictures": [figure(content) if content else None for content in contents]}


def _curves(sides: Sequence[Revision]) -> str:
    histories = {side.label: side.read("metrics/history.csv") for side in sides}
    return curves({label: content for label, content in histories.items() if content})


def _classes(sides: Sequence[Revision]) -> Iterator[dict[str, Any]]:
    """The losses of each class of binarised test images, of each side."""
    tables = [_test_rows(side) for side in sides]
    for label in tables[-1]:
        rows = [table.get(label) for table in tables]
        yield {
            "class": label,
            "images": tables[-1][label]["images"],
            "losses": [(float(row["nll_nats"]), float(row["nll_nats_se"])) if row else None for row in rows],
        }


def _test_rows(revision: Revision) -> dict[str, dict[str, str]]:
    text = (revision.read("metrics/per_class.csv") or b"").decode()
    rows = csv.DictReader(io.StringIO(text))
    return {row["class"]: row for row in rows if (row["split"], row["targets"]) == ("test", "binarised")}


def _params(sides: Sequence[Revision]) -> list[dict[str, Any]]:
    """Every parameter of each side, None where a revision does not know it."""
    stated = [side.read_yaml(PARAMS) for side in sides]
    flat = [{f"{section}.{key}": value for section, values in all_.items() for key, value in values.items()}
            for all_ in stated]  # fmt: skip
    names = dict.fromkeys(name for params in reversed(flat) for name in params)
    return [
        {"name": name, "values": [_plain(params, name) for params in flat], "changed": _differs(flat, name)}
        for name in names
    ]


def _plain(params: Mapping[str, Any], name: str) -> str:
    return json.dumps(params[name]) if name in params else "none"


def _differs(flat: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len({_plain(params, name) for params in flat}) > 1


def _explorer(revision: Revision, images: dict[str, int]) -> dict[str, Any] | None:
    """What the latent explorer shows, None where a revision has no such files.

    Args:
        revision: Whose latents they are.
        images: The pictures of real images that the page has so far, numbered; those of the revision are added.
    """
    content = [revision.read(f"metrics/explorer/{name}") for name in ("latents.json", "grid.png", "images.png")]
    latents, grid, real = content
    if latents is None or grid is None or real is None:
        return None
    return {**json.loads(latents), "grid": sprite(grid), "images": images.setdefault(sprite(real), len(images))}
