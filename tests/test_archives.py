"""The sources of Fashion-MNIST and its family, with tiny data sets in upstream's formats for which checksums are
registered, and no network but the loopback."""

import gzip
import hashlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
from pipeline.datasets import emnist, fashion_mnist, kmnist
from pipeline.params.data import Data

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


RANDOM = np.random.default_rng(7)

#: The tiny data set, in upstream order.
ARRAYS: dict[str, NDArray[np.uint8]] = {
    f"{split}_{kind}": RANDOM.integers(0, 10 if kind == "labels" else 256, shape, dtype=np.uint8)
    for split, count in COUNTS.items()
    for kind, shape in (("images", (count, 28, 28)), ("labels", (count,)))
}

#: Its four archives by file name, as upstream has them.
UPSTREAM = {
    FILES[name]: gzipped(as_idx(array), FILES[name].removesuffix(".gz"), TIMES[name[:-7]])
    for name, array in ARRAYS.items()
}

#: The same as Debian packs them: without a name, with the time of its own build.
DEBIAN = {FILES[name]: gzipped(as_idx(array), "", 1591347949) for name, array in ARRAYS.items()}


def write_all(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


class Host(ThreadingHTTPServer):
    """Upstream host on the loopback; serves the files of a folder, none at first, and records what it is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=folder))
        self.folder = folder
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Handler(SimpleHTTPRequestHandler):
    server: Host

    def log_message(self, *_: object) -> None:
        self.server.requests.append(f"{self.command} {self.path}")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(write_all(tmp_path / "host", {})) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def registered(name: str, content: bytes) -> UrlInfo:
    """What tfds registers of an archive."""
    return UrlInfo(tfds.core.utils.Size(len(content)), hashlib.sha256(content).hexdigest(), name)


def register(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Lets tfds take the tiny archives for the real ones, and `url` for the upstream host."""
    infos = {url + name: registered(name, content) for name, content in UPSTREAM.items()}
    monkeypatch.setattr(mnist.FashionMNIST, "URL", url)
    monkeypatch.setattr(mnist.FashionMNIST, "url_infos", infos)
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", COUNTS["train"])
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", COUNTS["test"])


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: Host) -> Path:
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
    register(monkeypatch, host.url)
    return machine


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return write_all(tmp_path / "scratch of a test", {})


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def read_expecting(scratch: Path, serving: int) -> list[str]:
    """What was said, after checking the arrays, and that the sources before the serving one failed in order."""
    said: list[str] = []
    got = archives.read_archives("fashion_mnist", scratch, said.append)
    assert [line.partition(": ")[0] for line in said] == SOURCES[: serving + 1]
    assert said[-1] == f"{SOURCES[serving]}: serves"
    assert list(got) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert got[name].dtype == np.uint8
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    return said


def read_failing(scratch: Path) -> list[str]:
    """Reasons of the five sources, after checking that the error lists each, as said; tfds must not run."""
    said: list[str] = []
    scratch = Path(tempfile.mkdtemp(dir=scratch))
    given = mock.patch.object(archives, "_prepare", side_effect=AssertionError("tfds was given archives"))
    with given, pytest.raises(archives.FetchError) as caught:
        archives.read_archives("fashion_mnist", scratch, said.append)
    assert str(caught.value).splitlines()[1:6] == [f"  - {line}" for line in said]
    assert [line.partition(": ")[0] for line in said] == SOURCES
    return [line.partition(": ")[2] for line in said]


# A source that serves.


@pytest.mark.parametrize("value", ["{machine}/home/my archives", "~/my archives"])
def test_folder_serves_without_network_and_leaves_nothing_outside_scratch(
    bare_machine, scratch, host, monkeypatch, capfd, value
):
    folder = write_all(bare_machine / "home/my archives", UPSTREAM)
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", value.format(machine=bare_machine))
    read_expecting(scratch, 0)
    assert host.requests == []
    assert {*bare_machine.rglob("*/*")} == {folder, *(folder / name for name in UPSTREAM)}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == UPSTREAM
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("folder", "variable"), [("fashion_mnist", True), (None, False), ("manual", True)], ids=["new", "legacy", "by hand"]
)
def test_cache_of_tfds_serves(bare_machine, scratch, host, monkeypatch, folder, variable):
    data_dir = bare_machine / ("elsewhere" if variable else "home/tensorflow_datasets")
    if variable:
        monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    if folder == "manual":
        write_all(data_dir / "downloads/manual", UPSTREAM)
    else:
        write_all(host.folder, UPSTREAM)
        manager = tfds.download.DownloadManager(
            download_dir=data_dir / "downloads", dataset_name=folder, url_infos=mnist.FashionMNIST.url_infos
        )
        manager.download([host.url + name for name in UPSTREAM])
    host.requests.clear()
    before = files_in(bare_machine)
    read_expecting(scratch, 1)
    assert host.requests == []
    assert files_in(bare_machine) == before


