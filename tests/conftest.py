"""A project like the real one, with a slice of real-shaped data, in which tests run the real pipeline."""

import gc
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from ruamel.yaml import YAML

from pipeline.files import write_json
from pipeline.params.data import SHA256_FILE
from workflow.command import forget_other_repositories
from workflow.history.revisions import files
from workflow.history.staleness import stale_records

forget_other_repositories()  # tests commit

ROOT = Path(__file__).parents[1]

#: Parameters of the tests. `tests/params.yaml` overrides `params.yaml`, so that a user's change breaks no test.
PARAMS: dict[str, dict[str, Any]] = {
    section: {**values, **YAML(typ="safe").load(ROOT / "tests" / "params.yaml").get(section, {})}
    for section, values in YAML(typ="safe").load(ROOT / "params.yaml").items()
}

#: Files and folders of a project.
PARTS = (
    "dvc.yaml",
    "LICENSE",
    "numeric.txt",
    "stages",
    "vae",
    "pipeline",
    "workflow",
    "presets",
    "requirements",
    ".gitignore",
    ".gitattributes",
    ".dvcignore",
)

#: Numbers of images of the slice: upstream training images, those of them that validate, test images.
TRAINING, VALIDATION, TEST = 600, 200, 200

SLICE_PARAMS: Mapping[str, Mapping[str, Any]] = {
    "model": {"widths": [4, 8, 8]},
    "train": {"epochs": 3, "batch_size": 50},
    "evaluate": {"latent_samples": 2, "importance_samples": 30, "batch_size": 80},
    "refine": {"images": 20, "steps": 10, "bound_samples": 4, "importance_samples": 10},
    "baseline": {"neighbours": [1, 3], "inverse_regularisation": [0.01], "iterations": 10},
    "represent": {"neighbours": [1, 3], "inverse_regularisation": [0.1], "iterations": 10},
    "outliers": {"images": 40, "latent_samples": 2, "importance_samples": 5},
    "samples": {"images": 100, "components": 5, "neighbours": 3},
    "figures": {"grid_side": 4, "prior_samples": 9},
    "explore": {"images": 50, "grid_side": 3},
    "export": {"images": 20},
}


class StandIns(MetaPathFinder, Loader):
    """Replaces libraries that take seconds to import by mocks, when pytest only lists the tests."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        slow = name.partition(".")[0] in ("keras", "tensorflow", "tensorflow_datasets")
        return ModuleSpec(name, self, is_package=True) if slow else None

    def create_module(self, spec: ModuleSpec) -> Any:
        return MagicMock(name=spec.name)

    def exec_module(self, _: ModuleType) -> None:
        """Leaves the module as it is."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that also runs the longest tests."""
    parser.addoption("--whole", action="store_true", help="also run what is marked `whole`")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the mark, and makes a folder for the server that forks commands."""
    config.addinivalue_line("markers", "whole: tried by `make test-whole` only, which takes long")
    gc.disable()  # until the libraries are loaded: the collector would take a fifth of that time
    if config.option.collectonly:
        sys.meta_path.insert(0, StandIns())
    if "PYTEST_FORKS" not in os.environ:  # in the first process, so that all that come from it share the server
        folder = Path(tempfile.mkdtemp(prefix="fashion-vae-"))
        os.environ["PYTEST_ENVIRONMENT"] = json.dumps({**os.environ})  # before tests and libraries change it
        os.environ["PYTEST_FORKS"] = str(folder)
        os.mkfifo(folder / "alive")
        os.open(folder / "alive", os.O_RDWR)  # the server ends with this process, the only one that could write
        config.add_cleanup(lambda: shutil.rmtree(folder))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests marked `whole`, unless they were asked for, and sorts the rest.

    One worker runs the pipeline that many tests need. Meanwhile the others run tests that do not need it.
    """
    if not config.getoption("--whole"):
        kept = [item for item in items if item.get_closest_marker("whole") is None]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    waiting = {item.path for item in items if {"finished", "trained"} & {*getattr(item, "fixturenames", ())}}
    first = {"test_end_to_end.py": 0, "test_report_browser.py": 3}  # the last needs what the report's tests have made
    items.sort(key=lambda item: first.get(item.path.name, 2 if item.path in waiting else 1))


def pytest_collection_finish() -> None:
    """Turns the garbage collector on again; it skips the libraries."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names recorded results of other code or parameters."""
    for line in stale_records():
        terminalreporter.write_line(line)


