"""The page in a real browser without a network, and what it holds."""

import base64
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import Project
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from vae.explorer import MEAN_STEP

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: A name that a page must show and not obey.
HOSTILE = "</script><script>document.title='pwned'</script>"


def write(project: Project, *arguments: str) -> Path:
    done = project.run(sys.executable, "-m", "workflow.report", *arguments, "--output", "page.html")
    assert done.returncode == 0, done.stderr
    return project.folder / "page.html"


@pytest.fixture(scope="module")
def repository(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project with a second commit whose parameters differ."""
    project = finished.copy_to(tmp_path_factory.mktemp("report") / "repository")
    project.set_params({"train": {"epochs": 4}, "explore": {"seed": 3}})
    project.repro()
    project.commit(HOSTILE)
    return project


@pytest.fixture(scope="module")
def pages(repository: Project) -> dict[str, Path]:
    """A page of one revision, and one of two."""
    one = write(repository, "HEAD").rename(repository.folder / "one.html")
    return {"one": one, "two": write(repository, "HEAD", "HEAD~1").rename(repository.folder / "two.html")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "no chromium on PATH; expected one in CI: apt-get install chromium"
        pytest.skip("no chromium on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(params=["one", "two"])
def page(request: pytest.FixtureRequest, browser: Browser, pages: dict[str, Path]) -> Iterator[Page]:
    """The page, opened without a network; fails on any request beyond its file and on anything in the console."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    address = pages[request.param].as_uri()
    opened.goto(address)
    for explorer in opened.locator(".explorer").all():
        expect(explorer).to_have_attribute("data-ready", "true")
    expect(opened.locator("#per-class.dataTable")).to_be_visible()
    expect(opened.locator("#curves svg")).to_be_visible()
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    context.close()


def test_no_request_is_made_and_nothing_is_complained_of(page: Page) -> None:
    assert "fashion-vae" in page.title()


def test_a_columns_head_sorts_the_classes(page: Page) -> None:
    cells = page.locator("#per-class tbody tr td:nth-child(3)")
    unsorted = [float(text) for text in cells.all_inner_texts()]
    head = page.locator("#per-class thead th").nth(2)
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [float(text) for text in cells.all_inner_texts()] == sorted(unsorted) != unsorted
    head.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [float(text) for text in cells.all_inner_texts()] == sorted(unsorted, reverse=True)


def test_hovering_over_the_curves_tells_the_loss(page: Page) -> None:
    box = page.locator("#curves svg").bounding_box()
    assert box
    page.locator("#curves svg").hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    expect(page.locator("#vg-tooltip-element")).to_contain_text("nats per image")


def test_dragging_shows_the_garment_of_the_place(page: Page, repository: Project) -> None:
    explorer = page.locator(".explorer").last
    plane = explorer.locator(".plane")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    assert box
    grid = grid_of(repository)
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    for column, row in ((0, 0), (2, 0), (1, 2)):
        page.mouse.move(box["x"] + box["width"] * (column + 0.5) / 3, box["y"] + box["height"] * (row + 0.5) / 3)
        expected = grid[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
        assert (pixels(page, ".garment") == expected).all()
    page.mouse.up()


def test_a_click_shows_the_nearest_in_all_latents_and_says_among_what(page: Page, repository: Project) -> None:
    explorer = page.locator(".explorer").last
    plane = explorer.locator(".plane")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    assert box
    plane.click(position={"x": box["width"] * 5 / 6, "y": box["height"] * 1 / 6})
    expect(explorer.locator(".said")).to_contain_text(
        "in all 2 latents, among a seeded, class-stratified 50 validation"
    )
    shown = [int(item.get_attribute("data-index") or -1) for item in explorer.locator(".nearest li").all()]
    assert shown == nearest(repository, 1.0, 1.0)[: len(shown)]
    assert len(shown) == 8


def test_the_keyboard_does_what_the_mouse_does(page: Page, repository: Project) -> None:
    explorer = page.locator(".explorer").last
    explorer.locator(".across").focus()
    page.keyboard.press("ArrowRight")
    explorer.locator(".down").focus()
    page.keyboard.press("ArrowUp")
    assert (pixels(page, ".garment") == grid_of(repository)[:28, 56:]).all()
    page.keyboard.press("Enter")
    expect(explorer.locator(".nearest li").first).to_be_visible()
    first = explorer.locator(".nearest li").first.get_attribute("data-index")
    assert int(first or -1) == nearest(repository, 1.0, 1.0)[0]
    assert "standard deviations" in (explorer.locator(".across").get_attribute("aria-valuetext") or "")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    style = "getComputedStyle(document.body)"
    ink, paper = (luminance(page.evaluate(f"{style}.{name}")) for name in ("color", "backgroundColor"))
    assert (ink < paper) == (scheme == "light")
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 7  # WCAG 2.2, 1.4.6


def test_what_a_reader_cannot_see_is_told(page: Page) -> None:
    unnamed = "img:not([alt]), canvas:not([aria-label]), input[type=range]:not([aria-valuetext])"
    assert page.locator(unnamed).count() == 0
    assert page.locator("main").count() == page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(...)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def pixels(page: Page, selector: str) -> np.ndarray:
    """Gray values of the last canvas of that kind."""
    uri = page.locator(selector).last.evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))[:, :, 0]


