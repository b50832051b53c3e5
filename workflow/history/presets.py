"""Presets: what named experiments change in `params.yaml`, and what their last full run found."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.code import Reader, code_digests, read_file
from pipeline.errors import StageError
from pipeline.files import write_json
from pipeline.params.section import PARAMS_FILE
from pipeline.params.whole import Params, load_params
from pipeline.provenance import digest_of
from workflow.history.revisions import resolve

FOLDER = Path("presets")
METRICS = Path("metrics")
RUNS = Path("runs")
GRAPH = Path("dvc.yaml")

#: The section of parameters whose keys follow from one of them.
DATA_SECTION = "data"

#: The stages that the metrics of a run come from.
STAGES = ("fetch", "preprocess", "train", "evaluate", "refine", "summarise")


def preset_names() -> list[str]:
    """Names of the presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(name: str) -> dict[str, dict[str, Any]]:
    """Reads what a preset changes: values by section and key.

    Raises:
        StageError: If there is no such preset.
    """
    if name not in preset_names():
        raise StageError(f"NAME = {name!r}: it should be one of: {', '.join(preset_names())} ({FOLDER}/NAME.yaml)")
    return YAML(typ="safe").load(FOLDER / f"{name}.yaml")


def write_params(target: Path, *changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the parameters of this project with the values of presets, the last of which count most."""
    with target.open("w", encoding="utf-8") as handle:
        YAML().dump(reduce(merged, changes, YAML(typ="safe").load(PARAMS_FILE)), handle)


def merged(params: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Parameters with the values of `changes`, by section and key, in place of their own.

    Of a data set all keys are replaced, as others have other keys.
    """
    kept = {section: {} if section == DATA_SECTION else values for section, values in params.items()}
    return {**params, **{section: {**kept.get(section, {}), **values} for section, values in changes.items()}}


def run_digest(values: Mapping[str, Any], stages: Sequence[str] = STAGES, read: Reader = read_file) -> str:
    """Hex sha256 of all that the metrics of a run follow from but the data.

    Sections of parameters, and the code of the stages with the versions of the numeric packages.
    """
    graph = YAML(typ="safe").load(read(str(GRAPH)) or b"")["stages"]
    listed = [entry for stage in stages for entry in graph[stage].get("params", [])]
    sections = {entry for entry in listed if isinstance(entry, str)}  # not the digest of its code
    causes = {
        "params": {name: values[name] for name in sections},
        "code": code_digests(stages, values, read),
    }
    return hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()


def record_run(name: str) -> Path:
    """Writes presets/NAME.json from the run of the preset that the workspace holds.

    Raises:
        StageError: If a stage's run record is not of that run.
    """
    train, evaluate = (run_record(stage) for stage in ("train", "evaluate"))
    processor = _json(METRICS / "processor.json")
    path = FOLDER / f"{name}.json"
    write_json(
        path,
        {
            "command": f"make experiment NAME={name}",
            "parent_commit": resolve("HEAD").commit,
            "digest": run_digest(load_params().model_dump(mode="json")),
            "seed": load_params().train.seed,
            "train_seconds": round(train["seconds"], 1),
            "evaluate_seconds": round(evaluate["seconds"], 1),
            "peak_memory_mib": round(train["peak_memory_mib"]),
            "processor": train["processor"],
            **{name: processor[name] for name in ("instruction_set", "caches", "intra_op")},
            "training": _json(METRICS / "train.json"),
            "history": history(),
            "metrics": _json(METRICS / "evaluation.json"),
        },
    )
    return path


def history() -> dict[str, list[float]]:
    """The workspace's validations: their epochs, and the loss of each in nats per image."""
    with (METRICS / "history.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return {
        "epoch": [int(row["epoch"]) for row in rows],
        "validation_loss": [float(row["validation_loss"]) for row in rows],
    }


def recorded(name: str) -> Mapping[str, Any] | None:
    """What presets/NAME.json has of a preset's last recorded run; None if there was none."""
    path = FOLDER / f"{name}.json"
    return dict(_json(path)) if path.is_file() else None


def run_record(stage: str, folder: Path = Path()) -> Mapping[str, Any]:
    """What a stage recorded of the run that made the results in the workspace, or in the folder of a copy.

    Raises:
        StageError: If the record is missing or of another run.
    """
    path = folder / RUNS / f"{stage}.json"
    record = _json(path) if path.is_file() else {}
    if record.get("digest") != digest_of(_json(folder / METRICS / "provenance" / f"{stage}.json")[0]):
        raise StageError(
            f"{path} is not the record of the present results (DVC took them from its cache), so their time is "
            f"unknown; `dvc repro --force --no-run-cache` (or, of a preset, `make experiment NAME=... "
            f"ARGS='--force --no-run-cache'`) runs everything again"
        )
    return dict(record)


def stale_presets() -> dict[str, str]:
    """Presets whose recorded metrics are not of the present code and parameters, and why.

    A preset that was never recorded has nothing that could be stale.
    """
    stale = {}
    for name in preset_names():
        record = recorded(name)
        if record and record["digest"] != run_digest(resolved(name).model_dump(mode="json")):
            stale[name] = f"{FOLDER / name}.json is of other code, parameters or versions"
    return stale


def resolved(name: str) -> Params:
    """The parameters of this project with a preset's values in place of its own, checked."""
    content = merged(YAML(typ="safe").load(PARAMS_FILE), read_preset(name))
    return Params.chosen(content).model_validate_json(json.dumps(content))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
