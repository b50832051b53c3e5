"""What a stage's code is: its modules by an independent finder, and what changes its digest."""

import shutil
import subprocess
import sys
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from conftest import ROOT, write

from pipeline.code import code_digests, code_of, sources_of
from pipeline.errors import StageError

NAMES = ["sample", "modelled", "fed", "told", "whole"]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
PARAMS = {"data": {"name": "three"}, "model": {"architecture": "one", "prior": "two"}}

#: A project whose stage uses two packages, one of them through a chain; vae/unused.py is used by nobody.
FILES = {
    "stages/__init__.py": "",
    "stages/__main__.py": "",
    "stages/sample.py": "'''Says.'''\nimport pipeline.files\nfrom vae import model\n\ndef run(train):\n    return 1\n",
    "stages/modelled.py": "def run(model):\n    return 1\n",
    "stages/fed.py": "def run(data):\n    return 1\n",
    "stages/told.py": "def run(data: Input):\n    return 1\n",
    "stages/whole.py": "def run(params):\n    return 1\n",
    "pipeline/__init__.py": "",
    "pipeline/files.py": "import os, numpy\n",
    "pipeline/datasets/three.py": "def read():\n    return 3\n",
    "vae/__init__.py": "",
    "vae/model.py": "def build():\n    from vae.deep.layers import Dense\n    return Dense\n",
    "vae/deep/__init__.py": "",
    "vae/deep/layers.py": "class Dense:\n    '''A layer.'''\n\n    size = (1, 2)  # pixels\n",
    "vae/architectures/one.py": "def build():\n    return f'{1!r:>{2}}'\n",
    "vae/priors/two.py": "async def build(*, a=None, **b):\n    '''A prior.'''\n    return -1.5e3\n",
    "vae/unused.py": "",
    "numeric.txt": "# a comment\npython 3.11\nnumpy 2.4.4\n",
}
SOURCES = [
    name
    for name in sorted(FILES)
    if name.startswith(("stages/_", "stages/s", "pipeline/_", "pipeline/f", "vae/_", "vae/m", "vae/d"))
]


pytestmark = pytest.mark.usefixtures("written")


def digests() -> dict[str, str]:
    return code_digests(NAMES, PARAMS)


# ---- the modules


