"""One verdict for each output: the bytes made anew against those that the commit states."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.files import files_of
from workflow.compare.tolerance import held_against
from workflow.history.lock import DATA, outputs
from workflow.history.revisions import Revision
from workflow.release.pack import is_proven, objects, place

IDENTICAL, WITHIN, DIFFERS = "identical", "within tolerance", "differs"


@dataclass(frozen=True)
class Outcome:
    """The verdict on one output.

    Attributes:
        path: Of the output.
        expected: md5 that the commit's dvc.lock states; empty if it states none.
        found: md5 of what was made anew; empty if nothing was.
        verdict: `IDENTICAL`, `WITHIN` or `DIFFERS`.
        words: By how much it differs, and what that is held against.
    """

    path: str
    expected: str
    found: str
    verdict: str
    words: str


def outcomes(commit: Revision, made: Revision, cache: Path, *, same_class: bool) -> list[Outcome]:
    """The verdicts on every output.

    Args:
        commit: The revision that is audited.
        made: What its pipeline wrote anew.
        cache: DVC's cache, which may have the commit's own bytes.
        same_class: Whether both were made on one class of processor, where bytes have to be the same.
    """
    expected, found = outputs(commit), outputs(made)
    return [
        _outcome(path, expected.get(path, ""), found.get(path, ""), commit, made.folder, cache, same_class=same_class)
        for path in sorted(expected.keys() | found.keys())
    ]


def _outcome(
    path: str, expected: str, found: str, commit: Revision, folder: Path, cache: Path, *, same_class: bool
) -> Outcome:
    if not expected or not found:
        words = "the commit's pipeline does not write it" if expected else "the commit has none"
        return Outcome(path, expected, found, DIFFERS, words)
    if expected == found:
        return Outcome(path, expected, found, IDENTICAL, "")
    theirs = _committed(path, expected, commit, cache)
    if theirs is None:
        words = "the commit's bytes are not here to compare: judged by the metrics that follow"
        return Outcome(path, expected, found, DIFFERS if same_class else WITHIN, words)
    ours = {str(file.relative_to(folder)): file.read_bytes() for file in files_of(folder / path)}
    words, beyond = held_against(ours, theirs)
    if same_class:
        words = f"{words}; on one class of processor equal bytes are expected"
    return Outcome(path, expected, found, DIFFERS if beyond or same_class else WITHIN, words)


def _committed(path: str, md5: str, commit: Revision, cache: Path) -> dict[str, bytes] | None:
    """The commit's own files of an output by path; None if neither git nor the cache has them, each proven."""
    if not path.startswith(DATA):
        content = commit.read(path)
        names = [path] if content is not None else list(commit.hashes(path))
        return {name: commit.require(name) for name in names}
    found = objects(cache, path, md5)
    if not all(is_proven(place(cache, of_file), of_file) for of_file in found.values()):
        return None
    return {name: place(cache, of_file).read_bytes() for name, of_file in found.items() if not of_file.endswith(".dir")}
