"""The runner of stages: tiny stages in a project of their own, run by the real `python -m stages`."""

import hashlib
import json
import os
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from conftest import PARAMS, ROOT
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.code import code_digests, code_of, digest_of_code
from pipeline.errors import StageError
from pipeline.params.whole import load_params
from pipeline.processor import caches, hold_kernels, instruction_set

#: Paths that the stage of `Sample` is given.
PATHS = {"source": "data/source", "result": "data/result.txt"}

#: What every stage writes, of this one.
PROVENANCE, RECORD = "metrics/provenance/sample.json", "runs/sample.json"

HEAD = """\
import os, signal, sys, time
from pathlib import Path
from pipeline.errors import StageError
from pipeline.files import atomic
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.params.train import Train
from pipeline.params.whole import Params
from pipeline.stage import Input, Output, Resumable, Source

"""

RUN = "def run(train: Train, source: Input, result: Output) -> None:"

#: Writes the sum of its input, times a parameter.
SUM = f"""
{RUN}
    total = sum(int(file.read_text()) for file in sorted(source.iterdir()))
    with atomic(result) as partial:
        partial.write_text(str(total * train.epochs))
"""

#: The packages whose versions results depend on, and one of them as numeric.txt states it.
NUMERIC = ("h5py", "keras", "matplotlib", "numpy", "scikit-learn", "scipy", "tensorflow", "tensorflow-datasets")
NUMPY = f"numpy {metadata.version('numpy')}"

RESTORE = "`git restore dvc.lock metrics && dvc checkout`"


