"""Tells where a record was made, and what it cost: commit, code, processor, seconds and memory."""

from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.params.whole import load_params
from pipeline.processor import instruction_set, processor_name
from workflow.history.presets import run_digest, run_record
from workflow.history.revisions import resolve


def origin() -> dict[str, Any]:
    """Tells the full id of HEAD, the `run_digest` of the present files, and the processor with its instruction set.

    Raises:
        StageError: If git has no commit here, or the parameters are refused.
    """
    return {
        "commit": resolve("HEAD").commit,
        "digest": run_digest(load_params().model_dump(mode="json")),
        "processor": f"{processor_name()}, {instruction_set()}",
    }


def cost(stage: str, folder: Path = Path()) -> dict[str, Any] | None:
    """Tells the processor, seconds and peak memory (MiB) of the run of a stage that made a folder's results.

    Returns:
        None if the folder's `runs/` has no record of that run: DVC took the results from its cache, or `make clean`
        removed it.
    """
    try:
        record = run_record(stage, folder)
    except StageError:
        return None
    return {
        "processor": record["processor"],
        "seconds": round(record["seconds"], 1),
        "peak_memory_mib": round(record["peak_memory_mib"]),
    }
