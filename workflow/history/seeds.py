"""The record of runs with several seeds of training, `metrics/seeds.json`, from which spreads are computed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML

from pipeline.code import CODE_FILE, Reader, read_file
from pipeline.errors import StageError
from pipeline.params.section import PARAMS_FILE, Section
from workflow.history.lock import WEIGHTS, outputs
from workflow.history.presets import STAGES, run_digest
from workflow.history.revisions import Revision

PATH = Path("metrics/seeds.json")

#: Metrics files that are compared, and the stages that they come from.
FILES = ("evaluation", "representation", "outliers", "samples")
TARGETS = ("summarise", "represent", "outliers", "samples")

#: Of metrics/processor.json, the class of processor: on one class equal runs give equal bytes.
CLASS = ("instruction_set", "caches", "intra_op")

#: Metrics that have no error over images beside them.
_WITHOUT_ERROR = ("active_units", "calibration_error")


class Run(Section):
    """What is recorded of the run of one seed.

    `instruction_set`, `caches` and `intra_op` are the class of processor, as in `metrics/processor.json`. The last
    four are None where they are not known, as in records of older commits.
    """

    seed: int  # of training
    instruction_set: str
    caches: str
    intra_op: int
    weights: str  # md5 of the folder of weights, as in dvc.lock
    metrics: dict[str, Any]  # by name of their file
    commit: str | None = None  # full id of what was run; of the first run, of the last change of dvc.lock
    processor: str | None = None  # its maker's name of it
    seconds: float | None = None  # of stage `train`
    peak_memory_mib: float | None = None  # of stage `train`


class Record(Section):
    """`metrics/seeds.json`: the runs, and the digest of all that they follow from but data and seed."""

    digest: str
    runs: Annotated[tuple[Run, ...], Field(min_length=2)]


def seeds_digest(read: Reader = read_file) -> str:
    """Hex sha256 of all that the metrics follow from but the data and the seed of training.

    Args:
        read: Reads the files of the project, or those of a commit.
    """
    values = YAML(typ="safe").load(read(str(PARAMS_FILE)) or b"")
    anyone = {**values, "train": {**values["train"], "seed": 0}}
    return run_digest(anyone, (*STAGES, *(stage for stage in TARGETS if stage not in STAGES)), read)


def digest_of(revision: Revision) -> str | None:
    """The `seeds_digest` of a revision's files. None for older commits, whose digests were of another kind."""
    return None if revision.read(str(CODE_FILE)) is None else seeds_digest(revision.read)


def stale() -> bool:
    """Whether `metrics/seeds.json` is there and of other code, parameters or versions."""
    content = PATH.read_bytes() if PATH.is_file() else None
    record = record_in(content)
    return content is not None and (record is None or record.digest != seeds_digest())


def record_in(content: bytes | None) -> Record | None:
    """What a `metrics/seeds.json` says; None if there is none, or one of the old form, of spreads that nothing proved.

    Raises:
        StageError: If it is of no form that `make seeds` writes.
    """
    if content is None:
        return None
    try:
        if "seeds" in json.loads(content):
            return None
        record = Record.model_validate_json(content)
    except (ValueError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise StageError(f"{PATH} cannot be read ({why}); expected what `make seeds` writes: run it again") from error
    seeds = sorted(run.seed for run in record.runs)
    if len({*seeds}) < len(seeds):
        raise StageError(f"{PATH} has a seed twice ({', '.join(map(str, seeds))}): run `make seeds` again")
    return record


def run_of(revision: Revision) -> dict[str, Any]:
    """What is recorded of the run that a revision holds: its seed, class of processor, hash of weights, and metrics."""
    processor = revision.read_json("metrics/processor.json")
    return {
        "seed": revision.read_yaml(PARAMS_FILE)["train"]["seed"],
        **{name: processor[name] for name in CLASS},
        "weights": outputs(revision)[WEIGHTS],
        "metrics": {name: _compared(revision.read_json(f"metrics/{name}.json")) for name in FILES},
    }


def _compared(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that training changes, nested as they are.

    A metric is what has an error over images beside it, and the few that can have none; errors and settings are left
    out, and so is what is said of real images.
    """
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping) and name != "reference":
            found[name] = _compared(value)
        elif f"{name}_se" in metrics or name in _WITHOUT_ERROR:
            found[name] = value
    return found
