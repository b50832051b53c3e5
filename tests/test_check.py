"""What stage `check` refuses beyond what the sections of the parameters refuse by themselves."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import PARAMS, ROOT
from ruamel.yaml import YAML

import stages.check
from pipeline.code import code_of, digest_of_code
from pipeline.errors import StageError
from pipeline.params.model import named_modules
from pipeline.params.whole import load_params
from pipeline.stage import run_stage
from stages.check import run


def check(folder: Path, **changes: dict[str, Any]) -> Path:
    """Runs the stage on the parameters of the tests, changed; what it writes. Nothing was proved before."""
    params = deepcopy(PARAMS)
    for section, values in changes.items():
        params[section].update(values)
    path = folder / "params.yaml"
    with path.open("w", encoding="utf-8") as handle:
        YAML().dump(params, handle)
    stages.check.PROVED = folder / "proved"
    run(load_params(path), folder / "code.json")
    return folder / "code.json"


@pytest.mark.parametrize("changes", [{}, {"train": {"batch_size": 126, "workers": 3}}])
def test_what_is_valid_has_the_digests_of_all_other_stages(tmp_path: Path, changes: dict[str, Any]) -> None:
    listed = json.loads(check(tmp_path, **changes).read_text(encoding="utf-8"))
    named = named_modules(PARAMS["model"])
    assert set(listed) == {path.stem for path in (ROOT / "stages").glob("[!_]*.py")} - {"check"}
    assert listed["train"] == digest_of_code(code_of("train", named))
    assert listed["fetch"] == digest_of_code(code_of("fetch", ["pipeline.datasets.fashion_mnist"]))


#: Runs the stage where TensorFlow cannot be imported.
BARRED = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from pathlib import Path
from stages import check
from pipeline.params.model import named_modules
from pipeline.params.whole import load_params
check.PROVED = Path(sys.argv[2])
check.run(load_params(Path(sys.argv[1])), Path(sys.argv[3]))
"""


def test_networks_that_were_built_are_not_built_again(tmp_path: Path) -> None:
    check(tmp_path)
    command = [
        sys.executable,
        "-c",
        BARRED,
        *(str(tmp_path / name) for name in ("params.yaml", "proved", "again.json")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "code.json").read_bytes()
    (tmp_path / "proved").write_text("of other networks", encoding="utf-8")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0


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
    assert not (tmp_path / "code.json").exists()


@pytest.mark.parametrize(
    ("data", "name", "refused"),
    [
        ({"name": "emnist", "source": "datasets.json", "variant": "letters"}, "emnist/letters", True),
        ({"name": "emnist", "source": "datasets.json", "variant": "digits"}, "emnist/letters", False),
        (
            {"name": "folder", "source": "docs", "side": 28, "fit": "pad", "background": 0, "invert": False},
            "folder",
            False,
        ),
    ],
    ids=["known", "another variant", "images may have come since"],
)
def test_a_batch_is_held_against_images_that_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any], name: str, refused: bool
) -> None:
    facts = {"name": name, "all": {"count": 100}, "published": {"validation": None}}
    (tmp_path / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    monkeypatch.setattr(stages.check, "FACTS", tmp_path / "data.json")
    monkeypatch.setitem(PARAMS, "data", data)
    changes: dict[str, Any] = {"preprocess": {"split": "stratified"}, "train": {"batch_size": 73}}
    if not refused:
        check(tmp_path, **changes)
        return
    with pytest.raises(StageError, match=r"train\.batch_size = 73: it should be at most 72"):
        check(tmp_path, **changes)


def test_workers_that_are_others_are_refused_before_dvc_removes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}')
    with pytest.raises(StageError, match=r"train\.workers = 1, but TF_CONFIG names 2 \(a:1, b:2\)"):
        check(tmp_path)
    assert not (tmp_path / "code.json").exists()


def test_no_way_back_is_told_as_nothing_was_removed(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> Any:
        raise StageError("params.yaml is refused")

    with pytest.raises(SystemExit):
        run_stage("check", load, [])
    assert capsys.readouterr().err == "\ncheck: params.yaml is refused\n"
