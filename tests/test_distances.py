"""Distances between two versions of a result, against differences made by hand."""

import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from workflow.compare import tolerance
from workflow.compare.distances import distances, sizes


def as_json(content: object) -> bytes:
    return json.dumps(content).encode()


def as_npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def as_npy(values: list[float]) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array(values))
    return content.getvalue()


def as_png(level: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 3), level).save(content, "PNG")
    return content.getvalue()


def as_h5(kernel: float) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layer/kernel"], file["layer/bias"] = np.full((2, 3), kernel, np.float32), np.zeros(6, np.float32)
    return content.getvalue()


def as_onnx(values: list[float]) -> bytes:
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.array(values, np.float32), "w")])
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


#: What writes the contents of a kind; of others the bytes are given.
WRITERS = {"json": as_json, "npz": lambda arrays: as_npz(**arrays), "npy": as_npy}
WRITERS |= {"png": as_png, "h5": as_h5, "onnx": as_onnx}

SPLITS = {"test": {"nll_nats": 225.0, "units": [28, 30]}, "validation": {"nll_nats": 224.0}, "class": "x"}
OTHERS = {"test": {"nll_nats": 225.25, "units": [28, 35]}, "validation": {"nll_nats": 223.0}, "class": "x"}
FLOORS = [{"floor": {"train": 1.0, "validation": value}} for value in (2.0, 2.5)]
KINDS, TURNED = ({"blended": {"auroc": one}, "rotated": {"auroc": other}} for one, other in ((0.9, 0.6), (0.6, 0.9)))
TABLE, SHIFTED = b"class,nats,count\nBag,1.5,3\nCoat,2.5,4\n", b"class,nats,count\nBag,1.0,3\nCoat,2.25,4\n"
GRAY, BROKEN = np.array([10, 20], np.uint8), np.array([np.nan, 2.0])
TEXT = b"NLL 225.91 after epoch 62; sha256 " + b"a" * 64 + b"\n| made on | x86_64 avx2, 2 threads |\n"
NUMBERS = TEXT.replace(b"225.91", b"225.95").replace(b"a" * 64, b"b" * 64)

