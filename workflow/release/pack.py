"""A pack: every output that DVC holds of one commit, as one file that proves itself against that commit's dvc.lock.

It is a gzipped tar: `manifest.json`, which names the outputs with their md5 and the objects with size and sha256, then
the objects, as DVC's cache names them. Equal outputs give equal bytes.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import StageError
from pipeline.files import sha256_file
from pipeline.progress import progress
from workflow.history.lock import DATA, outputs, stages_of
from workflow.history.revisions import Revision
from workflow.history.working_copy import cache_of

MANIFEST = "manifest.json"

#: Most bytes of a manifest; objects are bounded by what it says of them.
_LARGEST_MANIFEST = 2**20

#: Compression that takes seconds where the best takes minutes.
_LEVEL = 6

_CHUNK = 2**20

#: Name of an object in DVC's cache.
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")

#: Bytes of listings of folders, which dvc.lock does not count.
_LISTINGS = 2**20


@dataclass(frozen=True)
class Manifest:
    """What a pack holds.

    Attributes:
        version: Of the release.
        commit: Full id of the commit that it belongs to.
        outputs: md5 by path, as dvc.lock states them.
        objects: Size and sha256 by md5.
    """

    version: str
    commit: str
    outputs: Mapping[str, str]
    objects: Mapping[str, Mapping[str, Any]]

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(facts["size"] for facts in self.objects.values())


def held_outputs(revision: Revision) -> dict[str, str]:
    """md5 of each output of dvc.lock that DVC's cache holds, by path; those of git are in the commit."""
    return {path: md5 for path, md5 in outputs(revision).items() if path.startswith(DATA)}


def held_bytes(revision: Revision) -> int:
    """Bytes of those outputs."""
    outs = [out for stage in stages_of(revision).values() for out in stage.get("outs", [])]
    return sum(int(out.get("size", 0)) for out in outs if out["path"].startswith(DATA))


def cache_folder() -> Path:
    """Where DVC's cache of this project keeps its objects."""
    return Path(cache_of(Path())) / "files/md5"


def place(cache: Path, md5: str) -> Path:
    """Where a cache keeps an object."""
    return cache / md5[:2] / md5[2:]


def listed(listing: bytes) -> dict[str, str]:
    """md5 of each file of a folder by its path below it, from the object that lists them."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing)}


def objects(cache: Path, path: str, md5: str) -> dict[str, str]:
    """md5 of the objects of an output by path: its own, and of a folder's files where the cache proves its listing."""
    found = {path: md5}
    listing = place(cache, md5)
    if md5.endswith(".dir") and is_proven(listing, md5):
        found |= {f"{path}/{name}": of_file for name, of_file in listed(listing.read_bytes()).items()}
    return found


def is_proven(file: Path, md5: str) -> bool:
    """Whether a file is there and has the bytes that its md5 names."""
    return file.is_file() and md5_file(file) == md5.removesuffix(".dir")


