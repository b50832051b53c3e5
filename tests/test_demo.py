"""The demo in a real browser without a network, held against ONNX Runtime in this process and numpy."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import test_report_browser as report
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from test_export import drawn

from pipeline.errors import StageError
from pipeline.files import sha256_file, write_json, write_manifest
from pipeline.images import Conversion, to_square
from vae.onnx_format import to_bytes, to_onnx
from vae.onnx_runtime import ExportedVAE
from workflow.demo import __main__ as demo
from workflow.generate import load
from workflow.history.revisions import Revision

browser = report.browser

#: Calls a function of the page's model with arrays of float32, and returns what it gave, arrays as lists.
CALL = """async ([name, ...arrays]) => {
  const model = await import("./model.js");
  const plain = (given) => ArrayBuffer.isView(given) ? [...given] : given;
  const found = await model[name](...arrays.map((array) => Float32Array.from(array)));
  return found.loss === undefined ? plain(found) : { ...found, mean: plain(found.mean) };
}"""

#: Lets the next so many random numbers be such that the noise made of them lies beyond the sliders.
FAR_OUT = """(left) => {
  const random = Math.random;
  Math.random = () => (left-- > 0 ? 0.9999 : random());
}"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime for browsers, as `make demo` kept it or as npm brings it."""
    kept = Path(sys.prefix) / demo.ARCHIVE
    if kept.is_file():
        return kept
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "pack", "--silent", f"onnxruntime-web@{demo.VERSION}"]
    if not shutil.which("npm") or subprocess.run(command, cwd=folder, capture_output=True).returncode:
        pytest.skip(f"no {kept}, and npm cannot bring it: make demo")
    return folder / demo.ARCHIVE


def project(folder: Path, name: str) -> Revision:
    """A project with an exported model of random weights and six images of two classes, each of one gray."""
    export = folder / "data" / "export"
    export.mkdir(parents=True)
    for network, model in to_onnx(drawn(name), 0.0).items():
        (export / f"{network}.onnx").write_bytes(to_bytes(model))
    facts = {file.stem: {"sha256": sha256_file(file)} for file in export.iterdir()}
    write_manifest(export)
    explorer = folder / "metrics" / "explorer"
    explorer.mkdir(parents=True)
    write_json(explorer.parent / "export.json", {"files": facts})
    write_json(explorer / "latents.json", {"columns": 3, "label": [1, 0, 1, 1, 0, 0], "classes": ["hat <b>", "sock"]})
    Image.fromarray(np.kron([[10, 20, 30], [40, 50, 60]], np.ones((28, 28))).astype(np.uint8)).save(
        explorer / "images.png"
    )
    told = {"name": "hats", "title": "Hats and socks", "licence": "MIT", "citation": "A. Hatter", "sha256": {}}
    write_json(explorer.parent / "data.json", told)
    (folder / "params.yaml").write_text("preprocess: {binarisation: drawn}\n", encoding="utf-8")
    return Revision("workspace", None, folder)


@pytest.fixture(scope="module", params=["whole", pytest.param("textbook", marks=pytest.mark.whole)])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, archive: Path) -> tuple[str, Path]:
    """What model it is of, and the folder of a project with its demo."""
    folder = tmp_path_factory.mktemp("demo")
    demo.build(project(folder, request.param), folder / "data" / "export", demo.runtime(archive), folder / "demo")
    return request.param, folder


@pytest.fixture
def vae(built: tuple[str, Path]) -> ExportedVAE:
    return load(built[1] / "data" / "export")


@pytest.fixture(scope="module")
def page(browser: Browser, built: tuple[str, Path]) -> Iterator[Page]:
    """The page, once it is loaded from its folder with the network off; fails on other requests and on any message."""
    served = partial(SilentHandler, directory=built[1] / "demo")
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        opened = context.new_page()
        said, asked = report.watched(opened)
        opened.goto(address)
        expect(opened.locator("body")).to_have_attribute("data-ready", "true", timeout=60_000)
        context.set_offline(True)
        server.shutdown()
        yield opened
        assert said == []
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
        context.close()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def called(page: Page, name: str, *arrays: NDArray[np.float32]) -> Any:
    return page.evaluate(CALL, [name, *(array.ravel().tolist() for array in arrays)])


