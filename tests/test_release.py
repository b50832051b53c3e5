"""Releases and pulls, from one clone of the slice's project to another."""

import gzip
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5, sha256
from pathlib import Path

import pytest
from conftest import Project, remove

VERSION = "1.2.3"


def run(project: Project, command: str, *arguments: str) -> tuple[int, str]:
    done = project.run("python", "-m", f"workflow.{command}", *arguments)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def released(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = finished.copy_to(tmp_path_factory.mktemp("release") / "released")
    (project.folder / "pyproject.toml").write_text(f'[project]\nversion = "{VERSION}"\n', encoding="utf-8")
    (project.folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {VERSION}\n", encoding="utf-8")
    for name in project.folder.glob("presets/*.json"):
        name.unlink()  # records of the real data
    project.commit("Release")
    code, said = run(project, "release", VERSION)
    assert code == 0, said
    return project


@pytest.fixture
def pack(released: Project) -> Path:
    return released.folder / "releases" / f"fashion-vae-{VERSION}.tar.gz"


@pytest.fixture
def clone(released: Project, tmp_path: Path) -> Project:
    """A stranger's clone: neither data nor cache."""
    folder = tmp_path / "clone"
    assert released.run("git", "clone", "-q", "--branch", f"v{VERSION}", ".", str(folder)).returncode == 0
    return Project(folder)


def unreleased(released: Project, folder: Path) -> Project:
    """A copy of the project as it was before its release."""
    project = released.copy_to(folder)
    remove(project, "releases")
    assert project.run("git", "tag", "--delete", f"v{VERSION}", f"fashion-vae@v{VERSION}").returncode == 0
    return project


def cached(project: Project) -> set[str]:
    folder = project.folder / ".dvc" / "cache"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_release_tags_the_commit_for_git_and_for_gto(released: Project) -> None:
    tags = released.run("git", "tag", "--list").stdout.split()
    assert sorted(tags) == [f"fashion-vae@v{VERSION}", f"v{VERSION}"]
    assert released.run("git", "cat-file", "-t", f"v{VERSION}").stdout.strip() == "tag"
    assert f"v{VERSION}" in released.run("gto", "show", "fashion-vae").stdout
    assert released.run("git", "status", "--porcelain").stdout == ""


def test_a_pack_holds_every_output_that_dvc_holds_with_its_hashes(released: Project, pack: Path) -> None:
    manifest, objects = unpacked(pack)
    lock = (released.folder / "dvc.lock").read_text(encoding="utf-8")
    assert set(manifest["outputs"]) >= {"data/model", "data/export", "data/raw", "data/prepared/test"}
    assert all(f"md5: {value}" in lock for value in manifest["outputs"].values())
    assert manifest["commit"] == released.run("git", "rev-parse", "HEAD").stdout.strip()
    for name, content in objects.items():
        facts = manifest["objects"][name]
        assert (len(content), sha256(content).hexdigest()) == (facts["size"], facts["sha256"])
        assert md5(content, usedforsecurity=False).hexdigest() == name.removesuffix(".dir")


def test_equal_outputs_give_equal_packs(released: Project, pack: Path, tmp_path: Path) -> None:
    project = unreleased(released, tmp_path / "again")
    assert run(project, "release", VERSION)[0] == 0
    first, again = ((one.folder / "releases") for one in (released, project))
    names = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file()]
    assert {pack.name, "README.md", "model.safetensors"} <= {name.name for name in names}
    assert all((again / name).read_bytes() == (first / name).read_bytes() for name in names)


@pytest.mark.parametrize("kind", ["path", pytest.param("http", marks=pytest.mark.whole)])
def test_a_stranger_has_the_model_without_training(clone: Project, pack: Path, kind: str, served: str) -> None:
    code, said = run(clone, "release.pull", str(pack) if kind == "path" else f"{served}/{pack.name}")
    assert code == 0, said
    assert f"version {VERSION} is in place" in said
    again = clone.repro()
    assert "Running stage" not in again
    done = clone.run("python", "-m", "workflow.generate", "samples", "--count", "2", "--output", "x.png")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def served(released: Project) -> Iterator[str]:
    """Address of a server on this machine of the folder of releases."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(released.folder / "releases"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


Manifest = dict[str, dict[str, object]]
Objects = dict[str, bytes]


def unpacked(pack: Path) -> tuple[Manifest, Objects]:
    with tarfile.open(pack) as archive:
        contents = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
    return json.loads(contents.pop("manifest.json")), contents


def repacked(path: Path, manifest: Manifest, objects: Objects) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **objects}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def state(manifest: Manifest, name: str, content: bytes) -> None:
    manifest["objects"][name] = {"size": len(content), "sha256": sha256(content).hexdigest()}


def one_byte(_: Manifest, objects: Objects) -> None:
    name = max(objects, key=lambda name: len(objects[name]))
    objects[name] = objects[name][:-1] + bytes([objects[name][-1] ^ 1])


def one_byte_and_its_sha256(manifest: Manifest, objects: Objects) -> None:
    one_byte(manifest, objects)
    for name, content in objects.items():
        state(manifest, name, content)


def a_member_more(_: Manifest, objects: Objects) -> None:
    objects["../../outside"] = b"x"


def a_stated_member_more(manifest: Manifest, objects: Objects) -> None:
    name = md5(b"more", usedforsecurity=False).hexdigest()
    objects[name] = b"more"
    state(manifest, name, b"more")


def a_path_for_a_name(manifest: Manifest, objects: Objects) -> None:
    a_member_more(manifest, objects)
    state(manifest, "../../outside", b"x")


def a_bomb(manifest: Manifest, _: Objects) -> None:
    manifest["objects"]["0" * 32] = {"size": 2**40, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (one_byte, "is not the one that was packed"),
        (one_byte_and_its_sha256, "is not the one that was packed"),
        (lambda _, objects: objects.popitem(), "the pack lacks or adds"),
        (a_member_more, "'../../outside' of 1 bytes that its manifest does not state"),
        (a_stated_member_more, "the pack lacks or adds"),
        (a_path_for_a_name, "names objects that DVC cannot have"),
        (a_bomb, "the pack states 1099"),
    ],
)
def test_a_pack_that_was_altered_is_refused_and_fills_nothing(
    clone: Project, pack: Path, tmp_path: Path, damage: Callable[[Manifest, Objects], object], words: str
) -> None:
    manifest, objects = unpacked(pack)
    damage(manifest, objects)
    spoilt = repacked(tmp_path / "spoilt.tar.gz", manifest, objects)
    code, said = run(clone, "release.pull", str(spoilt))
    assert code == 1
    assert words in said
    assert not cached(clone)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("size", [0, 100, 5000, -100])
def test_a_pack_that_ends_early_is_refused(clone: Project, pack: Path, tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(pack.read_bytes()[:size])
    code, said = run(clone, "release.pull", str(cut))
    assert code == 1
    assert "get it anew" in said or "no pack of a release" in said
    assert not cached(clone)


def test_other_files_and_places_are_refused(clone: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(gzip.compress(b"no tar at all" * 100))
    for source, words in (
        (str(other), "get it anew"),
        (str(tmp_path / "none"), "cannot be read"),
        ("http://127.0.0.1:9/none", "cannot be read"),
        ("", "usage: make pull FROM=path-or-url"),
    ):
        code, said = run(clone, "release.pull", source)
        assert code == 1
        assert words in said


@pytest.mark.whole
def test_the_pack_of_another_commit_is_refused_by_the_outputs_that_differ(
    released: Project, pack: Path, tmp_path: Path
) -> None:
    project = released.copy_to(tmp_path / "other")
    project.set_params({"train": {"epochs": 2}})
    project.repro("train")
    code, said = run(project, "release.pull", str(pack))
    assert code == 1
    assert f"of version {VERSION}" in said
    assert "data/model" in said
    assert "data/raw" not in said


def edited_metric(project: Project) -> None:
    path = project.folder / "metrics" / "samples.json"
    path.write_text(path.read_text(encoding="utf-8").replace("coverage_se", "coverage__se"), encoding="utf-8")
    project.commit("Edited")


def stale_lock(project: Project) -> None:
    project.set_params({"train": {"epochs": 5}})
    project.commit("Stale")


@pytest.mark.parametrize(
    ("version", "damage", "words"),
    [
        ("1.2", lambda _: None, "'1.2' is not released:\n  it should be a semantic version"),
        pytest.param(
            "v1.2.3", lambda _: None, "it should be a semantic version without a prefix", marks=pytest.mark.whole
        ),
        (f"{VERSION} --sign none.pem", lambda _: None, "SIGN = 'none.pem' holds no private key"),
        ("1.2.4", lambda _: None, "pyproject.toml states version 1.2.3\n  CHANGELOG.md has no section `## 1.2.4`"),
        (VERSION, stale_lock, "dvc.lock is stale, check, train, "),
        (VERSION, edited_metric, "metrics/samples.json: not what samples wrote"),
        *(
            pytest.param(VERSION, damage, words, marks=pytest.mark.whole)
            for damage, words in (
                (lambda project: project.run("git", "tag", f"v{VERSION}"), f"there is a tag v{VERSION}"),
                (lambda project: (project.folder / "new").write_text("", encoding="utf-8"), "not committed: new"),
                (lambda project: remove(project, ".dvc/cache/files/md5"), "is not in DVC's cache"),
            )
        ),
    ],
)
def test_what_is_not_true_is_not_released(
    released: Project, tmp_path: Path, version: str, damage: Callable[[Project], object], words: str
) -> None:
    project = unreleased(released, tmp_path / "untrue")
    damage(project)
    tags = project.run("git", "tag", "--list").stdout
    code, said = run(project, "release", *version.split())
    assert code == 1
    assert words in said
    assert project.run("git", "tag", "--list").stdout == tags
    assert not list((project.folder / "releases").glob("*"))
