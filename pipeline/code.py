"""What a stage's code is: one digest of the syntax of every module of the project that it imports.

Comments, docstrings and layout are left out: they change no result. The versions of the numeric packages are in it,
as results follow from them, too. `check` writes the digests to `metrics/code.json`, on which the stages depend.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.environment import NUMERIC_FILE
from pipeline.errors import StageError
from pipeline.params import data, model

#: The digests, by stage.
CODE_FILE = Path("metrics/code.json")

#: The project's packages that stages import.
PACKAGES = ("pipeline", "stages", "vae")

#: Sections of the parameters that name modules, and what says which.
_NAMING = {"data": data.named_modules, "model": model.named_modules}

#: Arguments of `run` that are no sections, by the names of their kinds in `pipeline.stage`.
_NO_SECTIONS = ("Input", "Output", "Source", "Resumable")

#: Returns the content of a file of the project, given by its path from the project's folder; None if there is none.
Reader = Callable[[str], bytes | None]

#: Fields of the syntax tree that say how a thing is written or used, not what it is.
_LAYOUT = ("ctx", "kind", "type_comment")

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read_file(path: str, folder: Path = Path()) -> bytes | None:
    """Reads a file of the project in `folder`. Returns None if there is no such file."""
    file = folder / path
    return file.read_bytes() if file.is_file() else None


def code_digests(stages: Iterable[str], params: Mapping[str, Any], read: Reader = read_file) -> dict[str, str]:
    """Digests of the code of stages, by name.

    Args:
        stages: Names of the stages.
        params: The sections of the parameters, some of which name modules. Older commits lack some.
        read: Reads the files of the project, or those of a commit.

    Raises:
        StageError: If a module reads docstrings.
    """
    named = {name: names(params[name]) for name, names in _NAMING.items() if name in params}
    digests = {}
    for stage in stages:
        modules = [module for section in _taken(stage, named, read) for module in named[section]]
        digests[stage] = digest_of_code(code_of(stage, modules, read))
    return digests


def _taken(stage: str, sections: Iterable[str], read: Reader) -> list[str]:
    """Those of the sections that `run` of a stage takes; its argument `params` is all of them."""
    path = f"stages/{stage}.py"
    body = _tree(path, read(path) or b"").body
    functions = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == "run")
    taken = {argument.arg for function in functions for argument in function.args.args if not _is_path(argument)}
    return [name for name in sections if name in taken or "params" in taken]


def _is_path(argument: ast.arg) -> bool:
    return isinstance(argument.annotation, ast.Name) and argument.annotation.id in _NO_SECTIONS


def code_of(stage: str, named: Iterable[str], read: Reader = read_file) -> dict[str, str]:
    """Hex sha256 of the syntax of each module that a stage imports, and of the versions of packages, by file.

    Args:
        stage: Name of the stage.
        named: Modules that its parameters name.
        read: As for `code_digests`.

    Raises:
        StageError: If a module reads docstrings.
    """
    files = [*sources_of(modules_of(stage, named), read), str(NUMERIC_FILE)]
    return {path: file_digest(path, read) for path in files}


def file_digest(path: str, read: Reader = read_file) -> str:
    """Hex sha256 of a module's syntax, or of the versions in numeric.txt; `missing` if there is no such file."""
    content = read(path)
    if content is None:
        return "missing"
    if path == str(NUMERIC_FILE):
        lines = content.decode().splitlines()
        versions = [line for line in lines if line and not line.startswith("#")]
        return hashlib.sha256("\n".join(versions).encode()).hexdigest()
    return _syntax(path, content)


def digest_of_code(code: Mapping[str, str]) -> str:
    """Hex sha256 of what `code_of` a stage gives."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


def modules_of(stage: str, named: Iterable[str]) -> list[str]:
    """The modules that a stage starts from."""
    return ["stages.__main__", f"stages.{stage}", *named]


def sources_of(modules: Iterable[str], read: Reader = read_file) -> list[str]:
    """Files of `modules` and of every module of the project that they import, found without running them."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module.partition(".")[0] not in PACKAGES:
            continue
        base = module.replace(".", "/")
        for path in (f"{base}.py", f"{base}/__init__.py"):
            if (content := read(path)) is not None:
                found[module] = path
                waiting += [*_imports(path, content), module.rpartition(".")[0]]
                break
    return sorted(found.values())


@cache
def _imports(path: str, source: bytes) -> tuple[str, ...]:
    """Names that a module imports: modules, and `package.name` which may be one."""
    names: list[str] = []
    for node in ast.walk(_tree(path, source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


@cache
def _syntax(path: str, source: bytes) -> str:
    """Hex sha256 of a module's syntax tree without docstrings, equal in every version of Python.

    Raises:
        StageError: If the module reads `__doc__`, on which its results could depend then.
    """
    tree = _tree(path, source)
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and "__doc__" in (getattr(node, "attr", ""), getattr(node, "id", "")):
            raise StageError(
                f"{path}:{node.lineno} reads __doc__; expected code whose results follow from no docstring"
            )
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return hashlib.sha256(json.dumps(_plain(tree)).encode()).hexdigest()


def _tree(path: str, source: bytes) -> ast.Module:
    """The syntax tree of a module.

    Raises:
        StageError: If it cannot be parsed.
    """
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise StageError(f"{path}:{line} is no Python ({error}): mend it, then run `dvc repro` again") from error


def _plain(node: Any) -> Any:
    """A part of a syntax tree as lists; fields that are empty are left out, as older versions do not have them all.

    `ast.dump` would not do: its text is another one from version to version.
    """
    if isinstance(node, ast.Constant):
        return ["Constant", repr(node.value)]
    if isinstance(node, ast.AST):
        fields = ((name, _plain(getattr(node, name, None))) for name in node._fields if name not in _LAYOUT)
        return [type(node).__name__, *([name, value] for name, value in fields if value not in (None, []))]
    return [_plain(one) for one in node] if isinstance(node, list) else node