@dataclass(frozen=True)
class Sample:
    """A project with one stage, `sample`."""

    folder: Path

    def write_stage(self, code: str) -> None:
        (self.folder / "stages" / "sample.py").write_text(HEAD + dedent(code), encoding="utf-8")

    def edit(self, name: str, before: str, after: str) -> None:
        """Replaces the one occurrence of a text in a file."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(before) == 1
        (self.folder / name).write_text(text.replace(before, after), encoding="utf-8")

    def command(self, paths: Mapping[str, str]) -> list[str]:
        """The stage's command, after what `check` would say of its code."""
        with suppress(StageError, OSError, KeyError, YAMLError):
            params = YAML(typ="safe").load(self.folder / "params.yaml")
            listed = self.folder / "metrics/code.json"
            listed.parent.mkdir(exist_ok=True)
            listed.write_text(json.dumps(code_digests(["sample"], params, self.read)), encoding="utf-8")
        options = [word for name, path in paths.items() for word in (f"--{name}", path)]
        return [sys.executable, "-m", "stages", "sample", *options]

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def code(self, *named: str) -> str:
        """The digest of the stage's code."""
        return digest_of_code(code_of("sample", named, self.read))

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("DVC_")} | dict(more)

    def run(self, paths: Mapping[str, str] = PATHS, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs the stage to its end."""
        return subprocess.run(
            self.command(paths),
            cwd=self.folder,
            env=self.environment(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @contextmanager
    def started(self, *command: str, paths: Mapping[str, str] = PATHS, **env: str) -> Iterator["Running"]:
        """The stage, or `command`, while it runs: it says `ready PID` and waits for the end of its input."""
        with subprocess.Popen(
            command or self.command(paths),
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        ) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.startswith("ready "):
                pytest.fail(f"the stage said {said!r} and {process.communicate()[1]}")
            yield Running(process, int(said.split()[1]))

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def results(self) -> list[str]:
        """Files that a run of the stage may leave."""
        folders = [self.folder / name for name in ("data", "metrics", "runs", "state")]
        files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
        names = [str(file.relative_to(self.folder)) for file in files]
        return [name for name in names if not name.startswith("data/source/") and name != "metrics/code.json"]


@dataclass(frozen=True)
class Running:
    """A stage that said it is ready."""

    process: subprocess.Popen[str]
    pid: int  # the stage's own, also where a shell or another parent started it


#: What a stage does to say that it is ready and to wait.
WAIT = 'print(f"ready {os.getpid()}", flush=True); sys.stdin.read()'


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A project with the real pipeline/, vae/ and entry point, and the stage SUM."""
    folder = tmp_path / "a project"
    (folder / "stages").mkdir(parents=True)
    for package in ("pipeline", "vae"):
        shutil.copytree(ROOT / package, folder / package)
    for file in ("stages/__init__.py", "stages/__main__.py", "numeric.txt"):
        shutil.copy(ROOT / file, folder / file)
    YAML().dump(PARAMS, folder / "params.yaml")
    (folder / "data" / "source").mkdir(parents=True)
    for name, number in (("one", 1), ("two", 20)):
        (folder / "data" / "source" / name).write_text(str(number), encoding="utf-8")
    project = Sample(folder)
    project.write_stage(SUM)
    return project


def refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    """Proves that the stage ended with a sentence that names what is expected and how to restore."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.startswith("\nsample: "), done.stderr
    for text in (*expected, RESTORE):
        assert text in done.stderr


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- a run that succeeds


def test_stage_gets_its_sections_and_paths(sample: Sample) -> None:
    sample.write_stage("""
        def run(threads: Threads, train: Train, test_set: Input, result: Output) -> None:
            result.write_text(f"{type(threads).__name__} {threads.inter_op} {train.beta} {test_set!r} {result!r}")
    """)
    done = sample.run({"test-set": PATHS["source"], "result": PATHS["result"]})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = "Threads 1 1.0 PosixPath('data/source') PosixPath('data/result.txt')"
    assert (sample.folder / "data/result.txt").read_text(encoding="utf-8") == said


def test_stage_may_ask_for_all_params(sample: Sample) -> None:
    sample.write_stage("""
        def run(params: Params, source: Input, result: Output) -> None:
            result.write_text(f"{params.model.latent_dim} {params.threads.inter_op}")
    """)
    assert sample.run().returncode == 0
    assert (sample.folder / "data/result.txt").read_text(encoding="utf-8") == "2 1"
    [record] = sample.json(PROVENANCE)
    assert record["code"] == sample.code(*load_params(sample.folder / "params.yaml").named_modules)


def test_a_source_is_the_stages_to_prove_and_to_add_to(sample: Sample) -> None:
    sample.write_stage("""
        def run(train: Train, source: Source, result: Output) -> None:
            (source / "new").write_text("2")
            result.write_text("")
    """)
    assert sample.run().returncode == 0
    assert sample.json(PROVENANCE)[0]["inputs"] == {}


def test_provenance_is_what_the_stage_worked_from_and_made(sample: Sample) -> None:
    sample.edit("params.yaml", "learning_rate: 0.001", "learning_rate: 0.00123456789")
    assert sample.run().returncode == 0
    [record] = sample.json(PROVENANCE)
    assert set(record) == {"stage", "code", "params", "inputs", "instruction_set", "caches", "outputs"}
    assert (record["instruction_set"], record["caches"]) == (instruction_set(), caches())
    assert record["stage"] == "sample"
    assert set(record["params"]) == {"train", "kernels"}
    assert (record["params"]["train"]["epochs"], record["params"]["train"]["learning_rate"]) == (30, 0.00123456789)
    assert record["code"] == sample.code()
    assert set(record["inputs"]) == {"data/source/one", "data/source/two"}
    assert set(record["outputs"]) == {"data/result.txt"}
    hashes = {**record["inputs"], **record["outputs"]}
    assert hashes == {name: sha256(sample.folder / name) for name in hashes}
    causes = {name: record[name] for name in ("stage", "code", "params", "inputs")}
    digest = hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()
    assert sample.json(RECORD)["digest"] == digest


def test_the_architecture_in_use_and_no_other_is_in_the_digest(sample: Sample) -> None:
    shutil.copy(sample.folder / "vae/architectures/textbook.py", sample.folder / "vae/architectures/other.py")
    sample.edit("params.yaml", "architecture: textbook", "architecture: other")
    sample.write_stage("def run(model: Model, source: Input, result: Output) -> None: result.write_text('x')")
    assert sample.run().returncode == 0
    [record] = sample.json(PROVENANCE)
    prior = YAML(typ="safe").load(sample.folder / "params.yaml")["model"]["prior"]
    assert record["code"] == sample.code("vae.architectures.other", f"vae.priors.{prior}")


def test_digests_of_other_code_are_refused(sample: Sample) -> None:
    command = sample.command(PATHS)
    sample.write_stage(f"{SUM}\nMORE = 1\n")
    done = subprocess.run(
        command, cwd=sample.folder, env=sample.environment({}), capture_output=True, text=True, check=False
    )
    refused(done, "metrics/code.json has the digest", "`dvc repro` runs `check`")
    assert sample.results() == []


def test_provenance_has_the_same_bytes_again_and_elsewhere(sample: Sample, tmp_path: Path) -> None:
    elsewhere = Sample(tmp_path / "elsewhere")
    shutil.copytree(sample.folder, elsewhere.folder)
    provenance = []
    for project in (sample, sample, elsewhere):
        assert project.run().returncode == 0
        provenance.append((project.folder / PROVENANCE).read_bytes())
    assert provenance[0] == provenance[1] == provenance[2]


def test_run_record_tells_what_only_this_run_knows(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    sample.write_stage("""
        def run(source: Input, result: Output) -> None:
            held = os.urandom(1) * (100 * 2**20)
            result.write_text(str(len(held)))
    """)
    assert sample.run().returncode == 0
    record = sample.json(RECORD)
    assert record["packages"] == {name: metadata.version(name) for name in NUMERIC}
    assert record["python"] == platform.python_version()
    monkeypatch.setattr(os, "environ", dict(os.environ))
    hold_kernels("native")  # as its command says
    assert record["instruction_set"] == instruction_set()
    assert record["processors"] == os.cpu_count()
    assert 0 < record["seconds"] < 120
    assert 100 < record["peak_memory_mib"] < 100 * 1024, "not in MiB"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["ended"])


def test_a_stage_keeps_no_variable_that_a_library_reads_but_those_that_it_states(sample: Sample) -> None:
    sample.write_stage("""
        import json

        def run(result: Output) -> None:
            result.write_text(json.dumps(dict(os.environ)))
    """)
    read = {
        "KERAS_BACKEND": "jax",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
        "TF_DETERMINISTIC_OPS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "SOME_LIBRARY_OF_TOMORROW": "1",
    }
    sources = {"TFDS_DATA_DIR": "/nowhere", "FASHION_MNIST_ARCHIVES": "/nowhere", "https_proxy": "http://127.0.0.1:9"}
    stated = {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "0", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2"}
    done = sample.run({name: path for name, path in PATHS.items() if name != "source"}, **read, **sources, **stated)
    assert done.returncode == 0, done.stderr
    kept = sample.json("data/result.txt")
    assert not read.keys() & kept.keys()
    assert (sources | stated).items() <= kept.items()
    [record] = sample.json(PROVENANCE)
    assert all(f"{name}={value}" in record["instruction_set"] for name, value in stated.items())


def test_what_nobody_foresaw_ends_with_a_sentence_and_the_way_back(sample: Sample) -> None:
    sample.write_stage(f"{RUN}\n    raise ZeroDivisionError('by nothing')")
    done = sample.run()
    assert done.returncode == 1
    last = done.stderr.rpartition("Traceback")[2].partition("\n\n")[2]
    assert last.startswith("sample: ZeroDivisionError: by nothing: nobody foresaw this")
    assert RESTORE in last


def test_what_libraries_say_while_they_load_is_kept_back(sample: Sample) -> None:
    sample.write_stage("os.write(2, b'noise')\n" + SUM)
    done = sample.run()
    assert (done.returncode, done.stderr) == (0, "")


def test_what_libraries_say_is_shown_when_they_fail_to_load(sample: Sample) -> None:
    sample.write_stage("os.write(2, b'the reason')\nimport absent_module\n" + SUM)
    done = sample.run()
    assert done.returncode != 0
    assert "the reason" in done.stderr
    assert "absent_module" in done.stderr


# ---- a run that is refused or fails


def test_bad_param_of_a_section_that_the_stage_does_not_read_is_not_its_matter(sample: Sample) -> None:
    sample.edit("params.yaml", "latent_dim: 2", "latent_dim: 0")
    assert sample.run().returncode == 0


def failing(failure: str) -> str:
    """A stage that fails when half of its output is written."""
    return f"""
{RUN}
    with atomic(result) as partial:
        partial.write_text("half")
        {failure}
"""


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("raise StageError('beta is too wide')", "sample: beta is too wide\n"),
        ("raise FloatingPointError('kl is nan at step 7')", "sample: kl is nan at step 7\n"),
        ("raise PermissionError(13, 'Permission denied', 'data/x')", "Permission denied: 'data/x'"),
        ("(partial / 'x').write_text('')", "Not a directory"),
    ],
)
def test_failure_is_a_sentence_and_leaves_what_was(sample: Sample, failure: str, said: str) -> None:
    (sample.folder / "data/result.txt").write_text("old", encoding="utf-8")
    sample.write_stage(failing(failure))
    refused(sample.run(), said)
    assert sample.results() == ["data/result.txt"]
    assert (sample.folder / "data/result.txt").read_text(encoding="utf-8") == "old"


#: What is wrong before or while the stage works, and what is said of it. None leaves a result.
WRONG: list[Any] = [
    (lambda it: it.edit("params.yaml", "epochs: 30", "epochs: 0"), ["train.epochs = 0: it should be greater than"]),
    (lambda it: (it.folder / "params.yaml").unlink(), ["params.yaml"]),
    (lambda it: shutil.rmtree(it.folder / "data/source"), ["data/source is missing"]),
    (lambda it: it.write_stage(f"{RUN} pass"), ["data/result.txt is missing"]),
    (lambda it: it.edit("numeric.txt", NUMPY, "numpy 0.1"), ["numeric.txt states numpy 0.1", "make setup"]),
    pytest.param(
        lambda it: it.write_stage(failing("Path('/dev/full').write_text('x')")),
        ["No space left on device", "make room", "dvc repro"],
        marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device of a full disk is Linux's"),
    ),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG)
def test_what_is_wrong_is_refused_by_name(sample: Sample, spoil: Callable[[Sample], None], said: list[str]) -> None:
    spoil(sample)
    refused(sample.run(), *said)
    assert sample.results() == []


def test_folder_that_cannot_be_made_is_a_sentence(sample: Sample) -> None:
    (sample.folder / "data/occupied").write_text("", encoding="utf-8")
    refused(sample.run({**PATHS, "result": "data/occupied/result.txt"}), "data/occupied")
    assert sample.results() == ["data/occupied"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_a_sentence(sample: Sample) -> None:
    (sample.folder / "data/closed").mkdir(mode=0o500)
    refused(sample.run({**PATHS, "result": "data/closed/result.txt"}), "Permission denied", "mend the permissions")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ({}, "required: --source, --result\n"),
        ({**PATHS, "unknown": "x", "resul": "y"}, "unrecognized arguments: --unknown x --resul y\n"),
    ],
)
def test_missing_unknown_and_shortened_options_are_refused_by_name(
    sample: Sample, paths: Mapping[str, str], said: str
) -> None:
    done = sample.run(paths)
    assert done.returncode == 2
    assert said in done.stderr
    assert sample.results() == []


# ---- edits made meanwhile


def adds(name: str, text: str) -> str:
    """Code that adds text to a file."""
    return f"with open({name!r}, 'a') as handle: handle.write({text!r})"


def edits_params(before: str, after: str) -> str:
    """Code that edits params.yaml."""
    return f"path = Path('params.yaml'); path.write_text(path.read_text().replace({before!r}, {after!r}))"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (adds("data/source/one", "\n"), "data/source/one changed while stage sample ran"),
        (adds("data/source/three", "300"), "data/source/three changed while"),
        (adds("numeric.txt", "other 1.0\n"), "numeric.txt changed while"),
        (adds("stages/sample.py", "MORE = 1\n"), "stages/sample.py changed while"),
        (edits_params("epochs: 30", "epochs: 31"), "section train of the parameters changed while"),
        ("__import__('vae.' + 'splits')", "sample used vae/__init__.py, vae/splits.py, which is not in"),
    ],
)
def test_input_or_source_edited_meanwhile_is_refused(sample: Sample, edit: str, said: str) -> None:
    sample.write_stage(f"{SUM}    {edit}\n")
    refused(sample.run(), said)
    assert sample.results() == ["data/result.txt"]


def test_param_that_the_stage_does_not_read_may_be_edited_meanwhile(sample: Sample) -> None:
    sample.write_stage(f"{SUM}    {edits_params('latent_dim: 2', 'latent_dim: 3')}\n")
    assert sample.run().returncode == 0


# ---- interruption, kills and unfinished work

RESUMABLE = """
import numpy as np

def run(train: Train, source: Input, result: Output, state: Resumable) -> None:
    with state.held():
        arrays = state.load() or {"epoch": np.array(0)}
        for epoch in range(int(arrays["epoch"]), 3):
            state.save({"epoch": np.array(epoch + 1)})
            if epoch == 1 and os.environ.get("PYTHON_STOP"):
                {WAIT}
        with atomic(result) as partial:
            partial.write_text(f"resumed after {arrays['epoch']}")
""".replace("{WAIT}", WAIT)


def resumed(sample: Sample) -> str:
    """Runs the stage to its end and returns what it wrote."""
    done = sample.run()
    assert done.returncode == 0, done.stderr
    return (sample.folder / "data/result.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", [failing(WAIT), f"{WAIT}\n{SUM}"], ids=["at work", "while libraries load"])
def test_interrupted_stage_says_so_and_leaves_no_half_file(sample: Sample, code: str) -> None:
    sample.write_stage(code)
    with sample.started() as running:
        running.process.send_signal(signal.SIGINT)
        _, said = running.process.communicate()
        assert running.process.returncode == 130
    assert said.startswith("\nsample: interrupted; the same command takes it up again")
    assert "Traceback" not in said
    assert sample.results() == []


def test_stage_does_not_fail_for_what_only_tells_how_far_it_is(sample: Sample) -> None:
    (sample.folder / "dvc.yaml").write_text("[]", encoding="utf-8")
    done = sample.run(DVC_STAGE="sample")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_stage_resumes_where_it_was(sample: Sample, number: signal.Signals) -> None:
    sample.write_stage(RESUMABLE)
    with sample.started(PYTHON_STOP="1") as running:
        running.process.send_signal(number)
        running.process.communicate()
        assert running.process.returncode != 0
    assert resumed(sample) == "resumed after 2"


def test_finished_stage_starts_anew(sample: Sample) -> None:
    sample.write_stage(RESUMABLE)
    assert [resumed(sample), resumed(sample)] == ["resumed after 0", "resumed after 0"]
    assert list((sample.folder / "state").glob("*.npz")) == []


def test_stage_with_other_params_does_not_resume(sample: Sample) -> None:
    sample.write_stage(RESUMABLE)
    with sample.started(PYTHON_STOP="1") as running:
        running.process.kill()
    sample.edit("params.yaml", "epochs: 30", "epochs: 31")
    assert resumed(sample) == "resumed after 0"


# ---- the end of the dvc that started the stage

#: What dvc does: starts a command and waits.
DVC = "import subprocess, sys; subprocess.run(sys.argv[1:])"


@contextmanager
def started_by_dvc(sample: Sample, *command: str) -> Iterator[Running]:
    """The stage, started by `command`, as a child of another process."""
    with sample.started(sys.executable, "-c", DVC, *command, DVC_STAGE="sample") as running:
        assert running.pid != running.process.pid
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)


def in_shell(sample: Sample, shell: list[str]) -> list[str]:
    """The stage's command in a shell as dvc uses it, with what dvc.yaml puts around `python`."""
    graph = YAML(typ="safe").load(ROOT / "dvc.yaml")
    (words,) = [entry["python"] for entry in graph["vars"] if "python" in entry]
    python, *options = sample.command(PATHS)
    return [*shell, "-c", f"{words.replace('python', shlex.quote(python))} {shlex.join(options)}"]


def ended(running: Running) -> bool:
    """Whether all who have the stage's output open are gone, waiting for that if need be."""
    assert running.process.stdout is not None
    readable, _, _ = select.select([running.process.stdout], [], [], 20)
    return bool(readable) and running.process.stdout.read() == ""


SHELLS = [pytest.param(["/bin/sh"], id="sh")]
if bash := shutil.which("bash"):
    SHELLS.append(pytest.param([bash, "--noprofile", "--norc"], id="bash"))


@pytest.mark.parametrize("shell", SHELLS)
def test_stage_ends_when_its_dvc_is_killed(sample: Sample, shell: list[str]) -> None:
    sample.write_stage(f"{RUN}\n    {WAIT}\n    result.write_text('written by an orphan')")
    with started_by_dvc(sample, *in_shell(sample, shell)) as running:
        running.process.kill()
        assert ended(running)
    assert sample.results() == []


def test_stage_ends_when_its_dvc_is_killed_while_libraries_load(sample: Sample) -> None:
    ready = "print(f'ready {os.getpid()}', flush=True)"
    sample.write_stage(f"{ready}\nsys.stdin.readline()\n{RUN}\n    sys.stdin.read()")
    with started_by_dvc(sample, *sample.command(PATHS)) as running:
        running.process.kill()
        running.process.wait()
        assert running.process.stdin is not None
        running.process.stdin.write("loaded\n")
        running.process.stdin.flush()
        assert ended(running)


def test_stage_ends_when_its_dvc_vanishes_while_it_is_looked_at(sample: Sample) -> None:
    ready, wait = WAIT.split("; ")
    sample.write_stage(f"""
import psutil

def vanished(process):
    raise psutil.NoSuchProcess(process.pid)

{RUN}
    {ready}
    psutil.Process.status = vanished
    {wait}
""")
    with started_by_dvc(sample, *sample.command(PATHS)) as running:
        assert ended(running)


def test_stage_of_a_living_dvc_works_to_its_end(sample: Sample) -> None:
    sample.write_stage(f"{RUN}\n    {WAIT}\n    result.write_text('done')")
    with started_by_dvc(sample, *in_shell(sample, ["/bin/sh"])) as running:
        running.process.communicate()
    assert sample.results() == sorted([PATHS["result"], PROVENANCE, RECORD])


def test_stage_that_no_dvc_started_is_not_watched(sample: Sample) -> None:
    sample.write_stage(f"import threading\n{RUN} result.write_text(str(threading.enumerate()))")
    for env, threads in (({}, 1), ({"DVC_STAGE": "sample"}, 2)):
        assert sample.run(**env).returncode == 0
        assert (sample.folder / "data/result.txt").read_text(encoding="utf-8").count("Thread(") == threads
