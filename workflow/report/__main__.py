"""Writes the page: `python -m workflow.report HEAD [BASE] --output report.html`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import atomic
from workflow.command import end, require_folder_of
from workflow.history.lock import require_finished
from workflow.history.revisions import WORKSPACE, resolve
from workflow.report.page import render


def main(arguments: Sequence[str]) -> int:
    """Writes the page for one revision, or for two side by side.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If a revision has no results, or its training has not ended, or there is no folder for the page.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.report", allow_abbrev=False)
    parser.add_argument("head", metavar="HEAD", nargs="?", default=WORKSPACE, help="revision; workspace if left out")
    parser.add_argument("base", metavar="BASE", nargs="?", default="", help="revision that it is held against")
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    options = parser.parse_args(arguments)
    require_folder_of(options.output)
    head, base = resolve(options.head), resolve(options.base) if options.base else None
    require_finished(*filter(None, (head, base)))
    text = render(head, base)
    with atomic(options.output) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"report: wrote {options.output}, {options.output.stat().st_size / 1e6:.1f} MB, which needs no network")
    return 0


if __name__ == "__main__":
    end("report", lambda: main(sys.argv[1:]))
