"""The set-up: `workflow/setup.sh` on machines made of stub programs, the Makefile, and the lock files."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("build", "runtime", "scale", "dev")
SHELLS = [path for name in ("sh", "dash", "bash") if (path := shutil.which(name))]
#: Everything that setup.sh may call beside what the stubs play; all of it is on any Debian and macOS.
TOOLS = ("awk", "cat", "cksum", "dirname", "du", "grep", "mkdir", "mv", "rm", "sh", "tr")

# A Python of any version: runs the real code of `-c` with that version, plays venv, pip and the project's modules.
FAKE_PYTHON = """\
import os, sys

version, bits, machine, absent, log, *arguments = sys.argv[1:]
while arguments and arguments[0] in ("-E", "-S", "-I"):
    del arguments[0]
sys.version_info = tuple(int(part) for part in version.split("."))
sys.maxsize = 2 ** (int(bits) - 1) - 1
uname = list(os.uname())
os.uname = lambda: uname[:4] + [machine]
sys.abiflags = ""
sys._base_executable = os.environ["STUB"]
for name in ("venv", "ensurepip", "bz2", "ctypes", "sqlite3", "ssl"):
    sys.modules[name] = None if name in absent.split() else sys  # there at once: the real ones cost 0.1 s
if arguments[0] == "-c":
    exec(arguments[1])
    sys.exit()

if arguments[:3] == ["-m", "pip", "config"]:
    print(os.environ.get("PLAYED_SETTINGS", ""))
    sys.exit()
with open(log, "a") as handle:
    handle.write(" ".join(arguments) + "\\n")
failing = os.environ.get("FAILING")
if failing and failing in " ".join(arguments):
    sys.exit(f"played failure of {failing}")
if arguments[:2] == ["-m", "venv"]:
    os.makedirs(arguments[2] + "/bin")
    with open(os.environ["STUB"]) as stub, open(arguments[2] + "/bin/python", "w") as copy:
        copy.write(stub.read())
    os.chmod(arguments[2] + "/bin/python", 0o755)
if arguments[:2] == ["-m", "pip"]:
    assert os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] == "1"
    assert arguments[2] == "check" or os.path.samefile(os.environ["TMPDIR"], ".venv/tmp")
if arguments == ["-m", "pipeline.environment"]:
    with open("numeric.txt", "w") as handle:
        handle.write(f"python {version}\\n")
