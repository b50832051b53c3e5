"""The checks that need no training: a revision's files against each other.

Each check yields a subject, which is a file, output or parameter, and what is wrong with it.
"""

import csv
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

from ruamel.yaml.error import YAMLError

from pipeline.environment import LOCK_FILE, NUMERIC_FILE, NUMERIC_PACKAGES, locked_versions, read_numeric
from pipeline.files import significant
from vae.statistics import TARGETS, losses_of, mean_and_error
from workflow.audit.checkout import UNTRACKED
from workflow.audit.evidence import seed_findings
from workflow.audit.findings import COMMIT, WORKSPACE, Finding
from workflow.audit.records import provenance_findings
from workflow.history.data_sets import FACTS, PER_CLASS, class_names, facts_of, published
from workflow.history.lock import LOCK, contradictions, outputs, stages_of
from workflow.history.per_image import PER_IMAGE, SPLITS, of_split, values_in
from workflow.history.revisions import Revision
from workflow.history.staleness import stale_stages

GRAPH = "dvc.yaml"

_CARD = "metrics/model_card.md"

#: Files of metrics whose values the card quotes, beside the table by class.
_OF_CARD = ("evaluation", "outliers", "samples")

#: A number with its error in the card.
_QUOTED = re.compile(r"(?P<number>-?\d+\.\d+) ± (?P<error>\d+\.\d+)")

#: What reading a file raises that is not of its form.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, EOFError, OSError, YAMLError, BadZipFile, zlib.error)

Found = Iterator[tuple[str, str]]


def quick_findings(revision: Revision, checkout: Path) -> list[Finding]:
    """Lists what contradicts itself in a revision.

    Args:
        revision: The revision.
        checkout: The folder in which its files stand.

    Raises:
        StageError: If it has no results to look at.
    """
    place = WORKSPACE if revision.commit is None else COMMIT
    if words := unreadable(revision):
        return [Finding("lock", place, LOCK, words)]
    looks: Mapping[str, Callable[[], Iterable[tuple[str, str]]]] = {
        "lock": lambda: _lock_findings(revision, checkout),
        "results": lambda: _contradictions(revision, of_results=True),
        "causes": lambda: _contradictions(revision, of_results=False),
        "provenance": lambda: provenance_findings(revision),
        "values": lambda: _value_findings(revision),
        "card": lambda: _card_findings(revision),
        "unfinished": lambda: _unfinished_findings(revision),
        "data": lambda: _data_findings(revision),
        "environment": lambda: _environment_findings(checkout),
        "seeds": lambda: seed_findings(revision),
    }
    findings = []
    for check, look in looks.items():
        try:
            for subject, words in look():
                findings.append(Finding(check, place, subject, words))
        except MALFORMED as error:
            words = f"a file is not of the form that the pipeline writes: {error!r}"
            findings.append(Finding(check, place, check, words))
    return findings


