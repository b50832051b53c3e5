"""Whether results are of the code and parameters beside them: those of DVC's stages, and recorded runs.

`python -m workflow.history.staleness` refuses what is stale, as weekly CI does.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.code import read_file
from pipeline.errors import StageError
from workflow.command import end
from workflow.history import seeds
from workflow.history.lock import DATA, LOCK, PARAMS, of_other_code
from workflow.history.presets import stale_presets


def main() -> int:
    """Names each result that is stale, and what makes it anew.

    Returns:
        Exit status: 1 if there is one, or 0.
    """
    found = [*stale_results(), *stale_records()]
    print("\n".join(found) or "All results are of this code, these parameters and these versions.")
    return 1 if found else 0


def stale_results() -> Iterator[str]:
    """The stages whose results are stale, if there are any."""
    if stages := stale_stages():
        yield f"dvc.lock is stale, {', '.join(stages)} would run: `dvc repro`, and commit dvc.lock and metrics/"


def stale_records() -> Iterator[str]:
    """Recorded runs of other code or parameters: those of presets, and the spread over seeds."""
    for name, why in stale_presets().items():
        yield f"preset {name} is stale, as {why}: `make experiment NAME={name}`"
    if seeds.stale():
        yield f"{seeds.PATH} is stale, of other code, parameters or versions: `make seeds`"


def stale_stages(folder: Path = Path()) -> list[str]:
    """Lists the stages that did not run with this code, these parameters and these results. Needs no data.

    `dvc repro --dry` would not do: where data are absent it fails at the first stale stage that needs them. And DVC
    knows of changed code only after `check` has run.

    Raises:
        StageError: If DVC cannot tell.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc status` failed: {done.stderr.strip()}")
    counts = partial(_counts, folder=folder)
    told = [stage for stage, changes in json.loads(done.stdout).items() if any(map(counts, changes))]
    stages, params = (_yaml(folder / name) for name in (LOCK, PARAMS))
    changed = of_other_code(stages.get("stages", {}), params, partial(read_file, folder=folder))
    return [*told, *(stage for stage in changed if stage not in told)]


def _yaml(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path) or {} if path.is_file() else {}


def _counts(change: str | Mapping[str, Mapping[str, Any]], folder: Path) -> bool:
    """Whether a change that DVC tells makes a stage stale: absent data, as in a fresh checkout, do not.

    Data are what lies below data/, and what `dvc add` keeps.
    """
    if isinstance(change, str):  # a changed command
        return True
    files = [entry for changed in change.values() for entry in changed.items()]
    return any(
        state not in ("deleted", "not in cache") or not (path.startswith(DATA) or (folder / f"{path}.dvc").is_file())
        for path, state in files
    )


if __name__ == "__main__":
    end("staleness", main)
