"""The whole pipeline of a commit run anew in a clean folder."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.files import write_json
from workflow.audit.checkout import Checkout, other_environment, remove_results, stated_python
from workflow.audit.machine import described
from workflow.audit.recorded import Recorded
from workflow.history.revisions import Revision

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
    """What was run, and how.

    Attributes:
        started: UTC, ISO 8601, of the first attempt.
        finished: Likewise.
        setup_seconds: Making the environment; 0 if the present one is the commit's.
        pipeline_seconds: The whole pipeline; of an audit that was resumed, from then on.
        environment: `present`, or what differed, for which the commit's own was made.
        source: Where the data came from; empty if `fetch` told none.
        network: Whether a network was used, or, where no source was told, may have been.
        stages: What each stage recorded of its run, by name, as far as `_TOLD` has it.
        machine: As `workflow.audit.machine.machine` tells in that environment.
        packages: As `workflow.audit.machine.packages` tells in it.
    """

    started: str
    finished: str
    setup_seconds: float
    pipeline_seconds: float
    environment: str
    source: str
    network: bool
    stages: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    packages: Mapping[str, Mapping[str, str]]


def rerun(commit: Revision, place: Checkout, recorded: Recorded | None) -> Run:
    """Runs it; the results are in the checkout then.

    Raises:
        StageError: If the environment cannot be made or a stage fails.
    """
    project, notes = place.project, place.settings / "audit.json"
    began = time.monotonic()
    programs, differing = Path(sys.executable).parent, other_environment(project)
    if differing:
        print(f"audit: the commit's environment is another one ({differing}), so it is made", flush=True)
        python = stated_python(project)
        named = ["env", f"PYTHON=python{python}"] if python else []
        place.run(*named, "sh", "workflow/setup.sh", "runtime", programs=programs)
        programs = project / ".venv" / "bin"
    made = time.monotonic()
    if not notes.is_file():
        remove_results(commit, project)
        if recorded:
            recorded.put(place, programs)
        write_json(notes, {"started": _now()})
    noted = json.loads(notes.read_text(encoding="utf-8"))
    source = _fetch(place, programs)
    place.run("dvc", "repro", programs=programs)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((project / "runs").glob("*.json"))]
    ran_on, installed = described(programs, place.environment(programs))
    return Run(
        started=noted["started"],
        finished=_now(),
        setup_seconds=round(made - began, 1) if differing else 0.0,
        pipeline_seconds=round(time.monotonic() - made, 1),
        environment=differing or "present",
        source=source,
        network=bool(differing) or not source or source.endswith(_REMOTE),
        stages={
            str(record["stage"]): {name: record[name] for name in _TOLD if name in record}
            for record in records
            if "stage" in record
        },
        machine=ran_on,
        packages=installed,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _fetch(place: Checkout, programs: Path) -> str:
    """Runs the stages up to `fetch`; the source that served, now or before an interruption."""
    log = place.settings / "fetch.log"
    command = ["dvc", "repro", "fetch"]
    environment = place.environment(programs)
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(command, cwd=place.project, env=environment, stdout=subprocess.PIPE, text=True) as dvc,
    ):
        assert dvc.stdout
        for line in dvc.stdout:
            print(line, end="", flush=True)
            print(line, end="", flush=True, file=kept)
    if dvc.returncode:
        raise StageError(f"`dvc repro fetch` of the commit failed with status {dvc.returncode}, see above")
    found = _SERVES.search(log.read_text(encoding="utf-8"))
    return found["source"] if found else ""
