"""What a section of `params.yaml` is, and how one is read. This package may reject a value, never change one."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
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

    @classmethod
    def chosen(cls, content: Any) -> type[Self]:  # noqa: ARG003 - sections that name a class look at it
        """The class that content is checked by: itself, or one that the content names.

        Raises:
            StageError: If it names none.
        """
        return cls


class Whole(Section):
    """All of `params.yaml`: its fields are the sections."""

    @property
    def named_modules(self) -> list[str]:
        """Those of all sections."""
        return [module for name in type(self).model_fields for module in getattr(self, name).named_modules]

    @classmethod
    def chosen(cls, content: Any) -> type[Self]:
        """This class with the chosen one of each section."""
        given = content if isinstance(content, Mapping) else {}
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        sections = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}
        chosen = {name: kind.chosen(given.get(name)) for name, kind in sections.items()}
        changed = tuple((name, kind) for name, kind in chosen.items() if kind is not kinds[name])
        return cast(type[Self], _with(cls, changed)) if changed else cls


S = TypeVar("S", bound=Section)
W = TypeVar("W", bound=Whole)


@cache
def _with(kind: type[Whole], sections: tuple[tuple[str, type[Section]], ...]) -> type[Whole]:
    """A class like `kind` with other classes for some sections; always the same one, as values of two are unequal."""
    fields: dict[str, Any] = {name: (section, ...) for name, section in sections}
    return create_model(kind.__name__, __base__=kind, __module__=kind.__module__, **fields)


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
        kind = kind.chosen(content)
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_sentence(kind, details, prefix)}" for details in error.errors()]
        raise StageError("\n".join([f"{path} is refused:", *lines])) from error
    except StageError as error:
        raise StageError(f"{path} is refused:\n  {error}") from error


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
