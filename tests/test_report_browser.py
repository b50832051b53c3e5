"""The page in a real browser without a network: it asks for nothing, and answers to mouse, keyboard and preferences."""

import base64
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: Decoded points along a side, images of each class and latents of the slice's project.
SIDE, EACH, LATENTS = 3, 5, 2

#: Texts, with their contrast (WCAG 2.2, 1.4.3) to the nearest background that is not transparent.
CONTRASTS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const told = (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim();
  return [...document.querySelectorAll("body *:not(script)")]
    .filter((e) => [...e.childNodes].some(told) && e.checkVisibility() && !e.closest("svg"))
    .map((e) => {
      const pair = [luminance(getComputedStyle(e).color), luminance(background(e))].sort((a, b) => a - b);
      return [e.textContent.trim().slice(0, 60), (pair[1] + 0.05) / (pair[0] + 0.05)];
    });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "no chromium on PATH; expected one where CI is set: apt-get install chromium"
        pytest.skip("no chromium on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[pytest.param("one", marks=pytest.mark.whole), "two"])
def page(request: pytest.FixtureRequest, browser: Browser, pages: dict[str, Path]) -> Iterator[Page]:
    """The page, opened without a network; fails on any request but for its file and on anything in the console."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said, asked = watched(opened)
    address = pages[request.param].as_uri()
    opened.goto(address)
    for explorer in opened.locator(".explorer").all():
        expect(explorer).to_have_attribute("data-ready", "true")
    expect(opened.locator("#per-class.dataTable")).to_be_visible()
    for name in ("curves", "sweep-cut-coordinates", "sweep-cut-progress", "sweep-cut-importance"):
        expect(opened.locator(f"#{name} svg")).to_be_visible()
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [address]
    context.close()


def watched(page: Page) -> tuple[list[str], list[str]]:
    """Lists that grow by what a page says in the console or as an error, and by the addresses that it asks for."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    return said, asked


@pytest.fixture
def explorer(page: Page) -> Locator:
    """The explorer of the branch; main's, if it is there, comes first."""
    return page.locator(".explorer").last


# ---- the page


def test_what_people_wrote_is_shown_and_not_obeyed(page: Page) -> None:
    expect(page).to_have_title(re.compile("^fashion-vae: </script><script>document"))
    assert page.title() != "pwned"


def test_a_columns_head_sorts_the_classes(page: Page) -> None:
    cells = page.locator("#per-class tbody tr td:nth-child(3)")
    before = [number(text) for text in cells.all_inner_texts()]
    head = page.locator("#per-class thead th").nth(2)
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [number(text) for text in cells.all_inner_texts()] == sorted(before) != before
    head.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [number(text) for text in cells.all_inner_texts()] == sorted(before, reverse=True)


def number(text: str) -> float:
    return float(text.partition(" ± ")[0])


@pytest.mark.parametrize(("shown", "ending"), [("loss", "loss"), ("KL", "kl")])
def test_hovering_over_the_curves_tells_a_loss_of_the_history(
    page: Page, two_revisions: Project, shown: str, ending: str
) -> None:
    page.locator("#curves select").select_option(shown)
    place = page.locator("#curves svg")
    box = box_of(place)
    place.hover(position={"x": box["width"] * 0.6, "y": box["height"] * 0.5})
    tip = page.locator("#vg-tooltip-element")
    expect(tip).to_be_visible()
    told = dict(re.findall(r"(split|epoch|nats per image)\s+([\w.]+)", tip.inner_text()))
    losses = []
    for revision in ("main", "HEAD"):
        text = two_revisions.run("git", "show", f"{revision}:metrics/history.csv").stdout
        rows = {row["epoch"]: row for row in csv.DictReader(text.splitlines())}
        losses.append(rows.get(told["epoch"], {}).get(f"{told['split']}_{ending}"))
    assert told["nats per image"] in {f"{float(loss):.2f}" for loss in losses if loss}


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    for picture in page.locator("main img, main canvas:visible, .chart svg").all():
        box = box_of(picture)
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: Page, explorer: Locator, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    explorer.locator(".plane").click()
    expect(explorer.locator(".nearest li").first).to_be_visible()
    explorer.locator(".key").first.click()
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [(text, contrast) for text, contrast in found if contrast < 4.5] == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 3 * 128) == (scheme == "light")


def test_print_leaves_out_what_paper_cannot_do(page: Page) -> None:
    page.emulate_media(media="print")
    for control in ("nav", ".controls", ".vega-bindings"):
        expect(page.locator(control).first).to_be_hidden()
    expect(page.locator(".plane").first).to_be_visible()


# ---- the latent explorer


def test_dragging_shows_the_image_of_the_place(page: Page, explorer: Locator, two_revisions: Project) -> None:
    page.mouse.move(*centre(explorer, 1, 1))
    page.mouse.down()
    for column, row in ((0, 0), (2, 0), (1, 2)):
        page.mouse.move(*centre(explorer, column, row))
        assert (pixels(explorer.locator(".image")) == cell(two_revisions, "grid", column, row)).all()
    page.mouse.up()
    page.mouse.move(*centre(explorer, 0, 0))
    assert (pixels(explorer.locator(".image")) == cell(two_revisions, "grid", 1, 2)).all()


def test_a_click_shows_the_nearest_in_all_latents_and_says_among_what(
    page: Page, explorer: Locator, two_revisions: Project
) -> None:
    page.mouse.click(*centre(explorer, 2, 0))
    among = f"in all {LATENTS} latents, among a seeded, class-stratified {10 * EACH} validation images"
    expect(explorer.locator(".said")).to_contain_text(among)
    expected = nearest(two_revisions, 1.0, 1.0)
    shown = explorer.locator(".nearest li").all()
    assert [item.get_attribute("data-index") for item in shown] == [str(index) for index, _, _ in expected[:8]]
    for item, (_, place, distance) in zip(shown, expected, strict=False):
        assert item.inner_text().endswith(f", {distance:.2f}")
        columns = latents_of(two_revisions)["columns"]
        assert (
            pixels(item.locator("canvas")) == cell(two_revisions, "images", place % columns, place // columns)
        ).all()


@pytest.mark.parametrize("by", ["plane", "sliders"])
def test_the_keyboard_does_what_the_mouse_does(page: Page, explorer: Locator, two_revisions: Project, by: str) -> None:
    explorer.locator(".plane" if by == "plane" else ".across").focus()
    page.keyboard.press("ArrowRight")
    if by == "sliders":
        explorer.locator(".up").focus()
    page.keyboard.press("ArrowUp")
    assert (pixels(explorer.locator(".image")) == cell(two_revisions, "grid", 2, 0)).all()
    page.keyboard.press("ArrowUp")  # the plane ends there
    extent = f"{latents_of(two_revisions)['extent']:.2f}"
    expect(explorer.locator(".place")).to_have_text(f"{extent}, {extent}")
    expect(explorer.locator(".across")).to_have_attribute("aria-valuetext", f"{extent} standard deviations")
    page.keyboard.press("Enter")
    first = str(nearest(two_revisions, 1.0, 1.0)[0][0])
    expect(explorer.locator(".nearest li").first).to_have_attribute("data-index", first)


def test_dots_lie_where_the_images_do_and_their_classes_can_be_hidden(
    explorer: Locator, two_revisions: Project
) -> None:
    found = latents_of(two_revisions)
    positions = np.reshape(found["position"], (-1, 2))
    for label in range(10):
        dots = explorer.locator(f".dots .c{label} circle")
        places = dots.evaluate_all("all => all.map((one) => [one.cx.baseVal.value, one.cy.baseVal.value])")
        shares = positions[np.array(found["label"]) == label] / found["extent"] * [1, -1]
        expected = (shares + 1) / 2 * (SIDE - 1) + 0.5  # cells' centres are the points that were decoded
        assert len(places) == EACH
        assert np.abs(np.array(places) - expected).max() < 4e-4
    key = explorer.locator(".key").nth(3)
    key.click()
    expect(key).to_have_attribute("aria-pressed", "false")
    expect(explorer.locator(".dots .c3")).to_be_hidden()
    expect(explorer.locator(".dots .c4")).to_be_visible()
    explorer.locator(".all").click()
    expect(explorer.locator(".dots .c4")).to_be_hidden()
    explorer.locator(".all").click()
    expect(explorer.locator(".dots .c3")).to_be_visible()


def box_of(place: Locator) -> dict[str, float]:
    box = place.bounding_box()
    assert box
    return dict(box)


def centre(explorer: Locator, column: int, row: int) -> tuple[float, float]:
    """Where a cell of the plane is on the screen."""
    plane = explorer.locator(".plane")
    plane.scroll_into_view_if_needed()
    box = box_of(plane)
    return box["x"] + box["width"] * (column + 0.5) / SIDE, box["y"] + box["height"] * (row + 0.5) / SIDE


def pixels(canvas: Locator) -> NDArray[np.uint8]:
    """Gray values of what is drawn."""
    uri = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))[:, :, 0]


def cell(project: Project, sprite: str, column: int, row: int) -> NDArray[np.uint8]:
    picture = np.asarray(Image.open(project.folder / "metrics" / "explorer" / f"{sprite}.png"))
    return picture[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]


def latents_of(project: Project) -> dict[str, Any]:
    path = project.folder / "metrics" / "explorer" / "latents.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def nearest(project: Project, across: float, up: float) -> list[tuple[int, int, float]]:
    """Images by their distance from a point, in shares of the extent: number in the split, place, distance."""
    found = latents_of(project)
    steps = np.frombuffer(base64.b64decode(found["mean_int16"]), "<i2")
    means = steps.reshape(10 * EACH, LATENTS) * found["mean_step"]
    column, row = round((across + 1) / 2 * (SIDE - 1)), round((1 - up) / 2 * (SIDE - 1))
    points = np.frombuffer(base64.b64decode(found["grid_int16"]), "<i2").reshape(SIDE, SIDE, LATENTS)
    distances = np.sqrt(np.square(means - points[row, column] * found["mean_step"]).sum(axis=1))
    return [(found["index"][place], place, distances[place]) for place in distances.argsort(kind="stable").tolist()]
