"""The Makefile, whose programs say their names instead of working, and the lock files that `make lock` writes."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT, write_program
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHECKS = [
    *("ruff check .", "ruff format --check .", "mypy ", "lint-imports --no-logo --no-cache"),
    "actionlint .github/workflows/*.yml",
]
ZIZMOR = "zizmor --offline --no-progress --quiet .github/workflows"
LEFT = dict.fromkeys(("PYTHONSAFEPATH", "PYTHONPATH", "GIT_DIR", "SHELL", "SEED", "REV", "ARGS"), "/left")


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make` in the folder, as if no other make were around it."""
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that was used: the Makefile, programs that say their names, and a file in data/ that git tracks."""
    folder = tmp_path / "a project é"
    kept = (".dvc/cache/aa", ".dvc/__pycache__/x", ".git/__pycache__/x", "metrics/a.json", "data/tracked")
    for name in ("data/raw/x.npz", "runs/x", "state/train.lock", "pipeline/__pycache__/x", ".mypy_cache/x", *kept):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "workflow").mkdir()
    (folder / "workflow/setup.sh").write_text('echo "setup $1 ${PYTHON-}"; exit ${SETUP_FAILS-0}')
    left = "${PYTHONSAFEPATH-}${PYTHONPATH-}${GIT_DIR-}${SHELL#/bin/sh}"
    for name in ("dvc", "python", "ruff", "mypy", "lint-imports", "actionlint", "zizmor"):
        write_program(folder / ".venv/bin" / name, f'echo "{name} $*{left}@${{PATH%%:*}}"; exit ${{FAILS-0}}')
    (folder / ".gitignore").write_text("/.venv/\n/data/\n/runs/\n/state/\n/.dvc/cache/\n__pycache__/\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-f", "data/tracked"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ("-j4", {"PYTHON": "/a"}, ["setup runtime /a", "dvc repro", "python -m workflow.summary"]),
        ("test ARGS=-k", {}, ["setup dev ", "python -m bench.tests test -k"]),
        ("audit PRESET=a", LEFT, ["setup review ", "python -m workflow.audit HEAD --preset a"]),
        ("release VERSION=1.2.3", LEFT, ["setup review ", "python -m workflow.release 1.2.3"]),
        ("release VERSION=1.2.3 SIGN=a.pem", {}, ["setup review ", "python -m workflow.release 1.2.3 --sign a.pem"]),
        ("report", {}, ["setup review ", "python -m workflow.report workspace --output report.html"]),
        ("-j4 setup-scale lint", {}, ["setup scale ", "setup dev ", *CHECKS, ZIZMOR]),
        ("SETUP_FAILS=1", {}, ["setup runtime "]),
        ("FAILS=1", {}, ["setup runtime ", "dvc repro"]),
    ],
)
def test_make_does_this_in_this_order_and_stops_at_a_failure(
    project: Path, arguments: str, environment: dict[str, str], said: list[str]
) -> None:
    done = make(project, *arguments.split(), **environment)
    assert (done.returncode == 0) == ("FAILS" not in arguments), done.stderr
    programs = f"@{project}/.venv/bin"
    words = [line.removesuffix(programs) for line in done.stdout.splitlines() if not line.startswith(".venv/")]
    assert words == said
    assert done.stdout.count(programs) == len([line for line in said if not line.startswith("setup")])


def test_make_help_lists_the_targets_of_most_people_and_help_all_every_one(project: Path) -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    few, every = (make(project, target).stdout.splitlines() for target in ("help", "help-all"))
    assert len(few) == 12
    assert sorted(line.split()[1] for line in every) == sorted(" ".join(phony).split())
    assert {line.split()[1] for line in few} <= {line.split()[1] for line in every}
    assert all(re.fullmatch(r"make [a-z-]+ +\S.{10,}", line) for line in few + every)


def test_clean_and_distclean_remove_what_can_be_made_again_and_nothing_else(project: Path, tmp_path: Path) -> None:
    (project / "state/train.lock").write_text(str(os.getpid()))  # of a process that is no stage
    done = make(project, "clean")
    assert done.returncode == 0, done.stderr
    sizes = [line.split()[1] for line in done.stdout.splitlines() if re.match(r"\S+\t", line)]
    assert sizes == [".venv", ".dvc/cache", "data", "runs", "state"]
    assert "dvc gc --workspace --all-commits --all-experiments" in done.stdout
    kept = [".dvc/cache/aa", ".dvc/__pycache__/x", ".git/__pycache__/x", "metrics/a.json", "data/tracked", "Makefile"]
    gone = ["runs", "state", "pipeline/__pycache__", ".mypy_cache"]
    again = [".venv/bin", "data/raw/x.npz"]
    assert [name for name in kept + gone + again if (project / name).exists()] == kept + again

    shutil.copytree(project, tmp_path / "other")  # a hook's repository
    done = make(project, "distclean", GIT_DIR=str(tmp_path / "other/.git"), GIT_WORK_TREE=str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    assert [name for name in kept + gone + again if (project / name).exists()] == kept
    assert (tmp_path / "other/data/raw/x.npz").exists()


def test_clean_refuses_while_a_stage_works(project: Path) -> None:
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m", "stages", "train"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as stage:
        (project / "state/train.lock").write_text(str(stage.pid))
        done = make(project, "distclean")
        stage.communicate()
    assert f"process {stage.pid} holds state/train.lock" in done.stderr
    assert done.returncode != 0
    assert (project / "state").exists()
    assert (project / ".venv").exists()


def pins(lock: str) -> set[Requirement]:
    """Requirements of a lock. Proves that each line is an exact version with hashes, and that none names a host."""
    found = set()
    text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|index|find-links|trusted|\w@\w|\.(org|com|io|net)\b", text)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            assert hashes, line
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), line
            found.add(Requirement(requirement))
    assert all(re.fullmatch(r"==[^*]+", str(pin.specifier)) and not pin.url and not pin.extras for pin in found)
    return found


def test_each_lock_has_all_of_those_before_it() -> None:
    locks = ("build", "runtime", "review", "scale", "dev")
    pinned = [{(pin.name, str(pin.specifier)) for pin in pins(lock)} for lock in locks]
    assert all(less < more for less, more in pairwise([set(), *pinned]))


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("runtime", []), ("review", ["review"]), ("scale", ["review", "scale"]), ("dev", ["review", "scale", "dev"])],
)
def test_lock_satisfies_pyproject(lock: str, extras: list[str]) -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.14"  # as workflow/setup.sh and its test
    locked = pins(lock)
    for wanted in map(Requirement, sum((PROJECT["optional-dependencies"][x] for x in extras), PROJECT["dependencies"])):
        versions = [str(pin.specifier)[2:] for pin in locked if pin.name == canonicalize_name(wanted.name)]
        assert versions, wanted
        assert all(version in wanted.specifier for version in versions), wanted
