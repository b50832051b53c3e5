"""Which stage of how many a `dvc repro` is at, and about how long it still takes, by the last runs on this machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.code import CODE_FILE
from pipeline.params.section import PARAMS_FILE

GRAPH, LOCK = Path("dvc.yaml"), Path("dvc.lock")


def place(stage: str, runs: Path) -> str:
    """Says where a whole `dvc repro` is at the start of a stage, such as `stage 4 of 15, about 12 minutes to go`.

    Args:
        stage: The stage that starts.
        runs: The folder of the records of earlier runs, STAGE.json; those of other parameters took other times.
    """
    graph = _read(GRAPH)["stages"]
    due = _due(stage, graph, (_read(LOCK) or {}).get("stages") or {})
    params = _read(PARAMS_FILE)
    known = [found for name in due if (found := _seconds(runs / f"{name}.json", params)) is not None]
    words = f"stage {len(graph) - len(due) + 1} of {len(graph)}"
    unknown = len(due) - len(known)
    if not known:
        return words
    more = f", beside {unknown} that never ran so here" if unknown else ""
    return f"{words}, about {in_words(sum(known))} to go{more}"


def _seconds(record: Path, params: Mapping[str, Any]) -> float | None:
    """How long a stage took; None if it never ran here with these parameters, or its record cannot be read."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        sections = found["params"].items()
        same = all(
            params[name].get(key, value) == value for name, section in sections for key, value in section.items()
        )
        return float(found["seconds"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _due(stage: str, graph: Mapping[str, Any], locked: Mapping[str, Any]) -> list[str]:
    """The stages that are still to run: `stage`, those that dvc.lock has otherwise or not, and all that need these.

    dvc.lock has each stage as it ran last, also those that this `dvc repro` has run so far.
    """
    given = {str(path): _read(path) for path in (PARAMS_FILE, CODE_FILE)}
    made = {out["path"]: out.get("md5") for entry in locked.values() for out in entry.get("outs", [])}
    makers = {path: name for name, entry in graph.items() for path in _outs(entry)}

    def ran_so(name: str) -> bool:
        entry = locked.get(name)
        if entry is None or not all(Path(path).exists() for path in _outs(graph[name])):
            return False
        for file, stated in entry.get("params", {}).items():  # files of a user's own stages are taken for unchanged
            if file in given and any(given[file].get(key) != value for key, value in stated.items()):
                return False
        deps = [(dep["path"], dep.get("md5")) for dep in entry.get("deps", [])]
        return all(made.get(path, md5) == md5 for path, md5 in deps)

    due = {stage} | {name for name in graph if not ran_so(name)}
    needs = {name: {makers.get(path) for path in entry.get("deps", [])} for name, entry in graph.items()}
    while more := {name for name in graph if name not in due and needs[name] & due}:
        due |= more
    return sorted(due)


def _outs(entry: Mapping[str, Any]) -> list[str]:
    """The paths that a stage of dvc.yaml writes."""
    listed = [one for kind in ("outs", "metrics", "plots") for one in entry.get(kind, [])]
    return [one if isinstance(one, str) else next(iter(one)) for one in listed]


def in_words(seconds: float) -> str:
    """A length of time as one says it, to the minute."""
    minutes = round(seconds / 60)
    if minutes > 1:
        return f"{minutes} minutes"
    return "a minute" if seconds >= 30 else "half a minute" if seconds >= 15 else "ten seconds"


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path) if path.is_file() else {}
