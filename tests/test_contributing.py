"""The recipes of CONTRIBUTING.md work when followed to the letter."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from itertools import pairwise

import pytest
from conftest import ROOT, Project, copy_part, keep_stages

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(chapter: str, language: str) -> str:
    """The first code block in a language of a chapter."""
    text = TEXT.partition(f"\n### {chapter}")[2].partition("\n### ")[0]
    found = re.search(rf"^ *```{language}\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
    assert found
    return textwrap.dedent(found.group(1))


def follow(project: Project, chapter: str) -> set[str]:
    """Applies a chapter's patch to a project that has tests and pages, too; what it touches, but the project's own."""
    for part in ("tests", "docs", "pyproject.toml"):
        copy_part(part, project.folder)
    shutil.copy(ROOT / "params.yaml", project.folder / "params.yaml")
    patch = block(chapter, "diff")
    done = subprocess.run(["git", "apply", "-p0"], cwd=project.folder, input=patch, text=True, check=False)
    assert done.returncode == 0
    return set(re.findall(r"^\+\+\+ (\S+)$", patch, flags=re.MULTILINE))


def passes(project: Project, *arguments: str) -> None:
    done = project.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chapter", ["A parameter", "A metric", "A figure", "A stage"])
def test_a_patch_fits_the_present_code(chapter: str) -> None:
    patch = block(chapter, "diff")
    done = subprocess.run(["git", "apply", "-p0", "--check"], cwd=ROOT, input=patch, text=True, check=False)
    assert done.returncode == 0


@pytest.mark.whole
def test_add_a_parameter_of_training(project: Project) -> None:
    assert len(follow(project, "A parameter")) == 3
    passes(project, "tests/test_training.py", "-k", "step")
    ask = "from pipeline.params.whole import load_params; print(load_params().train.gradient_norm)"
    assert project.run("python", "-c", ask).stdout == "0.0\n"


@pytest.mark.whole
def test_add_a_metric(project: Project) -> None:
    params = (project.folder / "params.yaml").read_bytes()
    assert len(follow(project, "A metric")) == 4
    passes(project, "tests/test_tail.py")
    (project.folder / "params.yaml").write_bytes(params)
    said = project.repro("summarise")
    assert "Running stage 'evaluate'" not in said
    metrics = json.loads((project.folder / "metrics/evaluation.json").read_text(encoding="utf-8"))
    for split in ("validation", "test"):
        assert metrics[split]["binarised"]["worst_nll_nats"] > metrics[split]["binarised"]["nll_nats"]


@pytest.mark.whole
def test_add_a_figure(project: Project) -> None:
    params = (project.folder / "params.yaml").read_bytes()
    assert len(follow(project, "A figure")) == 3
    passes(project, "tests/test_plots.py", "-k", "fall")
    (project.folder / "params.yaml").write_bytes(params)
    project.repro("figures")
    assert (project.folder / "metrics/figures/loss_by_rank.png").is_file()


@pytest.mark.whole
def test_add_a_stage(project: Project) -> None:
    params = (project.folder / "params.yaml").read_bytes()
    assert len(follow(project, "A stage")) == 3
    passes(project, "tests/test_brightness.py", "tests/test_pipeline.py", "-k", "not committed")
    (project.folder / "params.yaml").write_bytes(params)
    project.repro("brightness")
    assert 0 < json.loads((project.folder / "metrics/brightness.json").read_text(encoding="utf-8"))["gray"] < 1


@pytest.mark.whole
def test_add_an_architecture(project: Project) -> None:
    chapter = "An architecture"
    keep_stages(project, "check", "fetch", "preprocess", "train")
    (project.folder / "vae/architectures/dense.py").write_text(block(chapter, "python"), encoding="utf-8")
    assert "Running stage 'train'" not in project.repro()  # the present model is not touched by a new one
    for line in block(chapter, "sh").splitlines():
        done = project.run(*shlex.split(line))
        assert done.returncode == 0, done.stdout + done.stderr
    assert "dense" in done.stdout
    assert f'"parameters": {_dense_parameters(2, [64, 32])}' in (project.folder / "metrics/train.json").read_text()


def _dense_parameters(latent_dim: int, widths: list[int]) -> int:
    """Weights and biases of the dense VAE, counted by hand."""
    encoder = [784, *widths, 2 * latent_dim]
    decoder = [latent_dim, *reversed(widths), 784]
    return sum((a + 1) * b for sizes in (encoder, decoder) for a, b in pairwise(sizes))


@pytest.mark.whole
def test_tests_are_listed_without_tensorflow() -> None:
    ask = "status = pytest.main(['--collect-only']); print('tensorflow.python' in sys.modules); sys.exit(status)"
    done = Project(ROOT).run(sys.executable, "-c", f"import sys, pytest; {ask}")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "False"), done.stdout
