"""What an audit looks for, where it looks, and what it found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Places that are looked at.
COMMIT, WORKSPACE, CACHE, PACK, RERUN = "commit", "workspace", "cache", "release pack", "run anew"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    check: str  # name of the check that found it, one of CHECKS
    place: str  # where it was seen
    subject: str  # the file, output or parameter
    words: str  # what is wrong with it

    def __str__(self) -> str:
        return f"{self.subject}: {self.words} ({self.place})"


@dataclass(frozen=True)
class Check:
    """One thing that is looked at, for the table of an audit."""

    words: str  # what has to hold
    finds: str  # the tampering that breaks it
    places: Sequence[str] = (COMMIT, WORKSPACE)  # where it is looked for


CHECKS: Mapping[str, Check] = {
    "lock": Check(
        "dvc.lock can be read, has the stages and commands of dvc.yaml, and states one hash of each file",
        "a lock out of a bad merge, an entry of the lock edited",
    ),
    "results": Check("each result in git has the hash that dvc.lock states", "an edited metric, an edited figure"),
    "causes": Check(
        "code, parameters and versions are those that dvc.lock states",
        "a parameter or a source changed without a run, a lock of the environment edited",
    ),
    "provenance": Check(
        "what each stage recorded of its code, parameters, inputs and outputs agrees with the files and with the "
        "stages before it",
        "a source edited while its stage ran, weights or data replaced, a result edited with its entry of the lock",
        (COMMIT, WORKSPACE, CACHE),
    ),
    "values": Check(
        "losses, their errors and those by class follow from metrics/per_image.npz",
        "a loss edited with its entry of the lock and its provenance",
    ),
    "card": Check(
        "the numbers of the model card are those of the metrics",
        "a figure of the card edited with its entry of the lock and its provenance",
    ),
    "unfinished": Check(
        "git holds no data, no unfinished work of stages and no cache of DVC",
        "a state with forged numbers, from which a stage would go on",
    ),
    "data": Check("the data are the published ones, by sha256, where they are published", "another data set"),
    "environment": Check(
        "numeric.txt has the versions of requirements/runtime.txt", "a lock of the environment edited"
    ),
    "seeds": Check(
        "of metrics/seeds.json, the run of the commit's own seed has its weights and metrics",
        "a loss of it edited, from which comparisons take the spread over seeds",
    ),
    "cache": Check(
        "what DVC's cache holds of this commit has the hash that names it",
        "weights or data replaced, in the cache",
        (CACHE,),
    ),
    "pack": Check("a pack holds this commit's outputs", "weights or data replaced, in a pack", (PACK,)),
    "rerun": Check(
        "the pipeline, run anew from the data on, gives the committed bytes",
        "all of these, however consistently the files were changed",
        (RERUN,),
    ),
}
