"""What a stage worked from: its sources by an independent finder, its digest, and edits made meanwhile."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from pipeline.errors import StageError
from pipeline.provenance import Provenance, hash_paths, sources_of

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))

#: A project whose stage uses two packages, one of them through a chain; vae/unused.py is used by nobody.
FILES = {
    "stages/__init__.py": "",
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
    "data/checked.txt": "checked",
}
SOURCES = [name for name in sorted(FILES) if name.endswith(".py") and name != "vae/unused.py"]
PARAMS = {"train": {"seed": 1, "beta": 1.0}, "model": {"widths": [32, 64]}}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project in a folder of its own, which is the current one, as for a stage."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        write(name, text)


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def take() -> Provenance:
    return Provenance.take("sample", ["stages.sample"], PARAMS, [Path("data/images"), Path("data/checked.txt")])


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- sources


@pytest.mark.parametrize("stage", [*STAGES, "__main__"])
def test_sources_are_what_the_standard_librarys_finder_finds(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    finder = ModuleFinder(path=[str(ROOT)])
    finder.import_hook(f"stages.{stage}")
    expected = {Path(module.__file__).relative_to(ROOT) for module in finder.modules.values() if module.__file__}
    assert Path(f"stages/{stage}.py") in expected
    assert sources_of([f"stages.{stage}"]) == sorted(expected)


#: Prints the project's files that importing a stage loads.
LOADED = """
import importlib, sys
from pathlib import Path
importlib.import_module(f"stages.{sys.argv[1]}")
files = (Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None))
root = Path.cwd()
print(*(file.relative_to(root) for file in files if file.parts[: len(root.parts) + 1] in
    [(*root.parts, package) for package in ("pipeline", "stages", "vae")]))
"""


@pytest.mark.parametrize("stage", ["preprocess", "summarise"])  # those that load no TensorFlow
def test_sources_are_what_a_second_process_loads(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    said = subprocess.run([sys.executable, "-c", LOADED, stage], capture_output=True, text=True, check=True).stdout
    assert [str(path) for path in sources_of([f"stages.{stage}"])] == sorted(said.split())


def test_sources_are_followed_through_packages_and_functions() -> None:
    assert [str(path) for path in sources_of(["stages.sample"])] == SOURCES


def test_sources_do_not_depend_on_the_order_of_modules() -> None:
    modules = ["vae.unused", "stages.sample", "pipeline.files"]
    assert sources_of(modules) == sources_of(reversed(modules))


def test_modules_that_import_each_other_are_found() -> None:
    write("vae/deep/layers.py", "from vae import model\n")
    assert [str(path) for path in sources_of(["stages.sample"])] == SOURCES


@pytest.mark.parametrize("module", ["numpy", "vae.absent", "tests.conftest"])
def test_what_is_no_module_of_the_project_has_no_sources(module: str) -> None:
    assert [path for path in sources_of([module]) if path.name != "__init__.py"] == []


# ---- the record


def test_record_is_the_sha256_of_sources_and_inputs() -> None:
    taken = take().as_dict()
    assert taken == {
        "stage": "sample",
        "sources": {name: sha256(FILES[name]) for name in SOURCES},
        "params": PARAMS,
        "inputs": {name: sha256(text) for name, text in FILES.items() if name.startswith("data/")},
    }
    assert json.loads(json.dumps(taken)) == taken


@pytest.mark.parametrize("missing", ["data/checked.txt", "data/images"])
def test_missing_input_is_refused_by_name(missing: str) -> None:
    Path(missing).rename("elsewhere")
    with pytest.raises(StageError, match=rf"{missing} is missing.*dvc repro"):
        take()


def test_inputs_may_come_from_a_generator() -> None:
    names = ["data/checked.txt", "data/images/images.bin"]
    assert hash_paths(Path(name) for name in names) == {name: sha256(FILES[name]) for name in names}


def test_inputs_from_a_generator_are_checked_again_at_the_end() -> None:
    taken = Provenance.take("sample", ["stages.sample"], PARAMS, (Path(name) for name in ["data/images"]))
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
    inputs = [Path("data/images"), Path("data/checked.txt")]
    params = {"model": {"widths": [32, 64]}, "train": {"beta": 1.0, "seed": 1}}
    other = Provenance.take("sample", ["vae.deep", "stages.sample"], params, inputs[::-1])
    assert other.digest == take().digest


def test_digest_does_not_depend_on_what_the_stage_does_not_use() -> None:
    first = take().digest
    write("vae/unused.py", "changed = True\n")
    write("data/other.txt", "other")
    assert take().digest == first


@pytest.mark.parametrize("name", [*SOURCES, "data/images/images.bin", "data/images/labels.bin", "data/checked.txt"])
def test_any_byte_of_a_source_or_an_input_changes_the_digest(name: str) -> None:
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
    inputs = [Path("data/images"), Path("data/checked.txt")]
    assert Provenance.take("sample", ["stages.sample"], params, inputs).digest != take().digest


def test_stages_with_the_same_work_have_different_digests() -> None:
    inputs = [Path("data/images"), Path("data/checked.txt")]
    assert Provenance.take("other", ["stages.sample"], PARAMS, inputs).digest != take().digest


# ---- the check at the end


def test_nothing_changed_is_no_error() -> None:
    take().verify()


@pytest.mark.parametrize("name", ["stages/sample.py", "vae/deep/layers.py", "data/images/labels.bin"])
def test_edit_made_meanwhile_is_named_with_both_hashes(name: str) -> None:
    taken = take()
    write(name, "edited")
    with pytest.raises(StageError) as caught:
        taken.verify()
    assert str(caught.value).startswith(f"{name} changed while stage sample ran")
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
    with pytest.raises(StageError, match=r"sample used vae/unused\.py, which its provenance does not record"):
        taken.verify()


@pytest.mark.parametrize("place", [".venv/lib/vae/x.py", "tests/x.py", "../vae/x.py"])
def test_module_of_no_package_of_the_project_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    other = ModuleType("other")
    other.__file__ = str((tmp_path / place).resolve())
    monkeypatch.setitem(sys.modules, "other", other)
    take().verify()
