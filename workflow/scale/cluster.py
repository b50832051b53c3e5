"""Ray: an embedded one on this machine, or the cluster that RAY_ADDRESS names, always with token authentication."""

import importlib.util
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import StageError
from pipeline.files import atomic

#: The token of this clone, which head, workers and driver have to show. Only its owner can read it.
TOKEN = Path("state/ray-token")

#: Variables that Ray, or an interpreter's own settings, would bring into the processes that a worker starts.
_FOREIGN = ("RAY_", "TUNE_", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHOME", "CUDA_VISIBLE_DEVICES")

#: Seconds in which a cluster has to take a connection.
_PATIENCE = 5


def prepare() -> None:
    """Sets the environment of all processes of Ray. To be called before the first import of `ray`.

    Token authentication is always on, with the user's token or one that this clone makes for itself.

    Raises:
        StageError: Naming the packages that are missing, and the command that installs them.
    """
    missing = [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]
    if missing:
        raise StageError(f"{' and '.join(missing)} not installed, expected the extra `scale`: run `make setup-scale`")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray calls it; its own 15 starves trials
    os.environ["RAY_AUTH_MODE"] = "token"
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    if not TOKEN.is_file():
        with atomic(TOKEN) as partial:
            partial.touch(mode=0o600)
            partial.write_text(secrets.token_hex(32), encoding="ascii")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(TOKEN.resolve())


@contextmanager
def connected(threads: int) -> Iterator[int]:
    """Connects to Ray while the block runs, and yields the number of cores.

    Args:
        threads: Cores that one piece of work needs; it has to fit on one node.

    Raises:
        StageError: If the cluster does not answer, refuses the token, or has no node of so many cores.
    """
    prepare()
    import ray
    from ray.exceptions import RayError

    address = os.environ.get("RAY_ADDRESS", "")
    if address:
        _require_answer(address)
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}  # failures are raised
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as session:
        own = {} if address else {"include_dashboard": False, "_temp_dir": session}  # a Ray of our own leaves nothing
        try:
            ray.init(address=address or "local", **quiet, **own)
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            if not address:
                raise StageError(f"Ray did not start on this machine: {error}") from error
            raise StageError(
                f"RAY_ADDRESS={address}: the cluster refused the connection ({error}); expected one of this version "
                f"of Ray, and its token in the file that RAY_AUTH_TOKEN_PATH names: docs/scaling.md"
            ) from error
        try:
            cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            if threads > max(cores):
                raise StageError(
                    f"threads = {threads}: it should be at most {max(cores)}, the cores of the largest node"
                )
            yield sum(cores)
        finally:
            ray.shutdown()


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if not host or "/" in host:
            raise ValueError("that is no HOST:PORT")
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise StageError(
            f"RAY_ADDRESS={address}: no cluster answers ({error}); expected HOST:PORT of a head started by "
            f"`ray start --head`; without RAY_ADDRESS this machine alone is used"
        ) from error


def reason(error: Exception) -> str:
    """Why a worker failed, from Ray's error: the sentence of the worker's StageError, or the line that says most."""
    from ray.exceptions import RayActorError

    said = str(error).strip()
    _, refused, sentence = said.rpartition(f"{StageError.__module__}.{StageError.__qualname__}: ")
    if refused:
        return sentence
    return said.splitlines()[0 if isinstance(error, RayActorError) else -1]


def environment() -> dict[str, str]:
    """Environment of processes that a worker starts: the programs of its Python, and no variables of Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1"}
