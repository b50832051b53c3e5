"""A full disk under every stage: a sentence, no half file, and to make room is all that it takes."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project, command_of, outs_of
from test_kills import GRAPH


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


@pytest.mark.parametrize("stage", GRAPH)
def test_a_full_disk_ends_with_a_sentence_and_no_half_file(
    finished: Project, small_disk: Path, counts: Counter[str], stage: str
) -> None:
    project = finished.copy_to(small_disk / "project")
    before = project.tracked_results()
    command = command_of(project, stage)
    for path in outs_of(project, stage):
        assert project.run("rm", "-rf", path).returncode == 0
    files = project.files()
    filler = small_disk / "filler"
    fill(filler)
    done = project.run(*command, env={"TMPDIR": str(small_disk.parent)})
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr or "no source of" in done.stderr, done.stderr
    kept = {path for path in project.files() if path.startswith("state/")}
    assert project.files() - kept == files
    filler.unlink()
    project.repro()
    assert project.tracked_results() == before
    counts["disks filled"] += 1


def fill(path: Path) -> None:
    """Takes all the room that there is."""
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, free)
