"""Progress of a plan, told by Ray Tune as it goes."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from ray.tune import Callback

from pipeline.progress import progress

_ENDED = ("TERMINATED", "ERROR")


class Shown(Callback):
    """Counts the trials that have ended, or the seconds where only these are limited, with the best value so far."""

    def __init__(self, command: str, trials: int | None, hours: float | None, objective: str) -> None:
        self._command = command
        self._trials = trials
        self._seconds = round((hours or 0) * 3600)
        self._objective = objective

    def setup(self, **_: Any) -> None:
        """Begins to show; not before, as Ray Tune keeps this object with what it resumes from."""
        self._began = time.monotonic()
        self._best = float("inf")
        self._done = 0
        self._block = ExitStack()
        total, unit = (self._trials, " trials") if self._trials else (self._seconds, " s")
        self._progress = self._block.enter_context(progress(self._command, total, unit))

    def on_trial_result(self, trials: Sequence[Any], result: dict[str, Any], **_: Any) -> None:
        """Takes up a value; of whole trials only, as those of others are of fewer epochs."""
        if "experiment" in result:
            self._best = min(self._best, result[self._objective])
        if not self._trials:
            self._advance(min(int(time.monotonic() - self._began), self._seconds), trials)

    def on_trial_complete(self, trials: Sequence[Any], **_: Any) -> None:
        """Counts."""
        if self._trials:
            self._advance(sum(trial.status in _ENDED for trial in trials), trials)

    on_trial_error = on_trial_complete

    def _advance(self, done: int, trials: Sequence[Any]) -> None:
        running = sum(trial.status == "RUNNING" for trial in trials)
        note = f"{running} running" + (f", best {self._best:.2f}" if self._best < float("inf") else "")
        self._progress.advance(done - self._done, note)
        self._done = done

    def on_experiment_end(self, **_: Any) -> None:
        """Ends the line."""
        self._block.close()
