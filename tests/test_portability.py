"""What `make portability` writes of what it measured, and the operations that it looks at."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Project

from bench import figures, portability
from bench.kernels import CAPS, operations
from pipeline.errors import StageError
from workflow.compare import tolerance
from workflow.compare.distances import sizes

PROCESSOR, EVALUATION = "metrics/processor.json", "metrics/evaluation.json"


def measured(words: str, nll: float) -> dict[str, Any]:
    return {
        "variation": words,
        "machine": "x",
        "train_seconds": 12.5,
        "outputs": 20,
        "differing": 1,
        "distances": {
            "metrics/evaluation.json": {"nll_nats": nll, "kl_nats": nll / 2, "bar_accuracy": 0.5, "anything": 9.0},
            "metrics/per_class.csv": {"nll_nats": 3 * nll},
        },
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MEASURED", "PAGE", "RECORD"):
        monkeypatch.setattr(portability, name, tmp_path / getattr(portability, name).name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_measured_joins_what_was_and_the_largest_difference_of_each_unit_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"one_thread": measured("other", 0.004), "avx2": measured("one", 0.001)}
    portability.RECORD.write_text(json.dumps({**before, "operations": {"table": "old"}}), encoding="utf-8")
    monkeypatch.setattr(figures, "origin", lambda: {"processor": "x"})
    monkeypatch.setattr(portability, "kernel_table", lambda: "| operation |")
    assert portability.main(["operations"]) == 0
    record = json.loads(portability.RECORD.read_text(encoding="utf-8"))
    assert {**record, "operations": record["operations"]["table"]} == {**before, "operations": "| operation |"}
    content = json.loads((folder / "tolerance.json").read_text(encoding="utf-8"))
    assert content["largest"] == {"nats": 0.004, "share": 0.5, "part_nats": 0.012}
    page = (folder / "portability.md").read_text(encoding="utf-8")
    assert page.endswith("\n\n| operation |\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "of 20" in line]
    assert rows == [
        ["one", "x", "19 of 20", "0.001", "0", "0.0005", "0", "12"],
        ["other", "x", "19 of 20", "0.004", "0", "0.002", "0", "12"],
    ]


def test_an_unknown_variation_is_refused(folder: Path) -> None:
    with pytest.raises(StageError, match="'sse' is no variation; expected some of: avx2"):
        portability.main(["sse"])


def test_results_of_another_processor_are_held_against_the_committed_ones(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    with pytest.raises(StageError, match="the committed results are of this class"):
        portability.compare_processors()
    originals = {name: Path(name).read_text(encoding="utf-8") for name in ("dvc.lock", PROCESSOR, EVALUATION)}
    processor, evaluation = json.loads(originals[PROCESSOR]), json.loads(originals[EVALUATION])
    evaluation["test"]["gray"]["elbo_nats"] += 0.25
    Path(PROCESSOR).write_text(json.dumps({**processor, "instruction_set": "another"}), encoding="utf-8")
    Path(EVALUATION).write_text(json.dumps(evaluation), encoding="utf-8")
    lock = originals["dvc.lock"].replace(md5(originals[EVALUATION]), md5(Path(EVALUATION).read_text(encoding="utf-8")))
    Path("dvc.lock").write_text(lock, encoding="utf-8")
    project.commit("Results of another processor")
    for name, text in originals.items():
        Path(name).write_text(text, encoding="utf-8")
    found = portability.compare_processors()
    assert found["machine"].startswith("another, data caches")
    assert found["differing"] == 1
    assert found["peak_memory_mib"] == round(project.json("runs/train.json")["peak_memory_mib"])
    assert found["distances"][EVALUATION]["elbo_nats"] == pytest.approx(0.25)
    project.set_params({"train": {"seed": 7}})
    with pytest.raises(StageError, match=r"train\.seed of params\.yaml differs from the commit"):
        portability.compare_processors()


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_operations_compute_what_they_say() -> None:
    found = operations()
    generator = np.random.default_rng(0)
    wide, tall = generator.standard_normal((200, 784)), generator.standard_normal((784, 300))
    with np.errstate(over="ignore"):
        functions = 1 / (1 + np.exp(wide)) + np.tanh(wide)
    for library in ("TensorFlow", "XLA"):
        np.testing.assert_allclose(found[f"{library} product of 784 terms"], wide @ tall, atol=2e-4)
        np.testing.assert_allclose(found[f"{library} product of 300 terms"], wide[:, :300] @ tall[:300], atol=2e-4)
        np.testing.assert_allclose(found[f"{library} product, transposed"], wide[:100].T @ wide[:100], atol=2e-4)
        np.testing.assert_allclose(found[f"{library} functions"], functions, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[f"{library} sums"], np.log(np.exp(wide).sum(axis=1)), rtol=1e-5)
    np.testing.assert_allclose(found["numpy product, float32"], wide @ tall, atol=2e-4)


def test_the_committed_page_and_tolerance_follow_from_what_was_measured(folder: Path) -> None:
    portability._write(json.loads((ROOT / "bench/portability.json").read_text(encoding="utf-8")))
    for written, committed in (
        ("portability.md", ROOT / "bench/portability.md"),
        ("tolerance.json", tolerance.MEASURED),
    ):
        assert (folder / written).read_bytes() == committed.read_bytes()
    assert {"all instructions", "AVX2"} <= set(CAPS)


def test_what_was_measured_is_tolerated_and_a_mean_loss_by_no_more_than_three_times_its_own() -> None:
    """The committed results are of the size that they had then; arrays of `data/` of no unit are not in git.

    A figure that is not drawn any more has its unit still.
    """
    record = json.loads((ROOT / portability.RECORD).read_text(encoding="utf-8"))
    files = [item for run in record.values() if "distances" in run for item in run["distances"].items()]
    refused = [
        (path, quantity)
        for path, quantities in files
        if path.startswith("metrics/")
        for of_size in [sizes(path, (ROOT / path).read_bytes()) if (ROOT / path).is_file() else {}]
        for quantity, distance in quantities.items()
        if distance > tolerance.tolerated(path, quantity, of_size.get(quantity, 0.0))
    ]
    assert refused == []
    losses = ("nll_nats", "elbo_nats", "kl_nats", "reconstruction_nats")
    most = max(quantities[name] for path, quantities in files if path == EVALUATION for name in losses)
    assert [tolerance.tolerated(EVALUATION, name) for name in losses] == pytest.approx([3 * most] * len(losses))
