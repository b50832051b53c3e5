"""The page: what the files of a revision, or of two, say, put into one HTML file."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import itables

from pipeline.errors import StageError
from vae.plots import CLASS_COLOURS
from workflow.compare.comparison import compare, not_own
from workflow.compare.formats import name_of, nats, sentence, signed
from workflow.history.data_sets import require_same_images
from workflow.history.revisions import Revision
from workflow.report import numbers
from workflow.report.charts import chart_library, curves
from workflow.report.pictures import figure, size, sprite
from workflow.report.sides import origin, provenance, why_missing
from workflow.report.sweeps import sweeps
from workflow.templates import pages_in

_EXPLORER = [f"metrics/explorer/{name}" for name in ("latents.json", "grid.png", "images.png")]

#: What `fetch` draws of a data set whose images it converts.
_SHEET = "metrics/contact_sheet.png"

#: Figures, in the order of the page, with what a reader who sees none of them is told.
_FIGURES = {
    "reconstructions": "Test images beside their reconstructions, by class and loss",
    "samples": "Images drawn from the model",
    "latent_plane": "Images decoded over the leading plane of the latent space",
    "latent_means": "Posterior means of test images in that plane, by class",
    "traversals": "Real images moved along the directions of the prior that tell most",
    "interpolations": "Paths between test images",
    "nearest": "Samples beside the training images that are nearest to them",
    "kl_per_latent": "KL of each latent",
    "loss_histogram": "Histogram of the NLL of test images, with the worst of them",
    "loss_per_class": "Losses of each class",
    "calibration": "Observed frequency of ones against predicted probability",
    "learning_curves": "Loss and its terms over epochs",
}


def render(head: Revision, base: Revision | None) -> str:
    """The page as HTML. What a revision has no file for is said, and why.

    Args:
        head: The revision that it is about.
        base: The one that stands beside it, if any.

    Raises:
        StageError: If a revision has no results at all, or two are of different images or targets.
    """
    sides = [head] if base is None else [base, head]
    for side in sides:
        side.require("metrics/evaluation.json")
    if base is not None:
        require_same_images(base, head)
    environment = pages_in(Path(__file__).parent)
    environment.filters |= {"shown": numbers.shown, "nats": nats, "signed": signed, "name_of": name_of}
    comparison, refusal = _comparison(sides)
    explorers, images = _explorers(sides)
    sources = [provenance(side) for side in sides]
    untrue = [
        not_own(side.label, facts["untrue"]) for side, facts in zip(sides, sources, strict=True) if facts["untrue"]
    ]
    bundle = Path(itables.options.dt_bundle)
    return environment.get_template("page.html.jinja").render(
        sides=[origin(side, when) for side, when in zip(sides, ("before", "after"), strict=False)],
        comparison=comparison,
        sentence=sentence(comparison) if comparison else "",
        refusal=refusal,
        notes=comparison["notes"] if comparison else untrue,
        headlines=numbers.headlines(sides),
        explorers=explorers,
        images=images,
        colours=_colours(max(len(data.get("classes", [])) for data in explorers)),
        chart=_chart(sides),
        sweeps=sweeps(head),
        figures=[{"words": words, "pictures": _pictures(path, sides)} for path, words in _figures(sides).items()],
        classes=numbers.classes(sides),
        params=numbers.params(sides),
        provenance=sources,
        chart_library=chart_library(),
        table_style=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        table_library=base64.b64encode(gzip.compress(bundle.read_bytes(), mtime=0)).decode(),
    )


def _comparison(sides: Sequence[Revision]) -> tuple[dict[str, Any] | None, str]:
    """What `make compare` finds of two, or None and why it finds nothing."""
    if len(sides) < 2:
        return None, ""
    try:
        return compare(*sides).as_dict(), ""
    except StageError as error:
        return None, str(error)


def _explorers(sides: Sequence[Revision]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the latent explorer shows of each side, and the pictures of real images, which sides have in common.

    A side is the content of its latents.json with its pictures, or the sentence `missing` if it lacks a file.
    """
    found: list[dict[str, Any]] = []
    pictures: dict[str, int] = {}
    for side in sides:
        missing = [path for path in _EXPLORER if side.read(path) is None]
        if missing:
            found.append({"missing": why_missing(side, missing[0])})
            continue
        latents, grid, images = (side.require(path) for path in _EXPLORER)
        number = pictures.setdefault(sprite(images), len(pictures))
        content = json.loads(latents)
        width, height = (length // content["grid_side"] for length in size(grid))
        found.append({**content, "width": width, "height": height, "grid": sprite(grid), "images": number})
    return found, list(pictures)


def _colours(classes: int) -> list[str]:
    """A colour for each class, in CSS: the ten of the figures, then hues at the golden angle."""
    hues = (f"hsl({137.508 * number % 360:.1f} 60% {35 + 15 * (number % 3)}%)" for number in range(classes))
    return [*CLASS_COLOURS, *hues][:classes]


def _chart(sides: Sequence[Revision]) -> dict[str, Any]:
    """The curves' specification, None if no side has a history, and sentences on those that have none."""
    contents = {side: side.read("metrics/history.csv") for side in sides}
    histories: Mapping[str, bytes] = {side.label: content for side, content in contents.items() if content}
    missing = [why_missing(side, "metrics/history.csv") for side, content in contents.items() if not content]
    return {"curves": curves(histories) if histories else None, "missing": missing}


def _figures(sides: Sequence[Revision]) -> dict[str, str]:
    """What is said of each figure that a side has, by path, in the order of the page; new ones come last."""
    made = sorted({Path(path).stem for side in sides for path in side.hashes("metrics/figures")})
    words = _FIGURES | {name: name.replace("_", " ").capitalize() for name in made if name not in _FIGURES}
    sheet = {_SHEET: "Images as they were given, and what was made of them"} if _have(_SHEET, sides) else {}
    return sheet | {f"metrics/figures/{name}.png": said for name, said in words.items()}


def _have(path: str, sides: Sequence[Revision]) -> bool:
    return any(side.read(path) is not None for side in sides)


def _pictures(path: str, sides: Sequence[Revision]) -> list[dict[str, str]]:
    """A figure of each side as a data URI, or why there is none."""
    contents = [(side, side.read(path)) for side in sides]
    return [
        {"uri": figure(content), "missing": ""} if content else {"uri": "", "missing": why_missing(side, path)}
        for side, content in contents
    ]
