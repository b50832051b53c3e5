"""A pack: every output that DVC holds of one commit, as one file that proves itself against that commit's dvc.lock.

It is a gzipped tar: `manifest.json`, which names the outputs with their md5 and the objects with size and sha256, then
the objects, as DVC's cache names them. Equal outputs give equal bytes.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import IO, Annotated

from pydantic import Field, ValidationError

from pipeline.errors import StageError
from pipeline.files import sha256_file
from pipeline.params.section import Section
from pipeline.progress import progress
from workflow.history.lock import DATA, outputs, stages_of
from workflow.history.revisions import Revision
from workflow.history.working_copy import cache_of

MANIFEST = "manifest.json"

#: Most bytes of a manifest; objects are bounded by what it says of them.
_LARGEST_MANIFEST = 2**20

#: Compression that takes seconds where the best takes minutes.
_LEVEL = 6

#: Bytes of listings of folders, which dvc.lock does not count.
_LISTINGS = 2**20


class Packed(Section):
    """An object of a pack: its bytes, and their hex sha256."""

    size: Annotated[int, Field(ge=0)]
    sha256: str


class Manifest(Section):
    """What a pack holds."""

    version: str  # of the release
    commit: str  # full id of the commit that it belongs to
    outputs: dict[str, str]  # md5 by path, as dvc.lock states them
    objects: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")], Packed]  # by md5, as DVC's cache names them

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(packed.size for packed in self.objects.values())


def held_outputs(revision: Revision) -> dict[str, str]:
    """Maps each output that DVC's cache holds to its md5 in dvc.lock. Git holds the others."""
    return {path: md5 for path, md5 in outputs(revision).items() if path.startswith(DATA)}


def held_objects(revision: Revision, cache: Path) -> dict[str, str]:
    """Maps the path of each output, and of each file of one that is a folder, to its md5, as `objects` finds them."""
    return {
        name: of_file
        for path, md5 in held_outputs(revision).items()
        for name, of_file in objects(cache, path, md5).items()
    }


def cache_folder() -> Path:
    """Where DVC's cache of this project keeps its objects."""
    return Path(cache_of(Path())) / "files/md5"


def place(cache: Path, md5: str) -> Path:
    """Where a cache keeps an object."""
    return cache / md5[:2] / md5[2:]


def objects(cache: Path, path: str, md5: str) -> dict[str, str]:
    """Maps an output's path to its md5. If the cache proves a folder's listing, so are the paths of its files."""
    found = {path: md5}
    listing = place(cache, md5)
    if md5.endswith(".dir") and is_proven(listing, md5):
        found |= {f"{path}/{entry['relpath']}": entry["md5"] for entry in json.loads(listing.read_bytes())}
    return found


def is_proven(file: Path, md5: str) -> bool:
    """Whether a file is there and has the bytes that its md5 names."""
    return file.is_file() and md5_file(file) == md5.removesuffix(".dir")


