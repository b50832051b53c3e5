"""The pages of bench/: text from templates, numbers from what was measured."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline.files import atomic

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=select_autoescape(),  # of HTML; these pages are Markdown
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["mean"] = fmean


def page(name: str, figures: Mapping[str, Any]) -> str:
    """The text of the page bench/NAME, which its template bench/NAME.jinja makes of the figures."""
    return _TEMPLATES.get_template(f"{name}.jinja").render(figures)


def publish(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes a page, and prints it."""
    text = page(path.name, figures)
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)
