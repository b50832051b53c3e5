"""What a stage worked from: digests of its code, parameters and inputs, taken before and checked after.

DVC hashes dependencies after a command (treeverse/dvc#11058), so an edit made during a run would be
recorded as its cause; this record is what closes that hole.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.code import PACKAGES, code_of, digest_of_code, file_digest, modules_of, sources_of
from pipeline.errors import StageError
from pipeline.files import files_of, sha256_file


@dataclass(frozen=True)
class Provenance:
    """Code, parameters and inputs of one run of a stage."""

    stage: str
    named: tuple[str, ...]  # modules that the parameters name
    code: Mapping[str, str]  # file -> sha256, as pipeline.code.code_of gives it
    params: Mapping[str, Any]  # section -> key -> plain value
    inputs: Mapping[str, str]  # path -> sha256
    input_paths: tuple[Path, ...]  # the files and folders that `inputs` was read from

    @classmethod
    def take(cls, stage: str, named: Iterable[str], params: Mapping[str, Any], inputs: Iterable[Path]) -> "Provenance":
        """Reads and hashes everything now.

        Raises:
            StageError: If an input is missing.
        """
        paths, modules = tuple(inputs), tuple(named)
        return cls(stage, modules, code_of(stage, modules), params, hash_paths(paths), paths)

    @property
    def digest(self) -> str:
        """Hex sha256 of the whole record: equal digests do equal work."""
        return digest_of(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain content, for JSON."""
        return {
            "stage": self.stage,
            "code": digest_of_code(self.code),
            "params": dict(self.params),
            "inputs": dict(self.inputs),
        }

    def verify(self) -> None:
        """Proves that nothing changed since it was taken, and that nothing else was used.

        Raises:
            StageError: If code or an input changed meanwhile, or a module was used that is not in the digest.
        """
        present = [path for path in self.input_paths if path.exists()]
        for before, after in (
            (self.code, {path: file_digest(path) for path in self.code}),
            (self.inputs, hash_paths(present)),
        ):
            for name in sorted(before.keys() | after.keys()):
                was, now = before.get(name, "missing"), after.get(name, "missing")
                if now != was:
                    raise StageError(
                        f"{name} changed while stage {self.stage} ran (sha256 before {was}, now {now}); "
                        f"its results belong to neither version: run `dvc repro` again"
                    )
        unrecorded = loaded_sources() - set(sources_of(modules_of(self.stage, self.named)))
        if unrecorded:
            raise StageError(
                f"stage {self.stage} used {', '.join(sorted(unrecorded))}, which is not in the digest of its code: "
                f"import it where pipeline/code.py can see it"
            )


def digest_of(record: Mapping[str, Any]) -> str:
    """Hex sha256 of what a stage worked from, by its record; the outputs that a written record lists do not count."""
    causes = {name: record[name] for name in ("stage", "code", "sources", "params", "inputs") if name in record}
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


def loaded_sources() -> set[str]:
    """Files of the project's modules that this process has loaded, relative to the root."""
    root = Path.cwd()
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = (Path(file) for file in files if file)
    relative = (path.relative_to(root) for path in paths if path.is_relative_to(root))
    return {str(path) for path in relative if path.parts[0] in PACKAGES}
