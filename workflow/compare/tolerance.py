"""The one place that says how far the results of two processor classes may lie apart.

Another instruction set rounds otherwise, and training amplifies rounding; so bytes differ, and results by a little.
What is tolerated of a quantity is a small multiple of the largest difference ever measured between instruction sets and
thread counts on equal code, parameters and data (`make portability`), never the error over images, which is about
another question.
"""

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from workflow.compare.distances import distances

#: What `make portability` measured: largest difference by file and quantity.
MEASURED = Path(__file__).with_name("tolerance.json")

MULTIPLE = 3

#: Ends of the names of errors.
_ERRORS = ("se", "mc", "bias")

#: Files that say on what machine and from which bytes the others were made: on another machine they say another thing.
_STATING = ("metrics/processor.json", "metrics/provenance/")
_MANIFEST = "sha256.json"


def tolerated(path: str, quantity: str) -> float:
    """Largest difference of a quantity of a file that is tolerated, in its own unit; 0 where none was ever measured.

    Quantities of one unit in a file share the largest of theirs: each was measured a few times only.
    """
    measured = _measured().get(path, {})
    if quantity not in measured:
        return 0.0
    return MULTIPLE * max(value for name, value in measured.items() if _unit(name) == _unit(quantity))


def _unit(quantity: str) -> str:
    """The end of a name: `nats`, `accuracy`, and for errors `nats_se`."""
    parts = quantity.split("_")
    return "_".join(parts[-2:] if parts[-1] in _ERRORS else parts[-1:])


@cache
def _measured() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(MEASURED.read_text(encoding="utf-8"))["largest"]
    return found


def states_origin(path: str) -> bool:
    """Whether a file only says where others come from."""
    return path.startswith(_STATING) or path.endswith(_MANIFEST)


def held_against(ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> tuple[str, bool]:
    """What of some files differs most by what is tolerated, in words, and whether anything is beyond that.

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
    """Of each quantity, how many times what is tolerated it differs by, and that in words."""
    for path, content in ours.items():
        if not states_origin(path):
            for quantity, distance in distances(path, content, theirs[path]).items():
                bound = tolerated(path, quantity)
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
