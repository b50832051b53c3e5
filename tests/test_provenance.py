"""What a stage worked from: its record, its digest, and edits made meanwhile."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import write
from test_code import FILES as CODE

from pipeline.code import code_of, digest_of_code
from pipeline.errors import StageError
from pipeline.provenance import Provenance

#: A project with a stage, and what it reads.
FILES = {
    **CODE,
    "data/images/images.bin": "images",
    "data/images/labels.bin": "labels",
    "data/facts.json": "facts",
}
PARAMS = {"train": {"seed": 1, "beta": 1.0}, "model": {"widths": [32, 64]}}


pytestmark = pytest.mark.usefixtures("written")


def take() -> Provenance:
    return Provenance.take("sample", [], PARAMS, [Path("data/images"), Path("data/facts.json")])


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- the record


def test_record_is_the_digest_of_code_and_the_sha256_of_inputs() -> None:
    taken = take().as_dict()
    assert taken == {
        "stage": "sample",
        "code": digest_of_code(code_of("sample", [])),
        "params": PARAMS,
        "inputs": {name: sha256(text) for name, text in FILES.items() if name.startswith("data/")},
    }
    assert json.loads(json.dumps(taken)) == taken


def test_inputs_from_a_generator_are_checked_again_at_the_end() -> None:
    taken = Provenance.take("sample", [], PARAMS, (Path(name) for name in ["data/images"]))
    write("data/images/added.bin", "")
    with pytest.raises(StageError, match=r"data/images/added\.bin"):
        taken.verify()


# ---- the digest


def edits(name: str, text: str) -> Callable[[], object]:
    return lambda: write(name, text)


EDITS: dict[str, Callable[[], object]] = {
    "a byte more": edits("data/facts.json", "facts\n"),
    "a byte of a file in a folder": edits("data/images/images.bin", "imageS"),
    "input added to a folder": edits("data/images/added.bin", ""),
    "input removed from a folder": lambda: Path("data/images/labels.bin").unlink(),
    "input renamed": lambda: Path("data/images/labels.bin").rename("data/images/tables.bin"),
    "new import": edits("vae/deep/__init__.py", "import vae.unused"),
}

NO_EDITS: dict[str, Callable[[], object]] = {
    "new times, same bytes": lambda: [write(name, text) for name, text in FILES.items()],
    "a module that the stage does not use": edits("vae/unused.py", "changed = True\n"),
    "a file that it does not read": edits("data/other.txt", "other"),
}


@pytest.mark.parametrize("edit", [*EDITS, *NO_EDITS])
def test_the_digest_follows_what_a_stage_works_from_and_nothing_else(edit: str) -> None:
    first = take().digest
    (EDITS | NO_EDITS)[edit]()
    assert (take().digest != first) == (edit in EDITS)
    assert len(first) == 64


def test_digest_does_not_depend_on_any_order() -> None:
    inputs = [Path("data/images"), Path("data/facts.json")]
    params = {"model": {"widths": [32, 64]}, "train": {"beta": 1.0, "seed": 1}}
    other = Provenance.take("sample", ["vae.deep", "stages.sample"], params, inputs[::-1])
    assert other.digest == take().digest


@pytest.mark.parametrize(
    ("stage", "params"),
    [
        ("other", PARAMS),
        ("sample", {"train": {"seed": 1, "beta": 1.0}}),
        ("sample", {"train": {"seed": 2, "beta": 1.0}, "model": {"widths": [32, 64]}}),
        ("sample", {"train": {"seed": 1, "beta": 1.0000000000000002}, "model": {"widths": [32, 64]}}),
        ("sample", {"train": {"seed": 1, "beta": 1.0}, "model": {"widths": [64, 32]}}),
        ("sample", {"train": {"seed": 1, "gamma": 1.0}, "model": {"widths": [32, 64]}}),
    ],
    ids=["name of the stage", "section gone", "seed", "last bit of beta", "order of widths", "name"],
)
def test_any_param_and_the_name_of_the_stage_change_the_digest(stage: str, params: dict[str, Any]) -> None:
    inputs = [Path("data/images"), Path("data/facts.json")]
    assert Provenance.take(stage, ["stages.sample"], params, inputs).digest != take().digest


# ---- the check at the end


@pytest.mark.parametrize("name", ["stages/sample.py", "vae/deep/layers.py", "data/images/labels.bin"])
@pytest.mark.parametrize("removed", [False, True])
def test_edit_made_meanwhile_is_named_with_both_hashes(name: str, removed: bool) -> None:
    taken = take()
    taken.verify()
    before = {**taken.code, **taken.inputs}[name]
    write(name, "edited")
    if removed:
        Path(name).unlink()
    with pytest.raises(StageError) as caught:
        taken.verify()
    now = "missing" if removed else sha256("edited") if name.startswith("data/") else ""
    said = f"{name} changed while stage sample ran (sha256 before {before}, now {now}"
    assert str(caught.value).startswith(said)


def test_module_in_use_that_the_record_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = take()
    hidden = ModuleType("vae.unused")
    hidden.__file__ = str(tmp_path / "vae" / "unused.py")
    monkeypatch.setitem(sys.modules, "vae.unused", hidden)
    with pytest.raises(StageError, match=r"sample used vae/unused\.py, which is not in the digest of its code"):
        taken.verify()
    for place in (".venv/lib/vae/x.py", "tests/x.py", "../vae/x.py"):  # of no package of the project
        hidden.__file__ = str((tmp_path / place).resolve())
        taken.verify()
