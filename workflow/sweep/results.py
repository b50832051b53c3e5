"""What came of a sweep: `sweeps/NAME.json`, and its table."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from workflow.sweep.engine import COMPLETED, Ended
from workflow.sweep.spec import Spec

#: Trials that a table shows.
SHOWN = 10


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


def ranked(trials: Sequence[Mapping[str, Any]], objective: str) -> list[Mapping[str, Any]]:
    """The completed trials of a record, the best first."""
    completed = [trial for trial in trials if trial["verdict"] == COMPLETED]
    return sorted(completed, key=lambda trial: float(trial["history"][-1][objective]))


def table(record: Mapping[str, Any]) -> str:
    """The best trials as text."""
    best = ranked(record["trials"], record["objective"])
    rows = [
        [trial["experiment"], trial["history"][-1][record["objective"]], *shown_values(record, trial)]
        for trial in best[:SHOWN]
    ]
    head = ["experiment", record["objective"].replace("_", " "), *record["parameters"]]
    return f"{tabulate(rows, head)}\n\n{counted(record['trials'])}"


def counted(trials: Sequence[Mapping[str, Any]]) -> str:
    """How many trials ended in which way, as text."""
    verdicts = [trial["verdict"] for trial in trials]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return f"{len(verdicts)} trials: {counts}"


def shown_values(record: Mapping[str, Any], trial: Mapping[str, Any]) -> list[str]:
    """Values of a trial as text, in the order of the record's parameters."""
    values = [trial["values"][key] for key in record["parameters"]]
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
