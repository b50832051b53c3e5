"""Audits of recorded runs: that of a preset or of another seed, run anew, against what the commit says it found."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.audit.checkout import Checkout
from workflow.audit.outcomes import DIFFERS, IDENTICAL, WITHIN, Outcome
from workflow.compare.tolerance import held_against
from workflow.history import seeds
from workflow.history.presets import FOLDER
from workflow.history.revisions import Revision

#: The commit's own code that puts the parameters of the run in place, or says why its record is not of that code.
_PUT = {
    "preset": """
import sys
from pathlib import Path
try:
    from workflow.history.presets import stale_presets, write_params
except ImportError:  # an older commit
    from workflow.presets import stale_presets, write_params
sys.exit(stale_presets().get(sys.argv[1]) or write_params(sys.argv[1], Path("params.yaml")))
""",
    "seed": """
import sys
from pathlib import Path
from ruamel.yaml import YAML
try:
    from workflow.history.seeds import PATH, stale
except ImportError:  # an older commit
    from workflow.seeds import PATH, stale
if stale():
    sys.exit(f"{PATH} is of other code, parameters or versions")
params = YAML().load(Path("params.yaml"))
params["train"]["seed"] = int(sys.argv[1])
YAML().dump(params, Path("params.yaml"))
""",
}


@dataclass(frozen=True)
class Recorded:
    """A run of which a commit keeps a record beside its own results.

    Attributes:
        kind: `preset` or `seed`.
        value: The name of the preset, or the seed.
    """

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"

    @property
    def label(self) -> str:
        """For names of files: of a preset its own, of a seed `seed-N`."""
        return self.value if self.kind == "preset" else f"seed-{self.value}"

    @property
    def path(self) -> Path:
        """The file that has the record."""
        return seeds.PATH if self.kind == "seed" else FOLDER / f"{self.value}.json"

    def require(self, revision: Revision) -> None:
        """Proves that a revision has the record.

        Raises:
            StageError: If it has not.
        """
        if self.kind == "seed":
            record = seeds.record_in(revision.read(self.path))
            known = [str(run.seed) for run in record.runs] if record else []
            missing = "" if self.value in known else f"{self.path} has no such run"
        else:
            needed = (self.path.with_suffix(".yaml"), self.path)
            known = sorted(Path(name).stem for name in revision.hashes(str(FOLDER)) if name.endswith(".json"))
            missing = next((f"there is no {path}" for path in needed if revision.read(path) is None), "")
        if missing:
            raise StageError(
                f"{self.kind.upper()} = {self.value!r}: in {revision.label} {missing}; expected one with a record: "
                f"{', '.join(known) or 'there is none'}"
            )

    def put(self, place: Checkout, programs: Path) -> None:
        """Puts the parameters of the run into the checkout.

        Raises:
            StageError: If the record is of other code, parameters or versions than the commit's.
        """
        done = subprocess.run(
            ["python", "-c", _PUT[self.kind], self.value],
            cwd=place.project,
            env=place.environment(programs),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StageError(f"{self} is stale in this commit: {done.stderr.strip()}; audit the commit that made it")

    def outcomes(self, revision: Revision, made: Revision) -> list[Outcome]:
        """A verdict on each part of the record, against the run that `made` holds."""
        content = revision.require(self.path)
        if self.kind == "seed":
            runs = seeds.Record.model_validate_json(content).runs
            [record] = [run.model_dump() for run in runs if str(run.seed) == self.value]
            ours = seeds.run_of(made)
            files = {f"metrics/{name}.json": (ours["metrics"][name], record["metrics"][name]) for name in seeds.FILES}
            parts = {"weights": (ours["weights"], record["weights"]), **files}
        else:
            record = json.loads(content)
            parts = {
                "metrics/evaluation.json": (made.read_json("metrics/evaluation.json"), record["metrics"]),
                "metrics/train.json": (made.read_json("metrics/train.json"), record["training"]),
            }
        here = made.read_json("metrics/processor.json")
        same_class = all(here[name] == record.get(name) for name in seeds.CLASS)
        return [
            _outcome(path, f"{self.path}: {self}: {path}", *map(_canonical, pair), same_class=same_class)
            for path, pair in parts.items()
        ]


def _outcome(path: str, name: str, ours: bytes, theirs: bytes, *, same_class: bool) -> Outcome:
    expected, found = (hashlib.md5(content, usedforsecurity=False).hexdigest() for content in (theirs, ours))
    if ours == theirs:
        return Outcome(name, expected, found, IDENTICAL, "")
    if path == "weights":
        words, beyond = "other weights: judged by the metrics that follow", False
    else:
        words, beyond = held_against({path: ours}, {path: theirs})
    return Outcome(name, expected, found, DIFFERS if beyond or same_class else WITHIN, words)


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
