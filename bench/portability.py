"""`make portability`: the pipeline with kernels of other instruction sets, other thread counts, on other processors.

Needs the results of `make` in this clone; each variation but `processor` takes as long as they did. It records what
differs and by how much, by file and quantity, and keeps what was measured of other variations, here or elsewhere.
`workflow/compare/tolerance.py` tolerates a multiple of the largest difference of each unit between processor classes.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dvc.utils.serialize import modify_yaml

from bench.figures import measured, publish
from bench.kernels import kernel_table, without_caps
from pipeline.errors import StageError
from pipeline.files import files_of, write_json
from pipeline.params.section import PARAMS_FILE
from pipeline.processor import instruction_set
from workflow.command import end
from workflow.compare.changes import changes
from workflow.compare.distances import distances
from workflow.compare.tolerance import MEASURED, largest, states_origin
from workflow.history.lock import outputs
from workflow.history.revisions import WORKSPACE, Revision, resolve
from workflow.history.working_copy import working_copy

PAGE = Path("bench/portability.md")
RECORD = Path("bench/portability.json")


@dataclass(frozen=True)
class Variation:
    """Another way to run the same pipeline.

    Attributes:
        words: What it is, for the table.
        params: Parameters that it changes, by section and key.
        variables: Environment variables that it sets.
        of_avx512: Whether it only makes a difference on a processor with AVX-512.
    """

    words: str
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    of_avx512: bool = False


VARIATIONS = {
    "avx2": Variation("kernels held to AVX2", {"kernels": {"instruction_set": "avx2"}}, of_avx512=True),
    "avx512": Variation(
        "kernels held to AVX-512 without bf16",
        variables={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "XLA_FLAGS": "--xla_cpu_max_isa=AVX512"},
        of_avx512=True,
    ),
    "one_thread": Variation("one thread", {"threads": {"intra_op": 1}}),
    "avx2_one_thread": Variation(
        "kernels held to AVX2, one thread",
        {"kernels": {"instruction_set": "avx2"}, "threads": {"intra_op": 1}},
        of_avx512=True,
    ),
}

#: Compares what `make` made here with what is committed, of another class of processor; runs nothing.
PROCESSOR = "processor"

#: Looks at operations of the libraries, one by one.
OPERATIONS = "operations"


def main(arguments: Sequence[str]) -> int:
    """Runs the variations that are named, or all, and writes what was ever measured of any.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If a variation is not known, or fails.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.portability", allow_abbrev=False)
    known = [*VARIATIONS, OPERATIONS, PROCESSOR]
    parser.add_argument(
        "names",
        nargs="*",
        metavar="VARIATION",
        help=f"of {', '.join(known)}; without any all that this processor has, but the last",
    )
    here = [name for name, variation in VARIATIONS.items() if _applies(variation)]
    names = parser.parse_args(arguments).names or [*here, OPERATIONS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StageError(f"{unknown[0]!r} is no variation; expected some of: {', '.join(known)}")
    names.sort(key=lambda name: name != OPERATIONS)  # first, as its memory is that of all processes until then
    for number, name in enumerate(names, 1):
        print(f"portability: {number} of {len(names)}, {name}", flush=True)
        found = measured(partial(_found, name))
        write_json(RECORD, {**_known(), name: found})
    _write(_known())
    return 0


def _found(name: str) -> dict[str, Any]:
    if name == OPERATIONS:
        return {"table": kernel_table()}
    return compare_processors() if name == PROCESSOR else measure(VARIATIONS[name])


def _known() -> dict[str, Any]:
    """What was measured of each variation, on whatever machine."""
    known: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    return known


def _write(known: Mapping[str, Any]) -> None:
    """Writes the page, and what `workflow/compare/tolerance.py` reads: the largest distance by unit."""
    measured = [known[name] for name in (*VARIATIONS, PROCESSOR) if name in known]
    found = largest(of["distances"] for of in measured)
    write_json(MEASURED, {"variations": [of["variation"] for of in measured], "largest": found})
    publish(PAGE, {"measured": measured, "operations": known.get(OPERATIONS)})


def _applies(variation: Variation) -> bool:
    return not variation.of_avx512 or "avx512" in instruction_set()


def measure(variation: Variation) -> dict[str, Any]:
    """What a run of the pipeline in another way differs by from the results in the workspace.

    Raises:
        StageError: If it fails, or the workspace has no results.
    """
    if not _applies(variation):
        raise StageError(f"{variation.words}: this processor is {instruction_set()}; expected one with AVX-512")
    here = resolve(WORKSPACE)
    missing = [path for path in outputs(here) if not Path(path).exists()]
    if missing:
        raise StageError(f"{missing[0]} is missing; expected the results of `make`: run it, or `dvc checkout`")
    with working_copy() as copy:
        with modify_yaml(str(copy / PARAMS_FILE)) as content:
            for section, values in variation.params.items():
                content[section] |= values
        command = ["dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
        if subprocess.run(command, cwd=copy, env={**without_caps(), **variation.variables}, check=False).returncode:
            raise StageError(f"the pipeline failed with {variation.words}; its message stands above")
        return _record(here, Revision(variation.words, None, copy))


def compare_processors() -> dict[str, Any]:
    """What the results in the workspace differ by from the committed ones, made on another class of processor.

    Raises:
        StageError: If both are of one class, or of other code or parameters.
    """
    here, committed = resolve(WORKSPACE), resolve("HEAD")
    if _class(here) == _class(committed):
        raise StageError(f"the committed results are of this class, {_class(here)}: expected `make` to run on another")
    between = changes(committed, here)
    changed = [*between["code"], *(f"{row['name']} of params.yaml" for row in between["params"])]
    if changed:
        raise StageError(f"{changed[0]} differs from the commit; expected results of the same code and parameters")
    return _record(committed, replace(here, name=f"results of {_class(here)}"))


def _record(before: Revision, after: Revision) -> dict[str, Any]:
    """What the outputs of `after` differ by from those of `before`: all their files, or those that a commit has.

    Outputs that only state where the others come from are left out, and so are distances of another form, which no
    number tells and nothing tolerates.
    """
    stated, found = (
        {path: md5 for path, md5 in outputs(side).items() if not states_origin(path)} for side in (before, after)
    )
    differing = [path for path, md5 in stated.items() if found.get(path) != md5]
    if before.commit is None:
        files = [str(file.relative_to(after.folder)) for path in differing for file in files_of(after.folder / path)]
    else:
        files = [path for path in differing if before.read(path) is not None]
    train = after.read_json("runs/train.json")
    return {
        "variation": after.name,
        "machine": _class(before),
        "train_seconds": train["seconds"],
        "peak_memory_mib": round(train["peak_memory_mib"]),
        "outputs": len(stated),
        "differing": len(differing),
        "distances": {path: _finite(path, before, after) for path in files if not states_origin(path)},
    }


def _finite(path: str, before: Revision, after: Revision) -> dict[str, float]:
    found = distances(path, after.require(path), before.require(path))
    return {name: distance for name, distance in found.items() if math.isfinite(distance)}


def _class(revision: Revision) -> str:
    """The class of processor of the results of a revision."""
    stated = revision.read_json("metrics/processor.json")
    return f"{stated['instruction_set']}, data caches {stated['caches']}, {stated['intra_op']} threads"


if __name__ == "__main__":
    end("portability", lambda: main(sys.argv[1:]))
