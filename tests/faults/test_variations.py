"""What a machine can vary, after Debian's reprotest: the bytes of every tracked result stay the same."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, new_project

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


#: Variables, and files in the home, that libraries read.
READ = {
    "KERAS_BACKEND": "jax",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "TF_NUM_INTRAOP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
SETTINGS = {
    ".keras/keras.json": '{"backend": "jax", "floatx": "float16"}',
    ".config/matplotlib/matplotlibrc": "savefig.dpi: 50\nbackend: nonsense",
    ".gitconfig": "[core]\n    autocrlf = true\n[color]\n    ui = always",
}

#: Environment variables by which the machine varies. `{home}` and `{clock}` are folders with SETTINGS and CLOCK.
VARIABLES = {
    "variables of libraries": READ,
    "settings of libraries": {"HOME": "{home}"},
    "time": {"PYTHONPATH": "{clock}"},
    "time zone": {"TZ": "Pacific/Kiritimati"},
    "locale": {"LC_ALL": "C", "LANG": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
}

#: Commands that vary the machine for the command after them.
COMMANDS = {
    "umask": ["sh", "-c", 'umask 077; exec "$@"', "sh"],
    "processors": ["taskset", "--cpu-list", "0"],
    "host name": ["unshare", "--uts", "sh", "-c", 'hostname other; exec "$@"', "sh"],
}

#: A name for the project's folder: as odd as DVC can take it where Python reads no UTF-8.
FOLDER = "a b $c 'quoted'"


def test_the_bytes_are_the_same_whatever_varies_at_once(
    finished: Project, tmp_path: Path, counts: Counter[str]
) -> None:
    possible = [command for command in COMMANDS.values() if subprocess.run([*command, "true"]).returncode == 0]
    (tmp_path / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    project = new_project(tmp_path / FOLDER)
    for path, content in SETTINGS.items():
        (tmp_path / "home" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / path).write_text(content, encoding="utf-8")
    places = {"clock": tmp_path, "home": tmp_path / "home"}
    given = {name: value.format(**places) for one in VARIABLES.values() for name, value in one.items()}
    project.succeed(*(word for command in possible for word in command), "dvc", "repro", env=given, forks=False)
    assert project.tracked_results() == finished.tracked_results()
    counts["variations identical"] += len(VARIABLES) + len(possible) + 1
    counts["variations not possible here"] += len(COMMANDS) - len(possible)


def test_the_bytes_are_the_same_for_another_user_who_has_no_rights_here(
    finished: Project, tmp_path: Path, counts: Counter[str]
) -> None:
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", ""], cwd="/", check=True, **user)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("other users may not run this Python")
    project = new_project(tmp_path / "project")
    hand_over(project.folder)
    home = {"HOME": str(project.folder / "home"), "MPLCONFIGDIR": str(project.folder / ".mpl")}
    project.succeed("dvc", "repro", env=home, forks=False, **user)
    assert project.tracked_results() == finished.tracked_results()
    counts["variations identical"] += 1


def hand_over(folder: Path) -> None:
    """Gives a project to the user nobody, and lets every user reach it through pytest's folders."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for path in folder.parents:
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
