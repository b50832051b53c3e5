"""What a stage worked from: its record, its digest, and edits made meanwhile."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import write

from pipeline.code import code_of, digest_of_code
from pipeline.errors import StageError
from pipeline.provenance import Provenance, hash_paths

#: A project whose stage uses two packages, one of them through a chain; vae/unused.py is used by nobody.
FILES = {
    "stages/__init__.py": "",
    "stages/__main__.py": "",
    "stages/sample.py": "import pipeline.files\nfrom vae import model\n",
    "pipeline/__init__.py": "",
    "pipeline/files.py": "import os, numpy\n",
    "vae/__init__.py": "",
    "vae/model.py": "def build():\n    from vae.deep.layers import Dense\n    return Dense\n",
    "vae/deep/__init__.py": "",
    "vae/deep/layers.py": "Dense = 1\n",
    "vae/unused.py": "",
    "data/images/images.bin": "images",
    "data/images/labels.bin": "labels",
    "data/facts.json": "facts",
    "numeric.txt": "python 3.11",
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


@pytest.mark.parametrize("missing", ["data/facts.json", "data/images"])
def test_missing_input_is_refused_by_name(missing: str) -> None:
    Path(missing).rename("elsewhere")
    with pytest.raises(StageError, match=rf"{missing} is missing.*dvc repro"):
        take()


def test_inputs_may_come_from_a_generator() -> None:
    names = ["data/facts.json", "data/images/images.bin"]
    assert hash_paths(Path(name) for name in names) == {name: sha256(FILES[name]) for name in names}


def test_inputs_from_a_generator_are_checked_again_at_the_end() -> None:
    taken = Provenance.take("sample", [], PARAMS, (Path(name) for name in ["data/images"]))
    write("data/images/added.bin", "")
    with pytest.raises(StageError, match=r"data/images/added\.bin"):
        taken.verify()


# ---- the digest


def test_same_work_has_the_same_digest() -> None:
    first = take().digest
    for name, text in FILES.items():
        write(name, text)  # new times, same bytes
    assert take().digest == first
    assert len(first) == 64


def test_digest_does_not_depend_on_any_order() -> None:
    inputs = [Path("data/images"), Path("data/facts.json")]
    params = {"model": {"widths": [32, 64]}, "train": {"beta": 1.0, "seed": 1}}
    other = Provenance.take("sample", ["vae.deep", "stages.sample"], params, inputs[::-1])
    assert other.digest == take().digest


def test_digest_does_not_depend_on_what_the_stage_does_not_use() -> None:
    first = take().digest
    write("vae/unused.py", "changed = True\n")
    write("data/other.txt", "other")
    assert take().digest == first


@pytest.mark.parametrize("name", ["data/images/images.bin", "data/images/labels.bin", "data/facts.json"])
def test_any_byte_of_an_input_changes_the_digest(name: str) -> None:
    first = take().digest
    with Path(name).open("a", encoding="utf-8") as handle:
        handle.write("\n")
    assert take().digest != first


EDITS: dict[str, Callable[[], object]] = {
    "input added to a folder": lambda: write("data/images/added.bin", ""),
    "input removed from a folder": lambda: Path("data/images/labels.bin").unlink(),
    "input renamed": lambda: Path("data/images/labels.bin").rename("data/images/tables.bin"),
    "new import": lambda: write("vae/deep/__init__.py", "import vae.unused"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edit_changes_the_digest(edit: Callable[[], object]) -> None:
    first = take().digest
    edit()
    assert take().digest != first


@pytest.mark.parametrize(
    "params",
    [
        {"train": {"seed": 1, "beta": 1.0}},
        {"train": {"seed": 2, "beta": 1.0}, "model": {"widths": [32, 64]}},
        {"train": {"seed": 1, "beta": 1.0000000000000002}, "model": {"widths": [32, 64]}},
        {"train": {"seed": 1, "beta": 1.0}, "model": {"widths": [64, 32]}},
        {"train": {"seed": 1, "gamma": 1.0}, "model": {"widths": [32, 64]}},
    ],
    ids=["section gone", "seed", "last bit of beta", "order of widths", "name"],
)
def test_any_param_changes_the_digest(params: dict[str, dict[str, object]]) -> None:
    inputs = [Path("data/images"), Path("data/facts.json")]
    assert Provenance.take("sample", [], params, inputs).digest != take().digest


def test_stages_with_the_same_work_have_different_digests() -> None:
    inputs = [Path("data/images"), Path("data/facts.json")]
    assert Provenance.take("other", ["stages.sample"], PARAMS, inputs).digest != take().digest


# ---- the check at the end


def test_nothing_changed_is_no_error() -> None:
    take().verify()


@pytest.mark.parametrize("name", ["stages/sample.py", "vae/deep/layers.py", "data/images/labels.bin"])
def test_edit_made_meanwhile_is_named_with_both_hashes(name: str) -> None:
    taken = take()
    before = {**taken.code, **taken.inputs}[name]
    write(name, "edited")
    with pytest.raises(StageError) as caught:
        taken.verify()
    assert str(caught.value).startswith(f"{name} changed while stage sample ran (sha256 before {before}, now ")
    if name.startswith("data/"):
        assert f"before {sha256(FILES[name])}, now {sha256('edited')}" in str(caught.value)


@pytest.mark.parametrize("name", ["vae/model.py", "data/images/labels.bin"])
def test_file_removed_meanwhile_is_named(name: str) -> None:
    taken = take()
    Path(name).unlink()
    with pytest.raises(StageError, match=rf"^{name} changed while stage sample ran .*now missing"):
        taken.verify()


def test_file_added_meanwhile_to_a_folder_of_inputs_is_named() -> None:
    taken = take()
    write("data/images/added.bin", "")
    with pytest.raises(StageError, match=r"data/images/added\.bin"):
        taken.verify()


def test_module_in_use_that_the_record_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = take()
    hidden = ModuleType("vae.unused")
    hidden.__file__ = str(tmp_path / "vae" / "unused.py")
    monkeypatch.setitem(sys.modules, "vae.unused", hidden)
    with pytest.raises(StageError, match=r"sample used vae/unused\.py, which is not in the digest of its code"):
        taken.verify()


@pytest.mark.parametrize("place", [".venv/lib/vae/x.py", "tests/x.py", "../vae/x.py"])
def test_module_of_no_package_of_the_project_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    other = ModuleType("other")
    other.__file__ = str((tmp_path / place).resolve())
    monkeypatch.setitem(sys.modules, "other", other)
    take().verify()
