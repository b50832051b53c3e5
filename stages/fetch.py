"""The chosen data set as uint8 arrays, proven, with a contact sheet."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import atomic, save_arrays, write_json, write_metrics
from pipeline.given import Given
from pipeline.images import class_sheet
from pipeline.params.data import Data, Published
from pipeline.stage import Output, Source
from pipeline.surroundings import no_home


def run(data: Data, source: Source, raw: Output, sheet: Output, metrics: Output) -> None:
    """Fetches the data set, proves it, and draws some of its images.

    Args:
        data: Which.
        source: sha256 of the arrays of published data sets, by name; one that is not listed is added. Else what the
            data set itself reads and proves.
        raw: Folder of train_images (count, rows, columns), train_labels (count,), test_images and test_labels; or of
            images and labels, if no test images are published. All uint8.
        sheet: PNG of the first images of each class, or what the data set draws.
        metrics: JSON of names and licence, counts, class balance, pixel mean and deviation, the published split and
            draw, and the sha256 of each array.

    Raises:
        StageError: If it cannot be had, its images have another shape than it states, or an array is another one than
            was fetched before.
    """
    scratch = raw.with_name(".fetch.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # of a fetch that was killed
    scratch.mkdir(parents=True)
    try:
        with no_home():
            (module,) = data.named_modules
            given: Given = import_module(module).read(data, scratch, lambda line: print(line, flush=True))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for name, array in given.arrays.items():
        if name.endswith("images") and array.shape[1:] != data.image_shape:
            raise StageError(f"{data.full_name}: {name} are of {array.shape[1:]} pixels, expected {data.image_shape}")
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in given.arrays.items()}
    if isinstance(data, Published):
        prove(data.full_name, digests, source)
    save_arrays(raw, given.arrays)
    draw(given, sheet)
    write_metrics(metrics, describe(data, given, digests))


def prove(name: str, digests: Mapping[str, str], path: Path) -> None:
    """Holds the sha256 of arrays against those of the first fetch, or adds them to the file if this is the first.

    Raises:
        StageError: If an array is another one, or the file cannot be read.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        expected = listed.get(name)
    except (OSError, ValueError, AttributeError) as error:
        raise StageError(f"{path} cannot be read ({error}); `git restore {path}` brings it back") from error
    if expected is None:
        write_json(path, {**listed, name: dict(digests)})
        print(f"first fetch of {name}: sha256 written to {path}; commit it", flush=True)
        return
    for array in sorted({*expected, *digests}):
        was, found = expected.get(array, "none"), digests.get(array, "none")
        if found != was:
            raise StageError(f"array {array} of {name}: expected sha256 {was}, found {found}")


def draw(given: Given, path: Path) -> None:
    """Writes the contact sheet as PNG: of the data set, or of the first images of each class."""
    part = "train_" if "train_images" in given.arrays else ""
    images, labels = given.arrays[f"{part}images"], given.arrays[f"{part}labels"]
    sheet = given.sheet or class_sheet(images, labels, given.classes)
    with atomic(path) as partial:
        sheet.save(partial, "PNG", optimize=True)


def describe(data: Data, given: Given, digests: Mapping[str, str]) -> dict[str, Any]:
    """What `metrics/data.json` holds; pixels are in [0, 1]."""
    parts = {"train": "train_", "test": "test_"} if "train_images" in given.arrays else {"all": ""}
    return {
        "name": data.full_name,
        "title": given.title,
        "licence": given.licence,
        "citation": given.citation,
        "classes": given.classes,
        "image_shape": data.image_shape,
        "published": {"validation": given.validation, "test_ones": given.test_ones},
        "sha256": dict(digests),
        **{
            part: _measured(given.arrays[f"{prefix}images"], given.arrays[f"{prefix}labels"])
            for part, prefix in parts.items()
        },
    }


def _measured(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "count": len(images),
        "per_class": np.bincount(labels).tolist(),
        "pixel_mean": images.mean() / 255,
        "pixel_deviation": images.std() / 255,
    }
