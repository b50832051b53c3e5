"""`make seeds N=5`: runs the present parameters with N seeds of training, and records what each of them found."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML

from pipeline.code import Reader, read_file
from pipeline.errors import StageError
from pipeline.files import write_metrics
from pipeline.params.section import PARAMS_FILE, Section
from pipeline.params.whole import load_params
from workflow.command import end
from workflow.lock import WEIGHTS, contradictions, outputs
from workflow.presets import STAGES, run_digest
from workflow.revisions import Revision, experiments, resolve
from workflow.sweep.engine import COMPLETED, Plan, forget, head_commit, run

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

    Attributes:
        seed: Of training.
        instruction_set: With `caches` and `intra_op` the class of processor, as in `metrics/processor.json`.
        weights: md5 of the folder of weights, as in `dvc.lock`.
        metrics: By name of their file.
    """

    seed: int
    instruction_set: str
    caches: str
    intra_op: int
    weights: str
    metrics: dict[str, Any]


class Record(Section):
    """`metrics/seeds.json`: the runs, and the digest of all that they follow from but data and seed."""

    digest: str
    runs: Annotated[tuple[Run, ...], Field(min_length=2)]


def main(arguments: Sequence[str]) -> int:
    """Runs an experiment for each further seed, by Ray, and writes `metrics/seeds.json`. The first is the commit's own.

    An experiment bears the digest of what it runs in its name: one that is there already is not run again.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If it was refused, or a run failed.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.seeds")
    parser.add_argument("count", metavar="N")
    count = parser.parse_args(arguments).count
    if not count.isdecimal() or int(count) < 2:
        raise StageError(f"N = {count!r}: it should be a number of seeds, 2 or more")
    params = load_params()
    if params.train.workers > 1:
        raise StageError(f"train.workers = {params.train.workers}: expected 1, as each seed is trained by itself")
    own = resolve("HEAD")
    if untrue := contradictions(own):
        raise StageError(f"the results of HEAD are not its own ({untrue[0]}): `dvc repro`, and commit them first")
    others = range(params.train.seed + 1, params.train.seed + int(count))
    digest = seeds_digest()
    name = f"seed-{{seed}}-{digest[:8]}"
    missing = [seed for seed in others if name.format(seed=seed) not in experiments()]
    if missing:
        _run(missing, name, f"seeds-{digest[:8]}-{others[0]}-{others[-1]}", params.threads.intra_op)
    runs = [run_of(revision) for revision in (own, *(resolve(name.format(seed=seed)) for seed in others))]
    write_metrics(PATH, {"digest": digest, "runs": runs})
    print(f"seeds: wrote {PATH}; commit it with dvc.lock and metrics/. The runs: dvc exp show --only-changed")
    return 0


def seeds_digest(read: Reader = read_file) -> str:
    """Hex sha256 of all that the metrics follow from but the data and the seed of training.

    Args:
        read: Reads the files of the project, or those of a commit.
    """
    values = YAML(typ="safe").load(read(str(PARAMS_FILE)) or b"")
    anyone = {**values, "train": {**values["train"], "seed": 0}}
    return run_digest(anyone, (*STAGES, *(stage for stage in TARGETS if stage not in STAGES)), read)


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


def _run(seeds: Sequence[int], name: str, key: str, threads: int) -> None:
    """Runs seeds as experiments of that name, as many at once as there are cores for.

    Raises:
        StageError: If one fails, with its reason.
    """
    print(f"seeds: runs {', '.join(map(str, seeds))}", flush=True)
    ended = run(
        Plan(
            command="seeds",
            key=key,
            job={"project": str(Path().resolve()), "commit": head_commit(), "targets": list(TARGETS), "name": name},
            values={},
            threads=threads,
            trials=len(seeds),
            hours=None,
            objective="validation_loss",
            grid={"train.seed": seeds},
        )
    )
    forget(key)
    for trial in ended.trials:
        if trial.verdict != COMPLETED:
            raise StageError(
                f"the run of seed {trial.values['train.seed']} {trial.verdict}: {trial.error}; `make seeds` tries again"
            )


if __name__ == "__main__":
    end("seeds", lambda: main(sys.argv[1:]))
