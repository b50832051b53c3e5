"""What records state of where they were made, and what it cost."""

import json
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import IDENTITY, ROOT, Project
from faults import counting

import bench.__main__
from bench import figures, portability, scaling
from bench import tests as bench_tests
from pipeline.params.whole import load_params
from pipeline.processor import instruction_set, processor_name
from pipeline.stage import peak_memory_mib
from workflow.history import origin
from workflow.history.presets import run_digest

PLACE = {"commit": "c" * 40, "digest": "d" * 64, "processor": "A processor, its instructions"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with `bench/`, the current one, where records are made at PLACE, with a peak of 7 MiB."""
    for module in (figures, bench.__main__, counting):
        monkeypatch.setattr(module, "origin", lambda: PLACE)
    for module in (figures, counting):
        monkeypatch.setattr(module, "peak_memory_mib", lambda who: 7 if who == RUSAGE_CHILDREN else 0)
    (tmp_path / "bench").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require_stated(path: Path | str, *, cost: bool = True) -> Any:
    """The record of a file, which has to state PLACE and, with `cost`, the seconds and the memory."""
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    assert {name: record.get(name) for name in PLACE} == PLACE
    if cost:
        assert 0 <= record["seconds"] < 600
        assert record["peak_memory_mib"] == 7
    return record


def test_a_record_states_the_commit_the_digest_of_the_code_and_the_processor(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    assert origin.origin() == {
        "commit": project.succeed("git", "rev-parse", "HEAD").strip(),
        "digest": run_digest(load_params().model_dump(mode="json")),
        "processor": f"{processor_name()}, {instruction_set()}",
    }


def test_the_cost_of_a_stage_is_that_of_the_run_that_made_the_results(project: Project) -> None:
    ran = project.json("runs/train.json")
    assert origin.cost("train", project.folder) == {
        "processor": ran["processor"],
        "seconds": round(ran["seconds"], 1),
        "peak_memory_mib": round(ran["peak_memory_mib"]),
    }
    (project.folder / "runs/train.json").write_text(json.dumps({**ran, "digest": "of another run"}), encoding="utf-8")
    assert origin.cost("train", project.folder) is None


def test_peak_memory_is_that_of_the_largest_process_in_mib() -> None:
    subprocess.run([sys.executable, "-c", "held = bytes(1) * (600 * 2**20)"], check=True)
    assert 600 < peak_memory_mib(RUSAGE_CHILDREN) < 100 * 1024


def test_a_measurement_states_how_long_it_took(folder: Path) -> None:
    def measure() -> dict[str, int]:
        time.sleep(0.2)
        return {"found": 3}

    assert 0.2 <= figures.measured(measure)["seconds"] < 60
    assert (
        figures.measured(lambda: {"found": 3, "peak_memory_mib": 5}).items()
        >= {"found": 3, "peak_memory_mib": 5}.items()
    )


def test_the_bench_states_where_it_was_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = json.loads((ROOT / "bench/results.json").read_text(encoding="utf-8"))
    found = {name: value for name, value in results.items() if name not in (*PLACE, "instruction_set")}
    monkeypatch.setattr(bench.__main__, "measure", lambda **_: found)
    monkeypatch.setattr(bench.__main__, "recorded_curves", list)
    monkeypatch.setattr(bench.__main__, "publish_curves", lambda *_: None)
    assert bench.__main__.main([]) == 0
    record = require_stated("bench/results.json", cost=False)
    assert (record["bench_seconds"], record["peak_memory_mib"]) == (found["bench_seconds"], found["peak_memory_mib"])
    assert f"\n{PLACE['processor']}, {found['threads']} threads." in Path("bench/README.md").read_text(encoding="utf-8")


def test_the_times_of_tests_state_where_they_were_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        "import_seconds": 2.0,
        "test": {"imports": 30.0, "pipeline_imports": 4.0, "longest_test_imports": 3.0},
        "ci": {"imports": 60.0, "parts": {"quick": 8.0}},
    }
    (folder / ".ci").mkdir()
    (folder / ".ci/run").write_text(f"mkdir runs; echo '{json.dumps(kept)}' > runs/tests.json", encoding="utf-8")
    for words in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-q", "-m", "A project"]):
        subprocess.run(["git", *words], check=True)
    monkeypatch.setattr(bench_tests, "_timed", lambda *_, **__: 5.0)
    assert bench_tests.main([]) == 0
    assert require_stated("bench/tests.json")["make_quick_imports"] == 4


def test_scaling_states_where_it_was_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = json.loads((ROOT / "bench/scaling.json").read_text(encoding="utf-8"))["workers"]
    monkeypatch.setattr(scaling, "prepare", lambda: None)
    monkeypatch.setattr(scaling, "head_commit", lambda: PLACE["commit"])
    monkeypatch.setattr(scaling, "_measured", lambda number, _: workers[str(number)])
    assert scaling.main() == 0
    record = require_stated("bench/scaling.json")
    page = Path("bench/scaling.md").read_text(encoding="utf-8")
    assert f"on {PLACE['processor']}, {record['cores']} cores; before" in page


def test_each_variation_states_where_it_was_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portability, "MEASURED", folder / "tolerance.json")
    monkeypatch.setattr(portability, "kernel_table", lambda: "| operation |")
    assert portability.main([portability.OPERATIONS]) == 0
    record = json.loads(portability.RECORD.read_text(encoding="utf-8"))
    Path("operations.json").write_text(json.dumps(record["operations"]), encoding="utf-8")
    assert require_stated("operations.json")["table"] == "| operation |"
    assert f"on {PLACE['processor']}, in a process" in portability.PAGE.read_text(encoding="utf-8")


def test_the_counts_of_faults_state_where_they_were_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "ROOT", folder)
    config = SimpleNamespace(args=["tests/faults"], getoption=lambda name: name == "--whole")
    counting.pytest_terminal_summary(SimpleNamespace(write_line=print), pytest.ExitCode.OK, config)  # type: ignore[arg-type]
    assert set(require_stated("bench/faults.json")["counts"]) == set(counting.KINDS)
