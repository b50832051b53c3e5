"""The sources of Fashion-MNIST, with a tiny data set in upstream's formats and no network but the loopback."""

import gzip
import hashlib
import io
import json
import os
import socket
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
TIMES = {
    "train": datetime(2017, 8, 31, 10, 50, 6, tzinfo=UTC),
    "test": datetime(2017, 8, 31, 10, 50, 27, tzinfo=UTC),
}
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
        FILES[name]: gzipped(as_idx(array), FILES[name].removesuffix(".gz"), TIMES[name[:-7]].timestamp())
        for name, array in arrays.items()
    }


@pytest.fixture
def debian(arrays: dict[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    """The same as Debian packs them: without a name, with the time of its own build."""
    return {FILES[name]: gzipped(as_idx(array), "", 1591347949) for name, array in arrays.items()}


class Host(ThreadingHTTPServer):
    """Upstream host on the loopback; serves what a test puts into `contents` and counts what it sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, bytes] = {}
        self.drips = False
        self.closing = threading.Event()
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        self.server.requests.append(f"{self.command} {self.path.removeprefix('/')}")
        while self.server.drips and not self.server.closing.wait(0.02):
            self.wfile.write(b"x")
        content = self.server.contents.get(self.path.removeprefix("/"))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content or b""

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows the requests that matter."""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


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
    monkeypatch.setenv("HOME", str(machine / "home"))
    monkeypatch.setenv("PATH", str(machine / "programs"))
    monkeypatch.setenv("no_proxy", "*")
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


def assert_equal_arrays(got: dict[str, NDArray[np.uint8]], expected: dict[str, NDArray[np.uint8]]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == np.uint8
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def read_expecting(scratch: Path, serving: int) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """Arrays, and what was said, after checking that sources before the serving one failed in order."""
    said: list[str] = []
    got = archives.read_fashion_mnist(scratch, said.append)
    assert [line.partition(": ")[0] for line in said] == SOURCES[: serving + 1]
    assert said[-1] == f"{SOURCES[serving]}: serves"
    assert all("\n" not in line for line in said)
    return got, said


def read_failing(scratch: Path) -> list[str]:
    """Reasons of the five sources, after checking that the error lists each, as said."""
    said: list[str] = []
    with pytest.raises(archives.FetchError) as caught:
        archives.read_fashion_mnist(scratch, said.append)
    lines = str(caught.value).splitlines()
    assert lines[1:6] == [f"  - {line}" for line in said]
    assert [line.partition(": ")[0] for line in said] == SOURCES
    assert all("\n" not in line for line in said)
    return [line.partition(": ")[2] for line in said]


# A source that serves.


def test_folder_serves_without_network_and_leaves_nothing_outside_scratch(
    bare_machine, scratch, host, tmp_path, upstream, arrays, monkeypatch, capfd
):
    folder = write_all(tmp_path / "four archives", upstream)
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(folder))
    got, _ = read_expecting(scratch, serving=0)
    assert_equal_arrays(got, arrays)
    assert host.requests == []
    assert list(bare_machine.rglob("*/*")) == []
    assert {path.name: path.read_bytes() for path in files_in(folder)} == upstream
    assert capfd.readouterr().out == ""


def test_folder_may_be_given_relative_to_home(bare_machine, scratch, upstream, monkeypatch):
    write_all(bare_machine / "home/my archives", upstream)
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", "~/my archives")
    read_expecting(scratch, serving=0)


@pytest.mark.parametrize("dataset_name", ["fashion_mnist", None], ids=["per data set", "legacy"])
@pytest.mark.parametrize("variable", [True, False], ids=["TFDS_DATA_DIR", "home"])
def test_cache_that_tfds_filled_itself_serves(
    bare_machine, scratch, host, upstream, arrays, monkeypatch, dataset_name, variable
):
    data_dir = bare_machine / ("elsewhere" if variable else "home/tensorflow_datasets")
    if variable:
        monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    host.contents = upstream
    manager = tfds.download.DownloadManager(
        download_dir=data_dir / "downloads",
        dataset_name=dataset_name,
        url_infos=mnist.FashionMNIST.url_infos,
    )
    manager.download([host.url + name for name in upstream])
    host.contents, host.requests = {}, []
    before = files_in(bare_machine)
    got, _ = read_expecting(scratch, serving=1)
    assert_equal_arrays(got, arrays)
    assert host.requests == []
    assert files_in(bare_machine) == before


def test_archives_in_the_manual_folder_of_tfds_serve(bare_machine, scratch, upstream):
    write_all(bare_machine / "home/tensorflow_datasets/downloads/manual", upstream)
    read_expecting(scratch, serving=1)


def test_upstream_serves_through_tfds_after_a_probe(bare_machine, scratch, host, upstream, arrays):
    host.contents = upstream
    got, _ = read_expecting(scratch, serving=2)
    assert_equal_arrays(got, arrays)
    assert sorted(host.requests[:4]) == sorted(f"HEAD {name}" for name in upstream)
    assert sorted(host.requests[4:]) == sorted(f"GET {name}" for name in upstream)
    assert files_in(bare_machine) == set()


def test_installed_debian_package_serves(scratch, debian, upstream, arrays):
    assert debian != upstream
    write_all(archives.DEBIAN_FOLDER, debian)
    got, _ = read_expecting(scratch, serving=3)
    assert_equal_arrays(got, arrays)


def test_a_bad_source_is_said_and_the_next_one_serves(scratch, tmp_path, host, upstream, arrays, monkeypatch):
    bad = dict(upstream) | {FILES["test_labels"]: b"short"}
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(write_all(tmp_path / "bad", bad)))
    host.contents = upstream
    got, said = read_expecting(scratch, serving=2)
    assert_equal_arrays(got, arrays)
    size = len(upstream[FILES["test_labels"]])
    path = tmp_path / "bad" / FILES["test_labels"]
    assert said[0] == f"{SOURCES[0]}: {path}: expected {size} bytes, found 5"


# Headers and order, against independent makers.


@pytest.mark.parametrize("name", FILES)
def test_header_is_the_one_of_the_gzip_module(name):
    stem = FILES[name].removesuffix(".gz")
    archive = gzipped(b"anything", stem, TIMES[name[:-7]].timestamp())
    header = archives.upstream_gzip_header(FILES[name])
    assert header == archive[: len(header)]
    assert header.endswith(stem.encode() + b"\0")
    assert gzip.decompress(header + archive[len(header) :]) == b"anything"


@pytest.mark.parametrize("split", ["train", "test"])
def test_shuffle_is_undone(split):
    def rank(index: int) -> str:
        return hashlib.md5(f"{split}{index}".encode()).hexdigest()

    stored = sorted(range(200), key=rank)
    assert stored != list(range(200))
    np.testing.assert_array_equal(archives.undo_shuffle(np.array(stored, np.uint8), split), np.arange(200))


# Archives that must not be used.


@pytest.fixture
def folder(tmp_path: Path, upstream: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four good archives in the folder that the variable names, for a test to spoil; tfds must not run."""

    def refuse(*_: object) -> None:
        raise AssertionError("tfds was given archives")

    monkeypatch.setattr(archives, "_prepare", refuse)
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


@pytest.mark.parametrize("length", [0, 1, -1])
def test_truncated_archive_is_named(folder, scratch, upstream, length):
    path = folder / FILES["train_images"]
    path.write_bytes(path.read_bytes()[:length])
    expected, found = len(upstream[path.name]), path.stat().st_size
    assert read_failing(scratch)[0] == f"{path}: expected {expected} bytes, found {found}"


def test_oversized_archive_is_not_read(folder, scratch, upstream):
    path = folder / FILES["train_images"]
    with path.open("ab") as file:
        file.truncate(1 << 42)  # sparse: reading it would need 4 TiB of memory
    expected = len(upstream[path.name])
    assert read_failing(scratch)[0] == f"{path}: expected {expected} bytes, found {1 << 42}"


def test_pipe_is_not_opened(folder, scratch):
    path = folder / FILES["train_labels"]
    path.unlink()
    os.mkfifo(path)  # opening it would wait for a writer
    assert read_failing(scratch)[0].endswith("bytes, found 0")


def test_missing_archive_is_named(folder, scratch):
    path = folder / FILES["test_images"]
    path.unlink()
    assert read_failing(scratch)[0] == f"{path}: No such file or directory"


def test_missing_folder_is_named(scratch, monkeypatch):
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


def test_bad_array_is_named(scratch, tmp_path, upstream, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(write_all(tmp_path / "archives", upstream)))
    found = fashion_mnist.SHA256["test_images"]
    monkeypatch.setitem(fashion_mnist.SHA256, "test_images", "0" * 64)
    with pytest.raises(archives.FetchError, match=f"array test_images: expected sha256 0{{64}}, found {found}"):
        archives.read_fashion_mnist(scratch, print)


@pytest.mark.parametrize("guise", [ExtractError, RuntimeError, partial(tf.errors.ResourceExhaustedError, None, None)])
def test_full_disk_while_tfds_works_is_no_reason_to_try_other_sources(scratch, tmp_path, upstream, monkeypatch, guise):
    def fill_disk(*_: object, **__: object) -> None:
        raise guise("No space left on device")

    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(write_all(tmp_path / "archives", upstream)))
    monkeypatch.setattr(mnist.FashionMNIST, "_split_generators", fill_disk)
    said: list[str] = []
    with pytest.raises(archives.FetchError, match="tfds cannot prepare the data set: No space left on device"):
        archives.read_fashion_mnist(scratch, said.append)
    assert said == [f"{SOURCES[0]}: serves"]


# The upstream host.


def test_host_that_lacks_an_archive_is_refused(scratch, host, upstream):
    host.contents = {name: content for name, content in upstream.items() if name != FILES["test_labels"]}
    assert read_failing(scratch)[2] == f"{host.url}{FILES['test_labels']}: HTTP Error 404: Not Found"
    assert {request.split()[0] for request in host.requests} == {"HEAD"}


def test_login_page_instead_of_an_archive_is_refused(scratch, host, upstream):
    host.contents = upstream | {FILES["test_labels"]: b"<html>Please log in"}
    assert read_failing(scratch)[2].startswith(f"{host.url}{FILES['test_labels']} answers 200 with 19 bytes, expected")


def test_tampered_download_is_not_used(scratch, host, upstream):
    name = FILES["test_labels"]
    host.contents = upstream | {name: bytes(len(upstream[name]))}
    reason = read_failing(scratch)[2]
    assert reason.startswith(f"Artifact {host.url}{name}")
    assert hashlib.sha256(upstream[name]).hexdigest() in reason


def test_host_that_takes_no_notice_is_left_soon(scratch, upstream, monkeypatch):
    monkeypatch.setattr(archives, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        register(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/", upstream)
        assert read_failing(scratch)[2].endswith(("no answer within 0.2 s", "timed out"))


def test_host_that_answers_byte_by_byte_is_left_soon(scratch, host, monkeypatch):
    monkeypatch.setattr(archives, "PROBE_SECONDS", 0.2)
    host.drips = True  # each byte is in time: no time-out of a socket ever comes
    assert read_failing(scratch)[2] == "no answer within 0.2 s"


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
    got, _ = read_expecting(scratch, serving=2)
    assert_equal_arrays(got, arrays)


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
    got, _ = read_expecting(scratch, serving=4)
    assert_equal_arrays(got, arrays)
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


def test_apt_without_network_says_why(bare_machine, scratch, apt):
    install_program(
        bare_machine,
        "apt-get",
        "if sys.argv[1] == 'update': sys.exit(print('W: no such host', file=sys.stderr))",
        "print('E: Unable to locate package', file=sys.stderr)",
        "sys.exit(100)",
    )
    expected = "apt-get download ended with status 100: W: no such host; E: Unable to locate package"
    assert read_failing(scratch)[4] == expected


def test_apt_that_hangs_is_ended(bare_machine, scratch, apt, monkeypatch):
    install_program(bare_machine, "apt-get", "signal.pause()")
    monkeypatch.setattr(archives, "COMMAND_SECONDS", 0.3)
    assert read_failing(scratch)[4] == "apt-get update took more than 0.3 s"


def test_broken_package_is_named(bare_machine, scratch, apt):
    install_program(bare_machine, "dpkg-deb", "sys.exit('dpkg-deb: error: not a Debian archive')")
    assert read_failing(scratch)[4] == "dpkg-deb -x ended with status 1: dpkg-deb: error: not a Debian archive"


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
