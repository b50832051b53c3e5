"""A plugin of pytest for `make faults` and `make test-whole`: counts what was tried, and writes a table of it."""

import json
import platform
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN

import pytest
from tabulate import tabulate

from pipeline.stage import peak_memory_mib
from workflow.history.origin import origin

ROOT = Path(__file__).parents[2]

#: Rows of the table.
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
_began = time.monotonic()  # pytest loads its plugins first


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Counts of one test by kind. They travel with its report, also from another process."""
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
    """Prints the table. A whole run that passed also writes it to bench/faults.md and bench/faults.json."""
    counts = {kind: _counts[kind] for kind in KINDS}
    rows = [*counts.items(), ("checks not run", len(_not_run))]
    table = tabulate(rows, ["faults", "count"], tablefmt="github")
    terminalreporter.write_line("\n".join([table, *(f"not run: {why}" for why in _not_run)]))
    chosen = any(config.getoption(option) for option in ("keyword", "markexpr", "collectonly"))
    whole = config.args[-1:] == ["tests/faults"] and config.getoption("--whole") and not chosen
    if not whole or exitstatus != pytest.ExitCode.OK:
        return
    content = {
        **origin(),
        "counts": counts,
        "not_run": _not_run,
        "system": f"{platform.system()} {platform.machine()}",
        "seconds": round(time.monotonic() - _began),
        "peak_memory_mib": round(peak_memory_mib(RUSAGE_CHILDREN)),
    }
    (ROOT / "bench/faults.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = ["# Faults", "Written by `make faults`, not by hand.", table, *(f"Not run: {why}" for why in _not_run)]
    (ROOT / "bench/faults.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
