"""Network namespaces that have only loopback, and a cluster of Ray in one."""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

#: Seconds after which what a test waits for will not come.
PATIENCE = 600

PORT = 6379

#: Brings up the loopback interface of a new network namespace, and goes on as another command.
RUNNER = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""

#: Says how many nodes are alive, as the head has it.
NODES = f"""
import ray
ray.init("127.0.0.1:{PORT}", log_to_driver=False)
print("alive", sum(node["Alive"] for node in ray.nodes()))
"""


def namespaces_allowed() -> bool:
    """Whether this user may make a network namespace here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def isolated(*command: str) -> tuple[str, ...]:
    """The command in a network namespace that has only loopback, where that is allowed; else the command."""
    return ("unshare", "--net", sys.executable, "-c", RUNNER, *command) if namespaces_allowed() else command


def wait_for(what: str, happens: Callable[[], bool]) -> None:
    """Waits until something is so."""
    ends = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not happens():
        assert time.monotonic() < ends, f"{what} did not happen in {PATIENCE} s"
        pause.wait(0.2)


class Namespace:
    """A network namespace with nothing but loopback."""

    def __init__(self) -> None:
        if not namespaces_allowed():
            pytest.skip("not run: a network namespace needs Linux, root, and a machine that allows it")
        command = isolated("sh", "-c", "echo up; exec cat")
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"

    def inside(self, *command: str) -> list[str]:
        """The command that runs a command in the namespace."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def end(self) -> None:
        """Ends the namespace."""
        self._holder.communicate()


class Cluster(Namespace):
    """A head without cores and two worker nodes of a core each."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        token = folder / "token"
        token.write_text(secrets.token_hex(32), encoding="ascii")
        token.chmod(0o600)
        self._folder = folder
        self.variables: Mapping[str, str] = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        self.nodes: list[subprocess.Popen[bytes]] = []
        head = ("--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")
        worker = (f"--address=127.0.0.1:{PORT}", "--num-cpus=1")
        for number, options in enumerate((head, worker, worker), 1):  # in turn: two at once take each other's files
            self.nodes.append(self._node(*options))
            wait_for(f"node {number}", lambda alive=f"alive {number}": alive in self.said(sys.executable, "-c", NODES))

    def said(self, *command: str, **variables: str) -> str:
        """What a command says in the namespace."""
        env = {**os.environ, **self.variables, **variables}
        done = subprocess.run(self.inside(*command), env=env, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def _node(self, *options: str) -> "subprocess.Popen[bytes]":
        command = self.inside(str(Path(sys.executable).with_name("ray")), "start", "--block", *options)
        with (self._folder / "ray.log").open("ab") as log:
            return subprocess.Popen(
                command, env={**os.environ, **self.variables}, cwd=self._folder, stdout=log, stderr=log
            )

    def kill(self, number: int) -> None:
        """Ends a node as a power failure does: every process of it at once."""
        node = self.nodes[number]
        if node.poll() is None:
            for process in [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            node.wait()

    def end(self) -> None:
        """Ends all nodes, and the namespace."""
        for number in range(len(self.nodes)):
            self.kill(number)
        super().end()
