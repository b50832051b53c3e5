"""A sweep in the terms of Ray Tune and Optuna."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.samplers import RandomSampler, TPESampler
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from workflow.history.sweeps import COMPLETED
from workflow.scale.spec import Spec

#: Completed trials of different values from which an importance is told.
_FEWEST = 8


def searcher(spec: Spec) -> OptunaSearch:
    """Optuna, which proposes values by key and learns from the objective of trials that have ended."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = {"tpe": TPESampler, "random": RandomSampler}[spec.sampler.name](seed=spec.sampler.seed)
    return OptunaSearch(dict(spec.space), metric=spec.objective, mode="min", sampler=sampler)


def scheduler(spec: Spec, epochs: int) -> ASHAScheduler | None:
    """What ends hopeless trials of `epochs` epochs."""
    if spec.pruner.name == "none":
        return None
    return _Resumable(
        time_attr="epoch",
        metric=spec.objective,
        mode="min",
        max_t=epochs,
        grace_period=min(spec.pruner.grace_epochs, epochs),
        reduction_factor=spec.pruner.reduction,
    )


class _Resumable(ASHAScheduler):
    """Is told what trials reported before an interruption: Ray Tune tells a new scheduler nothing of it."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        for row in trial.last_result.get("history", []):
            self.on_trial_result(tune_controller, trial, row)


def importance(spec: Spec, trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of each parameter in the variance of the objective over completed trials, rounded; none of too few.

    Source: functional ANOVA on a random forest, Hutter, Hoos and Leyton-Brown 2014, by Optuna.
    """
    study = optuna.create_study()
    for trial in trials:
        if trial["verdict"] == COMPLETED:
            params = {key: trial["values"][key] for key in spec.space}
            value = trial["history"][-1][spec.objective]
            study.add_trial(optuna.trial.create_trial(params=params, distributions=spec.space, value=value))
    if len({trial.value for trial in study.trials}) < _FEWEST:
        return {}
    shares = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: round(float(share), 3) for key, share in shares.items()}
