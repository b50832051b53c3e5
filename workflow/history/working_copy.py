"""Copies of the project in which the pipeline runs without touching the one at hand."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from configobj import ConfigObj
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.params.section import PARAMS_FILE
from workflow.history.revisions import Revision, files


@contextmanager
def working_copy() -> Iterator[Path]:
    """A temporary copy of the project as it stands, without data but a folder of images; it shares the DVC cache."""
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        copy = Path(folder)
        for name in files(Path()):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, copy / name)
        write_settings(copy, cache={"dir": cache_of(Path())}, core={"no_scm": "true"})
        bring_source(Path(), copy)
        yield copy


def bring_source(project: Path, copy: Path) -> None:
    """Copies the folder of images that the parameters of a copy name: git ignores it, so a copy lacks it.

    Links into DVC's cache become files.
    """
    source = YAML(typ="safe").load(copy / PARAMS_FILE).get("data", {}).get("source", "")
    if source and (project / source).is_dir() and not (copy / source).exists():
        shutil.copytree(project / source, copy / source)


def cache_of(project: Path) -> str:
    """The folder of a project's DVC cache.

    Raises:
        StageError: If DVC cannot read its settings.
    """
    try:
        with Repo(str(project)) as repo:
            return str(repo.cache.local_cache_dir)
    except DvcException as error:
        raise StageError(f"DVC does not start here: {error}; see `dvc config --list --show-origin`") from error


def write_files(revision: Revision, folder: Path, *below: str) -> None:
    """Writes the files of a commit, or those below some paths, with the bytes that git holds.

    No git works there: neither hooks nor settings of the user have a hand in it.

    Raises:
        StageError: If a path of the commit leads out of the folder.
    """
    for name in revision.hashes(*(below or ["."])):
        path = folder / name
        if {"..", ".git"} & {*path.relative_to(folder).parts}:
            raise StageError(f"{revision.label} has a path that leads out of the project: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(revision.require(name))


def write_settings(copy: Path, **sections: Mapping[str, str]) -> None:
    """Writes the settings of DVC that hold in a copy only, by section and key.

    DVC reads text in UTF-8, but its own command writes ASCII only.
    """
    settings = ConfigObj(encoding="utf-8")
    settings.update(sections)
    settings.filename = str(copy / ".dvc/config.local")
    settings.write()
