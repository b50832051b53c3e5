"""One trial: the pipeline up to some stages, in a working copy, reported epoch by epoch and saved as an experiment."""

import csv
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from ray import tune

from pipeline.errors import StageError
from pipeline.files import significant
from workflow.scale.copy import WorkingCopy, failure, history_so_far, stop
from workflow.scale.spec import OBJECTIVES

#: Seconds between two looks at the history of a training.
_PAUSE = 0.1

#: What stages say of parameters that break a rule, or end in a loss that is not finite: a verdict, not a fault.
_UNFIT = re.compile(r"^(?P<why>check: .+(?:\n  .+)*|train: the .+ became \S+ at .+)$", re.MULTILINE)

_HISTORY = Path("metrics/history.csv")
_KEPT = "trial.json"


@dataclass(frozen=True)
class Job:
    """What all trials of one sweep have in common.

    Attributes:
        project: The project's folder, the same on every node.
        commit: Full id of the commit that is run.
        targets: Stages that a trial runs, with all that they need.
        name: Of the experiment that a trial becomes; `{trial}` in it is the id of the trial, `{seed}` that of training.
    """

    project: str
    commit: str
    targets: Sequence[str]
    name: str


class Trial(tune.Trainable):
    """Runs a trial; its configuration is `job` and, by their keys, the values of `params.yaml` that it changes.

    A result is a row of the history of training, with all rows so far as `history`: Ray Tune's own files of results may
    lack some once a trial was lost with its node. That of the last epoch says `experiment`, the name that the trial was
    saved by, or `unfit` and why. A checkpoint is the state from which training resumes with the same bytes.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Makes the working copy, which the trials of this process share, with its data."""
        job = Job(**config["job"])
        self._copy = WorkingCopy(Path(job.project), job.commit, job.targets)
        self._copy.prepare()
        self._begin(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Takes up another trial in the working copy."""
        self._end()
        self._begin(config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        self._job = Job(**config["job"])
        self._child: Popen[bytes] | None = None
        self._began = time.time()
        self._history: list[dict[str, Any]] = []
        self._pipeline_seconds = 0.0
        self._copy.reset({key: value for key, value in config.items() if "." in key})
        train = self._copy.params()["train"]
        self._epochs = int(train["epochs"])
        self._name = self._job.name.format(trial=self.trial_id, seed=train["seed"])
        self._log = self._copy.state / "trial.log"

    def _end(self) -> None:
        if self._child is not None:
            stop(self._child)
            self._child = None

    def step(self) -> dict[str, Any]:
        """Waits for the next epoch that was validated; after the last one saves the experiment."""
        began = time.monotonic()
        if self._child is None:
            self._child = self._copy.start(self._log)
        result = self._next_row(self._child)
        self._pipeline_seconds += time.monotonic() - began
        if "unfit" not in result:
            self._history.append(result)
        done = "unfit" in result or self._epoch >= self._epochs
        if done and "unfit" not in result:
            self._copy.save(self._name)
            result = {**result, "experiment": self._name}
        return {**result, "done": done, **self._kept()}

    @property
    def _epoch(self) -> int:
        """The last epoch that was reported."""
        return int(self._history[-1]["epoch"]) if self._history else 0

    def _kept(self) -> dict[str, Any]:
        """What is told of a trial so far, and outlives the node that it runs on."""
        return {"began": self._began, "history": list(self._history), "pipeline_seconds": self._pipeline_seconds}

    def _next_row(self, child: "Popen[bytes]") -> dict[str, Any]:
        """The first row of the history that was not reported; of the last one only when all is done."""
        while True:
            status = child.poll()
            rows = self._rows() if status is None else self._final_rows(status)
            new = [row for row in rows if row["epoch"] > self._epoch]
            if new and (status is not None or new[0]["epoch"] < self._epochs):
                return new[0]
            if status is not None:
                raise StageError(f"{self._log} ended without a new epoch")
            time.sleep(_PAUSE)

    def _rows(self) -> list[dict[str, Any]]:
        """The history as far as the state of the running training has it, rounded as the finished one is."""
        return [_row([significant(value) for value in row]) for row in history_so_far(self._copy.state)]

    def _final_rows(self, status: int) -> list[dict[str, Any]]:
        """The history of a training that has ended.

        Raises:
            StageError: If it failed, but for parameters that are unfit, which is a row of its own.
        """
        if status == 0:
            with (self._copy.path / _HISTORY).open(encoding="utf-8") as handle:
                rows = [_row(row) for row in list(csv.reader(handle))[1:]]
            self._history = rows[: len(self._history)]  # of a state that another class of processor left it was not
            return rows
        said = self._log.read_text(encoding="utf-8", errors="replace")
        unfit = _UNFIT.search(said)
        if not unfit:
            raise StageError(failure(said))
        infinite = dict.fromkeys(OBJECTIVES, float("inf"))
        return [{"epoch": self._epoch + 1, **infinite, "unfit": unfit["why"]}]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keeps the state of training, and what was reported of it."""
        folder = Path(checkpoint_dir)
        self._copy.keep_state(folder)
        (folder / _KEPT).write_text(json.dumps(self._kept()), encoding="utf-8")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Takes up the state and what was reported."""
        folder = Path(checkpoint_dir)
        self._copy.take_state(folder)
        kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        self._began, self._history = kept["began"], kept["history"]
        self._pipeline_seconds = kept["pipeline_seconds"]

    def cleanup(self) -> None:
        """Ends what still runs, and removes the working copy."""
        self._end()
        self._copy.remove()


def _row(texts: Sequence[str]) -> dict[str, Any]:
    """The validation columns of a row of the history: epoch, three terms of training, three of validation."""
    return {"epoch": int(float(texts[0])), **dict(zip(OBJECTIVES, map(float, texts[4:7]), strict=True))}
