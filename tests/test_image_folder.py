"""A user's folder of images: what is found in which order, what is refused by name, and DVC's links."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from dvc.repo import Repo
from PIL import Image

from pipeline.errors import StageError
from pipeline.image_folder import FolderImages, Listing, list_folder, read_folder
from pipeline.images import Conversion

PLAIN = Conversion(side=8, fit="crop", background=0, invert=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an empty folder of images and one beside it."""
    (tmp_path / "project" / "images").mkdir(parents=True)
    return tmp_path / "project"


def draw(path: Path, gray: int = 100) -> None:
    """Writes a PNG of one gray, whatever the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), gray).save(path, "PNG")


def listing(project: Path, folder: str = "images") -> Listing:
    return list_folder(folder, project, lambda: project / ".dvc" / "cache")


def read(project: Path) -> FolderImages:
    return read_folder(listing(project), PLAIN, lambda: None)


def test_folders_are_classes_and_everything_is_sorted(project: Path) -> None:
    for gray, name in enumerate(("b/z.png", "b/Z2.png", "a/10.png", "a/9.png", "B2/x.png", "é/x.png")):
        draw(project / "images" / name, gray)
    found = listing(project)
    assert found.class_names == ("B2", "a", "b", "é")
    assert found.names == ("B2/x.png", "a/10.png", "a/9.png", "b/Z2.png", "b/z.png", "é/x.png")
    assert found.labels.tolist() == [0, 1, 1, 2, 2, 3]
    assert found.labels.dtype == np.uint8
    images = read(project).images
    assert (images.shape, images.dtype) == ((6, 8, 8), np.uint8)
    assert images[:, 0, 0].tolist() == [4, 2, 3, 1, 0, 5]


def test_the_order_is_not_that_of_the_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        draw(project / "images" / name)
    listed = os.listdir
    expected = listing(project).names
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        monkeypatch.setattr(os, "listdir", lambda path, order=order: order(listed(path)))
        assert listing(project).names == expected == ("a/1.png", "a/2.png", "b/1.png")


def test_names_are_composed_as_on_every_machine(project: Path) -> None:
    draw(project / "images" / "e\u0301a.png")  # é of two code points, before f; as one, after it
    draw(project / "images" / "f.png")
    assert listing(project).names == ("f.png", "\u00e9a.png")
    assert len(read(project).images) == 2


def test_without_folders_there_is_one_class(project: Path) -> None:
    draw(project / "images" / "b.png")
    draw(project / "images" / "a.png")
    found = listing(project)
    assert (found.class_names, found.names, found.labels.tolist()) == (("all",), ("a.png", "b.png"), [0, 0])


def test_what_systems_and_dvc_leave_is_no_image(project: Path) -> None:
    draw(project / "images" / "a" / "a.png")
    for name in (".gitignore", ".DS_Store", "a.dvc", "Thumbs.db", "a/desktop.ini", "a/._a.png", ".cache/x"):
        (project / "images" / name).parent.mkdir(exist_ok=True)
        (project / "images" / name).write_text("no image", encoding="utf-8")
    assert listing(project).names == ("a/a.png",)


def test_the_content_says_what_an_image_is_and_not_the_suffix(project: Path) -> None:
    for name in ("a.jpg", "a", "a.txt"):
        draw(project / "images" / name, 77)
    assert (read(project).images == 77).all()


def test_what_was_done_is_counted_and_progress_called(project: Path) -> None:
    for name, image in {
        "a.png": Image.new("RGB", (8, 8), (9, 9, 9)),
        "b.png": Image.new("RGB", (16, 8)),
        "c.png": Image.new("L", (16, 8), 9),
        "d.png": Image.new("RGB", (4, 4), (8, 8, 8)),
    }.items():
        image.save(project / "images" / name)
    calls: list[None] = []
    found = read_folder(listing(project), PLAIN, lambda: calls.append(None))
    assert list(found.notes.items()) == [("gray from RGB", 3), ("cropped", 2), ("resized", 1)]
    assert found.twice == [("c.png", "a.png")]
    assert len(calls) == 4


def refused(project: Path) -> str:
    """What is said of the project's folder of images, none of which is lost."""

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    before = files()
    with pytest.raises(StageError) as error:
        read(project)
    assert files() == before
    return str(error.value)