"""


@dataclass
class Machine:
    """A copy of the project's set-up, and a PATH of stub programs that play one machine."""

    project: Path
    bin: Path
    shell: str = "/bin/sh"
    user: int | None = None

    @property
    def stamp(self) -> Path:
        return self.project / ".venv/setup.stamp"

    @property
    def log(self) -> Path:
        return self.bin / "log"

    def program(self, name: str, script: str) -> None:
        """Puts a program of this shell script on the PATH, in place of one of the same name."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def python(self, name: str, version: str, *, bits: int = 64, machine: str = "x86_64", absent: str = "") -> None:
        """Puts a Python on the PATH that lacks the modules `absent`."""
        real = f"'{sys.executable}' -I -S '{self.bin}/fake_python.py'"
        settings = f"'{version}' '{bits}' '{machine}' '{absent}' '{self.log}'"
        self.program(name, f"STUB='{self.bin}/{name}' exec {real} {settings} \"$@\"")

    def remove(self, *names: str) -> None:
        for name in names:
            (self.bin / name).unlink()

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.shell, str(self.project / "workflow/setup.sh"), *arguments],
            env={"PATH": str(self.bin), "HOME": str(self.bin), "PIP_NO_INDEX": "1", **environment},
            cwd="/",
            user=self.user,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self, *arguments: str, **environment: str) -> str:
        """Standard output of a set-up that must work."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        """What a set-up says that must refuse and leave no .venv behind."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        assert not self.stamp.exists()
        assert not (self.project / ".venv").exists()
        assert done.stdout == ""
        assert all(line.startswith("setup: ") for line in done.stderr.splitlines()), done.stderr
        return done.stderr

    def calls(self) -> list[str]:
        """What the Pythons were asked to do since the last look, probes apart."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


def build_machine(folder: Path) -> Machine:
    """A Debian x86_64 machine with git, enough disk, and Python 3.11."""
    project = folder / "a project é"
    (project / "workflow").mkdir(parents=True)
    shutil.copy(ROOT / "workflow/setup.sh", project / "workflow")
    shutil.copytree(ROOT / "requirements", project / "requirements")
    (project / "numeric.txt").write_text("python 3.11\n")
    machine = Machine(project, folder / "bin")
    machine.bin.mkdir()
    for tool in TOOLS:
        path = shutil.which(tool)
        assert path, tool
        (machine.bin / tool).symlink_to(path)
    (machine.bin / "fake_python.py").write_text(FAKE_PYTHON)
    machine.program("uname", "echo Linux x86_64")
    machine.program("ldd", "echo 'ldd (Debian GLIBC 2.36-9) 2.36'")
    machine.program("git", "echo git version 2.39")
    machine.program("id", "echo 0")
    machine.program("apt-get", "exit 0")
    machine.program("apt-cache", 'case "$2" in git|python3.11-venv|python3-venv) ;; *) exit 100 ;; esac')
    disk(machine, 50_000_000)
    machine.python("python3.11", "3.11.2")
    return machine


def disk(machine: Machine, free_kb: int) -> None:
    """Gives the machine a file system with a blank in its name and this much free."""
    machine.program("df", f"echo Filesystem; echo 'map auto_home 264212084 25499884 {free_kb} 24% /a b'")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return build_machine(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# --- installing


@pytest.mark.parametrize("shell", SHELLS)
def test_installs_build_then_lock_then_checks_then_stamps(machine: Machine, shell: str) -> None:
    machine.shell = shell
    said = machine.installed("runtime")
    options = "--quiet --quiet --no-deps --no-build-isolation --no-compile --require-hashes"
    build, lock = (f"-m pip install {options} -r requirements/{name}.txt" for name in ("build", "runtime"))
    compiled = f"-m compileall -qq -j 0 {machine.project}/.venv/lib"
    assert machine.calls() == [
        "-m venv .venv", build, compiled, lock, compiled, "-m pip check", "-m pipeline.environment",
    ]  # fmt: skip
    assert "making .venv with Python 3.11" in said
    assert re.search(r"installing about \d+ packages, up to 3 GB: 2 minutes", said)
    assert sorted(path.name for path in (machine.project / ".venv").iterdir()) == ["bin", "setup.stamp"]


def test_a_package_that_was_replaced_by_hand_is_brought_back(machine: Machine) -> None:
    packages = machine.project / ".venv/lib/python3.11/site-packages"
    machine.installed("runtime")
    packages.mkdir(parents=True)
    for name in ("numpy-2.4.4.dist-info", "tensorflow-2.21.0.dist-info"):
        (packages / name).mkdir()
    machine.installed("runtime")
    machine.calls()
    assert machine.installed("runtime") == ""
    assert machine.calls() == []

    (packages / "numpy-2.4.4.dist-info").rename(packages / "numpy-2.4.5.dist-info")
    assert "setup: bringing back packages of .venv that were changed: half a minute" in machine.installed("runtime")
    calls = machine.calls()
    assert [call for call in calls if call.endswith("-r requirements/runtime.txt")]
    assert "-m venv .venv" not in calls
    assert machine.installed("runtime") == ""


def test_second_run_is_silent_and_does_nothing(machine: Machine) -> None:
    machine.installed("runtime")
    machine.calls()
    before = machine.stamp.stat().st_mtime_ns
    machine.remove("uname", "git", "df", "id")  # it does not even look at the machine
    assert machine.installed("runtime") == ""
    assert machine.calls() == []
    assert machine.stamp.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("held", "asked", "added"),
    [
        ("runtime", "scale", "Ray and Optuna"),
        ("runtime", "dev", "the tools of make test"),
        ("scale", "dev", "the tools of make test"),
    ],
)
def test_a_lock_adds_to_those_before_it_and_satisfies_them(machine: Machine, held: str, asked: str, added: str) -> None:
    machine.installed(held)
    machine.calls()
    assert f"adding {added} to .venv" in machine.installed(asked)
    calls = machine.calls()
    assert "-m venv .venv" not in calls
    assert [call.split()[-1] for call in calls if "pip install" in call] == [f"requirements/{asked}.txt"]
    assert machine.installed(held) == machine.installed(asked) == ""
    assert machine.calls() == []


@pytest.mark.parametrize("lock", ["build", "runtime"])
def test_changed_lock_rebuilds(machine: Machine, lock: str) -> None:
    machine.installed("runtime")
    machine.calls()
    leftover = machine.project / ".venv/bin/package-that-the-lock-dropped"
    leftover.touch()
    with (machine.project / f"requirements/{lock}.txt").open("a") as handle:
        handle.write("# changed\n")
    machine.installed("runtime")
    assert "-m venv .venv" in machine.calls()
    assert not leftover.exists()
    assert machine.installed("runtime") == ""


def test_changed_dev_lock_leaves_runtime_alone(machine: Machine) -> None:
    machine.installed("runtime")
    with (machine.project / "requirements/dev.txt").open("a") as handle:
        handle.write("# changed\n")
    assert machine.installed("runtime") == ""


def test_moved_project_rebuilds(machine: Machine) -> None:
    machine.installed("runtime")
    machine.project = machine.project.rename(machine.project.parent / "elsewhere")
    machine.calls()
    machine.installed("runtime")
    assert "-m venv .venv" in machine.calls()


@pytest.mark.parametrize("python", ["gone", "of another version"])
def test_venv_whose_python_is_not_what_it_was_rebuilds(machine: Machine, python: str) -> None:
    machine.installed("runtime")
    if python == "gone":
        (machine.project / ".venv/bin/python").unlink()
    else:
        machine.python("python3.12", "3.12.1")
        shutil.copy(machine.bin / "python3.12", machine.project / ".venv/bin/python")
    machine.calls()
    machine.installed("runtime")
    assert "-m venv .venv" in machine.calls()


@pytest.mark.parametrize("failing", ["-m venv", "build.txt", "runtime.txt", "pip check"])
def test_failure_leaves_no_stamp_and_next_run_rebuilds(machine: Machine, failing: str) -> None:
    done = machine.run("runtime", FAILING=failing)
    assert done.returncode == 1
    assert f"played failure of {failing}" in done.stderr
    assert "setup: " in done.stderr
    assert not machine.stamp.exists()
    assert not (machine.project / ".venv/setup.pid").exists()
    machine.calls()
    machine.installed("runtime")
    assert machine.calls()[0] == "-m venv .venv"


def test_a_pip_that_installs_elsewhere_is_refused(machine: Machine) -> None:
    done = machine.run("runtime", PLAYED_SETTINGS="global.index-url='https://x'\ninstall.target='/elsewhere'")
    assert done.returncode == 1
    assert "pip is set to install into another folder than .venv" in done.stderr
    assert machine.calls() == ["-m venv .venv"]
    assert not machine.stamp.exists()


def test_failing_rebuild_loses_the_stamp(machine: Machine) -> None:
    machine.installed("runtime")
    machine.python("python3.12", "3.12.1")
    assert machine.run("runtime", PYTHON="python3.12", FAILING="-m venv").returncode == 1
    assert not machine.stamp.exists()


def test_failing_dev_tools_leave_runtime_usable(machine: Machine) -> None:
    machine.installed("runtime")
    assert machine.run("dev", FAILING="dev.txt").returncode == 1
    assert machine.installed("runtime") == ""
    machine.calls()
    machine.installed("dev")
    assert "-m venv .venv" not in machine.calls()


def test_venv_of_a_killed_run_is_rebuilt(machine: Machine) -> None:
    ended = subprocess.Popen(["/bin/sh", "-c", "exit"])
    ended.wait()
    (machine.project / ".venv/bin").mkdir(parents=True)
    (machine.project / ".venv/half").touch()
    (machine.project / ".venv/setup.pid").write_text(f"{ended.pid}\n")
    machine.installed("runtime")
    assert not (machine.project / ".venv/half").exists()
    assert machine.installed("runtime") == ""


def test_second_setup_at_the_same_time_is_refused_by_pid(machine: Machine) -> None:
    (machine.project / ".venv").mkdir()
    (machine.project / ".venv/setup.pid").write_text(f"{os.getpid()}\n")
    done = machine.run("runtime")
    assert done.returncode == 1
    assert f"process {os.getpid()} is already installing into .venv; wait for it" in done.stderr
    assert (machine.project / ".venv/setup.pid").exists()
    assert machine.calls() == []


def test_numeric_file_follows_the_venv_without_reinstalling(machine: Machine) -> None:
    machine.remove("python3.11")
    machine.python("python3.13", "3.13.0")
    machine.installed("runtime")
    numeric = machine.project / "numeric.txt"
    assert numeric.read_text() == "python 3.13.0\n"
    machine.calls()
    numeric.write_text("python 3.11\n")  # as `git checkout numeric.txt` does
    machine.installed("runtime")
    assert machine.calls() == ["-m pipeline.environment"]
    assert numeric.read_text() == "python 3.13.0\n"
    assert machine.installed("runtime") == ""


def test_failing_numeric_file_is_said_and_tried_again(machine: Machine) -> None:
    done = machine.run("runtime", FAILING="pipeline.environment")
    assert done.returncode == 1
    assert "numeric.txt could not be brought in line" in done.stderr
    machine.calls()
    machine.installed("runtime")
    assert machine.calls() == ["-m pipeline.environment"]


@pytest.mark.parametrize("arguments", [(), ("prod",), ("runtime", "dev")])
def test_unknown_argument_is_refused(machine: Machine, arguments: tuple[str, ...]) -> None:
    assert f"runtime|scale|dev, received: {' '.join(arguments)}" in machine.refused(*arguments)


# --- which Python


def test_pythons_are_tried_in_order(machine: Machine) -> None:
    machine.python("python3.13", "3.13.1")
    machine.python("python3.12", "3.12.1")
    machine.python("python3", "3.11.9")
    machine.program("python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    assert "Python 3.12" in machine.installed("runtime")


def test_incomplete_python_yields_to_a_complete_one(machine: Machine) -> None:
    machine.python("python3.11", "3.11.2", absent="ensurepip")
    machine.python("python", "3.13.1")
    assert "Python 3.13" in machine.installed("runtime")


def test_own_venv_is_no_candidate(machine: Machine) -> None:
    machine.installed("runtime")
    venv_bin = machine.project / ".venv/bin"
    shutil.copy(venv_bin / "python", venv_bin / "python3.11")
    stub = (venv_bin / "python3.11").read_text()  # it takes itself for a Python of its own, as without pyvenv.cfg
    (venv_bin / "python3.11").write_text(stub.replace(f"STUB='{machine.bin}", f"STUB='{venv_bin}"))
    machine.stamp.unlink()
    twice = f"{venv_bin}:{venv_bin}:{machine.bin}"
    assert f"({machine.bin}/python3.11)" in machine.installed("runtime", PATH=twice)


def test_given_python_is_taken(machine: Machine) -> None:
    machine.python("mine", "3.12.4")
    assert "Python 3.12" in machine.installed("runtime", PYTHON=str(machine.bin / "mine"))
    assert machine.installed("runtime", PYTHON="mine") == machine.installed("runtime") == ""
    assert "Python 3.11" in machine.installed("runtime", PYTHON="python3.11")


@pytest.mark.parametrize("minor", range(9, 16))
def test_range_of_pythons_is_that_of_pyproject(machine: Machine, minor: int) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    machine.python("mine", f"3.{minor}.0")
    if f"3.{minor}.0" in SpecifierSet(project["requires-python"]):
        machine.installed("runtime", PYTHON="mine")
    else:
        refusal = machine.refused("runtime", PYTHON="mine")
        assert f"PYTHON=mine is Python 3.{minor}; expected a Python from 3.11 to 3.13: make PYTHON=/path/to" in refusal


def test_given_python_that_does_not_run_is_refused(machine: Machine) -> None:
    refusal = machine.refused("runtime", PYTHON="/no/such/python")
    assert "PYTHON=/no/such/python does not run; expected the path or name of a Python from 3.11 to 3.13" in refusal


def test_refused_python_leaves_the_venv_alone(machine: Machine) -> None:
    machine.installed("runtime")
    assert machine.run("runtime", PYTHON="/no/such/python").returncode == 1
    assert machine.installed("runtime") == ""


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ({"bits": 32}, "is a 32-bit Python, not a 64-bit one"),
        ({"machine": "aarch64"}, "is built for aarch64, not for x86_64"),
    ],
)
def test_python_for_another_machine_is_refused(machine: Machine, python: dict[str, object], sentence: str) -> None:
    machine.python("python3.11", "3.11.2", **python)  # type: ignore[arg-type]
    assert f"no Python from 3.11 to 3.13 here (found: python3.11 {sentence})" in machine.refused("runtime")
    assert f"PYTHON=python3.11 {sentence}; expected" in machine.refused("runtime", PYTHON="python3.11")


# --- what is missing


@pytest.mark.parametrize(
    ("packages", "command"),
    [
        ("python3.11-venv|python3-venv", "apt-get install python3.11-venv"),  # Debian 12
        ("python3.13-venv|python3-venv", "apt-get install python3.13-venv"),  # Debian 13
        ("python3-venv", "install one, for example with pyenv or uv, and say where: make PYTHON=/path/to/python3.11"),
        ("none", "apt-get update && apt-get install python3-venv"),  # a container whose package lists are empty
    ],
)
def test_no_python_on_debian(machine: Machine, packages: str, command: str) -> None:
    machine.remove("python3.11")
    machine.program("apt-cache", f'case "$2" in {packages}) ;; *) exit 100 ;; esac')
    assert f"(found: none); mend it with: {command}\n" in machine.refused("runtime")


def test_no_python_in_range_names_what_was_found(machine: Machine) -> None:
    machine.remove("python3.11")
    machine.program("python3.12", "exit 127")
    machine.python("python3", "3.9.2")
    machine.python("python", "2.7.18")
    found = "found: python3.12 does not run, python3 is Python 3.9, python is Python 2.7"
    assert f"no Python from 3.11 to 3.13 here ({found})" in machine.refused("runtime")


def test_no_python_on_macos_and_on_other_linux(machine: Machine) -> None:
    machine.remove("python3.11", "apt-get", "apt-cache")
    assert "install Python 3.11 with the package manager of this system, or install one" in machine.refused("runtime")
    machine.program("uname", "echo Darwin arm64")
    assert "mend it with: brew install python@3.11, or install one" in machine.refused("runtime")


@pytest.mark.parametrize("given", [{}, {"PYTHON": "python3.11"}])
def test_debian_python_without_venv_names_its_package(machine: Machine, given: dict[str, str]) -> None:
    machine.python("python3.11", "3.11.2", absent="ensurepip")
    machine.program("id", "echo 1000")
    script = machine.project / "workflow/setup.sh"  # with the stubs' folder in the place of Debian's
    text = script.read_text()
    assert text.count("/usr/bin/") == 1
    script.write_text(text.replace("/usr/bin/", f"{machine.bin}/"))
    refusal = machine.refused("runtime", **given)
    assert "(Python 3.11) has no module ensurepip, expected a complete Python; " in refusal
    assert "mend it with: sudo apt-get install python3.11-venv\n" in refusal


def test_incomplete_python_of_the_user_is_named_with_its_modules(machine: Machine) -> None:
    machine.python("python3.11", "3.11.2", absent="sqlite3 ssl")
    refusal = machine.refused("runtime")
    assert "python3.11 (Python 3.11) has no module sqlite3 ssl, expected a complete Python" in refusal
    assert "make PYTHON=/path/to/python3.11" in refusal


@pytest.mark.parametrize(("user", "sudo"), [("0", ""), ("1000", "sudo ")])
@pytest.mark.parametrize("broken", ["absent", "a stub that fails"])
def test_no_git(machine: Machine, broken: str, user: str, sudo: str) -> None:
    machine.program("id", f"echo {user}")
    machine.program("git", "exit 1")
    if broken == "absent":
        machine.remove("git")
    refusal = machine.refused("runtime")
    assert (
        f"git was not found or does not run, expected any version; mend it with: {sudo}apt-get install git\n" in refusal
    )


def test_no_git_on_macos(machine: Machine) -> None:
    machine.remove("git", "apt-get")
    machine.python("python3.11", "3.11.9", machine="arm64")
    machine.program("uname", "echo Darwin arm64")
    assert "mend it with: xcode-select --install\n" in machine.refused("runtime")


def test_too_little_disk_says_how_much_there_is(machine: Machine) -> None:
    disk(machine, 1_234_567)
    refusal = machine.refused("runtime")
    assert f"the disk of {machine.project} has 1.2 GB free, expected about 6 GB (.venv 4, data and cache 2)" in refusal
    assert "make clean" in refusal


def test_disk_that_a_rebuild_frees_counts(machine: Machine) -> None:
    disk(machine, 3_500_000)
    machine.refused("runtime")
    (machine.project / ".venv").mkdir()
    machine.program("du", "echo '2700000 .venv'")
    machine.installed("runtime")


def test_dev_tools_need_less_disk(machine: Machine) -> None:
    machine.installed("runtime")
    disk(machine, 1_500_000)
    machine.installed("dev")


def test_unwritable_folder(open_folder: Path) -> None:
    machine = build_machine(open_folder)
    machine.project.chmod(0o555)
    machine.program("id", 'if [ "$1" = -u ]; then echo 1000; else echo ada; fi')
    if os.geteuid() == 0:
        machine.user = 65534  # root may write anywhere
    refusal = machine.refused("runtime")
    assert f"the folder {machine.project} is not writable for ada, expected it to be; " in refusal
    assert f"mend it with: sudo chown -R ada '{machine.project}'\n" in refusal


def test_all_that_is_missing_is_said_at_once(machine: Machine) -> None:
    machine.remove("git", "python3.11")
    disk(machine, 1000)
    lines = machine.refused("runtime").splitlines()
    assert [re.search(r"no Python|git|GB free", line)[0] for line in lines] == ["no Python", "GB free", "git"]  # type: ignore[index]


@pytest.mark.parametrize(
    "platform", ["Linux armv7l", "Linux i686", "Darwin x86_64", "MINGW64_NT-10.0 x86_64", "FreeBSD amd64"]
)
def test_unsupported_platform(machine: Machine, platform: str) -> None:
    machine.program("uname", f"echo {platform}")
    refusal = machine.refused("runtime")
    assert f"{platform.replace('Darwin', 'macOS on')} is not supported" in refusal
    assert "expected Linux x86_64, Linux aarch64 or macOS" in refusal


@pytest.mark.parametrize("platform", ["Linux x86_64", "Linux aarch64", "Darwin arm64"])
def test_supported_platform(machine: Machine, platform: str) -> None:
    machine.program("uname", f"echo {platform}")
    machine.python("python3.11", "3.11.2", machine=platform.split()[1])
    machine.installed("runtime")


def test_musl_is_unsupported(machine: Machine) -> None:
    machine.program("ldd", "echo 'musl libc (x86_64)' >&2; exit 1")
    assert "musl (as Alpine) is not supported, TensorFlow has no package for it; expected" in machine.refused("runtime")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a:b", "a:b has a colon in its name, which no PATH can hold; rename it"),
        ("%(x)s", "%(x)s has %( in its name, which DVC reads as a name to look up; rename it"),
        ("{x}", "{x} has a brace in its name, which DVC reads as a field to fill in; rename it"),
    ],
)
def test_a_folder_name_that_cannot_work_is_refused(machine: Machine, name: str, words: str) -> None:
    machine.project = machine.project.rename(machine.project.parent / name)
    assert words in machine.refused("runtime")


# --- the Makefile


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make` in the folder, as if no other make were around it."""
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def makefile(tmp_path: Path) -> Path:
    """A project of nothing but a Makefile, a set-up that works, and programs that say their name."""
    folder = tmp_path / "a project é"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / "workflow").mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "workflow/setup.sh").write_text('echo "setup $1 ${PYTHON-}"; exit ${SETUP_FAILS-0}')
    for name in ("dvc", "python", "ruff", "mypy", "actionlint", "zizmor"):
        program = folder / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*, ${{PATH%%:*}}"\n')
        program.chmod(0o755)
    return folder


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """First words of what the programs said."""
    assert done.returncode == 0, done.stderr
    return [line.split(",")[0] for line in done.stdout.splitlines() if not line.startswith(".venv/")]


