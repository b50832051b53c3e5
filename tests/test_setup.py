"""The set-up: `workflow/setup.sh` on machines of played programs, and once in earnest."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, write_program

LINUX = "cpython-311-x86_64-linux-gnu x86_64"
ANEW = "venv --clear build.txt runtime.txt environment"

# A Python of any kind: runs the real code of `-c`, logs what it is asked, and plays venv, pip and the project's module.
FAKE_PYTHON = """
import os, pathlib, platform, shutil, sys, sysconfig
version, abi, machine, lacks, me, *arguments = sys.argv[1:]
assert not {"PYTHONPATH", "PYTHONHOME"} & os.environ.keys()
asked, packages = " ".join(arguments), pathlib.Path(".venv/lib/python3/site-packages")
if "-c" in arguments:
    platform.python_version, sysconfig.get_config_var = lambda: version, lambda name: abi
    os.uname = lambda: (*"four", machine)
    sys.modules.update(dict.fromkeys(lacks.split()))
    sys.exit(exec(arguments[-1]))
if "config" in arguments:
    sys.exit(print("global.index-url='https://mirror'\\n" + os.environ.get("SETTINGS", "")))
print(asked, file=open(os.environ["LOG"], "a"))
if os.environ.get("FAILING", "none") in asked:
    sys.exit("played failure")
if "venv" in arguments:
    shutil.rmtree(".venv", ignore_errors=True)  # with itself, if it is of .venv
    packages.mkdir(parents=True)
    os.mkdir(".venv/bin")
    shutil.copy(me, ".venv/bin/python")
if "install" in arguments:
    set_up = [os.environ[name] for name in ("PIP_USER", "PIP_USE_PEP517", "TMPDIR")]
    assert set_up == ["0", "1", os.path.abspath(".venv/tmp")]
    (packages / (pathlib.Path(arguments[-1]).stem + "-1.dist-info")).mkdir(exist_ok=True)
if "pipeline.environment" in arguments:
    pathlib.Path("numeric.txt").write_text(version)
"""


class Machine:
    """A Debian machine with git and Python 3.11: a copy of the project's set-up, and a PATH of played programs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.project = folder, folder / "bin", folder / "a project é"
        self.shell, self.user = "/bin/sh", os.geteuid()
        (self.project / "workflow").mkdir(parents=True)
        shutil.copy(ROOT / "workflow/setup.sh", self.project / "workflow")
        shutil.copytree(ROOT / "requirements", self.project / "requirements")
        self.bin.mkdir()
        for tool in ("cat", "cksum", "cmp", "cp", "dirname", "mkdir", "rm", "sh"):  # beside what is played
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        (self.bin / "fake.py").write_text(FAKE_PYTHON)
        for name, script in {"git": "exit 0", "id": "echo 0", "apt-get": "exit 1", "apt-cache": "exit 1"}.items():
            write_program(self.bin / name, script)
        self.python("python3.11")
        self.python("other", "3.12.1")

    def python(self, name: str, version: str = "3.11.2", kind: str = LINUX, lacks: str = "") -> None:
        """Puts a Python of this ABI and machine on the PATH that lacks these modules."""
        version_asked = f'if [ "$1" = -V ]; then echo Python {version}; exit; fi'
        played = f"'{sys.executable}' -IS '{self.bin}/fake.py' '{version}' {kind} '{lacks}'"
        write_program(self.bin / name, f'{version_asked}\nexec {played} "$0" "$@"')

    def change(self, command: str) -> None:
        """Runs a command in the project, which it may rename."""
        subprocess.run(["sh", "-c", command], cwd=self.project, check=True)
        [self.project] = self.folder.glob("a*project*")

    def run(self, asked: str, **variables: str) -> tuple[int, str, str]:
        """Runs a set-up as `make` does. Returns its status, what the Pythons were asked to do, and its output."""
        log = self.folder / "log"
        log.write_text("")
        path = f"{self.project}/.venv/bin:" * 2 + str(self.bin)
        environment = {"PATH": path, "LOG": str(log), "PYTHONPATH": "/x", "PYTHONHOME": "/x", **variables}
        command = [self.shell, str(self.project / "workflow/setup.sh"), *asked.split()]
        ran = subprocess.run(command, env=environment, cwd="/", user=self.user, capture_output=True, text=True)
        done = " ".join(re.findall(r"venv --clear|\w+\.txt|environment", log.read_text()))
        return ran.returncode, done, ran.stdout + ran.stderr

    def installed(self, asked: str, **variables: str) -> str:
        """Runs a set-up, which has to succeed, and again, when it has nothing to do. Returns what the first did."""
        status, done, said = self.run(asked, **variables)
        assert status == 0, said
        assert self.run(asked, **variables) == (0, "", "")
        return done

    def refused(self, asked: str = "dev", **variables: str) -> str:
        """Runs a set-up, which has to refuse and do nothing. Returns its one line."""
        status, done, said = self.run(asked, **variables)
        assert (status, done, (self.project / ".venv").exists()) == (1, "", False), said
        assert re.fullmatch("setup: .+\n", said), said
        return said


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("shell", [path for name in ("sh", "dash", "bash") if (path := shutil.which(name))])
def test_installs_build_then_lock_then_compiles_and_checks(machine: Machine, shell: str) -> None:
    machine.shell = shell
    assert machine.run("runtime", FAILING="environment")[0] == 1
    options = "--quiet --quiet --no-deps --no-build-isolation --no-compile --require-hashes"
    assert (machine.folder / "log").read_text().splitlines() == [
        "-m venv --clear .venv",
        *(f"-m pip install {options} -r requirements/{name}.txt" for name in ("build", "runtime")),
        f"-m compileall -qq -j 0 {machine.project}/.venv/lib",
        "-m pip check",
        "-m pipeline.environment",
    ]
    assert {path.name for path in (machine.project / ".venv").iterdir()} == {"bin", "lib", "setup.stamp"}
    assert machine.installed("runtime") == "environment"