def shown(page: Page, place: str) -> Callable[[], bytes]:
    """Reads what a canvas shows, as long as it is asked."""
    return lambda: report.pixels(page.locator(f"{place} canvas").first).tobytes()


def until_changed(page: Page, read: Callable[[], bytes], before: bytes) -> None:
    for _ in range(100):
        if read() != before:
            return
        page.wait_for_timeout(50)
    raise AssertionError("the image stays as it was")


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_equal_noise_gives_equal_probabilities_and_pixels(page: Page, vae: ExportedVAE) -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((9, vae.latent_dim), np.float32)
    uniform = generator.random((9, 28, 28), np.float32)
    latent = vae.from_noise(noise)
    np.testing.assert_allclose(called(page, "fromNoise", noise), latent.ravel(), atol=1e-5)
    expected = vae.draw(latent, uniform)
    ours = probabilities(vae.logits(latent, expected))
    theirs = probabilities(np.reshape(called(page, "logits", latent, expected), (9, 28, 28)))
    assert np.abs(ours - theirs).max() < 1e-5
    found = np.reshape(called(page, "draw", latent, uniform), (9, 28, 28))
    sure = (np.abs(uniform - ours) > 1e-5).all(axis=(1, 2))  # an earlier pixel would move those that follow it
    assert sure.sum() > 6
    assert (found[sure] == expected[sure]).all()
    assert 0.01 < found.mean() < 0.99
    means = np.abs(np.reshape(called(page, "meanImage", latent), (9, 28, 28)) - vae.decode(latent))
    assert np.quantile(means, 0.9) < 1e-5


def test_a_bound_is_that_of_its_definition(page: Page, built: tuple[str, Path], vae: ExportedVAE) -> None:
    generator = np.random.default_rng(1)
    image = np.round(generator.random((1, 28, 28), np.float32))
    noise = generator.standard_normal((4, vae.latent_dim), np.float32)
    mean, log_var = vae.encode(image)
    logits = vae.logits(mean + np.exp(log_var / 2) * noise, np.repeat(image, 4, axis=0)).astype(np.float64)
    losses = np.logaddexp(0, np.where(image == 1, -logits, logits)).sum(axis=(1, 2))
    log_q = -0.5 * (noise**2 + np.log(2 * np.pi) + log_var).sum(axis=1)
    kls = log_q - drawn(built[0]).log_prior(mean + np.exp(log_var / 2) * noise).numpy()
    found = called(page, "bound", image, noise)
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["kl"] == pytest.approx(kls.mean(), rel=1e-4)
    assert found["error"] == pytest.approx((losses + kls).std(ddof=1) / 2, rel=1e-3)


def test_keys_draw_move_and_interpolate(page: Page, vae: ExportedVAE) -> None:
    first, moved, between = (shown(page, place) for place in (".tiles", "#move", "#between"))
    before = first()
    assert moved() == before
    page.evaluate(FAR_OUT, 2 * 12 * vae.latent_dim)
    page.locator("#again").focus()
    page.keyboard.press("Enter")
    until_changed(page, first, before)
    until_changed(page, lambda: b"equal" if moved() == first() else b"", b"")
    means = (page.locator(place) for place in (".tiles button:first-child canvas:last-child", "#move .mean"))
    below, beside = (partial(report.pixels, mean) for mean in means)
    until_changed(page, lambda: b"equal" if below().any() and (below() == beside()).all() else b"", b"")
    page.locator("#between .way").focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('#between .way').value === '0'")
    until_changed(page, lambda: b"equal" if between() == first() else b"", b"")
    before = moved()
    slider = page.locator("#move input").first
    slider.focus()
    page.keyboard.press("End" if float(slider.input_value()) < 0 else "Home")
    until_changed(page, moved, before)
    before = between()
    page.locator("#between .from").select_option("sock, real (3)")
    until_changed(page, between, before)