def test_make_sets_up_then_runs_then_sums_up(makefile: Path) -> None:
    done = make(makefile, "-j4", "PYTHON=/a/python")
    assert said(done) == ["setup runtime /a/python", "dvc repro", "python -m workflow.summary"]
    assert done.stdout.endswith(f"python -m workflow.summary, {makefile}/.venv/bin\n")


def test_make_stops_where_dvc_fails(makefile: Path) -> None:
    (makefile / ".venv/bin/dvc").write_text("#!/bin/sh\nexit 7\n")
    done = make(makefile)
    assert done.returncode != 0
    assert "summary" not in done.stdout


def test_make_stops_where_the_setup_fails(makefile: Path) -> None:
    done = make(makefile, "SETUP_FAILS=1")
    assert done.returncode != 0
    assert "dvc" not in done.stdout


def test_make_test_passes_arguments(makefile: Path) -> None:
    assert said(make(makefile, "test", "ARGS=-k setup")) == ["setup dev ", "python -m bench.tests test -k setup"]


def test_make_takes_up_nothing_that_other_programs_left_in_the_environment(makefile: Path) -> None:
    names = ("PYTHONSAFEPATH", "PYTHONPATH", "GIT_DIR", "SHELL")
    shown = " ".join(f"${{{name}-none}}" for name in names)
    (makefile / ".venv/bin/python").write_text(f'#!/bin/sh\necho "$* {shown}"\n')
    left = dict.fromkeys(names, "/left") | {"SEED": "42", "REV": "x", "ARGS": "--strict", "PYTHON": "/a/python"}
    assert said(make(makefile, "audit", "PRESET=textbook", **left)) == [
        "setup runtime /a/python",
        "-m workflow.audit HEAD --preset textbook none none none /bin/sh",
    ]


