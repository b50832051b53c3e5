"""CITATION.cff, by the schema of the Citation File Format 1.2.0."""

import subprocess
import sys
import tomllib
from pathlib import Path

from conftest import ROOT
from ruamel.yaml import YAML

PATH = ROOT / "CITATION.cff"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [
        Path(sys.executable).parent / "check-jsonschema",
        "--builtin-schema",
        "vendor.citation-file-format",
        path,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_of_the_format(tmp_path: Path) -> None:
    done = check(PATH)
    assert done.returncode == 0, done.stdout
    (tmp_path / "CITATION.cff").write_text(PATH.read_text(encoding="utf-8").replace("authors:", "writers:"))
    assert "'authors' is a required property" in check(tmp_path / "CITATION.cff").stdout


def test_it_states_what_the_project_states() -> None:
    stated = YAML(typ="safe").load(PATH)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = ("title", "version", "license", "abstract")
    assert [stated[name] for name in names] == [project[name] for name in ("name", "version", "license", "description")]
    (author,) = stated["authors"]
    assert f" {author['name']}\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")
