"""What the latent explorer shows, against brute force and the finished project's own images."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import ROOT, Project, slice_arrays
from PIL import Image

from pipeline.files import load_arrays, save_arrays
from pipeline.weights import save_weights
from vae.explorer import MEAN_STEP, extent, in_steps, sprite, stratified_choice
from vae.latent_space import Plane
from vae.model import VAE, build_vae
from vae.near_images import points_near_images

#: Runs the stage on a model whose latents are more than a plane.
RUN = """
import json, sys
from pathlib import Path
from pipeline.params.explore import Explore
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from stages.explore import run
model, explore, threads = json.loads(sys.argv[1])
data, weights, folder = map(Path, sys.argv[2:])
run(Model(**model), Explore(**explore), Threads(**threads), data, weights, folder)
"""

MODEL: dict[str, Any] = {
    "architecture": "textbook",
    "latent_dim": 5,
    "widths": [4, 8, 8],
    "autoregressive_units": 0,
    "prior": "standard_normal",
    "prior_widths": [],
    "jit_compile": False,
}
EXPLORE = {"seed": 8, "images": 60, "grid_side": 4}
THREADS = {"intra_op": 2, "inter_op": 1, "op_determinism": True}


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VAE]:
    """The stage's folder beside another process', and the model: random weights that tell images apart."""
    folder = tmp_path_factory.mktemp("explore")
    arrays = slice_arrays()
    images = (arrays["train_images"] / np.float32(255)).astype(np.float32)
    names = np.array([f"class {label}" for label in range(10)])
    save_arrays(folder / "data", {"images": images, "labels": arrays["train_labels"], "class_names": names})
    keras.utils.set_random_seed(0)
    vae = build_vae(MODEL["architecture"], MODEL["latent_dim"], MODEL["widths"], (28, 28))
    for variable in vae.encoder.get_layer("mean").trainable_variables:
        variable.assign(variable * 30)
    for variable in vae.decoder.trainable_variables:
        variable.assign(variable * 3)
    save_weights(vae, folder / "weights")
    for python, name in (("python", "once"), (sys.executable, "again")):  # a fork, and a process of its own hash seed
        command = (python, "-c", RUN, json.dumps([MODEL, EXPLORE, THREADS]))
        done = Project(ROOT).run(*command, *(str(folder / part) for part in ("data", "weights", name)))
        assert done.returncode == 0, done.stderr
    return folder, vae


def test_two_processes_write_the_same_bytes(explored: tuple[Path, VAE]) -> None:
    folder, _ = explored
    written = [{path.name: path.read_bytes() for path in (folder / name).iterdir()} for name in ("once", "again")]
    assert written[0] == written[1]
    assert written[0].keys() == {"grid.png", "images.png", "latents.json"}


def test_the_plane_is_that_of_the_leading_singular_vectors(explored: tuple[Path, VAE]) -> None:
    """The aggregate posterior's deviations are the singular values of its means and of each latent's own deviation."""
    folder, vae = explored
    found = json.loads((folder / "once" / "latents.json").read_text(encoding="utf-8"))
    mean, log_var = (np.asarray(part, np.float64) for part in vae.encoder(load_arrays(folder / "data")["images"]))
    centred = (mean - mean.mean(axis=0)) / np.sqrt(len(mean))
    _, values, vectors = np.linalg.svd(np.vstack([centred, np.diag(np.sqrt(np.exp(log_var).mean(axis=0)))]))
    assert found["origin"] == pytest.approx(mean.mean(axis=0), abs=1e-4)
    assert found["explained"] == pytest.approx(np.square(values[:2]).sum() / np.square(values).sum(), abs=1e-4)
    assert found["explained"] < 0.99
    for axis, value, vector in zip(np.array(found["axes"]), values, vectors, strict=False):
        assert np.linalg.norm(axis) == pytest.approx(value, rel=1e-4)
        assert abs(axis @ vector) == pytest.approx(value, rel=1e-4)


def test_the_grid_holds_what_the_decoder_makes_of_its_points(explored: tuple[Path, VAE]) -> None:
    folder, vae = explored
    found = json.loads((folder / "once" / "latents.json").read_text(encoding="utf-8"))
    picture = np.asarray(Image.open(folder / "once" / "grid.png")).astype(int)
    side, extent = EXPLORE["grid_side"], found["extent"]
    assert picture.std() > 1
    steps = np.frombuffer(base64.b64decode(found["grid_int16"]), "<i2").reshape(side * side, MODEL["latent_dim"])
    means = np.asarray(vae.encoder(load_arrays(folder / "data")["images"])[0])
    plane = Plane(np.array(found["origin"]), np.array(found["axes"]), found["explained"])
    for row in range(side):
        for column in range(side):
            x, y = ((2 * number / (side - 1) - 1) * extent for number in (column, side - 1 - row))
            latent = points_near_images(plane, np.array([[x, y]]), means)
            assert np.abs(steps[side * row + column] * found["mean_step"] - latent).max() <= 0.6 * found["mean_step"]
            decoded = 1 / (1 + np.exp(-np.asarray(vae.decoder(latent))[0]))
            shown = picture[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
            assert np.abs(shown - decoded * 255).max() <= 1


def test_as_many_images_of_each_class_are_chosen_by_the_seed() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 3000)
    chosen = stratified_choice(labels, 500, np.random.default_rng(1))
    assert (np.bincount(labels[chosen]) == 50).all()
    assert (np.diff(chosen) > 0).all()
    assert (chosen == stratified_choice(labels, 500, np.random.default_rng(1))).all()
    assert (chosen != stratified_choice(labels, 500, np.random.default_rng(2))).any()


@pytest.mark.parametrize("count", [15, 60])
def test_a_choice_that_cannot_be_even_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"images = {count}: it should be a multiple of 10, the classes, up to 50"):
        stratified_choice(np.repeat(np.arange(10), 5), count, np.random.default_rng(0))


def test_nearly_all_positions_lie_in_the_square() -> None:
    positions = np.random.default_rng(0).standard_normal((5000, 2)) * [1, 4]
    half_side = extent(positions)
    outside = (np.abs(positions) > half_side).mean(axis=0)
    assert outside[0] == 0
    assert 0.005 < outside[1] <= 0.01
    assert extent(positions / 100) == 2.5


@pytest.mark.parametrize(("count", "columns"), [(6, 3), (7, 3), (1, 1), (2, 5), (9, 1)])
def test_a_sprite_is_that_of_a_loop(count: int, columns: int) -> None:
    images = np.random.default_rng(0).integers(1, 256, (count, 4, 5)).astype(np.uint8)
    rows = -(-count // columns)
    expected = np.zeros((rows * 4, columns * 5), np.uint8)  # blank where an image is missing
    for number in range(count):
        row, column = divmod(number, columns)
        expected[row * 4 : row * 4 + 4, column * 5 : column * 5 + 5] = images[number]
    made = sprite(images, columns)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, expected)


def test_means_are_kept_to_half_a_step() -> None:
    means = np.random.default_rng(0).standard_normal(1000) * 5
    assert np.abs(in_steps(means) * MEAN_STEP - means).max() <= MEAN_STEP / 2
    assert in_steps(np.array([1e9, -1e9])).tolist() == [2**15 - 1, -(2**15)]


def test_the_stage_writes_the_real_images_their_places_and_means(finished: Project) -> None:
    folder = finished.folder / "metrics" / "explorer"
    found = json.loads((folder / "latents.json").read_text(encoding="utf-8"))
    validation = load_arrays(finished.folder / "data" / "prepared" / "validation")
    index, latents = found["index"], len(found["origin"])
    assert found["label"] == validation["labels"][index].tolist()
    assert np.bincount(found["label"]).tolist() == [5] * 10
    picture = np.asarray(Image.open(folder / "images.png"))
    expected = np.round(validation["images"][index] * 255).astype(np.uint8)
    for number, image in enumerate(expected):
        row, column = divmod(number, found["columns"])
        assert (picture[28 * row : 28 * row + 28, 28 * column : 28 * column + 28] == image).all()
    means = np.frombuffer(base64.b64decode(found["mean_int16"]), "<i2").reshape(-1, latents) * found["mean_step"]
    axes = np.array(found["axes"])
    places, *_ = np.linalg.lstsq(axes.T, (means - found["origin"]).T, rcond=None)
    assert np.abs(places.T - np.reshape(found["position"], (-1, 2))).max() < 0.02
    assert Image.open(folder / "grid.png").size == (3 * 28, 3 * 28)


@pytest.mark.whole
def test_only_what_shows_it_runs_again_with_another_choice(project: Project) -> None:
    before = {p.name: p.read_bytes() for p in (project.folder / "metrics" / "explorer").iterdir()}
    project.set_params({"explore": {"seed": 9}})
    said = project.repro("--dry")
    assert {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")} == {
        "check",
        "explore",
    }
    project.repro("explore")
    after = {p.name: p.read_bytes() for p in (project.folder / "metrics" / "explorer").iterdir()}
    assert after["grid.png"] == before["grid.png"]
    assert after["images.png"] != before["images.png"]
    project.set_params({"explore": {"seed": 8}})
    project.repro("explore")
    assert before == {p.name: p.read_bytes() for p in (project.folder / "metrics" / "explorer").iterdir()}
