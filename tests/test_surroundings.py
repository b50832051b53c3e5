"""What a user's shell, home, git and folders do to the project: nothing."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project, locked_stages

COMPARE = ("python", "-m", "workflow.compare", "HEAD")
AUDIT = ("python", "-m", "workflow.audit", "--quick", "--output", "audits/it")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def whole_state(folder: Path) -> dict[str, bytes]:
    """Contents of a repository's index, HEAD and branches, and of its files."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".dvc" not in path.parts]
    return {str(path): path.read_bytes() for path in files if {"objects", "audits"}.isdisjoint(path.parts)}


# --- git


def test_git_variables_of_a_hook_change_nothing_outside_an_audit(project: Project, tmp_path: Path) -> None:
    decoy = tmp_path / "decoy"
    decoy.mkdir()
    git(decoy, "init", "-q")
    (decoy / "params.yaml").write_text("decoy", encoding="utf-8")
    git(decoy, "add", "-A")
    git(decoy, "commit", "-qm", "Decoy")
    for repository in (project.folder, decoy):
        variables = {
            "GIT_DIR": str(repository / ".git"),
            "GIT_WORK_TREE": str(repository),
            "GIT_INDEX_FILE": str(repository / ".git/index"),
            "GIT_OBJECT_DIRECTORY": str(repository / ".git/objects"),
            "GIT_PREFIX": "metrics/",
        }
        before = whole_state(project.folder), whole_state(decoy)
        done = project.run(*AUDIT, env=variables)  # which checks the commit out in a folder of its own
        assert done.returncode == 0, done.stdout + done.stderr
        assert (whole_state(project.folder), whole_state(decoy)) == before


#: Runs commands one after the other, and says what each ends with.
COMMANDS = """
import sys
from workflow import retrain, summary
from workflow.compare import __main__ as compare
from workflow.audit import __main__ as audit
from pipeline.errors import StageError

for command, arguments in (
    (compare, [["HEAD", "workspace"]]),
    (summary, []),
    (audit, [["workspace", "--quick", "--output", "audits/it"]]),
    (audit, [["HEAD", "--quick", "--output", "audits/it"]]),
):
    try:
        print(command.main(*arguments))
    except StageError as error:
        print(error)
print(retrain.results_patch().decode())
"""


def test_in_a_subfolder_of_a_larger_repository_all_is_as_in_one_of_its_own(project: Project, tmp_path: Path) -> None:
    top = tmp_path / "mono"
    nested = project.copy_to(top / "ml")
    shutil.rmtree(nested.folder / ".git")
    for decoy in ("dvc.lock", "params.yaml", "metrics/evaluation.json", "vae/statistics.py", "numeric.txt"):
        (top / decoy).parent.mkdir(exist_ok=True)
        (top / decoy).write_text("decoy", encoding="utf-8")
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "Results")
    (top / "vae/statistics.py").write_text("changed decoy", encoding="utf-8")
    said = []
    for one in (project, nested):
        (one.folder / "metrics/train.json").write_text("{}\n", encoding="utf-8")
        one.set_params({"train": {"learning_rate": 0.002}})
        with (one.folder / "vae/noise.py").open("a", encoding="utf-8") as source:
            source.write("# changed\n")
        done = one.run("python", "-c", COMMANDS)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "vae/noise.py" in said[0]
    commits = [git(one.folder, "rev-parse", "HEAD")[:9] for one in (project, nested)]
    assert said[0].replace(commits[0], "") == said[1].replace(commits[1], "")
    assert "--- a/metrics/train.json" in said[0]


