"""The figure of losses against seconds of training: textbook, default and record, beside what is published."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pipeline.errors import StageError
from pipeline.files import atomic
from vae.plots import CLASS_COLOURS, FLOOR, STYLE
from workflow.history.presets import FOLDER, METRICS, history, recorded, resolved

CURVES = Path("bench/curves.png")

#: NLL of the test images, K = 5000: Norouzi, Fleet and Norouzi 2020, arXiv 2004.04795.
PUBLISHED = {"VAE, N(0, I) prior": 228.70, "ConvHVAE, N(0, I) prior": 225.38, "PixelSNAIL, exemplar prior": 223.26}

#: What the NLL of validation images is below that of test images, nats, by the default of commit 2120bfc.
EASIER = 0.76

#: Nats that are shown: the textbook's first epochs lie above.
_LEAST, _MOST = 222.0, 275.0


@dataclass(frozen=True)
class Curve:
    """A training from its start to its end.

    Attributes:
        name: Of the model, and of its targets if they are gray: those lose less than the binary images they stand for.
        seconds: From the start of stage `train` to each validation, as if all epochs took as long.
        losses: Negative ELBO of the validation images at each validation, nats per image.
        nll: Of the binarised validation images at the end, nats per image.
        draws: K, by which the NLL was estimated.
    """

    name: str
    seconds: Sequence[float]
    losses: Sequence[float]
    nll: float
    draws: int


def curve(name: str, columns: Mapping[str, Sequence[float]], seconds: float, metrics: Mapping[str, Any]) -> Curve:
    """A training's curve.

    Args:
        name: What it is called.
        columns: `epoch` and `validation_loss` of each validation.
        seconds: Of the whole training.
        metrics: The content of `metrics/evaluation.json`.
    """
    epochs, found = columns["epoch"], metrics["validation"]["binarised"]
    times = [seconds * epoch / epochs[-1] for epoch in epochs]
    return Curve(name, times, columns["validation_loss"], found["nll_nats"], found["nll_samples"])


def recorded_curves() -> list[Curve]:
    """Those of the presets `textbook` and `record`.

    Raises:
        StageError: If a preset has no record, or one without a history.
    """
    found = []
    for name in ("textbook", "record"):
        record = recorded(name)
        if record is None or "history" not in record:
            raise StageError(
                f"{FOLDER / name}.json has no history; it should have the loss of each validation: "
                f"`make experiment NAME={name}`"
            )
        words = name if resolved(name).train.targets == "binarised" else f"{name}, gray targets"
        found.append(curve(words, record["history"], record["train_seconds"], record["metrics"]))
    return found


def drawn(shown: Sequence[Curve]) -> Figure:
    """The figure: a line for each training, a dot for its NLL, and the published values, moved by `EASIER`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        axes = figure.subplots()
        for one, colour in zip(shown, CLASS_COLOURS, strict=False):
            axes.plot(one.seconds, one.losses, color=colour, label=f"{one.name}: -ELBO")
            label = f"... NLL (K = {one.draws}): {one.nll:.2f}"
            axes.plot(one.seconds[-1], one.nll, color=colour, marker="o", linestyle="none", label=label)
        for (name, nll), style in zip(PUBLISHED.items(), (":", "--", "-."), strict=True):
            axes.axhline(nll - EASIER, color=FLOOR, linestyle=style, label=f"published, {name}: {nll:.2f}")
        axes.set(xscale="log", ylim=(_LEAST, _MOST), xlabel="seconds of training", ylabel="nats per validation image")
        axes.set_title(f"Published values are of test images and drawn {EASIER:.2f} lower, as validation is easier")
        axes.legend(fontsize="small")
    return figure


def publish_curves(others: Sequence[Curve], seconds: float) -> None:
    """Draws `CURVES`: other trainings, and the default, which took these seconds, from the workspace's results."""
    evaluation = json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8"))
    with atomic(CURVES) as partial:
        drawn([*others, curve("default", history(), seconds, evaluation)]).savefig(
            partial, format="png", metadata={"Software": None}
        )
