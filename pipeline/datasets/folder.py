"""A user's own images, FOLDER/CLASS/* or, without classes, FOLDER/*, each made square and gray."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from pipeline.errors import StageError
from pipeline.given import Given
from pipeline.params import data as section

#: Images that the contact sheet shows, and pairs of equal ones that are named before the rest is counted.
_SHOWN: Final = 10
_NAMED: Final = 5


#: What a shell would take for more than a part of the path, which DVC writes into the stage's command.
_SPECIAL: Final = frozenset('"$`\\')


def _within(source: str) -> str:
    """Refuses what is no path of a folder in the project, before DVC looks for it."""
    parts = Path(source).parts
    if not parts or Path(source).is_absolute() or ".." in parts:
        raise PydanticCustomError("within", "Input should be the path of a folder from the project's, without '..'")
    if not source.isprintable() or _SPECIAL & set(source):
        raise PydanticCustomError("special", 'Input should have no control characters and none of " $ ` \\')
    return source


class Data(section.Data):
    """What each image becomes; `source` is the folder."""

    source: Annotated[str, AfterValidator(_within)]
    side: int = Field(ge=4, le=64)  # pixels; principal components of stage `samples` take its sixth power
    fit: Literal["crop", "pad"]  # keep the middle square, or everything
    background: int = Field(ge=0, le=255)  # gray of padding, and behind transparent pixels
    invert: bool  # v becomes 255 - v

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return self.side, self.side


def read(data: Data, scratch: Path, say: Callable[[str], None]) -> Given:  # noqa: ARG001 - as every data set's
    """Reads the folder, and says what it did to the images and which of them are twice.

    Raises:
        StageError: If the folder, or an image in it, is refused, or it changed meanwhile.
    """
    from pipeline.image_folder import list_folder, read_folder
    from pipeline.images import Conversion, contact_sheet, open_image
    from pipeline.progress import progress

    conversion = Conversion(data.side, data.fit, data.background, data.invert)
    listing = list_folder(data.source, Path(), _cache)
    with progress("reading images", len(listing.names), "image") as bar:
        found = read_folder(listing, conversion, bar.advance)
    if list_folder(data.source, Path(), _cache).names != listing.names:
        raise StageError(f"images came or went while {data.source} was read: run `dvc repro` again")
    for note, count in found.notes.items():
        say(f"{count} of {len(listing.names)} images: {note}")
    for name, earlier in found.twice[:_NAMED]:
        say(f"{name} has the pixels of {earlier}")
    if len(found.twice) > _NAMED:
        say(f"and {len(found.twice) - _NAMED} more are twice")
    ranks = np.arange(len(listing.labels)) - np.searchsorted(listing.labels, listing.labels)  # in their class
    originals = {}
    for index in np.lexsort((listing.labels, ranks))[:_SHOWN]:
        with listing.paths[index].open("rb") as file:
            originals[listing.names[index]] = open_image(file)[0]
    return Given(
        title=f"the folder {data.source}",
        licence="not stated",
        citation="",
        classes=listing.class_names,
        arrays={"images": found.images, "labels": listing.labels},
        sheet=contact_sheet(originals, conversion),
    )


def _cache() -> Path:
    """Where DVC's cache is."""
    done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc cache dir` failed: {done.stderr.strip()}")
    return Path(done.stdout.strip())
