"""What a machine can vary, after Debian's reprotest: the bytes of every tracked result stay the same."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Project

#: User and group that own nothing.
NOBODY = 65534

#: Loaded by every Python that has its folder on PYTHONPATH: the clock is years ahead, and jumps at each look.
CLOCK = """
import time

real, looks = time.time, 0

def jumping():
    global looks
    looks += 1
    return real() + 4e8 + (-1) ** looks * 1e6

time.time = jumping
"""


@dataclass(frozen=True)
class Variation:
    """Another way in which the machine may run the pipeline.

    Attributes:
        variables: Environment variables.
        before: Words of a command that runs the command after them.
        folder: Name of the project's folder.
        user: Whether another user runs it, who has no rights here.
        root: Whether it takes root's rights.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    folder: str = "project"
    user: bool = False
    root: bool = False


VARIATIONS = {
    "time": Variation({"PYTHONPATH": "{clock}"}),
    "time zone": Variation({"TZ": "Pacific/Kiritimati"}),
    "locale": Variation({"LC_ALL": "C", "LANG": "tr_TR.UTF-8", "PYTHONUTF8": "0"}),
    "path": Variation(folder="a b ü 衣服 'quoted'"),
    "home": Variation({"HOME": "/nonexistent"}),
    "umask": Variation(before=["sh", "-c", 'umask 077; exec "$@"', "sh"]),
    "processors": Variation(before=["taskset", "--cpu-list", "0"]),
    "host name": Variation(before=["unshare", "--uts", "sh", "-c", 'hostname other; exec "$@"', "sh"], root=True),
    "user": Variation(user=True, root=True),
}


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [] if name in ("path", "user") else [pytest.mark.whole]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in VARIATIONS])
def test_the_bytes_are_the_same(
    finished: Project, make_project: Callable[[str], Project], tmp_path: Path, counts: Counter[str], name: str
) -> None:
    variation = VARIATIONS[name]
    if variation.root and os.geteuid() != 0:
        pytest.skip("it takes root's rights")
    if variation.before and shutil.which(variation.before[0]) is None:
        pytest.skip(f"{variation.before[0]} is not on this machine")
    (tmp_path / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    project = make_project(variation.folder)
    given = {key: value.format(clock=tmp_path) for key, value in variation.variables.items()}
    command = [*variation.before, "dvc", "repro"]
    user = {}
    if variation.user:
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        try:
            subprocess.run([sys.executable, "-c", ""], cwd="/", check=True, **user)
        except (PermissionError, subprocess.CalledProcessError):
            pytest.skip("other users may not run this Python")
        hand_over(project.folder)
        given |= {"HOME": str(project.folder / "home"), "MPLCONFIGDIR": str(project.folder / ".mpl")}
    done = subprocess.run(
        command,
        cwd=project.folder,
        env=project.environment(given, forks=False),
        capture_output=True,
        text=True,
        check=False,
        **user,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.tracked_results() == finished.tracked_results()
    counts["variations identical"] += 1


def hand_over(folder: Path) -> None:
    """Gives a project to nobody, and lets everybody through pytest's folders to it."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for path in folder.parents:
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
