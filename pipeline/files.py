"""Files that are whole or absent, written under a temporary name and renamed; and arrays that prove themselves."""

import errno
import hashlib
import json
import math
import os
import shutil
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError

#: Digits of a number in a metrics file: below the noise of any run, above what a reader compares.
SIGNIFICANT_DIGITS = 6

MANIFEST = "sha256.json"


#: What numpy raises on a header that is none.
_NO_ARRAY = (ValueError, TypeError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder, that takes its place if the block succeeds.

    A failed block leaves `path` as it was and removes the temporary; one that a kill left behind
    is removed by the next call. Written data reach the disk before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    _remove(_aside(path))
    try:
        yield partial
        _sync(partial)
        _put_in_place(partial, path)
    except BaseException:
        _remove(partial)
        raise
    _sync_one(path.parent)  # the new name, too


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old.partial")


def _put_in_place(partial: Path, path: Path) -> None:
    """Renames; a folder can take no other's place, so what is there steps aside until the new one stands."""
    if not (partial.is_dir() and path.exists()):
        os.replace(partial, path)
        return
    aside = _aside(path)
    os.replace(path, aside)
    try:
        os.replace(partial, path)
    except BaseException:
        os.replace(aside, path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    for one in (path, *path.rglob("*")):
        _sync_one(one)


def _sync_one(path: Path) -> None:
    """Has a file's content, or a folder's list of names, reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as of folders on some network's file systems
            raise
    finally:
        os.close(handle)


def files_of(path: Path) -> list[Path]:
    """`path` itself if it is a file, else the files below it, sorted."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Writes content as it is, byte-stable: JSON with sorted keys."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Writes metrics as JSON, numbers rounded to six significant digits.

    Raises:
        StageError: If a number is not finite; nothing is written then.
    """
    write_json(path, _rounded(metrics, path.name))


def _rounded(content: Any, where: str) -> Any:
    if isinstance(content, Mapping):
        return {key: _rounded(value, f"{where}: {key}") for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value, where) for value in content]
    if isinstance(content, (float, np.floating)):
        if not math.isfinite(content):
            raise StageError(f"{where} is {content}, expected a finite number; nothing was written")
        return float(significant(float(content)))
    return content


def significant(number: float) -> str:
    """`number` as text with six significant digits."""
    return f"{number:.{SIGNIFICANT_DIGITS}g}"


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes each array as `NAME.npy` and their sha256 to the folder's manifest; all or nothing."""
    with atomic(folder) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        write_manifest(partial)


def write_manifest(folder: Path) -> None:
    """Writes the sha256 of each of the folder's files, so that a reader can prove what it reads."""
    write_json(folder / MANIFEST, {file.name: sha256_file(file) for file in files_of(folder)})


def prove(folder: Path) -> None:
    """Proves that the files of `folder` are those that its manifest names, byte for byte.

    Raises:
        StageError: If the manifest cannot be read, a file is missing or added, or its sha256 is another.
    """
    manifest = _read_manifest(folder)
    files = {str(file.relative_to(folder)) for file in files_of(folder)} - {MANIFEST}
    for name in sorted(files | manifest.keys()):
        file, expected = folder / name, manifest.get(name)
        if name not in files:
            raise StageError(f"{file} is missing; expected an output of an earlier stage: run `dvc repro`")
        if expected is None:
            raise StageError(f"{file} is not in {folder / MANIFEST}: no stage wrote it; remove it")
        found = sha256_file(file)
        if found != expected:
            raise StageError(
                f"{file} has sha256 {found}, expected {expected}: it was changed or damaged after it was written. "
                f"Remove {folder} and run `dvc repro`"
            )


def _read_manifest(folder: Path) -> dict[str, str]:
    """sha256 by file name, as the stage that wrote the folder stated them."""
    path = folder / MANIFEST
    if not path.is_file():
        raise StageError(f"{path} is missing; expected an output of an earlier stage: run `dvc repro`")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"{path} is damaged ({error}). Remove {folder} and run `dvc repro`") from error
    if not isinstance(manifest, dict):
        raise StageError(f"{path} is damaged: it holds no names. Remove {folder} and run `dvc repro`")
    return manifest


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays of `folder` by name, proven by its manifest; nothing is ever unpickled.

    Raises:
        StageError: If an array is missing, is not the one that was written, or is no plain array.
    """
    prove(folder)
    arrays = {}
    for file in files_of(folder):
        if file.suffix == ".npy":
            try:
                with file.open("rb") as handle:
                    arrays[file.stem] = np.lib.format.read_array(handle, allow_pickle=False)
            except _NO_ARRAY as error:
                raise StageError(f"{file} is no plain array ({error}). Remove {folder} and run `dvc repro`") from error
    return arrays
