"""What a sweep may ask for, how Optuna is asked, and what is told of the trials."""

import math
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import PARAMS, ROOT
from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.stage import RESTORE
from workflow.history.sweeps import ranked
from workflow.scale import cluster
from workflow.scale.copy import failure
from workflow.scale.engine import _begun
from workflow.scale.spec import read_spec, with_values
from workflow.scale.sweep import table

VALID: dict[str, Any] = {
    "objective": "validation_loss",
    "space": {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.latent_dim": {"low": 2, "high": 10, "step": 4},
        "train.keep": {"choices": ["last", "best"]},
    },
    "fixed": {"train.epochs": 3},
    "threads": 1,
    "sampler": {"name": "tpe", "seed": 1},
    "pruner": {"name": "asha", "grace_epochs": 1, "reduction": 3},
    "budget": {"trials": 4},
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a specification with changes by section, in a folder that has the project's parameters."""
    YAML().dump(PARAMS, tmp_path / "params.yaml")
    for folder in ("vae", "sweeps"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)

    def write(**changes: Any) -> Path:
        path = tmp_path / "spec.yaml"
        with path.open("w", encoding="utf-8") as handle:
            YAML().dump({**VALID, **changes}, handle)
        return path

    return write


def test_every_committed_sweep_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    paths = sorted(Path("sweeps").glob("*.yaml"))
    assert paths
    for path in paths:
        assert read_spec(path).space


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": "test_loss"}, "objective = 'test_loss': it should be 'validation_loss', 'validation_recon"),
        ({"objective": "nll"}, "objective = 'nll': it should be 'validation_loss'"),
        ({"space": {}}, "space = {}: Dictionary should have at least 1 item"),
        ({"space": {"train.rate": {"low": 1, "high": 2}}}, "train.rate = 1 is unknown; expected one of: seed, targets"),
        ({"space": {"trian.seed": {"low": 1, "high": 2}}}, "trian = "),
        ({"space": {"train.seed": {"low": 2, "high": 2}}}, "the range is empty: low = 2 should be below high = 2"),
        ({"space": {"train.seed": {"low": 3, "high": 2}}}, "the range is empty: low = 3 should be below high = 2"),
        ({"space": {"train.seed": {"low": -1, "high": 2}}}, "train.seed = -1: it should be greater than or equal to 0"),
        ({"space": {"train.beta": {"low": 0.5, "high": 5000.0}}}, "train.beta = 5000.0: it should be less than or"),
        ({"space": {"train.seed": {"low": 1, "high": 2, "step": 0}}}, "step = 0 should be above 0 and at most 1"),
        ({"space": {"train.seed": {"low": 1, "high": 2, "step": 5}}}, "step = 5 should be above 0 and at most 1"),
        ({"space": {"train.seed": {"low": 1, "high": 4, "step": 2}}}, "step = 2 should lead from low = 1 to high = 4"),
        ({"space": {"train.seed": {"low": 1, "high": 4, "step": 1.5}}}, "train.seed = 1.0: "),
        ({"space": {"train.beta": {"low": 0, "high": 1, "log": True}}}, "true only with low above 0"),
        ({"space": {"train.beta": {"low": 0.1, "high": 1, "log": "yes"}}}, "log should be true or false"),
        ({"space": {"train.seed": {"low": "1", "high": 2}}}, "low, high and step should be numbers"),
        ({"space": {"train.seed": {"low": 1}}}, "it should have `low` and `high`"),
        ({"space": {"train.seed": {"low": 1, "high": 2, "lag": 3}}}, "it should have `low` and `high`"),
        ({"space": {"train.seed": [1, 2]}}, "it should have `low` and `high`"),
        ({"space": {"train.keep": {"choices": []}}}, "choices should be a list of different values, at least one"),
        ({"space": {"train.keep": {"choices": ["last", "last"]}}}, "choices should be a list of different values"),
        ({"space": {"train.keep": {"choices": ["first"]}}}, "train.keep = 'first': it should be 'last' or 'best'"),
        ({"space": {"model.widths": {"choices": [[4, 8]]}}}, "choices should be numbers, names, true or false"),
        ({"space": {"threads.intra_op": {"low": 1, "high": 2}}}, "threads.intra_op is no hyper-parameter"),
        ({"space": {"train.epochs": {"low": 1, "high": 3}}, "fixed": {}}, "which compares trials at equal epochs"),
        ({"fixed": {"train.keep": "last"}}, "train.keep stands in `space` and in `fixed`"),
        ({"fixed": {"train.epochs": 0}}, "train.epochs = 0: it should be greater than or equal to 1"),
        ({"threads": 0}, "threads = 0: it should be greater than or equal to 1"),
        ({"sampler": {"name": "grid", "seed": 1}}, "sampler.name = 'grid': it should be 'tpe' or 'random'"),
        ({"pruner": {"name": "asha", "reduction": 1}}, "pruner.reduction = 1: it should be greater than or equal to 2"),
        ({"budget": {}}, "it should have `trials`, `hours` or both"),
        ({"budget": {"trials": 0}}, "budget.trials = 0: it should be greater than or equal to 1"),
        ({"budget": {"hours": -1.0}}, "budget.hours = -1.0: it should be greater than 0"),
        ({"budget": {"days": 1}}, "budget.days = 1 is unknown; expected one of: trials, hours"),
        ({"metric": "x"}, "metric = 'x' is unknown; expected one of: objective, space"),
    ],
)
def test_a_bad_specification_is_refused_by_name(
    written: Callable[..., Path], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StageError) as refusal:
        read_spec(written(**changes))
    assert reason in str(refusal.value)
    assert "spec.yaml" in str(refusal.value)


