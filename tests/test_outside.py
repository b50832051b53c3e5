"""What the targets of the Makefile write outside the project: nothing that is not in the table of docs/outside.md."""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from tempfile import mkdtemp

import pytest
from conftest import ROOT, Project, copy_all
from ruamel.yaml import YAML

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("one_ray")]

VERSION = "1.2.3"

MAKE = ("make", "-o", "setup", "-o", "setup-review", "-o", "setup-scale", "-o", "setup-dev")

#: The targets that are run, in this order, each with the variables that are typed after it.
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

#: Targets that are not run here, by the reason.
NOT_RUN: Mapping[str, tuple[str, ...]] = {
    "installs for minutes; tests/test_setup.py": ("setup", "setup-review", "setup-scale", "setup-dev"),
    "as `test`, for longer": ("test-more", "test-whole", "faults"),
    "needs the internet": ("vulnerabilities", "lock"),
    "needs a wheel of PyTorch": ("lock-torch",),
    "a quarter of an hour to an hour": ("portability", "bench", "bench-tests", "bench-scale"),
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


def surroundings(top: Path) -> tuple[dict[str, tuple[int, int]], bytes, bytes]:
    """The files of the larger repository, except the project's, and what git reads first."""
    files = {name: facts for name, facts in seen(top).items() if not name.startswith(("ml/", ".git/"))}
    return files, (top / ".git/config").read_bytes(), (top / ".git/HEAD").read_bytes()


def prepare(project: Project, target: str) -> None:
    """Makes what a target needs to have something to do."""
    if target == "all":
        project.set_params({"represent": {"iterations": 9}})
    elif target == "verify":
        for command in (
            "openssl genpkey -algorithm ed25519 -out key.pem",
            "openssl pkey -in key.pem -pubout -out key.pub",
            ".venv/bin/python -m workflow.audit --quick --sign key.pem --output audits/it",
        ):
            project.succeed(*command.split())
    elif target == "workers":
        project.set_params({"train": {"workers": 2}, "threads": {"intra_op": 1}})
    elif target == "lint":
        for part in ("pipeline/datasets/fashion_mnist.py", "pipeline/archives.py"):  # the slice's are badly formed
            shutil.copy(ROOT / part, project.folder / part)
    if project.succeed("git", "status", "--porcelain"):
        project.commit("Changed")


def test_nothing_is_written_outside_the_project_but_what_is_listed(finished: Project, short: Path) -> None:
    top, own = short / "mono", {"HOME": short / "home", "TMPDIR": short / "t"}
    for folder in own.values():
        folder.mkdir()
    project = finished.copy_to(top / "ml")
    shutil.rmtree(project.folder / ".git")
    copy_all(project.folder)
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
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    released = re.sub(r'^version = ".*"', f'version = "{VERSION}"', settings, flags=re.MULTILINE)
    (project.folder / "pyproject.toml").write_text(released, encoding="utf-8")
    (project.folder / "CHANGELOG.md").write_text(f"## {VERSION}\n", encoding="utf-8")
    (project.folder / ".venv").symlink_to(sys.prefix)
    (top / "neighbour.txt").write_text("the user's", encoding="utf-8")
    project.succeed("git", "init", "-q", str(top))
    for name, value in (("user.name", "Test"), ("user.email", "test@example.invalid")):
        project.succeed("git", "config", name, value)
    project.commit("Results")

    failed, strange = [], []
    for target, words in TYPED.items():
        prepare(project, target)
        before, around = {name: seen(folder) for name, folder in own.items()}, surroundings(top)
        done = project.run(*MAKE, target, *words, env={name: str(folder) for name, folder in own.items()}, forks=False)
        print(target, done.returncode, (done.stdout + done.stderr)[-600:])
        for name, folder in own.items():
            new = [f"{name}/{path}" for path, facts in seen(folder).items() if before[name].get(path) != facts]
            strange += [f"{target}: {path}" for path in new if not any(fnmatch(path, listed) for listed in LISTED)]
        assert surroundings(top) == around
        failed += [target] if done.returncode else []
    assert not failed + strange, "\n".join(failed + strange)


def test_each_target_is_watched_or_it_is_said_why_not() -> None:
    targets = re.findall(r"^([a-z-]+):[^#\n]*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(targets) == sorted([*TYPED, *(name for names in NOT_RUN.values() for name in names)])
