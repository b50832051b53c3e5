"""`make compare` on real branches of the slice, and on simulated losses of images."""

import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HOSTILE, ROOT, Project
from ruamel.yaml import YAML
from scipy.stats import binom

from pipeline.errors import StageError
from vae.statistics import GRID_NATS
from workflow.command import end
from workflow.compare.__main__ import FAILED, main
from workflow.compare.comparison import compare
from workflow.compare.paired import LEVEL, POWER
from workflow.compare.verdicts import PRIMARY, UNSEEN, verdicts
from workflow.history.data_sets import PUBLISHED, facts_of
from workflow.history.revisions import Revision, resolve
from workflow.report.page import render


@pytest.fixture(scope="module")
def branches(two_revisions: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project as main, and `trained`, whose parameters make the model better; no data and no cache."""
    folder = tmp_path_factory.mktemp("compare") / "clone"
    assert two_revisions.run("git", "clone", "-q", "-b", "main", ".", str(folder)).returncode == 0
    project = Project(folder)
    assert project.run("git", "branch", "trained", f"origin/{HOSTILE}").returncode == 0
    return project


@pytest.fixture
def repository(branches: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The two branches in a clone that a test may change, which is the working directory."""
    project = branches.copy_to(tmp_path / "clone")
    monkeypatch.chdir(project.folder)
    return project


def run(*arguments: str) -> tuple[int, str, str]:
    """Status and what is printed of `python -m workflow.compare` in the working directory, without a new process."""
    with (
        redirect_stdout(io.StringIO()) as said,
        redirect_stderr(io.StringIO()) as error,
        pytest.raises(SystemExit) as ended,
    ):
        end("compare", lambda: main(arguments), refused=FAILED)
    return int(str(ended.value.code)), said.getvalue(), error.getvalue()


@pytest.mark.parametrize(
    ("base", "head", "verdict", "status"), [("main", "trained", "better", 0), ("trained", "main", "worse", 1)]
)
def test_the_verdict_and_its_exit_status(repository: Project, base: str, head: str, verdict: str, status: int) -> None:
    command = ("python", "-m", "workflow.compare", base, head, "--fail-if-worse", "--format", "json")
    done = repository.run(*command)
    found = json.loads(done.stdout)
    assert (found["verdict"], done.returncode) == (verdict, status)
    assert run(base, head)[0] == 0
    for form in ("text", "md"):
        _, page, _ = run(base, head, "--format", form)
        sentence = next(line for line in page.splitlines() if line.startswith(verdict.capitalize()))
        numbers = [float(number) for number in re.findall(r"[-+]?\d+\.\d+", sentence)]
        keys = ("before", "after", "difference", "low", "high", "smallest_visible")
        assert numbers == pytest.approx([found["primary"][key] for key in keys], abs=5e-4)
        for row in found["verdicts"]:
            cells = [f"{row['difference']:+z.3f}", f"{row['low']:+z.3f} to {row['high']:+z.3f}", row["verdict"]]
            assert re.search(".*".join(map(re.escape, cells)), page)


def test_the_difference_is_that_of_the_committed_means(repository: Project) -> None:
    found = compare(resolve("main"), resolve("trained"))
    means = [resolve(name).read_json("metrics/evaluation.json") for name in ("main", "trained")]
    for row in found.verdicts:
        for split, values in (("validation", row), ("test", row["test"])):
            before, after = (mean[split][row["targets"]][row["metric"]] for mean in means)
            assert (values["before"], values["after"]) == pytest.approx((before, after), rel=1e-5)


def test_what_was_changed_is_listed(repository: Project) -> None:
    found = compare(resolve("main"), resolve("trained")).changes
    assert found["params"] == [
        {"name": "explore.seed", "before": 8, "after": 3},
        {"name": "train.epochs", "before": 3, "after": 12},
    ]
    assert (found["code"], found["data"]) == ([], [])
    assert {"data/model", "metrics/evaluation.json"} <= set(found["lock"])
    (repository.folder / "vae" / "noise.py").write_text("", encoding="utf-8")
    (repository.folder / "vae" / "new.py").write_text("", encoding="utf-8")
    assert compare(resolve("main"), resolve("workspace")).changes["code"] == ["vae/new.py", "vae/noise.py"]


def test_neither_data_nor_tensorflow_is_needed(repository: Project) -> None:
    assert not (repository.folder / "data").exists()
    barred = "import sys; sys.modules.update(tensorflow=None, keras=None); from workflow.compare.__main__ import main"
    done = repository.run(sys.executable, "-c", f"{barred}; sys.exit(main(['main', 'trained']))")
    assert done.returncode == 0, done.stderr


def test_the_basis_is_the_weights_without_seeds_of_this_code_and_these_parameters(repository: Project) -> None:
    found = compare(resolve("main"), resolve("trained"))
    assert (found.basis, "there is no metrics/seeds.json" in found.basis_reason) == ("weights", True)
    ask = "from workflow.history.seeds import *; print(seeds_digest())"
    fitting = repository.run(sys.executable, "-c", ask).stdout.strip()
    for digest, basis in ((fitting, "parameters"), (sha256(b"another").hexdigest(), "weights")):
        write_seeds(repository, digest)
        found = compare(resolve("workspace"), resolve("trained"))
        assert found.basis == basis
        assert ("seeds.json is stale, of other code or parameters" in found.basis_reason) == (basis == "weights")
        row = found.primary
        assert (row["error"] > 100) == (basis == "parameters")
    repository.commit("Seeds of another model")
    assert compare(resolve("HEAD"), resolve("trained")).basis == "weights"


def write_seeds(project: Project, digest: str) -> None:
    runs = []
    for seed in (1, 2):
        losses = dict.fromkeys(("reconstruction_nats", "kl_nats", "elbo_nats"), seed) | {"nll_nats": 100 * seed}
        of_split = dict.fromkeys(("gray", "binarised"), losses)
        found = {"evaluation": {"validation": of_split, "test": of_split}}
        made_on = {"instruction_set": "x86_64 avx2", "caches": "32K 1024K", "intra_op": 2, "weights": "0.dir"}
        runs.append({"seed": seed, **made_on, "metrics": found})
    content = {"digest": digest, "runs": runs}
    (project.folder / "metrics" / "seeds.json").write_text(json.dumps(content), encoding="utf-8")


def test_with_the_same_weights_no_seed_was_drawn_and_no_difference_is_seen(repository: Project) -> None:
    found = compare(resolve("main"), resolve("workspace"))
    assert "the same in both" in found.basis_reason
    assert {(row["verdict"], row["difference"], row["error"]) for row in found.verdicts} == {(UNSEEN, 0, 0)}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda project: project.set_params({"train": {"epochs": 4}}), "train.epochs is 4, in dvc.lock 3"),
        (lambda project: edit(project, "metrics/evaluation.json"), "metrics/evaluation.json: not what summarise wrote"),
        (lambda project: edit(project, "stages/train.py", b"x = 1"), "the code of train: not what it ran with"),
        (lambda project: edit(project, "metrics/figures/samples.png"), "metrics/figures: not what figures wrote"),
        (lambda project: (project.folder / "metrics/history.csv").unlink(), "metrics/history.csv: missing"),
    ],
)
def test_results_that_are_not_their_revisions_own_are_said_and_no_ground_for_a_gate(
    repository: Project, damage: Callable[[Project], None], named: str
) -> None:
    damage(repository)
    code, said, _ = run("main", "workspace")
    assert code == 0
    title, _, note, *_ = said.splitlines()  # before any number
    assert title.endswith("-> workspace")
    assert note.startswith("Note: The results of workspace are not its own (")
    code, _, error = run("main", "workspace", "--fail-if-worse")
    assert code == 2
    assert named in error
    repository.commit("Damaged")
    assert run("HEAD~1", "HEAD", "--fail-if-worse")[0] == 2


