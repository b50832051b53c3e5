"""The committed results are what README and docs/ say, and what the project promises of them."""

import csv
import json
import re
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from conftest import ROOT, as_committed

from vae.statistics import TARGETS
from workflow.compare import tolerance
from workflow.history import seeds
from workflow.history.presets import stale_presets

METRICS = ROOT / "metrics"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")]

#: Test ELBO of the textbook model, gray targets, trained on all 60 000 images by its own recipe.
TEXTBOOK_ELBO = -261.97

#: Test NLL of the published one-level VAE with a VampPrior (Norouzi et al. 2020, density table).
PUBLISHED_NLL = 227.35

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")

committed = as_committed("README.md", "docs", "metrics", "presets")


@committed
def test_the_page_shows_the_metrics() -> None:
    evaluation = json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| (validation|test), (gray|binarised) \| (.*) \|$", RESULTS, flags=re.MULTILINE)
    assert {row[:2] for row in rows} == {(split, targets) for split in evaluation for targets in TARGETS}
    for split, targets, cells in rows:
        found = evaluation[split][targets]
        names = [name for name in ("reconstruction_nats", "kl_nats", "elbo_nats", "nll_nats") if name in found]
        shown = [f"{found[name]:.2f} ± {found[f'{name}_se']:.2f}" for name in names]
        assert cells.split(" | ") == (shown if "nll_nats" in found else [*shown, ""])


@committed
def test_the_page_shows_the_likelihoods_beside_the_published_ones() -> None:
    recorded = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["metrics"] for path in ROOT.glob("presets/*.json")
    }
    recorded["default"] = json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8"))
    stale = stale_presets()
    for name, metrics in recorded.items():
        (row,) = re.findall(rf"^\| {name}\b.*$", RESULTS, flags=re.MULTILINE)
        found = metrics["test"]["binarised"]
        assert f"| {found['nll_nats']:.2f} ± {found['nll_nats_se']:.2f} | {found['nll_samples']} |" in row
        assert ("(stale)" in row) == (name in stale)


