"""MNIST: handwritten digits (LeCun, Cortes and Burges)."""

from collections.abc import Callable
from pathlib import Path

from pipeline.given import Given
from pipeline.params import data as section
from pipeline.surroundings import quiet_import


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
        title="MNIST",
        licence="CC BY-SA 3.0",
        citation="LeCun, Cortes and Burges 2010, MNIST handwritten digit database, http://yann.lecun.com/exdb/mnist",
        classes=tuple("0123456789"),
        arrays=read_archives(data.name, scratch, say),
        validation=10000,  # as of Fashion-MNIST, in the same code
    )
