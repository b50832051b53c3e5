"""numeric.txt states the lock and what runs."""

import platform
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pipeline import environment
from pipeline.environment import locked_versions, read_numeric, running_python, verify_numeric, write_numeric
from pipeline.errors import StageError

#: The packages whose versions results depend on.
NUMERIC = {"tensorflow", "keras", "numpy", "h5py", "tensorflow-datasets", "matplotlib", "scikit-learn", "scipy"}


def lock() -> dict[str, str]:
    """Versions in the lock file, read as pip reads it: joined lines without their hashes."""
    text = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (re.sub(r"--hash=\S+|#.*", "", line).strip() for line in text.splitlines())
    requirements = [Requirement(line) for line in lines if line]
    pins = [(canonicalize_name(one.name), str(one.specifier)) for one in requirements if one.name in NUMERIC]
    assert len(pins) == len(NUMERIC), "a numeric package is locked twice, or not at all"
    return {name: specifier.removeprefix("==") for name, specifier in pins}


# ---- numeric.txt


def test_numeric_file_states_the_lock() -> None:
    stated = read_numeric(ROOT / "numeric.txt")
    assert {name: version for name, version in stated.items() if name != "python"} == lock()


def test_numeric_file_states_what_pyproject_admits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = {canonicalize_name((one := Requirement(line)).name): one.specifier for line in project["dependencies"]}
    stated = read_numeric(ROOT / "numeric.txt")
    assert f"{stated.pop('python')}.0" in SpecifierSet(project["requires-python"])
    assert [name for name, version in stated.items() if version not in bounds[canonicalize_name(name)]] == []


def test_numeric_file_states_what_runs() -> None:
    verify_numeric(ROOT / "numeric.txt")
    stated = read_numeric(ROOT / "numeric.txt")
    assert stated.pop("python") == ".".join(platform.python_version_tuple()[:2])
    assert stated == {name: metadata.version(name) for name in NUMERIC}


def test_locked_versions_are_those_of_the_numeric_packages() -> None:
    assert locked_versions(ROOT / "requirements" / "runtime.txt") == lock()


def test_rewriting_what_is_stated_changes_no_byte(tmp_path: Path) -> None:
    committed = ROOT / "numeric.txt"
    write_numeric(read_numeric(committed), tmp_path / "numeric.txt")
    assert (tmp_path / "numeric.txt").read_bytes() == committed.read_bytes()


@pytest.mark.parametrize("name", ["python", "keras", "numpy", "tensorflow-datasets"])
@pytest.mark.parametrize(("line", "stated"), [("{} 1.2.3", r"1\.2\.3"), ("<<<<<<<", "none")])
def test_other_version_than_stated_is_refused_by_name(tmp_path: Path, name: str, line: str, stated: str) -> None:
    path, versions = tmp_path / "numeric.txt", {**lock(), "python": running_python()}
    write_numeric(versions, path)
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(f"{name} {versions[name]}", line.format(name)), encoding="utf-8")
    running = re.escape(versions[name])
    with pytest.raises(StageError, match=rf"numeric\.txt states {name} {stated}, but {running} is running"):
        verify_numeric(path)


def test_package_that_is_not_installed_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NUMERIC_PACKAGES", ("absent-package",))
    write_numeric({"python": running_python(), "absent-package": "1.0"}, tmp_path / "numeric.txt")
    with pytest.raises(StageError, match=r"absent-package 1\.0, but none is running"):
        verify_numeric(tmp_path / "numeric.txt")


# ---- python -m pipeline.environment


@pytest.fixture
def run_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the command in a folder that holds a copy of the lock."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "runtime.txt").write_bytes((ROOT / "requirements" / "runtime.txt").read_bytes())
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["environment", *arguments])
        environment.main()

    return run


def test_other_python_changes_only_its_line(run_main: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    committed = (ROOT / "numeric.txt").read_text(encoding="utf-8")
    other = re.sub("^python .*", "python 3.0", committed, flags=re.MULTILINE)
    other = re.sub("^numpy .*", "numpy 0.1", other, flags=re.MULTILINE)  # not the lock's: it has to stay
    Path("numeric.txt").write_text(other, encoding="utf-8")
    run_main()
    expected = other.replace("python 3.0", f"python {sys.version_info.major}.{sys.version_info.minor}")
    assert Path("numeric.txt").read_text(encoding="utf-8") == expected
    assert f"now states Python {running_python()} (committed: 3.0)" in capsys.readouterr().out


def test_same_python_changes_nothing(run_main: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    write_numeric({**lock(), "python": running_python()}, Path("numeric.txt"))
    before = Path("numeric.txt").stat().st_ino
    run_main()
    assert Path("numeric.txt").stat().st_ino == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [[], ["--write"]], ids=["absent file", "other version"])
def test_the_lock_is_stated(
    run_main: Callable[..., None], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    if arguments:
        write_numeric({**lock(), "python": running_python(), "numpy": "0.1"}, Path("numeric.txt"))
    run_main(*arguments)
    assert read_numeric(Path("numeric.txt")) == {**lock(), "python": running_python()}
    assert (capsys.readouterr().out == "") == bool(arguments)  # only another Python is told
