"""numeric.txt states the lock and what runs; the instruction set is what a processor's flags admit."""

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
from pipeline.environment import (
    instruction_set,
    locked_versions,
    processor_name,
    read_numeric,
    running_python,
    verify_numeric,
    write_numeric,
)
from pipeline.errors import StageError

#: The packages whose versions results depend on.
NUMERIC = {"tensorflow", "keras", "numpy", "h5py", "tensorflow-datasets", "matplotlib", "scikit-learn", "scipy"}

STATED = "# why\npython 3.11\n" + "".join(f"{name} {metadata.version(name)}\n" for name in sorted(NUMERIC))


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


def test_written_versions_are_read_back(tmp_path: Path) -> None:
    versions = {"python": "3.12"} | {name: f"{number}.0" for number, name in enumerate(NUMERIC)}
    write_numeric(versions, tmp_path / "numeric.txt")
    assert read_numeric(tmp_path / "numeric.txt") == versions


def test_rewriting_what_is_stated_changes_no_byte(tmp_path: Path) -> None:
    committed = ROOT / "numeric.txt"
    write_numeric(read_numeric(committed), tmp_path / "numeric.txt")
    assert (tmp_path / "numeric.txt").read_bytes() == committed.read_bytes()


@pytest.mark.parametrize("name", ["numpy", "tensorflow-datasets", "python"])
def test_other_version_than_stated_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "numeric.txt"
    running = running_python() if name == "python" else metadata.version(name)
    text = STATED.replace("python 3.11", f"python {running_python()}")
    path.write_text(text.replace(f"{name} {running}\n", f"{name} 1.2.3\n"), encoding="utf-8")
    with pytest.raises(StageError, match=rf"numeric\.txt states {name} 1\.2\.3, but {re.escape(running)} is running"):
        verify_numeric(path)


def test_package_that_is_not_installed_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NUMERIC_PACKAGES", ("absent-package",))
    stated = f"python {running_python()}\nabsent-package 1.0\n"
    (tmp_path / "numeric.txt").write_text(stated, encoding="utf-8")
    with pytest.raises(StageError, match=r"absent-package 1\.0, but none is running"):
        verify_numeric(tmp_path / "numeric.txt")


@pytest.mark.parametrize("line", ["keras 3.15.1\n", "numpy 2.4.6\n"])
def test_package_that_is_not_stated_is_refused_by_name(tmp_path: Path, line: str) -> None:
    text = (ROOT / "numeric.txt").read_text(encoding="utf-8")
    assert line in text
    (tmp_path / "numeric.txt").write_text(text.replace(line, "<<<<<<<\n"), encoding="utf-8")
    with pytest.raises(StageError, match=f"states {line.split()[0]} none, but"):
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


