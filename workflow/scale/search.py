"""A sweep in the terms of Ray Tune and Optuna."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from workflow.history.sweeps import COMPLETED
from workflow.scale.engine import Ended
from workflow.scale.spec import Domain, Sampler, Spec

#: Completed trials of different values from which an importance is told.
_FEWEST = 8


def searcher(spec: Spec) -> OptunaSearch:
    """Optuna, which proposes values by key and learns from the objective of trials that have ended."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {key: _distribution(domain) for key, domain in spec.space.items()}
    return OptunaSearch(space, metric=spec.objective, mode="min", sampler=_sampler(spec.sampler))


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
    """Takes up what trials reported before an interruption, of which Ray Tune gives a new scheduler nothing."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        for row in trial.last_result.get("history", []):
            self.on_trial_result(tune_controller, trial, row)


def importance(spec: Spec, trials: Sequence[Ended]) -> dict[str, float]:
    """Share of each parameter in the variance of the objective over completed trials, rounded; none of too few.

    Source: functional ANOVA on a random forest, Hutter, Hoos and Leyton-Brown 2014, by Optuna.
    """
    completed = [trial for trial in trials if trial.verdict == COMPLETED]
    values = {float(trial.history[-1][spec.objective]) for trial in completed}
    if len(values) < _FEWEST:
        return {}
    study = optuna.create_study()
    space = {key: _distribution(domain) for key, domain in spec.space.items()}
    for trial in completed:
        params = {key: trial.values[key] for key in space}
        value = float(trial.history[-1][spec.objective])
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    shares = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: round(float(share), 3) for key, share in shares.items()}


def _sampler(sampler: Sampler) -> BaseSampler:
    return TPESampler(seed=sampler.seed) if sampler.name == "tpe" else RandomSampler(seed=sampler.seed)


def _distribution(domain: Domain) -> BaseDistribution:
    """A domain as Optuna has it; both ends included."""
    if domain.choices:
        return CategoricalDistribution(domain.choices)
    if all(isinstance(number, int) for number in (domain.low, domain.high, domain.step or 1)):
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
