"""How long the tests take, in seconds and in imports of TensorFlow, the unit in which machines agree.

`python -m bench.tests test` runs what `make test` runs, `more` what CI adds to it, `faults` all faults, `whole`
everything; each ends with a table of its parts, kept in `runs/tests.json`. `ci NAME=SECONDS ...` is told the parts of
`.ci/run`. Without a command, as `make bench-tests` calls it, it times `.ci/run` in a clone and writes
`bench/tests.json`.
"""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from tabulate import tabulate

from bench.figures import measured
from pipeline.files import write_json
from workflow.command import end

KEPT = Path("runs/tests.json")
RESULTS = Path("bench/tests.json")

_PYTEST = (sys.executable, "-m", "pytest", "--numprocesses=auto")
_BY_MODULE = ("--dist=loadfile", "--no-loadscope-reorder")
_TESTS = (*_PYTEST, *_BY_MODULE, "--maxprocesses=4")
_COUNTING = (*_PYTEST, "-p", "tests.faults.counting")
_FAULTS_AND_SCALE = (*_COUNTING, "--maxprocesses=2", *_BY_MODULE, "tests/scale", "tests/faults")

#: What is run for each command, by the names of its parts.
COMMANDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "test": {"tests": _TESTS},
    "more": {"faults and scale": _FAULTS_AND_SCALE},
    "faults": {"faults": (*_COUNTING, "--dist=worksteal", "--maxprocesses=4", "--whole", "tests/faults")},
    "whole": {"tests": (*_TESTS, "--whole"), "faults and scale": (*_FAULTS_AND_SCALE, "--whole")},
}

#: Tests whose time is that of a whole pipeline, which they have made for others.
PIPELINES = ("test_every_stage_runs_once", "test_another_parameter_runs_what_follows_from_it")

#: A module that needs TensorFlow, and one that does not.
MODULES = ("tests/test_objective.py", "tests/test_splits.py")

#: pytest's exit statuses where nothing failed.
OK, NO_TESTS = 0, 5

#: Modules that a table names.
_SHOWN = 8


def main(arguments: Sequence[str]) -> int:
    """Runs a command and prints its table.

    Returns:
        Exit status: that of the part that failed, or 0.
    """
    command, *rest = arguments or ["bench"]
    if command == "bench":
        return _bench()
    if command == "ci":
        _keep(command, {name: float(seconds) for name, seconds in (part.split("=") for part in rest)}, {})
        return 0
    signal.signal(signal.SIGINT, lambda *_: None)  # pytest has it, too, and says what it found so far
    if rest:  # a choice of tests, which is no figure
        done = [subprocess.run([*words, *rest], check=False).returncode for words in COMMANDS[command].values()]
        return next((status for status in done if status not in (OK, NO_TESTS)), OK)
    if not _kept().get("import_seconds") or command != "more":
        write_json(KEPT, {**_kept(), "import_seconds": import_seconds()})
    parts: dict[str, float] = {}
    tests: dict[str, float] = {}
    for name, words in COMMANDS[command].items():
        report = KEPT.with_name(f"tests-{name}.xml")
        report.unlink(missing_ok=True)
        began = time.monotonic()
        status = subprocess.run([*words, f"--junitxml={report}"], check=False).returncode
        parts[name] = time.monotonic() - began
        tests |= _seconds_by_test(report)
        if status:
            return status
    _keep(command, parts, tests)
    return OK


def import_seconds() -> float:
    """Seconds of `import tensorflow` in a new process, the median of three."""
    return median(_timed(sys.executable, "-c", "import tensorflow") for _ in range(3))


def _timed(*command: str, folder: Path = Path()) -> float:
    """Seconds that a command takes, whose output is only shown if it fails."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()
    return time.monotonic() - began


def _seconds_by_test(report: Path) -> dict[str, float]:
    """Seconds of each test with its fixtures, by `module::name`, from pytest's JUnit report."""
    if not report.is_file():
        return {}
    cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 - our own file
    return {f"{case.get('classname')}::{case.get('name')}": float(case.get("time", 0)) for case in cases}


def _kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return found


def _keep(command: str, parts: Mapping[str, float], tests: Mapping[str, float]) -> None:
    """Keeps the seconds of a command's parts, and prints them with the longest of its modules and tests."""
    modules: Counter[str] = Counter()
    for name, seconds in tests.items():
        modules[name.partition("::")[0]] += seconds  # type: ignore[assignment]
    pipeline = {name: seconds for name, seconds in tests.items() if name.endswith(PIPELINES)}
    longest = max(((seconds, name) for name, seconds in tests.items() if name not in pipeline), default=None)
    rows = [*parts.items(), ("all", sum(parts.values()))]
    rows += [(f"a whole pipeline: {name}", seconds) for name, seconds in pipeline.items()]
    rows += [(f"longest other test: {longest[1]}", longest[0])] if longest else []
    rows += [(f"tests of {name}", seconds) for name, seconds in modules.most_common(_SHOWN)]
    kept = _kept()
    unit = kept["import_seconds"]
    found = {"seconds": sum(parts.values()), "imports": sum(parts.values()) / unit, "parts": dict(parts)}
    if longest:
        found |= {"longest_test": longest[1], "longest_test_imports": longest[0] / unit}
    if pipeline:
        found["pipeline_imports"] = max(pipeline.values()) / unit
    write_json(KEPT, {**kept, command: found})
    table = [[name, round(seconds), round(seconds / unit, 1)] for name, seconds in rows]
    print(f"\n{tabulate(table, [command, 'seconds', 'imports'], tablefmt='github')}")
    print(f"An import of TensorFlow takes {unit:.2f} s here; kept in {KEPT}.")


def _bench() -> int:
    """Writes `bench/tests.json`, and prints it."""
    found = measured(_ci)
    write_json(RESULTS, {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()})
    print(RESULTS.read_text(encoding="utf-8"))
    return 0


def _ci() -> dict[str, Any]:
    """Times `.ci/run` in a clone, then two modules alone."""
    with TemporaryDirectory(prefix="fashion-vae-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        subprocess.run(["bash", ".ci/run"], cwd=clone, check=True)
        kept = json.loads((clone / KEPT).read_text(encoding="utf-8"))
        unit = kept["import_seconds"]
        with_tensorflow, without = (_timed(sys.executable, "-m", "pytest", module, folder=clone) for module in MODULES)
    return {
        "import_seconds": unit,
        "make_test_imports": kept["test"]["imports"],
        "make_quick_imports": kept["ci"]["parts"]["quick"] / unit,
        "ci_imports": kept["ci"]["imports"],
        "pipeline_imports": kept["test"]["pipeline_imports"],
        "longest_test_imports": kept["test"]["longest_test_imports"],
        "module_imports": with_tensorflow / unit,
        "module_without_tensorflow_seconds": without,
        **({"make_test_whole_imports": _kept()["whole"]["imports"]} if "whole" in _kept() else {}),
    }


if __name__ == "__main__":
    end("tests", lambda: main(sys.argv[1:]))
