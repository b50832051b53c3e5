"""Files are whole or absent, and arrays prove themselves: under failures, kills, full disks and tampering."""

import errno
import hashlib
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import atomic, load_arrays, prove, save_arrays, sha256_file, significant, write_json, write_metrics

Writer = Callable[[Path, str], None]


def write_file(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_folder(path: Path, text: str) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "one.txt").write_text(text, encoding="utf-8")
    (path / "inner" / "two.txt").write_text(text + text, encoding="utf-8")


def write_and_fail(path: Path, write: Writer, failure: type[BaseException]) -> None:
    with atomic(path) as partial:
        write(partial, "new")
        raise failure


def content(path: Path) -> dict[str, str]:
    """Text of every file at or below `path`, hidden ones too, by its place."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_text(encoding="utf-8") for file in files}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


both = pytest.mark.parametrize("write", [write_file, write_folder])


# ---- atomic


@both
def test_success_puts_the_new_content_in_place(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "expected", "new")
    with atomic(tmp_path / "out" / "result") as partial:
        write(partial, "new")
        assert os.listdir(tmp_path / "out") == [partial.name]
    assert content(tmp_path / "out" / "result") == content(tmp_path / "expected")
    assert os.listdir(tmp_path / "out") == ["result"]


@both
def test_success_leaves_nothing_of_the_old_content(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "expected", "new")
    write(tmp_path / "result", "old")
    if write is write_folder:
        write_file(tmp_path / "result" / "only old", "old")
    with atomic(tmp_path / "result") as partial:
        write(partial, "new")
    assert content(tmp_path / "result") == content(tmp_path / "expected")
    assert sorted(os.listdir(tmp_path)) == ["expected", "result"]


def test_folder_replaces_a_file(tmp_path: Path) -> None:
    write_file(tmp_path / "result", "old")
    with atomic(tmp_path / "result") as partial:
        write_folder(partial, "new")
    assert content(tmp_path) == {"result/one.txt": "new", "result/inner/two.txt": "newnew"}


def test_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "result", "old")
    before = content(tmp_path)
    with pytest.raises(OSError), atomic(tmp_path / "result") as partial:
        write_file(partial, "new")
    assert content(tmp_path) == before


@both
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_failed_block_keeps_the_old_content(tmp_path: Path, write: Writer, failure: type[BaseException]) -> None:
    write(tmp_path / "result", "old")
    before = content(tmp_path)
    with pytest.raises(failure):
        write_and_fail(tmp_path / "result", write, failure)
    assert content(tmp_path) == before


@both
def test_failed_block_leaves_nothing_where_nothing_was(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(ValueError):
        write_and_fail(tmp_path / "result", write, ValueError)
    assert os.listdir(tmp_path) == []


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    write_file(tmp_path / "result", "old")
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "result"):
        pass
    assert content(tmp_path) == {"result": "old"}


def out_of_room(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@both
@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_full_disk_at_the_end_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer, fault: str
) -> None:
    write(tmp_path / "result", "old")
    before = content(tmp_path)
    monkeypatch.setattr(os, fault, out_of_room)
    with pytest.raises(OSError, match="No space left"), atomic(tmp_path / "result") as partial:
        write(partial, "new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("number", [1, 2])
def test_interrupt_at_any_rename_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_folder(tmp_path / "result", "old")
    before = content(tmp_path)
    replace, calls = os.replace, iter(range(1, 10))

    def interrupted(source: Path, target: Path) -> None:
        if next(calls) == number:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with suppress(KeyboardInterrupt), atomic(tmp_path / "result") as partial:
        write_folder(partial, "new")
    after = content(tmp_path)
    assert after == before or next(calls) <= number, after  # with fewer renames, none was interrupted


@both
def test_every_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    path = tmp_path / "result"
    fsync, synced = os.fsync, set[int]()

    def watched(handle: int) -> None:
        assert not path.exists()
        fsync(handle)
        synced.add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic(path) as partial:
        write(partial, "new")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    assert files
    assert {file.stat().st_ino for file in files} <= synced


def test_file_that_is_a_link_into_a_cache_is_replaced_and_the_cache_kept(tmp_path: Path) -> None:
    write_file(tmp_path / "cached", "old")
    (tmp_path / "result").symlink_to(tmp_path / "cached")
    with atomic(tmp_path / "result") as partial:
        write_file(partial, "new")
    assert content(tmp_path) == {"cached": "old", "result": "new"}
    assert not (tmp_path / "result").is_symlink()


def test_folder_of_links_into_a_cache_is_replaced_and_the_cache_kept(tmp_path: Path) -> None:
    write_file(tmp_path / "cached", "old")
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "one.txt").symlink_to(tmp_path / "cached")
    os.link(tmp_path / "cached", tmp_path / "result" / "two.txt")
    with atomic(tmp_path / "result") as partial:
        write_folder(partial, "new")
    assert (tmp_path / "cached").read_text(encoding="utf-8") == "old"


#: Writes half of a result, says so, and waits to be killed.
HALF = """
import sys
from pathlib import Path
from pipeline.files import atomic

