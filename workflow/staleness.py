"""Whether results are of the code and parameters beside them, by DVC."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.lock import DATA


def stale_stages(folder: Path = Path()) -> list[str]:
    """Stages that are not run with this code, these parameters and results as they stand; data need not be there.

    `dvc repro --dry` would not do: where data are absent it fails at the first stale stage that needs them.

    Raises:
        StageError: If DVC cannot tell.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`dvc status` failed: {done.stderr.strip()}")
    return [stage for stage, changes in json.loads(done.stdout).items() if any(map(_counts, changes))]


def _counts(change: str | Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a change that DVC tells makes a stage stale: absent data, as in a fresh checkout, do not."""
    if isinstance(change, str):  # a changed command
        return True
    files = [entry for changed in change.values() for entry in changed.items()]
    return any(not path.startswith(DATA) or state not in ("deleted", "not in cache") for path, state in files)
