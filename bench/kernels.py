"""Operations of the libraries that results come from, under other instruction sets: which of them change the bytes.

`python -m bench.kernels` prints a hash of each operation's result; `kernel_table` runs it under each cap.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tabulate import tabulate

from bench.figures import printed
from pipeline.processor import KERNELS

#: What each column holds the libraries to; the first leaves them alone.
CAPS: Mapping[str, Mapping[str, str]] = {
    "all instructions": {},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "XLA_FLAGS": "--xla_cpu_max_isa=AVX512"},
    "numpy AVX2": KERNELS["native"],
    "AVX2": KERNELS["avx2"],
    "AVX": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "OPENBLAS_CORETYPE": "Sandybridge",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX",
    },
}

#: Runs a program on an emulated processor with AVX2, and with caches of its own; where it is installed.
EMULATOR = ("qemu-x86_64", "-cpu", "Haswell")


def kernel_table() -> str:
    """The table in Markdown: a row an operation, a column a cap."""
    columns = {words: _hashes([], cap) for words, cap in CAPS.items()}
    if shutil.which(EMULATOR[0]):
        columns["AVX2, emulated Haswell"] = _hashes(EMULATOR, KERNELS["avx2"])
    first, held = columns["all instructions"], columns["AVX2"]
    rows = [[name, *(_told(found[name], first[name], held[name]) for found in columns.values())] for name in first]
    return tabulate(rows, ["operation", *columns], tablefmt="github")


def _told(digest: str, first: str, held: str) -> str:
    return "same" if digest == first else "as AVX2" if digest == held else "differs"


def without_caps() -> dict[str, str]:
    """The environment without the variables that hold kernels to an instruction set."""
    return {name: value for name, value in os.environ.items() if name not in KERNELS["avx2"]}


def _hashes(runner: Sequence[str], cap: Mapping[str, str]) -> dict[str, str]:
    return printed([*runner, sys.executable, "-m", "bench.kernels"], {**without_caps(), **cap})


def operations() -> dict[str, NDArray[np.floating]]:
    """Results by name: products of 784 and of 300 terms, functions, sums; float32 but where the name says otherwise."""
    generator = np.random.default_rng(0)
    wide = generator.standard_normal((200, 784))
    tall = generator.standard_normal((784, 300))
    left, right = wide.astype(np.float32), tall.astype(np.float32)
    one, other = tf.constant(left), tf.constant(right)
    found: dict[str, NDArray[np.floating]] = {
        "numpy product, float32": left @ right,
        "numpy product, float64": wide @ tall,
        "numpy exp, float64": np.exp(wide),
        "numpy log, float64": np.log(np.abs(wide)),
        "numpy exp, float32": np.exp(left),
        "numpy sum": left.sum(axis=1),
        "numpy singular values, float64": np.linalg.svd(wide[:, :100])[1],
    }
    tensors: dict[str, Callable[[], tf.Tensor]] = {
        "product of 784 terms": lambda: one @ other,
        "product of 300 terms": lambda: one[:, :300] @ other[:300],
        "product, transposed": lambda: tf.matmul(one[:100], one[:100], transpose_a=True),
        "functions": lambda: tf.exp(-tf.nn.softplus(one)) + tf.tanh(one),
        "sums": lambda: tf.reduce_logsumexp(one, axis=1),
        "normal draws": lambda: tf.random.stateless_normal([100, 40], [1, 2]),
    }
    for library, compiled in (("TensorFlow", False), ("XLA", True)):
        for words, operation in tensors.items():
            found[f"{library} {words}"] = tf.function(operation, jit_compile=compiled)().numpy()
    return found


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(2)
    print(json.dumps({name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in operations().items()}))
