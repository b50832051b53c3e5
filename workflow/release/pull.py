"""`make pull FROM=path-or-url`: fills DVC's cache from the pack of a release, so that nobody has to train."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from pipeline.errors import StageError
from workflow.command import end
from workflow.history.revisions import WORKSPACE, resolve
from workflow.release.pack import cache_folder, place, read_pack

_TIMEOUT_SECONDS = 30

#: Rights that DVC gives the objects of its cache, which links must not change.
_READ_ONLY = 0o444


def main(arguments: Sequence[str]) -> int:
    """Puts the objects of a pack into the cache, all or none, each proven against dvc.lock, and checks them out.

    Raises:
        StageError: If the pack cannot be read, is of another commit, or is not as it was packed.
    """
    if len(arguments) != 1 or not arguments[0]:
        raise StageError("no source received; usage: make pull FROM=path-or-url")
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".pull.", dir=cache.parent) as folder:  # on the same disk, so that a rename moves
        with _opened(arguments[0]) as pack:
            manifest = read_pack(pack, Path(folder), resolve(WORKSPACE))
        for md5 in manifest.objects:
            unpacked, target = place(Path(folder), md5), place(cache, md5)
            target.parent.mkdir(exist_ok=True)
            unpacked.chmod(_READ_ONLY)
            os.replace(unpacked, target)
    if subprocess.run(["dvc", "checkout", "--quiet", *manifest.outputs], check=False).returncode:
        raise StageError("`dvc checkout` failed, its message stands above; the cache is filled: run it again")
    print(f"pull: version {manifest.version} is in place, {len(manifest.outputs)} outputs, as dvc.lock states them")
    return 0


def _opened(source: str) -> AbstractContextManager[IO[bytes]]:
    """The bytes of a file or of an address.

    Raises:
        StageError: If there is nothing to read.
    """
    try:
        if source.startswith(("http://", "https://", "file://")):
            return urllib.request.urlopen(source, timeout=_TIMEOUT_SECONDS)
        return Path(source).open("rb")
    except (OSError, ValueError) as error:
        raise StageError(
            f"FROM = {source!r} cannot be read ({error}); expected the path or the http(s) address of a pack that "
            f"`make release` wrote"
        ) from error


if __name__ == "__main__":
    end("pull", lambda: main(sys.argv[1:]))
