"""The figure of losses against seconds of training: textbook, default and record, beside what is published."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pipeline.files import atomic
from vae.plots import CLASS_COLOURS, FLOOR, STYLE
from workflow.history.presets import METRICS, history, recorded, run_record

CURVES = Path("bench/curves.png")

#: NLL of the test images, K = 5000: Norouzi, Fleet and Norouzi 2020, arXiv 2004.04795.
PUBLISHED = {"VAE, N(0, I) prior": 228.70, "ConvHVAE, N(0, I) prior": 225.38, "PixelSNAIL, exemplar prior": 223.26}

#: Nats that are shown: the textbook's first epochs lie above.
_LEAST, _MOST = 222.0, 275.0


@dataclass(frozen=True)
class Curve:
    """A training from its start to its end.

    Attributes:
        name: Of the model.
        seconds: Since the start, at each validation; a share of the whole training's, as all epochs take as long.
        losses: Negative ELBO of the validation images at each validation, nats per image.
        nll: Of the validation images at the end, nats per image.
        draws: K, by which the NLL was estimated.
    """

    name: str
    seconds: Sequence[float]
    losses: Sequence[float]
    nll: float
    draws: int


def curve(name: str, columns: Mapping[str, Sequence[float]], seconds: float, metrics: Mapping[str, Any]) -> Curve:
    """A training's curve from its history, how long it took, and `metrics/evaluation.json`."""
    epochs, found = columns["epoch"], metrics["validation"]["binarised"]
    times = [seconds * epoch / epochs[-1] for epoch in epochs]
    return Curve(name, times, columns["validation_loss"], found["nll_nats"], found["nll_samples"])


def curves() -> list[Curve]:
    """Those of the recorded presets `textbook` and `record`, and of the default in the workspace."""
    evaluation = json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8"))
    found = [curve("default", history(), run_record("train")["seconds"], evaluation)]
    for name in ("textbook", "record"):
        record = recorded(name) or {}
        found.append(curve(name, record["history"], record["train_seconds"], record["metrics"]))
    return found


def drawn(shown: Sequence[Curve], easier: float) -> Figure:
    """The figure.

    Args:
        shown: A line each, with a dot for its NLL.
        easier: What the NLL of validation images is below that of test images, nats; published lines are moved by it.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        axes = figure.subplots()
        for one, colour in zip(shown, CLASS_COLOURS, strict=False):
            axes.plot(one.seconds, one.losses, color=colour, label=f"{one.name}, -ELBO")
            label = f"{one.name}, NLL (K = {one.draws}): {one.nll:.2f}"
            axes.plot(one.seconds[-1], one.nll, color=colour, marker="o", linestyle="none", label=label)
        for (name, nll), style in zip(PUBLISHED.items(), (":", "--", "-."), strict=True):
            axes.axhline(nll - easier, color=FLOOR, linestyle=style, label=f"published, {name}: {nll:.2f}")
        axes.set(xscale="log", ylim=(_LEAST, _MOST), xlabel="seconds of training", ylabel="nats per validation image")
        axes.set_title(f"Published values are of test images and drawn {easier:.2f} lower, as validation is easier")
        axes.legend(fontsize="small")
    return figure


def publish_curves() -> None:
    """Draws `CURVES`."""
    evaluation = json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8"))
    test, validation = (evaluation[split]["binarised"]["nll_nats"] for split in ("test", "validation"))
    with atomic(CURVES) as partial:
        drawn(curves(), test - validation).savefig(partial, format="png", metadata={"Software": None})
