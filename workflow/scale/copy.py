"""A working copy of a commit in which trials run, one after the other, and from which they become experiments."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

import numpy as np
import psutil
from dvc.repo import Repo
from dvc.repo.experiments.refs import ExpRefInfo
from dvc.utils.serialize import modify_yaml
from filelock import FileLock
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import atomic
from pipeline.params.section import PARAMS_FILE
from pipeline.stage import RESTORE
from workflow.history.presets import GRAPH
from workflow.history.revisions import git
from workflow.history.working_copy import bring_source, cache_of, write_settings
from workflow.scale.cluster import environment

#: Where working copies lie, on the disk of the node that works in them.
PLACE = Path(gettempdir()) / f"fashion-vae-sweep-{os.getuid()}"

#: Link types of outputs that are checked out: those that take no disk first.
_LINKS = "reflink,symlink,copy"

#: The file from which training resumes, in a folder of state.
_STATE = "train-*.npz"


class WorkingCopy:
    """A clone of the project at a commit, with the project's DVC cache; the pipeline runs in it, up to some stages."""

    def __init__(self, project: Path, commit: str, targets: Sequence[str]) -> None:
        """Clones into a folder of this process, and removes those of processes that were killed.

        Args:
            project: The project's folder, which the copy is cloned from and sends its experiments to.
            commit: Full id.
            targets: The stages that the pipeline runs up to.

        Raises:
            StageError: If it cannot be cloned.
        """
        PLACE.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in PLACE.glob("[0-9]*-*"):
            if not psutil.pid_exists(int(folder.name.partition("-")[0])):
                shutil.rmtree(folder, ignore_errors=True)
        self._project = project
        self._commit = commit
        self._folder = Path(mkdtemp(prefix=f"{os.getpid()}-", dir=PLACE))
        top, prefix = git(project, "rev-parse", "--show-toplevel", "--show-prefix").split("\n")[:2]
        self._repository = Path(top)
        self.path = self._folder / prefix
        git(project, "clone", "--quiet", "--no-checkout", top, str(self._folder))
        name, email = git(project, "log", "-1", "--format=%an%n%ae", commit).splitlines()
        for key, value in (("user.name", name), ("user.email", email), ("commit.gpgsign", "false")):
            git(self._folder, "config", key, value)
        git(self._folder, "checkout", "--quiet", "--detach", commit)
        write_settings(self.path, cache={"dir": cache_of(project), "type": _LINKS})
        self.state = self.path / "state"
        self._targets = list(targets)
        self._later = self._later_outputs()

    def reset(self, values: Mapping[str, Any]) -> None:
        """Brings the commit's files back, with these values of `params.yaml` by key. Data stay."""
        git(self.path, "checkout", "--quiet", "--force", "--detach", self._commit)
        git(self.path, "clean", "--quiet", "-fd")
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir()
        with modify_yaml(str(self.path / PARAMS_FILE)) as params:
            for key, value in values.items():
                section, _, name = key.partition(".")
                params[section][name] = value

    def prepare(self) -> None:
        """Makes or checks out the data. One process of a node at a time: the first fetches, others find it cached."""
        key = hashlib.sha256(cache_of(self._project).encode()).hexdigest()[:16]
        with FileLock(PLACE / f"{key}.lock"):
            bring_source(self._project, self.path)
            self.run("dvc", "repro", "--quiet", "preprocess")

    def running(self, pause: float, **variables: str) -> Iterator[None]:
        """Runs the pipeline, with more environment variables, and yields every `pause` seconds until it ends.

        It is killed, with all that it started, if the iteration is given up. Where there is `setpriv` (Linux), it also
        ends if this process is killed.

        Raises:
            StageError: If it fails, with its reason.
        """
        command = ["dvc", "repro", *self._targets]
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        log = self.state / "pipeline.log"
        with log.open("wb") as handle:
            child = subprocess.Popen(
                command,
                cwd=self.path,
                env={**environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,  # a process group of its own, to be killed as one
            )
        try:
            while child.poll() is None:
                yield
                time.sleep(pause)
        finally:
            with suppress(ProcessLookupError, PermissionError):  # all have ended; macOS says so by the second
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.returncode:
            raise StageError(failure(log.read_text(encoding="utf-8", errors="replace")))

    def keep_state(self, folder: Path) -> None:
        """Copies the state of the running training to a folder that outlives this copy, unless it is there already."""
        with suppress(FileNotFoundError):  # training ends, and removes it
            for path in _newest_state(self.state):
                kept = folder / path.name
                if not kept.exists() or kept.stat().st_mtime_ns != path.stat().st_mtime_ns:
                    with atomic(kept) as partial:
                        shutil.copy2(path, partial)

    def take_state(self, folder: Path) -> None:
        """Puts a state that was kept where training looks for it. Training ignores one of another processor class."""
        for path in _newest_state(folder):
            shutil.copy2(path, self.state)

    def save(self, name: str) -> None:
        """Saves what stands as a DVC experiment in the project, as `dvc exp save` does, but seconds faster.

        The experiment has no results of stages after the targets, which are the commit's and not this trial's.
        """
        if self._later:
            git(self.path, "rm", "--quiet", "-r", "--force", "--ignore-unmatch", "--", *self._later)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--no-verify", "--allow-empty", "-m", f"dvc: commit experiment {name}")
        ref = ExpRefInfo(self._commit, name)
        git(self.path, "push", "--quiet", "--force", str(self._repository), f"HEAD:{ref}")

    def _later_outputs(self) -> list[str]:
        """Lists the outputs of the stages that the targets do not need."""
        with Repo(str(self.path)) as repo:
            targets = [f"{self.path / GRAPH}:{name}" for name in self._targets]
            needed = {stage for target in targets for stage in repo.stage.collect(target, with_deps=True)}
            return [out.fs_path for stage in repo.index.stages if stage not in needed for out in stage.outs]

    def run(self, *command: str) -> None:
        """Runs a command in the copy.

        Raises:
            StageError: If it fails, with its reason.
        """
        done = subprocess.run(command, cwd=self.path, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageError(failure(done.stdout + done.stderr))

    def remove(self) -> None:
        """Removes the copy."""
        shutil.rmtree(self._folder, ignore_errors=True)


def history_so_far(folder: Path) -> NDArray[np.float64]:
    """The rows of the training history in the state that a folder holds; none if it holds no state."""
    with suppress(FileNotFoundError):  # training ends, and removes it
        for path in _newest_state(folder):
            with np.load(path, allow_pickle=False) as arrays:
                history: NDArray[np.float64] = arrays["history"]
                return history
    return np.empty((0, 0))


def _newest_state(folder: Path) -> list[Path]:
    """The state that was written last, if any. One of another processor class may lie beside it."""
    return sorted(folder.glob(_STATE), key=lambda path: path.stat().st_mtime_ns)[-1:]


def failure(said: str) -> str:
    """Why a pipeline failed, from its output: the sentence of the stage, or else the end of the output."""
    sentence, ended, _ = said.rpartition(RESTORE)
    return sentence.rpartition("\n\n")[2].strip() if ended else said.strip()[-2000:]
