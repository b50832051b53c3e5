"""The curves of training, which a reader can hover over."""

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

#: What is drawn of the history, by the ending of its columns.
_TERMS = {"loss": "loss", "reconstruction": "reconstruction loss", "kl": "KL"}
_SPLITS = ("train", "validation")

#: Colours of the revision that the page is about and of the one before it, which stand out from light and from dark.
_AFTER, _BEFORE = "#3f90da", "#e76300"

#: Lines and texts have the colour of the page's own, be it light or dark.
_INK = "currentColor"
_AXIS = {"labelColor": _INK, "titleColor": _INK, "domainColor": _INK, "tickColor": _INK, "gridColor": _INK}


@cache
def chart_library() -> str:
    """The JavaScript that draws the charts, all of it."""
    version = alt.SCHEMA_VERSION.rpartition(".")[0]
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version))


def curves(histories: Mapping[str, bytes]) -> dict[str, Any]:
    """Vega-Lite specification of the losses over epochs of each revision, nats per image.

    Args:
        histories: Content of metrics/history.csv by label, that which the page is about last; one or two.
    """
    rows = pd.concat([_rows(label, content) for label, content in histories.items()])
    names = list(_TERMS.values())
    shown = alt.param("term", value=names[0], bind=alt.binding_select(options=names, name="Shown "))
    colours = alt.Scale(domain=list(histories), range=[_BEFORE, _AFTER][-len(histories) :])
    base = (
        alt.Chart(rows)
        .transform_filter("datum.term == term")
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("nats:Q", title="nats per image", scale=alt.Scale(zero=False)),
            color=alt.Color("revision:N", scale=colours, title=None),
        )
    )
    lines = base.mark_line().encode(strokeDash=alt.StrokeDash("split:N", sort=list(_SPLITS), title=None))
    near = alt.selection_point(name="near", fields=["epoch"], nearest=True, on="pointerover", empty=False)
    opacity = alt.condition(near, alt.value(1), alt.value(0))
    nats = alt.Tooltip("nats:Q", format=".2f", title="nats per image")
    tooltip = [*named("revision", "split"), alt.Tooltip("epoch:Q"), nats]
    points = base.mark_point(filled=True, size=70).encode(tooltip=tooltip, opacity=opacity).add_params(near)
    return styled(alt.LayerChart(layer=[lines, points]).add_params(shown)).to_dict()


def named(*fields: str) -> list[alt.Tooltip]:
    """Tooltips of names. Without a format Vega-Lite shows "undefined" where it seeks the nearest point."""
    return [alt.Tooltip(f"{field}:N", format="") for field in fields]


def styled(chart: alt.LayerChart) -> alt.LayerChart:
    """Gives a chart the look of the page: as wide as its place, in the colours of the page's text."""
    legend = {"orient": "top", "labelLimit": 250, "symbolType": "stroke", "symbolSize": 400, "columns": 1}
    return (
        chart.properties(width="container", height=320, background="transparent")
        .configure(font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**_AXIS, gridOpacity=0.15, domainOpacity=0.4, tickOpacity=0.4, labelFontSize=12)
        .configure_legend(**legend, labelColor=_INK, titleColor=_INK, symbolStrokeColor=_INK, labelFontSize=12)
    )


def _rows(label: str, content: bytes) -> pd.DataFrame:
    history = pd.read_csv(io.BytesIO(content))
    parts = [
        pd.DataFrame({"epoch": history["epoch"], "nats": history[f"{split}_{term}"], "split": split, "term": name})
        for term, name in _TERMS.items()
        for split in _SPLITS
    ]
    return pd.concat(parts).dropna().assign(revision=label)