def test_a_bad_source_is_said_and_upstream_serves(bare_machine, scratch, folder, host):
    name = FILES["test_labels"]
    write_all(folder, {name: b"short"})
    write_all(host.folder, UPSTREAM)
    said = read_expecting(scratch, 2)
    assert said[0] == f"{SOURCES[0]}: {refusal(folder / name, name, b'short')}"
    assert sorted(host.requests) == sorted(f"GET /{name}" for name in UPSTREAM)
    assert files_in(bare_machine) == set()


def test_installed_debian_package_serves(scratch):
    assert DEBIAN != UPSTREAM
    write_all(archives.DEBIAN_FOLDER, DEBIAN)
    read_expecting(scratch, 3)


# Archives that must not be used.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four good archives in the folder that the variable names, for a test to spoil."""
    path = write_all(tmp_path / "archives", UPSTREAM)
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", str(path))
    return path


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


def refusal(place: str | Path, name: str, found: bytes) -> str:
    """What is said of a place where the archive of a name has other bytes."""
    (size, digest), (other_size, other_digest) = (
        (len(content), hashlib.sha256(content).hexdigest()) for content in (UPSTREAM[name], found)
    )
    return f"{place}: expected {size} bytes with sha256 {digest}, found {other_size} with sha256 {other_digest}"


@pytest.mark.parametrize("name", UPSTREAM)
def test_altered_archive_is_named(folder, scratch, name):
    content = UPSTREAM[name]
    for other in (*(flipped(content, position) for position in (0, 9, 50, -1)), b"", content[:1], content[:-1]):
        write_all(folder, {name: other})
        assert read_failing(scratch)[0] == refusal(folder / name, name, other)


def test_what_is_too_large_or_no_file_is_named_and_not_read(folder, scratch, monkeypatch):
    path = folder / FILES["train_images"]
    os.truncate(path, 1 << 42)  # sparse: reading it would need 4 TiB of memory
    assert read_failing(scratch)[0] == refusal(path, path.name, b"").partition(", found")[0] + ", found more"
    path.unlink()
    assert read_failing(scratch)[0] == f"no {path.name} in {folder}"
    os.mkfifo(path)  # opening it would wait for a writer
    assert read_failing(scratch)[0] == f"no {path.name} in {folder}"
    monkeypatch.setenv("FASHION_MNIST_ARCHIVES", "/no/such/folder")
    assert read_failing(scratch)[0] == f"no {path.name} in /no/such/folder"


def test_flipped_archive_of_debian_is_named(scratch):
    name = FILES["train_images"]
    other = flipped(DEBIAN[name], 700)
    write_all(archives.DEBIAN_FOLDER, DEBIAN | {name: other})
    assert read_failing(scratch)[3] == refusal(archives.DEBIAN_FOLDER / name, name, other)


@pytest.mark.parametrize("guise", [ExtractError, RuntimeError, partial(tf.errors.ResourceExhaustedError, None, None)])
def test_full_disk_while_tfds_works_is_no_reason_to_try_other_sources(scratch, folder, monkeypatch, guise):
    def fill_disk(*_: object, **__: object) -> None:
        raise guise("No space left on device")

    monkeypatch.setattr(mnist.FashionMNIST, "_split_generators", fill_disk)
    said: list[str] = []
    with pytest.raises(archives.FetchError, match="tfds cannot prepare fashion_mnist: No space left on device"):
        archives.read_archives("fashion_mnist", scratch, said.append)
    assert said == [f"{SOURCES[0]}: serves"]


# The upstream host.


@pytest.mark.parametrize("other", [None, b"a login page", bytes(len(UPSTREAM[FILES["test_labels"]]))])
def test_host_that_has_another_archive_is_refused(scratch, host, other):
    name = FILES["test_labels"]
    write_all(host.folder, UPSTREAM | ({name: other} if other else {}))
    if not other:
        (host.folder / name).unlink()
    missing = f"{host.url}{name}: HTTP Error 404: File not found"
    assert read_failing(scratch)[2] == (refusal(host.url + name, name, other) if other else missing)


