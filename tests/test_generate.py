"""`python -m workflow.generate`, which needs no TensorFlow."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from test_export import drawn as model
from test_export import images
from test_images import vast

from pipeline.errors import StageError
from pipeline.files import write_manifest
from vae.evaluation import Evaluator
from vae.mean_image import MeanImages
from vae.model import VAE
from vae.onnx_format import OPSET, to_bytes, to_onnx
from workflow import generate
from workflow.command import end

#: Prints the installed packages that a process has loaded after drawing and reconstructing.
LOADED = """
import sys
from pathlib import Path
from workflow.generate import main
for arguments in (["samples", "--count", "1", "--output", "one.png"],
                  ["samples", "--count", "1", "--folder", "one"],
                  ["reconstruct", "one/0000.png", "--output", "again"]):
    assert main(arguments) == 0
files = [Path(module.__file__).parts for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
installed = {parts[parts.index("site-packages") + 1] for parts in files if "site-packages" in parts}
print("LOADED", *sorted(name for name in installed if not name.startswith("_")))
"""


def run(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "workflow.generate", *arguments)


@pytest.fixture(scope="module")
def handed_over(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with the code and the exported networks, and nothing else of the finished project."""
    folder = tmp_path_factory.mktemp("generate") / "handed over"
    for part in ("pipeline", "vae", "workflow", "data/export"):
        shutil.copytree(finished.folder / part, folder / part)
    return Project(folder)


@pytest.fixture(scope="module")
def whole() -> VAE:
    """A small model of all that the default has: a learned prior and autoregressive pixels."""
    return model("whole")


@pytest.fixture(scope="module")
def of_whole(whole: VAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds that model as `data/export`, and nothing else."""
    folder = tmp_path_factory.mktemp("whole")
    networks = folder / "data" / "export"
    networks.mkdir(parents=True)
    for name, network in to_onnx(whole, 0).items():
        (networks / f"{name}.onnx").write_bytes(to_bytes(network))
    write_manifest(networks)
    return folder


def test_onnx_runtime_numpy_and_pillow_are_enough_and_tell_nobody(handed_over: Project, tmp_path: Path) -> None:
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))  # telemetry would leave its files there
    of_ci = dict.fromkeys(("CI", "GITHUB_ACTIONS"), "")  # where it is silent
    done = handed_over.run(sys.executable, "-c", LOADED, env=places | of_ci)  # no fork, which has loaded them all
    assert list(tmp_path.iterdir()) == []
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED PIL numpy onnxruntime"
    assert done.stderr == ""


def test_a_seed_gives_its_images(handed_over: Project) -> None:
    contents = []
    for name, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        done = run(handed_over, "samples", "--count", "5", "--seed", seed, "--output", name)
        assert done.returncode == 0, done.stderr
        contents.append((handed_over.folder / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_seeds_draw_what_the_stages_draw_of_them_whatever_the_batch(
    whole: VAE, of_whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "_BATCH", 7)
    exported, evaluator = generate.load(of_whole / "data" / "export"), Evaluator(whole, 100)
    generator = np.random.default_rng(6)
    noise = generator.standard_normal((30, whole.latent_dim), np.float32)
    uniform = generator.random((30, 28, 28), np.float32)
    means = MeanImages(whole)
    differences = generate.samples(exported, 30, 6) - means.decode(whole.from_noise(noise).numpy())
    assert np.quantile(np.abs(differences), 0.9) < 1e-5  # others follow a draw within rounding of its probability
    assert np.abs(differences).max() < 0.02
    differing = generate.samples(exported, 30, 6, binary=True) != evaluator.draws(noise, uniform)
    assert differing.mean() < 1e-3  # where a probability is within rounding of the draw
    differences = generate.reconstructions(exported, images(30)) - means.decode(evaluator.encode(images(30)).mean)
    assert np.quantile(np.abs(differences), 0.9) < 1e-5
    assert np.abs(differences).max() < 0.02


def test_draws_are_shown_in_their_order_on_a_sheet_or_as_files(handed_over: Project) -> None:
    for place in (("--output", "sheet.png"), ("--export", "data/export", "--folder", "single")):
        done = run(handed_over, "samples", "--count", "5", "--binary", *place)
        assert done.returncode == 0, done.stderr
    sheet = np.asarray(Image.open(handed_over.folder / "sheet.png"))
    drawn = generate.samples(generate.load(handed_over.folder / "data" / "export"), 5, 0, binary=True) * 255
    assert set(np.unique(sheet)) <= {0, 255}
    assert sheet.shape == (2 * 30 + 2, 3 * 30 + 2)
    files = sorted((handed_over.folder / "single").iterdir())
    assert [file.name for file in files] == ["0000.png", "0001.png", "0002.png", "0003.png", "0004.png"]
    for number, image in enumerate(drawn):
        top, left = 2 + 30 * (number // 3), 2 + 30 * (number % 3)
        assert (sheet[top : top + 28, left : left + 28] == image).all()
        assert (np.asarray(Image.open(files[number])) == image).all()


def test_draws_have_the_probabilities_that_are_shown(handed_over: Project) -> None:
    vae = generate.load(handed_over.folder / "data" / "export")
    assert not vae.autoregressive  # whose probabilities are exact
    latent = vae.from_noise(
        np.tile(np.random.default_rng(0).standard_normal((1, vae.latent_dim), np.float32), (4000, 1))
    )
    drawn = vae.draw(latent, np.random.default_rng(1).random((4000, 28, 28), np.float32))
    shown = vae.decode(latent[:1])[0]
    assert np.abs(drawn.mean(axis=0) - shown).max() < 5 * 0.5 / np.sqrt(4000)


def test_images_are_reconstructed_under_their_names_beside_what_is_there(handed_over: Project) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[5:20, 8:20] = 200
    Image.fromarray(image).save(handed_over.folder / "bag.png")
    Image.fromarray(image[::-1]).save(handed_over.folder / "boot.bmp")
    made = handed_over.folder / "made"
    made.mkdir()
    (made / "notes.txt").write_text("mine", encoding="utf-8")
    done = run(handed_over, "reconstruct", "bag.png", "boot.bmp", "--output", "made")
    assert done.returncode == 0, done.stderr
    vae = generate.load(handed_over.folder / "data" / "export")
    for name, given in (("bag.png", image), ("boot.png", image[::-1])):
        mean, _ = vae.encode(given[None].astype(np.float32) / 255)
        expected = vae.decode(mean)[0] * 255
        assert np.abs(np.asarray(Image.open(made / name)) - expected).max() < 0.6
    assert sorted(file.name for file in made.iterdir()) == ["bag.png", "boot.png", "notes.txt"]
    assert (made / "notes.txt").read_text(encoding="utf-8") == "mine"


def exported(folder: Path, rows: int, columns: int, border_gray: str | None) -> None:
    """Writes networks of two latents for images of a shape: their mean, and its square; each pixel has the first's."""
    pixels = rows * columns
    of = {
        "encoder": ([("image", [rows, columns])], ["mean", "log_var"], [
            helper.make_node("Reshape", ["image", "row"], ["flat"]),
            helper.make_node("MatMul", ["flat", "share"], ["mean"]),
            helper.make_node("Mul", ["mean", "mean"], ["log_var"]),
        ]),
        "decoder": ([("latent", [2])], ["logits"], [
            helper.make_node("MatMul", ["latent", "spread"], ["wide"]),
            helper.make_node("Reshape", ["wide", "shape"], ["logits"]),
        ]),
        "mean_image": ([("latent", [2])], ["image"], [
            helper.make_node("MatMul", ["latent", "spread"], ["wide"]),
            helper.make_node("Reshape", ["wide", "shape"], ["image"]),
        ]),
    }  # fmt: skip
    constants = {
        "row": np.array([-1, pixels]),
        "shape": np.array([-1, rows, columns]),
        "share": np.full((pixels, 2), 1 / pixels, np.float32),
        "spread": np.repeat(np.array([[1], [0]], np.float32), pixels, axis=1),
    }
    shapes = {"mean": [2], "log_var": [2], "logits": [rows, columns], "image": [rows, columns], "latent": [2]}
    folder.mkdir(parents=True)
    for name, (inputs, outputs, nodes) in of.items():
        used = {value for node in nodes for value in node.input} & constants.keys()
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", *shape]) for value, shape in inputs],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", *shapes[value]]) for value in outputs],
            [numpy_helper.from_array(constants[value], value) for value in sorted(used)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        if name == "encoder" and border_gray is not None:
            helper.set_model_props(model, {"border_gray": border_gray})
        (folder / f"{name}.onnx").write_bytes(to_bytes(model))
    write_manifest(folder)


def reconstructed(*arguments: str) -> tuple[int, ...]:
    """The gray of each of the reconstructions that a command writes, which have one each."""
    assert generate.main(["reconstruct", *arguments, "--output", "made"]) == 0
    return tuple(int(np.unique(np.asarray(Image.open(path))).item()) for path in sorted(Path("made").iterdir()))


def test_images_of_any_size_and_colours_are_converted_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exported(Path("data/export"), 8, 8, "0.0")
    Image.new("RGB", (640, 320), (100, 100, 100)).save("boot.png")
    assert reconstructed("boot.png") == (50,)  # padded with as much black
    assert capsys.readouterr().out.splitlines()[0] == "boot.png: gray from RGB, padded from 640 x 320"
    assert reconstructed("boot.png", "--fit", "crop") == (100,)
    assert capsys.readouterr().out.splitlines()[0] == "boot.png: gray from RGB, cropped from 640 x 320"
    assert reconstructed("boot.png", "--background", "200") == (150,)
    assert reconstructed("boot.png", "--fit", "crop", "--invert") == (155,)
    Image.new("L", (8, 8), 9).save("plain.png")
    assert capsys.readouterr().err == ""
    Path("made/boot.png").unlink()
    assert reconstructed("plain.png") == (9,)
    assert capsys.readouterr().out == "generate: wrote made\n"
    assert generate.samples(generate.load(Path("data/export")), 3, 0, binary=True).shape == (3, 8, 8)


@pytest.mark.parametrize(("border_gray", "warned"), [("0.0", True), (None, True), ("1.0", False), ("0.5", False)])
def test_an_image_that_looks_inverted_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    border_gray: str | None, warned: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    exported(Path("data/export"), 8, 8, border_gray)
    Image.new("L", (40, 20), 250).save("photo.png")  # whose padding is black
    reconstructed("photo.png")
    said = "generate: photo.png looks inverted beside the model's data: try it with --invert\n"
    assert capsys.readouterr().err == (said if warned else "")
    reconstructed("photo.png", "--invert")
    assert ("without --invert" in capsys.readouterr().err) == (border_gray == "1.0")


def test_images_that_are_no_squares_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exported(Path("data/export"), 4, 12, "0.0")
    Image.new("L", (12, 4), 30).save("low.png")
    assert reconstructed("low.png") == (30,)
    assert np.asarray(Image.open("made/low.png")).shape == (4, 12)
    assert reconstructed("low.png", "--invert") == (225,)
    Image.new("L", (4, 12), 30).save("high.png")
    with pytest.raises(StageError, match=r"high\.png cannot be taken: expected 12 x 4 of mode L"):
        reconstructed("high.png")


REFUSED = [
    (("samples", "--count", "0", "--output", "x.png"), "'0' should be a whole number from 1 to 10000"),
    (("samples", "--seed", "-1", "--output", "x.png"), "'-1' should be a whole number"),
    (("samples", "--output", "x.jpg"), "'x.jpg' should end in .png"),
    (("samples",), "one of the arguments --output --folder is required"),
    (("samples", "--export", "nowhere", "--output", "x.png"), "nowhere has no encoder.onnx and no decoder.onnx"),
    (("samples", "--export", "vae", "--output", "x.png"), "vae has no encoder.onnx and no decoder.onnx"),
    (("samples", "--output", "folder.png"), "folder.png is a folder"),
    (("samples", "--output", "ok.png/x.png"), "ok.png/x.png cannot be written: there is no folder ok.png"),
    (("reconstruct", "text.png", "--output", "x"), "text.png cannot be taken: it is no image of the formats PNG"),
    (("reconstruct", "none.png", "--output", "x"), "generate: none.png does not exist; expected an image"),
    (("reconstruct", "vast.png", "--output", "x"), "vast.png cannot be taken: it is too large"),
    (("reconstruct", "ok.png", "cut.png", "--output", "x"), "cut.png cannot be taken: it is no image"),
    (("reconstruct", "ok.png", "--output", "x", "--background", "256"), "'256' should be a whole number from 0 to 255"),
    (("reconstruct", "ok.png", "--output", "x", "--fit", "stretch"), "invalid choice: 'stretch'"),
    (("reconstruct", "ok.png", "ok.bmp", "--output", "x"), "more than one image would be written as ok.png"),
    (("reconstruct", "ok.png", "--output", "."), "ok.png would be replaced by a reconstruction"),
]


@pytest.mark.parametrize(("arguments", "named"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_what_cannot_be_done_is_refused_by_name(
    handed_over: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], named: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(handed_over.folder)
    for name in ("ok.png", "ok.bmp"):
        Image.new("L", (28, 28)).save(name)
    content = Path("ok.png").read_bytes()
    Path("cut.png").write_bytes(content[: len(content) // 2])
    Path("vast.png").write_bytes(vast())
    Path("text.png").write_text("no image", encoding="utf-8")
    Path("folder.png").mkdir(exist_ok=True)
    before = {path: path.read_bytes() for path in handed_over.folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        end("generate", lambda: generate.main(arguments))
    assert ended.value.code not in (0, None)
    assert named in capsys.readouterr().err
    assert {path: path.read_bytes() for path in handed_over.folder.rglob("*") if path.is_file()} == before


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


def test_the_lines_of_the_page_draw_the_same_as_the_command(of_whole: Path) -> None:
    page = (ROOT / "docs" / "handoff.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert len(lines.strip().splitlines()) <= 15
    script = f"{lines}\nnp.savez('drawn.npz', image=image, mean=mean)"
    subprocess.run([sys.executable, "-c", script], cwd=of_whole, check=True)
    exported = generate.load(of_whole / "data" / "export")
    with np.load(of_whole / "drawn.npz") as found:
        np.testing.assert_allclose(found["image"], generate.samples(exported, 3, 0), atol=1e-6)
        np.testing.assert_allclose(found["mean"], exported.encode(found["image"])[0], atol=1e-5)
