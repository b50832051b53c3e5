"""The sources of Fashion-MNIST, with a tiny data set in upstream's formats and no network but the loopback."""

import gzip
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.extractor import ExtractError
from tensorflow_datasets.image_classification import mnist

from pipeline import archives
from vae import fashion_mnist

COUNTS = {"train": 23, "test": 7}
FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
MINUTE = datetime(2017, 8, 31, 10, 50, tzinfo=UTC).timestamp()
TIMES = {"train": MINUTE + 6, "test": MINUTE + 27}
SOURCES = [
    "folder named by FASHION_MNIST_ARCHIVES",
    "tfds's download cache",
    "upstream host",
    "Debian's dataset-fashion-mnist, installed",
    "Debian's dataset-fashion-mnist, from apt-get",
]


def gzipped(content: bytes, name: str, seconds: float) -> bytes:
    """Archive as the `gzip` program on Unix writes it, by Python's gzip module."""
    buffer = io.BytesIO()
    with gzip.GzipFile(name, "wb", compresslevel=6, fileobj=buffer, mtime=seconds) as file:
        file.write(content)
    archive = bytearray(buffer.getvalue())
    archive[9] = 3  # operating system: Python says unknown, the program Unix
    return bytes(archive)


def as_idx(array: NDArray[np.uint8]) -> bytes:
    """File in upstream's format: magic number, sizes, bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_all(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def arrays() -> dict[str, NDArray[np.uint8]]:
    """The tiny data set, in upstream order."""
    random = np.random.default_rng(7)
    return {
        f"{split}_{kind}": random.integers(0, 10 if kind == "labels" else 256, shape, dtype=np.uint8)
        for split, count in COUNTS.items()
        for kind, shape in (("images", (count, 28, 28)), ("labels", (count,)))
    }


@pytest.fixture
def upstream(arrays: dict[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    """Its four archives by file name, as upstream has them."""
    return {
        FILES[name]: gzipped(as_idx(array), FILES[name].removesuffix(".gz"), TIMES[name[:-7]])
        for name, array in arrays.items()
    }


@pytest.fixture
def debian(arrays: dict[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    """The same as Debian packs them: without a name, with the time of its own build."""
    return {FILES[name]: gzipped(as_idx(array), "", 1591347949) for name, array in arrays.items()}


class Host(ThreadingHTTPServer):
    """Upstream host on the loopback; serves what a test puts into `contents` and records what it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.requests.append(f"{self.command} {name}")
        content = self.server.contents.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if content and self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows the requests that matter."""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def register(monkeypatch: pytest.MonkeyPatch, url: str, upstream: dict[str, bytes]) -> None:
    """Lets tfds take the tiny archives for the real ones, and `url` for the upstream host."""
    infos = {
        url + name: UrlInfo(tfds.core.utils.Size(len(content)), hashlib.sha256(content).hexdigest(), name)
        for name, content in upstream.items()
    }
    monkeypatch.setattr(mnist.FashionMNIST, "URL", url)
    monkeypatch.setattr(mnist.FashionMNIST, "url_infos", infos)
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", COUNTS["train"])
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", COUNTS["test"])


@pytest.fixture(autouse=True)
def bare_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: Host,
    upstream: dict[str, bytes],
    arrays: dict[str, NDArray[np.uint8]],
) -> Path:
    """Machine on which no source serves; the folder holds all that a stray file could land in."""
    machine = tmp_path / "bare machine"
    for name in ("home", "temporary", "work", "programs"):
        (machine / name).mkdir(parents=True)
    for name, value in (("HOME", machine / "home"), ("PATH", machine / "programs"), ("no_proxy", "*")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    monkeypatch.delenv("FASHION_MNIST_ARCHIVES", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.chdir(machine / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(machine / "temporary"))
    monkeypatch.setattr(archives, "DEBIAN_FOLDER", machine / "usr/share/datasets/fashion-mnist")
    sha256 = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", sha256)
    register(monkeypatch, host.url, upstream)
    return machine


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch of a test"
    folder.mkdir()
    return folder


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def read_expecting(scratch: Path, serving: int, arrays: dict[str, NDArray[np.uint8]]) -> list[str]:
    """What was said, after checking the arrays, and that the sources before the serving one failed in order."""
    said: list[str] = []
    got = archives.read_fashion_mnist(scratch, said.append)
    assert [line.partition(": ")[0] for line in said] == SOURCES[: serving + 1]
    assert said[-1] == f"{SOURCES[serving]}: serves"
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == np.uint8
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    return said


def read_failing(scratch: Path) -> list[str]:
    """Reasons of the five sources, after checking that the error lists each, as said; tfds must not run."""
    said: list[str] = []
    given = mock.patch.object(archives, "_prepare", side_effect=AssertionError("tfds was given archives"))
    with given, pytest.raises(archives.FetchError) as caught:
        archives.read_fashion_mnist(scratch, said.append)
    assert str(caught.value).splitlines()[1:6] == [f"  - {line}" for line in said]
    assert [line.partition(": ")[0] for line in said] == SOURCES
    return [line.partition(": ")[2] for line in said]


# A source that serves.


@pytest.mark.parametrize("value", ["{machine}/home/my archives", "~/my archives"])
def test_folder_serves_without_network_and_leaves_nothing_outside_scratch(
    bare_machine, scratch, host, upstream, arrays, monkeypatch, capfd, value
):
    folder = write_all(bare_machine / "home/my archives", upstream)
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", value.format(machine=bare_machine))
    read_expecting(scratch, 0, arrays)
    assert host.requests == []
    assert {*bare_machine.rglob("*/*")} == {folder, *(folder / name for name in upstream)}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == upstream
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("place", ["fashion_mnist", None, "manual"], ids=["per data set", "legacy", "by hand"])
@pytest.mark.parametrize("variable", [True, False], ids=["TFDS_DATA_DIR", "home"])
def test_cache_of_tfds_serves(bare_machine, scratch, host, upstream, arrays, monkeypatch, place, variable):
    data_dir = bare_machine / ("elsewhere" if variable else "home/tensorflow_datasets")
    if variable:
        monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    if place == "manual":
        write_all(data_dir / "downloads/manual", upstream)
    else:
        host.contents = upstream
        manager = tfds.download.DownloadManager(
            download_dir=data_dir / "downloads", dataset_name=place, url_infos=mnist.FashionMNIST.url_infos
        )
        manager.download([host.url + name for name in upstream])
    host.contents, host.requests = {}, []
    before = files_in(bare_machine)
    read_expecting(scratch, 1, arrays)
    assert host.requests == []
    assert files_in(bare_machine) == before


def test_a_bad_source_is_said_and_upstream_serves_through_tfds_after_a_probe(
    scratch, tmp_path, bare_machine, host, upstream, arrays, monkeypatch
):
    name = FILES["test_labels"]
    bad = write_all(tmp_path / "bad", upstream | {name: b"short"})
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(bad))
    host.contents = upstream
    said = read_expecting(scratch, 2, arrays)
    assert said[0] == f"{SOURCES[0]}: {bad / name}: expected {len(upstream[name])} bytes, found 5"
    assert sorted(host.requests[:4]) == sorted(f"HEAD {name}" for name in upstream)
    assert sorted(host.requests[4:]) == sorted(f"GET {name}" for name in upstream)
    assert files_in(bare_machine) == set()


def test_installed_debian_package_serves(scratch, debian, upstream, arrays):
    assert debian != upstream
    write_all(archives.DEBIAN_FOLDER, debian)
    read_expecting(scratch, 3, arrays)


# Order, and archives that must not be used.


@pytest.mark.parametrize("split", ["train", "test"])
def test_shuffle_is_undone(split):
    def rank(index: int) -> str:
        return hashlib.md5(f"{split}{index}".encode()).hexdigest()

    stored = sorted(range(200), key=rank)
    assert stored != list(range(200))
    np.testing.assert_array_equal(archives.undo_shuffle(np.array(stored, np.uint8), split), np.arange(200))


@pytest.fixture
def folder(tmp_path: Path, upstream: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four good archives in the folder that the variable names, for a test to spoil."""
    path = write_all(tmp_path / "archives", upstream)
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(path))
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 9, 500, -1])
def test_flipped_archive_is_named(folder, scratch, upstream, name, position):
    path = folder / FILES[name]
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1
    path.write_bytes(content)
    expected, found = (hashlib.sha256(c).hexdigest() for c in (upstream[path.name], content))
    assert read_failing(scratch)[0] == f"{path}: expected sha256 {expected}, found {found}"
    assert not any(file.name == path.name for file in files_in(scratch))


