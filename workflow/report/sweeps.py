"""The sweeps of a revision: tables of their best trials, and what was found when and where."""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import altair as alt
import pandas as pd

from workflow.history.revisions import Revision
from workflow.history.sweeps import SHOWN, counted, ranked, shown_values
from workflow.report.charts import named, styled

#: Ratio of the largest to the smallest value from which a parameter is drawn by its logarithm.
_DECADES = 20


def sweeps(revision: Revision) -> list[dict[str, Any]]:
    """Each sweep that a revision has the record of, by name; of one that completed no trial only the counts."""
    paths = sorted(path for path in revision.hashes("sweeps") if path.endswith(".json"))
    return [_sweep(PurePosixPath(path).stem, revision.read_json(path)) for path in paths]


def _sweep(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    objective = record["objective"]
    best = ranked(record["trials"], objective)
    return {
        "name": name,
        "objective": objective.replace("_", " "),
        "commit": record["commit"][:9],
        "counts": counted(record["trials"]),
        "threads": record["threads"],
        "parameters": record["parameters"],
        "importance": record["importance"],
        "rows": [
            {
                "experiment": trial["experiment"],
                "value": trial["history"][-1][objective],
                "values": shown_values(record, trial),
            }
            for trial in best[:SHOWN]
        ],
        "charts": _charts(record, best) if best else {},
    }


def _charts(record: Mapping[str, Any], best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Vega-Lite specifications by name."""
    losses = [trial["history"][-1][record["objective"]] for trial in best]
    charts = {"coordinates": _coordinates(record, best, losses), "progress": _progress(best, losses)}
    if record["importance"]:
        charts["importance"] = _importance(record["importance"])
    return {name: styled(chart).to_dict() for name, chart in charts.items()}


def _coordinates(
    record: Mapping[str, Any], best: Sequence[Mapping[str, Any]], losses: Sequence[float]
) -> alt.LayerChart:
    """A line a completed trial, over the parameters, each from its smallest to its largest value, and the objective."""
    objective = record["objective"]
    columns = {key: [trial["values"][key] for trial in best] for key in record["parameters"]} | {objective: losses}
    rows = [
        {
            "trial": trial["experiment"],
            "axis": key,
            "place": place,
            "told": f"{value:.4g}" if _is_number(value) else value,
            "loss": loss,
        }
        for key, values in columns.items()
        for trial, loss, value, place in zip(best, losses, values, places(values), strict=True)
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("axis:N", sort=list(columns), title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("place:Q", title="smallest to largest", axis=alt.Axis(labels=False, ticks=False)),
        color=alt.Color("loss:Q", title=f"{objective.replace('_', ' ')}, nats", scale=alt.Scale(scheme="viridis")),
        detail="trial:N",
        tooltip=[
            *named("trial", "axis"),
            alt.Tooltip("told:N", format="", title="value"),
            alt.Tooltip("loss:Q", format=".2f", title="loss"),
        ],
    )
    return alt.LayerChart(layer=[base.mark_line(opacity=0.6), base.mark_point(filled=True, size=50)])


def places(values: Sequence[Any]) -> list[float]:
    """Where values stand between the smallest, 0, and the largest, 1; those that are no numbers by their order."""
    if not all(map(_is_number, values)):
        known = sorted(set(map(str, values)))
        values = [known.index(str(value)) for value in values]
    elif min(values) > 0 and max(values) > _DECADES * min(values):
        values = [math.log(value) for value in values]
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _progress(best: Sequence[Mapping[str, Any]], losses: Sequence[float]) -> alt.LayerChart:
    """The best value of completed trials against the time since the start."""
    minutes = [trial["ended_seconds"] / 60 for trial in best]
    table = pd.DataFrame({"minutes": minutes, "loss": losses, "trial": [trial["experiment"] for trial in best]})
    table = table.sort_values("minutes", kind="stable")
    table["best so far"] = table["loss"].cummin()
    scale = alt.Scale(zero=False)
    base = alt.Chart(table).encode(x=alt.X("minutes:Q", title="minutes since the start"))
    best_so_far = alt.Y("best so far:Q", title="nats per image", scale=scale)
    line = base.mark_line(interpolate="step-after").encode(y=best_so_far)
    points = base.mark_point(filled=True, size=50).encode(
        y=alt.Y("loss:Q", scale=scale), tooltip=[*named("trial"), alt.Tooltip("loss:Q", format=".2f")]
    )
    return alt.LayerChart(layer=[line, points])


def _importance(shares: Mapping[str, float]) -> alt.LayerChart:
    table = pd.DataFrame({"parameter": list(shares), "share": list(shares.values())})
    bars = alt.Chart(table).encode(
        x=alt.X("share:Q", title="share of the variance of the loss", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("parameter:N", sort="-x", title=None),
        tooltip=[*named("parameter"), alt.Tooltip("share:Q", format=".2f")],
    )
    return alt.LayerChart(layer=[bars.mark_bar()])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
