"""Figures: what programs print of them, and the pages that templates make of them."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline.errors import StageError
from pipeline.files import atomic
from pipeline.stage import peak_memory_mib
from workflow.history.origin import origin

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


def measured(measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The record of a measurement: what the function finds, where it was run, its seconds and peak memory, MiB.

    The memory is that of the largest process that has ended so far, unless the function tells another.

    Raises:
        StageError: If the function does, or git has no commit here.
    """
    place, began = origin(), time.monotonic()
    found = measure()
    return {
        **place,
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mib": round(peak_memory_mib(RUSAGE_CHILDREN)),
        **found,
    }


def page(name: str, figures: Mapping[str, Any]) -> str:
    """The text of the page bench/NAME, which its template bench/NAME.jinja makes of the figures."""
    return _TEMPLATES.get_template(f"{name}.jinja").render(figures)


def publish(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes a page, and prints it."""
    text = page(path.name, figures)
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)
