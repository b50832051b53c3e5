"""Progress: a few lines where nobody watches, a bar with its rate on a terminal."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout

from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.progress import progress


def lines_of(steps: Iterable[int], total: int, done: int = 0, note: str = "") -> list[str]:
    """What work off a terminal prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()) as error:
        with progress("train", total, " images", done) as shown:
            for units in steps:
                shown.advance(units, note)
        assert error.getvalue() == ""
    return out.getvalue().splitlines()


def shares(lines: list[str]) -> list[int]:
    """Per cents that the lines state."""
    return [int(re.fullmatch(r"train: +(\d+)%", line)[1]) for line in lines]  # type: ignore[index]


def test_ten_steps_are_ten_lines() -> None:
    assert shares(lines_of([1] * 10, total=10)) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300), st.integers(0, 100_000))
def test_any_steps_are_a_few_rising_lines_that_end_at_100(steps: list[int], done: int) -> None:
    found = shares(lines_of(steps, done + sum(steps), done))
    assert len(found) <= 11
    assert found == sorted(found)
    assert found[-1] == 100


#: A third of the work, then the wait for a word to go on.
THIRD = """
import sys
from pipeline.progress import progress

with progress("train", 90, "") as shown:
    shown.advance(30)
    sys.stdin.readline()
    shown.advance(1)
    shown.advance(59)
"""


def test_lines_come_through_a_pipe_as_the_work_goes() -> None:
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", THIRD]
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        came, _, _ = select.select([process.stdout], [], [], 20)
        assert came, "nothing came before the work was done"
        out, error = process.communicate("go on\n")
    assert out == "train:  33%\ntrain: 100%\n"
    assert error == ""


def test_resumed_work_starts_at_its_share() -> None:
    assert shares(lines_of([1] * 25, total=100, done=75)) == [76, 80, 90, 100]


def test_work_that_was_done_before_prints_nothing() -> None:
    assert lines_of([], total=100, done=100) == []


def test_note_stands_beside_the_share() -> None:
    note = "epoch 3/30, validation loss 262.04"
    assert lines_of([50, 50], 100, note=note) == [f"train:  50% {note}", f"train: 100% {note}"]


#: Ten steps, the first four of which were done before.
WORK = """
from pipeline.progress import progress

with progress("train", 10, " images", done=4) as shown:
    for _ in range(6):
        shown.advance(1, "epoch 1/3")
"""


def test_terminal_shows_a_bar_with_its_rate() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", WORK],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        terminal = read_all(master)
        assert process.stdout is not None
        assert process.stdout.read() == "", "quiet lines beside the bar"
    assert process.returncode == 0
    first, *_, last = (bar for bar in re.split(r"[\r\n]+", terminal) if bar)
    assert re.match(r"train:  40%\|█+.*\| 4\.00/10\.0 ", first)
    assert re.match(r"train: 100%\|█+\| 10\.0/10\.0 \[\d\d:\d\d<\d\d:\d\d, [\d.]+[kM]? images/s, epoch 1/3\]", last)


def read_all(terminal: int) -> str:
    """Everything written to a pseudo-terminal until its last writer is gone."""
    content = b""
    with open(terminal, "rb", buffering=0) as handle:
        while True:
            try:
                part = handle.read(4096)
            except OSError:  # how Linux says that nobody has it open any more
                break
            if not part:
                break
            content += part
    return content.decode()
