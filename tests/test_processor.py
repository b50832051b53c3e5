"""The processor's instruction set, and what libraries' kernels are held to."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import processor
from pipeline.processor import KERNELS, STATED, caches, hold_kernels, instruction_set, processor_name

AVX2 = "fpu sse2 ssse3 sse4_1 sse4_2 avx f16c fma avx2 bmi1 bmi2"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"
AMX = f"{AVX512} avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8"

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
    ("x86_64", "Sapphire Rapids", AMX, "x86_64 avx512_core_amx"),
    ("AMD64", "Windows' name of x86-64", AVX2, "x86_64 avx2"),
    ("aarch64", "Cortex-A72", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", "aarch64 asimd"),
    ("aarch64", "Neoverse V1", "fp asimd evtstrm aes sve svei8mm bf16", "aarch64 sve"),
    ("aarch64", "flags of another kind", AVX2, "aarch64 linux"),
    ("riscv64", "unknown", "rv64imafdc", "riscv64 linux"),
]


#: Makes this machine one of the given kind, with the given text in /proc/cpuinfo.
Machine = Callable[[str, str | None], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name not in STATED})

    def become(kind: str, cpuinfo: str | None) -> None:
        if cpuinfo is not None:
            (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
        monkeypatch.setattr(processor, "Path", {"/proc/cpuinfo": tmp_path / "cpuinfo"}.__getitem__)
        monkeypatch.setattr(platform, "machine", lambda: kind)
        monkeypatch.setattr(platform, "system", lambda: "Darwin" if cpuinfo is None else "Linux")
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
    machine: Machine, kind: str, name: str, flags: str, expected: str
) -> None:
    machine(kind, cpuinfo_arm(flags) if kind == "aarch64" else cpuinfo_x86(name, flags))
    assert instruction_set() == expected


def test_machine_without_cpuinfo_is_its_kind_and_system(machine: Machine) -> None:
    machine("arm64", None)
    assert instruction_set() == "aarch64 darwin"


ZEN_4 = ("x86_64", cpuinfo_x86("Zen 4", f"{AVX512} avx512_vnni avx512_bf16"))


@pytest.mark.parametrize(
    ("variables", "held"),
    [
        (
            {"ONEDNN_MAX_CPU_ISA": "AVX", "TF_ENABLE_ONEDNN_OPTS": "0"},
            " with ONEDNN_MAX_CPU_ISA=AVX, TF_ENABLE_ONEDNN_OPTS=0",
        ),
        ({"ONEDNN_MAX_CPU_ISA": "", "TF_ENABLE_ONEDNN_OPTS": "1"}, ""),
    ],
)
def test_a_library_held_to_less_is_named(machine: Machine, variables: dict[str, str], held: str) -> None:
    machine(*ZEN_4)
    os.environ |= variables
    assert instruction_set() == f"x86_64 avx512_core_bf16{held}"


@pytest.mark.parametrize(("kernels", "expected"), [("avx2", "x86_64 avx2"), ("native", "x86_64 avx512_core_bf16")])
def test_kernels_that_are_held_make_the_class(machine: Machine, kernels: str, expected: str) -> None:
    machine(*ZEN_4)
    hold_kernels(kernels)
    assert instruction_set() == expected


@pytest.mark.parametrize(
    ("kind", "cpuinfo", "kernels"),
    [
        (*ZEN_4, "unknown"),
        ("x86_64", cpuinfo_x86("Sandy Bridge", "fpu sse2 ssse3 sse4_1 sse4_2 avx"), "avx2"),
        ("aarch64", cpuinfo_arm("fp asimd"), "avx2"),
    ],
    ids=["nobody knows the kernels", "it has no AVX2", "it is of another kind"],
)
def test_a_processor_is_left_alone(machine: Machine, kind: str, cpuinfo: str, kernels: str) -> None:
    machine(kind, cpuinfo)
    before = dict(os.environ)
    hold_kernels(kernels)
    assert os.environ == before


def test_what_a_user_has_set_stays_and_is_named(machine: Machine) -> None:
    machine(*ZEN_4)
    os.environ |= {"OPENBLAS_CORETYPE": "Zen", "NPY_DISABLE_CPU_FEATURES": ""}
    hold_kernels("avx2")
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"
    assert os.environ["NPY_DISABLE_CPU_FEATURES"] == KERNELS["avx2"]["NPY_DISABLE_CPU_FEATURES"]
    assert "OPENBLAS_CORETYPE=Zen" in instruction_set()


#: Prints a hash of products, and of functions of both widths, of numpy and of XLA, with kernels held as named.
RESULTS = """
import sys
from pipeline.processor import hold_kernels
hold_kernels(sys.argv[1])
import hashlib
import numpy as np
import tensorflow as tf
generator = np.random.default_rng(0)
left, right = generator.standard_normal((200, 784)), generator.standard_normal((784, 300))
left32, right32 = left.astype(np.float32), right.astype(np.float32)
compiled = tf.function(lambda x, y: tf.exp(-tf.nn.softplus(x @ y)), jit_compile=True)
found = [left @ right, left32 @ right32, np.exp(left), np.log(np.abs(left)), compiled(left32, right32).numpy()]
found.append(tf.linalg.matmul(left32, right32).numpy())
print(hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest())
"""


@pytest.mark.skipif(not instruction_set().startswith("x86_64 avx512"), reason="needs a processor with AVX-512")
@pytest.mark.whole
def test_held_kernels_give_bytes_that_no_instruction_set_of_the_environment_changes() -> None:
    """In processes of their own: libraries choose kernels when they are loaded."""
    plain = {name: value for name, value in os.environ.items() if name not in KERNELS["avx2"]}
    skylake = {"OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    found = [
        subprocess.run(
            [sys.executable, "-c", RESULTS, kernels], env={**plain, **more}, capture_output=True, text=True, check=True
        ).stdout
        for kernels, more in (("avx2", {}), ("unknown", KERNELS["avx2"]), ("unknown", skylake))
    ]
    assert found[0] == found[1] != found[2]


def test_caches_are_those_of_the_first_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "Path", lambda path: tmp_path / Path(path).name)
    assert caches() == "unknown"
    for index, facts in enumerate(["1 Data 48K", "1 Instruction 32K", "2 Unified 1024K", "3 Unified 32768K"]):
        (tmp_path / f"index{index}").mkdir()
        for name, text in zip(("level", "type", "size"), facts.split(), strict=True):
            (tmp_path / f"index{index}" / name).write_text(f"{text}\n", encoding="utf-8")
    assert caches() == "48K 1024K"


def test_processor_has_its_makers_name_or_is_its_kind(machine: Machine) -> None:
    machine("x86_64", cpuinfo_x86("AMD EPYC 9V74: 80-Core", AVX2))
    assert processor_name() == "AMD EPYC 9V74: 80-Core"
    machine("aarch64", cpuinfo_arm("fp asimd"))
    assert processor_name() == "aarch64"
