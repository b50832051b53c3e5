"""Data sets of the MNIST family from whichever source has them: local archives, the upstream host, Debian's package.

An archive is proven by the size and the sha256 that tfds registers before anything unpacks it.
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
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Final

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core.constants import get_default_data_dir
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.extractor import ExtractError
from tensorflow_datasets.core.download.resource import get_dl_fname
from tensorflow_datasets.core.hashing import Hasher

from pipeline.errors import StageError

#: The data set that Debian packs.
DEBIAN_NAME: Final = "fashion_mnist"
DEBIAN_PACKAGE: Final = "dataset-fashion-mnist"
DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")

#: Longest wait for a host to answer: tfds itself would retry an absent one for 205 s.
ANSWER_SECONDS: Final = 5.0
#: Longest time for an archive, and for each command of apt and dpkg; more for an archive of more than 30 MB.
TRANSFER_SECONDS: Final = 300.0
SLOWEST_BYTES_PER_SECOND: Final = 100_000

#: Modification time in upstream's gzip headers, by the beginning of the file name.
_HEADER_TIMES: Final = {"train": 1504176606, "t10k": 1504176627}


class FetchError(StageError, RuntimeError):
    """A data set, or one source of it, cannot be had; the message says why."""


def read_archives(
    name: str, scratch: Path, say: Callable[[str], None], config: str | None = None
) -> dict[str, NDArray[np.uint8]]:
    """Arrays of a data set of tfds's MNIST family in upstream order, proven by tfds's checksums.

    Args:
        name: Of the data set in tfds.
        scratch: Existing empty folder for all temporary files (200 MB, of EMNIST 2 GB); the caller deletes it.
        say: Takes a line for each source tried: why it does not serve, or that it does.
        config: One of tfds's configurations of the data set, if it has some.

    Returns:
        train_images (count, 28, 28), train_labels (count,), test_images and test_labels, all uint8.

    Raises:
        FetchError: If no source serves.
    """
    scratch = scratch.resolve()
    builder = _prepare(name, config, _find_archives(name, scratch, say), scratch)
    arrays = {}
    for split in ("train", "test"):
        stored = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        # tfds sorts examples by a hash of their place upstream, salted with the split's name.
        places = sorted(range(len(stored["label"])), key=Hasher(split).hash_key)
        order = np.argsort(places)
        arrays[f"{split}_images"] = stored["image"][..., 0][order]
        arrays[f"{split}_labels"] = stored["label"][order].astype(np.uint8)
    return arrays


def _find_archives(name: str, scratch: Path, say: Callable[[str], None]) -> dict[str, bytes]:
    """The proven archives of the first source that serves, by file name."""
    variable = f"{name.upper()}_ARCHIVES"
    sources = {
        f"folder named by {variable}": lambda: _in_folder(name, os.environ.get(variable)),
        "tfds's download cache": lambda: _in_folder(name, Path(get_default_data_dir(), "downloads")),
        "upstream host": lambda: _download(name),
    }
    if name == DEBIAN_NAME:
        sources |= {
            f"Debian's {DEBIAN_PACKAGE}, installed": lambda: _in_folder(name, DEBIAN_FOLDER),
            f"Debian's {DEBIAN_PACKAGE}, from apt-get": lambda: _download_by_apt(scratch / "apt"),
        }
    failures = []
    for source, find in sources.items():
        try:
            archives = find()
        except FetchError as error:
            failures.append(f"{source}: {error}")
            say(failures[-1])
        else:
            say(f"{source}: serves")
            return archives
    names = ", ".join(info.filename for info in _registered(name).values())
    hosts = ", ".join(sorted({urllib.parse.urlsplit(url).netloc for url in _registered(name)}))
    lines = [
        f"no source of {name} serves. Tried:",
        *(f"  - {failure}" for failure in failures),
        "Any one of these helps:",
        f"  - put {names} in a folder and set {variable}=/path/of/that/folder",
        f"  - allow HTTP to {hosts} (http_proxy is respected)",
    ]
    if name == DEBIAN_NAME:
        lines.append(f"  - on Debian or Ubuntu, as root: apt-get install {DEBIAN_PACKAGE}")
    raise FetchError("\n".join(lines))


def _prepare(name: str, config: str | None, archives: Mapping[str, bytes], scratch: Path) -> tfds.core.DatasetBuilder:
    """Has tfds check the archives, too, and prepare its data set from them in scratch. Returns its builder."""
    folder = scratch / "archives"
    folder.mkdir()
    for file, content in archives.items():
        (folder / file).write_bytes(content)
    download = tfds.download.DownloadConfig(
        manual_dir=folder,
        try_download_gcs=False,
        force_checksums_validation=True,
        num_shards=1,
    )
    tfds.display_progress_bar(sys.stderr.isatty())
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)  # each builder of tfds leaves a folder behind
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder = tfds.builder_cls(name)(config=config, data_dir=scratch / "prepared")
            builder.download_and_prepare(download_config=download)
    except (RuntimeError, ExtractError, tf.errors.OpError) as error:  # tfds's guises of a full disk
        raise FetchError(f"tfds cannot prepare {name}: {_one_line(str(error))}") from error
    finally:
        tempfile.tempdir = before
    return builder


def _registered(name: str) -> dict[str, UrlInfo]:
    """Size, sha256 and file name of the upstream archives, by URL, as tfds registers them."""
    url_infos: dict[str, UrlInfo] = tfds.builder_cls(name).url_infos
    return url_infos


# Sources. Each gives the proven archives by file name, or raises FetchError. They ask `os.path`, because
# `Path.is_file` and `Path.expanduser` raise where this user may not look, or has no home.


def _in_folder(name: str, folder: str | Path | None) -> dict[str, bytes]:
    """Archives of a folder, under their upstream names or as tfds keeps them in its cache."""
    if not folder:
        raise FetchError("not set")
    folder = Path(os.path.expanduser(folder))
    archives = {}
    for url, info in _registered(name).items():
        # tfds asks for an `.INFO` file beside what it has downloaded; the sha256 proves more than that file.
        cached = get_dl_fname(url, info.checksum)
        places = (info.filename, f"manual/{info.filename}", f"{name}/{cached}", cached)
        present = [folder / place for place in places if os.path.isfile(folder / place)]
        if not present:
            raise FetchError(f"no {info.filename} in {folder}")
        archives[info.filename] = _read(present[0], info)
    return archives


def _download(name: str) -> dict[str, bytes]:
    """Archives from the upstream host, which has to answer within seconds."""
    received: queue.SimpleQueue[bytes | FetchError] = queue.SimpleQueue()
    # A daemon: a name server or a host that never answers must not hold up the exit either.
    threading.Thread(target=_receive, args=(name, received), daemon=True).start()
    archives = {}
    for url, info in _registered(name).items():
        transfer_seconds = max(TRANSFER_SECONDS, int(info.size) / SLOWEST_BYTES_PER_SECOND)
        for what, seconds in (("answer", ANSWER_SECONDS), ("end", transfer_seconds)):
            try:
                content = received.get(timeout=seconds)
            except queue.Empty:
                raise FetchError(f"{url}: no {what} within {seconds:g} s") from None
            if isinstance(content, FetchError):
                raise content
            archives[info.filename] = content
    return archives


def _receive(name: str, received: "queue.SimpleQueue[bytes | FetchError]") -> None:
    """Downloads each archive: puts empty bytes once the host answers, then the proven bytes. Ends with an error put."""
    for url, info in _registered(name).items():
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
                received.put(b"")
                received.put(_proven(response, info, url))
        except FetchError as error:
            return received.put(error)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a malformed proxy
            return received.put(FetchError(f"{url}: {_one_line(str(error).strip('<>'))}"))
    return None


def _download_by_apt(folder: Path) -> dict[str, bytes]:
    """Archives of Debian's package, downloaded and unpacked without root; apt checks its signature."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FetchError("apt-get and dpkg-deb are not on this machine")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    own_folders = [f"-oDir::State::Lists={folder / 'lists'}", f"-oDir::Cache={folder / 'cache'}"]
    options = [*own_folders, "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", "-oAcquire::Retries=1"]
    _run(["apt-get", "update", *options], folder)
    _run(["apt-get", "download", DEBIAN_PACKAGE, *options], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", package.name, "tree"], folder)
    return _in_folder(DEBIAN_NAME, folder / "tree" / DEBIAN_FOLDER.relative_to("/"))


def _run(command: Sequence[str], folder: Path) -> None:
    """Runs a command in the folder; a failure quotes the log there of all commands so far."""
    log = folder / "log"  # of all, because `apt-get update` ends with status 0 when it reaches no host
    title = " ".join(command[:2])
    try:
        with log.open("ab") as errors:
            status = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,  # a pipe would wait for the children of a command that is killed
                timeout=TRANSFER_SECONDS,
                check=False,
            ).returncode
    except subprocess.TimeoutExpired:
        raise FetchError(f"{title} took more than {TRANSFER_SECONDS:g} s") from None
    if status:
        lines = log.read_text(errors="replace").splitlines()
        said = "; ".join(dict.fromkeys(lines[:1] + lines[-1:]))
        raise FetchError(f"{title} ended with status {status}: {_one_line(said)}")


