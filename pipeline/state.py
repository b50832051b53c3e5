"""State of unfinished work, so that an interrupted stage resumes where it was and ends with the same bytes."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import atomic

_DIGEST = "sha256"


def _digest(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """sha256 of names, types, shapes and values."""
    digest = sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.digest()


class State:
    """One stage's unfinished work, keyed by the digest of what it works from.

    Work from other code, parameters or inputs has another digest and so never resumes from this.
    """

    def __init__(self, folder: Path, stage: str, digest: str) -> None:
        self.path = folder / f"{stage}-{digest[:16]}.npz"
        self._lock_path = folder / f"{stage}.lock"

    def load(self) -> dict[str, NDArray[Any]] | None:
        """Arrays of the last `save`, or None if there is nothing to resume.

        Raises:
            StageError: If the file is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = dict(file)
        except (BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:
            raise StageError(f"{self.path} is damaged ({error}); remove it to begin anew: rm {self.path}") from error
        stated = arrays.pop(_DIGEST, None)
        if stated is None or stated.tobytes() != _digest(arrays):
            raise StageError(f"{self.path} is damaged (its sha256 is another); remove it to begin anew: rm {self.path}")
        return arrays

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replaces the state by `arrays`, in one rename."""
        with atomic(self.path) as partial, partial.open("wb") as handle:
            digest = np.frombuffer(_digest(arrays), np.uint8)
            np.savez(handle, allow_pickle=False, **arrays, **{_DIGEST: digest})

    def discard(self) -> None:
        """Removes the state, once the work is done and recorded."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the state's lock while the block works.

        The kernel frees the lock with the process, however it ends.

        Raises:
            StageError: If another process holds it, naming its pid.
        """
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("a+", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                handle.seek(0)
                raise StageError(
                    f"{self._lock_path} is held by process {handle.read().strip() or 'unknown'}, which does the same "
                    f"work; wait for it to end, or stop it"
                ) from error
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield
            handle.truncate(0)
