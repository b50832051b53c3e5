"""Fashion-MNIST from whichever source has it: local archives, the upstream host or Debian's package.

An archive is proven by the size and the sha256 that tfds registers before anything unpacks it, the
arrays by the sha256 of `vae.fashion_mnist`.
"""

import contextlib
import hashlib
import io
import os
import queue
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core.constants import get_default_data_dir
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError
from tensorflow_datasets.core.download.resource import get_dl_fname
from tensorflow_datasets.core.hashing import Hasher

from pipeline.errors import StageError
from vae import fashion_mnist

FOLDER_VARIABLE: Final = "FASHION_MNIST_ARCHIVES"
DEBIAN_PACKAGE: Final = "dataset-fashion-mnist"
DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")

#: tfds retries an absent host for 205 s: ask first, and wait no longer than this for all answers.
PROBE_SECONDS: Final = 5.0
#: Longest time for each command of apt and dpkg: 31 MB at 0.9 Mbit/s.
COMMAND_SECONDS: Final = 300.0

#: Modification time in upstream's gzip headers, by the beginning of the file name.
_HEADER_TIMES: Final = {"train": 1504176606, "t10k": 1504176627}
#: Length of a gzip header without a file name (RFC 1952, section 2.3).
_NAMELESS_HEADER_BYTES: Final = 10


class FetchError(StageError, RuntimeError):
    """Fashion-MNIST, or one source of it, cannot be had; the message says why."""


def read_fashion_mnist(scratch: Path, say: Callable[[str], None]) -> dict[str, NDArray[np.uint8]]:
    """Arrays of Fashion-MNIST in upstream order, proven by tfds's checksums and by ours.

    Args:
        scratch: Existing empty folder for all temporary files (200 MB); the caller deletes it.
        say: Takes a line for each source tried: why it does not serve, or that it does.

    Returns:
        train_images (60000, 28, 28), train_labels (60000,), test_images (10000, 28, 28) and
        test_labels (10000,), all uint8.

    Raises:
        FetchError: If no source serves, or an array is not the published one.
    """
    scratch = scratch.resolve()
    tfds.display_progress_bar(sys.stderr.isatty())
    builder = _prepare(_find_archives(scratch, say), scratch)
    arrays = {}
    for split in ("train", "test"):
        stored = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        arrays[f"{split}_images"] = undo_shuffle(stored["image"][..., 0], split)
        arrays[f"{split}_labels"] = undo_shuffle(stored["label"].astype(np.uint8), split)
    for name, array in arrays.items():
        _check_sha256(array.tobytes(), fashion_mnist.SHA256[name], f"array {name}")
    return arrays


def undo_shuffle(stored: NDArray[np.uint8], split: str) -> NDArray[np.uint8]:
    """Examples in upstream order: tfds stores them sorted by the hash of their upstream index.

    Args:
        stored: (examples, ...) uint8, in the order tfds stores.
        split: Name of the split, the hash's salt.

    Returns:
        (examples, ...) uint8.
    """
    upstream_indices = sorted(range(len(stored)), key=Hasher(split).hash_key)
    upstream = np.empty_like(stored)
    upstream[upstream_indices] = stored
    return upstream


def upstream_gzip_header(filename: str) -> bytes:
    """Gzip header of an upstream archive; Debian's has no name and another time (RFC 1952, section 2.3)."""
    seconds = struct.pack("<I", _HEADER_TIMES[filename.partition("-")[0]])
    # Magic, deflate, flag for a name; time; no extra flags, Unix; name.
    return b"\x1f\x8b\x08\x08" + seconds + b"\x00\x03" + filename.removesuffix(".gz").encode() + b"\x00"


def _find_archives(scratch: Path, say: Callable[[str], None]) -> Path:
    """Folder in scratch with the four proven archives of the first source that serves."""
    sources = {
        f"folder named by {FOLDER_VARIABLE}": _find_in_folder,
        "tfds's download cache": _find_in_cache,
        "upstream host": _download,
        f"Debian's {DEBIAN_PACKAGE}, installed": _find_installed,
        f"Debian's {DEBIAN_PACKAGE}, from apt-get": _download_by_apt,
    }
    failures = []
    for name, find in sources.items():
        try:
            archives = find(scratch)
        except FetchError as error:
            failures.append(f"{name}: {error}")
            say(failures[-1])
        else:
            say(f"{name}: serves")
            return archives
    raise FetchError(_describe_ways_out(failures))