@pytest.mark.parametrize("what", ["answer", "end"])
def test_host_that_never_answers_or_ends_is_left_soon(scratch, host, monkeypatch, what):
    """Whatever holds it up: a name server, or one byte at a time, for which no time-out of a socket ever comes."""
    left = threading.Event()

    def hold_up(*_: object, **__: object) -> bytes:
        left.wait()
        raise OSError

    answer = mock.MagicMock()
    answer.__enter__().read = hold_up
    monkeypatch.setattr(urllib.request, "urlopen", hold_up if what == "answer" else lambda *_, **__: answer)
    monkeypatch.setattr(archives, "ANSWER_SECONDS" if what == "answer" else "TRANSFER_SECONDS", 0.2)
    assert re.fullmatch(rf"{host.url}t.*: no {what} within 0\.2 s", read_failing(scratch)[2])
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


def test_upstream_is_reached_through_a_proxy(scratch, host, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", host.url)
    register(monkeypatch, "http://upstream.invalid/")
    write_all(host.folder / "http:/upstream.invalid", UPSTREAM)  # a proxy is asked for the whole address
    read_expecting(scratch, 2)


# apt.


#: apt-get and dpkg-deb that behave like the real ones, and record their arguments.
PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, shutil, signal, sys
name, command, *rest = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
machine = pathlib.Path(__file__).parents[1]
with open(machine / "calls", "a") as calls: print(json.dumps([os.getcwd(), name, command, *rest]), file=calls)
assert (os.environ["LC_ALL"], os.environ["TMPDIR"]) == ("C", os.getcwd())
if name == "apt-get":
    options = dict(word[2:].split("=", 1) for word in rest if word.startswith("-o"))
    assert pathlib.Path(options["Dir::State::Lists"], "partial").is_dir()
    assert pathlib.Path(options["Dir::Cache"], "archives/partial").is_dir()
#broken
if command == "download": pathlib.Path(rest[0] + "_0~git_all.deb").write_text("deb")
if command == "-x":
    assert pathlib.Path(rest[0]).read_text() == "deb"
    shutil.copytree(machine / "shelf", rest[1] + str(machine / "usr/share/datasets/fashion-mnist"))
"""


@pytest.fixture
def apt(bare_machine: Path) -> Path:
    """A machine with these programs, and Debian's archives on a shelf."""
    write_all(bare_machine / "shelf", DEBIAN)
    for name in ("apt-get", "dpkg-deb"):
        program = bare_machine / "programs" / name
        program.write_text(PROGRAM)
        program.chmod(0o755)
    return bare_machine


def test_apt_serves_without_root(scratch, apt):
    read_expecting(scratch, 4)
    cwd = str(scratch / "apt")
    own_folders = [f"-oDir::State::Lists={cwd}/lists", f"-oDir::Cache={cwd}/cache"]
    options = [*own_folders, "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", "-oAcquire::Retries=1"]
    assert [json.loads(line) for line in (apt / "calls").read_text().splitlines()] == [
        [cwd, "apt-get", "update", *options],
        [cwd, "apt-get", "download", "dataset-fashion-mnist", *options],
        [cwd, "dpkg-deb", "-x", "dataset-fashion-mnist_0~git_all.deb", "tree"],
    ]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (  # as without a network: the update fails with status 0
            "if command == 'update': sys.exit(print('W: no such host', file=sys.stderr))\nsys.exit('E: no package')",
            "apt-get download ended with status 1: W: no such host; E: no package",
        ),
        ("signal.pause()", "apt-get update took more than 0.5 s"),
        ("if command == '-x': sys.exit('no archive')", "dpkg-deb -x ended with status 1: no archive"),
    ],
    ids=["no network", "hangs", "broken package"],
)
def test_apt_that_fails_says_why(scratch, apt, monkeypatch, broken, reason):
    for program in (apt / "programs").iterdir():
        program.write_text(PROGRAM.replace("#broken", broken))
    if "pause" in broken:
        monkeypatch.setattr(archives, "TRANSFER_SECONDS", 0.5)
    assert read_failing(scratch)[4] == reason


# Nothing serves.


