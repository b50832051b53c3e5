"""The Croissant description: MLCommons' reader takes it, and it is true of the files."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pytest

from pipeline.croissant import description
from pipeline.files import save_arrays, write_json

pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning")  # of the reader's own

FACTS: dict[str, Any] = {
    "title": "Fashion-MNIST 3.0.1",
    "licence": "MIT License, Copyright (c) 2017 Zalando SE",
    "citation": "Xiao, Rasul and Vollgraf, Fashion-MNIST, https://arxiv.org/abs/2004.07747, 2017.",
    "classes": ["T-shirt/top", "Körper", '"1"'],
    "image_shape": [8, 6],
}
COUNTS = {"train": 7, "validation": 4, "test": 3}
DRAW = "The binary images were drawn once, with seed 777."


def prepare(project: Path) -> dict[str, Path]:
    """Small splits, and the folder of each."""
    folders = {split: project / "data" / "prepared" / split for split in COUNTS}
    generator = np.random.default_rng(0)
    for split, count in COUNTS.items():
        images = generator.random((count, 8, 6), np.float32)
        arrays = {"images": images, "labels": np.arange(count, dtype=np.uint8) % 3, "index": np.arange(count)}
        binarised = {} if split == "train" else {"binarised": (images > 0.5).astype(np.uint8)}
        save_arrays(folders[split], {**arrays, **binarised, "class_names": np.array(FACTS["classes"])})
    return folders


def write(project: Path, facts: dict[str, Any] = FACTS) -> Path:
    target = project / "metrics" / "croissant.json"
    write_json(target, description(facts, prepare(project), DRAW, target))
    return target


def test_the_reader_of_mlcommons_has_nothing_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = mlcroissant.Dataset(write(tmp_path)).metadata
    assert not metadata.issues.errors | metadata.issues.warnings
    assert not caplog.records
    assert metadata.conforms_to == ["http://mlcommons.org/croissant/1.0"]
    assert metadata.name == FACTS["title"]
    assert metadata.license == [FACTS["licence"]]
    assert metadata.cite_as == FACTS["citation"]
    assert metadata.url == "https://arxiv.org/abs/2004.07747"
    assert metadata.date_published.year == 2017
    assert "8 x 6 pixels" in metadata.description
    assert DRAW in metadata.description


def test_splits_and_classes_load(tmp_path: Path) -> None:
    data = mlcroissant.Dataset(write(tmp_path))
    splits = {record["splits/name"]: record["splits/count"] for record in data.records("splits")}
    assert splits == COUNTS
    classes = [(record["classes/label"], record["classes/name"]) for record in data.records("classes")]
    assert classes == list(enumerate(FACTS["classes"]))
    kinds = [str(kind) for records in data.metadata.record_sets for kind in records.data_types]
    assert kinds == ["http://mlcommons.org/croissant/Split", "https://schema.org/Enumeration"]


def test_each_array_is_stated_with_its_own_sha256_and_size(tmp_path: Path) -> None:
    target = write(tmp_path)
    stated = {file.id: file for file in mlcroissant.Dataset(target).metadata.file_objects}
    arrays = sorted((tmp_path / "data" / "prepared").glob("*/*.npy"))
    assert stated.keys() == {f"{file.parent.name}/{file.name}" for file in arrays}
    for file in arrays:
        found = stated[f"{file.parent.name}/{file.name}"]
        content = file.read_bytes()
        assert (target.parent / found.content_url).resolve() == file.resolve()
        assert found.sha256 == sha256(content).hexdigest()
        assert found.content_size == f"{len(content)} B"
        changed = content[:-1] + bytes([content[-1] ^ 1])
        assert found.sha256 != sha256(changed).hexdigest()
    assert stated["test/binarised.npy"].description == "uint8 (3, 8, 6)"


def test_equal_arrays_are_described_by_equal_bytes_in_any_folder(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name).read_bytes() for name in ("one", "two"))
    assert first == second


def test_what_is_not_known_of_a_data_set_is_left_out(tmp_path: Path) -> None:
    target = write(tmp_path, {**FACTS, "licence": "", "citation": ""})
    metadata = mlcroissant.Dataset(target).metadata
    assert not metadata.issues.errors
    missing = {"citeAs", "datePublished", "license"}
    assert len(metadata.issues.warnings) == len(missing)
    assert not missing & json.loads(target.read_text(encoding="utf-8")).keys()
