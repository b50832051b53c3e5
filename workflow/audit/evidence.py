"""Numbers in git that no stage wrote: what proves them."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from workflow import seeds
from workflow.audit.findings import Finding
from workflow.audit.outcomes import DIFFERS
from workflow.audit.recorded import Recorded
from workflow.lock import outputs
from workflow.revisions import Revision

#: The command that runs the numbers of a file anew, by pattern, the first that fits; empty where they are the times and
#: the memory of one machine.
_COMMANDS = {
    "metrics/seeds.json": "make audit SEED=N",
    "presets/*.json": "make audit PRESET={stem}",
    "sweeps/*.json": "make sweep SPEC=sweeps/{stem}.yaml",
    "workflow/tolerance.json": "make portability",
    "bench/portability.json": "make portability",
    "bench/faults.json": "make faults",
    "bench/results.json": "make bench",
    "bench/*.json": "",
}

_FOLDERS = ("metrics", *sorted({PurePosixPath(pattern).parts[0] for pattern in _COMMANDS} - {"metrics"}))


def not_proved(revision: Revision) -> dict[str, str]:
    """What this audit does not prove, by path: the command that does, or that nothing can."""
    written = outputs(revision)
    found = {}
    for path in revision.hashes(*_FOLDERS):
        own = any(PurePosixPath(path).is_relative_to(output) for output in written)
        if path.endswith((".json", ".csv", ".npz")) and not own:
            commands = [command for pattern, command in _COMMANDS.items() if PurePosixPath(path).match(pattern)]
            found[path] = _words(commands, PurePosixPath(path).stem)
    return found


def _words(commands: list[str], stem: str) -> str:
    if not commands:
        return "nothing is known that makes it anew"
    return f"`{commands[0].format(stem=stem)}` runs it anew" if commands[0] else "times and memory of one machine"


def seed_findings(revision: Revision, checkout: Path, place: str) -> Iterator[Finding]:
    """The recorded run of the revision's own seed against its results.

    Only where `metrics/seeds.json` is of its code and parameters: else no comparison takes its spreads from there.
    """
    content = revision.read(seeds.PATH)
    runs = seeds.runs_in(content) if content else []
    if not runs or revision.read_json(seeds.PATH)["digest"] != seeds.digest_in(checkout):
        return
    numbers = [run["seed"] for run in runs]
    if len(set(numbers)) != len(numbers):
        yield Finding("seeds", place, str(seeds.PATH), f"has a seed twice: {', '.join(map(str, sorted(numbers)))}")
    own = revision.read_yaml("params.yaml")["train"]["seed"]
    if numbers.count(own) == 1:
        for outcome in Recorded("seed", str(own)).outcomes(revision, revision):
            if outcome.verdict == DIFFERS:
                words = f"is not what this commit's results say, though both are of seed {own}"
                yield Finding("seeds", place, outcome.path, f"{words}; {outcome.words}" if outcome.words else words)