def unreadable(revision: Revision) -> str:
    """Says why no check can read a revision's dvc.lock. Empty if they can."""
    revision.require(LOCK)
    try:
        stages = stages_of(revision)
        entries = [entry for stage in stages.values() for kind in ("deps", "outs") for entry in stage.get(kind, [])]
        missing = [entry for entry in entries if not {"path", "md5"} <= entry.keys()]
    except (YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        first = (str(error).strip() or repr(error)).splitlines()[0]
        return f"cannot be read ({first}): run `dvc repro` to write it anew"
    if missing:
        return f"has an entry without path or md5: {missing[0]}"
    paths = [PurePosixPath(str(entry["path"])) for entry in entries]
    outside = [path for path in paths if path.is_absolute() or ".." in path.parts]
    return f"has a path that leads out of the project: {outside[0]}" if outside else ""


def _lock_findings(revision: Revision, checkout: Path) -> Found:
    """The lock against the graph, and against itself."""
    stages = stages_of(revision)
    graph = revision.read_yaml(GRAPH)["stages"]
    for name in sorted(stages.keys() ^ graph.keys()):
        yield f"stage {name}", f"in {GRAPH}, not in {LOCK}" if name in graph else f"in {LOCK}, not in {GRAPH}"
    written = {out["path"]: (name, out["md5"]) for name, stage in stages.items() for out in stage.get("outs", [])}
    for name, stage in stages.items():
        for entry in stage.get("deps", []):
            maker, md5 = written.get(entry["path"], ("", entry["md5"]))
            if md5 != entry["md5"]:
                yield entry["path"], f"{maker} wrote md5 {md5}, {name} read md5 {entry['md5']}, by {LOCK}"
    for name in stale_stages(checkout):
        yield f"stage {name}", f"{LOCK} is not of its present command, code and parameters"


def _contradictions(revision: Revision, *, of_results: bool) -> Found:
    """What contradicts the lock: the results, or else what they follow from."""
    results = outputs(revision)
    for said in contradictions(revision):
        subject, _, words = said.partition(": ")
        if (subject in results) == of_results:
            yield subject, words


def _value_findings(revision: Revision) -> Found:
    """Means and errors of the losses, and those by class, against the losses of each image."""
    rows = values_in(revision.require(PER_IMAGE))
    stated = revision.read_json("metrics/evaluation.json")
    classes, nats_per_bit = class_names(revision), math.prod(facts_of(revision)["image_shape"]) * math.log(2)
    by_class = {(row["split"], row["targets"], row["class"]): row for row in _per_class(revision)}
    for split, targets in product(SPLITS, TARGETS):
        images, of_split_stated = of_split(rows, split), stated.get(split, {})
        if targets not in of_split_stated and f"{targets}_kl_nats" not in images:
            continue  # images that are not made binary have no such losses
        losses = losses_of(images, targets)
        values = _values(losses)
        for name in ("nll_nats", "nll_nats_se") if "nll_nats" in losses else ():
            values[name.replace("nats", "bits_per_dim")] = values[name] / nats_per_bit
        of_targets = of_split_stated.get(targets, {})
        yield from _differing(values, of_targets, f"metrics/evaluation.json {split}.{targets}")
        for label, words in enumerate(classes):
            of_class = _values({name: nats[images["label"] == label] for name, nats in losses.items()})
            row = by_class.get((split, targets, words), {})
            yield from _differing(of_class, row, f"{PER_CLASS} {split}.{targets}.{words}")


def _per_class(revision: Revision) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(revision.require(PER_CLASS).decode()))


def _values(losses: Mapping[str, Any]) -> dict[str, float]:
    """Mean and error by name; of a single image no error, of none nothing."""
    found = {}
    for name, nats in losses.items():
        if len(nats) > 1:
            found[name], found[f"{name}_se"] = mean_and_error(nats)
        elif len(nats):
            found[name] = float(nats[0])
    return found


def _differing(found: Mapping[str, float], stated: Mapping[str, Any], where: str) -> Found:
    for name, value in found.items():
        text = str(stated.get(name, "nothing"))
        if text == "nothing" or significant(float(text)) != significant(value):
            yield f"{where}.{name}", f"states {text}, but {PER_IMAGE} gives {significant(value)}"


def _card_findings(revision: Revision) -> Found:
    """Each number of the model card, with its error, against those of the metrics, rounded as the card does."""
    stated = [revision.read_json(f"metrics/{name}.json") for name in _OF_CARD]
    known = [pair for content in (*stated, *_per_class(revision)) for pair in _pairs(content)]
    for found in _QUOTED.finditer(revision.require(_CARD).decode()):
        digits = len(found["number"].partition(".")[2])
        if not any(found.groups() == (f"{number:.{digits}f}", f"{error:.{digits}f}") for number, error in known):
            yield _CARD, f"states {found[0]}, which is in no file of metrics"


def _pairs(content: Any) -> Iterator[tuple[float, float]]:
    """Each number that has an error beside it, and the error."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _pairs(value)
        elif f"{name}_se" in content and "" not in (value, content[f"{name}_se"]):  # as in rows of a table
            yield float(value), float(content[f"{name}_se"])


def _unfinished_findings(revision: Revision) -> Found:
    """Files that git holds where stages keep unfinished work, and DVC data and its cache: a run would take them up."""
    for path in revision.hashes(*UNTRACKED):
        yield path, "git holds it, where only a run may write"


def _data_findings(revision: Revision) -> Found:
    """The arrays against the published ones. A folder of images is published nowhere: it is held against the lock."""
    stated = facts_of(revision)["sha256"]
    for name, digest in published(revision).items():
        if stated.get(name) != digest:
            yield f"{FACTS} {name}", f"has sha256 {stated.get(name)}, the published one {digest}"


def _environment_findings(checkout: Path) -> Found:
    stated, locked = read_numeric(checkout / NUMERIC_FILE), locked_versions(checkout / LOCK_FILE)
    for name in NUMERIC_PACKAGES:
        if stated.get(name) != locked.get(name):
            yield str(NUMERIC_FILE), f"states {name} {stated.get(name)}, {LOCK_FILE} {locked.get(name)}"
