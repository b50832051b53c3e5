"""The curves of training, which a reader can hover over."""

import io
from collections.abc import Mapping

import altair as alt
import pandas as pd

#: Columns of the history that are drawn, and what to call them.
_CURVES = {"train_loss": "training", "validation_loss": "validation"}

_DIV = "curves"


def curves(histories: Mapping[str, bytes]) -> str:
    """HTML, with its scripts, of the losses over epochs of each revision, nats per image.

    Args:
        histories: Content of metrics/history.csv by label.
    """
    rows = pd.concat([_rows(label, content) for label, content in histories.items()])
    hover = alt.selection_point(fields=["epoch"], nearest=True, on="pointerover", empty=False)
    losses = alt.Chart(rows).encode(
        x=alt.X("epoch:Q", title="epoch"),
        y=alt.Y("loss:Q", title="nats per image", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "revision:N", sort=list(histories), title=None, legend=alt.Legend(orient="top", labelLimit=400)
        ),
    )
    dashes = alt.StrokeDash("split:N", sort=list(_CURVES.values()), title=None, legend=alt.Legend(orient="top"))
    told = ["revision:N", "split:N", "epoch:Q", alt.Tooltip("loss:Q", format=".2f", title="nats per image")]
    opacity = alt.condition(hover, alt.value(1), alt.value(0))
    points = losses.mark_point(filled=True, size=60).encode(tooltip=told, opacity=opacity)
    layers = losses.mark_line().encode(strokeDash=dashes) + points.add_params(hover)
    chart = layers.properties(width="container", height=320, background="#00000000")
    options = {"renderer": "svg", "actions": False, "tooltip": {"theme": "custom"}}
    html = chart.to_html(inline=True, fullhtml=False, output_div=_DIV, embed_options=options)
    return str(html)


def _rows(label: str, content: bytes) -> pd.DataFrame:
    history = pd.read_csv(io.BytesIO(content))
    long = history.melt("epoch", list(_CURVES), var_name="split", value_name="loss").dropna()
    return long.assign(split=long["split"].map(_CURVES), revision=label)
