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
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import ModuleType

#: What the pipeline's modules, and DVC, import of others.
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

#: What a fork runs.
SERVED = re.compile(r"(-c|-m dvc|-m pytest|-m workflow(\.\w+)*|-m stages \w+)( .*)?", re.DOTALL)

#: What the parameters of a stage that is forked have in them: libraries cannot choose other kernels once imported.
NATIVE = "instruction_set: native"

#: Environment variables that no library reads when it is imported, and those that importing one sets in a worker of
#: pytest. All others have to be those of this process.
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
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
    """Forks for whoever asks. The answer is the child's exit code as text, or `no` if this is not served."""
    ours = held(os.environ)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)  # who asks now waits for the import
    import_libraries()

    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[socket.socket, ForkProcess] = {}
    with selectors.DefaultSelector() as selector:
        for watched in (sys.stdin, listener, woken):
            selector.register(watched, selectors.EVENT_READ)
        while sys.stdin not in (ready := [key.fileobj for key, _ in selector.select()]):
            if woken in ready:
                woken.recv(64)
            for connection in {*ready} & children.keys():
                children[connection].kill()  # who asked is gone
            if listener in ready:
                connection, _ = listener.accept()
                if child := started(connection, ours):
                    children[connection] = child
                    selector.register(connection, selectors.EVENT_READ)
            for connection in [connection for connection, child in children.items() if child.exitcode is not None]:
                with contextlib.suppress(OSError):
                    connection.sendall(str(children.pop(connection).exitcode).encode())
                selector.unregister(connection)
                connection.close()
    for child in children.values():
        child.kill()


def started(connection: socket.socket, ours: Mapping[str, str]) -> ForkProcess | None:
    """The child that does what is asked for; None if that is not served, or has other variables than `ours`."""
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
