"""Describes what an audit ran on, and names no machine, person or place."""

import csv
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from pipeline.processor import instruction_set, processor_name

#: Variables that choose kernels or threads, of which an audit tells the values.
_CHOOSING = (
    "CUDA_VISIBLE_DEVICES",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
)

#: Beginning of XLA's flags that choose kernels; others may hold paths.
_OF_XLA = "--xla_cpu_"

#: Files of an installed package that installing writes, which differ from place to place.
_OF_INSTALLING = ("/INSTALLER", "/RECORD", "/REQUESTED", "/direct_url.json")


def machine() -> dict[str, Any]:
    """Processor, instruction set, operating system, Python, and the variables that choose kernels or threads."""
    flags = kernel_flags()
    return {
        "processor": processor_name(),
        "instruction_set": instruction_set().replace(os.environ.get("XLA_FLAGS") or "XLA_FLAGS", flags),
        "processors": os.cpu_count(),
        "operating_system": f"{platform.system()} {platform.machine()}",
        "c_library": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "variables": {name: os.environ[name] for name in _CHOOSING if name in os.environ}
        | ({"XLA_FLAGS": flags} if flags else {}),
    }


def kernel_flags() -> str:
    """The flags that choose kernels in the variable XLA_FLAGS."""
    return " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag.startswith(_OF_XLA))


def packages() -> dict[str, Mapping[str, str]]:
    """Version of each installed package, and sha256 over the names and hashes of its files, by name."""
    found = {}
    for package in metadata.distributions():
        rows = csv.reader((package.read_text("RECORD") or "").splitlines())
        lines = sorted(f"{file} {digest.partition('=')[2]}" for file, digest, _ in rows if digest and _is_of(file))
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        found[package.metadata["Name"].lower()] = {"version": package.version, "sha256": digest}
    return dict(sorted(found.items()))


def _is_of(file: str) -> bool:
    """Whether a file is the package's own: programs and some others are written where it is installed."""
    return not file.startswith("../") and not file.endswith((".pyc", *_OF_INSTALLING))


if __name__ == "__main__":
    json.dump({"machine": machine(), "packages": packages()}, sys.stdout)
