"""A user's own images: FOLDER/CLASS/* or, without classes, FOLDER/*; in the same order on every machine.

The folder lies in the project, so that DVC can follow it. What it must not hold is refused by name, all at once.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import sha256_file
from pipeline.images import Conversion, convert

#: The class of images that have none.
ONLY_CLASS: Final = "all"

#: Labels are bytes.
MOST_CLASSES: Final = 256

#: Problems that an error names before it counts the rest.
_MOST_NAMED: Final = 10

#: Folders of the project that its own commands write and remove.
_OWN: Final = {"audits", "data", "dvc_plots", "metrics", "releases", "runs", "state"}

#: What systems leave in folders; hidden files are ignored too, and what `dvc add` writes beside a class.
_LITTER: Final = {"thumbs.db", "desktop.ini"}
_OF_DVC: Final = ".dvc"

#: Unicode's categories of control characters and line breaks, which tables of classes cannot hold.
_BREAKING: Final = {"Cc", "Zl", "Zp"}

#: Size in a note, which differs from image to image.
_SIZE: Final = re.compile(r" from \d+ x \d+")

_Problems = list[tuple[str, str]]


@dataclass(frozen=True)
class Listing:
    """The images of a folder before they are read.

    Attributes:
        folder: The folder as the user named it.
        class_names: Names of the classes, sorted.
        names: Names of the images below the folder, such as "boots/a.png", by class and sorted in each.
        paths: Where each is read from; for a link, its target.
        labels: (count,) uint8, indices of `class_names`.
    """

    folder: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder, converted, in the order of their listing.

    Attributes:
        images: (count, side, side) uint8.
        notes: How many images each conversion was done to, such as "gray from RGB", the most frequent first.
        twice: Names of images whose pixels are those of an earlier one, each with the name of that one.
    """

    images: NDArray[np.uint8]
    notes: dict[str, int]
    twice: list[tuple[str, str]]


def list_folder(folder: str, project: Path, cache: Callable[[], Path]) -> Listing:
    """Finds the images and classes of a folder, and opens none.

    Hidden files, `Thumbs.db`, `desktop.ini` and files `*.dvc` are ignored. Names are compared in Unicode's form NFC and
    sorted by code points.

    Args:
        folder: Path of the folder from the project's.
        project: The project's folder.
        cache: Says where DVC's cache is, which links of `dvc add` lead to; called if there are links.

    Raises:
        StageError: If the folder is not one in the project, or is one of the project's own; if a name in it is not
            UTF-8, breaks lines or differs from another in case only, is not that of a file, leads out by a link or
            nowhere, or lies too deep; if images lie beside classes, a class is empty or there are more than 256; or if
            there is no image.
    """
    root = _root(folder, project)
    links = any(path.is_symlink() for path in root.rglob("*"))
    allowed = [root, *([Path(os.path.realpath(cache()))] if links else [])]
    problems: _Problems = []
    top = _entries(root, "", allowed, problems)
    classes = [(name, path) for name, path in top if path.is_dir()]
    if classes:
        problems += [(name, "it lies beside classes; expected in one of them") for name, path in top if path.is_file()]
        found = [_images_of(path, name, allowed, problems) for name, path in classes]
    else:
        found = [top]
    _refuse(folder, problems)
    if len(classes) > MOST_CLASSES:
        raise StageError(f"{folder} has {len(classes)} classes, expected at most {MOST_CLASSES} folders")
    images = [image for group in found for image in group]
    if not images:
        raise StageError(f"{folder} has no images, expected {folder}/CLASS/* or, without classes, {folder}/*")
    return Listing(
        folder,
        tuple(name for name, _ in classes) or (ONLY_CLASS,),
        tuple(name for name, _ in images),
        tuple(path for _, path in images),
        np.repeat(np.arange(len(found)), [len(group) for group in found]).astype(np.uint8),
    )


