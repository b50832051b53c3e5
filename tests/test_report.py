"""The page's text: what it says is what the revisions' files say, and what people wrote is shown, not obeyed."""

import csv
import json
import re
from functools import cached_property
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest
from conftest import HOSTILE, ROOT, Project, as_committed, remove, sweep_record
from ruamel.yaml import YAML

from pipeline.errors import StageError
from workflow.history.revisions import Revision, resolve
from workflow.report.__main__ import main
from workflow.report.numbers import _HEADLINES, shown
from workflow.report.page import _colours, render
from workflow.report.sweeps import places, sweeps

VOID = {"meta", "link", "br", "img", "input", "rect", "circle"}


class Outline(HTMLParser):
    """The elements of a page: tag, attributes and text, and the rows of its tables by id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(len(self.elements))
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for number in self.open:
            self.elements[number][2].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def said(self, tag: str) -> list[str]:
        return [" ".join("".join(parts).split()) for name, _, parts in self.elements if name == tag]

    @cached_property
    def tables(self) -> list[tuple[str | None, dict[str, list[str]]]]:
        """Id of each table, and cells of each row after its head, by that."""
        found: list[tuple[str | None, list[list[str]]]] = []
        for tag, attributes, parts in self.elements:
            if tag == "table":
                found.append((attributes.get("id"), []))
            elif tag == "tr":
                found[-1][1].append([])
            elif tag in ("td", "th"):
                found[-1][1][-1].append(" ".join("".join(parts).split()))
        return [(name, {row[0]: row[1:] for row in rows}) for name, rows in found]

    def table(self, name: str) -> dict[str, list[str]]:
        return dict(self.tables)[name]


@pytest.fixture(scope="module")
def outlines(pages: dict[str, Path]) -> dict[str, Outline]:
    return {name: Outline(path.read_text(encoding="utf-8")) for name, path in pages.items()}


@pytest.fixture(params=["one", "two"])
def outline(request: pytest.FixtureRequest, outlines: dict[str, Outline]) -> Outline:
    return outlines[request.param]


def committed(project: Project, revision: str, path: str) -> str:
    done = project.run("git", "show", f"{revision}:{path}")
    assert done.returncode == 0
    return done.stdout


# ---- structure


def test_each_link_has_its_section_and_nothing_is_asked_of_a_network(outline: Outline) -> None:
    sections = {attributes["id"] for attributes in outline.all("section")}
    links = [attributes["href"] or "" for attributes in outline.all("a")]
    assert {link[1:] for link in links} - {"main"} == sections
    addresses = [value for _, found, _ in outline.elements for key, value in found.items() if key in ("src", "href")]
    assert {re.split("[#:]", address or "")[0] for address in addresses} == {"", "data"}
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == len(outline.all("main")) == 1


def test_what_can_be_seen_or_moved_has_a_name(outline: Outline) -> None:
    assert all(attributes.get("alt") for attributes in outline.all("img"))
    for canvas in outline.all("canvas"):
        assert canvas.get("aria-hidden") == "true" or canvas.get("aria-label")
    named = [found for _, found, _ in outline.elements if found.get("role") in ("application", "region", "group")]
    assert named
    assert all(attributes.get("aria-label") for attributes in named)
    assert len(outline.all("input")) == len(outline.all("label"))


@pytest.mark.whole
@as_committed("dvc.lock", "metrics", "params.yaml")
def test_two_revisions_with_real_figures_are_below_five_megabytes(tmp_path: Path) -> None:
    page = tmp_path / "real.html"
    done = Project(ROOT).run("python", "-m", "workflow.report", "HEAD", "HEAD", "--output", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    assert page.stat().st_size < 5e6
    figures = list((ROOT / "metrics/figures").iterdir())
    assert len(Outline(page.read_text(encoding="utf-8")).all("img")) == 2 * len(figures)


# ---- what it says


NUMBERS = [(225.1497, 0.7439, "225.15"), (0.93794, 0.0124979, "0.938"), (262.4, 12.3, "262"), (12345.6, 123.0, "12346")]


@pytest.mark.parametrize(("number", "error", "text"), [*NUMBERS, (28, None, "28"), (1.0, 0.0, "1.000")])
def test_a_number_is_shown_to_the_second_digit_of_its_error(number: float, error: float | None, text: str) -> None:
    assert shown(number, error) == text
    assert shown(number, error, sign=True) == f"+{text}"


def test_figures_and_headlines_are_the_committed_ones(outlines: dict[str, Outline], two_revisions: Project) -> None:
    pictures = [*(two_revisions.folder / "metrics/figures").iterdir(), "contact_sheet.png"]
    metrics = [json.loads(committed(two_revisions, r, "metrics/evaluation.json")) for r in ("main", HOSTILE)]
    for name, sides in (("two", metrics), ("one", metrics[1:])):
        assert len(outlines[name].all("img")) == len(pictures) * len(sides)
        rows = outlines[name].table("headlines")
        assert {f"{words} {unit}".strip() for _, _, words, unit in _HEADLINES} <= rows.keys()
        cells = rows["NLL, binarised nats"]
        numbers, errors = zip(*(map(float, cell.split(" ± ")) for cell in cells), strict=True)
        expected = [side[split]["binarised"] for split in ("validation", "test") for side in sides]
        assert numbers == pytest.approx([found["nll_nats"] for found in expected], abs=0.05)
        assert errors == pytest.approx([found["nll_nats_se"] for found in expected], rel=0.05)


def test_the_page_and_the_command_give_one_verdict(outlines: dict[str, Outline], two_revisions: Project) -> None:
    command = ("python", "-m", "workflow.compare", "main", HOSTILE, "--format", "json")
    comparison = json.loads(two_revisions.run(*command).stdout)
    page = outlines["two"]
    assert any(text.startswith(f"{comparison['verdict'].capitalize()}: ") for text in page.said("p"))
    cells = [cell for row in page.table("verdicts").values() for cell in row]
    for row in comparison["verdicts"]:
        assert {row["verdict"], f"{row['difference']:+z.3f}", f"{row['low']:+z.3f} to {row['high']:+z.3f}"} <= {*cells}
    assert "verdicts" not in dict(outlines["one"].tables)


def test_losses_by_class_are_those_of_validation_images(outlines: dict[str, Outline], two_revisions: Project) -> None:
    tables = []
    for revision in ("main", HOSTILE):
        rows = csv.DictReader(committed(two_revisions, revision, "metrics/per_class.csv").splitlines())
        tables.append({r["class"]: r for r in rows if (r["split"], r["targets"]) == ("validation", "binarised")})
    for name, row in outlines["two"].table("per-class").items():
        if name == "class":
            continue
        before, after = (table[name] for table in tables)
        assert row[0] == after["images"]
        for cell, expected in zip(row[1:3], (before, after), strict=True):
            mean, error = map(float, cell.split(" ± "))
            assert mean == pytest.approx(float(expected["nll_nats"]), abs=float(expected["nll_nats_se"]) / 10)
            assert error == pytest.approx(float(expected["nll_nats_se"]), rel=0.06)
        difference, error = map(float, row[3].split(" ± "))
        assert difference == pytest.approx(float(after["nll_nats"]) - float(before["nll_nats"]), abs=error / 10)


def test_every_parameter_is_there_and_the_changed_ones_are_marked(
    outlines: dict[str, Outline], two_revisions: Project
) -> None:
    params = YAML(typ="safe").load(committed(two_revisions, HOSTILE, "params.yaml"))
    names = {f"{section}.{key}" for section, values in params.items() for key in values}
    rows = {head: cells for _, table in outlines["two"].tables for head, cells in table.items() if "." in head}
    assert names <= {head.split()[0] for head in rows}
    assert {head.split()[0] for head in rows if "changed" in head} == {"train.epochs", "explore.seed"}
    assert ["3", "12"] in [cells for head, cells in rows.items() if head.startswith("train.epochs")]


def test_the_provenance_is_that_of_the_runs_and_the_lock(outline: Outline, two_revisions: Project) -> None:
    codes = set(outline.said("code"))
    commit = two_revisions.run("git", "rev-parse", HOSTILE).stdout.strip()
    lock = YAML(typ="safe").load(committed(two_revisions, HOSTILE, "dvc.lock"))
    digests = {out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    run = json.loads((two_revisions.folder / "runs" / "train.json").read_text(encoding="utf-8"))
    assert {commit, run["digest"]} | digests <= codes
    assert any(text.startswith("yes: sources") for text in outline.said("dd"))
    assert committed(two_revisions, HOSTILE, "metrics/model_card.md").split() == outline.said("pre")[-1].split()


# ---- what people wrote


def test_the_name_of_a_branch_and_a_commits_subject_are_text(outline: Outline) -> None:
    assert HOSTILE in outline.said("h1")[0]
    assert any(text.count(HOSTILE) == 2 for text in outline.said("li"))
    assert not any("pwned" in text for text in outline.said("script") if "json" not in text)


def test_the_values_of_parameters_are_text(
    two_revisions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two_revisions.copy_to(tmp_path / "values")
    hostile = "<img src=nowhere onerror=\"document.title='pwned'\">{{ 7 * 7 }}"
    project.set_params({"train": {"schedule": hostile}})
    monkeypatch.chdir(project.folder)
    page = Outline(render(resolve("workspace"), resolve("main")))
    for text in (page, Outline(render(resolve("workspace"), None))):
        note = text.said("p")[1]  # after the project's name, above the first number
        assert note.startswith("The results of workspace are not its own (params.yaml: train.")
        assert len([one for one in text.said("p") if one == note]) == 1
    assert f"{json.dumps(hostile)}" in page.said("code")
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert any(text.startswith("no: params.yaml: train.") for text in page.said("dd"))


# ---- what is missing


@pytest.mark.whole
def test_what_an_older_revision_has_no_stage_for_is_said(
    two_revisions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two_revisions.copy_to(tmp_path / "older")
    graph = project.folder / "dvc.yaml"
    graph.write_text(graph.read_text(encoding="utf-8").replace("metrics/explorer", "metrics/other"), encoding="utf-8")
    remove(project, "metrics/explorer")
    monkeypatch.chdir(project.folder)
    for base, explorers in ((None, 0), (resolve("main"), 1)):
        page = Outline(render(resolve("workspace"), base))
        assert "workspace has no metrics/explorer/latents.json: it is older than what writes it" in page.said("p")
        assert len(page.all("canvas")) == 2 * explorers


def test_a_contact_sheet_is_shown_where_there_is_one(
    two_revisions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two_revisions.copy_to(tmp_path / "sheet")
    (project.folder / "metrics" / "contact_sheet.png").unlink()
    monkeypatch.chdir(project.folder)
    page = Outline(render(resolve("workspace"), resolve("main")))
    assert page.all("img")[0]["alt"].startswith("Images as they were given, and what was made of them, main")
    assert "workspace has no metrics/contact_sheet.png" in " ".join(page.said("p"))


@pytest.mark.parametrize("classes", [1, 10, 256])
def test_each_class_has_a_colour(classes: int) -> None:
    assert len({*_colours(classes)}) == len(_colours(classes)) == classes


LACKING = ["figures/samples.png", "history.csv", "model_card.md", "processor.json", "per_image.npz"]


@pytest.mark.whole
@pytest.mark.parametrize("path", [*(f"metrics/{name}" for name in LACKING), "dvc.lock", "params.yaml"])
def test_what_a_revision_lacks_is_said_and_the_rest_is_shown(
    two_revisions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    project = two_revisions.copy_to(tmp_path / "lacking")
    (project.folder / path).unlink()
    monkeypatch.chdir(project.folder)
    workspace, main = resolve("workspace"), resolve("main")
    for head, base in ((workspace, None), (workspace, main), (main, workspace)):
        page = Outline(render(head, base))
        assert any("has no" in text and path in text for text in page.said("p"))
        assert "NLL, binarised nats" in page.table("headlines")


def test_what_cannot_be_shown_leaves_no_page(
    two_revisions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two_revisions.copy_to(tmp_path / "spoilt")
    (project.folder / "metrics" / "evaluation.json").unlink()
    monkeypatch.chdir(project.folder)
    for name, words in (("nowhere", "revision 'nowhere'"), ("workspace", "has no file metrics/evaluation.json")):
        with pytest.raises(StageError, match=words):
            main([name, "--output", "none.html"])
        assert not (project.folder / "none.html").exists()


def test_a_page_is_not_put_where_there_is_no_folder(
    two_revisions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two_revisions.folder)
    folder = tmp_path / "mistyped"
    with pytest.raises(StageError, match=f"there is no folder {folder}; make it, or name another place"):
        main(["main", "--output", str(folder / "page.html")])
    assert not folder.exists()


# ---- sweeps


def test_completed_trials_of_a_sweep_are_shown_the_best_first(outline: Outline) -> None:
    assert outline.table("trials-cut") == {
        "experiment": ["validation loss", "train.keep", "train.learning_rate"],
        "cut-3": ["235.500", "best", "1"],
        "cut-1": ["240.000", "last", "0.01"],
    }
    assert any("3 trials: 2 completed, 1 pruned; 1 thread each" in text for text in outline.said("p"))


def test_the_charts_of_a_sweep_show_its_trials(two_revisions: Project) -> None:
    (sweep,) = sweeps(Revision("workspace", None, two_revisions.folder))
    rows = {name: [*chain(*chart["datasets"].values())] for name, chart in sweep["charts"].items()}
    progress = [(row["minutes"], row["loss"], row["best so far"]) for row in rows["progress"]]
    assert progress == [(1.0, 240.0, 240.0), (3.0, 235.5, 235.5)]
    assert {row["parameter"]: row["share"] for row in rows["importance"]} == sweep_record()["importance"]
    places = {(row["trial"], row["axis"]): row["place"] for row in rows["coordinates"]}
    assert (places["cut-1", "train.learning_rate"], places["cut-3", "train.learning_rate"]) == (0, 1)
    assert (places["cut-1", "validation_loss"], places["cut-3", "validation_loss"]) == (1, 0)


def test_values_that_span_decades_are_placed_by_their_logarithm() -> None:
    assert places([1, 10, 100]) == pytest.approx([0, 0.5, 1])
    assert places([1, 2, 5]) == pytest.approx([0, 0.25, 1])
    assert places([0, 50, 100]) == pytest.approx([0, 0.5, 1])
    assert places(["b", "a", "b"]) == [1, 0, 1]
    assert places([3, 3]) == [0.5, 0.5]
