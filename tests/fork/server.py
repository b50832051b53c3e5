"""A Python that has imported the libraries, and is forked for each command that a test runs.

The import takes longer than most commands do. A fork of a process that has imported, but computed nothing, ends with
the bytes of a fresh one: `test_end_to_end.py` compares them. Only libraries are imported here. Each child imports the
project's own modules from the folder that it runs in, a copy that the test may have changed.

`python server.py SOCKET PYTHON` serves `client.py` until its standard input ends. PYTHON is the program that asks.
"""

import atexit
import contextlib
import gc
import importlib
import marshal
import multiprocessing
import os
import re
import runpy
import socket
import sys
from collections.abc import Mapping
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import ModuleType
from typing import Any

#: Libraries that the pipeline and DVC import.
LIBRARIES = (
    "altair",
    "dvc.cli.parser",
    "dvc.repo",
    "google.protobuf.json_format",
    "h5py",
    "in_toto_attestation.predicates.provenance.v1.provenance_pb2",
    "itables",
    "jinja2",
    "keras",
    "matplotlib.figure",
    "onnx.numpy_helper",
    "onnxruntime",
    "pandas",
    "PIL.Image",
    "psutil",
    "pydantic",
    "ruamel.yaml",
    "scipy.stats",
    "securesystemslib.signer",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "sklearn.neighbors",
    "sklearn.pipeline",
    "tabulate",
    "tensorflow",
    "tensorflow_datasets",
    "tf2onnx",
    "threadpoolctl",
    "tqdm",
)

#: Arguments of Python that a fork can run.
SERVED = re.compile(r"(-c|-m dvc|-m pytest|-m workflow(\.\w+)*|-m stages \w+)( .*)?", re.DOTALL)

#: A stage is forked only if `params.yaml` has this line: libraries cannot choose other kernels once imported.
NATIVE = "instruction_set: native"

#: Environment variables that no library reads when it is imported, and those that an import sets in a worker of pytest.
#: A command with other values of any other variable is not forked.
FREE = re.compile(
    r"(DVC|GIT|PYTEST|RAY)_.*|COLUMNS|LINES|PATH|PWD|OLDPWD|SHLVL|TMPDIR|_"
    r"|ENABLE_RUNTIME_UPTIME_TELEMETRY|HDF5_PLUGIN_PATH|KMP_(DUPLICATE_LIB_OK|INIT_AT_FORK)|ORT_DISABLE_TELEMETRY|TF2_BEHAVIOR|TPU_ML_PLATFORM.*"
)

FORK = multiprocessing.get_context("fork")


def held(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not FREE.fullmatch(name)}


def import_libraries() -> None:
    """Imports as a stage with native kernels does, and keeps nothing of the project."""
    root, present = str(Path(__file__).parents[2]), set(sys.modules)
    sys.path.insert(0, root)
    from pipeline.processor import hold_kernels

    hold_kernels("native")
    sys.path.remove(root)
    for name in {name for name in sys.modules if name.partition(".")[0] == "pipeline"} - present:
        del sys.modules[name]
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1"}
    gc.disable()
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # no child's collector looks through the libraries
    gc.enable()


def has_kernels(arguments: list[str], folder: str) -> bool:
    """Whether this process has the kernels that the command would choose."""
    params = Path(folder, "params.yaml")
    return "stages" not in arguments or (params.is_file() and NATIVE in params.read_text(encoding="utf-8"))


def run(arguments: list[str], folder: str, environment: Mapping[str, str], streams: list[int]) -> None:
    """Becomes the `python -m MODULE ...` or `python -c CODE ...` that was asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0], sys.executable = folder, sys.argv[2]
    sys.argv = arguments[1:]
    try:
        if arguments[0] == "-m":
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    finally:
        atexit._run_exitfuncs()  # as a fresh process does at its end: TensorFlow's temporary files would stay


def serve(path: str) -> None:
    """Forks for each client. The answer is the child's exit code as text, or `no` if the command is not served."""
    ours = held(os.environ)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)  # who asks now waits for the import
    import_libraries()

    children: dict[socket.socket, ForkProcess] = {}
    ready: list[Any] = []
    while sys.stdin not in ready:
        # A child's own children may hold its sentinel longer than it lives: hence the timeout.
        ready = wait([sys.stdin, listener, *children, *(child.sentinel for child in children.values())], timeout=1)
        if listener in ready:
            connection, _ = listener.accept()
            if child := started(connection, ours):
                children[connection] = child
        for connection, child in [*children.items()]:
            if connection in ready:
                child.kill()  # who asked is gone
                child.join()
            if child.exitcode is not None:
                with contextlib.suppress(OSError):
                    connection.sendall(str(child.exitcode).encode())
                connection.close()
                del children[connection]
    for child in children.values():
        child.kill()


def started(connection: socket.socket, ours: Mapping[str, str]) -> ForkProcess | None:
    """Forks a child that runs the command; returns None if that is not served, or has other variables than `ours`."""
    connection.settimeout(10)
    try:
        size, streams, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as incoming:
            arguments, folder, environment = marshal.loads(incoming.read(int.from_bytes(size, "big")))
    except (OSError, EOFError, ValueError):  # who asked was killed
        connection.close()
        return None
    child = None
    if SERVED.fullmatch(" ".join(arguments)) and held(environment) == ours and has_kernels(arguments, folder):
        child = FORK.Process(target=run, args=(arguments, folder, environment, streams))
        child.start()
    else:
        connection.sendall(b"no")
        connection.close()
    for stream in streams:
        os.close(stream)
    return child


if __name__ == "__main__":
    serve(sys.argv[1])
