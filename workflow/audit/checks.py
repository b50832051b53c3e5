"""The checks that need no training: a revision's files against each other."""

import csv
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

from ruamel.yaml.error import YAMLError

from pipeline.environment import LOCK_FILE, NUMERIC_FILE, NUMERIC_PACKAGES, locked_versions, read_numeric
from pipeline.files import significant
from vae.fashion_mnist import CLASS_NAMES, SHA256
from vae.statistics import NATS_PER_BIT_PER_DIM, TARGETS, losses_of, mean_and_error
from workflow.audit.checkout import UNTRACKED
from workflow.audit.evidence import seed_findings
from workflow.audit.findings import COMMIT, WORKSPACE, Finding
from workflow.audit.records import provenance_findings
from workflow.history.lock import LOCK, contradictions, stages_of
from workflow.history.per_image import PER_IMAGE, SPLITS, of_split, values_in
from workflow.history.revisions import Revision
from workflow.history.staleness import stale_stages

GRAPH = "dvc.yaml"

_CARD = "metrics/model_card.md"

#: Files of metrics whose values the card quotes, beside the table by class.
_OF_CARD = ("evaluation", "outliers", "samples")

#: A number with its error in the card.
_QUOTED = re.compile(r"(?P<number>-?\d+\.\d+) ± (?P<error>\d+\.\d+)")


def quick_findings(revision: Revision, checkout: Path) -> list[Finding]:
    """What of a revision contradicts itself.

    Args:
        revision: The revision.
        checkout: The folder in which its files stand.

    Raises:
        StageError: If it has no results to look at.
    """
    place = WORKSPACE if revision.commit is None else COMMIT
    unreadable = _unreadable(revision, place)
    if unreadable:
        return [unreadable]
    looks = {
        "lock": lambda: _lock_findings(revision, checkout, place),
        "results": lambda: _contradictions(revision, place),
        "provenance": lambda: provenance_findings(revision, place),
        "values": lambda: _value_findings(revision, place),
        "card": lambda: _card_findings(revision, place),
        "unfinished": lambda: _unfinished_findings(revision, place),
        "data": lambda: _data_findings(revision, place),
        "environment": lambda: _environment_findings(checkout, place),
        "seeds": lambda: seed_findings(revision, place),
    }
    return [finding for check, look in looks.items() for finding in _read(check, look, place)]


def _read(check: str, look: Callable[[], Iterator[Finding]], place: str) -> Iterator[Finding]:
    """What a look finds; a file that is not of its form is a finding too."""
    try:
        yield from look()
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
        YAMLError,
        BadZipFile,
        zlib.error,
        OSError,
    ) as error:
        yield Finding(check, place, check, f"a file is not of the form that the pipeline writes: {error!r}")


def readable(revision: Revision) -> bool:
    """Whether its dvc.lock can be read."""
    return _unreadable(revision, "") is None


