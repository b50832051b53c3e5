"""One verdict for each output: the bytes made anew against those that the commit states."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import files_of
from workflow.compare.tolerance import held_against
from workflow.history.lock import DATA, outputs
from workflow.history.revisions import Revision
from workflow.release.pack import is_proven, objects, place

IDENTICAL, WITHIN, DIFFERS = "identical", "within tolerance", "differs"

#: Files made anew and files of the commit, each by path.
Contents = tuple[Mapping[str, bytes], Mapping[str, bytes]]


@dataclass(frozen=True)
class Outcome:
    """The verdict on one output."""

    path: str
    expected: str  # md5 that the commit's dvc.lock states; empty if it states none
    found: str  # md5 of what was made anew; empty if nothing was
    verdict: str  # IDENTICAL, WITHIN or DIFFERS
    words: str  # by how much it differs, and what that is held against


def outcomes(commit: Revision, made: Revision, cache: Path, *, same_class: bool) -> list[Outcome]:
    """The verdicts on every output.

    Args:
        commit: The revision that is audited.
        made: What its pipeline wrote anew.
        cache: DVC's cache, which may have the commit's own bytes.
        same_class: Whether both were made on one class of processor, where bytes have to be the same.
    """
    expected, found = outputs(commit), outputs(made)
    verdicts = []
    for path in sorted(expected.keys() | found.keys()):
        theirs, ours = expected.get(path, ""), found.get(path, "")
        differ = theirs and ours and theirs != ours
        contents = _contents(path, theirs, commit, made.folder, cache) if differ else None
        verdicts.append(judged(path, theirs, ours, contents, same_class=same_class))
    return verdicts


def judged(path: str, expected: str, found: str, contents: Contents | None, *, same_class: bool) -> Outcome:
    """The verdict on one output.

    Args:
        path: Of the output.
        expected: md5 that the commit states; empty if it states none.
        found: md5 of what was made anew; empty if nothing was.
        contents: Files made anew, and the commit's, where the md5 are different; None if the commit's are not here.
        same_class: As for `outcomes`.
    """
    if expected == found:
        return Outcome(path, expected, found, IDENTICAL, "")
    if not expected or not found:
        words = "the commit's pipeline does not write it" if expected else "the commit has none"
        return Outcome(path, expected, found, DIFFERS, words)
    if contents is None:
        words, beyond = "the commit's bytes are not here to compare: judged by the metrics that follow", False
    else:
        words, beyond = held_against(*contents)
        if same_class:
            words = f"{words}; on one class of processor equal bytes are expected"
    return Outcome(path, expected, found, DIFFERS if beyond or same_class else WITHIN, words)


def _contents(path: str, md5: str, commit: Revision, folder: Path, cache: Path) -> Contents | None:
    """The files of an output in `folder`, and the commit's own; None if neither git nor the cache has those, proven."""
    if path.startswith(DATA):
        places = {name: (place(cache, of_file), of_file) for name, of_file in objects(cache, path, md5).items()}
        if not all(is_proven(*placed) for placed in places.values()):
            return None
        theirs = {name: file.read_bytes() for name, (file, of_file) in places.items() if not of_file.endswith(".dir")}
    else:
        theirs = {name: commit.require(name) for name in commit.hashes(path)}
    return {str(file.relative_to(folder)): file.read_bytes() for file in files_of(folder / path)}, theirs