def test_make_all_and_lint_in_parallel_keep_their_order(makefile: Path) -> None:
    assert said(make(makefile, "-j4", "all", "lint")) == [
        *("setup runtime ", "dvc repro", "python -m workflow.summary"),
        *("setup dev ", "ruff check .", "ruff format --check .", "mypy ", "actionlint .github/workflows/*.yml"),
        "zizmor --offline --no-progress --quiet .github/workflows",
    ]


def test_make_help_lists_every_target(makefile: Path) -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    targets = [target for line in phony for target in line.split()]
    lines = make(makefile, "help").stdout.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(targets)
    assert all(re.fullmatch(r"make [a-z-]+ +\S.{10,}", line) for line in lines)


@pytest.fixture
def used(makefile: Path) -> Path:
    """The project after use: results, caches, an environment, and a file in data/ that git tracks."""
    kept = (".dvc/cache/aa", ".dvc/__pycache__/x", ".git/__pycache__/x", "metrics/a.json", "data/tracked")
    for name in ("data/raw/x.npz", "runs/x", "state/train.lock", "pipeline/__pycache__/x", ".mypy_cache/x", *kept):
        (makefile / name).parent.mkdir(parents=True, exist_ok=True)
        (makefile / name).touch()
    (makefile / ".gitignore").write_text("/.venv/\n/data/\n/runs/\n/state/\n/.dvc/cache/\n__pycache__/\n")
    for command in (["init", "-q"], ["add", "-f", "data/tracked"]):
        subprocess.run(["git", *command], cwd=makefile, check=True)
    return makefile


