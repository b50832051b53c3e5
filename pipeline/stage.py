"""Runs a stage: loads its parameters, takes its paths from the command line, records what it worked from.

A stage is a module of `stages/` with a function `run`, whose annotations say what it needs: a `Section` of
`pipeline.params` is that section of `params.yaml`; `Input` and `Output` are paths given as `--name PATH`, and so is
`Source`, which the provenance does not list, as the stage proves it itself and may add to it; `Resumable` is the state
of unfinished work, kept in the folder `state`. Beside its outputs a stage writes `metrics/provenance/STAGE.json`, and
`runs/STAGE.json`, which git does not hold.
"""

import argparse
import contextlib
import inspect
import json
import os
import platform
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import psutil

from pipeline.code import CODE_FILE, code_of, digest_of_code
from pipeline.environment import NUMERIC_FILE, NUMERIC_PACKAGES, read_numeric, verify_numeric
from pipeline.errors import INTERRUPTED, StageError
from pipeline.files import write_json
from pipeline.params.kernels import Kernels
from pipeline.params.section import Section, Whole, load_section, load_whole
from pipeline.processor import caches, instruction_set, processor_name
from pipeline.provenance import Provenance, hash_paths
from pipeline.schedule import GRAPH, place
from pipeline.state import State

Input = Annotated[Path, "input"]
Output = Annotated[Path, "output"]
Source = Annotated[Path, "source"]
Resumable = Annotated[State, "state"]

#: Where a stage says what it worked from, and what only this machine knows of its run.
PROVENANCE, RUNS = Path("metrics/provenance"), Path("runs")

STATE = Path("state")

RESTORE = (
    "`git restore dvc.lock metrics && dvc checkout` brings the last committed results back "
    "(data/ as far as this clone has made or pulled it)."
)

#: Shells that stay between DVC and the command they start; others replace themselves by it.
_SHELLS = ("sh", "dash", "bash", "zsh", "ksh", "fish")


def run_stage(stage: str, load: Callable[[], Callable[..., None]], argv: list[str]) -> NoReturn:
    """Runs the stage whose `run` function `load` returns, with its paths from `argv`, and exits.

    The status is 0 if it is done, 1 if it was refused or failed with a sentence, 130 if it was interrupted.
    """
    _end_with_dvc()
    try:
        early = code_of(stage, [])
        _run(stage, load(), argv, early)
    except KeyboardInterrupt:
        sys.exit(_say(stage, "interrupted; the same command takes it up again.", INTERRUPTED))
    except (StageError, FloatingPointError) as error:
        sys.exit(_fail(stage, f"{error}"))
    except OSError as error:
        sys.exit(_fail(stage, f"{error}: make room or mend the permissions, then run `dvc repro` again."))
    except Exception as error:  # noqa: BLE001 - DVC has removed the outputs: whatever it is, the way back is told
        traceback.print_exc()
        mend = "nobody foresaw this: report it with the lines above, or mend what they name, and run `dvc repro` again."
        sys.exit(_fail(stage, f"{type(error).__name__}: {error}: {mend}"))
    sys.exit(0)


def _fail(stage: str, message: str) -> int:
    """Says why, and the way back to what DVC has removed: the outputs of every stage but `check`, which persist."""
    return _say(stage, message if stage == "check" else f"{message}\n{RESTORE}", 1)


def _say(stage: str, message: str, status: int) -> int:
    print(f"\n{stage}: {message}", file=sys.stderr)
    return status


