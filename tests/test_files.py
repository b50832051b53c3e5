"""Files are whole or absent, and arrays prove themselves: under failures, kills and tampering."""

import errno
import functools
import hashlib
import itertools
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import atomic, load_arrays, save_arrays, significant, write_json, write_metrics

Writer = Callable[[Path, str], None]


def write_file(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_folder(path: Path, text: str) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "one.txt").write_text(text, encoding="utf-8")
    (path / "inner" / "two.txt").write_text(text + text, encoding="utf-8")


def content(path: Path) -> dict[str, str]:
    """Text of every file at or below `path`, hidden ones too, by its place."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_text(encoding="utf-8") for file in files}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


both = pytest.mark.parametrize("write", [write_file, write_folder])


# ---- atomic


@pytest.mark.parametrize(
    ("write_old", "write"),
    [
        (None, write_file),
        (None, write_folder),
        (write_file, write_file),
        (write_file, write_folder),
        (write_folder,) * 2,
    ],
)
def test_success_puts_the_new_content_in_place_of_all_the_old(
    tmp_path: Path, write_old: Writer | None, write: Writer
) -> None:
    result = tmp_path / "out" / "result"
    if write_old:
        result.parent.mkdir()
        write_old(result, "old")
    if result.is_dir():
        write_file(result / "only old", "old")
    with atomic(result) as partial:
        write(partial, "new")
        assert {*os.listdir(tmp_path / "out")} == {partial.name} | ({result.name} if write_old else set())
    assert os.listdir(tmp_path / "out") == ["result"]
    write(tmp_path / "expected", "new")
    assert content(result) == content(tmp_path / "expected")


def write_nothing(_: Path, __: str) -> None:
    """Leaves the path as it is."""


@pytest.mark.parametrize(("write_old", "write"), [(write_folder, write_file), (write_file, write_nothing)])
def test_what_cannot_take_the_place_of_the_old_content_is_an_error(
    tmp_path: Path, write_old: Writer, write: Writer
) -> None:
    write_old(tmp_path / "result", "old")
    before = content(tmp_path)
    with pytest.raises(OSError), atomic(tmp_path / "result") as partial:
        write(partial, "new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("write_old", "write", "owner", "call", "number"),
    [
        (None, write_file, Path, "write_text", 1),
        (None, write_folder, Path, "write_text", 2),
        (write_file, write_file, Path, "write_text", 1),
        (write_folder, write_folder, Path, "write_text", 2),
        (write_file, write_file, os, "fsync", 1),
        (write_folder, write_folder, os, "fsync", 2),
        (write_file, write_file, os, "replace", 1),
        (write_folder, write_folder, os, "replace", 1),
        (write_folder, write_folder, os, "replace", 2),
    ],
)
def test_failure_keeps_the_old_content_and_leaves_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_old: Writer | None,
    write: Writer,
    owner: Any,
    call: str,
    number: int,
    failure: BaseException,
) -> None:
    if write_old:
        write_old(tmp_path / "result", "old")
    before = content(tmp_path)
    real, calls = getattr(owner, call), itertools.count(1)

    def failing(*arguments: Any, **options: Any) -> None:
        if next(calls) == number:
            raise failure
        real(*arguments, **options)

    monkeypatch.setattr(owner, call, failing)
    with pytest.raises(type(failure)), atomic(tmp_path / "result") as partial:
        write(partial, "new")
    assert content(tmp_path) == before


@both
def test_every_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    path = tmp_path / "result"
    fsync, synced = os.fsync, set[int]()

    def watched(handle: int) -> None:
        found = os.fstat(handle).st_ino
        assert path.exists() == (found == tmp_path.stat().st_ino)  # of the name, the folder it stands in
        fsync(handle)
        synced.add(found)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic(path) as partial:
        write(partial, "new")
    assert tmp_path.stat().st_ino in synced
    assert set() < {(path / name).stat().st_ino for name in content(path)} <= synced


@both
def test_file_that_is_a_link_into_a_cache_is_replaced_and_the_cache_kept(tmp_path: Path, write: Writer) -> None:
    write_file(tmp_path / "cached", "old")
    result = tmp_path / "result"
    if write is write_folder:
        result.mkdir()
        os.link(tmp_path / "cached", result / "two.txt")
        result /= "one.txt"
    result.symlink_to(tmp_path / "cached")
    with atomic(tmp_path / "result") as partial:
        write(partial, "new")
    assert (tmp_path / "cached").read_text(encoding="utf-8") == "old"
    assert (result.read_text(encoding="utf-8"), result.is_symlink()) == ("new", False)


#: Writes a result, and is killed half-way through the block, or before the rename of the given number.
KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from pipeline.files import atomic

_, kind, number = sys.argv
replace, calls = os.replace, itertools.count(1)

def killed(source, target):
    if next(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = killed
with atomic(Path("result")) as partial:
    if kind == "write_folder":
        partial.mkdir()
    (partial / "one.txt" if partial.is_dir() else partial).write_text("half")
    if number == "0":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@both
@pytest.mark.parametrize("number", [0, 1, 2])
def test_kill_leaves_the_old_content_whole_or_absent_and_the_next_write_removes_the_rest(
    tmp_path: Path, write: Writer, number: int
) -> None:
    write(tmp_path / "result", "old")
    before = content(tmp_path / "result")
    command = [sys.executable, "-c", KILLED, write.__name__, str(number)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode in ([-signal.SIGKILL] if number < 2 else [-signal.SIGKILL, 0])
    half = {"." if write is write_file else "one.txt": "half"}
    assert content(tmp_path / "result") in ([before] if number < 2 else [before, {}, half])
    assert len(os.listdir(tmp_path)) == (1 if done.returncode == 0 else 2)

    with atomic(tmp_path / "result") as partial:
        assert not partial.exists()
        write(partial, "new")
    assert os.listdir(tmp_path) == ["result"]
    write(tmp_path / "expected", "new")
    assert content(tmp_path / "result") == content(tmp_path / "expected")


# ---- JSON


def read_back(path: Path, metrics: dict[str, Any]) -> Any:
    write_metrics(path, metrics)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("write", [write_json, write_metrics])
def test_json_is_sorted_indented_and_ends_its_last_line(tmp_path: Path, write: Callable[[Path, Any], None]) -> None:
    write(tmp_path / "m.json", {"b": {"d": 1, "c": True}, "a": ["x", None, (2,)]})
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == (
        '{\n  "a": [\n    "x",\n    null,\n    [\n      2\n    ]\n  ],\n  "b": {\n    "c": true,\n    "d": 1\n  }\n}\n'
    )


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_bit_of_a_number(tmp_path_factory: pytest.TempPathFactory, number: float) -> None:
    path = tmp_path_factory.getbasetemp() / "number.json"
    write_json(path, [{"x": number}])
    assert json.loads(path.read_text(encoding="utf-8")) == [{"x": number}]


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_metrics_keep_six_significant_digits(tmp_path_factory: pytest.TempPathFactory, number: float) -> None:
    rounded = float(Context(prec=6).plus(Decimal(number)))
    assert float(significant(number)) == rounded
    path = tmp_path_factory.getbasetemp() / "metrics.json"
    assert read_back(path, {"x": number, "y": [np.float64(number)]}) == {"x": rounded, "y": [rounded]}


def test_metrics_may_be_of_single_precision_and_whole_ones_keep_all_digits(tmp_path: Path) -> None:
    assert read_back(tmp_path / "m.json", {"x": np.float32(0.1), "y": 2_248_637}) == {"x": 0.1, "y": 2_248_637}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("nest", [lambda x: {"test": {"kl": x}}, lambda x: {"a": 1, "kl": [1.0, x]}])
def test_metric_that_is_not_finite_is_refused_by_its_key(
    tmp_path: Path, number: float, nest: Callable[[float], Any]
) -> None:
    path = tmp_path / "metrics.json"
    write_file(path, "old")
    with pytest.raises(StageError, match=rf"metrics\.json.*kl is {number}, expected a finite number"):
        write_metrics(path, nest(number))
    for wrong in (float(number), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, nest(wrong))
    assert content(tmp_path) == {"metrics.json": "old"}


# ---- arrays

ARRAYS: dict[str, NDArray[Any]] = {
    "uint8": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "bool": np.array([True, False]),
    "int64": np.array([-(2**62), 2**62]),
    "float16": np.array([0.1, np.nan, -0.0], np.float16),
    "float32": np.array([0.1, np.inf, -np.inf, np.nan], np.float32),
    "float64": np.array([0.1, 1e300]),
    "big_endian": np.array([1, 2, 3], ">i4"),
    "text": np.array(["T-shirt", "é"]),
    "scalar": np.array(3.0),
    "empty": np.zeros((0, 28, 28), np.uint8),
    "strided": np.arange(12)[::2],
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two arrays."""
    save_arrays(tmp_path / "arrays", {"images": np.arange(4), "labels": np.arange(3)})
    return tmp_path / "arrays"


