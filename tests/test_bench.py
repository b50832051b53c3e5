"""The count of operations, and the committed pages."""

import json

import pytest
import tensorflow as tf
from conftest import ROOT

from bench import curves
from bench.against import sums
from bench.curves import PUBLISHED, curve, drawn
from bench.figures import page
from bench.operations import operations
from pipeline.errors import StageError
from vae.model import build_vae
from workflow.history.presets import resolved

FLOAT = tf.float32


def spec(*shape: int) -> tf.TensorSpec:
    return tf.TensorSpec(shape, FLOAT)


def test_a_product_takes_two_operations_for_each_multiply_add() -> None:
    assert operations(tf.matmul, spec(3, 7), spec(7, 5)) == 2 * 3 * 7 * 5
    assert operations(lambda a, b: tf.matmul(a, b, transpose_a=True), spec(7, 3), spec(7, 5)) == 2 * 3 * 7 * 5
    assert operations(lambda a, b: tf.matmul(a, b, transpose_b=True), spec(3, 7), spec(5, 7)) == 2 * 3 * 7 * 5
    assert operations(tf.matmul, spec(4, 3, 7), spec(4, 7, 5)) == 4 * 2 * 3 * 7 * 5


def test_a_convolution_and_each_of_its_gradients_take_the_same() -> None:
    image, kernel = spec(6, 8, 8, 2), spec(3, 3, 2, 4)
    forward = 2 * (6 * 4 * 4 * 4) * (3 * 3 * 2)  # outputs times what each is a sum of; padding counts

    def convolve(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(image, kernel, 2, "SAME")

    def gradients(image: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            convolved = convolve(image, kernel)
        return tape.gradient(convolved, [image, kernel])

    assert operations(convolve, image, kernel) == forward
    assert operations(gradients, image, kernel) == 3 * forward


def test_other_work_counts_for_nothing() -> None:
    assert operations(lambda a: tf.nn.relu(a) + a, spec(3, 7)) == 0


def test_what_could_hide_products_is_refused() -> None:
    def repeated(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda _: True, lambda c: (tf.matmul(c, b),), (a,), maximum_iterations=3)

    with pytest.raises(ValueError, match="MatMul"):
        operations(repeated, spec(3, 3), spec(3, 3))
    with pytest.raises(ValueError, match="Einsum"):
        operations(lambda a, b: tf.einsum("ij,jk->ik", a, b), spec(3, 7), spec(7, 5))


def test_a_branch_without_products_may_be() -> None:
    def conditional(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.matmul(a, tf.cond(a[0, 0] > 0, lambda: b, lambda: -b))

    assert operations(conditional, spec(3, 7), spec(7, 5)) == 2 * 3 * 7 * 5


def test_a_decoder_has_the_products_of_its_layers_and_of_those_of_each_patch() -> None:
    plain, more = (build_vae("gated_dense", 4, [5, 6], (28, 28), autoregressive_units=units) for units in (0, 20))
    kernels = [weight.shape for weight in plain.decoder.trainable_weights if len(weight.shape) == 2]
    expected = sum(2 * 10 * a * b for a, b in kernels)
    assert operations(plain.decoder, spec(10, 4)) == expected
    patches = 2 * 10 * 49 * (2 * 64 * 40 + 20 * 16)
    assert operations(more.logits, spec(10, 4), spec(10, 28, 28)) == expected + 2 * (2 * 10 * 4 * 40) + patches


@pytest.mark.parametrize(("name", "record"), [("README.md", "results.json"), ("scaling.md", "scaling.json")])
def test_a_page_shows_the_committed_results(name: str, record: str) -> None:
    results = json.loads((ROOT / "bench" / record).read_text(encoding="utf-8"))
    assert (ROOT / "bench" / name).read_text(encoding="utf-8") == page(name, results)


def test_the_goal_is_what_the_textbook_s_training_ends_with() -> None:
    results = json.loads((ROOT / "bench/results.json").read_text(encoding="utf-8"))
    recorded = json.loads((ROOT / "presets/textbook.json").read_text(encoding="utf-8"))
    assert results["textbook_gray_validation_loss"] == -recorded["metrics"]["validation"]["gray"]["elbo_nats"]


def test_the_torch_model_has_the_textbook_s_widths() -> None:
    assert (resolved("textbook").model.widths, resolved("textbook").model.latent_dim) == ((32, 64, 16), 2)


def test_a_commit_s_time_is_that_of_its_training_of_its_evaluation_and_of_all_stages() -> None:
    stages = {
        "check": 1.0,
        "fetch": 2.0,
        "preprocess": 4.0,
        "train": 8.0,
        "evaluate": 16.0,
        "baseline": 32.0,
        "new": 64.0,
    }
    assert sums(stages) == {"train": 8, "evaluation": 80, "make": 127}


def test_a_training_is_drawn_over_its_seconds_beside_published_values_moved_to_the_validation_images() -> None:
    metrics = {"validation": {"binarised": {"nll_nats": 224.5, "nll_samples": 200}}}
    found = curve("default", {"epoch": [5, 15, 20], "validation_loss": [240.0, 230.0, 226.0]}, 800.0, metrics)
    (axes,) = drawn([found]).axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    along, end = lines["default: -ELBO"], lines["... NLL (K = 200): 224.50"]
    assert (list(along.get_xdata()), list(along.get_ydata())) == ([200, 600, 800], [240, 230, 226])
    assert (list(end.get_xdata()), list(end.get_ydata())) == ([800], [224.5])
    for name, nll in PUBLISHED.items():
        assert set(lines[f"published, {name}: {nll:.2f}"].get_ydata()) == {nll - 0.76}


@pytest.mark.parametrize("record", [None, {"train_seconds": 300.0}])
def test_a_preset_without_a_history_is_refused(
    record: dict[str, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "recorded", lambda _: record)
    with pytest.raises(StageError, match=r"presets/textbook.json has no history; .*`make experiment NAME=textbook`"):
        curves.recorded_curves()


def test_the_page_shows_the_ratios_to_the_earlier_commit() -> None:
    results = json.loads((ROOT / "bench/results.json").read_text(encoding="utf-8"))
    side = {"commit": "2120bfc", "seconds": {"train": 900, "evaluation": 500, "make": 1500}, "nll_nats": 225.15}
    more = {
        "against": {"base": side, "head": {**side, "seconds": {"train": 450, "evaluation": 300, "make": 825}}},
        **{"train_time_ratio": 0.5, "evaluation_time_ratio": 0.6, "make_time_ratio": 0.55},
        **{
            "published_vae_nll": 227.94,
            "published_vae_run": {"epochs": 10, "seconds": 60},
            "published_vae_share": 0.12,
        },
    }
    shown = page("README.md", {**results, **more})
    assert "| training | 900 | 450 | 0.50 |" in shown
    assert "| all stages | 1500 | 825 | 0.55 |" in shown
