"""What the record of a sweep, `sweeps/NAME.json`, says."""

from collections.abc import Mapping, Sequence
from typing import Any

#: How a trial ends.
COMPLETED, PRUNED, UNFIT, FAILED = "completed", "pruned", "unfit", "failed"

#: Trials that a table shows.
SHOWN = 10


def ranked(trials: Sequence[Mapping[str, Any]], objective: str) -> list[Mapping[str, Any]]:
    """The completed trials of a record, the best first."""
    completed = [trial for trial in trials if trial["verdict"] == COMPLETED]
    return sorted(completed, key=lambda trial: float(trial["history"][-1][objective]))


def counted(trials: Sequence[Mapping[str, Any]]) -> str:
    """How many trials ended in which way, as text."""
    verdicts = [trial["verdict"] for trial in trials]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return f"{len(verdicts)} trials: {counts}"


def shown_values(record: Mapping[str, Any], trial: Mapping[str, Any]) -> list[str]:
    """Values of a trial as text, in the order of the record's parameters."""
    values = [trial["values"][key] for key in record["parameters"]]
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
