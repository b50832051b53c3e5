"""The recipes of CONTRIBUTING.md work when followed to the letter."""

import re
import shlex
import sys
import textwrap
from itertools import pairwise

import pytest
from conftest import ROOT, Project

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first code block in a language after "Add an architecture"."""
    chapter = TEXT.partition("## Add an architecture")[2]
    found = re.search(rf"^ *```{language}\n(.*?)^ *```$", chapter, flags=re.DOTALL | re.MULTILINE)
    assert found
    return textwrap.dedent(found.group(1))


@pytest.mark.whole
def test_add_an_architecture(project: Project) -> None:
    (project.folder / "vae/architectures/dense.py").write_text(block("python"), encoding="utf-8")
    said = project.repro()  # the present model is not touched by a new one
    assert "Running stage 'train'" not in said

    for line in block("sh").splitlines():
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
