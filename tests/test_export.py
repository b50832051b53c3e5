"""The exported networks against Keras', and against themselves in another process."""

import json
import subprocess
import sys
from hashlib import sha256

import keras
import numpy as np
import onnx
import pytest
from conftest import ROOT, Project

from pipeline.errors import StageError
from stages import export
from vae.evaluation import Evaluator
from vae.mean_image import MeanImages
from vae.model import VAE, Flow, build_vae
from vae.onnx_format import to_bytes, to_onnx
from vae.onnx_runtime import ExportedVAE

NETWORKS = {
    "textbook": {"architecture": "textbook", "latent_dim": 2, "widths": [4, 8, 8]},
    "flow": {"architecture": "gated_dense", "latent_dim": 5, "widths": [16, 12], "prior": "coupling_flow",
             "prior_widths": [8, 8, 8]},
    "autoregressive": {"architecture": "gated_dense", "latent_dim": 3, "widths": [16], "autoregressive_units": 20},
    "whole": {"architecture": "gated_dense", "latent_dim": 4, "widths": [16], "autoregressive_units": 20,
              "prior": "coupling_flow", "prior_widths": [8, 8]},
}  # fmt: skip

#: Builds a model whose weights are all drawn, and prints the sha256 of each exported network.
EXPORTED = """
import json, sys
from hashlib import sha256
from tests.test_export import drawn
from vae.onnx_format import to_bytes, to_onnx
if sys.argv[2] == "late":
    to_onnx(drawn("flow"), 0)
print("DIGESTS" + json.dumps({k: sha256(to_bytes(v)).hexdigest() for k, v in to_onnx(drawn(sys.argv[1]), 0).items()}))
"""


def drawn(name: str) -> VAE:
    """A small model, no weight of which is zero."""
    vae = build_vae(**NETWORKS[name], image_shape=(28, 28))
    generator = np.random.default_rng(0)
    for variable in vae.variables:
        variable.assign(generator.normal(0, 0.3, variable.shape))
    return vae


def exported(vae: VAE) -> ExportedVAE:
    return ExportedVAE.load({name: to_bytes(model) for name, model in to_onnx(vae, 0.25).items()})


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 28, 28), np.float32)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("textbook", 1),
        ("whole", 7),
        *(
            pytest.param(name, count, marks=pytest.mark.whole)
            for name in NETWORKS
            for count in (1, 7)
            if (name, count) not in (("textbook", 1), ("whole", 7))
        ),
    ],
)
def test_networks_compute_what_keras_computes(name: str, count: int) -> None:
    vae = drawn(name)
    ours, theirs = exported(vae), Evaluator(vae, 100)
    posterior = theirs.encode(images(count))
    mean, log_var = ours.encode(images(count))
    np.testing.assert_allclose(mean, posterior.mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_var, posterior.log_var, rtol=1e-4, atol=1e-4)
    noise = np.random.default_rng(2).standard_normal((count, vae.latent_dim), np.float32)
    latent = ours.from_noise(noise)
    back, log_det = ours.to_noise(latent)
    np.testing.assert_allclose(back, noise, atol=1e-4)
    log_density = -0.5 * (np.square(back) + np.log(2 * np.pi)).sum(axis=1) + log_det
    np.testing.assert_allclose(log_density, vae.log_prior(latent), rtol=1e-4, atol=1e-4)
    uniform = np.random.default_rng(3).random((count, 28, 28), np.float32)
    differences = ours.decode(ours.from_noise(noise)) - MeanImages(vae).decode(np.asarray(vae.from_noise(noise)))
    assert np.quantile(np.abs(differences), 0.9) < 1e-5  # others follow a draw within rounding of its probability
    assert np.abs(differences).max() < (0.02 if vae.autoregressive else 1e-4)
    differing = ours.draw(ours.from_noise(noise), uniform) != theirs.draws(noise, uniform)
    assert differing.mean() < 1e-3  # where a probability is within rounding of the draw


def test_what_is_exported_follows_from_the_model() -> None:
    assert list(to_onnx(drawn("textbook"), 0)) == ["encoder", "decoder", "mean_image"]
    assert list(to_onnx(drawn("flow"), 0)) == ["encoder", "decoder", "mean_image", "prior", "prior_noise"]
    assert not exported(drawn("flow")).autoregressive
    assert exported(drawn("autoregressive")).autoregressive
    assert exported(drawn("autoregressive")).latent_dim == 3
    assert exported(drawn("flow")).image_shape == (28, 28)
    assert exported(drawn("flow")).border_gray == 0.25


