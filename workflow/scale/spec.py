"""What a sweep is: `sweeps/NAME.yaml`."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.params.section import PARAMS_FILE, Section, Seed, Whole, load_whole
from pipeline.params.whole import load_params

FOLDER = Path("sweeps")

#: What a trial may be judged by: columns of the history of training, all of validation images.
OBJECTIVES = ("validation_loss", "validation_reconstruction", "validation_kl")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

#: Keys that say how machines compute, not what. A sweep has `threads`, and trains each trial by one worker.
_MACHINE = ("threads.", "kernels.", "train.workers")


def _domain(value: Any) -> BaseDistribution:
    """The values that a parameter may take, from their YAML: a range, both ends included, or choices."""
    keys = set(value) if isinstance(value, dict) else set()
    if keys == {"choices"}:
        return _choices(value["choices"])
    if not {"low", "high"} <= keys <= {"low", "high", "log", "step"}:
        raise _refusal("it should have `low` and `high`, and `log: true` or `step` if wanted, or have `choices`")
    low, high, step, log = value["low"], value["high"], value.get("step"), value.get("log", False)
    numbers = [low, high] if step is None else [low, high, step]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        raise _refusal("low, high and step should be numbers")
    if not low < high:
        raise _refusal(f"the range is empty: low = {low} should be below high = {high}")
    if not isinstance(log, bool) or (log and (step is not None or low <= 0)):
        raise _refusal("log should be true or false; true only with low above 0 and without step")
    if step is not None and not 0 < step <= high - low:
        raise _refusal(f"step = {step} should be above 0 and at most {high - low}, the range")
    if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
        raise _refusal(f"step = {step} should lead from low = {low} to high = {high}")
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _choices(values: Any) -> CategoricalDistribution:
    if not isinstance(values, list) or not values or any(values.count(value) > 1 for value in values):
        raise _refusal("choices should be a list of different values, at least one")
    if any(isinstance(value, (list, dict)) for value in values):
        raise _refusal("choices should be numbers, names, true or false, not lists")
    return CategoricalDistribution(values)


def _refusal(why: str) -> PydanticCustomError:
    return PydanticCustomError("domain", why)


class Sampler(Section):
    """Which sampler of Optuna proposes trials."""

    name: Literal["tpe", "random"]
    seed: Seed


class Pruner(Section):
    """Who ends hopeless trials early.

    `asha` is the asynchronous successive halving of Li et al. 2020 in the form that stops trials and promotes none:
    after `grace_epochs`, and then at each power of `reduction` times that, a trial goes on if it is among the best of
    `reduction` of those that came so far.
    """

    name: Literal["asha", "none"]
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    reduction: Annotated[int, Field(ge=2)] = 3


class Budget(Section):
    """When a sweep ends: after so many trials or so many hours, whichever comes first."""

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _some(self) -> "Budget":
        if self.trials is None and self.hours is None:
            raise PydanticCustomError("budget", "it should have `trials`, `hours` or both")
        return self


class Spec(Whole):
    """A sweep. The keys of `space` and `fixed` are those of `params.yaml`, as `train.learning_rate`.

    Values of `space` are distributions of Optuna.
    """

    objective: Literal["validation_loss", "validation_reconstruction", "validation_kl"]
    space: Annotated[dict[str, Annotated[Any, PlainValidator(_domain)]], Field(min_length=1)]
    fixed: dict[str, Any] = Field(default_factory=dict)
    threads: Annotated[int, Field(ge=1, le=1024)]
    sampler: Sampler
    pruner: Pruner
    budget: Budget

    @property
    def values(self) -> dict[str, Any]:
        """What every trial changes in `params.yaml`: its threads, one worker, a validation each epoch, and `fixed`."""
        own = {"threads.intra_op": self.threads, "train.workers": 1, "train.validation_interval": 1}
        return {**own, **self.fixed}


def read_spec(path: Path) -> Spec:
    """The sweep of a file, checked, also against the rules of `params.yaml`.

    Raises:
        StageError: If a key or a value is refused; each is named with its reason.
    """
    if not path.is_file():
        known = ", ".join(str(found) for found in sorted(FOLDER.glob("*.yaml"))) or "none yet"
        raise StageError(f"SPEC={path} is no file; expected one of: {known}, or a new one: docs/scaling.md")
    if not _NAME.fullmatch(path.stem):
        raise StageError(
            f"SPEC={path}: experiments are named after it, so it should have letters, digits, - and _ only"
        )
    spec = load_whole(Spec, path)
    for key in (*spec.space, *spec.fixed):
        _refuse_key(spec, key, path)
    for key, domain in spec.space.items():
        ends = domain.choices if isinstance(domain, CategoricalDistribution) else (domain.low, domain.high)
        for value in ends:
            try:
                with_values({**spec.values, key: value})
            except StageError as error:
                raise StageError(f"{path} is refused, with {key} = {value!r}:\n{error}") from error
    return spec


def with_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """`params.yaml` with these values by key, held against its rules.

    Raises:
        StageError: If they break one; the sentences are those of stage `check`.
    """
    params = load_params().model_dump(mode="json")
    for key, value in values.items():
        section, _, name = key.partition(".")
        params.setdefault(section, {})[name] = value
    with TemporaryDirectory() as folder:
        file = Path(folder) / PARAMS_FILE
        with file.open("w", encoding="utf-8") as handle:
            YAML().dump(params, handle)
        try:
            load_params(file)
        except StageError as error:
            raise StageError(str(error).partition("\n")[2]) from error
    return params


def _refuse_key(spec: Spec, key: str, path: Path) -> None:
    if key.startswith(_MACHINE):
        raise StageError(f"{path}: {key} is no hyper-parameter; expected `threads`, the same for every trial")
    if key in spec.space and key in spec.fixed:
        raise StageError(f"{path}: {key} stands in `space` and in `fixed`; expected it in one of them")
    if key == "train.epochs" and key in spec.space and spec.pruner.name != "none":
        raise StageError(
            f"{path}: train.epochs in `space` with pruner {spec.pruner.name!r}, which compares trials at equal epochs "
            f"of runs of equal length; expected it in `fixed`, or the pruner `none`"
        )
