"""What came of a sweep: `sweeps/NAME.json`, and its table."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from workflow.history.sweeps import SHOWN, counted, ranked, shown_values
from workflow.scale.engine import Ended
from workflow.scale.spec import Spec


def content(
    spec: Spec, commit: str, cores: int, trials: Sequence[Ended], importance: Mapping[str, float]
) -> dict[str, Any]:
    """The record of a sweep: how it was asked for, each of its trials, and the importance of each parameter."""
    return {
        "commit": commit,
        "cores": cores,
        "objective": spec.objective,
        "parameters": sorted(spec.space),
        "fixed": spec.fixed,
        "threads": spec.threads,
        "importance": dict(importance),
        "sampler": spec.sampler.model_dump(),
        "pruner": spec.pruner.model_dump(),
        "trials": [
            {
                "number": trial.number,
                "values": dict(trial.values),
                "verdict": trial.verdict,
                "experiment": trial.experiment,
                "error": trial.error,
                "history": list(trial.history),
                "pipeline_seconds": round(trial.pipeline_seconds, 1),
                "ended_seconds": round(trial.ended_seconds, 1),
            }
            for trial in trials
        ],
    }


def table(record: Mapping[str, Any]) -> str:
    """The best trials as text."""
    best = ranked(record["trials"], record["objective"])
    rows = [
        [trial["experiment"], trial["history"][-1][record["objective"]], *shown_values(record, trial)]
        for trial in best[:SHOWN]
    ]
    head = ["experiment", record["objective"].replace("_", " "), *record["parameters"]]
    return f"{tabulate(rows, head)}\n\n{counted(record['trials'])}"