@committed
def test_the_page_shows_what_the_other_stages_found() -> None:
    evaluation, representation, baseline, outliers, samples = (
        json.loads((METRICS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("evaluation", "representation", "baseline", "outliers", "samples")
    )
    test, gap = evaluation["test"]["binarised"], evaluation["test"]["gap"]
    model, reference = samples["test"]["model"], samples["test"]["reference"]
    expected = {
        "NLL in bits per dimension": shown(test, "nll_bits_per_dim", 4),
        "ELBO to NLL": shown(gap, "elbo_to_nll_nats", 2),
        "... which the encoder loses": shown(gap, "amortisation_nats", 2),
        "... which a diagonal Gaussian loses": shown(gap, "approximation_nats", 2),
        "active units": f"{test['active_units']} |",
        "calibration error": f"{evaluation['test']['calibration_error']:.4f}",
        "density": f"{shown(model, 'density', 3)} | of real images: {shown(reference, 'density', 3)}",
        "coverage": f"{shown(model, 'coverage', 3)} | by real images: {shown(reference, 'coverage', 3)}",
        "chance that a sample is nearer": f"{shown(model['copying'], 'nearer', 3)} | of unseen real images: "
        + shown(reference["copying"], "nearer", 3),
    }
    for words, name in (("a linear probe", "linear_probe"), ("nearest neighbours", "nearest_neighbours")):
        latents, pixels = (shown(found[name], "test_accuracy", 1, 100) for found in (representation, baseline))
        expected[f"accuracy of {words}"] = f"{latents} | on pixels: {pixels}"
    assert outliers["test"].pop("images") == 1000
    for kind, found in outliers["test"].items():
        nll, elbo = (shown(found, f"{score}_auroc", 3) for score in ("nll", "negative_elbo"))
        expected[f"AUROC of the NLL, {kind}"] = f"{nll} | of the negative ELBO: {elbo}"
    for words, figures in expected.items():
        (row,) = re.findall(rf"^\| {re.escape(words)}.*$", RESULTS, flags=re.MULTILINE)
        assert f"| {figures}" in row


def test_readme_has_at_most_120_lines_and_rows_of_the_page_only() -> None:
    assert README.count("\n") <= 120
    likelihoods = re.compile(r"^\| .* \| [0-9.]+ ± [0-9.]+ \| .*$", flags=re.MULTILINE)
    rows = likelihoods.findall(README)
    assert [row for row in rows if row.startswith("| default: ")]
    assert set(rows) <= set(likelihoods.findall(RESULTS))


@as_committed("README.md", "docs", "metrics", "presets", "params.yaml", "stages", "vae", "pipeline", "numeric.txt")
def test_the_spread_over_seeds_is_shown_and_said_to_be_stale_where_it_is() -> None:
    record = json.loads(seeds.PATH.read_text(encoding="utf-8"))
    for split in ("validation", "test"):
        found = [run["metrics"]["evaluation"][split]["binarised"]["nll_nats"] for run in record["runs"]]
        figures = f"{fmean(found):.3f} ± {stdev(found):.3f} on {split}"
        assert figures in RESULTS.replace("\n", " ")
    assert f"{len(record['runs'])} seeds" in RESULTS
    assert ("the spread over seeds (stale)" in RESULTS) == seeds.stale()


def shown(figures: dict[str, float], name: str, digits: int, scale: float = 1) -> str:
    return f"{figures[name] * scale:.{digits}f} ± {figures[f'{name}_se'] * scale:.{digits}f}"


@as_committed("README.md", "presets")
def test_the_textbook_model_is_as_good_as_the_textbook_s() -> None:
    record = json.loads((ROOT / "presets" / "textbook.json").read_text(encoding="utf-8"))
    assert abs(record["metrics"]["test"]["gray"]["elbo_nats"] - TEXTBOOK_ELBO) < 3


@committed
def test_the_default_is_better_than_the_published_one_level_likelihood() -> None:
    binarised = json.loads((METRICS / "evaluation.json").read_text(encoding="utf-8"))["test"]["binarised"]
    assert binarised["nll_nats"] < PUBLISHED_NLL


@committed
def test_the_scored_test_images_have_the_ones_of_the_published_draw() -> None:
    with (METRICS / "calibration.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    ones = sum(float(row["test_pixels"]) * float(row["test_observed"]) for row in rows)
    assert ones == pytest.approx(2_248_637, rel=1e-5)  # six digits of each figure are published


def test_the_data_are_fashion_mnist() -> None:
    """The digests were computed from the upstream archives when the project began."""
    facts = json.loads((METRICS / "data.json").read_text(encoding="utf-8"))
    expected = json.loads((ROOT / "datasets.json").read_text(encoding="utf-8"))["fashion_mnist"]
    assert facts["sha256"] == expected
    assert expected["test_images"] == "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a"


@committed
def test_the_figures_of_each_image_are_all_there_and_small() -> None:
    path = METRICS / "per_image.npz"
    assert path.stat().st_size <= 300_000
    with np.load(path, allow_pickle=False) as rows:
        assert np.bincount(rows["split"]).tolist() == [10_000, 10_000]
        assert all(np.isfinite(rows[name]).all() for name in rows.files)


def test_the_counts_of_the_last_run_of_faults_are_shown() -> None:
    found = json.loads((ROOT / "bench/faults.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    table = page.partition("| faults | count |\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| ([a-z -]+)\b.*? \| (\d+) \|$", table, flags=re.MULTILINE))
    shown = {name: int(count) for name, count in rows.items()}
    assert shown == {**found["counts"], "checks not run": len(found["not_run"])}
    assert found["counts"]["inputs wrongly accepted"] == 0


def test_what_is_tolerated_is_what_the_documentation_shows() -> None:
    page = (ROOT / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    table = page.partition("| unit | tolerated | of |\n")[2].partition("\n\n")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", table, flags=re.MULTILINE))
    largest = json.loads(tolerance.MEASURED.read_text(encoding="utf-8"))["largest"]
    assert shown == {unit: f"{tolerance.MULTIPLE * number:.2g}" for unit, number in largest.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist_and_nothing_is_left_open(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in re.sub(r"^@@ -\S+ \+\S+ @@$", "", text, flags=re.MULTILINE)  # but in patches
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