@pytest.mark.parametrize("length", [0, 1, -1, 1 << 42])
def test_archive_of_another_size_is_named_and_not_read(folder, scratch, upstream, length):
    path = folder / FILES["train_images"]
    expected = len(upstream[path.name])
    found = length if length >= 0 else expected + length
    os.truncate(path, found)  # sparse where it is large: reading it would need 4 TiB of memory
    assert read_failing(scratch)[0] == f"{path}: expected {expected} bytes, found {found}"


def test_what_is_no_archive_or_no_folder_is_named(folder, scratch, monkeypatch):
    path = folder / FILES["test_images"]
    path.unlink()
    assert read_failing(scratch)[0] == f"{path}: No such file or directory"
    os.mkfifo(path)  # opening it would wait for a writer
    assert read_failing(scratch)[0].endswith("bytes, found 0")
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", "/no/such/folder")
    assert read_failing(scratch)[0] == "/no/such/folder is not a readable folder"


def test_flipped_archive_of_debian_is_named(scratch, debian, upstream):
    name = FILES["train_images"]
    content = bytearray(debian[name])
    content[700] ^= 16
    write_all(archives.DEBIAN_FOLDER, debian | {name: bytes(content)})
    reason = read_failing(scratch)[3]
    expected = hashlib.sha256(upstream[name]).hexdigest()
    assert reason.startswith(f"{archives.DEBIAN_FOLDER / name} with upstream's gzip header: expected sha256 {expected}")


