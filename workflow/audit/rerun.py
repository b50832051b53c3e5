"""The whole pipeline of a commit run anew in a clean folder."""

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.files import write_json
from workflow.audit.checkout import Checkout, bring_images, checkout, other_environment, remove_results, stated_python
from workflow.audit.outcomes import Outcome, outcomes
from workflow.audit.recorded import Recorded
from workflow.history.revisions import Revision
from workflow.release.pack import cache_folder

#: Line with which `fetch` names the source that served.
_SERVES = re.compile(r"^(?P<source>.+): serves$", re.MULTILINE)

#: Sources that are reached over a network.
_REMOTE = ("upstream host", "apt-get")

#: What is told of the record of a stage; it may have more, as the release of the kernel.
_TOLD = (
    "stage",
    "digest",
    "ended",
    "seconds",
    "peak_memory_mib",
    "instruction_set",
    "caches",
    "processor",
    "processors",
    "python",
    "packages",
)


@dataclass(frozen=True)
class Run:
    """What was run, how, and what came of it."""

    started: str  # UTC, ISO 8601, of the first attempt
    finished: str  # likewise
    setup_seconds: float  # for making the environment; 0 if the present one is the commit's
    pipeline_seconds: float  # for the whole pipeline; of an audit that was resumed, from then on
    environment: str  # `present`, or what differed, for which the commit's own was made
    source: str  # where the data came from; empty if `fetch` told none
    network: bool  # whether a network was used, or, where no source was told, may have been
    stages: Mapping[str, Mapping[str, Any]]  # what each stage recorded of its run, by name, as far as _TOLD has it
    machine: Mapping[str, Any]  # as workflow.audit.machine tells in that environment
    packages: Mapping[str, Mapping[str, str]]  # likewise
    classes: Mapping[str, Any]  # the class of processor of the commit's results, and of those made anew
    outcomes: Sequence[Outcome]  # the verdict on each output


def rerun(commit: Revision, recorded: Recorded | None) -> Run:
    """Runs the pipeline anew, with the parameters of a recorded run if one is given.

    Raises:
        StageError: If the environment cannot be made or a stage fails.
    """
    name = "-".join(["audit", str(commit.commit)[:12], *([recorded.label] if recorded else [])])
    with checkout(commit, Path("state") / name) as place:
        return _rerun(commit, place, recorded)


def _rerun(commit: Revision, place: Checkout, recorded: Recorded | None) -> Run:
    project, notes = place.project, place.settings / "audit.json"
    began = time.monotonic()
    differing = other_environment(project)
    if differing:
        print(f"audit: the commit's environment is another one ({differing}), so it is made", flush=True)
        python = stated_python(project)
        named = ["env", f"PYTHON=python{python}"] if python else []
        place.run(*named, "sh", "workflow/setup.sh", "runtime")
        place = replace(place, programs=project / ".venv" / "bin")
    ready = time.monotonic()
    if not notes.is_file():
        remove_results(commit, project)
        if recorded:
            recorded.put(place)
        kept = bring_images(commit, project)
        write_json(notes, {"started": now(), "kept": kept})
    told = json.loads(notes.read_text(encoding="utf-8"))
    source = _fetch(place) or ("DVC's cache" if told["kept"] else "")
    place.run("dvc", "repro")
    ended = time.monotonic()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((project / "runs").glob("*.json"))]
    made = Revision("run anew", None, project)
    classes = {"commit": _class(commit), "run anew": _class(made)}
    same_class = classes["commit"] == classes["run anew"]
    return Run(
        started=told["started"],
        finished=now(),
        setup_seconds=round(ready - began, 1) if differing else 0.0,
        pipeline_seconds=round(ended - ready, 1),
        environment=differing or "present",
        source=source,
        network=bool(differing) or not source or source.endswith(_REMOTE),
        stages={
            str(record["stage"]): {name: record[name] for name in _TOLD if name in record}
            for record in records
            if "stage" in record
        },
        **_machine(place),
        classes=classes,
        outcomes=recorded.outcomes(commit, made)
        if recorded
        else outcomes(commit, made, cache_folder(), same_class=same_class),
    )


def _machine(place: Checkout) -> dict[str, Any]:
    """What `workflow.audit.machine` tells in the commit's environment; older commits have no such module."""
    command = ("python", "-m", "workflow.audit.machine")
    done = place.ask(*command, folder=Path())
    if done.returncode:
        raise StageError(f"`{' '.join(command)}` failed in the commit's environment: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def _class(revision: Revision) -> Any:
    try:
        return json.loads(revision.read("metrics/processor.json") or b"{}")
    except ValueError:  # a finding already
        return {}


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _fetch(place: Checkout) -> str:
    """Runs the stages up to `fetch`; the source that served, now or before an interruption."""
    log = place.settings / "fetch.log"
    command = ["dvc", "repro", "fetch"]
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(command, cwd=place.project, env=place.environment, stdout=subprocess.PIPE, text=True) as dvc,
    ):
        assert dvc.stdout
        for line in dvc.stdout:
            print(line, end="", flush=True)
            print(line, end="", flush=True, file=kept)
    if dvc.returncode:
        raise StageError(f"`dvc repro fetch` of the commit failed with status {dvc.returncode}, see above")
    found = _SERVES.search(log.read_text(encoding="utf-8"))
    return found["source"] if found else ""