def read_folder(listing: Listing, conversion: Conversion, advance: Callable[[], None]) -> FolderImages:
    """Reads and converts the images of a listing.

    Args:
        listing: Of `list_folder`.
        conversion: What to make of each image.
        advance: Called after each image.

    Raises:
        StageError: If an image cannot be taken, or changed before all were read. All are tried, so that it names all.
    """
    images = np.zeros((len(listing.paths), conversion.side, conversion.side), np.uint8)
    notes: Counter[str] = Counter()
    problems: _Problems = []
    first: dict[bytes, str] = {}
    twice = []
    files = []
    for image, name, path in zip(images, listing.names, listing.paths, strict=True):
        try:
            with path.open("rb") as file:
                files.append(hashlib.file_digest(file, "sha256").hexdigest())
                file.seek(0)
                image[:], done = convert(file, conversion)
        except StageError as error:
            problems.append((name, str(error)))
        except OSError as error:
            problems.append((name, f"it cannot be opened ({error.strerror})"))
        else:
            notes.update(_SIZE.sub("", note) for note in done)
            earlier = first.setdefault(hashlib.sha256(image.tobytes()).digest(), name)
            if earlier != name:
                twice.append((name, earlier))
        advance()
    _refuse(listing.folder, problems)
    for name, path, before in zip(listing.names, listing.paths, files, strict=True):
        if not path.is_file() or sha256_file(path) != before:
            problems.append((name, "it changed while the folder was read; run `dvc repro` again"))
    _refuse(listing.folder, problems)
    return FolderImages(images, dict(sorted(notes.items(), key=lambda note: (-note[1], note[0]))), twice)


def _root(folder: str, project: Path) -> Path:
    """The folder without links, if it is a place for images."""
    if not Path(folder).parts or Path(folder).is_absolute() or ".." in Path(folder).parts or "\0" in folder:
        raise StageError(f"data.source = {folder!r}, expected the path of a folder from the project's, without '..'")
    home, root = Path(os.path.realpath(project)), Path(os.path.realpath(project / folder))
    if not root.is_relative_to(home):
        raise StageError(f"{folder} leads out of the project by a link, to {root}; expected a folder that lies in it")
    for place in (Path(folder), root.relative_to(home)):
        top = place.parts[0].casefold() if place.parts else "."
        if top.startswith(".") or top in _OWN:
            raise StageError(f"{folder} is a place of git, DVC or the project; expected a folder of its own for images")
    if not root.exists():
        raise StageError(
            f"{folder} is missing; expected a folder of images: put it there, or `dvc checkout {folder}` if DVC has it"
        )
    if not root.is_dir():
        raise StageError(f"{folder} is a file; expected a folder of images")
    return root


def _images_of(folder: Path, name: str, allowed: Sequence[Path], problems: _Problems) -> list[tuple[str, Path]]:
    """Names and paths of a class' images."""
    before = len(problems)
    entries = _entries(folder, f"{name}/", allowed, problems)
    problems += [(inner, "it is a folder in a class; expected images only") for inner, path in entries if path.is_dir()]
    if not entries and len(problems) == before:
        problems.append((name, "it has no images; expected at least one in each class"))
    return entries


def _entries(folder: Path, prefix: str, allowed: Sequence[Path], problems: _Problems) -> list[tuple[str, Path]]:
    """Sorted names below the user's folder, and paths without links, of the files and folders directly in `folder`."""
    try:
        found = os.listdir(folder)
    except OSError as error:
        problems.append((prefix or ".", f"it cannot be listed ({error.strerror})"))
        return []
    entries = []
    seen: set[str] = set()
    for plain in sorted(found, key=lambda name: (unicodedata.normalize("NFC", name), name)):
        name, path = unicodedata.normalize("NFC", plain), folder / plain
        if name.startswith(".") or name.casefold() in _LITTER or (name.endswith(_OF_DVC) and path.is_file()):
            continue
        path, problem = _target(path, allowed)
        if name.casefold() in seen:
            problem = "its name differs from another in case or accents' coding only; other machines hold one of them"
        seen.add(name.casefold())
        if problem:
            problems.append((prefix + name, problem))
        else:
            entries.append((prefix + name, path))
    return entries


def _target(path: Path, allowed: Sequence[Path]) -> tuple[Path, str]:
    """The path without links, and why it is refused, or nothing."""
    try:
        path.name.encode()
        real = Path(os.path.realpath(path, strict=True))
    except UnicodeEncodeError:
        return path, "its name is not UTF-8: rename it"
    except OSError as error:
        return path, f"it cannot be reached ({error.strerror})"
    if not any(real.is_relative_to(folder) for folder in allowed):
        return path, f"it is a link out of the folder, to {real}: copy the file"
    if any(unicodedata.category(character) in _BREAKING for character in path.name):
        return path, "its name has a line break or another control character: rename it"
    return real, "" if real.is_file() or real.is_dir() else "it is neither a file nor a folder"


def _refuse(folder: str, problems: _Problems) -> None:
    """Raises an error that names the first problems and counts the rest, if there are any."""
    if not problems:
        return
    lines = [f"  {name if name.isprintable() else ascii(name)}: {problem}" for name, problem in problems[:_MOST_NAMED]]
    if len(problems) > _MOST_NAMED:
        lines.append(f"  and {len(problems) - _MOST_NAMED} more")
    raise StageError("\n".join([f"{folder} is refused; mend or remove these:", *lines]))
