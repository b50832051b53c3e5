"""Copies of the project in which the pipeline runs without touching the one at hand."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def working_copy() -> Iterator[Path]:
    """A temporary copy of the project as it stands, without data; it shares the DVC cache."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True
    ).stdout.decode()
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        copy = Path(folder)
        for name in filter(None, listed.split("\0")):
            if Path(name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, copy / name)
        for setting in (("cache.dir", str(Path(".dvc/cache").resolve())), ("core.no_scm", "true")):
            subprocess.run(["dvc", "config", "--local", *setting], cwd=copy, check=True)
        yield copy
