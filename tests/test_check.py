"""What stage `check` refuses beyond what the sections of the parameters refuse by themselves."""

from pathlib import Path
from typing import Any

import pytest
from conftest import PARAMS
from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.params.whole import load_params
from stages.check import run


def check(folder: Path, **changes: dict[str, Any]) -> Path:
    """Runs the stage on the parameters of the tests, changed; what it writes."""
    params = YAML(typ="safe").load(PARAMS)
    for section, values in changes.items():
        params[section].update(values)
    path = folder / "params.yaml"
    with path.open("w", encoding="utf-8") as handle:
        YAML().dump(params, handle)
    run(load_params(path), folder / "checked.txt")
    return folder / "checked.txt"


@pytest.mark.parametrize("changes", [{}, {"train": {"batch_size": 126, "workers": 3}}])
def test_what_is_valid_leaves_a_constant_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert check(tmp_path, **changes).read_text(encoding="utf-8") == "params.yaml is valid\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"architecture": "nonsense"}}, "model.architecture = 'nonsense': it should be one of: gated_dense"),
        ({"model": {"prior": "nonsense"}}, "model.prior = 'nonsense': it should be one of: coupling_flow"),
        ({"model": {"widths": [4, 8]}}, "widths = [4, 8]"),
        ({"model": {"autoregressive_units": 14}}, "autoregressive_units = 14: it should be 0"),
        ({"model": {"autoregressive_units": 15}}, "train.targets = 'gray' with model.autoregressive_units = 15"),
        ({"model": {"jit_compile": True}}, "model.jit_compile = True with threads.op_determinism = True"),
        ({"train": {"batch_size": 50_001}}, "train.batch_size = 50001: it should be at most 50000"),
        ({"train": {"workers": 3}}, "train.batch_size = 128 with train.workers = 3: it should be a multiple"),
        (
            {"train": {"workers": 2}, "model": {"jit_compile": True}, "threads": {"op_determinism": False}},
            "model.jit_compile = True with train.workers = 2",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError) as caught:
        check(tmp_path, **changes)
    assert str(caught.value).startswith("params.yaml is refused:\n")
    assert message in str(caught.value)
    assert not (tmp_path / "checked.txt").exists()


def test_workers_that_are_others_are_refused_before_dvc_removes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}')
    with pytest.raises(StageError, match=r"train\.workers = 1, but TF_CONFIG names 2 \(a:1, b:2\)"):
        check(tmp_path)
    assert not (tmp_path / "checked.txt").exists()
