"""What the targets of the Makefile write outside the project: nothing that is not in the table of docs/outside.md."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from tempfile import mkdtemp

import pytest
from conftest import ROOT, Project
from ruamel.yaml import YAML

from workflow.history.revisions import files

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("one_ray")]

VERSION = "1.2.3"

#: What is typed for each target, in this order, with values of variables in the words that follow it.
TYPED: Mapping[str, tuple[str, ...]] = {
    "help": (),
    "help-all": (),
    "all": (),
    "compare": ("BASE=HEAD",),
    "report": ("BASE=HEAD",),
    "audit": (),
    "verify": ("FROM=audits/it", "KEY=key.pub"),
    "release": (f"VERSION={VERSION}",),
    "pull": (f"FROM=releases/fashion-vae-{VERSION}.tar.gz",),
    "experiment": ("NAME=quick",),
    "quick": (),
    "sweep": ("SPEC=sweeps/cut.yaml",),
    "seeds": ("N=2",),
    "workers": (),
    "test": ("ARGS=tests/test_splits.py",),
    "lint": (),
    "clean": (),
    "distclean": (),
}

#: Targets that are not run here, and why.
NOT_RUN: Mapping[str, str] = {
    "setup": "installs for minutes; tests/test_setup.py",
    "setup-scale": "likewise",
    "setup-dev": "likewise",
    "test-more": "as `test`, for longer",
    "test-whole": "likewise",
    "faults": "likewise",
    "vulnerabilities": "needs the internet",
    "lock": "needs a registry",
    "lock-torch": "needs a wheel of PyTorch",
    "portability": "an hour",
    "bench": "twenty minutes",
    "bench-tests": "twenty minutes",
    "bench-scale": "a quarter of an hour",
}

#: Beginning of the lines of the table: a pattern in backticks.
LISTED = re.findall(r"^\| `([^`]+)`", (ROOT / "docs/outside.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path that is short enough for the sockets of Ray."""
    folder = Path(mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder, by path."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() or path.is_symlink():
            facts = path.lstat()
            found[str(path.relative_to(folder))] = (facts.st_size, facts.st_mtime_ns)
    return found


def commit(project: Project) -> None:
    if project.run("git", "status", "--porcelain").stdout:
        project.commit("Changed")


def prepare(project: Project, target: str) -> None:
    """Makes what a target needs to have something to do."""
    if target == "all":
        project.set_params({"represent": {"iterations": 9}})
    elif target == "verify":
        made = [["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"]]
        made.append(["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"])
        made.append(
            [".venv/bin/python", "-m", "workflow.audit", "--quick", "--sign", "key.pem", "--output", "audits/it"]
        )
        for command in made:
            assert project.run(*command).returncode == 0
    elif target == "workers":
        project.set_params({"train": {"workers": 2}, "threads": {"intra_op": 1}})
    elif target == "lint":
        for part in ("vae/fashion_mnist.py", "pipeline/archives.py"):  # as the slice has them they are badly formed
            shutil.copy(ROOT / part, project.folder / part)
    commit(project)


def test_nothing_is_written_outside_the_project_but_what_is_listed(finished: Project, short: Path) -> None:
    top, home, temporary = (short / name for name in ("mono", "home", "t"))
    for folder in (home, temporary):
        folder.mkdir()
    project = finished.copy_to(top / "ml")
    shutil.rmtree(project.folder / ".git")
    for name in files(ROOT):
        if not (project.folder / name).exists():
            (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project.folder / name)
    for record in project.folder.glob("presets/*.json"):
        record.unlink()  # of the real data
    (project.folder / "metrics/seeds.json").unlink(missing_ok=True)
    params = YAML(typ="safe").load(project.folder / "params.yaml")
    with (project.folder / "presets/quick.yaml").open("w", encoding="utf-8") as preset:
        YAML().dump({"train": params["train"] | {"epochs": 2}}, preset)
    spec = {
        "objective": "validation_loss",
        "space": {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "threads": 1,
        "sampler": {"name": "tpe", "seed": 1},
        "pruner": {"name": "asha", "grace_epochs": 1, "reduction": 3},
        "budget": {"trials": 2},
    }
    (project.folder / "sweeps/cut.yaml").write_text(json.dumps(spec), encoding="utf-8")
    (project.folder / "pyproject.toml").write_text(
        re.sub(r'^version = ".*"', f'version = "{VERSION}"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE),
        encoding="utf-8",
    )
    (project.folder / "CHANGELOG.md").write_text(f"## {VERSION}\n", encoding="utf-8")
    (project.folder / ".venv").symlink_to(sys.prefix)
    (top / "neighbour.txt").write_text("the user's", encoding="utf-8")
    assert subprocess.run(["git", "init", "-q", str(top)], check=False).returncode == 0
    for name, value in (("user.name", "Test"), ("user.email", "test@example.invalid")):
        assert project.run("git", "config", name, value).returncode == 0
    commit(project)

    own = {"HOME": str(home), "TMPDIR": str(temporary)}
    failed, strange = [], []
    for target, words in TYPED.items():
        prepare(project, target)
        before = {folder: seen(folder) for folder in (home, temporary)}
        outer = {name: facts for name, facts in seen(top).items() if not name.startswith(("ml/", ".git/"))}
        settings = (top / ".git/config").read_bytes(), (top / ".git/HEAD").read_bytes()
        done = subprocess.run(
            ["make", "-o", "setup", "-o", "setup-dev", "-o", "setup-scale", target, *words],
            cwd=project.folder,
            env={**project.environment(forks=False), **own},
            capture_output=True,
            text=True,
            check=False,
        )
        print(target, done.returncode, (done.stdout + done.stderr)[-600:])
        for folder, name in ((home, "HOME"), (temporary, "TMPDIR")):
            new = [path for path, facts in seen(folder).items() if before[folder].get(path) != facts]
            strange += [
                f"{target}: {name}/{path}" for path in new if not any(fnmatch(f"{name}/{path}", p) for p in LISTED)
            ]
        assert {name: f for name, f in seen(top).items() if not name.startswith(("ml/", ".git/"))} == outer
        assert ((top / ".git/config").read_bytes(), (top / ".git/HEAD").read_bytes()) == settings
        failed += [target] if done.returncode else []
    assert not failed + strange, "\n".join(failed + strange)


def test_each_target_is_watched_or_it_is_said_why_not() -> None:
    targets = re.findall(r"^([a-z-]+):[^#\n]*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {*targets} == TYPED.keys() | NOT_RUN.keys()