def test_a_changed_parameter_is_said_once_with_the_stages_that_take_it(repository: Project) -> None:
    repository.set_params({"train": {"beta": 2.0}})
    graph = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    takers = [name for name, stage in graph.items() if "train" in stage["params"]]
    error = run("main", "workspace", "--fail-if-worse")[2]
    assert (error.count("train.beta is 2.0, in dvc.lock 1.0"), len(takers) > 1) == (1, True)
    (said,) = re.findall(r"params\.yaml: train\.beta .*?, and (.*?) did not run with that", error)
    assert {*takers} <= {*said.split(", ")}


def edit(project: Project, path: str, line: bytes = b"") -> None:
    with (project.folder / path).open("ab") as handle:
        handle.write(line + b"\n")


def test_a_comment_leaves_results_their_revisions_own(repository: Project) -> None:
    edit(repository, "stages/train.py", b"# why")
    code, said, _ = run("main", "workspace", "--fail-if-worse")
    assert code == 0
    assert "not its own" not in said


def test_bounds_of_other_draws_are_pointed_out(repository: Project) -> None:
    path = repository.folder / "metrics" / "evaluation.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["validation"]["binarised"]["nll_samples"] = 7
    path.write_text(json.dumps(metrics), encoding="utf-8")
    assert "of 30 draws before and 7 after" in run("main", "workspace")[1]
    del metrics["validation"]["binarised"]["nll_samples"]  # as in early commits, which did not tell it
    path.write_text(json.dumps(metrics), encoding="utf-8")
    code, said, _ = run("main", "workspace")
    assert (code, "draws before" in said) == (0, False)