with atomic(Path("result")) as partial:
    if sys.argv[1] == "folder":
        partial.mkdir()
        (partial / "one.txt").write_text("half")
    else:
        partial.write_text("half")
    print("half", flush=True)
    sys.stdin.read()
"""


@both
def test_kill_in_the_middle_of_a_write_keeps_the_old_content(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "result", "old")
    before = content(tmp_path / "result")
    command = [sys.executable, "-c", HALF, "folder" if write is write_folder else "file"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert content(tmp_path / "result") == before
    assert len(os.listdir(tmp_path)) == 2, "the kill came before anything was written"

    with atomic(tmp_path / "result") as partial:
        assert not partial.exists()
        write(partial, "new")
    assert os.listdir(tmp_path) == ["result"]
    write(tmp_path / "expected", "new")
    assert content(tmp_path / "result") == content(tmp_path / "expected")


#: Replaces a folder; waits to be killed at the rename of the given number, if there are so many.
RENAMES = """
import os, sys
from pathlib import Path
from pipeline.files import atomic

replace, calls = os.replace, iter(range(1, 10))

def stopping(source, target):
    if next(calls) == int(sys.argv[1]):
        print("stopped", flush=True)
        sys.stdin.read()
    replace(source, target)

os.replace = stopping
with atomic(Path("result")) as partial:
    partial.mkdir()
    (partial / "new.txt").write_text("new")