def _read(path: Path, info: UrlInfo) -> bytes:
    """Upstream's bytes of an archive from a file.

    Raises:
        FetchError: If the file is unreadable or not the registered one.
    """
    try:
        with path.open("rb") as file:
            return _proven(file, info, str(path))
    except OSError as error:
        raise FetchError(f"{path}: {error.strerror}") from error


def _proven(file: IO[bytes], info: UrlInfo, name: str) -> bytes:
    """Upstream's bytes of an archive. Reads at most one byte more than tfds registers, and unpacks nothing.

    Debian strips name and time from the gzip header: they are put back (RFC 1952, section 2.3) where that gives the
    registered sha256.

    Raises:
        FetchError: If the sha256 is another one.
    """
    size = int(info.size)
    content = file.read(size + 1)
    seconds = struct.pack("<I", _HEADER_TIMES.get(info.filename.partition("-")[0], 0))
    # Magic, deflate, flag for a name; time; no extra flags, Unix; name.
    header = b"\x1f\x8b\x08\x08" + seconds + b"\x00\x03" + info.filename.removesuffix(".gz").encode() + b"\x00"
    found = hashlib.sha256(content).hexdigest()
    if found == info.checksum:
        return content
    mended = header + content[10:]
    if hashlib.sha256(mended).hexdigest() == info.checksum:
        return mended
    what = f"{len(content)} with sha256 {found}" if len(content) <= size else "more"
    raise FetchError(f"{name}: expected {size} bytes with sha256 {info.checksum}, found {what}")


def _one_line(text: str) -> str:
    """Text with each run of white space, newlines too, as one space."""
    return " ".join(text.split())