def test_a_file_that_is_none_is_refused_with_those_there_are(written: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match=r"SPEC=none\.yaml is no file; expected one of: sweeps/learning\.yaml"):
        read_spec(Path("none.yaml"))


def test_a_name_that_no_experiment_can_have_is_refused(written: Callable[..., Path]) -> None:
    path = written().rename("my sweep.yaml")
    with pytest.raises(StageError, match=r"SPEC=my sweep\.yaml: experiments are named after it"):
        read_spec(path)


def test_values_by_key_are_those_of_the_parameters(written: Callable[..., Path]) -> None:
    params = with_values({"train.epochs": 7, "model.latent_dim": 5})
    assert (params["train"]["epochs"], params["model"]["latent_dim"]) == (7, 5)


def test_optuna_is_asked_within_the_ends_and_both_ends_are_reached(written: Callable[..., Path]) -> None:
    space = read_spec(written()).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask(space).params for _ in range(200)]
    rates = [params["train.learning_rate"] for params in drawn]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    # of a range of two decades whose logarithm is spread evenly half lie below the middle of the logarithms
    assert sum(rate < 1e-3 for rate in rates) == pytest.approx(100, abs=5 * math.sqrt(200 / 4))
    assert {params["model.latent_dim"] for params in drawn} == {2, 6, 10}
    assert {params["train.keep"] for params in drawn} == {"last", "best"}


def test_a_scheduler_that_is_begun_anew_decides_as_one_that_was_not_interrupted(written: Callable[..., Path]) -> None:
    from workflow.scale.search import scheduler  # it imports Ray, which takes seconds

    class Reporting:
        def __init__(self, name: str, losses: list[float]) -> None:
            self.trial_id = name
            self.rows = [{"epoch": epoch, "validation_loss": loss} for epoch, loss in enumerate(losses, 1)]
            self.last_result: dict[str, Any] = {}

    def fed(reporting: list[Reporting], deciding: Any) -> list[str]:
        decisions = []
        for one in reporting:
            deciding.on_trial_add(None, one)
            decisions += [deciding.on_trial_result(None, one, row) for row in one.rows]
            one.last_result = {"history": one.rows}
        return decisions

    spec = read_spec(written(pruner={"name": "asha", "grace_epochs": 1, "reduction": 2}))
    before = [Reporting("a", [9.0, 5.0, 1.0]), Reporting("b", [8.0, 4.0, 2.0]), Reporting("c", [7.0, 6.0, 3.0])]
    after = [Reporting("d", [8.5, 4.5]), Reporting("e", [7.5, 3.0]), Reporting("f", [20.0, 20.0])]
    whole, anew = scheduler(spec, 8), scheduler(spec, 8)
    assert anew is not None
    fed(before, whole)
    for one in before:
        anew.on_trial_add(None, one)
    decisions = fed(after, whole)
    for one in after:
        one.last_result = {}
    assert fed(after, anew) == decisions
    assert set(decisions) == {"CONTINUE", "STOP"}


