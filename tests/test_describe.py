"""The model card says what the metrics, the parameters and the files say, of any model."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAINING, VALIDATION, Project

from pipeline.params.model import Model
from pipeline.params.section import load_section
from pipeline.params.whole import load_params
from stages import describe

#: The headings of Mitchell et al. 2019, figure 1.
HEADINGS = {
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
}


@pytest.fixture(scope="module")
def card(finished: Project) -> str:
    return (finished.folder / "metrics" / "model_card.md").read_text(encoding="utf-8")


def metrics(project: Project, name: str) -> Any:
    return json.loads((project.folder / "metrics" / f"{name}.json").read_text(encoding="utf-8"))


def rows(card: str, heading: str) -> dict[str, list[str]]:
    """Cells of the tables below a heading, by their first one."""
    chapter = card.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in chapter.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells}


def written(finished: Project, card: Path, model: Model, **others: Path) -> str:
    """The card of a model by another section `model`, with other files or those of the finished project."""
    params = load_params(finished.folder / "params.yaml")
    names = {"data": "data", "training": "train"} | {
        name: name for name in ("processor", "evaluation", "outliers", "samples", "export")
    }
    describe.run(
        params.preprocess,
        model,
        params.train,
        template=ROOT / "stages" / "describe.md.jinja",
        weights=finished.folder / "data" / "model",
        per_class=finished.folder / "metrics" / "per_class.csv",
        card=card,
        **{name: finished.folder / "metrics" / f"{file}.json" for name, file in names.items()} | others,
    )
    return card.read_text(encoding="utf-8")


def test_the_headings_are_those_of_model_cards_and_nothing_is_left_open(card: str) -> None:
    assert set(re.findall(r"^## (.*)$", card, flags=re.MULTILINE)) == HEADINGS
    assert not re.search(r"[{}]|\bNone\b|\bnan\b", card)


def test_hashes_are_those_of_the_files(card: str, finished: Project) -> None:
    stated = dict(re.findall(r"^\| `(data/.*)` \| `([0-9a-f]{64})` \|$", card, flags=re.MULTILINE))
    files = [*(finished.folder / "data/model").iterdir(), *(finished.folder / "data/export").glob("*.onnx")]
    assert stated == {str(file.relative_to(finished.folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def test_losses_are_the_metrics_with_their_errors(card: str, finished: Project) -> None:
    table = rows(card, "Metrics")
    for split, of_split in metrics(finished, "evaluation").items():
        for targets in ("gray", "binarised"):
            found = of_split[targets]
            names = [n for n in ("reconstruction_nats", "kl_nats", "elbo_nats", "nll_nats") if n in found]
            shown = [f"{found[name]:.2f} ± {found[f'{name}_se']:.2f}" for name in names]
            assert [cell for cell in table[f"{split}, {targets}"] if cell] == shown
    found = metrics(finished, "samples")["test"]
    for name in ("density", "coverage"):
        shown = [f"{found[of][name]:.3f} ± {found[of][f'{name}_se']:.3f}" for of in ("model", "reference")]
        assert table[name] == shown
    nearer = [f"{found[of]['copying']['nearer']:.3f} ± " for of in ("model", "reference")]
    assert all(chance in card.partition("## Ethical")[2] for chance in nearer)


def test_classes_are_those_of_the_images(card: str, finished: Project) -> None:
    """Against the losses of each image, which the table of classes in `metrics/` was made of too."""
    table = rows(card, "Quantitative analyses")
    with np.load(finished.folder / "metrics" / "per_image.npz") as images:
        for label, name in enumerate(list(table)[-10:]):
            for split in (0, 1):
                nll = images["binarised_nll_nats"][(images["split"] == split) & (images["label"] == label)]
                count, shown = table[name][2 * split : 2 * split + 2]
                mean, error = (float(part) for part in shown.split(" ± "))
                assert int(count) == len(nll)
                assert mean == pytest.approx(nll.mean(), abs=0.051)
                assert error == pytest.approx(nll.std(ddof=1) / np.sqrt(len(nll)), abs=0.051)


def test_counts_of_images_are_those_of_the_splits(card: str) -> None:
    text = " ".join(card.split())
    assert f"{TRAINING - VALIDATION} of its {TRAINING} training images. The other {VALIDATION} validated" in text
    assert f"The {TEST} test images, which chose nothing" in text


def test_the_card_is_of_the_data_set_that_was_fetched(finished: Project, tmp_path: Path) -> None:
    facts, evaluation = metrics(finished, "data"), metrics(finished, "evaluation")
    folder = {
        "name": "folder",
        "title": "Images of a folder",
        "citation": "",
        "licence": "unknown",
        "classes": ["boots"],
        "image_shape": [12, 20],
        "published": {"validation": None, "test_ones": None},
        "sha256": {"images": "ab", "labels": "cd"},
        "all": {**facts["train"], "count": 2 * VALIDATION + TEST, "per_class": [2 * VALIDATION + TEST]},
    }
    gray = {split: {name: of[name] for name in of if name != "binarised"} for split, of in evaluation.items()}
    files = {"data": tmp_path / "data.json", "evaluation": tmp_path / "evaluation.json"}
    files["data"].write_text(json.dumps(folder), encoding="utf-8")
    model = load_section(Model, "model", finished.folder / "params.yaml")
    text = " ".join(written(finished, tmp_path / "folder.md", model, data=files["data"]).split())
    assert f"{VALIDATION} of its {2 * VALIDATION + TEST} images. Of the others {VALIDATION} validated" in text
    assert "of 12 x 20 images with binary pixels" in text
    assert f"All {2 * VALIDATION + TEST} images are of one class, `boots`." in text
    assert not re.search("garment|shop|Fashion|published draw", text)
    files["evaluation"].write_text(json.dumps(gray), encoding="utf-8")
    text = written(finished, tmp_path / "gray.md", model, **files)
    assert "12 x 20 images with gray pixels" in text
    assert "NLL |" not in text.partition("## Quantitative")[2]
    assert "±" in rows(text, "Quantitative analyses")["Bag"][1]


def test_the_card_is_of_the_model_that_the_parameters_name(card: str, finished: Project, tmp_path: Path) -> None:
    simple = load_section(Model, "model", finished.folder / "params.yaml")
    assert rows(card, "Model details")["prior"] == ["`standard_normal`"]
    assert rows(card, "Model details")["pixels"] == ["independent given the latents"]
    assert written(finished, tmp_path / "same.md", simple).splitlines()[:20] == card.splitlines()[:20]
    more = simple.model_copy(
        update={"prior": "coupling_flow", "prior_widths": (8, 9), "autoregressive_units": 20, "latent_dim": 7}
    )
    table = rows(written(finished, tmp_path / "more.md", more), "Model details")
    assert table["prior"] == ["`coupling_flow`, widths 8, 9"]
    assert table["pixels"] == ["autoregressive within the image, 20 units"]
    assert table["latents"] == ["7"]
