"""Kuzushiji-MNIST: characters of old Japanese print, of each row of Hiragana one (Clanuwat et al. 2018)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.given import Given
from pipeline.params import data as section
from pipeline.surroundings import quiet_import

CLASS_NAMES: Final = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class Data(section.LikeMnist):
    """It needs nothing more."""


def read(data: Data, scratch: Path, say: Callable[[str], None]) -> Given:
    """Reads it by way of tensorflow-datasets.

    Raises:
        StageError: If no source serves.
    """
    with quiet_import():
        from pipeline.archives import read_archives

    return Given(
        title="Kuzushiji-MNIST",
        licence="CC BY-SA 4.0",
        citation=(
            "Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto and Ha 2018, Deep learning for classical Japanese "
            "literature, https://arxiv.org/abs/1812.01718"
        ),
        classes=CLASS_NAMES,
        arrays=read_archives(data.name, scratch, say),
    )
