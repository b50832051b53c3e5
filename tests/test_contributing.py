"""The recipes of CONTRIBUTING.md work when followed to the letter."""

import re
import shlex
import sys
import textwrap
from itertools import pairwise

import pytest
from conftest import ROOT, TRAINING_STAGES, Project, copy_part, keep_stages

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(chapter: str, language: str) -> str:
    """The first code block in a language of a chapter."""
    text = TEXT.partition(f"\n### {chapter}")[2].partition("\n### ")[0]
    found = re.search(rf"^ *```{language}\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
    assert found
    return textwrap.dedent(found.group(1))


def follow(project: Project, chapter: str, files: int, tests: str) -> None:
    """Applies a chapter's patch to a project with tests and pages. It has to touch so many files, and tests to pass."""
    for part in ("tests", "docs", "pyproject.toml"):
        copy_part(part, project.folder)
    patch = block(chapter, "diff")
    assert len(set(re.findall(r"^\+\+\+ (\S+)$", patch, flags=re.MULTILINE))) == files
    project.succeed("git", "apply", "-p0", input=patch)
    project.succeed("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *shlex.split(tests))


@pytest.mark.parametrize("chapter", ["A parameter", "A metric", "A figure", "A stage", "A data set", "A prior"])
def test_a_patch_fits_the_present_code(chapter: str) -> None:
    Project(ROOT).succeed("git", "apply", "-p0", "--check", input=block(chapter, "diff"))


@pytest.mark.whole
def test_add_a_parameter_of_training(project: Project) -> None:
    copy_part("params.yaml", project.folder)  # the slice's own has other lines
    follow(project, "A parameter", 3, "tests/test_training.py tests/test_params.py -k 'step or test_params'")
    ask = "from pipeline.params.whole import load_params; print(load_params().train.gradient_norm)"
    assert project.succeed("python", "-c", ask) == "0.0\n"


@pytest.mark.whole
def test_add_a_metric(project: Project) -> None:
    follow(project, "A metric", 4, "tests/test_tail.py")
    assert "Running stage 'evaluate'" not in project.repro("summarise")
    for of_split in project.json("metrics/evaluation.json").values():
        assert of_split["binarised"]["worst_nll_nats"] > of_split["binarised"]["nll_nats"]


@pytest.mark.whole
def test_add_a_figure(project: Project) -> None:
    follow(project, "A figure", 3, "tests/test_plots.py -k fall")
    project.repro("figures")
    assert (project.folder / "metrics/figures/loss_by_rank.png").is_file()


@pytest.mark.whole
def test_add_a_stage(project: Project) -> None:
    follow(project, "A stage", 3, "tests/test_brightness.py tests/test_pipeline.py -k 'not committed'")
    project.repro("brightness")
    assert 0 < project.json("metrics/brightness.json")["gray"] < 1


@pytest.mark.whole
def test_add_an_architecture(project: Project) -> None:
    chapter = "An architecture"
    keep_stages(project, *TRAINING_STAGES)
    (project.folder / "vae/architectures/dense.py").write_text(block(chapter, "python"), encoding="utf-8")
    assert "Running stage 'train'" not in project.repro()  # the present model is not touched by a new one
    for line in block(chapter, "sh").splitlines():
        said = project.succeed(*shlex.split(line))
    assert "dense" in said
    sizes = pairwise([784, 64, 32, 2 * 2]), pairwise([2, 32, 64, 784])  # of the layers of encoder and decoder
    assert project.json("metrics/train.json")["parameters"] == sum((a + 1) * b for net in sizes for a, b in net)


@pytest.mark.whole
def test_add_a_data_set(project: Project) -> None:
    follow(project, "A data set", 2, "tests/test_stripes.py")
    project.set_params({"data": {"name": "stripes", "images": 600}, "preprocess": {"split": "stratified"}})
    assert "first fetch of stripes" in project.repro("summarise")
    assert project.json("datasets.json").keys() >= {"fashion_mnist", "stripes/600"}
    assert project.json("metrics/data.json")["classes"] == ["horizontal", "vertical"]
    project.set_params({"model": {"architecture": "textbook", "latent_dim": 3}})
    assert "Running stage 'fetch'" not in project.repro("train")


@pytest.mark.whole
def test_add_a_prior(project: Project) -> None:
    follow(project, "A prior", 2, "tests/test_priors.py -k affine")
    project.set_params({"model": {"prior": "affine", "prior_widths": []}})
    assert "Running stage 'train'" in project.repro("export")


@pytest.mark.whole
def test_tests_are_listed_without_tensorflow() -> None:
    ask = "status = pytest.main(['--collect-only']); print('tensorflow.python' in sys.modules); sys.exit(status)"
    said = Project(ROOT).succeed(sys.executable, "-c", f"import sys, pytest; {ask}")
    assert said.splitlines()[-1] == "False"
