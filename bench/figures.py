"""Figures: what programs print of them, and the pages that templates make of them."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline.errors import StageError
from pipeline.files import atomic

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=select_autoescape(),  # of HTML; these pages are Markdown
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["mean"] = fmean


def printed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON that a program prints as its last line.

    Raises:
        StageError: If the program fails, with the end of what it said.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def page(name: str, figures: Mapping[str, Any]) -> str:
    """The text of the page bench/NAME, which its template bench/NAME.jinja makes of the figures."""
    return _TEMPLATES.get_template(f"{name}.jinja").render(figures)


def publish(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes a page, and prints it."""
    text = page(path.name, figures)
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)
