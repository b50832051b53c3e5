"""Means and errors over images, per split and per class, and the figures of each image for later comparison.

Apart from `evaluate`, because `metrics/per_image.npz` is neither a metric nor a plot to DVC: a stage that
writes such a file outside the cache is not in DVC's run cache, and this one costs less than a second.
"""

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.files import atomic, load_arrays, significant, write_metrics
from pipeline.stage import Input, Output
from vae.fashion_mnist import CLASS_NAMES
from vae.statistics import NLL, TARGETS, TERMS, losses_of, mean_and_error, summarise

Figures = dict[str, NDArray[Any]]


def run(validation: Input, test: Input, metrics: Output, per_class: Output, per_image: Output) -> None:
    """Summarises what `evaluate` found.

    Args:
        validation: Folder of the validation images' figures.
        test: Folder of the test images' figures.
        metrics: JSON, split -> targets -> loss in nats per image, each with its standard error over images; the
            NLL also with its error over draws and their number.
        per_class: CSV, a row a split, targets and class: images, and each loss with its error; gray targets have
            no NLL.
        per_image: npz, a row an image: split (0 validation, 1 test) and label uint8, index uint16, and for each
            targets the reconstruction loss and the KL, for the binarised also the NLL, float32 nats.
    """
    splits = {"validation": load_arrays(validation), "test": load_arrays(test)}
    write_metrics(metrics, {name: summarise(figures) for name, figures in splits.items()})
    _write_per_class(splits, per_class)
    _write_per_image(splits, per_image)


def _write_per_class(splits: dict[str, Figures], path: Path) -> None:
    rows = [
        _class_row(split, targets, label, losses_of(figures, targets), figures["label"])
        for split, figures in splits.items()
        for targets in TARGETS
        for label in range(len(CLASS_NAMES))
    ]
    with atomic(path) as partial:
        columns = list(rows[-1])  # of binarised targets, which have every column
        lines = [",".join(columns), *(",".join(row.get(column, "") for column in columns) for row in rows)]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _class_row(split: str, targets: str, label: int, losses: Figures, labels: NDArray[np.uint8]) -> dict[str, str]:
    of_class = labels == label
    row = {"split": split, "targets": targets, "class": CLASS_NAMES[label], "images": str(of_class.sum())}
    for name, nats in losses.items():
        mean, error = mean_and_error(nats[of_class])
        row |= {name: significant(mean), f"{name}_se": significant(error)}
    return row


def _write_per_image(splits: dict[str, Figures], path: Path) -> None:
    names = [*(f"{targets}_{term}_nats" for targets in TARGETS for term in TERMS), NLL]
    columns = {name: np.concatenate([figures[name] for figures in splits.values()]) for name in names}
    columns["split"] = np.repeat(np.arange(2, dtype=np.uint8), [len(figures["label"]) for figures in splits.values()])
    columns["index"] = np.concatenate([figures["index"] for figures in splits.values()]).astype(np.uint16)
    columns["label"] = np.concatenate([figures["label"] for figures in splits.values()])
    _write_npz(path, columns)


def _write_npz(path: Path, arrays: Figures) -> None:
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
