"""A clean folder with a commit's files and nothing else: no results, no cache, no settings of the user's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML

from pipeline.environment import LOCK_FILE, NUMERIC_FILE, read_numeric, running_python
from pipeline.errors import StageError
from workflow.audit.machine import kernel_flags
from workflow.history.lock import LOCK, PARAMS, added, outputs
from workflow.history.revisions import Revision
from workflow.history.working_copy import write_files, write_settings
from workflow.release.pack import cache_folder, is_proven, objects, place

#: Files that say which environment a commit runs in.
_ENVIRONMENT = (LOCK_FILE, Path("requirements/build.txt"))

#: Beginnings of variables that would bring in what is not the commit's, or paths.
_FOREIGN = ("DVC_", "GIT_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "XLA_FLAGS")

#: Where only a run may write: data, unfinished work, records of runs, and what DVC keeps.
UNTRACKED = ("data", "state", "runs", ".dvc/cache", ".dvc/tmp", ".dvc/config.local")


@dataclass(frozen=True)
class Checkout:
    """A commit's files in a folder of their own."""

    project: Path
    settings: Path  # an empty folder, in which DVC looks for settings and keeps what it remembers of paths
    programs: Path = Path(sys.executable).parent  # the folder of the Python and the DVC that run its commands

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the commit's programs."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        folders = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        return {
            **kept,
            **dict.fromkeys(folders, str(self.settings)),
            "XLA_FLAGS": kernel_flags(),
            "DVC_NO_ANALYTICS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def run(self, *command: str) -> None:
        """Runs a command of the commit, which says what it has to say.

        Raises:
            StageError: If it fails.
        """
        done = subprocess.run(command, cwd=self.project, env=self.environment, check=False)
        if done.returncode:
            raise StageError(f"`{' '.join(command)}` of the commit failed with status {done.returncode}, see above")

    def ask(self, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of the commit in its own or another folder, and keeps what it says."""
        return subprocess.run(
            command, cwd=folder or self.project, env=self.environment, capture_output=True, text=True, check=False
        )


@contextmanager
def checkout(revision: Revision, folder: Path) -> Iterator[Checkout]:
    """A commit's files in `folder`, which goes when the block succeeds; after an interruption they stay."""
    whole, project = folder / "whole", folder / "project"
    if not whole.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "settings").mkdir(parents=True)
        write_files(revision, project)
        write_settings(project, core={"no_scm": "true"})
        whole.touch()
    yield Checkout(project, folder / "settings")
    shutil.rmtree(folder)


def remove_results(revision: Revision, project: Path) -> None:
    """Removes what the commit's pipeline wrote or would take up, so that no old result can pass for a new one.

    Settings of DVC in the commit may name another cache: the checkout gets one of its own.
    """
    for path in [LOCK, *outputs(revision), *UNTRACKED]:
        target = project / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    write_settings(project, cache={"dir": "cache"}, core={"no_scm": "true"})


def bring_images(revision: Revision, project: Path) -> bool:
    """Brings the folder of images that the data are made of from DVC's cache, if git ignores it.

    Args:
        revision: The commit.
        project: Its checkout, with the parameters that are to be run.

    Returns:
        Whether there is such a folder.

    Raises:
        StageError: If DVC does not keep it, its cache here lacks some of it, or a file would lie outside the checkout.
    """
    source = str(YAML(typ="safe").load(project / PARAMS).get("data", {}).get("source", ""))
    if not source or revision.hashes(source):
        return False
    md5 = added(revision, source)
    if md5 is None:
        raise StageError(
            f"the images of {revision.label} lie in {source}, which is neither in git nor kept by DVC, so nobody else "
            f"has them; expected {source}.dvc, which `dvc add {source}` writes"
        )
    cache = cache_folder()
    for path, of_file in objects(cache, source, md5).items():
        if {"..", ".git", "/"} & {*PurePosixPath(path).parts}:
            raise StageError(f"{revision.label} has images that lead out of the project: {path}")
        if not is_proven(place(cache, of_file), of_file):
            raise StageError(f"DVC's cache lacks {path}; `dvc pull`, or `dvc add {source}` where the images are")
        if not of_file.endswith(".dir"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place(cache, of_file), project / path)
    return True


def other_environment(project: Path) -> str:
    """How the environment that a commit states differs from the running one; empty if it does not."""
    differing = [
        str(path)
        for path in _ENVIRONMENT
        if not (project / path).is_file() or (project / path).read_bytes() != path.read_bytes()
    ]
    if stated_python(project) != running_python():
        differing.append(f"Python {stated_python(project) or 'none'}, not {running_python()}")
    return ", ".join(differing)


def stated_python(project: Path) -> str:
    """Version of Python, as `3.11`, that a commit's results are of; empty where it states none."""
    numeric = project / NUMERIC_FILE
    return read_numeric(numeric).get("python", "") if numeric.is_file() else ""