def _run(stage: str, run: Callable[..., None], argv: list[str], early: Mapping[str, str]) -> None:
    """Runs `run`; `early` has the digests of its code from before it was imported."""
    started = time.monotonic()
    hints = get_type_hints(run, include_extras=True)
    inputs, sources, outputs, resumables = (
        [name for name, hint in hints.items() if hint == kind] for kind in (Input, Source, Output, Resumable)
    )
    kinds = {name: hint for name, hint in hints.items() if inspect.isclass(hint) and issubclass(hint, Section)}
    takes_whole = any(issubclass(kind, Whole) for kind in kinds.values())  # as `check` does
    paths = _parse([*inputs, *sources, *outputs], argv)
    if "DVC_STAGE" in os.environ and GRAPH.is_file() and not takes_whole:  # before `check` nobody knows what is to run
        with contextlib.suppress(Exception):  # no stage fails for what only tells how far it is
            print(f"{stage}: {place(stage, RUNS)}", flush=True)
    verify_numeric(NUMERIC_FILE)
    sections = _load_sections(kinds)
    recorded = sections if takes_whole else {"kernels": load_section(Kernels, "kernels"), **sections}
    provenance = Provenance.take(
        stage=stage,
        named=[name for section in sections.values() for name in section.named_modules],
        params={name: section.model_dump(mode="json") for name, section in recorded.items()},
        inputs=[paths[name] for name in inputs],
    )
    edited = [name for name, digest in early.items() if provenance.code[name] != digest]
    if edited:
        raise StageError(f"{', '.join(edited)} changed while stage {stage} was imported: run `dvc repro` again")
    if not takes_whole:  # else it writes the digests
        _require_listed(stage, digest_of_code(provenance.code))
    key = sha256(f"{provenance.digest} {instruction_set()}".encode()).hexdigest()  # other kernels end with other bytes
    states = {name: State(STATE, stage, key) for name in resumables}
    run(**sections, **paths, **states)
    provenance.verify()
    for name, section in _load_sections(kinds).items():
        if section != sections[name]:
            raise StageError(
                f"section {name} of the parameters changed while stage {stage} ran (before {sections[name]}, "
                f"now {section}); its results belong to neither version: run `dvc repro` again"
            )
    ran_on = {"instruction_set": instruction_set(), "caches": caches()}
    made = hash_paths(paths[name] for name in outputs)
    write_json(PROVENANCE / f"{stage}.json", [{**provenance.as_dict(), **ran_on, "outputs": made}])
    for state in states.values():
        state.discard()
    write_json(RUNS / f"{stage}.json", _run_record(stage, provenance, time.monotonic() - started))


def _require_listed(stage: str, digest: str) -> None:
    """Proves that DVC runs the stage for this code, and not for what another `check` has found.

    Raises:
        StageError: If `metrics/code.json` has another digest, or none.
    """
    listed = json.loads(CODE_FILE.read_text(encoding="utf-8")).get(stage, "none") if CODE_FILE.is_file() else "none"
    if listed != digest:
        raise StageError(
            f"{CODE_FILE} has the digest {listed} of {stage}, its code has {digest}: `dvc repro` runs `check`, which "
            f"writes that file, before the stage"
        )


def _parse(names: Iterable[str], argv: list[str]) -> dict[str, Path]:
    """Paths by name."""
    parser = argparse.ArgumentParser(prog="python -m stages NAME", allow_abbrev=False)
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    return vars(parser.parse_args(argv))


def _load_sections(kinds: Mapping[str, type[Section]]) -> dict[str, Section]:
    return {
        name: load_whole(kind) if issubclass(kind, Whole) else load_section(kind, name) for name, kind in kinds.items()
    }


def _run_record(stage: str, provenance: Provenance, seconds: float) -> dict[str, Any]:
    """What only this run and this machine know; not tracked."""
    return {
        "stage": stage,
        "digest": provenance.digest,
        "params": provenance.params,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "peak_memory_mib": peak_memory_mib(resource.RUSAGE_SELF),
        "instruction_set": instruction_set(),
        "caches": caches(),
        "processor": processor_name(),
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name, version in read_numeric().items() if name in NUMERIC_PACKAGES},
    }


def peak_memory_mib(who: int) -> float:
    """Peak memory in MiB: of this process, or of the largest of its children that ended.

    Args:
        who: `resource.RUSAGE_SELF` or `resource.RUSAGE_CHILDREN`.
    """
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 2**20


def _end_with_dvc() -> None:
    """Ends this process when the `dvc` that started it is gone, so that no orphan keeps the lock or writes outputs."""
    if "DVC_STAGE" not in os.environ:
        return

    def watch() -> None:
        pause = threading.Event()
        with contextlib.suppress(psutil.NoSuchProcess):  # it is gone while it is looked at
            dvc = _starter()
            while dvc and dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
                pause.wait(0.2)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def _starter() -> psutil.Process | None:
    """The process that started this one, itself or through a shell; None if it is gone."""
    parent = psutil.Process().parent()
    return parent.parent() if parent and parent.name() in _SHELLS else parent
