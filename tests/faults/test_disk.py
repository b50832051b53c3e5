"""A full or read-only disk under every stage: a sentence, no half file, and the next run mends all."""

import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, command_of, outs_of, remove
from test_kills import GRAPH, QUICK

from pipeline.files import files_of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with room for the project and a little more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this machine lets root mount nothing: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Takes all the room that there is."""
    filler = disk / "filler"
    with filler.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, shutil.disk_usage(disk).free)
    yield
    filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Lets nobody write."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


FAULTS = {
    "disks filled": (full, r"No space left on device|no source of"),
    "disks read-only": (read_only, r"Read-only file system|no source of"),
}


def faults() -> Iterator[Any]:
    for stage in GRAPH:
        for fault in FAULTS:
            in_quick = stage == "train" if fault == "disks read-only" else stage in QUICK["disk"]
            marks = [] if in_quick else [pytest.mark.whole]
            yield pytest.param(stage, fault, marks=marks)


@pytest.mark.parametrize(("stage", "fault"), list(faults()))
def test_a_disk_that_takes_nothing_ends_with_a_sentence_and_no_half_file(
    finished: Project, small_disk: Path, counts: Counter[str], stage: str, fault: str
) -> None:
    spoil, sentence = FAULTS[fault]
    project = finished.copy_to(small_disk / "project")
    before = project.tracked_results()
    command = command_of(project, stage)
    remove(project, *outs_of(project, stage))
    files = project.files()
    with spoil(small_disk):
        said = project.fail(*command, env={"TMPDIR": str(small_disk.parent)})
    assert re.search(sentence, said), said
    kept = {path for path in project.files() - files if path.startswith("state/")}
    assert project.files() - kept == files
    project.repro()
    assert project.tracked_results() == before
    counts[fault] += 1


@pytest.mark.whole
def test_outputs_that_are_read_only_links_into_the_cache_are_made_anew(finished: Project, tmp_path: Path) -> None:
    """DVC makes such links for some values of `cache.type`. The files in the cache keep their bytes."""
    project = finished.copy_to(tmp_path / "project")
    before = project.tracked_results()
    project.succeed("dvc", "config", "cache.type", "symlink")
    project.succeed("dvc", "checkout", "--relink")
    assert any(path.is_symlink() for path in (project.folder / "data").rglob("*"))
    project.repro("--force", "--no-run-cache")
    assert project.tracked_results() == before
    for file in files_of(project.folder / ".dvc/cache/files/md5"):
        assert file.suffix == ".dir" or hashlib.md5(file.read_bytes()).hexdigest() == file.parent.name + file.name
