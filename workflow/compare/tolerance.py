"""The one place that says how far the results of two processor classes may lie apart.

Another instruction set rounds otherwise, and training amplifies rounding; so bytes differ, and results by a little.
What is tolerated of a quantity is a small multiple of the largest difference ever measured of any quantity of its unit,
between instruction sets and thread counts on equal code, parameters and data (`make portability`), never the error over
images, which is about another question. The name of a quantity says its unit, so a new metric needs no entry.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from pipeline.files import significant
from workflow.compare.distances import distances, sizes

#: What `make portability` measured: largest difference by unit.
MEASURED = Path(__file__).with_name("tolerance.json")

GRAPH = Path(__file__).parents[2] / "dvc.yaml"

MULTIPLE = 3

#: Units by how a name ends, the first that fits. An array file has the name of its path.
_UNITS = {
    "bits": "bits_per_dim|bits_per_dim_se|bits_per_dim_mc",
    "latent_nats": "latent_kl_nats",
    "nats_mc": "mc_nats|nats_mc|nats_bias",
    "nats_se": "nats_se",
    "nats": "nats|(?:train|validation)_(?:loss|reconstruction|kl)",  # those of metrics/history.csv are in nats
    "count": "units|pixels",
    "density": "density",
    "share": "accuracy|auroc|coverage|explained",
    "probability": "observed|predicted",
    "coordinate": "axes|origin|position|/mean|/log_var",  # of latents; metrics/export.json has `mean` of something else
    "gray": "gray",  # of 1, a picture's
    "level": "gray_reconstruction",  # of 255
    "weights": "weights",
}

#: Units whose numbers differ the more, the fewer images they are a mean of. The kind of file tells: a class or an epoch
#: has some of the images, an array a number for each; without a prefix a number is of all images.
_OF_IMAGES = ("nats", "nats_se", "nats_mc", "count")
_PREFIXES = {".csv": "part_", ".npy": "image_", ".npz": "image_"}

#: Without a measured unit a quantity may differ by this share of its largest number, an error, which is rougher, by the
#: other share; and always by what float32 rounds off numbers near 100.
_SHARE, _SHARE_OF_ERRORS, _ROUNDED = 0.1, 1 / 3, 1e-5
_ERRORS = ("_se", "_mc", "_bias")

#: Files that say on what machine and from which bytes the others were made: they differ on another machine.
_STATING = ("metrics/processor.json", "metrics/provenance/")
_MANIFEST = "sha256.json"


def unit(path: str, quantity: str) -> str | None:
    """The unit of a quantity of a file; None if its name says none."""
    kind = PurePosixPath(path).suffix
    name = path.removesuffix(kind) if kind == ".npy" else quantity
    fits = (unit for unit, ends in _UNITS.items() if re.search(rf"(?:\b|_)(?:{ends})$", name))
    found = next(fits, None)
    return f"{_PREFIXES.get(kind, '')}{found}" if found in _OF_IMAGES else found


def largest(measured: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """The largest difference of any quantity of each unit.

    Args:
        measured: Of each variation of `make portability` the differences by file and quantity.
    """
    found: dict[str, float] = {}
    for files in measured:
        for path, quantities in files.items():
            for quantity, distance in quantities.items():
                if of := unit(path, quantity):
                    found[of] = max(found.get(of, 0.0), float(significant(distance)))
    return found


def tolerated(path: str, quantity: str, size: float = 0.0) -> float:
    """Largest difference of a quantity of a file that is tolerated, in its own unit.

    Args:
        path: Of the file.
        quantity: As `distances` names it.
        size: Its largest number, which counts if its unit was never measured. 0 for whole numbers: they then have to
            be equal.
    """
    if any(PurePosixPath(path).is_relative_to(output) for output in _steady()):
        return 0.0
    measured = _measured().get(unit(path, quantity) or "")
    if measured is not None:
        return MULTIPLE * measured
    name = PurePosixPath(path).stem if path.endswith(".npy") else quantity
    return max(_ROUNDED, size * (_SHARE_OF_ERRORS if name.endswith(_ERRORS) else _SHARE)) if size else 0.0


@cache
def _measured() -> dict[str, float]:
    found: dict[str, float] = json.loads(MEASURED.read_text(encoding="utf-8"))["largest"]
    return found


@cache
def _steady() -> list[str]:
    """Outputs that are equal everywhere: neither their stage nor one before it takes the section `threads`."""
    stages = YAML(typ="safe").load(GRAPH)["stages"]
    written = {
        path: stage
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
        for path in ([entry] if isinstance(entry, str) else entry)
    }

    def varies(stage: Mapping[str, Any]) -> bool:
        before = (written[path] for path in stage.get("deps", []) if path in written)
        return "threads" in stage["params"] or any(map(varies, before))

    return [path for path, stage in written.items() if not varies(stage)]


def states_origin(path: str) -> bool:
    """Whether a file only says where the others come from."""
    return path.startswith(_STATING) or path.endswith(_MANIFEST)


def held_against(ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> tuple[str, bool]:
    """Names the quantity that differs most, measured by what is tolerated of it, and says if that is too much.

    Args:
        ours: Contents by path.
        theirs: Likewise.
    """
    if ours.keys() != theirs.keys():
        return f"other files: {', '.join(sorted(ours.keys() ^ theirs.keys()))}", True
    ratios = list(_ratios(ours, theirs))
    if not ratios:
        return "it says on what machine and from which bytes the others were made", False
    ratio, words = max(ratios)
    return words, ratio > 1


def _ratios(ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> Iterator[tuple[float, str]]:
    """Yields the difference of each quantity, in multiples of what is tolerated and in words."""
    for path, content in ours.items():
        if not states_origin(path):
            of_size = sizes(path, theirs[path])
            for quantity, distance in distances(path, content, theirs[path]).items():
                bound = tolerated(path, quantity, of_size.get(quantity, 0.0))
                ratio = distance / bound if bound else (math.inf if distance else 0.0)
                yield ratio, f"{path}: {quantity} by {distance:.3g}, tolerated {bound:.3g}"


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Metrics by dotted name, `test.gray.elbo_nats`."""
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        else:
            yield name, float(value)