def test_the_reason_of_a_failure_is_the_sentence_of_the_stage() -> None:
    said = f"Running stage 'train':\ntrain: 50%\n\ntrain: width = 0: too few.\n{RESTORE}\nERROR: no\n"
    assert failure(said) == "train: width = 0: too few."
    assert failure("no such command\n") == "no such command"


def test_the_reason_of_a_worker_is_the_sentence_that_it_raised() -> None:
    from ray.exceptions import ActorDiedError, RayTaskError

    error = StageError("train: one is lost\nexpected two")
    raised = RayTaskError("train", "".join(traceback.format_exception(error)), error)
    assert cluster.reason(raised) == "train: one is lost\nexpected two"
    assert "died" in cluster.reason(ActorDiedError())


@pytest.mark.parametrize(
    ("states", "goes_on"),
    [([], False), (['{"trial_data": ['], False), (["{}"], True), (["{}", '{"trial_data": ['], True)],
)
def test_a_sweep_goes_on_only_from_a_state_that_can_be_read(tmp_path: Path, states: list[str], goes_on: bool) -> None:
    (tmp_path / "tuner.pkl").touch()
    for number, content in enumerate(states):
        path = tmp_path / f"experiment_state-{number}.json"
        path.write_text(content, encoding="utf-8")
        os.utime(path, (number, number))
    assert _begun(tmp_path) is goes_on
    assert len(list(tmp_path.glob("experiment_state-*.json"))) == states.count("{}")


def trial(experiment: str | None, verdict: str, losses: list[float]) -> dict[str, Any]:
    history = [{"epoch": epoch, "validation_loss": loss} for epoch, loss in enumerate(losses, 1)]
    return {"experiment": experiment, "verdict": verdict, "history": history, "values": {"train.beta": 0.123456}}


def test_completed_trials_are_ranked_by_their_last_value_and_no_others() -> None:
    trials = [
        trial("slow", "completed", [9.0, 5.0]),
        trial("early", "completed", [3.0, 6.0]),
        trial(None, "pruned", [1.0]),
        trial(None, "unfit", [math.inf]),
    ]
    record = {"trials": trials, "objective": "validation_loss", "parameters": ["train.beta"]}
    assert [found["experiment"] for found in ranked(trials, "validation_loss")] == ["slow", "early"]
    said = table(record)
    assert said.index("slow") < said.index("early")
    assert "0.1235" in said
    assert said.endswith("4 trials: 2 completed, 1 pruned, 1 unfit")


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StageError, match="ray and optuna not installed, expected the extra `scale`: run `make setup-s"):
        cluster.prepare()


def test_every_command_starts_without_the_extra_to_say_so() -> None:
    blocked = "import sys; sys.modules.update(ray=None, optuna=None); "
    commands = "from workflow.scale import audits, seeds, shared_training, sweep"
    done = subprocess.run([sys.executable, "-c", blocked + commands], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:10001", "nowhere", "127.0.0.1:many"])
def test_an_unreachable_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_ADDRESS": address})
    with pytest.raises(StageError, match=f"RAY_ADDRESS={address}: no cluster answers"), cluster.connected(1):
        pass
    token = tmp_path / cluster.TOKEN
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text(encoding="ascii")) == 64
