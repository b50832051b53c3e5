"""A plugin of pytest for `make faults` and `make test-whole`: counts what was tried, and writes the table of them."""

import json
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tabulate import tabulate

ROOT = Path(__file__).parents[2]

#: What is counted, in the order of the table.
KINDS = (
    "kills survived",
    "disks filled",
    "disks read-only",
    "starts at once",
    "variations identical",
    "variations not possible here",
    "inputs tried",
    "inputs refused",
    "inputs wrongly accepted",
)

_counts: Counter[str] = Counter()
_not_run: list[str] = []


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Counts by kind, of one test; they travel with its report, from a process of its own, too."""
    of_test: Counter[str] = Counter()
    yield of_test
    request.node.user_properties.append(("counts", dict(of_test)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up what a test counted, and keeps why a check was not run."""
    if report.when == "teardown":
        _counts.update(dict(report.user_properties).get("counts", {}))
    if report.skipped and isinstance(report.longrepr, tuple):
        _not_run.append(f"{report.nodeid.rpartition('::')[2]}: {report.longrepr[2].removeprefix('Skipped: ')}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode, config: pytest.Config
) -> None:
    """The table; of a whole run that passed also as bench/faults.md and bench/faults.json."""
    rows = [[kind, _counts[kind]] for kind in KINDS]
    rows.append(["checks not run", len(_not_run)])
    terminalreporter.write_line(tabulate(rows, ["faults", "count"], tablefmt="github"))
    for why in _not_run:
        terminalreporter.write_line(f"not run: {why}")
    chosen = ("keyword", "markexpr", "collectonly")
    whole = (
        config.args[-1:] == ["tests/faults"] and config.getoption("--whole") and not any(map(config.getoption, chosen))
    )
    if not whole or exitstatus != pytest.ExitCode.OK:
        return
    counts = {kind: _counts[kind] for kind in KINDS}
    content = {"counts": counts, "not_run": _not_run, "system": f"{platform.system()} {platform.machine()}"}
    (ROOT / "bench/faults.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = [
        "# Faults\n",
        "Written by `make faults`, not by hand.\n",
        tabulate(rows, ["faults", "count"], tablefmt="github"),
        "",
    ]
    (ROOT / "bench/faults.md").write_text(
        "\n".join([*page, *(f"Not run: {why}\n" for why in _not_run)]), encoding="utf-8"
    )