def _describe_ways_out(failures: Sequence[str]) -> str:
    """Text of the error when nothing serves: each source with its failure, then what helps."""
    names = ", ".join(info.filename for info in _registered().values())
    hosts = ", ".join(sorted({urllib.parse.urlsplit(url).netloc for url in _registered()}))
    lines = [
        "no source of Fashion-MNIST serves. Tried:",
        *(f"  - {failure}" for failure in failures),
        "Any one of these helps:",
        f"  - put {names} in a folder and set {FOLDER_VARIABLE}=/path/of/that/folder",
        f"  - allow HTTP to {hosts} (http_proxy is respected)",
        f"  - on Debian or Ubuntu, as root: apt-get install {DEBIAN_PACKAGE}",
    ]
    return "\n".join(lines)


def _prepare(archives: Path, scratch: Path) -> tfds.core.DatasetBuilder:
    """Builder of tfds, its data set prepared in scratch out of the archives, which it checks as well."""
    config = tfds.download.DownloadConfig(
        manual_dir=archives,
        try_download_gcs=False,
        force_checksums_validation=True,
        num_shards=1,
    )
    try:
        with _temporary_files_in(scratch), contextlib.redirect_stdout(io.StringIO()):
            builder = tfds.builder_cls("fashion_mnist")(data_dir=tempfile.mkdtemp())
            builder.download_and_prepare(download_config=config)
    except (RuntimeError, ExtractError, tf.errors.OpError) as error:  # tfds's guises of a full disk
        raise FetchError(f"tfds cannot prepare the data set: {_one_line(str(error))}") from error
    return builder


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Context in which `tempfile` uses the folder: each builder of tfds leaves a directory behind."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _registered() -> dict[str, UrlInfo]:
    """Size, sha256 and file name of the four upstream archives, by URL, as tfds registers them."""
    url_infos: dict[str, UrlInfo] = tfds.builder_cls("fashion_mnist").url_infos
    return url_infos


# Sources. Each gives a folder in scratch with proven copies of the four archives, or raises FetchError. They ask
# `os.path`, because `Path.exists` and `Path.expanduser` raise where this user may not look, or has no home.


def _find_in_folder(scratch: Path) -> Path:
    """Archives of the folder that the environment variable names."""
    value = os.environ.get(FOLDER_VARIABLE)
    if not value:
        raise FetchError("not set")
    folder = Path(os.path.expanduser(value))
    if not os.path.isdir(folder):
        raise FetchError(f"{folder} is not a readable folder")
    return _copy_proven(_in_folder(folder), scratch)


def _find_in_cache(scratch: Path) -> Path:
    """Archives that tfds has downloaded before, or that were laid into its manual folder."""
    downloads = Path(os.path.expanduser(get_default_data_dir()), "downloads")
    paths = {}
    for url, info in _registered().items():
        # tfds wants an `.INFO` file beside each; the sha256 says more than that file can.
        names = (get_dl_fname(url, info.checksum), get_dl_fname(url))
        candidates = [downloads / folder / name for name in names for folder in ("fashion_mnist", "")]
        candidates.append(downloads / "manual" / info.filename)
        present = [path for path in candidates if os.path.exists(path)]
        if not present:
            raise FetchError(f"no {info.filename} in {downloads}")
        paths[url] = present[0]
    return _copy_proven(paths, scratch)


def _download(scratch: Path) -> Path:
    """Archives that tfds downloads from the upstream host, which was asked before whether it offers them."""
    _probe_upstream()
    manager = tfds.download.DownloadManager(
        download_dir=tempfile.mkdtemp(dir=scratch), url_infos=_registered(), force_checksums_validation=True
    )
    try:
        paths = manager.download({url: url for url in _registered()})
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise FetchError(_one_line(str(error))) from error
    return _copy_proven({url: Path(path) for url, path in paths.items()}, scratch)


def _probe_upstream() -> None:
    """Refuses an upstream host that does not offer each archive within seconds."""
    refusals: queue.SimpleQueue[str] = queue.SimpleQueue()
    for url, info in _registered().items():
        # Daemons: a name server or a host that never answers must not hold up the exit either.
        probe = threading.Thread(target=_put_refusal, args=(url, int(info.size), refusals), daemon=True)
        probe.start()
    deadline = time.monotonic() + PROBE_SECONDS
    for _ in _registered():
        try:
            refusal = refusals.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise FetchError(f"no answer within {PROBE_SECONDS:g} s") from None
        if refusal:
            raise FetchError(refusal)


