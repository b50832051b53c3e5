"""Runs trials by Ray Tune, and reads what came of them; interrupted ones are taken up again."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.history.revisions import git
from workflow.history.sweeps import COMPLETED, FAILED, PRUNED, UNFIT
from workflow.scale.cluster import connected, reason

#: What Ray Tune keeps of unfinished sweeps.
STATE = Path("state/sweeps")

#: How often Ray Tune takes up a trial again that was lost with its node or failed; and how often the whole sweep is,
#: for those that were lost for all that.
_FAILURES, _ROUNDS = 3, 3


@dataclass(frozen=True)
class Ended:
    """A trial that has ended.

    Attributes:
        number: From 0, in the order in which trials were proposed.
        values: What it changed in `params.yaml`, by key.
        verdict: `completed`; `pruned`, ended early by the scheduler or with the hours; `unfit`, without a finite
            loss, or against a rule; or `failed`.
        experiment: DVC experiment that it was saved as; None if it was not completed.
        error: Why it failed or is unfit, if so.
        history: Epoch, and the three validation terms in nats per image, of each report.
        pipeline_seconds: That were spent on waiting for its pipeline, without what surrounds that.
        ended_seconds: From the start of the sweep to its last report.
    """

    number: int
    values: Mapping[str, Any]
    verdict: str
    experiment: str | None
    error: str | None
    history: Sequence[Mapping[str, float]]
    pipeline_seconds: float
    ended_seconds: float


@dataclass(frozen=True)
class Outcome:
    """A plan that was run: its trials by their number, and the cores that there were."""

    trials: Sequence[Ended]
    cores: int


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        command: Of the user, which what is said begins with.
        key: Name of the folder of its unfinished work: the same key is the same work.
        job: Configuration of every trial, as `workflow.scale.trial.Job` has it.
        values: What every trial changes in `params.yaml`, by key.
        threads: Cores of a trial.
        trials: How many; None for as many as fit into the hours.
        hours: After which no trial begins and those that run are ended; None for no such limit.
        objective: Column of the history that is minimised.
        search: Ray Tune's searcher, which proposes more values by key; None for those of `grid`.
        grid: All values of a key, each for a trial.
        scheduler: Ray Tune's scheduler, which ends hopeless trials; None for none.
    """

    command: str
    key: str
    job: Mapping[str, Any]
    values: Mapping[str, Any]
    threads: int
    trials: int | None
    hours: float | None
    objective: str
    search: Any = None
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scheduler: Any = None


def head_commit() -> str:
    """Full id of the commit that trials run, which is what stands in the workspace.

    Raises:
        StageError: If tracked files differ from it: trials would run without the changes.
    """
    files = git(Path(), "diff", "--name-only", "--relative", "HEAD").splitlines()
    changed = [file for file in files if not file.startswith("sweeps/")]
    if changed:
        raise StageError(
            f"{changed[0]} is not as committed; expected a commit to run, as trials clone it: commit your change (on a "
            f"branch of its own), or `git stash` it"
        )
    return git(Path(), "rev-parse", "HEAD").strip()


def forget(key: str) -> None:
    """Removes what is kept of a plan, which is then begun anew when it is run again."""
    shutil.rmtree(STATE / key, ignore_errors=True)


def run(plan: Plan) -> Outcome:
    """Runs the plan to its end, from where it was left if it was begun before.

    Raises:
        StageError: If no cluster is there, or none of its nodes has the cores of a trial.
    """
    with connected(plan.threads) as cores:
        return Outcome(_run(plan), cores)


def _run(plan: Plan) -> list[Ended]:
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # its tracebacks; what failed stands in the outcome
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # which would end as if all were done
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other output can be silent
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    from ray import tune

    from workflow.scale.shown import Shown
    from workflow.scale.trial import Trial

    path = STATE.resolve() / plan.key
    trainable = tune.with_resources(Trial, {"cpu": plan.threads})
    if _begun(path):
        print(f"{plan.command}: goes on with the trials that were begun", flush=True)
        results = _resume(path, trainable)
    else:
        forget(plan.key)
        tuner = tune.Tuner(
            trainable,
            param_space={"job": dict(plan.job), **plan.values, **_grid(plan)},
            tune_config=tune.TuneConfig(
                num_samples=1 if plan.grid else plan.trials or -1,  # of a grid: how often
                search_alg=plan.search,
                scheduler=plan.scheduler,
                time_budget_s=plan.hours and plan.hours * 3600,
                reuse_actors=True,
                trial_dirname_creator=_folder,
            ),
            run_config=tune.RunConfig(
                name=plan.key,
                storage_path=str(STATE.resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_FAILURES),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
                callbacks=[Shown(plan.command, plan.trials, plan.hours, plan.objective)],
            ),
        )
        results = tuner.fit()
    for _ in range(_ROUNDS):
        lost = sum(map(_lost, results))
        if not lost:
            break
        print(f"{plan.command}: takes up {lost} again that were lost with their node", flush=True)
        results = _resume(path, trainable)
    results = sorted(results, key=lambda result: Path(result.path).name)
    begun = min((result.metrics["began"] for result in results if _reported(result)), default=0.0)
    return [_ended(number, result, begun) for number, result in enumerate(results)]


def _begun(path: Path) -> bool:
    """Whether a folder has what is unfinished; not if it was left before anything was kept.

    A state of which only a part was written is removed, so that Ray Tune takes the one before. Without any it would go
    on with nothing that was asked for.
    """
    for state in sorted(path.glob("experiment_state-*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True):
        try:
            json.loads(state.read_text(encoding="utf-8"))
        except ValueError:
            state.unlink()
        else:
            return True
    return False


def _resume(path: Path, trainable: Any) -> Any:
    """Runs what is unfinished or failed of a sweep."""
    from ray import tune

    return tune.Tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=True).fit()


def _lost(result: Any) -> bool:
    """Whether a trial failed with its node: Ray Tune gives it up if more of it fails while it waits for another one."""
    from ray.exceptions import RayActorError

    return isinstance(result.error, RayActorError) and not result.error.actor_init_failed


def _grid(plan: Plan) -> dict[str, dict[str, Any]]:
    """A grid as Ray Tune has it."""
    return {key: {"grid_search": list(values)} for key, values in plan.grid.items()}


def _folder(trial: Any) -> str:
    """Name of a trial's folder: in which order it was proposed, which Ray Tune tells here only, and its id."""
    return f"{int(trial.experiment_tag.partition('_')[0]):06d}_{trial.trial_id}"


def _reported(result: Any) -> bool:
    """Whether the trial itself has said anything; else Ray Tune has some metrics of its own, or none."""
    return "began" in (result.metrics or {})


def _ended(number: int, result: Any, begun: float) -> Ended:
    """What Ray Tune has of a trial."""
    last = result.metrics if _reported(result) else {}
    config = {key: value for key, value in (result.config or {}).items() if "." in key}
    if "experiment" in last:
        verdict = COMPLETED
    elif "unfit" in last:
        verdict = UNFIT
    else:
        verdict = FAILED if result.error else PRUNED
    return Ended(
        number=number,
        values=config,
        verdict=verdict,
        experiment=last.get("experiment"),
        history=last.get("history", []),
        error=last.get("unfit") or (reason(result.error) if result.error else None),
        pipeline_seconds=last.get("pipeline_seconds", 0.0),
        ended_seconds=last.get("timestamp", begun) - begun,
    )
