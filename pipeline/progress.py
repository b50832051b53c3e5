"""Progress of long work: a bar with rate and time left on a terminal, a few quiet lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

#: Lines that work of any length prints where there is no terminal.
QUIET_LINES = 10


class Progress:
    """Counts units of work done."""

    def __init__(self, what: str, bar: "tqdm[None]") -> None:
        self._what = what
        self._bar = bar
        self._next_line = 0.0

    def advance(self, units: int = 1, note: str = "") -> None:
        """Counts `units` more as done; `note` is shown beside them."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(units)
        if self._bar.disable:
            self._line(units, note)

    def _line(self, units: int, note: str) -> None:
        self._bar.n += units  # a disabled bar does not count
        share = self._bar.n / self._bar.total
        if share >= self._next_line or share >= 1:
            self._next_line = (int(share * QUIET_LINES) + 1) / QUIET_LINES
            print(f"{self._what}: {share:4.0%} {note}".rstrip(), flush=True)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Shows the progress of `total` units of work, `done` of which were done before."""
    quiet = not sys.stderr.isatty()
    with tqdm(
        total=total, initial=done, desc=what, unit=unit, unit_scale=True, disable=quiet, dynamic_ncols=True
    ) as bar:
        if quiet:
            bar.n, bar.total = done, total
        yield Progress(what, bar)