print("done", flush=True)
"""


@pytest.mark.parametrize("number", [1, 2])
def test_folder_is_whole_or_absent_after_a_kill_at_any_rename(tmp_path: Path, number: int) -> None:
    write_folder(tmp_path / "result", "old")
    old, new = content(tmp_path / "result"), {"new.txt": "new"}
    command = [sys.executable, "-c", RENAMES, str(number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        child.kill()
    assert said in ("stopped\n", "done\n")
    assert content(tmp_path / "result") in (old, {}, new)

    with atomic(tmp_path / "result") as partial:
        write_folder(partial, "newer")
    assert os.listdir(tmp_path) == ["result"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("a full disk needs the program mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a full disk needs the right to mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@both
def test_disk_that_fills_up_keeps_the_old_content(small_disk: Path, write: Writer) -> None:
    with atomic(small_disk / "result") as partial:
        write(partial, "old")
    before = content(small_disk)
    with pytest.raises(OSError, match="No space left"), atomic(small_disk / "result") as partial:
        write(partial, "new" * 50_000)
    assert content(small_disk) == before
    with atomic(small_disk / "result") as partial:
        write(partial, "new")
    assert "new" in content(small_disk / "result").values()


# ---- JSON


def written(path: Path, content: Any) -> str:
    write_json(path, content)
    return path.read_text(encoding="utf-8")


def read_back(path: Path, metrics: dict[str, Any]) -> Any:
    write_metrics(path, metrics)
    return json.loads(path.read_text(encoding="utf-8"))


def test_json_is_sorted_indented_and_ends_its_last_line(tmp_path: Path) -> None:
    text = written(tmp_path / "m.json", {"b": {"d": 1, "c": True}, "a": ["x", None, (2,)]})
    assert text == (
        '{\n  "a": [\n    "x",\n    null,\n    [\n      2\n    ]\n  ],\n  "b": {\n    "c": true,\n    "d": 1\n  }\n}\n'
    )


@pytest.mark.parametrize("write", [write_json, write_metrics])
def test_json_has_the_same_bytes_whatever_the_order_of_keys(tmp_path: Path, write: Callable[[Path, Any], None]) -> None:
    write(tmp_path / "one.json", {"a": 1.0, "b": {"c": 2.0, "d": 3.0}})
    write(tmp_path / "two.json", {"b": {"d": 3.0, "c": 2.0}, "a": 1.0})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_bit_of_a_number(tmp_path_factory: pytest.TempPathFactory, number: float) -> None:
    path = tmp_path_factory.getbasetemp() / "number.json"
    assert json.loads(written(path, [{"x": number}])) == [{"x": number}]


@pytest.mark.parametrize("content", [{"x": math.nan}, {"x": object()}])
def test_json_that_cannot_be_written_keeps_the_old_content(tmp_path: Path, content: Any) -> None:
    write_file(tmp_path / "m.json", "old")
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "m.json", content)
    assert os.listdir(tmp_path) == ["m.json"]
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == "old"


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_metrics_keep_six_significant_digits(tmp_path_factory: pytest.TempPathFactory, number: float) -> None:
    rounded = float(Context(prec=6).plus(Decimal(number)))
    assert float(significant(number)) == rounded
    path = tmp_path_factory.getbasetemp() / "metrics.json"
    assert read_back(path, {"x": number, "y": [np.float64(number)]}) == {"x": rounded, "y": [rounded]}


def test_single_precision_metrics_are_written_as_numbers(tmp_path: Path) -> None:
    assert read_back(tmp_path / "m.json", {"x": np.float32(0.1)}) == {"x": 0.1}


def test_whole_numbers_keep_all_digits(tmp_path: Path) -> None:
    assert read_back(tmp_path / "m.json", {"ones": 2_248_637}) == {"ones": 2_248_637}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("nest", [lambda x: {"test": {"kl": x}}, lambda x: {"a": 1, "kl": [1.0, x]}])
def test_metric_that_is_not_finite_is_refused_by_its_key(
    tmp_path: Path, number: float, nest: Callable[[float], Any]
) -> None:
    path = tmp_path / "metrics.json"
    write_file(path, "old")
    with pytest.raises(StageError, match=rf"metrics\.json.*kl is {number}, expected a finite number"):
        write_metrics(path, nest(number))
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


def test_same_arrays_give_the_same_files(tmp_path: Path) -> None:
    save_arrays(tmp_path / "one", ARRAYS)
    save_arrays(tmp_path / "two", dict(reversed(ARRAYS.items())))
    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_manifest_states_the_sha256_of_every_file(folder: Path) -> None:
    manifest = json.loads((folder / "sha256.json").read_text(encoding="utf-8"))
    assert manifest == {f"{name}.npy": sha256(folder / f"{name}.npy") for name in ("images", "labels")}


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == expected


def test_arrays_of_before_do_not_stay(folder: Path) -> None:
    save_arrays(folder, {"other": np.arange(2)})
    assert load_arrays(folder).keys() == {"other"}


def test_array_of_objects_is_not_saved(folder: Path) -> None:
    before = sorted(file.read_bytes() for file in folder.iterdir())
    with pytest.raises(ValueError, match="allow_pickle"):
        save_arrays(folder, {"images": np.arange(4), "objects": np.array([{}, None])})
    assert sorted(file.read_bytes() for file in folder.iterdir()) == before
    assert os.listdir(folder.parent) == [folder.name]


@pytest.mark.parametrize("position", [0, 60, -1])
def test_tampered_byte_is_refused_by_file_and_both_hashes(folder: Path, position: int) -> None:
    file = folder / "labels.npy"
    before = sha256(file)
    tampered = bytearray(file.read_bytes())
    tampered[position] ^= 1
    file.write_bytes(tampered)
    with pytest.raises(StageError) as caught:
        load_arrays(folder)
    assert str(file) in str(caught.value)
    assert f"sha256 {sha256(file)}, expected {before}" in str(caught.value)


@pytest.mark.parametrize("digit", [0, 31, 63])
def test_hash_that_differs_in_one_digit_is_refused(folder: Path, digit: int) -> None:
    stated = sha256(folder / "labels.npy")
    other = stated[:digit] + ("1" if stated[digit] == "0" else "0") + stated[digit + 1 :]
    manifest = folder / "sha256.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(stated, other), encoding="utf-8")
    with pytest.raises(StageError, match=rf"labels\.npy has sha256 {stated}, expected {other}"):
        load_arrays(folder)


@pytest.mark.parametrize("name", ["labels.npy", "sha256.json"])
def test_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(StageError, match=rf"{folder / name} is missing.*dvc repro"):
        load_arrays(folder)


def test_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=rf"{tmp_path / 'absent'}.* is missing.*dvc repro"):
        load_arrays(tmp_path / "absent")


@pytest.mark.parametrize("manifest", ["", '{"labels.npy": ', "[]", '{"labels.npy": 3}', "\x00"])
def test_damaged_manifest_is_refused_by_name(folder: Path, manifest: str) -> None:
    (folder / "sha256.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(StageError, match=str(folder)):
        prove(folder)


@pytest.mark.parametrize("name", ["added.npy", "inner/labels.npy"])
def test_array_that_the_manifest_does_not_prove_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    np.save(folder / name, np.arange(9))
    with pytest.raises(StageError, match=name):
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


@pytest.mark.parametrize("forge", [object_array, bare_pickle])
def test_pickle_with_a_true_manifest_is_refused_and_never_run(
    folder: Path, forge: Callable[[Path, Payload], None]
) -> None:
    trace = folder.parent / "was here"
    forge(folder / "images.npy", Payload(trace))
    prove_again(folder)
    with pytest.raises((StageError, ValueError)):
        load_arrays(folder)
    assert not trace.exists()
    np.load(folder / "images.npy", allow_pickle=True)
    assert trace.exists(), "the payload is harmless, so this test proves nothing"


def no_header(file: Path, _: Payload) -> None:
    write_header(file, "(" * 30)


def endless_array(file: Path, _: Payload) -> None:
    write_header(file, f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},)}}")


def array_beyond_integers(file: Path, _: Payload) -> None:
    write_header(file, f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30},)}}")


def write_header(file: Path, text: str) -> None:
    file.write_bytes(b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n")


#: What makes of a file of an array one that is none.
FORGERIES = [object_array, bare_pickle, no_header, endless_array, array_beyond_integers]


@pytest.mark.parametrize("forge", FORGERIES)
def test_no_array_with_a_true_manifest_is_refused_by_name(folder: Path, forge: Callable[[Path, Payload], None]) -> None:
    forge(folder / "images.npy", Payload(folder.parent / "was here"))
    prove_again(folder)
    with pytest.raises(StageError, match=r"images\.npy"):
        load_arrays(folder)