def _put_refusal(url: str, size: int, refusals: queue.SimpleQueue[str]) -> None:
    """Puts why a host does not offer an archive, or an empty text when it does."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as response:
            status, length = response.status, response.headers.get("Content-Length", str(size))
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a malformed proxy.
        refusals.put(f"{url}: {_one_line(str(error).strip('<>'))}")
    else:
        good = status == HTTPStatus.OK and length == str(size)
        refusals.put("" if good else f"{url} answers {status} with {length} bytes, expected {size}")


def _find_installed(scratch: Path) -> Path:
    """Archives of Debian's package where it is installed."""
    return _copy_proven(_in_folder(DEBIAN_FOLDER), scratch, nameless=True)


def _download_by_apt(scratch: Path) -> Path:
    """Archives of Debian's package, downloaded and unpacked without root; apt checks its signature."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FetchError("apt-get and dpkg-deb are not on this machine")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    own_folders = [f"-oDir::State::Lists={folder / 'lists'}", f"-oDir::Cache={folder / 'cache'}"]
    options = [*own_folders, "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", "-oAcquire::Retries=1"]
    _run(["apt-get", "update", *options], folder)
    _run(["apt-get", "download", DEBIAN_PACKAGE, *options], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", package.name, "tree"], folder)
    unpacked = folder / "tree" / DEBIAN_FOLDER.relative_to("/")
    return _copy_proven(_in_folder(unpacked), scratch, nameless=True)


def _run(command: Sequence[str], folder: Path) -> None:
    """Runs a command in the folder; a failure quotes the log there of all commands so far."""
    log = folder / "log"  # Of all, because `apt-get update` ends with status 0 when it reaches no host.
    title = " ".join(command[:2])
    try:
        with log.open("ab") as errors:
            status = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,  # A pipe would wait for the children of a command that is killed.
                timeout=COMMAND_SECONDS,
                check=False,
            ).returncode
    except subprocess.TimeoutExpired:
        raise FetchError(f"{title} took more than {COMMAND_SECONDS:g} s") from None
    if status:
        lines = log.read_text(errors="replace").splitlines()
        said = "; ".join(dict.fromkeys(lines[:1] + lines[-1:]))
        raise FetchError(f"{title} ended with status {status}: {_one_line(said)}")


def _in_folder(folder: Path) -> dict[str, Path]:
    """Paths of the archives by URL, in a folder where they bear their upstream names."""
    return {url: folder / info.filename for url, info in _registered().items()}


def _copy_proven(paths: Mapping[str, Path], scratch: Path, *, nameless: bool = False) -> Path:
    """New folder in scratch with the archives under their upstream names, each of them proven."""
    copies = Path(tempfile.mkdtemp(dir=scratch))
    for url, info in _registered().items():
        (copies / info.filename).write_bytes(_read_proven(paths[url], info, nameless=nameless))
    return copies


def _read_proven(path: Path, info: UrlInfo, *, nameless: bool) -> bytes:
    """Upstream's bytes of an archive; a file of another size is not read, and none is unpacked.

    Args:
        path: The file.
        info: What tfds registers for the archive.
        nameless: Whether the file is Debian's, which has another gzip header.

    Raises:
        FetchError: If the file is missing, unreadable or not the registered one.
    """
    header, replaced, note = b"", 0, ""
    if nameless:
        header, replaced = upstream_gzip_header(info.filename), _NAMELESS_HEADER_BYTES
        note = " with upstream's gzip header"
    size = int(info.size) - len(header) + replaced
    try:
        if (found := path.stat().st_size) != size:
            raise FetchError(f"{path}: expected {size} bytes, found {found}")
        with path.open("rb") as file:
            content = header + file.read(size)[replaced:]
    except OSError as error:
        raise FetchError(f"{path}: {error.strerror}") from error
    _check_sha256(content, info.checksum, f"{path}{note}")
    return content


def _check_sha256(content: bytes, expected: str, name: str) -> None:
    """Refuses bytes with another sha256, by name."""
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise FetchError(f"{name}: expected sha256 {expected}, found {found}")


def _one_line(text: str) -> str:
    """Text with each run of white space, newlines too, as one space."""
    return " ".join(text.split())