def test_new_lock_is_stated_when_asked(run_main: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    write_numeric({**lock(), "python": running_python(), "numpy": "0.1"}, Path("numeric.txt"))
    run_main("--write")
    assert read_numeric(Path("numeric.txt")) == {**lock(), "python": running_python()}
    assert capsys.readouterr().out == ""


def test_absent_file_is_made_from_the_lock(run_main: Callable[..., None]) -> None:
    run_main()
    assert read_numeric(Path("numeric.txt")) == {**lock(), "python": running_python()}


# ---- the processor

AVX2 = "fpu sse2 ssse3 sse4_1 sse4_2 avx f16c fma avx2 bmi1 bmi2"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"

# machine, name, flags as Linux states them, best kernel set that oneDNN's documentation gives it
PROCESSORS = [
    ("x86_64", "Pentium 4", "fpu sse2", "x86_64 linux"),
    ("x86_64", "Sandy Bridge", "fpu sse2 ssse3 sse4_1 sse4_2 avx", "x86_64 avx"),
    ("x86_64", "AVX2 without FMA", AVX2.replace(" fma", ""), "x86_64 avx"),
    ("x86_64", "Haswell", AVX2, "x86_64 avx2"),
    ("x86_64", "Alder Lake", f"{AVX2} avx_vnni", "x86_64 avx2_vnni"),
    ("x86_64", "Knights Landing", f"{AVX2} avx512f avx512pf avx512er avx512cd", "x86_64 avx2"),
    ("x86_64", "Skylake-X", AVX512, "x86_64 avx512_core"),
    ("x86_64", "Cascade Lake", f"{AVX512} avx512_vnni", "x86_64 avx512_core_vnni"),
    ("x86_64", "Zen 4", f"{AVX512} avx512_vnni avx512_bf16", "x86_64 avx512_core_bf16"),
    (
        "x86_64",
        "Sapphire Rapids",
        f"{AVX512} avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8",
        "x86_64 avx512_core_amx",
    ),
    ("AMD64", "Windows' name of x86-64", AVX2, "x86_64 avx2"),
    ("aarch64", "Cortex-A72", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", "aarch64 asimd"),
    ("aarch64", "Neoverse V1", "fp asimd evtstrm aes sve svei8mm bf16", "aarch64 sve"),
    ("riscv64", "unknown", "rv64imafdc", "riscv64 linux"),
]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Makes this machine one of the given kind, with the given text in /proc/cpuinfo."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)

    def become(kind: str, cpuinfo: str | None, system: str = "Linux") -> None:
        if cpuinfo is not None:
            (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
        places = {"/proc/cpuinfo": tmp_path / "cpuinfo"}
        monkeypatch.setattr(environment, "Path", places.__getitem__)
        monkeypatch.setattr(platform, "machine", lambda: kind)
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(platform, "processor", lambda: "")

    return become


def cpuinfo_x86(name: str, flags: str) -> str:
    """Two processors; the flags of the second do not count."""
    one = f"processor\t: 0\nvendor_id\t: Maker\nmodel name\t: {name}\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n\n"
    return one + "processor\t: 1\nflags\t\t: amx_tile amx_bf16 amx_int8\n\n"


def cpuinfo_arm(flags: str) -> str:
    return f"processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: {flags}\nCPU implementer\t: 0x41\n\n"


@pytest.mark.parametrize(("kind", "name", "flags", "expected"), PROCESSORS, ids=[p[1] for p in PROCESSORS])
def test_instruction_set_is_the_best_the_flags_admit(
    machine: Callable[..., None], kind: str, name: str, flags: str, expected: str
) -> None:
    machine(kind, cpuinfo_arm(flags) if kind == "aarch64" else cpuinfo_x86(name, flags))
    assert instruction_set() == expected


def test_machine_without_cpuinfo_is_its_kind_and_system(machine: Callable[..., None]) -> None:
    machine("arm64", None, "Darwin")
    assert instruction_set() == "aarch64 darwin"


def test_flags_of_another_kind_of_machine_do_not_count(machine: Callable[..., None]) -> None:
    machine("aarch64", cpuinfo_arm(AVX2))
    assert instruction_set() == "aarch64 linux"


def test_cap_of_the_kernels_is_shown(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine("x86_64", cpuinfo_x86("Zen 4", f"{AVX512} avx512_vnni avx512_bf16"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert instruction_set() == "x86_64 avx512_core_bf16 capped at avx2"


def test_empty_cap_is_no_cap(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine("x86_64", cpuinfo_x86("Haswell", AVX2))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    assert instruction_set() == "x86_64 avx2"


def test_processor_has_its_makers_name(machine: Callable[..., None]) -> None:
    machine("x86_64", cpuinfo_x86("AMD EPYC 9V74: 80-Core", AVX2))
    assert processor_name() == "AMD EPYC 9V74: 80-Core"


def test_processor_without_a_name_is_its_kind(machine: Callable[..., None]) -> None:
    machine("aarch64", cpuinfo_arm("fp asimd"))
    assert processor_name() == "aarch64"
