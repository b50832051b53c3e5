"""EMNIST: handwritten digits and letters, in six variants (Cohen, Afshar, Tapson and van Schaik 2017)."""

from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final, Literal

import numpy as np

from pipeline.given import Given
from pipeline.params import data as section
from pipeline.surroundings import quiet_import

#: Small letters that are not merged with their capitals, which look the same.
_UNMERGED: Final = "abdefghnqrt"

#: Classes of each variant. Those of `letters` are capitals and small ones together; upstream counts them from 1.
CLASSES: Final = {
    "balanced": digits + ascii_uppercase + _UNMERGED,
    "byclass": digits + ascii_uppercase + ascii_lowercase,
    "bymerge": digits + ascii_uppercase + _UNMERGED,
    "digits": digits,
    "letters": ascii_uppercase,
    "mnist": digits,
}


class Data(section.LikeMnist):
    """Which variant."""

    variant: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"]

    @property
    def full_name(self) -> str:
        """The name with the variant."""
        return f"{self.name}/{self.variant}"


def read(data: Data, scratch: Path, say: Callable[[str], None]) -> Given:
    """Reads it by way of tensorflow-datasets, which takes the first 88 800 and 14 800 images of `letters`.

    Raises:
        StageError: If no source serves.
    """
    with quiet_import():
        from pipeline.archives import read_archives

    arrays = read_archives(data.name, scratch, say, data.variant)
    for split in ("train", "test"):
        arrays[f"{split}_images"] = np.ascontiguousarray(arrays[f"{split}_images"].transpose(0, 2, 1))  # they lie
        if data.variant == "letters":
            arrays[f"{split}_labels"] -= 1
    return Given(
        title=f"EMNIST, {data.variant}",
        licence="public domain, as a work of NIST, which states no licence",
        citation=(
            "Cohen, Afshar, Tapson and van Schaik 2017, EMNIST: extending MNIST to handwritten letters, IJCNN, "
            "https://doi.org/10.1109/IJCNN.2017.7966217"
        ),
        classes=tuple(CLASSES[data.variant]),
        arrays=arrays,
    )