#: Kind of file, two contents, and the distances that they must have.
DISTANCES: Mapping[str, tuple[str, Any, Any, Mapping[str, float]]] = {
    "figures of one name are one quantity": ("json", SPLITS, OTHERS, {"nll_nats": 1, "units": 5, "class": 0}),
    "a split is no quantity": ("json", *FLOORS, {"floor": 0.5}),
    "figures that change their names": ("json", KINDS, TURNED, {"auroc": 0.3}),
    "figures of another name": ("json", KINDS, {"mixed": KINDS["blended"]}, {"auroc": math.inf}),
    "a missing number": ("json", {"a": 1.0}, {}, {"a": math.inf}),
    "a longer list": ("json", {"a": [1.0]}, {"a": [1.0, 2.0]}, {"a": math.inf}),
    "another word": ("json", {"a": "one"}, {"a": "two"}, {"a": math.inf}),
    "another truth": ("json", {"a": True}, {"a": False}, {"a": math.inf}),
    "the last of six digits": ("json", {"a": 225.913}, {"a": 225.914}, {"a": 0}),
    "more than rounding": ("json", {"a": 225.913}, {"a": 225.918}, {"a": 0.005}),
    "columns": ("csv", TABLE, SHIFTED, {"class": 0, "nats": 0.5, "count": 0}),
    "another word in a column": ("csv", b"a,b\nBag,1\n", b"a,b\nSack,1\n", {"a": math.inf, "b": 0}),
    "no number against a number": ("csv", b"a\nnan\n1.0\n", b"a\n2.0\n1.0\n", {"a": math.inf}),
    "no number in both": ("csv", b"a\nnan\n1.0\n", b"a\nnan\n1.5\n", {"a": 0.5}),
    "arrays": ("npz", {"a": np.zeros(2), "b": GRAY}, {"a": np.array([-0.25, 0.25]), "b": GRAY}, {"a": 0.25, "b": 0}),
    "whole numbers": ("npz", {"a": np.arange(3)}, {"a": np.arange(1, 4)}, {"a": math.inf}),
    "another shape": ("npz", {"a": np.ones(6)}, {"a": np.ones(5)}, {"a": math.inf}),
    "another type": ("npz", {"a": np.ones(6)}, {"a": np.ones(6, np.float32)}, {"a": math.inf}),
    "no number in an array": ("npz", {"a": BROKEN}, {"a": np.ones(2)}, {"a": math.inf}),
    "no number in both arrays": ("npz", {"a": BROKEN}, {"a": BROKEN}, {"a": 0}),
    "images of bytes": ("npz", {"a": GRAY}, {"a": GRAY - np.uint8(10)}, {"a": 10}),
    "an array": ("npy", [1.0, 2.0], [1.0, 3.0], {"array": math.sqrt(0.5)}),
    "pictures": ("png", 100, 151, {"gray": 51 / 255}),
    "weights": ("h5", 0.0, 0.5, {"weights": math.sqrt(0.125)}),
    "a network": ("onnx", [1, 2], [1, 2.5], {"weights": math.sqrt(0.125)}),
    "a larger network": ("onnx", [1, 2], [1, 2, 3], {"weights": math.inf}),
    "numbers in a text": ("md", TEXT, NUMBERS, {"words": 0}),
    "words of a text": ("md", TEXT, TEXT.replace(b"epoch", b"step"), {"words": math.inf}),
    "the processor in a text": ("md", TEXT, TEXT.replace(b"avx2", b"avx512_core_bf16"), {"words": 0}),
    "the same bytes": ("pb", b"one", b"one", {"bytes": 0}),
    "other bytes": ("pb", b"one", b"two", {"bytes": math.inf}),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_each_quantity_is_as_far_apart_as_was_worked_out_by_hand(name: str) -> None:
    kind, *given, expected = DISTANCES[name]
    ours, theirs = map(WRITERS.get(kind, bytes), given)
    for contents in ((ours, theirs), (theirs, ours)):
        assert distances(f"x.{kind}", *contents) == pytest.approx(expected)


@pytest.mark.parametrize("path", ["x.json", "x.csv", "x.npz", "x.npy", "x.png", "x.h5"])
def test_what_is_not_of_its_form_is_infinitely_far(path: str) -> None:
    assert math.inf in distances(path, b"\xff\x00 nothing", b"\xff\x00 other").values()


def test_onnx_weights_are_compared_in_the_order_of_their_use_whatever_their_names() -> None:
    """`vae/interchange.py` names constants by the hash of their values and sorts them: rounding changes the order."""

    def network(first: str, second: str, shift: float, rank: int) -> bytes:
        constants = {
            first: np.zeros(2, np.float32),
            second: np.full(2, 5 + shift, np.float32),
            "shape": np.array([rank]),
        }
        nodes = [helper.make_node("Add", ["x", first], ["y"]), helper.make_node("Mul", ["y", second], ["z"])]
        nodes.append(helper.make_node("Reshape", ["z", "shape"], ["out"]))
        result = helper.make_tensor_value_info("out", 1, [2])
        kept = [numpy_helper.from_array(constants[name], name) for name in sorted(constants)]
        content: bytes = helper.make_model(helper.make_graph(nodes, "g", [], [result], kept)).SerializeToString()
        return content

    found = distances("x.onnx", network("a", "b", 0.0, 2), network("b", "a", 0.5, 2))
    assert found == {"weights": pytest.approx(0.5 / math.sqrt(2)), "shapes": 0.0}
    assert distances("x.onnx", network("a", "b", 0.0, 2), network("a", "b", 0.0, 3))["shapes"] == math.inf


def test_the_size_of_a_quantity_is_its_largest_number_and_whole_numbers_have_none() -> None:
    content = {"test": {"a": -0.5, "n": 7, "word": "x"}, "validation": {"a": 0.25, "n": 8}, "odd": math.inf}
    found = sizes("x.json", as_json({**content, "floor": {"test": 2.5}}))
    assert found == {"a": 0.5, "n": 0.0, "word": 0.0, "odd": 0.0, "floor": 2.5}
    assert sizes("x.csv", b"name,n,a\nBag,7,-2.5\nCoat,8,1\n") == {"name": 0.0, "n": 0.0, "a": 2.5}
    arrays = as_npz(a=np.array([3.0, 4.0]), label=np.ones(3, np.uint8))
    assert sizes("x.npz", arrays) == {"a": pytest.approx(math.sqrt(12.5)), "label": 0.0}
    assert sizes("x.json", b"\xff nothing") == {}


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Numbers that are easy to tell from one another."""
    path = tmp_path / "tolerance.json"
    path.write_bytes(as_json({"largest": {"nats": 0.5, "nats_se": 2.0, "part_nats": 7.0, "share": 0.25, "bits": 0.0}}))
    monkeypatch.setattr(tolerance, "MEASURED", path)
    tolerance._measured.cache_clear()
    yield
    tolerance._measured.cache_clear()


def beyond(before: object, after: object, path: str = "metrics/x.json") -> bool:
    return tolerance.held_against({path: as_json({"a": after})}, {path: as_json({"a": before})})[1]


@pytest.mark.usefixtures("measured")
def test_a_small_multiple_of_what_was_measured_is_tolerated_and_nothing_else() -> None:
    assert tolerance.tolerated("metrics/x.json", "nll_nats") == tolerance.MULTIPLE * 0.5
    assert tolerance.tolerated("metrics/x.json", "nll_nats_se") == tolerance.MULTIPLE * 2.0
    assert tolerance.tolerated("metrics/x.json", "nll_bits_per_dim") == 0
    assert 1 < tolerance.MULTIPLE <= 5
    zero = {"metrics/x.json": as_json({"a_nats": 0.0, "b": 1})}
    for shift, is_beyond in ((1.4, False), (1.6, True)):
        words, found = tolerance.held_against(zero, {"metrics/x.json": as_json({"a_nats": shift, "b": 1})})
        assert found == is_beyond
        assert words == f"metrics/x.json: a_nats by {shift}, tolerated 1.5"
    assert tolerance.held_against(zero, {"metrics/x.json": as_json({"a_nats": 0.0, "b": 2})})[1]
    assert tolerance.held_against(zero, {"metrics/y.json": as_json({"a_nats": 0.0, "b": 1})})[1]


@pytest.mark.usefixtures("measured")
def test_a_metric_that_nobody_knew_needs_no_entry() -> None:
    for name, allowed in (("foo_nats", 1.5), ("foo_nats_se", 6.0), ("bar_accuracy", 0.75)):
        assert tolerance.tolerated("metrics/new.json", name) == allowed
    assert tolerance.tolerated("metrics/new.csv", "foo_nats") == 21
    for name, share in (("foo", 0.1), ("foo_se", 1 / 3), ("incoverage", 0.1)):
        assert tolerance.tolerated("metrics/new.json", name, 8.5) == pytest.approx(8.5 * share)
    assert [beyond(8.5, after) for after in (8.5, 9.2, 7.8, 9.5, 7.5, 85.0, -8.5)] == [False] * 3 + [True] * 4
    assert [beyond(1.5e-6, after) for after in (3e-6, 3e-5)] == [False, True]  # what float32 rounds by
    assert [beyond(before, after) for before, after in ((50, 51), ("x", "y"), (8.5, None))] == [True] * 3
    assert beyond(math.inf, 8.5)
    labels = [as_npz(label=np.full(4, label, np.uint8)) for label in (8, 9)]
    assert tolerance.held_against(*({"metrics/x.npz": content} for content in labels))[1]


def test_the_file_and_the_name_say_the_unit() -> None:
    units = {
        ("metrics/evaluation.json", "nll_nats"): "nats",
        ("metrics/evaluation.json", "nll_nats_bias"): "nats_mc",
        ("metrics/evaluation.json", "active_units"): "count",
        ("metrics/evaluation.json", "calibration_error"): None,
        ("metrics/export.json", "mean"): None,
        ("metrics/calibration.csv", "test_observed"): "probability",
        ("metrics/figures/samples.png", "gray"): "gray",
        ("metrics/per_class.csv", "nll_nats_se"): "part_nats_se",
        ("metrics/history.csv", "train_kl"): "part_nats",
        ("metrics/latents.csv", "test_gray_latent_kl_nats"): "latent_nats",
        ("metrics/per_image.npz", "gray_kl_nats"): "image_nats",
        ("data/evaluation/test/gray_kl_nats.npy", "array"): "image_nats",
        ("data/evaluation/test/gray_elbo_mc_nats.npy", "array"): "image_nats_mc",
        ("data/evaluation/validation/gray_reconstruction.npy", "array"): "level",
        ("data/evaluation/test/mean.npy", "array"): "coordinate",
    }
    assert {key: tolerance.unit(*key) for key in units} == units


def test_what_no_thread_can_change_has_to_be_equal() -> None:
    """`fetch` and `preprocess` take no `threads`; the rest follows from the weights, or sums in threads itself."""
    assert {path for path in tolerance._steady() if not tolerance.states_origin(path)} == {
        *("metrics/code.json", "metrics/data.json", "metrics/contact_sheet.png", "metrics/croissant.json", "data/raw"),
        *(f"data/prepared/{split}" for split in ("train", "validation", "test")),
    }
    assert [beyond(8.5, 8.6, path) for path in ("metrics/data.json", "metrics/data2.json")] == [True, False]
    assert tolerance.tolerated("data/prepared/test/image.npy", "array", 100.0) == 0


def test_what_only_says_where_results_come_from_is_not_held_against_anything() -> None:
    words, beyond = tolerance.held_against({"metrics/processor.json": b"{}"}, {"metrics/processor.json": b"[]"})
    assert not beyond
    assert "on what machine" in words
