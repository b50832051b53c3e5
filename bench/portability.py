"""`make portability`: the pipeline with kernels of other instruction sets and other thread counts, on one machine.

Needs the results of `make` in this clone; each variation takes as long as they did. What then differs, and by how much,
is written down by file and quantity: `workflow/tolerance.py` tolerates a multiple of it between classes of processors.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tabulate import tabulate

from bench.kernels import kernel_table
from pipeline.errors import StageError
from pipeline.files import atomic, files_of, significant, write_json
from pipeline.params.section import PARAMS_FILE
from pipeline.processor import KERNELS, processor_name
from workflow.distances import distances
from workflow.lock import outputs
from workflow.revisions import WORKSPACE, Revision, resolve
from workflow.tolerance import MEASURED, states_origin
from workflow.working_copy import working_copy

PAGE = Path("bench/portability.md")
KEPT = Path("runs/portability")


@dataclass(frozen=True)
class Variation:
    """Another way to run the same pipeline.

    Attributes:
        words: What it is, for the table.
        params: Parameters that it changes, by section and key.
        variables: Environment variables that it sets.
    """

    words: str
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


VARIATIONS = {
    "avx2": Variation("kernels held to AVX2", {"kernels": {"instruction_set": "avx2"}}),
    "avx512": Variation(
        "kernels held to AVX-512 without bf16",
        variables={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "XLA_FLAGS": "--xla_cpu_max_isa=AVX512"},
    ),
    "one_thread": Variation("one thread", {"threads": {"intra_op": 1}}),
    "avx2_one_thread": Variation(
        "kernels held to AVX2, one thread", {"kernels": {"instruction_set": "avx2"}, "threads": {"intra_op": 1}}
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Runs the variations that are named, or all, and writes what all those that ever ran here differ by.

    Returns:
        Exit status: 0, or 1 with a sentence.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.portability", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="VARIATION", help=f"of {', '.join(VARIATIONS)}; all if left out")
    names = parser.parse_args(arguments).names or list(VARIATIONS)
    try:
        unknown = [name for name in names if name not in VARIATIONS]
        if unknown:
            raise StageError(f"{unknown[0]!r} is no variation; expected some of: {', '.join(VARIATIONS)}")
        for number, name in enumerate(names, 1):
            print(f"portability: {number} of {len(names)}, {VARIATIONS[name].words}", flush=True)
            write_json(KEPT / f"{name}.json", measure(VARIATIONS[name]))
        _write(_kept())
    except StageError as error:
        print(f"portability: {error}", file=sys.stderr)
        return 1
    print(PAGE.read_text(encoding="utf-8"))
    return 0


def measure(variation: Variation) -> dict[str, Any]:
    """What a run of the pipeline in another way differs by from the results in the workspace.

    Raises:
        StageError: If it fails, or the workspace has no results.
    """
    stated = outputs(resolve(WORKSPACE))
    missing = [path for path in stated if not Path(path).exists()]
    if missing:
        raise StageError(f"{missing[0]} is missing; expected the results of `make`: run it, or `dvc checkout`")
    plain = {name: value for name, value in os.environ.items() if name not in KERNELS["avx2"]}
    with working_copy() as copy:
        _change(copy / PARAMS_FILE, variation.params)
        command = ["dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
        if subprocess.run(command, cwd=copy, env={**plain, **variation.variables}, check=False).returncode:
            raise StageError(f"the pipeline failed with {variation.words}; its message stands above")
        found = outputs(Revision(variation.words, None, copy))
        differing = [path for path, md5 in stated.items() if found.get(path) != md5 and not states_origin(path)]
        files = [file.relative_to(copy) for path in differing for file in files_of(copy / path)]
        return {
            "variation": variation.words,
            "train_seconds": json.loads((copy / "runs/train.json").read_text(encoding="utf-8"))["seconds"],
            "outputs": len([path for path in stated if not states_origin(path)]),
            "differing": differing,
            "distances": {str(file): _distances(copy, file) for file in files if not states_origin(str(file))},
        }


def _distances(copy: Path, file: Path) -> dict[str, float]:
    """Distances by quantity; those of another form, which no number tells and nothing tolerates, are left out."""
    found = distances(str(file), (copy / file).read_bytes(), file.read_bytes())
    return {name: distance for name, distance in found.items() if math.isfinite(distance)}


def _change(path: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    yaml = YAML()
    content = yaml.load(path)
    for section, values in changes.items():
        content[section].update(values)
    yaml.dump(content, path)


def _kept() -> list[dict[str, Any]]:
    """What was measured here of each variation, in their order."""
    paths = [KEPT / f"{name}.json" for name in VARIATIONS]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _write(measured: Sequence[Mapping[str, Any]]) -> None:
    """Writes the page, and what `workflow/tolerance.py` reads: the largest distance by file and quantity."""
    largest: dict[str, dict[str, float]] = {}
    for found in measured:
        for path, quantities in found["distances"].items():
            of_file = largest.setdefault(path, {})
            for name, distance in quantities.items():
                of_file[name] = max(of_file.get(name, 0.0), float(significant(distance)))
    write_json(MEASURED, {"variations": [found["variation"] for found in measured], "largest": largest})
    with atomic(PAGE) as partial:
        partial.write_text(_page(measured), encoding="utf-8")


def _class() -> str:
    """The class of processor of the results in the workspace."""
    stated = json.loads(Path("metrics/processor.json").read_text(encoding="utf-8"))
    return f"{stated['instruction_set']}, data caches {stated['caches']}, {stated['intra_op']} threads"


def _page(measured: Sequence[Mapping[str, Any]]) -> str:
    headline = [("metrics/evaluation.json", name) for name in ("nll_nats", "elbo_nats", "kl_nats")]
    headline.append(("metrics/representation.json", "test_accuracy"))
    rows = [
        [
            found["variation"],
            f"{found['outputs'] - len(found['differing'])} of {found['outputs']}",
            *(f"{found['distances'].get(path, {}).get(name, 0.0):.3g}" for path, name in headline),
            f"{found['train_seconds']:.0f}",
        ]
        for found in measured
    ]
    columns = ["variation", "outputs of equal bytes", "NLL", "ELBO", "KL", "accuracy", "training, s"]
    return "\n".join(
        [
            "# Portability\n",
            "Written by `make portability`, not by hand. The pipeline run in other ways on one machine,",
            f"{processor_name()}, {_class()}, against the results of this commit:",
            "the largest difference of any mean of either split, in nats, and of an accuracy; 0 is below the six",
            "digits that metrics have.\n",
            tabulate(rows, columns, tablefmt="github", disable_numparse=True),
            "\nOperations of the libraries, in a process a column, on the same numbers: whether the bytes are those of",
            "the first column.\n",
            kernel_table(),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
