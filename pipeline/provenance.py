"""What a stage worked from: sha256 of its sources, parameters and inputs, taken before and checked after.

DVC hashes dependencies after a command (treeverse/dvc#11058), so an edit made during a run would be
recorded as its cause; this record is what closes that hole.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.files import files_of, sha256_file

#: The project's packages; sources of a stage are their modules that it imports, directly or not.
PACKAGES = ("pipeline", "stages", "vae")


@dataclass(frozen=True)
class Provenance:
    """Sources, parameters and inputs of one run of a stage."""

    stage: str
    sources: Mapping[str, str]  # path -> sha256
    params: Mapping[str, Any]  # section -> key -> value
    inputs: Mapping[str, str]  # path -> sha256
    input_paths: tuple[Path, ...]  # the files and folders that `inputs` was read from

    @classmethod
    def take(
        cls, stage: str, modules: Iterable[str], params: Mapping[str, Any], inputs: Iterable[Path]
    ) -> "Provenance":
        """Reads and hashes everything now.

        Args:
            stage: Name of the stage.
            modules: Modules the stage starts from; what they import is found.
            params: Plain values, JSON-able.
            inputs: Files and folders the stage reads.

        Raises:
            StageError: If an input is missing.
        """
        input_paths = tuple(inputs)
        return cls(
            stage=stage,
            sources={str(path): sha256_file(path) for path in sources_of(modules)},
            params=params,
            inputs=hash_paths(input_paths),
            input_paths=input_paths,
        )

    @property
    def digest(self) -> str:
        """Hex sha256 of the whole record: equal digests do equal work."""
        return digest_of(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain content, for JSON."""
        return {
            "stage": self.stage,
            "sources": dict(self.sources),
            "params": dict(self.params),
            "inputs": dict(self.inputs),
        }

    def verify(self) -> None:
        """Proves that nothing changed since it was taken, and that nothing else was used.

        Raises:
            StageError: If a source or an input changed meanwhile, or a module was used that was not recorded.
        """
        before = {**self.sources, **self.inputs}
        present = [file for path in self.input_paths for file in files_of(path) if path.exists()]
        for name in sorted(before.keys() | {str(file) for file in present}):
            was, now = before.get(name, "missing"), sha256_file(Path(name)) if Path(name).is_file() else "missing"
            if now != was:
                raise StageError(
                    f"{name} changed while stage {self.stage} ran (sha256 before {was}, now {now}); "
                    f"its results belong to neither version: run `dvc repro` again"
                )
        unrecorded = loaded_sources() - set(self.sources)
        if unrecorded:
            raise StageError(
                f"stage {self.stage} used {', '.join(sorted(unrecorded))}, which its provenance does not record: "
                f"import it where pipeline/provenance.py can see it"
            )


def digest_of(record: Mapping[str, Any]) -> str:
    """Hex sha256 of what a stage worked from, also of a record that was written with its outputs beside it."""
    causes = {name: record[name] for name in ("stage", "sources", "params", "inputs")}
    return hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()


def hash_paths(paths: Iterable[Path]) -> dict[str, str]:
    """sha256 by path of each file, and of each file below each folder.

    Raises:
        StageError: If a path does not exist.
    """
    digests: dict[str, str] = {}
    for path in paths:
        if not path.exists():
            raise StageError(f"{path} is missing; expected an output of an earlier stage: run `dvc repro`")
        digests |= {str(file): sha256_file(file) for file in files_of(path)}
    return digests


def sources_of(modules: Iterable[str]) -> list[Path]:
    """Files of `modules` and of every project module they import, found without running them."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        path = _source(module)
        if path is None or module in found:
            continue
        found[module] = path
        waiting += _imports(path)
        waiting.append(module.rpartition(".")[0])
    return sorted(found.values())


def _source(module: str) -> Path | None:
    """The project file of a module, relative to the project's root, which is where stages run."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    base = Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imports(path: Path) -> list[str]:
    """Names that a file imports: modules, and `package.name` which may be one."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def loaded_sources() -> set[str]:
    """Files of the project's modules that this process has loaded, relative to the root."""
    root = Path.cwd()
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = (Path(file) for file in files if file)
    relative = (path.relative_to(root) for path in paths if path.is_relative_to(root))
    return {str(path) for path in relative if path.parts[0] in PACKAGES}