def test_bad_array_is_named(scratch, folder, monkeypatch):
    found = fashion_mnist.SHA256["test_images"]
    monkeypatch.setitem(fashion_mnist.SHA256, "test_images", "0" * 64)
    with pytest.raises(archives.FetchError, match=f"array test_images: expected sha256 0{{64}}, found {found}"):
        archives.read_fashion_mnist(scratch, print)


@pytest.mark.parametrize("guise", [ExtractError, RuntimeError, partial(tf.errors.ResourceExhaustedError, None, None)])
def test_full_disk_while_tfds_works_is_no_reason_to_try_other_sources(scratch, folder, monkeypatch, guise):
    def fill_disk(*_: object, **__: object) -> None:
        raise guise("No space left on device")

    monkeypatch.setattr(mnist.FashionMNIST, "_split_generators", fill_disk)
    said: list[str] = []
    with pytest.raises(archives.FetchError, match="tfds cannot prepare the data set: No space left on device"):
        archives.read_fashion_mnist(scratch, said.append)
    assert said == [f"{SOURCES[0]}: serves"]


# The upstream host.


@pytest.mark.parametrize(
    ("length", "reason", "asked"),
    [
        (None, "{url}: HTTP Error 404: Not Found", {"HEAD"}),
        (19, "{url} answers 200 with 19 bytes, expected {size}", {"HEAD"}),
        (0, "Artifact {url}, .*{sha256}.*", {"HEAD", "GET"}),
    ],
    ids=["it lacks one", "a login page", "as many other bytes"],
)
def test_host_that_has_another_archive_is_refused(scratch, host, upstream, length, reason, asked):
    name = FILES["test_labels"]
    content = upstream[name]
    host.contents = {**upstream, name: bytes(length or len(content))}
    if length is None:
        del host.contents[name]
    facts = {"url": host.url + name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert re.fullmatch(reason.format(**facts), read_failing(scratch)[2])
    assert {request.split()[0] for request in host.requests} == asked


def test_host_that_never_answers_is_left_soon(scratch, monkeypatch):
    """Whatever holds it up: a name server, or one byte at a time, for which no time-out of a socket ever comes."""
    left = threading.Event()

    def hold_up(*_: object, **__: object) -> None:
        left.wait()
        raise OSError

    monkeypatch.setattr(urllib.request, "urlopen", hold_up)
    monkeypatch.setattr(archives, "PROBE_SECONDS", 0.2)
    assert read_failing(scratch)[2] == "no answer within 0.2 s"
    left.set()


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("http://127.0.0.1:no-port", "nonnumeric port: 'no-port'"),
        ("http:/no-authority", "proxy URL with no authority: 'http:/no-authority'"),
        ("nonsense://127.0.0.1", "urlopen error unknown url type: nonsense"),
    ],
)
def test_malformed_proxy_is_a_reason_not_a_crash(scratch, host, monkeypatch, proxy, reason):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", proxy)
    assert read_failing(scratch)[2].endswith(f".gz: {reason}")
    assert host.requests == []


