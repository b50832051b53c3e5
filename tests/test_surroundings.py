"""What a user's shell, home, git and folders do to the project: nothing."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project, locked_stages, write_program

COMPARE = ("python", "-m", "workflow.compare", "HEAD")
AUDIT = ("python", "-m", "workflow.audit", "--quick", "--output", "audits/it")


def committed(folder: Path) -> Project:
    """Makes a folder a repository, and commits all its files."""
    made = Project(folder)
    made.succeed("git", "init", "-q")
    made.commit("All")
    return made


def whole_state(folder: Path) -> dict[str, bytes]:
    """Contents of a repository's index, HEAD and branches, and of its files."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".dvc" not in path.parts]
    return {str(path): path.read_bytes() for path in files if {"objects", "audits"}.isdisjoint(path.parts)}


# --- git


def test_git_variables_of_a_hook_change_nothing_outside_an_audit(project: Project, tmp_path: Path) -> None:
    decoy = tmp_path / "decoy"
    decoy.mkdir()
    (decoy / "params.yaml").write_text("decoy", encoding="utf-8")
    committed(decoy)
    for repository in (project.folder, decoy):
        variables = {
            "GIT_DIR": str(repository / ".git"),
            "GIT_WORK_TREE": str(repository),
            "GIT_INDEX_FILE": str(repository / ".git/index"),
            "GIT_OBJECT_DIRECTORY": str(repository / ".git/objects"),
            "GIT_PREFIX": "metrics/",
        }
        before = whole_state(project.folder), whole_state(decoy)
        project.succeed(*AUDIT, env=variables)  # which checks the commit out in a folder of its own
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
    committed(top)
    (top / "vae/statistics.py").write_text("changed decoy", encoding="utf-8")
    said = []
    for one in (project, nested):
        (one.folder / "metrics/train.json").write_text("{}\n", encoding="utf-8")
        one.set_params({"train": {"learning_rate": 0.002}})
        one.append("vae/noise.py", "# changed")
        said.append(one.succeed("python", "-c", COMMANDS))
    assert "vae/noise.py" in said[0]
    commits = [one.succeed("git", "rev-parse", "HEAD")[:9] for one in (project, nested)]
    assert said[0].replace(commits[0], "") == said[1].replace(commits[1], "")
    assert "--- a/metrics/train.json" in said[0]


def test_settings_of_git_that_users_have_change_nothing(project: Project, tmp_path: Path) -> None:
    hook = tmp_path / "template/hooks/post-checkout"
    write_program(hook, f"touch '{tmp_path}/ran'")
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
    project.append("vae/noise.py", "# changed")
    said = project.succeed("python", "-c", COMMANDS, env={"GIT_CONFIG_GLOBAL": os.devnull})
    theirs = {"GIT_CONFIG_GLOBAL": str(settings), "XDG_CONFIG_HOME": str(tmp_path)}
    assert project.succeed("python", "-c", COMMANDS, env=theirs) == said
    assert "dvc.lock is not of its present command" in said
    assert not (tmp_path / "ran").exists()


def test_a_clone_with_carriage_returns_has_the_bytes_of_the_commit(tmp_path: Path) -> None:
    for part in (".gitattributes", "workflow/setup.sh", "vae/noise.py", "metrics/per_class.csv"):
        (tmp_path / "origin" / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / "origin" / part)
    committed(tmp_path / "origin").succeed("git", "clone", "-q", "-c", "core.autocrlf=true", ".", "../clone")
    assert b"\r" not in (tmp_path / "clone/workflow/setup.sh").read_bytes()
    assert Project(tmp_path / "clone").succeed("git", "status", "--porcelain") == ""


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
    write_program(checkout.folder / ".venv/bin/python", f'exec {shlex.quote(sys.executable)} "$@"')
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('of the user')", encoding="utf-8")
    python = {"PYTHONINSPECT": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    kernels = {"OPENBLAS_CORETYPE": "", "NPY_DISABLE_CPU_FEATURES": ""}
    checkout.succeed("/bin/sh", "-c", command, env={"PATH": path, **python, **kernels})
    assert checkout.succeed("git", "status", "--porcelain") == ""


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
    assert "Running stage" not in project.succeed("python", "-c", code)


# --- an output that is not there, or knows few letters


def test_a_closed_output_and_an_old_terminal_end_no_command(project: Project) -> None:
    closed = project.run("sh", "-c", 'exec "$0" -m workflow.compare HEAD workspace >&-', sys.executable)
    assert (closed.returncode, closed.stderr) == (0, "")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = project.run("python", "-m", "workflow.compare", "HEAD", "workspace", env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no difference seen" in done.stdout


def test_a_reader_that_stops_ends_a_command_quietly(project: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        done = project.run(sys.executable, *COMPARE[1:], stdout=output)
    assert (done.returncode, done.stderr) == (0, "")
