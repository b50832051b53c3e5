"""Copies of the project in which the pipeline runs without touching the one at hand."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from configobj import ConfigObj
from dvc.repo import Repo

from workflow.revisions import files


@contextmanager
def working_copy() -> Iterator[Path]:
    """A temporary copy of the project as it stands, without data; it shares the DVC cache."""
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        copy = Path(folder)
        for name in files(Path()):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, copy / name)
        write_settings(copy, cache={"dir": cache_of(Path())}, core={"no_scm": "true"})
        yield copy


def cache_of(project: Path) -> str:
    """The folder of a project's DVC cache."""
    with Repo(str(project)) as repo:
        return str(repo.cache.local_cache_dir)


def write_settings(copy: Path, **sections: Mapping[str, str]) -> None:
    """Writes the settings of DVC that hold in a copy only, by section and key.

    DVC reads text in UTF-8, but its own command writes ASCII only.
    """
    settings = ConfigObj(encoding="utf-8")
    settings.update(sections)
    settings.filename = str(copy / ".dvc/config.local")
    settings.write()