def prove_again(folder: Path) -> None:
    """Makes the manifest true for whatever the folder holds, as a forger would."""
    digests = {file.name: sha256(file) for file in folder.iterdir() if file.name != "sha256.json"}
    (folder / "sha256.json").write_text(json.dumps(digests), encoding="utf-8")


def test_arrays_come_back_with_their_bytes_types_and_shapes(tmp_path: Path) -> None:
    save_arrays(tmp_path / "arrays", ARRAYS)
    loaded = load_arrays(tmp_path / "arrays")
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_same_arrays_give_the_same_files_with_the_sha256_of_each(tmp_path: Path) -> None:
    save_arrays(tmp_path / "one", ARRAYS)
    save_arrays(tmp_path / "two", dict(reversed(ARRAYS.items())))
    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    manifest = json.loads(one.pop("sha256.json"))
    assert manifest == {name: hashlib.sha256(file).hexdigest() for name, file in one.items()}


def test_array_of_objects_is_not_saved(folder: Path) -> None:
    before = sorted(file.read_bytes() for file in folder.iterdir())
    with pytest.raises(ValueError, match="allow_pickle"):
        save_arrays(folder, {"images": np.arange(4), "objects": np.array([{}, None])})
    assert sorted(file.read_bytes() for file in folder.iterdir()) == before
    assert os.listdir(folder.parent) == [folder.name]