@pytest.mark.parametrize(
    "name", ["whole", *(pytest.param(name, marks=pytest.mark.whole) for name in NETWORKS if name != "whole")]
)
def test_nothing_in_a_network_is_random_and_any_batch_fits(name: str) -> None:
    for model in to_onnx(drawn(name), 0).values():
        assert not [node.op_type for node in model.graph.node if "Random" in node.op_type or "Bern" in node.op_type]
        onnx.checker.check_model(model, full_check=True)
        for value in [*model.graph.input, *model.graph.output]:
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_network_says_what_goes_in_and_out() -> None:
    models = to_onnx(drawn("flow"), 0) | to_onnx(drawn("autoregressive"), 0)
    names = {key: ([v.name for v in model.graph.input], [v.name for v in model.graph.output])
             for key, model in models.items()}  # fmt: skip
    assert names == {
        "encoder": (["image"], ["mean", "log_var"]),
        "decoder": (["latent", "image"], ["logits"]),
        "mean_image": (["latent"], ["image"]),
        "prior": (["noise"], ["latent"]),
        "prior_noise": (["latent"], ["noise", "log_det"]),
    }


@pytest.mark.whole
@pytest.mark.parametrize("name", ["textbook", "whole"])
def test_bytes_are_the_same_in_other_processes_and_after_other_exports(name: str) -> None:
    found = set()
    for seed, when in (("1", "first"), ("2", "first"), ("3", "late")):
        done = subprocess.run(
            [sys.executable, "-c", EXPORTED, name, when],
            cwd=ROOT,
            env={**Project(ROOT).environment({"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.rpartition("DIGESTS")[2])
    assert len(found) == 1


def test_networks_that_compute_something_else_are_refused() -> None:
    vae, other = drawn("flow"), drawn("flow")
    other.variables[0].assign_add(np.full(other.variables[0].shape, 1e-3, np.float32))
    noise = np.zeros((4, 5), np.float32)
    binarised = np.round(images(4))
    assert max(export._parity(vae, exported(vae), images(4), binarised, noise).values()) < 1e-4
    with pytest.raises(StageError, match="mean of the exported networks is up to"):
        export._parity(vae, exported(other), images(4), binarised, noise)


def test_an_operator_that_onnx_has_not_is_refused() -> None:
    latent = keras.Input((3,), name="latent")
    solved = keras.ops.solve_triangular(np.tri(3, dtype=np.float32), keras.ops.transpose(latent), lower=True)
    generate = keras.Model(latent, keras.ops.transpose(solved))
    vae = drawn("autoregressive")
    with pytest.raises(StageError, match=r"cannot be exported .*MatrixTriangularSolve.*; expected layers"):
        export._contents(VAE(vae.encoder, vae.decoder, Flow(generate, generate)), 0)


def test_metrics_and_files_of_the_stage_agree(finished: Project) -> None:
    metrics = json.loads((finished.folder / "metrics" / "export.json").read_text(encoding="utf-8"))
    assert metrics["images"] == 20
    assert set(metrics["largest_absolute_difference"]) == {"mean", "log_var", "logits", "latent", "mean_image"}
    for name, facts in metrics["files"].items():
        content = (finished.folder / "data" / "export" / f"{name}.onnx").read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (facts["bytes"], facts["sha256"])


@pytest.mark.whole
def test_only_the_exports_run_again_with_another_lock(project: Project) -> None:
    lock = project.folder / "requirements" / "runtime.txt"
    lock.write_text(lock.read_text(encoding="utf-8") + "\n# a linter has a new version\n", encoding="utf-8")
    said = project.repro("--dry")
    running = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
    assert running == {"export"}
    lock.write_text(lock.read_text(encoding="utf-8").replace("\nonnx==", "\nonnx==0."), encoding="utf-8")
    done = project.run("dvc", "repro", "export")
    assert done.returncode != 0
    assert "requirements/runtime.txt states another version; run `make setup`" in done.stdout + done.stderr
