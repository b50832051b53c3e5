"""What a section of `params.yaml` is, and how one is read. This package may reject a value, never change one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import StageError

PARAMS_FILE = Path("params.yaml")

#: What the parser raises for text that is no YAML, or whose tags and values (`!!int x`) it cannot build.
_UNREADABLE = (YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError, RecursionError)

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A section of `params.yaml`: frozen, no defaults, strict types, no unknown keys, no nan or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def named_modules(self) -> list[str]:
        """The project's modules that are imported by a name in this section."""
        return []


class Whole(Section):
    """All of `params.yaml`: its fields are the sections."""


S = TypeVar("S", bound=Section)
W = TypeVar("W", bound=Whole)


def frozen(items: Any) -> tuple[Any, ...]:
    """A YAML list as a tuple, so that nothing can change it; what is no list has no order to keep."""
    if not isinstance(items, list):
        raise PydanticCustomError("list_type", "Input should be a list")
    return tuple(items)


def load_section(kind: type[S], name: str, path: Path = PARAMS_FILE) -> S:
    """The section of this name, checked, whatever the others hold.

    Raises:
        StageError: If it is missing, or a key of it is missing, unknown, of a wrong type or out of range.
    """
    content = _read(path, [name])
    if name not in content:
        raise StageError(f"{path}: section {name!r} is missing; expected its keys: {', '.join(kind.model_fields)}")
    return _validate(kind, content[name], path, prefix=(name,))


def load_whole(kind: type[W], path: Path = PARAMS_FILE) -> W:
    """The whole file, checked.

    Raises:
        StageError: If a key is missing, unknown, of a wrong type or out of range; every one is named.
    """
    return _validate(kind, _read(path, kind.model_fields), path, prefix=())


def _read(path: Path, sections: Iterable[str]) -> dict[str, Any]:
    """YAML as DVC reads it (PyYAML would read `1e-3` as text)."""
    if not path.is_file():
        raise StageError(f"{path} is missing; `git restore {path}` brings the committed one back")
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except _UNREADABLE as error:
        raise StageError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise StageError(f"{path} holds {type(content).__name__}, expected sections: {', '.join(sections)}")
    return content


def _validate(kind: type[S], content: Any, path: Path, prefix: tuple[str, ...]) -> S:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_sentence(kind, details, prefix)}" for details in error.errors()]
        raise StageError("\n".join([f"{path} is refused:", *lines])) from error


def _sentence(kind: type[Section], details: ErrorDetails, prefix: tuple[str, ...]) -> str:
    key = ".".join(str(part) for part in (*prefix, *details["loc"]))
    if details["type"] == "missing":
        return f"{key} is missing; expected a value"
    if details["type"] == "extra_forbidden":
        return f"{key} = {details['input']!r} is unknown; expected one of: {', '.join(_known(kind, details))}"
    return f"{key} = {details['input']!r}: {details['msg'].replace('Input should', 'it should', 1)}"


def _known(kind: Any, details: ErrorDetails) -> list[str]:
    """Keys that are known where an unknown one stands."""
    for part in details["loc"][:-1]:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields)
