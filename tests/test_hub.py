"""The folder for a hub, read as a stranger's programs read it: the hub's own library, safetensors, model_signing."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import ROOT, Project
from onnx import TensorProto, helper
from PIL import Image
from safetensors.numpy import load_file

from pipeline.errors import StageError
from vae.onnx_runtime import ExportedVAE
from workflow.history.revisions import WORKSPACE, Revision, resolve
from workflow.release.hub import signer_of, write_hub

KEY = ("openssl", "genpkey", "-algorithm")


def keys(folder: Path, name: str) -> Path:
    """Makes a pair of keys, NAME.pem and NAME.pub, as the message of `signer_of` says. Returns the private one."""
    private = folder / f"{name}.pem"
    subprocess.run([*KEY, "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", private.with_suffix(".pub")], check=True)
    return private


@pytest.fixture(scope="module")
def made(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed hub folder, key.pub, and other.pub of another key."""
    folder = tmp_path_factory.mktemp("made")
    keys(folder, "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished.folder)
        write_hub(folder / "hub", "1.2.3", resolve("HEAD"), signer_of(keys(folder, "key")))
    return folder


@pytest.fixture
def hub(made: Path, tmp_path: Path) -> Path:
    """A downloaded copy, under another name, that a test may change."""
    return Path(shutil.copytree(made / "hub", tmp_path / "downloaded"))


def facts(card: str) -> Any:
    """The front matter of a card, as the hub's own library reads it."""
    from huggingface_hub import ModelCard  # takes a second

    return ModelCard(card).data


def test_the_hub_library_reads_the_card_with_metrics_and_errors(finished: Project, hub: Path) -> None:
    card = facts((hub / "README.md").read_text(encoding="utf-8"))
    assert card.license == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"].lower()
    assert (card.library_name, card.model_name) == ("onnx", "fashion-vae")
    assert card.datasets == ["zalando-datasets/fashion_mnist"]
    evaluation, samples = finished.json("metrics/evaluation.json"), finished.json("metrics/samples.json")
    binarised, gray, drawn = evaluation["test"]["binarised"], evaluation["test"]["gray"], samples["test"]["model"]
    expected = [
        ("nll_nats", binarised["nll_nats"], binarised["nll_nats_se"]),
        ("elbo_nats", binarised["elbo_nats"], binarised["elbo_nats_se"]),
        ("elbo_nats", gray["elbo_nats"], gray["elbo_nats_se"]),
        ("density", drawn["density"], drawn["density_se"]),
        ("coverage", drawn["coverage"], drawn["coverage_se"]),
    ]
    found = card.eval_results
    assert [(one.metric_type, one.metric_value, one.metric_args["standard_error"]) for one in found] == expected
    title = finished.json("metrics/data.json")["title"]
    assert {(one.task_type, one.dataset_name, one.dataset_split) for one in found} == {
        ("unconditional-image-generation", title, "test")
    }


def test_the_hub_library_refuses_a_card_without_a_value(hub: Path) -> None:
    text = (hub / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Invalid `model_index` in metadata"):
        facts(text.replace("  value: ", "  worth: ", 1))


def test_the_card_of_gray_images_of_ones_own(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, change in (
        ("data", lambda found: found.update(name="folder", title="Images: of a folder")),
        ("evaluation", lambda found: found["test"].pop("binarised")),
    ):
        content = project.json(f"metrics/{name}.json")
        change(content)
        (project.folder / f"metrics/{name}.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.chdir(project.folder)
    write_hub(tmp_path / "hub", "1.2.3", Revision(WORKSPACE, None), None)
    text = (tmp_path / "hub/README.md").read_text(encoding="utf-8")
    card = facts(text)
    assert card.datasets is None
    assert {(one.dataset_type, one.dataset_name) for one in card.eval_results} == {("folder", "Images: of a folder")}
    assert [one.metric_type for one in card.eval_results] == ["elbo_nats", "density", "coverage"]
    assert "model.sig" not in {path.name for path in (tmp_path / "hub").iterdir()}
    assert "model_signing" not in text


def test_the_weights_are_those_of_the_h5_files(finished: Project, hub: Path) -> None:
    found, size = load_file(hub / "model.safetensors"), 0
    for path in (finished.folder / "data/model").glob("*.h5"):
        network = path.name.partition(".")[0]
        with h5py.File(path) as file:
            for name in [name for name in found if name.startswith(f"{network}/")]:
                array, expected = found.pop(name), file[name.removeprefix(f"{network}/")]
                assert array.dtype == expected.dtype == np.float32
                np.testing.assert_array_equal(array, expected)
                size += array.size
    assert not found
    assert size == finished.json("metrics/train.json")["parameters"]


def test_the_sums_prove_every_file(hub: Path) -> None:
    lines = (hub / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    stated = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in hub.iterdir()}
    assert stated == {name: digest for name, digest in files.items() if name not in ("SHA256SUMS", "model.sig")}
    assert {"LICENSE", "README.md", "config.json", "encoder.onnx", "model.safetensors", "samples.png"} <= set(stated)


def networks(hub: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in hub.glob("*.onnx")}


def doubling(latent_dim: int) -> bytes:
    """A prior whose latents are the doubled noise."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, latent_dim]) for name in ("noise", "latent")]
    graph = helper.make_graph([helper.make_node("Add", ["noise", "noise"], ["latent"])], "prior", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("learned", [True, False], ids=["learned prior", "standard normal"])
def test_the_example_draws_what_the_model_draws(hub: Path, tmp_path: Path, learned: bool) -> None:
    if learned:
        (hub / "prior.onnx").write_bytes(doubling(ExportedVAE.load(networks(hub)).latent_dim))
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    subprocess.run([sys.executable, "-I", hub / "example.py"], cwd=cwd, check=True)
    vae = ExportedVAE.load(networks(hub))
    noise = np.random.default_rng(0).standard_normal((10, vae.latent_dim), np.float32)
    expected = np.hstack(list(vae.decode(noise * 2 if learned else noise))) * 255
    drawn = np.asarray(Image.open(cwd / "drawn.png"), np.float32)
    assert drawn.shape == expected.shape
    # A draw of a mean image that lies within rounding of its probability falls on either side.
    assert np.mean(np.abs(drawn - expected) < 0.51) > 0.99


def verify(hub: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """The command of the card, run where the card lies."""
    card = (hub / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in card.splitlines() if line.startswith("model_signing verify"))
    program, *arguments = line.replace("key.pub", str(key)).split()
    command = [str(Path(sys.executable).parent / program), *arguments]
    return subprocess.run(command, cwd=hub, capture_output=True, text=True, check=False)


def flip_a_byte(hub: Path) -> None:
    content = bytearray((hub / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (hub / "model.safetensors").write_bytes(content)


def test_a_stranger_proves_the_signature_and_sees_a_flipped_byte(made: Path, hub: Path) -> None:
    (hub / ".cache").mkdir()  # as the hub's program leaves it
    (hub / ".cache/x").touch()
    done = verify(hub, made / "key.pub")
    assert done.returncode == 0, done.stderr
    flip_a_byte(hub)
    done = verify(hub, made / "key.pub")
    assert done.returncode != 0
    assert "Hash mismatch for 'model.safetensors'" in done.stderr


@pytest.mark.whole
@pytest.mark.parametrize(
    ("key", "damage", "words"),
    [
        ("key", lambda hub: (hub / "more.py").touch(), "Extra files"),
        ("key", lambda hub: (hub / "decoder.onnx").unlink(), "Missing files"),
        ("other", lambda _: None, "Verification failed"),
    ],
)
def test_a_stranger_refuses(made: Path, hub: Path, key: str, damage: Callable[[Path], object], words: str) -> None:
    damage(hub)
    done = verify(hub, made / f"{key}.pub")
    assert done.returncode != 0
    assert words in done.stderr


def test_what_is_no_key_for_models_is_refused(tmp_path: Path) -> None:
    subprocess.run([*KEY, "ed25519", "-out", tmp_path / "ed25519.pem"], check=True)
    (tmp_path / "no.pem").write_text("none", encoding="utf-8")
    for name in ("ed25519.pem", "no.pem", "absent.pem"):
        with pytest.raises(StageError, match=rf"{name}' holds no private key that signs models .* expected one of an"):
            signer_of(tmp_path / name)
