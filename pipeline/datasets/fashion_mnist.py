"""Fashion-MNIST 3.0.1: garments (Xiao, Rasul and Vollgraf 2017)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.given import Given
from pipeline.params import data as section
from pipeline.surroundings import quiet_import

CLASS_NAMES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

#: Images of the published split for validation, the last ones, and ones in the published binarisation of the test
#: images (Norouzi, Fleet and Norouzi 2020, their code).
VALIDATION: Final = 10000
TEST_ONES: Final = 2248637


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
        title="Fashion-MNIST 3.0.1",
        licence="MIT",
        citation=(
            "Xiao, Rasul and Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking machine learning "
            "algorithms, https://arxiv.org/abs/1708.07747"
        ),
        classes=CLASS_NAMES,
        arrays=read_archives(data.name, scratch, say),
        validation=VALIDATION,
        test_ones=TEST_ONES,
    )