def test_upstream_is_reached_through_a_proxy(scratch, host, upstream, arrays, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", host.url)
    register(monkeypatch, "http://upstream.invalid/", upstream)
    host.contents = {f"http://upstream.invalid/{name}": content for name, content in upstream.items()}
    read_expecting(scratch, 2, arrays)


# apt.


def install_program(machine: Path, name: str, *lines: str) -> None:
    """Puts a program on the PATH that records its arguments, folder and locale, then runs the lines."""
    record = machine / "calls"
    program = machine / "programs" / name
    head = [
        f"#!{sys.executable}",
        "import json, os, pathlib, shutil, signal, sys",
        "call = [os.environ['LC_ALL'], os.environ['TMPDIR'], os.getcwd()]",
        "call += [os.path.basename(sys.argv[0]), *sys.argv[1:]]",
        f"with open({str(record)!r}, 'a') as calls: print(json.dumps(call), file=calls)",
    ]
    program.write_text("\n".join([*head, *lines]) + "\n")
    program.chmod(0o755)


@pytest.fixture
def apt(bare_machine: Path, debian: dict[str, bytes]) -> Path:
    """apt-get and dpkg-deb that behave like the real ones; gives the file of their calls."""
    shelf = write_all(bare_machine / "shelf", debian)
    install_program(
        bare_machine,
        "apt-get",
        "options = dict(word[2:].split('=', 1) for word in sys.argv if word.startswith('-o'))",
        "assert pathlib.Path(options['Dir::State::Lists'], 'partial').is_dir()",
        "assert pathlib.Path(options['Dir::Cache'], 'archives/partial').is_dir()",
        "if sys.argv[1] == 'download': pathlib.Path(sys.argv[2] + '_0~git_all.deb').write_text('deb')",
    )
    tree = archives.DEBIAN_FOLDER.relative_to("/")
    install_program(
        bare_machine,
        "dpkg-deb",
        "assert pathlib.Path(sys.argv[2]).read_text() == 'deb'",
        f"shutil.copytree({str(shelf)!r}, pathlib.Path(sys.argv[3], {str(tree)!r}))",
    )
    return bare_machine / "calls"


def test_apt_serves_without_root(scratch, apt, arrays):
    read_expecting(scratch, 4, arrays)
    calls = [json.loads(line) for line in apt.read_text().splitlines()]
    ((locale, temporary, cwd),) = {tuple(call[:3]) for call in calls}
    assert locale == "C"
    assert Path(temporary).is_relative_to(scratch)
    assert Path(cwd).is_relative_to(scratch)
    options = [
        f"-oDir::State::Lists={cwd}/lists",
        f"-oDir::Cache={cwd}/cache",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",
        "-oAcquire::Retries=1",
    ]
    assert [call[3:] for call in calls] == [
        ["apt-get", "update", *options],
        ["apt-get", "download", "dataset-fashion-mnist", *options],
        ["dpkg-deb", "-x", "dataset-fashion-mnist_0~git_all.deb", "tree"],
    ]


#: As apt-get does without a network: the update fails with status 0.
WARNS = "if sys.argv[1] == 'update': sys.exit(print('W: no such host', file=sys.stderr))\nsys.exit('E: no package')"


@pytest.mark.parametrize(
    ("program", "lines", "reason"),
    [
        ("apt-get", WARNS, "apt-get download ended with status 1: W: no such host; E: no package"),
        ("apt-get", "signal.pause()", "apt-get update took more than 0.3 s"),
        ("dpkg-deb", "sys.exit('not a Debian archive')", "dpkg-deb -x ended with status 1: not a Debian archive"),
    ],
    ids=["no network", "hangs", "broken package"],
)
def test_apt_that_fails_says_why(bare_machine, scratch, apt, monkeypatch, program, lines, reason):
    install_program(bare_machine, program, lines)
    if "pause" in lines:
        monkeypatch.setattr(archives, "COMMAND_SECONDS", 0.3)
    assert read_failing(scratch)[4] == reason


# Nothing serves.


def test_error_lists_every_source_and_the_ways_out(bare_machine, scratch, host):
    with pytest.raises(archives.FetchError) as caught:
        archives.read_fashion_mnist(scratch, print)
    message = str(caught.value)
    assert [line[4:].partition(": ")[0] for line in message.splitlines()[1:6]] == SOURCES
    assert "FASHION_MNIST_ARCHIVES: not set" in message
    assert f"{bare_machine}/home/tensorflow_datasets/downloads" in message
    assert "HTTP Error 404" in message
    assert "apt-get and dpkg-deb are not on this machine" in message
    ways_out = message.splitlines()[7:]
    assert "FASHION_MNIST_ARCHIVES=" in ways_out[0]
    assert all(name in ways_out[0] for name in FILES.values())
    assert f"127.0.0.1:{host.server_port}" in ways_out[1]
    assert "apt-get install dataset-fashion-mnist" in ways_out[2]
    assert files_in(scratch) == files_in(bare_machine) == set()


def test_registered_archives_are_the_four_of_upstream(monkeypatch):
    monkeypatch.undo()
    registered = archives._registered()
    assert {info.filename for info in registered.values()} == set(FILES.values())
    assert all(url.endswith(f".amazonaws.com/{info.filename}") for url, info in registered.items())
    sizes = sorted(int(info.size) for info in registered.values())
    assert sizes == [5148, 29515, 4422102, 26421880]
