"""Audits of recorded runs: that of a preset or of another seed, run anew, against what the commit says it found."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.params.section import PARAMS_FILE
from workflow.audit.checkout import Checkout
from workflow.audit.outcomes import Outcome, judged
from workflow.history import seeds
from workflow.history.lock import WEIGHTS, md5_hex, outputs
from workflow.history.presets import FOLDER, merged
from workflow.history.revisions import Revision

#: Asks the commit's own code whether the record of a run is of that code.
_STALE = """
import sys
try:
    from workflow.history import presets, seeds
except ImportError:  # an older commit
    from workflow import presets, seeds
kind, value = sys.argv[1:]
if kind == "preset":
    sys.exit(presets.stale_presets().get(value))
if seeds.stale():
    sys.exit(f"{seeds.PATH} is of other code, parameters or versions")
"""


@dataclass(frozen=True)
class Recorded:
    """A run of which a commit keeps a record beside its own results."""

    kind: str  # `preset` or `seed`
    value: str  # the name of the preset, or the seed

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
        else:
            names = revision.hashes(str(FOLDER))
            stems = [Path(name).stem for name in names if name.endswith(".json")]
            known = [stem for stem in stems if f"{FOLDER}/{stem}.yaml" in names]
        if self.value not in known:
            raise StageError(
                f"{self.kind.upper()} = {self.value!r}: {revision.label} has no such run in {self.path}; expected one "
                f"whose parameters and record it has: {', '.join(known) or 'there is none'}"
            )

    def put(self, place: Checkout) -> None:
        """Puts the parameters of the run into the checkout.

        Raises:
            StageError: If the record is of other code, parameters or versions than the commit's.
        """
        done = place.ask("python", "-c", _STALE, self.kind, self.value)
        if done.returncode:
            raise StageError(f"{self} is stale in this commit: {done.stderr.strip()}; audit the commit that made it")
        yaml = YAML(typ="safe")
        if self.kind == "seed":
            changes = {"train": {"seed": int(self.value)}}
        else:
            changes = yaml.load(place.project / self.path.with_suffix(".yaml"))
        params = place.project / PARAMS_FILE
        YAML().dump(merged(yaml.load(params), changes), params)

    def outcomes(self, revision: Revision, made: Revision) -> list[Outcome]:
        """A verdict on each part of the record, against the run that `made` holds."""
        content = revision.require(self.path)
        if self.kind == "seed":
            runs = seeds.Record.model_validate_json(content).runs
            [record] = [run.model_dump() for run in runs if str(run.seed) == self.value]
            theirs = {name: record["metrics"].get(name) for name in seeds.FILES}
            ours = seeds.run_of(made)["metrics"]
        else:
            record = json.loads(content)
            theirs = {"evaluation": record["metrics"], "train": record["training"]}
            ours = {name: made.read_json(f"metrics/{name}.json") for name in theirs}
        here = made.read_json("metrics/processor.json")
        same_class = all(here[name] == record.get(name) for name in seeds.CLASS)
        judge = partial(judged, same_class=same_class)
        prefix = f"{self.path}: {self}: "
        verdicts = []
        if "weights" in record:
            verdicts.append(judge(f"{prefix}weights", record["weights"], outputs(made)[WEIGHTS], None))
        for name, stated in theirs.items():
            path, found, expected = f"metrics/{name}.json", _canonical(ours[name]), _canonical(stated)
            contents = {path: found}, {path: expected}
            verdicts.append(judge(f"{prefix}{path}", md5_hex(expected), md5_hex(found), contents))
        return verdicts


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