@pytest.mark.parametrize("stage", [*STAGES, "__main__"])
def test_sources_are_what_the_standard_librarys_finder_finds(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    finder = ModuleFinder(path=[str(ROOT)])
    finder.import_hook(f"stages.{stage}")
    expected = {str(Path(module.__file__).relative_to(ROOT)) for module in finder.modules.values() if module.__file__}
    assert f"stages/{stage}.py" in expected
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
    assert sources_of([f"stages.{stage}"]) == sorted(said.split())


def test_sources_are_followed_through_packages_and_functions() -> None:
    assert sorted(code_of("sample", [])) == sorted([*SOURCES, "numeric.txt"])


def test_sources_do_not_depend_on_the_order_of_modules() -> None:
    modules = ["vae.unused", "stages.sample", "pipeline.files"]
    assert sources_of(modules) == sources_of(reversed(modules))


def test_modules_that_import_each_other_are_found() -> None:
    write("vae/deep/layers.py", "from vae import model\n")
    assert sorted(code_of("sample", [])) == sorted([*SOURCES, "numeric.txt"])


@pytest.mark.parametrize("module", ["numpy", "vae.absent", "tests.conftest"])
def test_what_is_no_module_of_the_project_has_no_sources(module: str) -> None:
    assert [path for path in sources_of([module]) if not path.endswith("__init__.py")] == []


# ---- the digest

#: Texts of files and what takes their place, from which no result follows; or some do. None: the file goes.
SAME: dict[str, tuple[str, str, str | None]] = {
    "the same again": ("vae/model.py", "def", "def"),
    "a comment": ("vae/model.py", "def build", "# why\ndef build"),
    "a docstring of the module": ("vae/model.py", "def build", '"""Networks."""\ndef build'),
    "another docstring of a class": ("vae/deep/layers.py", "A l", "The l"),
    "another layout": ("vae/deep/layers.py", "(1, 2)", "(\n        1,\n        2,\n    )"),
    "a module that is not used": ("vae/unused.py", "", "changed = True\n"),
    "an architecture that the stage does not take": ("vae/architectures/one.py", "1", "2"),
    "a comment of the versions": ("numeric.txt", "a comment", "another"),
}
OTHER: dict[str, tuple[str, str, str | None]] = {
    "a number": ("vae/deep/layers.py", "(1, 2)", "(1, 3)"),
    "a number's type": ("vae/deep/layers.py", "(1, 2)", "(1, 2.0)"),
    "a text that is no docstring": ("stages/sample.py", "return 1", "'a'"),
    "a name": ("vae/deep/layers.py", "size", "shape"),
    "an import": ("vae/deep/__init__.py", "", "import vae.unused"),
    "a module that is gone": ("vae/deep/layers.py", "", None),
    "a version": ("numeric.txt", "2.4.4", "2.4.5"),
    "the entry point": ("stages/__main__.py", "", "changed = True\n"),
}


@pytest.mark.parametrize("edit", [*SAME, *OTHER])
def test_the_digest_changes_with_what_results_follow_from_and_nothing_else(edit: str) -> None:
    before = digests()["sample"]
    file, text, other = (SAME | OTHER)[edit]
    if other is None:
        Path(file).unlink()
    else:
        write(file, FILES[file].replace(text, other, 1))
    assert (digests()["sample"] != before) == (edit in OTHER)


@pytest.mark.parametrize(
    ("path", "takers"),
    [
        ("vae/architectures/one.py", {"modelled", "whole"}),
        ("vae/priors/two.py", {"modelled", "whole"}),
        ("pipeline/datasets/three.py", {"fed", "whole"}),
    ],
)
def test_a_stage_that_takes_a_section_has_the_modules_it_names_in_its_digest(path: str, takers: set[str]) -> None:
    before = digests()
    write(path, "changed = True\n")
    after = digests()
    assert {name for name in NAMES if after[name] != before[name]} == takers


def test_a_section_that_an_older_commit_lacks_names_nothing() -> None:
    older = code_digests(NAMES, {"model": PARAMS["model"]})
    assert {name for name, digest in digests().items() if digest != older[name]} == {"fed", "whole"}


@pytest.mark.parametrize("code", ["print(build.__doc__)", "print(__doc__)"])
def test_code_that_reads_a_docstring_is_refused(code: str) -> None:
    write("vae/model.py", f'"""Says."""\n\n{code}\n')
    with pytest.raises(StageError, match=r"vae/model\.py:3 reads __doc__"):
        digests()


def test_code_that_is_no_python_is_refused_by_its_place() -> None:
    write("vae/model.py", "def build():\n    return (\n")
    with pytest.raises(StageError, match=r"vae/model\.py:2 is no Python \(.*mend it"):
        digests()


def test_digests_are_of_the_files_that_are_read() -> None:
    """As an audit reads those of a commit, not those at hand."""
    before = digests()
    for name in FILES:
        Path(name).unlink()
    assert code_digests(NAMES, PARAMS, lambda name: FILES[name].encode() if name in FILES else None) == before


#: Prints the digest of one module's syntax, of files that are given.
OF_FILES = """
import sys
from unittest.mock import MagicMock
sys.path.insert(0, sys.argv[1])
for name in ("data", "model"):
    sys.modules[f"pipeline.params.{name}"] = MagicMock()  # the other Python has no pydantic
from pipeline import code
print({path: code._syntax(path, open(path, "rb").read()) for path in sys.argv[2:]})
"""


@pytest.mark.parametrize("python", ["python3.12", "python3.13"])
def test_the_digest_is_the_same_in_every_python(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which(python)
    if program is None or subprocess.run([program, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip(f"there is no {python} here")
    monkeypatch.chdir(ROOT)
    files = sorted(
        str(path.relative_to(ROOT))
        for package in ("stages", "vae", "pipeline")
        for path in (ROOT / package).rglob("*.py")
    )
    said = []
    for one in (sys.executable, program):
        done = subprocess.run(
            [one, "-S", "-c", OF_FILES, str(ROOT), *files], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