@pytest.mark.parametrize(
    ("held", "change", "asked", "variables", "failure", "done"),
    [
        ("dev", "", "scale", {}, "", ""),
        ("dev", "", "runtime", {}, "", ""),
        ("scale", "", "runtime", {}, "", ""),
        ("scale", "", "review", {}, "", ""),
        ("review", "", "scale", {}, "", "scale.txt"),
        ("runtime", "", "scale", {}, "", "scale.txt"),
        ("scale", "", "dev", {}, "", "dev.txt"),
        ("runtime", "echo >>requirements/dev.txt", "runtime", {}, "", ""),
        ("runtime", "echo >>requirements/runtime.txt", "runtime", {}, "", ANEW),
        ("runtime", "echo >>requirements/build.txt", "runtime", {}, "", ANEW),
        ("runtime", "mv .venv/lib/*/*/runtime-1.dist-info .venv/lib/python3/x", "runtime", {}, "", "runtime.txt"),
        ("dev", "mv .venv/lib/*/*/dev-1.dist-info .venv/lib/python3/x", "runtime", {}, "", "dev.txt"),
        ("runtime", "echo 3.11 >numeric.txt", "runtime", {}, "", "environment"),
        ("runtime", "head -n 1 .venv/setup.stamp >x; mv x .venv/setup.stamp", "runtime", {}, "", ANEW),
        ("runtime", "cp .venv/bin/python .venv/bin/python3.11; rm .venv/setup.stamp", "runtime", {}, "", ANEW),
        ("runtime", "rm .venv/bin/python", "runtime", {}, "", ANEW),
        ("runtime", "cp ../bin/other .venv/bin/python", "runtime", {}, "", ANEW),
        ("runtime", "mv '../a project é' '../another project'", "runtime", {}, "", ANEW),
        ("runtime", "", "runtime", {"PYTHON": "python3.11"}, "", ""),
        ("runtime", "mv ../bin/other '../bin/my own'", "runtime", {"PYTHON": "my own"}, "", ANEW),
        ("", "", "runtime", {"FAILING": "runtime.txt"}, "played failure", ANEW),
        ("", "", "runtime", {"FAILING": "pip check"}, "played failure", ANEW),
        ("", "", "runtime", {"SETTINGS": "install.target='/x'"}, "take target, prefix and root out", ANEW),
        ("", "", "runtime", {"SETTINGS": "global.prefix='/x'"}, "take target, prefix and root out", ANEW),
        ("", "", "runtime", {"SETTINGS": ":env:.root='/x'"}, "take target, prefix and root out", ANEW),
        ("runtime", "", "dev", {"FAILING": "dev.txt"}, "played failure", ""),  # what was held is still of use
        ("runtime", "rm -r .venv/lib/*/*/*", "runtime", {"FAILING": "runtime.txt"}, "played failure", ANEW),
        ("runtime", "", "runtime", {"PYTHON": "other", "FAILING": "-m venv"}, "played failure", ANEW),
        ("runtime", "", "runtime", {"PYTHON": "/no/such"}, "found no /no/such, expected a CPython", ""),
    ],
)
def test_venv_is_left_or_mended_or_made_anew(
    machine: Machine, held: str, change: str, asked: str, variables: dict[str, str], failure: str, done: str
) -> None:
    machine.run(held)
    machine.change(change)
    if failure:
        status, _, said = machine.run(asked, **variables)
        assert (status, failure in said) == (1, True), said
        asked, variables = "runtime", {}
    assert machine.installed(asked, **variables) == done


