"""Runs trials by Ray Tune, and reads what came of them; interrupted ones are taken up again."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from workflow.history.revisions import git
from workflow.history.sweeps import COMPLETED, FAILED, PRUNED, UNFIT
from workflow.scale.cluster import reason

#: What Ray Tune keeps of unfinished sweeps.
STATE = Path("state/sweeps")

#: How often Ray Tune takes up a trial again that was lost with its node or failed; and how often the whole sweep is,
#: for those that were lost for all that.
_FAILURES, _ROUNDS = 3, 3


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        command: Of the user, which messages begin with.
        key: Name of the folder of its unfinished work: the same key is the same work.
        job: What all trials have in common: `project`, its folder, the same on every node; `commit`, the full id of
            the one that is run; `targets`, the stages that are run with all that they need; and `name`, of the
            experiment that a trial becomes, with the id of the trial for `{trial}` and the seed of training for
            `{seed}`.
        values: What trials change in `params.yaml`, by key; a grid of values, as Ray Tune has it, has a trial for each.
        threads: Cores of a trial.
        trials: How many; None for as many as fit into the hours.
        hours: After which no trial begins and those that run are ended; None for no such limit.
        objective: Column of the history that is minimised.
        search: Ray Tune's searcher, which proposes more values by key; None if there is a grid.
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
    scheduler: Any = None


def head_commit() -> str:
    """Full id of the commit that trials run.

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


def run(plan: Plan) -> list[dict[str, Any]]:
    """Runs the plan on the connected cluster, from where it was left if it was begun before; its trials by number."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # which would end as if all were done
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other output can be silent
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    from ray import tune

    from workflow.scale.shown import Shown
    from workflow.scale.trial import Trial

    path = STATE.resolve() / plan.key
    trainable = tune.with_resources(Trial, {"cpu": plan.threads})

    def resume() -> Any:
        return tune.Tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=True).fit()

    if _begun(path):
        print(f"{plan.command}: goes on with the trials that were begun", flush=True)
        results = resume()
    else:
        forget(plan.key)
        results = tune.Tuner(
            trainable,
            param_space={"job": plan.job, **plan.values},
            tune_config=tune.TuneConfig(
                num_samples=(plan.trials or -1) if plan.search else 1,  # of a grid: how often
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
                callbacks=[Shown(plan)],
            ),
        ).fit()
    for _ in range(_ROUNDS):
        if not (lost := sum(map(_lost, results))):
            break
        print(f"{plan.command}: takes up {lost} again that were lost with their node", flush=True)
        results = resume()
    results = sorted(results, key=lambda result: Path(result.path).name)
    begun = min((result.metrics["began"] for result in results if _reported(result)), default=0.0)
    return [_ended(number, result, begun) for number, result in enumerate(results)]


def _begun(path: Path) -> bool:
    """Whether a folder has unfinished work that Ray Tune can go on with.

    A state of which only a part was written is removed, so that Ray Tune takes the one before. Without any state it
    would run none of the trials that were asked for.
    """
    for state in sorted(path.glob("experiment_state-*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True):
        try:
            json.loads(state.read_text(encoding="utf-8"))
        except ValueError:
            state.unlink()
        else:
            return True
    return False


def _lost(result: Any) -> bool:
    """Whether a trial was lost with its node. Ray Tune gives up one that fails again while it waits for a node."""
    from ray.exceptions import RayActorError

    return isinstance(result.error, RayActorError) and not result.error.actor_init_failed


def _folder(trial: Any) -> str:
    """Name of a trial's folder: its number, which Ray Tune tells here only, and its id."""
    return f"{int(trial.experiment_tag.partition('_')[0]):06d}_{trial.trial_id}"


def _reported(result: Any) -> bool:
    """Whether the trial itself has reported; else Ray Tune has some metrics of its own, or none."""
    return "began" in (result.metrics or {})


def _ended(number: int, result: Any, begun: float) -> dict[str, Any]:
    """What came of a trial, as the record of a sweep has it.

    `verdict` is `completed`; `pruned`, ended early by the scheduler or with the hours; `unfit`, without a finite loss,
    or against a rule; or `failed`. `history` has each report: epoch, and the three validation terms, nats per image.
    `train` is the cost of stage `train`; None if it is not known.

    Args:
        number: From 0, in the order in which trials were proposed.
        result: What Ray Tune has of it.
        begun: When the first trial began, from which `ended_seconds` are counted.
    """
    last = result.metrics if _reported(result) else {}
    if "experiment" in last:
        verdict = COMPLETED
    elif "unfit" in last:
        verdict = UNFIT
    else:
        verdict = FAILED if result.error else PRUNED
    return {
        "number": number,
        "values": {key: value for key, value in (result.config or {}).items() if "." in key},
        "verdict": verdict,
        "experiment": last.get("experiment"),
        "error": last.get("unfit") or (reason(result.error) if result.error else None),
        "history": last.get("history", []),
        "train": last.get("train"),
        "pipeline_seconds": round(last.get("pipeline_seconds", 0.0), 1),
        "ended_seconds": round(last.get("timestamp", begun) - begun, 1),
    }
