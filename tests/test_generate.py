"""`python -m workflow.generate` in a process that cannot import TensorFlow."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import Project
from PIL import Image

from workflow import generate

BARRED = "import sys; sys.modules.update(tensorflow=None, keras=None); from workflow.generate import main; "


def run(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-c", f"{BARRED} sys.exit(main({json.dumps(arguments)}))")


@pytest.fixture(scope="module")
def handed_over(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with the code and the exported networks, and nothing else of the finished project."""
    folder = tmp_path_factory.mktemp("generate") / "handed over"
    for part in ("pipeline", "vae", "workflow", "data/export"):
        finished.run("mkdir", "-p", str((folder / part).parent))
        assert finished.run("cp", "-r", part, str(folder / part)).returncode == 0
    return Project(folder)


def test_a_seed_gives_its_garments(handed_over: Project) -> None:
    contents = []
    for name, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        done = run(handed_over, "samples", "--count", "5", "--seed", seed, "--output", name)
        assert done.returncode == 0, done.stderr
        contents.append((handed_over.folder / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_the_sheet_shows_the_draws_in_their_order(handed_over: Project) -> None:
    assert run(handed_over, "samples", "--count", "5", "--binary", "--output", "sheet.png").returncode == 0
    sheet = np.asarray(Image.open(handed_over.folder / "sheet.png"))
    drawn = generate.samples(generate.load(handed_over.folder / "data" / "export"), 5, 0, binary=True)
    assert set(np.unique(sheet)) <= {0, 255}
    assert sheet.shape == (2 * 30 + 2, 3 * 30 + 2)
    for number, image in enumerate(drawn):
        top, left = 2 + 30 * (number // 3), 2 + 30 * (number % 3)
        assert (sheet[top : top + 28, left : left + 28] == image * 255).all()


def test_draws_have_the_probabilities_that_are_shown(handed_over: Project) -> None:
    vae = generate.load(handed_over.folder / "data" / "export")
    latent = vae.from_noise(
        np.tile(np.random.default_rng(0).standard_normal((1, vae.latent_dim), np.float32), (4000, 1))
    )
    drawn = vae.draw(latent, np.random.default_rng(1).random((4000, 28, 28), np.float32))
    shown = vae.decode(latent[:1])[0]
    if not vae.autoregressive:
        assert np.abs(drawn.mean(axis=0) - shown).max() < 5 * 0.5 / np.sqrt(4000)


def test_images_are_reconstructed_under_their_names(handed_over: Project) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[5:20, 8:20] = 200
    Image.fromarray(image).save(handed_over.folder / "bag.png")
    Image.fromarray(image[::-1]).save(handed_over.folder / "boot.bmp")
    done = run(handed_over, "reconstruct", "bag.png", "boot.bmp", "--output", "made")
    assert done.returncode == 0, done.stderr
    vae = generate.load(handed_over.folder / "data" / "export")
    for name, given in (("bag.png", image), ("boot.png", image[::-1])):
        mean, _ = vae.encode(given[None].astype(np.float32) / 255)
        expected = vae.decode(mean)[0] * 255
        assert np.abs(np.asarray(Image.open(handed_over.folder / "made" / name)) - expected).max() < 0.6
    assert len(list((handed_over.folder / "made").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("samples", "--count", "0", "--output", "x.png"), "'0' should be a whole number from 1 to 10000"),
        (("samples", "--seed", "-1", "--output", "x.png"), "'-1' should be a whole number"),
        (("--networks", "nowhere", "samples", "--output", "x.png"), "nowhere is missing"),
        (("reconstruct", "wide.png", "--output", "x"), "wide.png is 30 x 28 of mode L; expected 28 x 28"),
        (("reconstruct", "colour.png", "--output", "x"), "colour.png is 28 x 28 of mode RGB; expected 28 x 28"),
        (("reconstruct", "text.png", "--output", "x"), "text.png is not readable as an image"),
        (("reconstruct", "none.png", "--output", "x"), "none.png is not readable as an image"),
        (("reconstruct", "ok.png", "ok.bmp", "--output", "x"), "more than one image would be written as ok.png"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(handed_over: Project, arguments: tuple[str, ...], named: str) -> None:
    Image.new("L", (30, 28)).save(handed_over.folder / "wide.png")
    Image.new("RGB", (28, 28)).save(handed_over.folder / "colour.png")
    for name in ("ok.png", "ok.bmp"):
        Image.new("L", (28, 28)).save(handed_over.folder / name)
    (handed_over.folder / "text.png").write_text("no image", encoding="utf-8")
    done = run(handed_over, *arguments)
    assert done.returncode != 0
    assert named in done.stderr
    assert not [path for path in handed_over.folder.iterdir() if path.name.startswith(("x", ".x"))]


def test_networks_that_are_not_those_exported_are_refused(finished: Project, tmp_path: Path) -> None:
    project = finished.copy_to(tmp_path / "spoilt")
    file = project.folder / "data" / "export" / "decoder.onnx"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)
    done = run(project, "samples", "--output", "x.png")
    assert done.returncode == 1
    assert "decoder.onnx" in done.stderr
