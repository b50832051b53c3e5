"""How a command ends: its exit status, and a sentence where it was refused."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from pipeline.errors import INTERRUPTED, StageError

#: Variables that have git take another repository, index or object store than its folder's, or read paths otherwise.
_ELSEWHERE = (
    "GIT_ALLOW_PROTOCOL",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)


class Output:
    """Standard output that falls silent once nobody reads it (`make compare | head -1`), so that the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, and returns its length."""
        self._unless_unread(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Writes what is kept back."""
        self._unless_unread(self._stream.flush)

    def _unless_unread(self, act: Callable[..., object], *arguments: str) -> None:
        try:
            act(*arguments)
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


def forget_other_repositories() -> None:
    """Removes the variables that git sets for its hooks: with GIT_DIR set, every git would work in that repository."""
    for name in _ELSEWHERE:
        os.environ.pop(name, None)


def end(command: str, work: Callable[[], int], refused: int = 1) -> NoReturn:
    """Does the work of a command, and ends the process. Error messages begin with `command`.

    The status is what `work` returns; `refused`, with a message, if it was refused or failed; 130 if it was
    interrupted. Every git and DVC that it starts finds its repository by the folder it runs in.
    """
    forget_other_repositories()
    os.environ["SHELL"] = "/bin/sh"  # DVC runs stages by it, and the user's may be none
    if sys.stdout:  # none if it was closed from the start
        with contextlib.suppress(AttributeError):
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may know no `±`
        sys.stdout = cast(TextIO, Output(sys.stdout))
    try:
        status = work()
        if sys.stdout:
            sys.stdout.flush()
    except StageError as error:
        status = _say(command, str(error), refused)
    except subprocess.CalledProcessError as error:
        status = _say(command, f"{error}, its message stands above", refused)
    except OSError as error:
        status = _say(
            command, f"{error}: make room, mend the permissions or name another place, then run it again", refused
        )
    except KeyboardInterrupt:
        status = _say(command.partition(":")[0], "interrupted; the same command goes on with it", INTERRUPTED)
    sys.exit(status)


def require_folder_of(file: Path) -> None:
    """Refuses a file to be written where there is no folder: it may be mistyped, and nobody would find the file.

    Raises:
        StageError: If there is none.
    """
    if not file.parent.is_dir():
        raise StageError(f"{file} cannot be written: there is no folder {file.parent}; make it, or name another place")


def _say(command: str, message: str, status: int) -> int:
    print(f"{command}: {message}", file=sys.stderr)
    return status