def test_settings_of_git_that_users_have_change_nothing(project: Project, tmp_path: Path) -> None:
    hook = tmp_path / "template/hooks/post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n", encoding="utf-8")
    hook.chmod(0o755)
    settings = tmp_path / "settings"
    settings.write_text(
        f"""
        [color]
            ui = always
        [column]
            ui = always
        [core]
            autocrlf = true
            excludesFile = {tmp_path}/git/ignore
            hooksPath = {hook.parent}
        [diff]
            context = 0
            external = false
            mnemonicPrefix = true
            noprefix = true
            relative = true
        [init]
            templateDir = {hook.parent.parent}
        [log]
            showSignature = true
        """,
        encoding="utf-8",
    )
    (tmp_path / "git").mkdir()
    (tmp_path / "git/ignore").write_text("*.lock\n*.yaml\n*.csv\n", encoding="utf-8")
    history = project.folder / "metrics/history.csv"
    history.write_text(history.read_text(encoding="utf-8").replace("\n1,", "\n01,"), encoding="utf-8")
    with (project.folder / "vae/noise.py").open("a", encoding="utf-8") as source:
        source.write("# changed\n")
    said = []
    for more in (
        {"GIT_CONFIG_GLOBAL": os.devnull},
        {"GIT_CONFIG_GLOBAL": str(settings), "XDG_CONFIG_HOME": str(tmp_path)},
    ):
        done = project.run("python", "-c", COMMANDS, env=more)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    assert "dvc.lock is not of its present command" in said[0]
    assert not (tmp_path / "ran").exists()


def test_a_clone_with_carriage_returns_has_the_bytes_of_the_commit(tmp_path: Path) -> None:
    for part in (".gitattributes", "workflow/setup.sh", "vae/noise.py", "metrics/per_class.csv"):
        (tmp_path / "origin" / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / "origin" / part)
    git(tmp_path / "origin", "init", "-q")
    git(tmp_path / "origin", "add", "-A")
    git(tmp_path / "origin", "commit", "-qm", "Sources")
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", "origin", "clone")
    assert b"\r" not in (tmp_path / "clone/workflow/setup.sh").read_bytes()
    assert git(tmp_path / "clone", "status", "--porcelain") == ""


@pytest.mark.parametrize("command", [AUDIT, COMPARE, ("python", "-m", "workflow.quick")])
def test_a_repository_of_another_user_is_refused_with_the_mend_of_git(
    project: Project, command: tuple[str, ...]
) -> None:
    done = project.run(*command, env={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    assert done.returncode != 0
    assert "dubious ownership" in done.stderr
    assert "git config --global --add safe.directory" in done.stderr
    assert "Traceback" not in done.stderr


# --- folders, caches, programs


def test_a_stage_runs_by_the_python_of_the_project_whatever_the_shell_has(checkout: Project, tmp_path: Path) -> None:
    command = locked_stages(checkout)["preprocess"]["cmd"]
    path = os.pathsep.join(folder for folder in os.defpath.split(os.pathsep) if folder)
    (checkout.folder / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('of the user')", encoding="utf-8")
    python = {"PYTHONINSPECT": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    kernels = {"OPENBLAS_CORETYPE": "", "NPY_DISABLE_CPU_FEATURES": ""}
    done = checkout.run("/bin/sh", "-c", command, env={"PATH": path, **python, **kernels})
    assert done.returncode == 0, done.stderr
    assert checkout.run("git", "status", "--porcelain").stdout == ""


def test_a_copy_takes_the_cache_that_dvc_has_whatever_the_folders_are_called(finished: Project, tmp_path: Path) -> None:
    project = finished.copy_to(tmp_path / "mein Ordner ü, 衣服 #1")
    cache = tmp_path / "shared ü"
    (project.folder / ".dvc/cache").rename(cache)
    settings = f'[cache]\n    dir = "{cache}"\n'
    (project.folder / ".dvc/config.local").write_text(settings, encoding="utf-8")
    code = """if True:
        import subprocess
        from workflow.history.working_copy import working_copy
        with working_copy() as copy:
            assert not subprocess.run(["dvc", "repro"], cwd=copy).returncode
    """
    done = project.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "Running stage" not in done.stdout


# --- an output that is not there, or knows few letters


def test_a_closed_output_and_an_old_terminal_end_no_command(project: Project) -> None:
    closed = project.run("sh", "-c", 'exec "$0" -m workflow.compare HEAD workspace >&-', sys.executable)
    assert (closed.returncode, closed.stderr) == (0, "")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = project.run("python", "-m", "workflow.compare", "HEAD", "workspace", env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no difference seen" in done.stdout


def test_a_reader_that_stops_ends_a_command_quietly(project: Project) -> None:
    command = [sys.executable, *COMPARE[1:]]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        done = subprocess.run(
            command,
            cwd=project.folder,
            env=project.environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
