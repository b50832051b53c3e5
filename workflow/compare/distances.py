"""How far two versions of a result lie apart, by quantity. Tolerances are measured and applied with it."""

import csv
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
import onnx
import onnx.numpy_helper
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from PIL import Image

#: Relative difference of two numbers of six significant digits that is only rounding.
_ROUNDING = 1e-5

#: Numbers and hashes in a text, which are looked at apart from the words.
_NUMBER = re.compile(r"\b[0-9a-f]{32,64}\b|-?\d+(?:\.\d+)?(?:e-?\d+)?")

_SPLITS = ("train", "validation", "test")

#: What readers raise if a file does not have the form of its kind.
_OF_ANOTHER_FORM = (ValueError, TypeError, LookupError, OSError, EOFError, BadZipFile, zlib.error, DecodeError)

#: Beginning of the line of a text that says on what class of processor it was made.
_MADE_ON = "| made on |"

#: Values of a file by name: a list if their largest difference counts, an array if its root mean square does.
Content = Mapping[str, list[Any] | NDArray[Any]]


def distances(path: str, ours: bytes, theirs: bytes) -> dict[str, float]:
    """Largest difference of each quantity of a file, in its own unit; infinite where the two have another form.

    A quantity is a column of a CSV, the last name of a number in JSON whatever the split, an array of an npz, npy or h5
    file or the weights of an ONNX network (root mean square), a picture's gray (root mean square, of 1). Numbers that
    differ in the last of their six digits do not differ; NaN is like no number. Texts have to have the same words, but
    for the line that says on what they were made. A file without the form of its kind has the quantity `form`.
    """
    read = _READERS.get(PurePosixPath(path).suffix, _of_bytes)
    try:
        one, other = read(ours), read(theirs)
        return _by_quantity({name: _apart(one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])})
    except _OF_ANOTHER_FORM:
        return {"form": math.inf}


def sizes(path: str, content: bytes) -> dict[str, float]:
    """Size of each quantity of a file, in its own unit: the largest magnitude, of an array the root mean square.

    0 for whole numbers and for what is no number. A file without the form of its kind has no quantities.
    """
    read = _READERS.get(PurePosixPath(path).suffix, _of_bytes)
    try:
        return _by_quantity({name: _size(values) for name, values in read(content).items()})
    except _OF_ANOTHER_FORM:
        return {}


def _by_quantity(found: Mapping[str, float]) -> dict[str, float]:
    """The largest number of each quantity, which is the last of a dotted name's parts that is no split."""
    largest: dict[str, float] = {}
    for name, number in found.items():
        quantity = next((part for part in reversed(name.split(".")) if part not in _SPLITS), name)
        largest[quantity] = max(largest.get(quantity, 0.0), number)
    return largest


def _size(values: list[Any] | NDArray[Any]) -> float:
    if not isinstance(values, list):
        size = _root_mean_square(values) if np.issubdtype(values.dtype, np.floating) else 0.0
        return size if math.isfinite(size) else 0.0
    numbers = [value for value in values if _is_number(value) and math.isfinite(value)]
    return max(map(abs, numbers)) if any(isinstance(value, float) for value in numbers) else 0.0


def _apart(one: list[Any] | NDArray[Any] | None, other: list[Any] | NDArray[Any] | None) -> float:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _arrays_apart(one, other)
    if one is None or other is None or len(one) != len(other):
        return math.inf
    return max(map(_values_apart, one, other), default=0.0)


def _values_apart(one: Any, other: Any) -> float:
    if not _is_number(one) or not _is_number(other):
        return _unless(one == other)
    apart = abs(one - other)
    if math.isnan(apart):
        return _unless(math.isnan(one) and math.isnan(other))
    return 0.0 if apart <= _ROUNDING * max(abs(one), abs(other)) < math.inf else float(apart)


def _arrays_apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    if not np.issubdtype(one.dtype, np.floating) and one.dtype != np.uint8:  # labels and counts; bytes are images
        return _unless(bool(np.array_equal(one, other)))
    found = _root_mean_square(one.astype(np.float64) - other.astype(np.float64))
    return found if math.isfinite(found) else _unless(bool(np.array_equal(one, other, equal_nan=True)))


def _root_mean_square(array: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(array.astype(np.float64)).mean())) if array.size else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unless(same: bool) -> float:
    return 0.0 if same else math.inf


def _of_bytes(content: bytes) -> Content:
    return {"bytes": [content]}


def _of_text(content: bytes) -> Content:
    lines = content.decode(errors="replace").splitlines()
    return {"words": [_NUMBER.sub("#", "\n".join(line for line in lines if not line.startswith(_MADE_ON)))]}


def _of_json(content: bytes) -> Content:
    """Values by the dotted names that lead to them; elements of a list stand under the list's."""
    found: dict[str, list[Any]] = {}
    for name, value in _leaves(json.loads(content)):
        found.setdefault(name, []).append(value)
    return found


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, name)
    else:
        yield name, content


def _of_csv(content: bytes) -> Content:
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    return {name: [_cell(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def _cell(text: str) -> float | str:
    """A cell's number, an int if it is whole, or its text."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _of_npz(content: bytes) -> Content:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def _of_npy(content: bytes) -> Content:
    return {"array": np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)}


def _of_png(content: bytes) -> Content:
    with Image.open(io.BytesIO(content)) as picture:
        return {"gray": np.asarray(picture.convert("L"), np.float32) / 255}


def _of_h5(content: bytes) -> Content:
    found: dict[str, NDArray[Any]] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {"weights": np.concatenate([found[name].ravel() for name in sorted(found)]) if found else np.zeros(0)}


def _of_onnx(content: bytes) -> Content:
    """Numbers in the order in which the graph's outputs ask for them: names and nodes are sorted by hashes."""
    graph = onnx.load_model_from_string(content).graph
    constants = {item.name: onnx.numpy_helper.to_array(item).ravel() for item in graph.initializer}
    made = {value: node for node in graph.node for value in node.output}
    asked = [*sorted(constants, reverse=True), *(value.name for value in reversed(graph.output))]
    ordered: dict[str, None] = {}
    while asked:
        name = asked.pop()
        if name not in ordered:
            ordered[name] = None
            asked += reversed(made[name].input) if name in made else []
    found = [constants[name] for name in ordered if name in constants]
    parts: dict[str, list[NDArray[Any]]] = {}
    for array in found:
        parts.setdefault("weights" if np.issubdtype(array.dtype, np.floating) else "shapes", []).append(array)
    return {part: np.concatenate(arrays) for part, arrays in parts.items()}


_READERS: Mapping[str, Callable[[bytes], Content]] = {
    ".json": _of_json,
    ".csv": _of_csv,
    ".md": _of_text,
    ".txt": _of_text,
    ".npz": _of_npz,
    ".npy": _of_npy,
    ".png": _of_png,
    ".h5": _of_h5,
    ".onnx": _of_onnx,
}
