"""Means and errors over images, per split and per class, and the losses of each image for later comparison.

Apart from `evaluate`, because `metrics/per_image.npz` is neither a metric nor a plot to DVC: a stage that
writes such a file outside the cache is not in DVC's run cache, and this one costs less than a second.
"""

import csv
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.files import atomic, load_arrays, significant, write_metrics
from pipeline.stage import Input, Output
from vae.latent_space import ACTIVE_VARIANCE
from vae.statistics import losses_of, mean_and_error, summarise, summarise_gap, targets_of

Values = dict[str, NDArray[Any]]
Table = list[dict[str, str]]

_OF_LATENTS = ("latent_variance", "latent_variance_se", "latent_kl_nats", "latent_kl_nats_se")
_OF_BINS = ("pixels", "predicted", "observed", "gap_se")


def run(
    validation: Input,
    test: Input,
    validation_refined: Input,
    test_refined: Input,
    metrics: Output,
    per_class: Output,
    latents: Output,
    calibration: Output,
    per_image: Output,
) -> None:
    """Summarises what `evaluate` and `refine` found.

    Outputs:
        metrics: JSON, split -> targets -> loss in nats per image, each with its standard errors over images (`_se`)
            and over draws (`_mc`), and the count of active units; the NLL also in bits per dimension; split ->
            calibration_error, the expected calibration error of predicted pixels; and split -> gap, the two parts of
            the gap from ELBO to NLL.
        per_class: CSV, a row a split, targets and class: images, and each loss with its error over images; gray targets
            have no NLL.
        latents: CSV, a row a latent: for each split and targets the variance of the posterior means and the KL, in
            nats, each with its error over images.
        calibration: CSV, a row an interval of predicted probability: for each split the pixels in it, their mean
            prediction, the share of ones, and the error over images of the difference of these two.
        per_image: npz, a row an image: split (0 validation, 1 test) and label uint8, index uint16, and for each
            targets the reconstruction loss and the KL, for the binarised also the NLL, float32 nats.
    """
    splits = {"validation": load_arrays(validation), "test": load_arrays(test)}
    targets = targets_of(splits["test"])
    refined = {"validation": load_arrays(validation_refined), "test": load_arrays(test_refined)}
    write_metrics(metrics, {name: _summary(values, refined[name]) for name, values in splits.items()})
    _write_csv(per_class, _class_rows(splits))
    _write_csv(latents, _rows("latent", splits, [f"{t}_{name}" for t in targets for name in _OF_LATENTS]))
    _write_csv(calibration, _rows("bin", splits, [f"calibration_{name}" for name in _OF_BINS]))
    _write_per_image(splits, per_image)


def _summary(values: Values, refined: Values) -> dict[str, Any]:
    summary: dict[str, Any] = dict(summarise(values))
    for targets in targets_of(values):
        active = values[f"{targets}_latent_variance"] > ACTIVE_VARIANCE
        summary[targets]["active_units"] = int(active.sum())
    if "binarised" not in summary:
        return summary
    gap = np.abs(values["calibration_observed"] - values["calibration_predicted"])
    summary["calibration_error"] = float(np.average(gap, weights=values["calibration_pixels"]))
    summary["gap"] = summarise_gap(refined)
    return summary


def _rows(number: str, splits: dict[str, Values], names: list[str]) -> Table:
    """A row for each element of the arrays of these names, a column for each split and array."""
    columns = {
        f"{split}_{name.removeprefix('calibration_')}": values[name]
        for split, values in splits.items()
        for name in names
        if name in values
    }
    return [
        {number: str(place), **{name: _number(array[place]) for name, array in columns.items()}}
        for place in range(len(next(iter(columns.values()), ())))
    ]


def _number(value: np.generic) -> str:
    return str(value) if isinstance(value, np.integer) else significant(float(value))


def _class_rows(splits: dict[str, Values]) -> Table:
    return [
        _class_row(split, targets, label, losses_of(values, targets), values)
        for split, values in splits.items()
        for targets in targets_of(values)
        for label in range(len(values["class_names"]))
    ]


def _write_csv(path: Path, rows: Table) -> None:
    columns = list(rows[-1]) if rows else []  # where rows differ, the last one has every column
    with atomic(path) as partial, partial.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _class_row(split: str, targets: str, label: int, losses: Values, values: Values) -> dict[str, str]:
    of_class = values["label"] == label
    name_of_class = str(values["class_names"][label])
    row = {"split": split, "targets": targets, "class": name_of_class, "images": str(of_class.sum())}
    for name, nats in losses.items():
        mean, error = mean_and_error(nats[of_class])
        row |= {name: significant(mean), f"{name}_se": significant(error)}
    return row


def _write_per_image(splits: dict[str, Values], path: Path) -> None:
    test = splits["test"]
    names = [f"{targets}_{term}_nats" for targets in targets_of(test) for term in ("reconstruction", "kl")]
    names += ["binarised_nll_nats"] if "binarised_nll_nats" in test else []
    columns = {name: np.concatenate([values[name] for values in splits.values()]) for name in names}
    columns["split"] = np.repeat(np.arange(2, dtype=np.uint8), [len(values["label"]) for values in splits.values()])
    index = np.concatenate([values["index"] for values in splits.values()])
    columns["index"] = index.astype(np.result_type(np.uint16, np.min_scalar_type(index.max())))
    columns["label"] = np.concatenate([values["label"] for values in splits.values()])
    _write_npz(path, columns)


def _write_npz(path: Path, arrays: Values) -> None:
    """Writes a compressed npz whose bytes are the same under every patch level of Python.

    numpy's own asks for the 64-bit zip format, which `zipfile` has marked in different ways.
    """
    with atomic(path) as partial, ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            content = BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            member = ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = ZIP_DEFLATED
            archive.writestr(member, content.getvalue())