def latents_of(project: Project) -> dict[str, list[float]]:
    content: dict[str, list[float]] = json.loads(
        (project.folder / "metrics" / "explorer" / "latents.json").read_text(encoding="utf-8")
    )
    return content


def grid_of(project: Project) -> np.ndarray:
    return np.asarray(Image.open(project.folder / "metrics" / "explorer" / "grid.png"))


def nearest(project: Project, across: float, down: float) -> list[int]:
    """Numbers of the chosen validation images by their distance from a point, in shares of the extent."""
    found = latents_of(project)
    means = (
        np.frombuffer(base64.b64decode(str(found["mean_int16"])), "<i2").reshape(len(found["index"]), -1) * MEAN_STEP
    )
    point = np.array([across, down]) * found["extent"] @ np.array(found["axes"]) + found["origin"]
    return np.array(found["index"])[np.square(means - point).sum(axis=1).argsort(kind="stable")].tolist()


class Texts(HTMLParser):
    """The texts of a page's table cells, and the titles of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


def texts(path: Path) -> list[str]:
    parser = Texts()
    parser.feed(path.read_text(encoding="utf-8"))
    return [" ".join(cell.split()) for cell in parser.cells]


def test_the_page_is_small_and_tells_the_committed_figures(pages: dict[str, Path], repository: Project) -> None:
    metrics = json.loads((repository.folder / "metrics" / "evaluation.json").read_text(encoding="utf-8"))
    found = metrics["validation"]["binarised"]
    for path in pages.values():
        assert path.stat().st_size < 5e6
        assert f"{found['nll_nats']:.5g} ± {found['nll_nats_se']:.2g}" in texts(path)


def test_the_page_and_the_command_give_one_verdict(pages: dict[str, Path], repository: Project) -> None:
    command = (sys.executable, "-m", "workflow.compare", "HEAD~1", "HEAD", "--format", "json")
    comparison = json.loads(repository.run(*command).stdout)
    cells = texts(pages["two"])
    assert f'class="verdict {comparison["verdict"].split()[0]}"' in pages["two"].read_text(encoding="utf-8")
    for row in comparison["verdicts"]:
        assert f"{row['difference']:+z.3f}" in cells
        assert row["verdict"] in cells
    assert "train.epochs changed" in cells


def test_what_people_wrote_is_shown_and_not_obeyed(pages: dict[str, Path], browser: Browser) -> None:
    opened = browser.new_page()
    opened.goto(pages["one"].as_uri())
    assert "pwned" not in opened.title()
    expect(opened.locator(".sides")).to_contain_text(HOSTILE)
    opened.close()


def test_a_revision_without_an_explorer_says_so(repository: Project, tmp_path: Path) -> None:
    project = repository.copy_to(tmp_path / "older")
    shutil.rmtree(project.folder / "metrics" / "explorer")
    (project.folder / "metrics" / "figures" / "samples.png").unlink()
    page = write(project, "workspace").read_text(encoding="utf-8")
    assert "workspace has no folder metrics/explorer" in page
    assert "workspace has no metrics/figures/samples.png" in page


def test_what_cannot_be_shown_leaves_no_page(repository: Project, tmp_path: Path) -> None:
    project = repository.copy_to(tmp_path / "spoilt")
    (project.folder / "metrics" / "evaluation.json").unlink()
    for name, words in (("nowhere", "revision 'nowhere'"), ("workspace", "has no file metrics/evaluation.json")):
        done = project.run(sys.executable, "-m", "workflow.report", name, "--output", "none.html")
        assert done.returncode == 1
        assert words in done.stderr
        assert not (project.folder / "none.html").exists()