def test_other_images_and_missing_results_are_refused(repository: Project) -> None:
    path = repository.folder / "metrics" / "per_image.npz"
    with np.load(path) as arrays:
        shuffled = {**arrays, "index": arrays["index"][::-1]}
    np.savez(path, **shuffled)
    code, _, error = run("main", "workspace")
    assert code == 2
    assert "hold different images" in error
    np.savez(path, **{name: array for name, array in shuffled.items() if name != "binarised_nll_nats"})
    code, _, error = run("main", "workspace")
    assert code == 2
    assert "per_image.npz of workspace has no NLL; expected a later commit" in error
    path.unlink()
    code, _, error = run("main", "workspace")
    assert code == 2
    assert "workspace has no file metrics/per_image.npz" in error


def state(repository: Project, facts: Mapping[str, Any]) -> None:
    """Changes what the workspace says of its data."""
    (repository.folder / "metrics" / "data.json").write_text(json.dumps(facts), encoding="utf-8")


def test_other_data_and_other_targets_are_refused_each_with_its_reason(repository: Project) -> None:
    facts = facts_of(resolve("main"))
    other = {"sha256": {**facts["sha256"], "train_labels": "0"}}
    for changed, words in (
        (
            {"name": "digits"},
            f"has the data set {facts['name']}, workspace digits: the loss of other images is",
        ),
        (other, f"have the data set {facts['name']} with other train_labels, by the sha256 in metrics/data.json"),
    ):
        state(repository, facts | changed)
        code, said, error = run("main", "workspace")
        assert (code, said, words in error) == (2, "", True)
        with pytest.raises(StageError, match=re.escape(words)):
            render(resolve("workspace"), resolve("main"))
        assert words in repository.succeed("python", "-m", "workflow.summary")  # of HEAD, which is main
    state(repository, facts)
    assert run("main", "workspace")[0] == 0
    repository.set_params({"preprocess": {"binarisation": "thresholded"}})
    code, _, error = run("main", "workspace")
    assert (code, "preprocess.binarisation is drawn in main" in error) == (2, True)


def test_commits_that_do_not_name_their_data_set_have_that_of_their_images(repository: Project) -> None:
    known = json.loads((ROOT / PUBLISHED).read_text(encoding="utf-8"))
    state(repository, {"sha256": known["fashion_mnist"]})
    assert facts_of(resolve("workspace")) == {
        "name": "fashion_mnist",
        "image_shape": [28, 28],
        "sha256": known["fashion_mnist"],
    }


@pytest.mark.parametrize(("pairs", "draws"), [(200, 100), pytest.param(1000, 200, marks=pytest.mark.whole)])
def test_simulated_files_give_false_alarms_at_the_level_and_find_what_is_visible(pairs: int, draws: int) -> None:
    """Pairs of per-image files of models of equal loss, and as many whose NLL differs by what is visible."""
    generator = np.random.default_rng(0)
    images = 300
    alarms = 0
    for _ in range(pairs):
        row = primary(of_images(generator, images), of_images(generator, images))
        alarms += row["verdict"] != UNSEEN
    assert binom.ppf(0.001, pairs, LEVEL) <= alarms <= binom.ppf(0.999, pairs, LEVEL)
    stated = np.median([primary(of_images(generator, images), of_images(generator, images))["smallest_visible"]
                        for _ in range(draws)])  # fmt: skip
    verdict_of = [
        primary(of_images(generator, images), of_images(generator, images, -stated))["verdict"] for _ in range(pairs)
    ]
    assert binom.ppf(0.001, pairs, POWER) <= verdict_of.count("better") <= binom.ppf(0.999, pairs, POWER)


def of_images(generator: np.random.Generator, images: int, shift: float = 0.0) -> bytes:
    """A per-image file: what makes images hard is the same in each, what the model makes of them is its own."""
    hard = np.random.default_rng(1).normal(200, 60, 2 * images)
    terms = {"gray_reconstruction": 0.0, "gray_kl": 0.0, "binarised_reconstruction": 0.0, "binarised_kl": 0.0}
    arrays: dict[str, Any] = {
        f"{name}_nats": np.round((hard + mean + generator.normal(0, 2, 2 * images)) / GRID_NATS) * GRID_NATS
        for name, mean in (terms | {"binarised_nll": shift}).items()
    }
    arrays |= {"split": np.repeat([0, 1], images), "index": np.tile(np.arange(images), 2)}
    content = io.BytesIO()
    np.savez(content, **{name: array.astype(np.float32) for name, array in arrays.items()})
    return content.getvalue()


def primary(before: bytes, after: bytes) -> Mapping[str, Any]:
    """The deciding row of a comparison of two per-image files."""
    rows = verdicts(OfFile("before", None, content=before), OfFile("after", None, content=after), [])
    return next(row for row in rows if (row["targets"], row["metric"]) == PRIMARY)


@dataclass(frozen=True)
class OfFile(Revision):
    """A revision all of whose files have one content."""

    content: bytes = b""

    def read(self, _: Path | str) -> bytes | None:
        return self.content


def test_a_revision_without_a_lock_is_refused(repository: Project) -> None:
    (repository.folder / "dvc.lock").unlink()
    with pytest.raises(StageError, match=r"workspace has no file dvc\.lock"):
        compare(resolve("main"), resolve("workspace"))