def test_a_picture_of_ones_own_is_made_gray_and_square_and_its_bound_told(page: Page) -> None:
    content = io.BytesIO()
    Image.new("RGB", (112, 56), (255, 255, 255)).save(content, format="PNG")
    page.locator("#yours input").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": content.getvalue()}
    )
    expect(page.locator("#noted")).to_contain_text("looks inverted")
    pad = report.pixels(page.locator(".pad canvas"))
    assert pad[7:21].min() == 255
    assert pad[:7].max() == pad[21:].max() == 0
    told = re.compile(r"log p\(x\) is at most [\d.]+ ± [\d.]+ nats, mean of 16 draws .* KL\(q\(z\|x\) \|\| p\(z\)\) of")
    expect(page.locator("#yours .told")).to_contain_text(told)
    page.locator("#clear").click()
    page.locator(".pad canvas").focus()
    for key in ("Space", "ArrowLeft"):
        page.keyboard.press(key)
    drawn_by_key = report.pixels(page.locator(".pad canvas"))
    assert drawn_by_key[13:15, 13:15].min() > 200
    page.locator(".pad canvas").click(position={"x": 20, "y": 20})
    assert (report.pixels(page.locator(".pad canvas")) > drawn_by_key).any()
    junk = {"name": "b.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#yours input").set_input_files(junk)
    expect(page.locator("#noted")).to_have_text("b.png cannot be read as a picture.")
    expect(page.locator("#noted")).to_be_in_viewport()


def test_invert_leaves_the_padding_and_what_is_transparent_as_generate_does(page: Page) -> None:
    picture = np.full((28, 14, 4), 255, np.uint8)
    picture[5:25, 3:11, :3] = np.random.default_rng(2).integers(0, 128, (20, 8, 1))
    picture[:4, :4, 3] = 0
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    page.locator("#yours input").set_input_files(
        {"name": "c.png", "mimeType": "image/png", "buffer": content.getvalue()}
    )
    expect(page.locator("#noted")).to_contain_text("looks inverted")
    for invert in (False, True, False):
        expected, _ = to_square(Image.fromarray(picture), Conversion(28, "pad", 0, invert))
        np.testing.assert_array_equal(report.pixels(page.locator(".pad canvas")), expected)
        page.locator("#invert").click()


def test_the_page_says_what_it_is_of_and_fits(page: Page) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    expect(page.locator("footer")).to_contain_text("Hats and socks (licence MIT), commit " + commit)
    expect(page.locator(".examples button").first).to_have_attribute("aria-label", "hat <b>, real image 1")
    grays = [report.pixels(place)[0, 0] for place in page.locator(".examples canvas").all()]
    assert grays == [20, 50, 10, 30]  # the first two of each class
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert [(text, contrast) for text, contrast in page.evaluate(report.CONTRASTS) if contrast < 4.5] == []


def test_the_archive_is_kept_once_it_is_proven(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, kept = tmp_path / "registry" / "onnxruntime-web" / "-" / demo.ARCHIVE, tmp_path / "kept"
    place.parent.mkdir(parents=True)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", (tmp_path / "registry").as_uri() + "/")
    with pytest.raises(StageError, match=r"cannot be read .* put the file at"):
        demo.runtime(kept)
    place.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(StageError, match=r"has sha512 .*, expected q0y"):
        demo.runtime(kept)
    assert not kept.exists()
    shutil.copy(archive, place)
    files = demo.runtime(kept)
    assert sorted(files) == ["ort.js", "ort.wasm"]
    place.unlink()
    assert demo.runtime(kept) == files
    assert base64.b64decode(demo.SHA512)[:2] == b"\xab\x4c"


def test_networks_that_metrics_do_not_state_are_refused(tmp_path: Path) -> None:
    revision = project(tmp_path, "textbook")
    metrics = tmp_path / "metrics" / "export.json"
    stated = json.loads(metrics.read_text(encoding="utf-8"))
    stated["files"]["decoder"]["sha256"] = "0"
    write_json(metrics, stated)
    with pytest.raises(StageError, match=r"decoder.onnx is not that of metrics/export.json"):
        demo.build(revision, tmp_path / "data" / "export", {}, tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
