"""What `make portability` writes of what it measured, and the operations that it looks at."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import portability
from bench.kernels import CAPS, operations
from workflow import tolerance


def measured(words: str, nll: float) -> dict[str, Any]:
    return {
        "variation": words,
        "train_seconds": 12.5,
        "outputs": 20,
        "differing": ["metrics/evaluation.json"],
        "distances": {"metrics/evaluation.json": {"nll_nats": nll, "kl_nats": 0.5}},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(portability, "MEASURED", tmp_path / "tolerance.json")
    monkeypatch.setattr(portability, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(portability, "kernel_table", lambda: "| operation |")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/processor.json").write_text('{"instruction_set": "x", "caches": "1K", "intra_op": 2}')
    return tmp_path


def test_the_largest_difference_of_each_quantity_is_kept(folder: Path) -> None:
    portability._write([measured("one", 0.001), measured("other", 0.004)])
    content = json.loads((folder / "tolerance.json").read_text(encoding="utf-8"))
    assert content["largest"] == {"metrics/evaluation.json": {"nll_nats": 0.004, "kl_nats": 0.5}}
    page = (folder / "page.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "of 20" in line]
    assert rows == [
        ["one", "19 of 20", "0.001", "0", "0.5", "0", "12"],
        ["other", "19 of 20", "0.004", "0", "0.5", "0", "12"],
    ]


def test_what_ran_before_counts_in_the_order_of_the_variations(folder: Path) -> None:
    for name in ("one_thread", "avx2"):
        (folder / portability.KEPT).mkdir(parents=True, exist_ok=True)
        (folder / portability.KEPT / f"{name}.json").write_text(json.dumps(measured(name, 0.1)), encoding="utf-8")
    assert [found["variation"] for found in portability._kept()] == ["avx2", "one_thread"]


def test_an_unknown_variation_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert portability.main(["sse"]) == 1
    assert "'sse' is no variation; expected some of: avx2" in capsys.readouterr().err


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


def test_the_committed_tolerance_is_of_variations_that_exist() -> None:
    content = json.loads(tolerance.MEASURED.read_text(encoding="utf-8"))
    assert set(content["variations"]) <= {variation.words for variation in portability.VARIATIONS.values()}
    assert content["variations"]
    assert all(np.isfinite(value) for quantities in content["largest"].values() for value in quantities.values())
    assert {"all instructions", "AVX2"} <= set(CAPS)
