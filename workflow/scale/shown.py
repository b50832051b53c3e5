"""Progress of a plan, told by Ray Tune as it goes."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from ray.tune import Callback

from pipeline.progress import progress
from workflow.scale.engine import Plan


class Shown(Callback):
    """Counts the trials that have ended, or the seconds where only these are limited, with the best value so far."""

    def __init__(self, plan: Plan) -> None:
        self._command, self._objective, self._trials = plan.command, plan.objective, plan.trials
        self._seconds = round((plan.hours or 0) * 3600)

    def setup(self, **_: Any) -> None:
        """Begins to show; not before, as Ray Tune keeps this object with what it resumes from."""
        self._began = time.monotonic()
        self._done = 0
        self._block = ExitStack()
        total, unit = (self._trials, " trials") if self._trials else (self._seconds, " s")
        self._progress = self._block.enter_context(progress(self._command, total, unit))

    def on_step_end(self, trials: Sequence[Any], **_: Any) -> None:
        """Shows what has changed. The best value is of completed trials: one that was pruned has trained less."""
        seconds = min(int(time.monotonic() - self._began), self._seconds)
        done = sum(trial.is_finished() for trial in trials) if self._trials else seconds
        if done == self._done:
            return
        running = sum(trial.status == "RUNNING" for trial in trials)
        found = [trial.last_result[self._objective] for trial in trials if "experiment" in trial.last_result]
        note = f"{running} running" + (f", best {min(found):.2f}" if found else "")
        self._progress.advance(done - self._done, note)
        self._done = done

    def on_experiment_end(self, **_: Any) -> None:
        """Ends the line."""
        self._block.close()
