"""The section `data`."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from pipeline import datasets
from pipeline.errors import StageError
from pipeline.params.section import Name, Section

DATASETS: Final = "pipeline.datasets"

_Tracked = Literal["datasets.json"]

#: sha256 of arrays by data set, which a first fetch adds to and every later one is held against.
SHA256_FILE: Final = Path(*get_args(_Tracked))


class Data(Section):
    """A module of `pipeline/datasets`, and what that needs: its class `Data` has the keys."""

    name: Name
    source: str  # what the images depend on: a file or folder of the project

    @classmethod
    def chosen(cls, content: Any) -> type[Self]:
        """The class `Data` of the module that `content` names.

        Raises:
            StageError: If there is no such module.
        """
        if not isinstance(content, Mapping) or "name" not in content:
            return cls
        names = [module.name for module in pkgutil.iter_modules(datasets.__path__)]
        if content["name"] not in names:
            raise StageError(f"data.name = {content['name']!r}: it should be one of: {', '.join(sorted(names))}")
        kind: type[Self] = importlib.import_module(f"{DATASETS}.{content['name']}").Data
        return kind

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image; known before anything is read."""
        raise NotImplementedError

    @property
    def full_name(self) -> str:
        """The name under which its arrays are known; of a data set with variants, with the variant."""
        return self.name

    @property
    def named_modules(self) -> list[str]:
        """The data set."""
        return named_modules(self.model_dump())


class Published(Data):
    """A data set that is the same for everybody: its arrays are proven by `SHA256_FILE`."""

    source: _Tracked


class LikeMnist(Published):
    """One of the MNIST family, whose images have one size."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return 28, 28


def named_modules(section: Mapping[str, Any]) -> list[str]:
    """The module that a section `data` names."""
    return [f"{DATASETS}.{section['name']}"]
