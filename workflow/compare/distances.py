"""How far two versions of a result lie apart, by quantity; what tolerances are measured and applied with."""

import csv
import hashlib
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

#: What reading a file raises that is not of the form of its kind.
_OF_ANOTHER_FORM = (ValueError, TypeError, LookupError, OSError, EOFError, BadZipFile, zlib.error, DecodeError)

#: Beginning of the line of a text that says on what class of processor it was made.
_MADE_ON = "| made on |"

Arrays = Mapping[str, NDArray[Any]]


def distances(path: str, ours: bytes, theirs: bytes) -> dict[str, float]:
    """Largest difference of each quantity of a file, in its own unit; infinite where the two have another form.

    A quantity is a column of a CSV, the last name of a number in JSON whatever the split, an array of an npz, npy or h5
    file or the weights of an ONNX network (root mean square), a picture's gray (root mean square, of 1). Numbers that
    differ in the last of their six digits do not differ; NaN is like no number. Texts have to have the same words, but
    for the line that says on what they were made. What is not of the form of its kind has no quantities.
    """
    try:
        return _distances(PurePosixPath(path).suffix, ours, theirs)
    except _OF_ANOTHER_FORM:
        return {"form": math.inf}


def sizes(path: str, content: bytes) -> dict[str, float]:
    """Size of each quantity of a file, in its own unit: the largest magnitude, of an array the root mean square.

    Whole numbers have no size, and nothing has one in a file that is not of the form of its kind.
    """
    found: dict[str, float] = {}
    try:
        for name, size in _sizes(PurePosixPath(path).suffix, content):
            found[name] = max(found.get(name, 0.0), size if math.isfinite(size) else 0.0)
    except _OF_ANOTHER_FORM:
        return {}
    return found


def _sizes(kind: str, content: bytes) -> Iterator[tuple[str, float]]:
    if kind == ".json":
        for name, value in _leaves(json.loads(content)):
            if isinstance(value, float):
                yield _quantity(name), abs(value)
    elif kind == ".csv":
        for name, column in _of_csv(content).items():
            numbers = [abs(value) for value in column if isinstance(value, float) and math.isfinite(value)]
            if not all(value.is_integer() for value in numbers):
                yield name, max(numbers)
    elif kind in _ARRAYS:
        for name, array in _ARRAYS[kind](content).items():
            if array.size and np.issubdtype(array.dtype, np.floating):
                yield name, float(np.sqrt(np.square(array.astype(np.float64)).mean()))


def _distances(kind: str, ours: bytes, theirs: bytes) -> dict[str, float]:
    if kind == ".json":
        return _by_quantity(_tables(_of_json(json.loads(ours)), _of_json(json.loads(theirs))))
    if kind == ".csv":
        return _tables(_of_csv(ours), _of_csv(theirs))
    if kind in _ARRAYS:
        return _of_arrays(_ARRAYS[kind](ours), _ARRAYS[kind](theirs))
    if kind in (".md", ".txt"):
        return {"words": _unless(_words(ours) == _words(theirs))}
    return {"bytes": _unless(hashlib.sha256(ours).digest() == hashlib.sha256(theirs).digest())}


def _unless(same: bool) -> float:
    return 0.0 if same else math.inf


def _words(text: bytes) -> str:
    lines = text.decode(errors="replace").splitlines()
    return _NUMBER.sub("#", "\n".join(line for line in lines if not line.startswith(_MADE_ON)))


def _tables(ours: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]]) -> dict[str, float]:
    """Largest difference by quantity of two tables of columns."""
    return {name: _of_columns(ours.get(name, []), theirs.get(name, [])) for name in dict.fromkeys([*ours, *theirs])}


def _of_columns(ours: list[Any], theirs: list[Any]) -> float:
    if len(ours) != len(theirs):
        return math.inf
    return max((_of_values(one, other) for one, other in zip(ours, theirs, strict=True)), default=0.0)


def _of_values(one: Any, other: Any) -> float:
    if not isinstance(one, float) or not isinstance(other, float):
        return _unless(one == other)
    apart = abs(one - other)
    if math.isnan(apart):
        return _unless(math.isnan(one) and math.isnan(other))
    return 0.0 if apart <= _ROUNDING * max(abs(one), abs(other)) < math.inf else apart


def _of_json(content: Any) -> dict[str, list[Any]]:
    """Values by the dotted names that lead to them; elements of a list stand under the list's."""
    found: dict[str, list[Any]] = {}
    for name, value in _leaves(content):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        found.setdefault(name, []).append(float(value) if is_number else value)
    return found


def _by_quantity(found: Mapping[str, float]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for name, distance in found.items():
        quantity = _quantity(name)
        largest[quantity] = max(largest.get(quantity, 0.0), distance)
    return largest


def _quantity(name: str) -> str:
    """The last of dotted names that is no split."""
    return next((part for part in reversed(name.split(".")) if part not in _SPLITS), name)


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, name)
    else:
        yield name, content


def _of_csv(content: bytes) -> dict[str, list[Any]]:
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _of_npz(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def _of_npy(content: bytes) -> Arrays:
    return {"array": np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)}


def _of_png(content: bytes) -> Arrays:
    with Image.open(io.BytesIO(content)) as picture:
        return {"gray": np.asarray(picture.convert("L"), np.float32) / 255}


def _of_h5(content: bytes) -> Arrays:
    found: dict[str, NDArray[Any]] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {"weights": np.concatenate([found[name].ravel() for name in sorted(found)]) if found else np.zeros(0)}


def _of_onnx(content: bytes) -> Arrays:
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


_ARRAYS: Mapping[str, Callable[[bytes], Arrays]] = {
    ".npz": _of_npz,
    ".npy": _of_npy,
    ".png": _of_png,
    ".h5": _of_h5,
    ".onnx": _of_onnx,
}


def _of_arrays(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    return {
        name: _root_mean_square(ours[name], theirs[name]) if name in ours and name in theirs else math.inf
        for name in dict.fromkeys([*ours, *theirs])
    }


def _root_mean_square(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    if not np.issubdtype(one.dtype, np.floating) and one.dtype != np.uint8:  # labels and counts; bytes are images
        return _unless(bool(np.array_equal(one, other)))
    apart = np.square(one.astype(np.float64) - other.astype(np.float64))
    found = float(np.sqrt(apart.mean())) if apart.size else 0.0
    return found if math.isfinite(found) else _unless(bool(np.array_equal(one, other, equal_nan=True)))