def write_pack(path: Path, version: str, revision: Revision) -> Manifest:
    """Writes the pack of a commit from DVC's cache.

    Raises:
        StageError: If an object is missing from the cache, or is not what its name says.
    """
    cache, held = cache_folder(), held_outputs(revision)
    needed: dict[str, None] = {}
    for output, md5 in held.items():
        needed[md5] = None
        if md5.endswith(".dir"):
            needed |= dict.fromkeys(listed(_proven(place(cache, md5), output)).values())
    facts: dict[str, dict[str, Any]] = {}
    with progress("prove", len(needed), " files") as shown:
        for md5 in sorted(needed):
            _require_md5(place(cache, md5), md5)
            facts[md5] = {"size": place(cache, md5).stat().st_size, "sha256": sha256_file(place(cache, md5))}
            shown.advance()
    manifest = Manifest(version, revision.commit or "", held, facts)
    with (
        path.open("wb") as handle,
        gzip.GzipFile("", "wb", _LEVEL, handle, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        progress("pack", manifest.size, "B") as shown,
    ):
        text = json.dumps(asdict(manifest), indent=2, sort_keys=True).encode()
        archive.addfile(_entry(MANIFEST, len(text)), io.BytesIO(text))
        for md5, fact in facts.items():
            with place(cache, md5).open("rb") as content:
                archive.addfile(_entry(md5, fact["size"]), content)
            shown.advance(fact["size"])
    return manifest


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A member without time, owner and rights of its own."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def _proven(path: Path, output: str) -> bytes:
    if not path.is_file():
        raise StageError(f"{output} is not in DVC's cache ({path}); expected every output: run `dvc repro` first")
    return path.read_bytes()


def _require_md5(path: Path, md5: str) -> None:
    found = md5_file(path) if path.is_file() else "missing"
    if found != md5.removesuffix(".dir"):
        raise StageError(f"{path} has md5 {found}, expected {md5}; remove it and run `dvc repro`")


def md5_file(path: Path) -> str:
    """Hex md5 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def read_pack(source: IO[bytes], folder: Path, expected: Mapping[str, str], largest: int) -> Manifest:
    """Unpacks the objects of a pack that belongs to the commit at hand, each proven, into a folder.

    Args:
        source: The pack, read once from front to back.
        folder: Empty; gets each object under its md5.
        expected: md5 of each output that the pack has to hold, by path.
        largest: Bytes of all of them, as dvc.lock states them.

    Raises:
        StageError: If it is no pack, a pack of other outputs, or something in it is missing, added or altered; what
            is in the folder then is of no use.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            entries = iter(archive)
            manifest = _manifest(archive, next(entries, None))
            _require_outputs(manifest, expected)
            if manifest.size > largest + _LISTINGS:
                raise StageError(f"the pack states {manifest.size} bytes, dvc.lock {largest}; get it anew")
            with progress("pull", manifest.size, "B") as shown:
                for entry in entries:
                    _unpack(archive, entry, manifest, folder)
                    shown.advance(entry.size)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise StageError(f"the pack cannot be read to its end ({error}); get it anew") from error
    needed = set(_needed(manifest, folder))
    differing = sorted(needed ^ manifest.objects.keys() | {md5 for md5 in needed if not (folder / md5).is_file()})
    if differing:
        raise StageError(f"the pack lacks or adds {', '.join(differing)}, by what its outputs consist of; get it anew")
    return manifest


def _manifest(archive: tarfile.TarFile, entry: tarfile.TarInfo | None) -> Manifest:
    if entry is None or entry.name != MANIFEST or not entry.isreg() or entry.size > _LARGEST_MANIFEST:
        raise StageError(f"this is no pack of a release: it does not begin with {MANIFEST}")
    content = archive.extractfile(entry)
    assert content
    try:
        manifest = Manifest(**json.loads(content.read()))
        sizes = [int(facts["size"]) for facts in manifest.objects.values()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StageError(f"{MANIFEST} of the pack is not readable ({error!r}); get it anew") from error
    if min(sizes, default=0) < 0 or not all(_OBJECT.fullmatch(md5) for md5 in manifest.objects):
        raise StageError(f"{MANIFEST} of the pack names objects that DVC cannot have; get it anew")
    return manifest


def _require_outputs(manifest: Manifest, expected: Mapping[str, str]) -> None:
    every = sorted(expected.keys() | manifest.outputs.keys())
    differing = [path for path in every if expected.get(path) != manifest.outputs.get(path)]
    if differing:
        raise StageError(
            f"the pack is of version {manifest.version}, commit {manifest.commit[:9]}; of its outputs "
            f"{', '.join(differing)} differ from dvc.lock here. Expected the pack of this commit: "
            f"`git checkout v{manifest.version}` first, or `dvc repro`"
        )


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, manifest: Manifest, folder: Path) -> None:
    """Writes one object under its md5, proven; names of members are never paths."""
    facts = manifest.objects.get(entry.name)
    if facts is None or not entry.isreg() or entry.size != facts["size"]:
        raise StageError(f"the pack has a member {entry.name!r} of {entry.size} bytes that its manifest does not state")
    content = archive.extractfile(entry)
    assert content
    target = folder / Path(entry.name).name
    with target.open("wb") as handle:
        for chunk in _chunks(content):
            handle.write(chunk)
    if sha256_file(target) != facts["sha256"] or md5_file(target) != entry.name.removesuffix(".dir"):
        raise StageError(f"object {entry.name} of the pack is not the one that was packed; get the pack anew")


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK):
        yield chunk


def _needed(manifest: Manifest, folder: Path) -> Iterator[str]:
    """md5 of every object that the outputs consist of."""
    for md5 in manifest.outputs.values():
        yield md5
        if md5.endswith(".dir") and (folder / md5).is_file():
            yield from listed((folder / md5).read_bytes()).values()
