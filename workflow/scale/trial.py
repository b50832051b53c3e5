"""One trial: the pipeline up to some stages, in a working copy, reported epoch by epoch and saved as an experiment."""

import csv
import json
import re
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.utils.serialize import load_yaml
from ray import tune

from pipeline.errors import StageError
from pipeline.files import significant
from pipeline.params.section import PARAMS_FILE
from workflow.history.origin import cost
from workflow.scale.copy import WorkingCopy, history_so_far
from workflow.scale.spec import OBJECTIVES

#: Seconds between two looks at the history of a training.
_PAUSE = 0.1

#: What stages say of parameters that break a rule, or end in a loss that is not finite: a verdict, not a fault.
_UNFIT = re.compile(r"^(?P<why>check: .+(?:\n  .+)*|train: the .+ became \S+ at .+)$", re.MULTILINE)

_HISTORY = Path("metrics/history.csv")
_KEPT = "trial.json"


class Trial(tune.Trainable):
    """Runs a trial. Its configuration is `job` (see `Plan.job`) and, by their keys, the parameters that it changes.

    A result is a row of the history of training, with all rows so far as `history`: Ray Tune's own files of results may
    lack some once a trial was lost with its node. The result of the last epoch has `experiment`, the name that the
    trial was saved by, and `train`, what its training cost, or None; or else it has `unfit`, the reason. A checkpoint
    is the state from which training resumes with the same bytes.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Makes the working copy, which the trials of this process share, with its data."""
        job = config["job"]
        self._copy = WorkingCopy(Path(job["project"]), job["commit"], job["targets"])
        self._copy.prepare()
        self._begin(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Begins another trial in the working copy."""
        self._rows.close()
        self._begin(config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        self._copy.reset({key: value for key, value in config.items() if "." in key})
        train = load_yaml(self._copy.path / PARAMS_FILE)["train"]
        self._epochs = int(train["epochs"])
        self._name = config["job"]["name"].format(trial=self.trial_id, seed=train["seed"])
        self._kept: dict[str, Any] = {"began": time.time(), "history": [], "pipeline_seconds": 0.0}
        self._rows = self._run()

    def step(self) -> dict[str, Any]:
        """Waits for the next epoch that was validated; after the last one saves the experiment."""
        began = time.monotonic()
        row = next(self._rows)
        self._kept["pipeline_seconds"] += time.monotonic() - began
        if "unfit" in row:
            return {**row, "done": True, **self._kept}
        self._kept["history"] = [*self._kept["history"], row]
        if row["epoch"] < self._epochs:
            return {**row, "done": False, **self._kept}
        self._copy.save(self._name)
        told = {"experiment": self._name, "train": cost("train", self._copy.path)}
        return {**row, **told, "done": True, **self._kept}

    def _run(self) -> Generator[dict[str, Any], None, None]:
        """Runs the pipeline, and yields each row of its history that was not reported; the last one when all is done.

        Raises:
            StageError: If it fails. Unfit parameters are no failure but a row of their own.
        """
        try:
            for _ in self._copy.running(_PAUSE):
                rows = [_row([significant(value) for value in row]) for row in history_so_far(self._copy.state)]
                yield from (row for row in rows if self._epoch < row["epoch"] < self._epochs)
        except StageError as error:
            unfit = _UNFIT.search(str(error))
            if not unfit:
                raise
            yield {"epoch": self._epoch + 1, **dict.fromkeys(OBJECTIVES, float("inf")), "unfit": unfit["why"]}
        with (self._copy.path / _HISTORY).open(encoding="utf-8") as handle:
            rows = [_row(row) for row in list(csv.reader(handle))[1:]]
        # a state that another processor class left, and that this one does not resume from, was of other numbers
        self._kept["history"] = rows[: len(self._kept["history"])]
        yield from (row for row in rows if row["epoch"] > self._epoch)
        raise StageError(f"the pipeline in {self._copy.path} ended without a new epoch")

    @property
    def _epoch(self) -> int:
        """The last epoch that was reported."""
        return int(self._kept["history"][-1]["epoch"]) if self._kept["history"] else 0

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keeps the state of training, and what was reported of it."""
        folder = Path(checkpoint_dir)
        self._copy.keep_state(folder)
        (folder / _KEPT).write_text(json.dumps(self._kept), encoding="utf-8")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Goes on from what was kept."""
        folder = Path(checkpoint_dir)
        self._copy.take_state(folder)
        self._kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))

    def cleanup(self) -> None:
        """Ends what still runs, and removes the working copy."""
        self._rows.close()
        self._copy.remove()


def _row(texts: Sequence[str]) -> dict[str, Any]:
    """The validation columns of a row of the history: epoch, three terms of training, three of validation."""
    return {"epoch": int(float(texts[0])), **dict(zip(OBJECTIVES, map(float, texts[4:7]), strict=True))}
