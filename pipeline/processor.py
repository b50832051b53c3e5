"""The processor, and which of its instructions the libraries' kernels may use; imports none of these libraries.

Libraries choose kernels by instruction set when they are loaded, and other kernels round otherwise. numpy and
OpenBLAS are always held to AVX2, which costs nothing here; TensorFlow's kernels are with `kernels.instruction_set` =
avx2.
"""

import os
import platform
from pathlib import Path

#: Environment variables that hold numpy to instructions, and OpenBLAS to those and to blocks that follow from no cache.
_NUMPY = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_L2_SIZE": "512",
}

#: What is set for each `kernels.instruction_set`.
KERNELS = {
    "native": _NUMPY,
    "avx2": {**_NUMPY, "ONEDNN_MAX_CPU_ISA": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
}

#: Environment variables that choose kernels; a value that the user sets stays, and `instruction_set` tells it.
STATED = (*KERNELS["avx2"], "GLIBC_TUNABLES", "TF_ENABLE_ONEDNN_OPTS")

#: Linux names of the instructions that each of oneDNN's kernel sets needs, best set first.
_INSTRUCTION_SETS = {
    "x86_64 avx512_core_amx": {"amx_tile", "amx_bf16", "amx_int8"},
    "x86_64 avx512_core_bf16": {"avx512_bf16"},
    "x86_64 avx512_core_vnni": {"avx512_vnni", "avx512bw", "avx512vl", "avx512dq"},
    "x86_64 avx512_core": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "x86_64 avx2_vnni": {"avx2", "avx_vnni"},
    "x86_64 avx2": {"avx2", "fma"},
    "x86_64 avx": {"avx"},
    "aarch64 sve": {"sve"},
    "aarch64 asimd": {"asimd"},
}


def hold_kernels(kernels: str) -> None:
    """Sets the variables of `KERNELS`, before any library is loaded, where the processor has these instructions.

    What the environment holds already stays: whoever set it wants it, and `instruction_set` tells.
    """
    if _best().startswith("x86_64 avx") and {"avx2", "fma"} <= _flags():
        for name, value in KERNELS.get(kernels, {}).items():  # an unknown one is refused by stage `check`
            os.environ[name] = os.environ.get(name) or value


def instruction_set() -> str:
    """The kernel set that results depend on: the processor's best, or the one that kernels are held to."""
    chosen = {name: os.environ[name] for name in STATED if os.environ.get(name)}
    if chosen.get("TF_ENABLE_ONEDNN_OPTS") == "1":  # as it is without
        del chosen["TF_ENABLE_ONEDNN_OPTS"]
    if chosen == KERNELS["avx2"]:
        return "x86_64 avx2"
    if chosen in ({}, KERNELS["native"]):
        return _best()
    return f"{_best()} with {', '.join(f'{name}={value}' for name, value in chosen.items())}"


def caches() -> str:
    """Sizes of the first two data caches, by which some kernels choose their blocks, as `48K 1024K`; or `unknown`."""
    found = []
    for level in ("1", "2"):
        for index in range(4):
            folder = Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}")
            kind = _text(folder / "type")
            if _text(folder / "level") == level and kind in ("Data", "Unified"):
                found.append(_text(folder / "size"))
    return " ".join(found) or "unknown"


def processor_name() -> str:
    """The processor's name as its maker gives it."""
    return _cpuinfo().get("model name", platform.processor() or platform.machine())


def _best() -> str:
    """The best kernel set that the processor admits."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    flags = _flags()
    for name, needed in _INSTRUCTION_SETS.items():
        if name.startswith(machine) and needed <= flags:
            return name
    return f"{machine} {platform.system().lower()}"


def _flags() -> set[str]:
    info = _cpuinfo()
    return set((info.get("flags") or info.get("Features") or "").split())


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor in Linux's `/proc/cpuinfo`; empty elsewhere."""
    first = _text(Path("/proc/cpuinfo")).split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