def flip(folder: Path, position: int) -> str:
    file = folder / "labels.npy"
    before, changed = sha256(file), bytearray(file.read_bytes())
    changed[position] ^= 1
    file.write_bytes(changed)
    return f"{file} has sha256 {sha256(file)}, expected {before}: .*dvc repro"


def state_another(folder: Path, digit: int) -> str:
    manifest = json.loads((folder / "sha256.json").read_text(encoding="utf-8"))
    true = manifest["labels.npy"]
    other = true[:digit] + ("1" if true[digit] == "0" else "0") + true[digit + 1 :]
    (folder / "sha256.json").write_text(json.dumps({**manifest, "labels.npy": other}), encoding="utf-8")
    return rf"labels\.npy has sha256 {true}, expected {other}"


def damage_manifest(folder: Path, text: str) -> str:
    (folder / "sha256.json").write_text(text, encoding="utf-8")
    return str(folder)


def lose(folder: Path, name: str) -> str:
    (folder.parent / name).rename(folder.parent / "elsewhere")
    return rf"{folder.parent / name}.* is missing.*dvc repro"


def add(folder: Path, name: str) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    np.save(folder / name, np.arange(9))
    return f"{name} is not in .*: no stage wrote it; remove it"


SPOILS: dict[Callable[[Path, Any], str], list[Any]] = {
    flip: [0, 60, -1],
    state_another: [0, 31, 63],
    damage_manifest: ["", '{"labels.npy": ', "[]", '{"labels.npy": 3}', "\x00"],
    lose: ["arrays", "arrays/labels.npy", "arrays/sha256.json"],
    add: ["added.npy", "inner/labels.npy"],
}


@pytest.mark.parametrize(("spoil", "what"), [(spoil, what) for spoil in SPOILS for what in SPOILS[spoil]])
def test_folder_that_its_manifest_does_not_prove_is_refused_by_name(
    folder: Path, spoil: Callable[[Path, Any], str], what: Any
) -> None:
    with pytest.raises(StageError, match=spoil(folder, what)):
        load_arrays(folder)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def object_array(file: Path, payload: Payload) -> None:
    array = np.empty(1, object)
    array[0] = payload
    np.save(file, array, allow_pickle=True)


def bare_pickle(file: Path, payload: Payload) -> None:
    file.write_bytes(pickle.dumps(payload))


def other_header(text: str, file: Path, _: Payload) -> None:
    file.write_bytes(b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n")


#: Headers that are none, of an array that no memory holds, and of one that no integer counts.
HEADERS = ["(" * 30, *(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**power},)}}" for power in (15, 30))]

#: What makes of a file of an array one that is none.
FORGERIES = [object_array, bare_pickle, *(functools.partial(other_header, text) for text in HEADERS)]


@pytest.mark.parametrize("forge", FORGERIES)
def test_no_array_with_a_true_manifest_is_refused_by_name(folder: Path, forge: Callable[[Path, Payload], None]) -> None:
    trace = folder.parent / "was here"
    forge(folder / "images.npy", Payload(trace))
    prove_again(folder)
    with pytest.raises(StageError, match=r"images\.npy is no plain array"):
        load_arrays(folder)
    assert not trace.exists()
    if forge in (object_array, bare_pickle):
        np.load(folder / "images.npy", allow_pickle=True)
        assert trace.exists(), "the payload is harmless, so this test proves nothing"