def _unreadable(revision: Revision, place: str) -> Finding | None:
    """The finding that there is no looking further, or None."""
    revision.require(LOCK)
    try:
        stages = stages_of(revision)
        entries = [entry for stage in stages.values() for kind in ("deps", "outs") for entry in stage.get(kind, [])]
        missing = [entry for entry in entries if not {"path", "md5"} <= entry.keys()]
    except (YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        return Finding("lock", place, LOCK, f"cannot be read ({first}): run `dvc repro` to write it anew")
    if missing:
        return Finding("lock", place, LOCK, f"has an entry without path or md5: {missing[0]}")
    outside = [path for entry in entries if _leads_outside(path := str(entry["path"]))]
    if outside:
        return Finding("lock", place, LOCK, f"has a path that leads out of the project: {outside[0]}")
    return None


def _leads_outside(path: str) -> bool:
    """Whether a path of a lock is none below the project's folder."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def _lock_findings(revision: Revision, checkout: Path, place: str) -> Iterator[Finding]:
    """The lock against the graph, and against itself."""
    stages = stages_of(revision)
    graph = revision.read_yaml(GRAPH)["stages"]
    for name in sorted(stages.keys() ^ graph.keys()):
        where = f"in {GRAPH}, not in {LOCK}" if name in graph else f"in {LOCK}, not in {GRAPH}"
        yield Finding("lock", place, f"stage {name}", where)
    outputs = {out["path"]: (name, out["md5"]) for name, stage in stages.items() for out in stage.get("outs", [])}
    for name, stage in stages.items():
        for entry in stage.get("deps", []):
            maker, md5 = outputs.get(entry["path"], ("", entry["md5"]))
            if md5 != entry["md5"]:
                words = f"{maker} wrote md5 {md5}, {name} read md5 {entry['md5']}, by {LOCK}"
                yield Finding("lock", place, entry["path"], words)
    for name in stale_stages(checkout):
        yield Finding("lock", place, f"stage {name}", f"{LOCK} is not of its present command, code and parameters")


def _contradictions(revision: Revision, place: str) -> Iterator[Finding]:
    results = {out["path"] for stage in stages_of(revision).values() for out in stage.get("outs", [])}
    for said in contradictions(revision):
        subject, _, words = said.partition(": ")
        yield Finding("results" if subject in results else "causes", place, subject, words)


def _value_findings(revision: Revision, place: str) -> Iterator[Finding]:
    """Means and errors of the losses, and those by class, against the losses of each image."""
    rows = values_in(revision.require(PER_IMAGE))
    stated = revision.read_json("metrics/evaluation.json")
    table = csv.DictReader(io.StringIO(revision.require("metrics/per_class.csv").decode()))
    by_class = {(row["split"], row["targets"], row["class"]): row for row in table}
    for split in SPLITS:
        images = of_split(rows, split)
        for targets in TARGETS:
            losses = losses_of(images, targets)
            values = stated.get(split, {}).get(targets, {})
            yield from _differing(
                _with_bits(_values(losses)), values, f"metrics/evaluation.json {split}.{targets}", place
            )
            for label, words in enumerate(CLASS_NAMES):
                chosen = {name: nats[images["label"] == label] for name, nats in losses.items()}
                row = by_class.get((split, targets, words), {})
                yield from _differing(_values(chosen), row, f"metrics/per_class.csv {split}.{targets}.{words}", place)


def _values(losses: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, nats in losses.items():
        found[name], found[f"{name}_se"] = mean_and_error(nats)
    return found


def _with_bits(values: dict[str, float]) -> dict[str, float]:
    bits = {
        f"nll_bits_per_dim{ending}": values[f"nll_nats{ending}"] / NATS_PER_BIT_PER_DIM
        for ending in ("", "_se")
        if f"nll_nats{ending}" in values
    }
    return values | bits


def _differing(found: Mapping[str, float], stated: Mapping[str, Any], where: str, place: str) -> Iterator[Finding]:
    for name, value in found.items():
        text = str(stated.get(name, "nothing"))
        if text == "nothing" or significant(float(text)) != significant(value):
            words = f"states {text}, but {PER_IMAGE} gives {significant(value)}"
            yield Finding("values", place, f"{where}.{name}", words)


def _card_findings(revision: Revision, place: str) -> Iterator[Finding]:
    """Each number of the model card, with its error, against those of the metrics, rounded as the card does."""
    rows = csv.DictReader(io.StringIO(revision.require("metrics/per_class.csv").decode()))
    stated = [revision.read_json(f"metrics/{name}.json") for name in _OF_CARD]
    known = [pair for content in (*stated, *rows) for pair in _pairs(content)]
    for found in _QUOTED.finditer(revision.require(_CARD).decode()):
        digits = len(found["number"].partition(".")[2])
        if not any(found.groups() == (f"{number:.{digits}f}", f"{error:.{digits}f}") for number, error in known):
            yield Finding("card", place, _CARD, f"states {found[0]}, which is in no file of metrics")


def _pairs(content: Any) -> Iterator[tuple[float, float]]:
    """Each number that has an error beside it, and that."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _pairs(value)
        elif f"{name}_se" in content and value != "":
            yield float(value), float(content[f"{name}_se"])


def _unfinished_findings(revision: Revision, place: str) -> Iterator[Finding]:
    """Files that git holds where stages keep unfinished work, and DVC data and its cache: a run would take them up."""
    for path in revision.hashes(*UNTRACKED):
        yield Finding("unfinished", place, path, "git holds it, where only a run may write")


def _data_findings(revision: Revision, place: str) -> Iterator[Finding]:
    stated = revision.read_json("metrics/data.json")["sha256"]
    for name, digest in SHA256.items():
        if stated.get(name) != digest:
            words = f"has sha256 {stated.get(name)}, the published one {digest}"
            yield Finding("data", place, f"metrics/data.json {name}", words)


def _environment_findings(checkout: Path, place: str) -> Iterator[Finding]:
    stated, locked = read_numeric(checkout / NUMERIC_FILE), locked_versions(checkout / LOCK_FILE)
    for name in NUMERIC_PACKAGES:
        if stated.get(name) != locked.get(name):
            words = f"states {name} {stated.get(name)}, {LOCK_FILE} {locked.get(name)}"
            yield Finding("environment", place, str(NUMERIC_FILE), words)