def link(to: str, name: str = "a/link.png") -> Callable[[Path], None]:
    def make(images: Path) -> None:
        draw(images / "a" / "a.png")
        (images / name).symlink_to(to)

    return make


def half(images: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(images / "half.png")
    content = (images / "half.png").read_bytes()
    (images / "half.png").write_bytes(content[: len(content) // 2])


def put(*names: str, content: bytes | None = None) -> Callable[[Path], None]:
    """Writes images of these names, or files of that content."""

    def make(images: Path) -> None:
        for name in names:
            draw(images / name)
            if content is not None:
                (images / name).write_bytes(content)

    return make


def empty_class(images: Path) -> None:
    draw(images / "a" / "a.png")
    (images / "b").mkdir()
    (images / "b" / ".keep").touch()


def many_classes(images: Path) -> None:
    for number in range(257):
        draw(images / str(number) / "a.png")


def a_file(images: Path) -> None:
    images.rmdir()
    draw(images)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no images": (lambda _: None, "images has no images, expected images/CLASS/*"),
    "no folder": (Path.rmdir, "images is missing; expected a folder of images: put it there, or `dvc checkout images`"),
    "a file": (a_file, "images is a file; expected a folder"),
    "an empty file": (put("a.png", content=b""), "  a.png: it is empty"),
    "a text": (put("a/a.png", content=b"text"), "  a/a.png: it is no image of the formats PNG, JPEG,"),
    "half a file": (half, "  half.png: it cannot be read as an image (image file is truncated"),
    "images beside classes": (put("a/a.png", "b.png"), "  b.png: it lies beside classes; expected in one of them"),
    "a folder in a class": (put("a/b/c.png", "a/a.png"), "  a/b: it is a folder in a class; expected images only"),
    "an empty class": (empty_class, "  b: it has no images; expected at least one in each class"),
    "more classes than bytes": (many_classes, "images has 257 classes, expected at most 256"),
    "a link to nothing": (link("nothing"), "  a/link.png: it cannot be reached (No such file or directory)"),
    "a link to itself": (link("link.png"), "  a/link.png: it cannot be reached (Too many levels of symbolic links)"),
    "a foreign link": (link("/etc/passwd"), "  a/link.png: it is a link out of the folder, to "),
    "a link to the project": (link("../../params.yaml"), "  a/link.png: it is a link out of the folder, to "),
    "a class elsewhere": (link("/usr", "b"), "  b: it is a link out of the folder, to /usr"),
    "a class that holds itself": (link("..", "a/up"), "  a/up: it is a folder in a class"),
    "a folder as a class of itself": (link(".", "self"), "  self/a: it is a folder in a class"),
    "a name that breaks lines": (put("a\nb.png", content=b"x"), "  'a\\nb.png': its name has a line break"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_folders_are_refused_by_name_with_nothing_lost(project: Path, what: str) -> None:
    make, said = BAD[what]
    (project / "params.yaml").touch()
    make(project / "images")
    assert said in refused(project)


@pytest.mark.parametrize("names", [("A.png", "a.PNG"), ("a/x.png", "A/x.png"), ("\u00e9.png", "e\u0301.png")])
def test_names_of_which_other_machines_hold_one_are_refused(project: Path, names: tuple[str, str]) -> None:
    put(*names)(project / "images")
    if len(list((project / "images").iterdir())) == 1:
        pytest.skip("this file system is such a machine's")
    assert "its name differs from another in case or accents' coding only" in refused(project)


def test_names_that_are_not_utf8_are_refused(project: Path) -> None:
    try:
        (project / "images" / "b\udcff.png").touch()
    except OSError:
        pytest.skip("this file system has only UTF-8")
    assert "  'b\\udcff.png': its name is not UTF-8" in refused(project)


def test_pipes_are_refused_before_anything_waits_for_one(project: Path) -> None:
    os.mkfifo(project / "images" / "pipe.png")
    with pytest.raises(StageError, match=r"  pipe\.png: it is neither a file nor a folder"):
        listing(project)


@pytest.mark.parametrize("what", ["images", "images/b", "images/b/b.png"])
def test_what_may_not_be_read_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """By a stand-in for the system, as root may read everything."""
    for name in ("a/a.png", "b/b.png"):
        draw(project / "images" / name)
    listed, opened = os.listdir, Path.open

    def forbid(path: Path) -> None:
        if path == project / what:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", lambda path: forbid(path) or listed(path))
    monkeypatch.setattr(Path, "open", lambda path, *rest: forbid(path) or opened(path, *rest))
    with pytest.raises(StageError, match=r"\(Permission denied\)") as error:
        read(project)
    assert len(str(error.value).splitlines()) == 2


def test_all_bad_files_are_named_up_to_ten_and_the_rest_counted(project: Path) -> None:
    put(*(f"{number:02}.png" for number in range(12)), content=b"text")(project / "images")
    draw(project / "images" / "00.png")
    said = refused(project).splitlines()
    assert [line.split(":")[0].strip() for line in said[1:]] == [*(f"{n:02}.png" for n in range(1, 11)), "and 1 more"]
    (project / "images" / "a").mkdir()
    assert len(refused(project).splitlines()) == 12
    assert "and 3 more" in refused(project)


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_an_image_that_changes_while_others_are_read_is_named(project: Path, change: str) -> None:
    put("a.png", "b.png")(project / "images")
    calls = []

    def advance() -> None:
        calls.append(None)
        if len(calls) == 2:
            draw(project / "images" / "a.png", 9) if change == "edit" else (project / "images" / "a.png").unlink()

    with pytest.raises(StageError, match=r"  a\.png: it changed while the folder was read"):
        read_folder(listing(project), PLAIN, advance)


@pytest.mark.parametrize("place", ["", ".", "/tmp", "..", "images/../images", "im\0ages"])
def test_a_place_is_named_from_the_project(project: Path, place: str) -> None:
    draw(project / "images" / "a.png")
    with pytest.raises(StageError, match=r"data.source = .*, expected the path|is a place of"):
        listing(project, folder=place)


@pytest.mark.parametrize("place", [".git/x", ".dvc/cache", "data", "data/raw", "Data", "runs/x", "link", "hidden"])
def test_places_of_git_dvc_and_the_project_are_refused(project: Path, place: str) -> None:
    draw(project / place.lower() / "a.png") if place.islower() and place not in ("link", "hidden") else None
    (project / "data").mkdir(exist_ok=True)
    (project / "link").symlink_to("data")
    (project / "hidden").symlink_to(".")
    with pytest.raises(StageError, match=f"{place} is a place of git, DVC or the project"):
        listing(project, folder=place)


def test_a_folder_may_lie_deeper_or_be_a_link_within_the_project(project: Path) -> None:
    draw(project / "mine" / "shoes" / "a.png")
    (project / "short").symlink_to("mine/shoes")
    assert listing(project, folder="mine/shoes").names == listing(project, folder="short/").names == ("a.png",)
    (project / "out").symlink_to(project.parent)
    with pytest.raises(StageError, match="out leads out of the project by a link"):
        listing(project, folder="out")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
@pytest.mark.parametrize("kind", ["copy", "hardlink", "symlink"])
def test_a_folder_that_dvc_add_keeps_is_the_same_with_every_type_of_cache(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for gray, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        draw(project / "images" / name, gray)
    before = read(project)
    cache = project.parent / "shared"
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.parent / "site"))
    (project / ".dvc").mkdir()
    config = f"[core]\nno_scm = true\n[cache]\ntype = {kind}\ndir = {cache}\n"
    (project / ".dvc" / "config").write_text(config, encoding="utf-8")
    with Repo(str(project)) as repo:
        repo.add([str(project / "images" / "a"), str(project / "images" / "b")])
    assert (project / "images" / "a.dvc").is_file()
    assert (project / "images" / "a" / "1.png").is_symlink() == (kind == "symlink")
    assert (project / "images" / "a" / "1.png").stat().st_nlink == (2 if kind == "hardlink" else 1)
    found = list_folder("images", project, lambda: cache)
    assert found.names == ("a/1.png", "a/2.png", "b/1.png")
    np.testing.assert_array_equal(read_folder(found, PLAIN, int).images, before.images)
    if kind == "symlink":
        with pytest.raises(StageError, match=r"a/1\.png: it is a link out of the folder"):
            listing(project)


def test_neither_tensorflow_nor_pydantic_is_needed() -> None:
    script = "import sys; sys.modules.update(tensorflow=None, keras=None, pydantic=None); import pipeline.image_folder"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