def test_clean_says_what_takes_the_disk_and_removes_what_is_no_loss(used: Path) -> None:
    done = make(used, "clean")
    assert done.returncode == 0, done.stderr
    sizes = [line.split()[1] for line in done.stdout.splitlines() if re.match(r"\S+\t", line)]
    assert sizes == [".venv", ".dvc/cache", "data", "runs", "state"]
    assert "dvc gc --workspace --all-commits --all-experiments" in done.stdout
    assert "make distclean" in done.stdout
    for name in ("runs", "state", "pipeline/__pycache__", ".mypy_cache"):
        assert not (used / name).exists(), name
    for name in (".venv/bin", ".dvc/cache/aa", ".dvc/__pycache__/x", ".git/__pycache__/x", "data/raw/x.npz"):
        assert (used / name).exists(), name


def test_clean_refuses_while_a_stage_works(used: Path) -> None:
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m", "stages", "train"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as stage:
        (used / "state/train.lock").write_text(str(stage.pid))
        done = make(used, "distclean")
        assert stage.stdin is not None
        stage.stdin.close()
    assert done.returncode != 0
    assert f"process {stage.pid} holds state/train.lock" in done.stderr
    assert (used / "state").exists()
    assert (used / ".venv").exists()


def test_clean_heeds_no_process_that_is_not_a_stage(used: Path) -> None:
    (used / "state/train.lock").write_text(str(os.getpid()))
    assert make(used, "clean").returncode == 0