def md5_file(path: Path) -> str:
    """Hex md5 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def write_pack(path: Path, version: str, revision: Revision) -> None:
    """Writes the pack of a commit from DVC's cache.

    Raises:
        StageError: If an object is missing from the cache, or is not what its name says.
    """
    cache = cache_folder()
    needed = {md5: output for output, md5 in held_objects(revision, cache).items()}
    packed: dict[str, Packed] = {}
    with progress("prove", len(needed), " files") as shown:
        for md5, output in sorted(needed.items()):
            packed[md5] = _proven(place(cache, md5), md5, output)
            shown.advance()
    manifest = Manifest(version=version, commit=revision.commit or "", outputs=held_outputs(revision), objects=packed)
    with (
        path.open("wb") as handle,
        gzip.GzipFile("", "wb", _LEVEL, handle, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        progress("pack", manifest.size, "B") as shown,
    ):
        text = json.dumps(manifest.model_dump(), indent=2, sort_keys=True).encode()
        archive.addfile(_entry(MANIFEST, len(text)), io.BytesIO(text))
        for md5, facts in packed.items():
            with place(cache, md5).open("rb") as content:
                archive.addfile(_entry(md5, facts.size), content)
            shown.advance(facts.size)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A member without time, owner and rights of its own."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def _proven(file: Path, md5: str, output: str) -> Packed:
    if not file.is_file():
        raise StageError(f"{output} is not in DVC's cache ({file}); expected every output: run `dvc repro` first")
    if not is_proven(file, md5):
        raise StageError(f"{file} has md5 {md5_file(file)}, expected {md5}; remove it and run `dvc repro`")
    return Packed(size=file.stat().st_size, sha256=sha256_file(file))


def read_pack(source: IO[bytes], folder: Path, revision: Revision) -> Manifest:
    """Unpacks the objects of a revision's pack, each proven, into a folder.

    Args:
        source: The pack, read once from front to back.
        folder: Empty; gets the objects where a cache keeps them.
        revision: The pack has to hold the outputs that its dvc.lock states.

    Raises:
        StageError: If it is no pack, a pack of other outputs, or something in it is missing, added or altered. The
            folder is of no use then.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            entries = iter(archive)
            manifest = _manifest(archive, next(entries, None))
            _require_outputs(manifest, revision)
            with progress("pull", manifest.size, "B") as shown:
                for entry in entries:
                    _unpack(archive, entry, manifest, folder)
                    shown.advance(entry.size)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise StageError(f"the pack cannot be read to its end ({error}); get it anew") from error
    needed = {of_file for path, md5 in manifest.outputs.items() for of_file in objects(folder, path, md5).values()}
    absent = {md5 for md5 in needed if not place(folder, md5).is_file()}
    if differing := sorted(needed ^ manifest.objects.keys() | absent):
        raise StageError(f"the pack lacks or adds {', '.join(differing)}, by what its outputs consist of; get it anew")
    return manifest


def _manifest(archive: tarfile.TarFile, entry: tarfile.TarInfo | None) -> Manifest:
    if entry is None or entry.name != MANIFEST or not entry.isreg() or entry.size > _LARGEST_MANIFEST:
        raise StageError(f"this is no pack of a release: it does not begin with {MANIFEST}")
    content = archive.extractfile(entry)
    assert content
    try:
        return Manifest.model_validate_json(content.read())
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise StageError(
            f"{MANIFEST} of the pack is not readable, or names objects that DVC cannot have ({why}); get it anew"
        ) from error


def _require_outputs(manifest: Manifest, revision: Revision) -> None:
    expected = held_outputs(revision)
    every = sorted(expected.keys() | manifest.outputs.keys())
    differing = [path for path in every if expected.get(path) != manifest.outputs.get(path)]
    if differing:
        raise StageError(
            f"the pack is of version {manifest.version}, commit {manifest.commit[:9]}; of its outputs "
            f"{', '.join(differing)} differ from dvc.lock here. Expected the pack of this commit: "
            f"`git checkout v{manifest.version}` first, or `dvc repro`"
        )
    outs = [out for stage in stages_of(revision).values() for out in stage.get("outs", [])]
    stated = sum(int(out.get("size", 0)) for out in outs if out["path"].startswith(DATA))
    if manifest.size > stated + _LISTINGS:
        raise StageError(f"the pack states {manifest.size} bytes, dvc.lock {stated}; get it anew")


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, manifest: Manifest, folder: Path) -> None:
    """Writes one object under its md5, proven; names of members are never paths."""
    facts = manifest.objects.get(entry.name)
    if facts is None or not entry.isreg() or entry.size != facts.size:
        raise StageError(f"the pack has a member {entry.name!r} of {entry.size} bytes that its manifest does not state")
    content = archive.extractfile(entry)
    assert content
    target = place(folder, entry.name)
    target.parent.mkdir(exist_ok=True)
    with target.open("wb") as handle:
        shutil.copyfileobj(content, handle)
    if sha256_file(target) != facts.sha256 or not is_proven(target, entry.name):
        raise StageError(f"object {entry.name} of the pack is not the one that was packed; get the pack anew")