def test_error_lists_every_source_and_the_ways_out(bare_machine, scratch, host):
    with pytest.raises(archives.FetchError) as caught:
        archives.read_archives("fashion_mnist", scratch, print)
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
    infos = archives._registered("fashion_mnist")
    assert {info.filename for info in infos.values()} == set(FILES.values())
    assert all(url.endswith(f".amazonaws.com/{info.filename}") for url, info in infos.items())
    sizes = sorted(int(info.size) for info in infos.values())
    assert sizes == [5148, 29515, 4422102, 26421880]


# The rest of the family.


@pytest.mark.parametrize(
    ("name", "variant", "classes", "first"),
    [("mnist", None, 10, 0), ("kmnist", None, 10, 0), ("emnist", "balanced", 47, 0), ("emnist", "letters", 26, 1)],
)
def test_the_others_serve_from_the_folders_of_their_names(
    scratch, tmp_path, monkeypatch, name, variant, classes, first
):
    """By the data set's own module; letters of EMNIST lie on their sides, and are counted from 1."""
    labels = {"train": np.arange(2 * classes)[::-1] % classes, "test": np.arange(classes)}
    expected = {f"{split}_labels": own.astype(np.uint8) for split, own in labels.items()}
    for split, own in labels.items():
        expected[f"{split}_images"] = RANDOM.integers(0, 256, (len(own), 28, 28), dtype=np.uint8)
    packed = {}
    for array, file in FILES.items():
        lies = variant and array.endswith("images")
        upstream = expected[array].transpose(0, 2, 1) if lies else expected[array] + (array.endswith("labels") * first)
        file = f"emnist-{variant}-{file.replace('t10k', 'test')}" if variant else file
        packed[file] = gzipped(as_idx(upstream.astype(np.uint8)), "", 0)
    builder = tfds.builder_cls(name)
    if variant:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for file, content in packed.items():
                archive.writestr(f"gzip/{file}", content)
        packed = {"gzip.zip": buffer.getvalue()}
        monkeypatch.setattr(builder.builder_configs[variant], "train_examples", 2 * classes)
        monkeypatch.setattr(builder.builder_configs[variant], "test_examples", classes)
    else:
        monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 2 * classes)
        monkeypatch.setattr(mnist, "_TEST_EXAMPLES", classes)
    place = builder.URL.removesuffix("gzip.zip")
    infos = {place + file: registered(file, content) for file, content in packed.items()}
    monkeypatch.setattr(builder, "url_infos", infos)
    monkeypatch.setenv(f"{name.upper()}_ARCHIVES", str(write_all(tmp_path / "others", packed)))
    section = {"name": name, "source": "datasets.json", **({"variant": variant} if variant else {})}
    data = Data.chosen(section).model_validate(section)
    said: list[str] = []
    given = importlib.import_module(f"pipeline.datasets.{name}").read(data, scratch, said.append)
    assert said == [f"folder named by {name.upper()}_ARCHIVES: serves"]
    assert len(given.classes) == classes
    assert data.full_name == (f"{name}/{variant}" if variant else name)
    for array, values in expected.items():
        assert given.arrays[array].dtype == np.uint8
        np.testing.assert_array_equal(given.arrays[array], values, err_msg=array)


def test_what_debian_does_not_pack_is_not_looked_for_there(scratch, monkeypatch):
    monkeypatch.setattr(archives, "_download", mock.Mock(side_effect=archives.FetchError("none")))
    with pytest.raises(archives.FetchError) as caught:
        archives.read_archives("kmnist", scratch, print)
    message = str(caught.value)
    assert message.startswith("no source of kmnist serves")
    assert "KMNIST_ARCHIVES: not set" in message
    assert "codh.rois.ac.jp" in message
    assert "Debian" not in message


def test_classes_are_those_of_tfds_and_of_the_paper():
    for module in (fashion_mnist, kmnist):
        name = module.__name__.rpartition(".")[2]
        names = tfds.builder(name, data_dir="nowhere").info.features["label"].names
        assert list(names) == list(module.CLASS_NAMES)
    counts = {config.name: config.class_number for config in tfds.builder_cls("emnist").BUILDER_CONFIGS}
    assert {variant: len(classes) for variant, classes in emnist.CLASSES.items()} == {**counts, "letters": 26}
    merged = {*emnist.CLASSES["byclass"]} - {*emnist.CLASSES["bymerge"]}
    assert merged == {*"cijklmopsuvwxyz"}  # section II.B of the paper
