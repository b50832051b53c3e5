"""Numbers in git that no stage wrote: what proves them."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.errors import StageError
from workflow.history import seeds
from workflow.history.lock import outputs
from workflow.history.revisions import Revision

#: The command that runs the numbers of a file anew, by pattern, the first that fits; empty where they are the times and
#: the memory of one machine.
_COMMANDS = {
    "metrics/seeds.json": "make audit SEED=N",
    "presets/*.json": "make audit PRESET={stem}",
    "sweeps/*.json": "make sweep SPEC=sweeps/{stem}.yaml",
    "workflow/compare/tolerance.json": "make portability",
    "workflow/tolerance.json": "make portability",  # of older commits
    "bench/portability.json": "make portability",
    "bench/faults.json": "make faults",
    "bench/results.json": "make bench",
    "bench/*.json": "",
}

_FOLDERS = sorted({PurePosixPath(pattern).parts[0] for pattern in _COMMANDS})


def not_proved(revision: Revision) -> dict[str, str]:
    """Maps the path of each number that this audit does not prove to the command that does, or why nothing can."""
    written = outputs(revision)
    return {
        path: _proof(PurePosixPath(path))
        for path in revision.hashes(*_FOLDERS)
        if path.endswith((".json", ".csv", ".npz"))
        and not any(PurePosixPath(path).is_relative_to(output) for output in written)
    }


def _proof(path: PurePosixPath) -> str:
    for pattern, command in _COMMANDS.items():
        if path.match(pattern):
            return f"`{command.format(stem=path.stem)}` runs it anew" if command else "times and memory of one machine"
    return "nothing is known that makes it anew"


def seed_findings(revision: Revision) -> Iterator[tuple[str, str]]:
    """The recorded run of the revision's own seed against its results.

    Only where `metrics/seeds.json` is of its code and parameters: else no comparison takes its spreads from there.
    """
    try:
        record = seeds.record_in(revision.read(seeds.PATH))
    except StageError as error:
        yield str(seeds.PATH), str(error)
        return
    if record is None or record.digest != seeds.digest_of(revision):
        return
    own = seeds.run_of(revision)
    recorded = next((run.model_dump() for run in record.runs if run.seed == own["seed"]), None)
    subject = f"{seeds.PATH}: seed {own['seed']}"
    if recorded is None:
        yield subject, "is the commit's own, and has no run there: `make seeds` writes it"
    elif differing := [name for name in own if recorded[name] != own[name]]:
        yield subject, f"has other {' and '.join(differing)} than the commit's own results"
