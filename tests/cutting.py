"""A plugin of pytest for long suites: `--cut` leaves out the tests that are marked `whole`."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that leaves out what only a whole run tries."""
    parser.addoption("--cut", action="store_true", help="leave out what is marked `whole`")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known."""
    config.addinivalue_line("markers", "whole: tried by a whole run only, not by a cut")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what only a whole run tries, where a cut is asked for."""
    if config.getoption("--cut"):
        kept = [item for item in items if item.get_closest_marker("whole") is None]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