def as_committed(*paths: str) -> pytest.MarkDecorator:
    """Skips a test of committed results if `paths` differ from the commit: on another processor, or during a change."""
    command = ["git", "status", "--porcelain", "--", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    differs = done.stdout.strip() or done.stderr.strip()
    return pytest.mark.skipif(bool(differs), reason=f"not as committed: {' '.join(differs.split())}")


#: Options by which git knows who commits.
IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")

#: Variables of what tests run in projects.
ENVIRONMENT: Mapping[str, str] = {"PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "1"}


def write_program(path: Path, script: str) -> None:
    """Writes a program that a shell runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@cache
def forking_programs() -> str:
    """A folder with a `python` and a `dvc` that fork the server of `tests/fork/`, which is started unless it runs.

    Where forks of a process with threads are not safe, as on macOS, it is the folder of the real programs.
    """
    if sys.platform != "linux":
        return real_programs()
    folder = Path(os.environ["PYTEST_FORKS"])
    fork, socket, python = ROOT / "tests/fork", folder / "socket", folder / "bin/python"
    with FileLock(folder / "lock"):
        if not python.exists():
            command = [sys.executable, str(fork / "server.py"), str(socket), str(python)]
            with (folder / "alive").open("rb") as alive, (folder / "log").open("wb") as log:
                server = subprocess.Popen(
                    command,
                    env={**json.loads(os.environ["PYTEST_ENVIRONMENT"]), **ENVIRONMENT},
                    stdin=alive,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # an interrupt from a terminal ends pytest first
                )
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n", (folder / "log").read_text()
            words = shlex.join([sys.executable, "-I", "-S", str(fork / "client.py"), str(socket)])
            write_program(python.with_name("dvc"), f'exec {words} -m dvc "$@"')
            write_program(python, f'exec {words} "$@"')
    return str(python.parent)


@cache
def real_programs() -> str:
    """A folder with a `python` that obeys PYTHONPATH whatever its first option: tests reach into stages by it."""
    python = Path(os.environ["PYTEST_FORKS"]) / "real/python"
    with FileLock(python.parent.with_suffix(".lock")):
        if not python.exists():
            write_program(python, f'[ "$1" != -E ] || shift\nexec {shlex.quote(sys.executable)} "$@"')
    return str(python.parent)


@dataclass(frozen=True)
class Project:
    """A project in a folder of its own, in git, with its own DVC cache."""

    folder: Path

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, forks: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project with the variables of `environment`, and with options of `subprocess.run`."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.run(command, cwd=self.folder, env=self.environment(env, forks=forks), check=False, **options)

    def start(self, *command: str, env: Mapping[str, str] | None = None, forks: bool = True) -> "subprocess.Popen[str]":
        """Starts a command as `run` does. What it says to standard error is in its output."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(env, forks=forks), **pipes)

    def succeed(self, *command: str, **options: Any) -> str:
        """Runs a command as `run` does. It has to succeed; returns its standard output."""
        done = self.run(*command, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fail(self, *command: str, status: int = 1, **options: Any) -> str:
        """Runs a command as `run` does. It has to end with this status; returns its errors, without a traceback."""
        done = self.run(*command, **options)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stdout + done.stderr
        return done.stderr

    def environment(self, more: Mapping[str, str] | None = None, *, forks: bool = True) -> dict[str, str]:
        """Environment of the commands; with `forks`, `python` is a fork of one that has imported the libraries."""
        programs = forking_programs() if forks else real_programs()
        folders = [programs, str(Path(sys.executable).parent), os.environ["PATH"]]
        return {**os.environ, **ENVIRONMENT, "PATH": os.pathsep.join(folders), **(more or {})}

    def repro(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Runs `dvc repro`, which has to succeed, and returns what it said."""
        return self.succeed("dvc", "repro", *arguments, env=env)

    def json(self, path: str) -> Any:
        """Reads a JSON file of the project."""
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def append(self, path: str, text: str) -> None:
        """Adds lines to a file of the project."""
        with (self.folder / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")

    def set_params(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Changes keys of `params.yaml`."""
        path = self.folder / "params.yaml"
        params: dict[str, Any] = YAML(typ="safe").load(path)
        for section, values in changes.items():
            params[section].update(values)
        with path.open("w", encoding="utf-8") as handle:
            YAML().dump(params, handle)

    def tracked_results(self) -> dict[str, str]:
        """sha256 by path of `dvc.lock` and of every file below `metrics/`."""
        files = [self.folder / "dvc.lock", *sorted((self.folder / "metrics").rglob("*"))]
        return {str(f.relative_to(self.folder)): sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}

    def files(self) -> set[str]:
        """Every file of the workspace, except those of git and of DVC, and locks of unfinished work."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {str(path) for path in found if path.parts[0] not in (".git", ".dvc") and path.suffix != ".lock"}

    def commit(self, message: str) -> None:
        """Commits everything that is not ignored."""
        self.succeed("git", "add", "-A")
        self.succeed("git", *IDENTITY, "commit", "-q", "-m", message)

    def copy_to(self, folder: Path) -> "Project":
        """The whole project with its data and cache, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def slice_arrays() -> dict[str, NDArray[np.uint8]]:
    """Images of the real shapes: rectangles of ten sizes and grays, so that there is something to learn."""
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.uint8]] = {}
    for split, count in (("train", TRAINING), ("test", TEST)):
        labels = generator.permutation(np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            top, left = generator.integers(1, 6, 2)
            height, width = 6 + 2 * (label // 2), 8 + 6 * (label % 3)
            gray = 60 + 18 * label + generator.integers(0, 30, (28, 28))
            image[top : top + height, left : left + width] = gray[top : top + height, left : left + width]
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
    return arrays


def published_ones(arrays: Mapping[str, NDArray[np.uint8]]) -> int:
    """Ones in the published draw of the slice's test images, by numpy's global generator as in the publication."""
    state = np.random.get_state()
    np.random.seed(777)
    np.random.binomial(1, arrays["train_images"][-VALIDATION:].reshape(VALIDATION, -1) / 255)
    ones = int(np.random.binomial(1, arrays["test_images"].reshape(TEST, -1) / 255).sum())
    np.random.set_state(state)
    return ones


def copy_part(part: str, folder: Path) -> None:
    """Copies a file or a folder of this project into another one's folder."""
    source, ignore = ROOT / part, shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, folder / part, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)


def copy_all(folder: Path) -> None:
    """Copies the files of this project that another one's folder lacks."""
    for name in files(ROOT):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def new_project(folder: Path) -> Project:
    """A project like the real one, with the slice in place of Fashion-MNIST."""
    folder.mkdir()
    for part in PARTS:
        copy_part(part, folder)
    YAML().dump(PARAMS, folder / "params.yaml")
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)

    arrays = slice_arrays()
    np.savez(folder / "slice.npz", **arrays)
    (folder / "pipeline" / "archives.py").write_text(
        '"""The slice in place of the archives."""\n\nimport numpy as np\n\n\n'
        "def read_archives(name, scratch, say, config=None):\n    return dict(np.load('slice.npz'))\n",
        encoding="utf-8",
    )
    digests = {name: sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    write_json(folder / SHA256_FILE, {"fashion_mnist": digests})
    with (folder / "pipeline/datasets/fashion_mnist.py").open("a", encoding="utf-8") as handle:
        handle.write(f"\nVALIDATION = {VALIDATION}\nTEST_ONES = {published_ones(arrays)}\n")
    project = Project(folder)
    project.set_params(SLICE_PARAMS)
    project.succeed("git", "init", "-q", "-b", "main")
    project.commit("A project")
    return project


#: Makes a project of a name by a function, once for all workers.
Once = Callable[[str, Callable[[], Project]], Project]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def once(shared: Path) -> Once:
    """Makes the projects that all workers share. Tests copy them; none changes one."""

    def made(name: str, make: Callable[[], Project]) -> Project:
        link = shared / name
        with FileLock(f"{link}.lock"):
            if not link.exists():
                link.symlink_to(make().folder)
        return Project(link.resolve())

    return made


@pytest.fixture(scope="module")
def one_ray(shared: Path) -> Iterator[None]:
    """Keeps modules apart that start a Ray: two that start at once on a machine may take each other's files."""
    with FileLock(shared / "ray.lock"):
        yield


@pytest.fixture(scope="session")
def finished(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run and is committed.

    PYTEST_FINISHED may name the project of an earlier run. It gets the present `workflow/`, on which no result depends.
    """

    def make() -> Project:
        folder = tmp_path_factory.mktemp("made") / "finished"
        if given := os.environ.get("PYTEST_FINISHED"):
            project = Project(Path(given)).copy_to(folder)
            remove(project, "workflow")
            copy_part("workflow", project.folder)
        else:
            project = new_project(folder)
            project.repro()
        project.commit("Results")
        return project

    return once("finished", make)


#: The stages up to training.
TRAINING_STAGES = ("check", "fetch", "preprocess", "train")


@pytest.fixture(scope="session")
def trained(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of the stages up to training, run and committed, for tests that need no later stage."""

    def make() -> Project:
        project = new_project(tmp_path_factory.mktemp("made") / "trained")
        keep_stages(project, *TRAINING_STAGES)
        project.repro()
        project.commit("Results")
        return project

    return once("trained", make)


def keep_stages(project: Project, *names: str) -> None:
    """Removes all other stages from a project: from its graph and its lock, with what they wrote."""
    if (project.folder / "dvc.lock").exists():
        for stage in {*locked_stages(project)} - {*names}:
            remove(project, *outs_of(project, stage))
    yaml = YAML()
    for path in (project.folder / "dvc.yaml", project.folder / "dvc.lock"):
        if path.exists():
            content = yaml.load(path)
            content["stages"] = {name: facts for name, facts in content["stages"].items() if name in names}
            for key in {"artifacts", "plots"} & set(content):  # of other stages
                del content[key]
            with path.open("w", encoding="utf-8") as handle:
                yaml.dump(content, handle)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A finished project that a test may change."""
    return finished.copy_to(tmp_path / "project")


WORKFLOWS = ROOT / ".github" / "workflows"


def workflow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(WORKFLOWS / name)
    return content


def run_steps(
    project: Project, name: str, job: str, values: Mapping[str, str]
) -> list[subprocess.CompletedProcess[str]]:
    """Runs a job's commands as GitHub would, except `make setup-review`.

    They run by bash. After an error only those are run whose `if` says so.
    """
    done: list[subprocess.CompletedProcess[str]] = []
    for step in workflow(name)["jobs"][job]["steps"]:
        failed = any(earlier.returncode for earlier in done)
        if step.get("run", "make setup-review") == "make setup-review" or (
            failed and "cancelled()" not in step.get("if", "")
        ):
            continue
        given = {key: values[str(value).strip("${} ")] for key, value in step.get("env", {}).items()}
        given["GITHUB_STEP_SUMMARY"] = str(project.folder / "summary.md")
        shell = ("bash", "--noprofile", "--norc", "-eo", "pipefail") if step.get("shell") == "bash" else ("bash", "-e")
        done.append(project.run(*shell, "-c", step["run"], env=given))
    return done


@pytest.fixture
def checkout(project: Project) -> Project:
    """The finished project as a checkout whose set-up is done."""
    forking = shlex.quote(f"{forking_programs()}/python")
    write_program(project.folder / ".venv/bin/python", f'exec {forking} "$@"')
    return project


#: Loaded by every Python of a command that has this file's folder on PYTHONPATH. KILL is a JSON list: the stage to
#: kill, the end of a path, a number n, when, and who dies. It dies before or after the n-th rename to such a path, or
#: within the write of the n-th byte of a file. Or that rename fails as on a full disk, or waits for a file `go`.
KILLER = """
import json, os, resource, signal, time
from pathlib import Path

import psutil

def dvc():
    # a shell may stand between dvc and its stage: dash stays, bash replaces itself by the command
    return next(p.pid for p in psutil.Process().parents() if any(Path(part).name == "dvc" for part in p.cmdline()))

def arm(stage, ending, number, when, who):
    if os.environ.get("DVC_STAGE") != stage:
        return
    if when == "within":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel ends the process as a kill does
        return
    victim = dvc() if who == "dvc" else os.getpid()
    seen = 0
    real = os.replace

    def replace(source, target, **options):
        nonlocal seen
        seen += str(target).endswith(ending)
        if seen == number and str(target).endswith(ending):
            if when == "fail":
                raise OSError(28, "No space left on device")
            if when in ("after", "wait"):
                real(source, target, **options)
            if when == "wait":
                while not os.path.exists("go"):
                    time.sleep(0.05)
                return
            os.kill(victim, signal.SIGKILL)
            signal.pause()
        real(source, target, **options)

    os.replace = replace

arm(*json.loads(os.environ["KILL"]))
"""


@pytest.fixture
def killer(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Environment in which a stage is killed, fails or waits for a file `go` at a named point."""
    folder = tmp_path / "killer"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(KILLER, encoding="utf-8")

    def environment(stage: str, path: str, number: int, when: str, who: str = "stage") -> dict[str, str]:
        return {"PYTHONPATH": str(folder), "KILL": json.dumps([stage, path, number, when, who])}

    return environment


def write(name: str, text: str) -> None:
    """Writes a file of the current folder."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FILES of the test's module in a folder of their own, which is the current one, as for a stage."""
    monkeypatch.chdir(tmp_path)
    for name, text in request.module.FILES.items():
        write(name, text)


def remove(project: Project, *paths: str) -> None:
    """Removes files and folders of a project, if they are there."""
    for path in paths:
        target = project.folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)


def without_results(project: Project, stage: str) -> None:
    """Removes a stage's outputs, and what DVC could restore them from."""
    objects = project.folder / ".dvc/cache/files/md5"
    for path, md5 in outs_of(project, stage).items():
        listing = objects / md5[:2] / md5[2:]
        kept = md5.endswith(".dir") and listing.exists()  # git, not DVC, keeps what is below metrics
        entries = json.loads(listing.read_bytes()) if kept else []
        for name in (md5, *(entry["md5"] for entry in entries)):
            (objects / name[:2] / name[2:]).unlink(missing_ok=True)
        remove(project, path)
    shutil.rmtree(project.folder / ".dvc/cache/runs")


def outs_of(project: Project, stage: str) -> dict[str, str]:
    """md5 by path of a stage's outputs, as `dvc.lock` lists them."""
    return {out["path"]: out["md5"] for out in locked_stages(project)[stage]["outs"]}


def command_of(project: Project, stage: str) -> list[str]:
    """The command of a stage as `dvc.lock` has it."""
    words = shlex.split(locked_stages(project)[stage]["cmd"])
    return words[words.index("python") :]


def locked_stages(project: Project) -> dict[str, Any]:
    """The stages of `dvc.lock`, by name."""
    stages: dict[str, Any] = YAML(typ="safe").load(project.folder / "dvc.lock")["stages"]
    return stages


#: A text that a page must show and not obey; git takes it for the name of a branch, too.
HOSTILE = "</script><script>document.title='pwned'</script>"


def sweep_record() -> dict[str, Any]:
    """What a sweep of three trials wrote, the second of which was pruned and the third the best."""
    losses = {1: [250.0, 240.0], 2: [260.0], 3: [245.0, 235.5]}
    trials = [
        {
            "number": number - 1,
            "values": {"train.learning_rate": 0.001 * 10**number, "train.keep": "best" if number > 1 else "last"},
            "verdict": "completed" if len(history) > 1 else "pruned",
            "experiment": f"cut-{number}" if len(history) > 1 else None,
            "error": None,
            "history": [{"epoch": epoch, "validation_loss": loss} for epoch, loss in enumerate(history, 1)],
            "pipeline_seconds": 10.0,
            "ended_seconds": 60.0 * number,
        }
        for number, history in losses.items()
    ]
    return {
        "commit": "0123456789abcdef",
        "cores": 2,
        "objective": "validation_loss",
        "parameters": ["train.keep", "train.learning_rate"],
        "fixed": {},
        "threads": 1,
        "importance": {"train.learning_rate": 0.75, "train.keep": 0.25},
        "sampler": {"name": "tpe", "seed": 1},
        "pruner": {"name": "asha", "grace_epochs": 1, "reduction": 3},
        "trials": trials,
    }


@pytest.fixture(scope="session")
def two_revisions(finished: Project, once: Once, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project as main, and on a branch of a hostile name the run of a preset that makes it better."""

    def make() -> Project:
        project = finished.copy_to(tmp_path_factory.mktemp("two") / "revisions")
        project.succeed("git", "switch", "-q", "-c", HOSTILE)
        params = YAML(typ="safe").load(project.folder / "params.yaml")
        preset = {"train": {**params["train"], "epochs": 12}, "explore": {**params["explore"], "seed": 3}}
        YAML().dump(preset, project.folder / "presets/longer.yaml")
        (project.folder / "dvc.lock").unlink()  # DVC writes it anew after each stage: a short one takes less time
        project.succeed("python", "-m", "workflow.experiment", "longer")
        (project.folder / "sweeps").mkdir()
        (project.folder / "sweeps/cut.json").write_text(json.dumps(sweep_record()), encoding="utf-8")
        project.commit(HOSTILE)
        return project

    return once("two_revisions", make)


@pytest.fixture(scope="session")
def pages(two_revisions: Project, once: Once, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of the branch alone, and that of the branch beside main."""
    sides = {"one": (HOSTILE,), "two": (HOSTILE, "main")}

    def make() -> Project:
        folder = tmp_path_factory.mktemp("pages")
        calls = [[*revisions, "--output", str(folder / f"{name}.html")] for name, revisions in sides.items()]
        write = f"from workflow.report.__main__ import main; print([main(call) for call in {calls}])"
        assert two_revisions.succeed("python", "-c", write).endswith("[0, 0]\n")
        return Project(folder)

    folder = once("pages", make).folder
    return {name: folder / f"{name}.html" for name in sides}