def test_two_setups_at_a_time_leave_each_other_alone(machine: Machine) -> None:
    with (machine.project / "workflow/setup.sh").open("a") as script:
        fcntl.flock(script, fcntl.LOCK_EX)
        assert "another set-up works in this folder" in machine.refused()
    write_program(machine.bin / "git", f'[ "${{IN-}}" ] || IN=1 sh "{machine.project}/workflow/setup.sh" dev')
    assert machine.installed("runtime") == ANEW.replace("runtime", "dev")  # git runs before the lock, after a look


@pytest.mark.parametrize(
    ("change", "asked", "words"),
    [
        *(
            ("", asked, f"sh workflow/setup.sh runtime|review|scale|dev, received: {asked}\n")
            for asked in ("", "x", "dev x")
        ),
        ("rm ../bin/git", "dev", "no git that runs, expected any version: apt-get update && apt-get install git\n"),
        ("echo exit 1 >../bin/git; echo echo 7 >../bin/id", "dev", ": sudo apt-get update && sudo apt-get install git"),
        ("rm ../bin/git ../bin/apt-get", "dev", ": install git with the package manager of this system\n"),
        ("rm ../bin/python3.11", "dev", "apt-get install python3-venv, or name another one: make PYTHON=/path/to/pyt"),
        ("rm ../bin/python3.11; echo '[ $2 = python3.13-venv ]' >../bin/apt-cache", "dev", "install python3.13-venv,"),
        ("echo exit 1 >../bin/python3.11", "dev", "found python3.11 (not running), expected a CPython from 3.11 to"),
        *((f"mv '../a project é' '../a project{x}'", "dev", "in its name, expected none") for x in (":", "%(", *"{}")),
    ],
)
def test_what_is_in_the_way_is_said_with_its_mend(machine: Machine, change: str, asked: str, words: str) -> None:
    machine.change(change)
    assert words in machine.refused(asked)


def test_unwritable_folder_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # which other users may read, as pytest's own may not be
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder))
        machine.project.chmod(0o555)
        machine.user = os.geteuid() or 65534  # root may write anywhere
        assert f"{machine.project} is not writable, expected it to be; give it to this user: sudo" in machine.refused()


@pytest.mark.parametrize(
    ("kind", "lacks", "serves"),
    [
        *((LINUX.replace("311", f"3{n}"), "", n in (11, 12, 13)) for n in range(9, 16)),
        ("cpython-311-aarch64-linux-gnu aarch64", "", True),
        ("cpython-311-darwin arm64", "", True),
        *((f"cpython-311-{abi} x86_64", "", False) for abi in ("darwin", "i386-linux-gnu", "x86_64-linux-musl")),
        *((LINUX.replace("cpython-311", name), "", False) for name in ("cpython-313t", "pypy311-pp73")),
        *((LINUX, module, False) for module in ("bz2", "ctypes", "ensurepip", "sqlite3", "ssl", "venv")),
    ],
)
def test_python_that_does_not_serve_yields_to_another(machine: Machine, kind: str, lacks: str, serves: bool) -> None:
    machine.python("python3.11", "3.11.2", kind, lacks)
    if not serves:
        assert f"found python3.11 (3.11.2 {kind}{': import of ' * bool(lacks)}{lacks}" in machine.refused()
        machine.python("python", "3.13.5")
    assert f"making .venv with Python 3.1{1 if serves else 3}." in machine.run("runtime")[2]


def wheel(folder: Path, name: str) -> str:
    """Line of a lock for a wheel of one module, which it puts into the folder."""
    path, about = folder / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_real_venv_takes_what_has_the_hash_and_nothing_else(machine: Machine) -> None:
    altered = re.sub("sha256:.*", f"sha256:{'0' * 64}", wheel(machine.folder, "altered"))
    locks = {"build": wheel(machine.folder, "tool"), "runtime": wheel(machine.folder, "tiny"), "dev": altered}
    for lock, text in locks.items():
        (machine.project / f"requirements/{lock}.txt").write_text(text)
    machine.change("mkdir pipeline; touch pipeline/environment.py numeric.txt")
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(machine.folder), "PYTHON": sys.executable}
    machine.installed("runtime", **variables)
    machine.change(".venv/bin/python -c 'import tool, tiny' && ls .venv/lib/*/*/__pycache__/tiny.*.pyc")
    assert "DO NOT MATCH THE HASHES" in machine.run("dev", **variables)[2]
    assert machine.installed("runtime", **variables) == ""
