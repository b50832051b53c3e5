"""`python -m workflow.stale`: refuses results of other code, parameters or versions, as weekly CI does."""

from collections.abc import Iterator

from workflow.command import end
from workflow.history import seeds
from workflow.history.presets import stale_presets
from workflow.history.staleness import stale_stages


def main() -> int:
    """Names each result that is stale, and what makes it anew.

    Returns:
        Exit status: 1 if there is one, or 0.
    """
    found = [*stale_results(), *stale_records()]
    print("\n".join(found) or "All results are of this code, these parameters and these versions.")
    return 1 if found else 0


def stale_results() -> Iterator[str]:
    """The stages whose results are stale, if there are any."""
    if stages := stale_stages():
        yield f"dvc.lock is stale, {', '.join(stages)} would run: `dvc repro`, and commit dvc.lock and metrics/"


def stale_records() -> Iterator[str]:
    """Recorded runs of other code or parameters: those of presets, and the spread over seeds."""
    for name, why in stale_presets().items():
        yield f"preset {name} is stale, as {why}: `make experiment NAME={name}`"
    if seeds.stale():
        yield f"{seeds.PATH} is stale, of other code, parameters or versions: `make seeds`"


if __name__ == "__main__":
    end("stale", main)
