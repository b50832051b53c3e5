"""Revisions: the files that a commit, branch, tag, DVC experiment or the workspace holds."""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import StageError

#: The name of the files as they stand, committed or not.
WORKSPACE = "workspace"

#: Settings of git that users have, and that would colour, reorder or rename what it says, or run programs of theirs.
_HELD = {
    "color.ui": "false",
    "column.ui": "never",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.splitIndex": "false",
    "diff.external": "",
    "diff.mnemonicPrefix": "false",
    "diff.noprefix": "false",
    "diff.relative": "false",
    "log.showSignature": "false",
    "submodule.recurse": "false",
}


@dataclass(frozen=True)
class Revision:
    """One state of the project's files."""

    name: str  # as a person typed it
    commit: str | None  # full id of the commit; None for the workspace
    folder: Path = Path()  # where the project lies, in a working copy of its own git repository

    @property
    def label(self) -> str:
        """What to call it in a page or a table: the name and, where that says something new, the short id."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name[:9]
        return f"{self.name} ({self.commit[:9]})"

    def read(self, path: Path | str) -> bytes | None:
        """Content of a file, given from the project's folder; None if this revision has no such file."""
        if self.commit is None:
            file = self.folder / path
            return file.read_bytes() if file.is_file() else None
        folder = self.folder.resolve()
        found = _ids(folder, self.commit).get(Path(path).as_posix())
        return None if found is None else _blob(folder, found)

    def require(self, path: Path | str) -> bytes:
        """Content of a file.

        Raises:
            StageError: If this revision has no such file.
        """
        content = self.read(path)
        if content is None:
            raise StageError(
                f"{self.label} has no file {path}; expected a revision whose pipeline has run and whose results are "
                f"committed: run `dvc repro` there, or name another one"
            )
        return content

    def read_json(self, path: Path | str) -> Any:
        """Content of a JSON file that must be there."""
        return json.loads(self.require(path))

    def read_yaml(self, path: Path | str) -> Any:
        """Content of a YAML file that must be there; the same object each time, so not to be changed."""
        return _of_yaml(self.require(path))

    def hashes(self, *folders: str) -> dict[str, str]:
        """Git's id of each file that is named or lies in a named folder, one at least, by path from the project."""
        if self.commit is None:
            paths = files(self.folder, *folders)
            hashed = git(self.folder, "hash-object", "--", *paths).split() if paths else []
            return dict(zip(paths, hashed, strict=True))
        ids = _ids(self.folder.resolve(), self.commit)
        return {path: found for path, found in ids.items() if any(Path(path).is_relative_to(f) for f in folders)}


def resolve(name: str) -> Revision:
    """The revision that a person means.

    Raises:
        StageError: If there is none of that name, or git refuses the folder, with its reason and its mend.
    """
    if name == WORKSPACE:
        return Revision(name, None)
    if name and not name.startswith("-"):
        done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        found = done.stdout.decode().split() if done.returncode == 0 else experiments().get(name, [])
        if len(found) > 1:
            raise StageError(
                f"{name!r} names {len(found)} DVC experiments ({', '.join(commit[:9] for commit in found)}); "
                f"expected one: name it by its id"
            )
        if found:
            return Revision(name, found[0])
    git(Path(), "rev-parse", "--git-dir")
    known = ", ".join(sorted(experiments())) or "none"
    raise StageError(
        f"revision {name!r}: expected a commit, a branch, a tag, a DVC experiment (here: {known}) or "
        f"{WORKSPACE}; see `git branch --all` and `dvc exp list --all-commits`"
    )


def experiments() -> dict[str, list[str]]:
    """Commits of DVC's experiments by name: it keeps them as refs/exps/(id of the base in two parts)/(name)."""
    listed = _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/").stdout.decode()
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        commit, ref = line.split(" ", 1)
        parts = ref.split("/", 4)
        if len(parts) == 5 and len(parts[2]) == 2:  # refs/exps/exec/... and refs/exps/stash are DVC's own
            found.setdefault(parts[4], []).append(commit)
    return found


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """What git says in a folder, with some variables set; bytes that are no UTF-8 as `os.fsdecode` gives them.

    Raises:
        StageError: If it fails, with its reason.
    """
    done = _git("-C", str(folder), *arguments, **environment)
    if done.returncode:
        raise StageError(f"`git {' '.join(arguments)}` failed: {os.fsdecode(done.stderr).strip()}")
    return os.fsdecode(done.stdout)


def files(folder: Path, *below: str) -> list[str]:
    """Files that are tracked or could be, and are there, by path from `folder`: all, or those below some paths."""
    listed = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *below)
    return sorted({path for path in listed.split("\0") if path and (folder / path).is_file()})


def changed(*paths: str) -> list[str]:
    """Files of the project, or of those paths, that are not as HEAD has them, by path from its folder."""
    wanted = ("-z", "--", *(paths or ["."]))
    told = git(Path(), "diff", "--name-only", "--relative", "HEAD", *wanted)
    told += git(Path(), "ls-files", "--others", "--exclude-standard", *wanted)
    return sorted({path for path in told.split("\0") if path})


@cache
def _ids(folder: Path, commit: str) -> dict[str, str]:
    """Git's ids of the files of a commit, submodules left out, by path from the project's folder."""
    listed = _git("-C", str(folder), "ls-tree", "-r", "-z", commit).stdout
    rows = (os.fsdecode(row).split("\t", 1) for row in listed.split(b"\0") if row)
    return {path: facts.split()[2] for facts, path in rows if facts.split()[1] == "blob"}


@cache
def _blob(folder: Path, blob: str) -> bytes | None:
    """Content of a file by git's id; None if git cannot read it."""
    reader = _reader(folder)
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(f"{blob}\n".encode())
    reader.stdin.flush()
    header = reader.stdout.readline().split()
    return reader.stdout.read(int(header[2]) + 1)[:-1] if len(header) == 3 else None


@cache
def _reader(folder: Path) -> subprocess.Popen[bytes]:
    """A git that answers with the contents of files: a process for each of hundreds would take a second."""
    command = ["git", "-C", str(folder), "cat-file", "--batch"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@cache
def _of_yaml(content: bytes) -> Any:
    """What a YAML document says; parsed once, as a `dvc.lock` takes half a second."""
    return YAML(typ="safe").load(content.decode())


def _git(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    held = [word for name, value in _HELD.items() for word in ("-c", f"{name}={value}")]
    return subprocess.run(
        ["git", *held, *arguments], env={**os.environ, **environment}, capture_output=True, check=False
    )