def test_distclean_keeps_the_cache_and_what_git_tracks(used: Path) -> None:
    done = make(used, "distclean")
    assert done.returncode == 0, done.stderr
    assert not (used / ".venv").exists()
    assert not (used / "data/raw").exists()
    for name in (".dvc/cache/aa", "data/tracked", "metrics/a.json", "Makefile"):
        assert (used / name).exists(), name


def test_distclean_cleans_no_repository_that_a_hook_names(used: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    (other / "data/precious").touch()
    (other / ".gitignore").write_text("/data/\n")
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    done = make(used, "distclean", GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other))
    assert done.returncode == 0, done.stderr
    assert (other / "data/precious").exists()
    assert not (used / "data/raw").exists()


# --- the lock files


def pins(lock: str) -> dict[str, set[str]]:
    """Exact versions by package, after proving that each line of the lock is a pin with hashes, or nothing."""
    found: dict[str, set[str]] = {}
    text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        requirement, *hashes = re.split(r"\s--hash=", line)
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()) for value in hashes), line
        parsed = Requirement(requirement)
        assert re.fullmatch(r"==[^*]+", str(parsed.specifier)), line
        assert not parsed.url, line
        assert not parsed.extras, line
        found.setdefault(canonicalize_name(parsed.name), set()).add(str(parsed.specifier))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_hashed_pins_and_names_no_host(lock: str) -> None:
    assert pins(lock)
    text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|index|find-links|trusted|\w@\w|\.(org|com|io|net)\b", text)


def test_locks_agree() -> None:
    runtime = pins("runtime")
    assert runtime.items() <= pins("dev").items()
    assert pins("build").items() <= runtime.items()


@pytest.mark.parametrize(("lock", "extra"), [("runtime", None), ("dev", "dev")])
def test_lock_satisfies_pyproject(lock: str, extra: str | None) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    locked = pins(lock)
    for requirement in map(Requirement, wanted):
        for version in locked[canonicalize_name(requirement.name)]:
            assert version.removeprefix("==") in requirement.specifier, requirement
