"""What a machine can vary, after Debian's reprotest: the bytes of every tracked result stay the same."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()


#: What libraries read of the shell, and of the home.
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

VARIATIONS = {
    "variables of libraries": Variation(READ),
    "settings of libraries": Variation({"HOME": "{home}"}),
    "time": Variation({"PYTHONPATH": "{clock}"}),
    "time zone": Variation({"TZ": "Pacific/Kiritimati"}),
    "locale": Variation({"LC_ALL": "C", "LANG": "tr_TR.UTF-8", "PYTHONUTF8": "0"}),
    "umask": Variation(before=["sh", "-c", 'umask 077; exec "$@"', "sh"]),
    "processors": Variation(before=["taskset", "--cpu-list", "0"]),
    "host name": Variation(before=["unshare", "--uts", "sh", "-c", 'hostname other; exec "$@"', "sh"]),
}

#: The variation of the path: of what DVC can hold where Python reads no UTF-8.
FOLDER = "a b $c 'quoted'"


def possible(variation: Variation) -> bool:
    return subprocess.run([*variation.before, "true"], check=False, capture_output=True).returncode == 0


def test_the_bytes_are_the_same_whatever_varies_at_once(
    finished: Project, make_project: Callable[[str], Project], tmp_path: Path, counts: Counter[str]
) -> None:
    chosen = [variation for variation in VARIATIONS.values() if possible(variation)]
    (tmp_path / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    project = make_project(FOLDER)
    for path, content in SETTINGS.items():
        (tmp_path / "home" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / path).write_text(content, encoding="utf-8")
    places = {"clock": tmp_path, "home": tmp_path / "home"}
    given = {name: value.format(**places) for one in chosen for name, value in one.variables.items()}
    run_as_varied(project, [word for one in chosen for word in one.before], given, {})
    assert project.tracked_results() == finished.tracked_results()
    counts["variations identical"] += len(chosen) + 1
    counts["variations not possible here"] += len(VARIATIONS) - len(chosen)


def test_the_bytes_are_the_same_for_another_user_who_has_no_rights_here(
    finished: Project, make_project: Callable[[str], Project], counts: Counter[str]
) -> None:
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", ""], cwd="/", check=True, **user)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("other users may not run this Python")
    project = make_project("project")
    hand_over(project.folder)
    home = {"HOME": str(project.folder / "home"), "MPLCONFIGDIR": str(project.folder / ".mpl")}
    run_as_varied(project, [], home, user)
    assert project.tracked_results() == finished.tracked_results()
    counts["variations identical"] += 1


def run_as_varied(project: Project, before: Sequence[str], variables: Mapping[str, str], user: dict[str, Any]) -> None:
    done = subprocess.run(
        [*before, "dvc", "repro"],
        cwd=project.folder,
        env=project.environment(variables, forks=False),
        capture_output=True,
        text=True,
        check=False,
        **user,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def hand_over(folder: Path) -> None:
    """Gives a project to nobody, and lets everybody through pytest's folders to it."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for path in folder.parents:
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
