"""`make seeds N=5`: runs the present parameters with N seeds of training, and records what each of them found."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.files import write_metrics
from pipeline.params.whole import load_params
from workflow.command import end
from workflow.history.lock import LOCK, contradictions
from workflow.history.origin import cost
from workflow.history.revisions import Revision, experiments, git, resolve
from workflow.history.seeds import PATH, TARGETS, Run, record_in, run_of, seeds_digest
from workflow.history.sweeps import COMPLETED
from workflow.scale.cluster import connected
from workflow.scale.engine import Plan, forget, head_commit, run

#: What a run cost, which its commit does not hold: fields of `Run`.
_COST = ("processor", "seconds", "peak_memory_mib")


def main(arguments: Sequence[str]) -> int:
    """Runs an experiment for each further seed, by Ray, and writes `metrics/seeds.json`. The first is the commit's own.

    The name of an experiment has the digest of what it runs: one that is there already is not run again.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If it was refused, or a run failed.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.scale.seeds")
    parser.add_argument("count", metavar="N")
    count = parser.parse_args(arguments).count
    if not count.isdecimal() or int(count) < 2:
        raise StageError(f"N = {count!r}: it should be a number of seeds, 2 or more")
    params = load_params()
    if params.train.workers > 1:
        raise StageError(f"train.workers = {params.train.workers}: expected 1, as each seed is trained by itself")
    own = resolve("HEAD")
    if untrue := contradictions(own):
        raise StageError(f"the results of HEAD are not its own ({untrue[0]}): `dvc repro`, and commit them first")
    others = range(params.train.seed + 1, params.train.seed + int(count))
    digest = seeds_digest()
    name = f"seed-{{seed}}-{digest[:8]}"
    missing = [seed for seed in others if name.format(seed=seed) not in experiments()]
    spent: dict[str, dict[str, Any] | None] = {}
    if missing:
        spent = _run(missing, name, f"seeds-{digest[:8]}-{others[0]}-{others[-1]}", params.threads.intra_op)
    recorded = git(Path(), "log", "-1", "--format=%H", "--", LOCK).strip()  # whatever was committed since
    known = record_in(PATH.read_bytes() if PATH.is_file() else None)
    costs = {run.weights: run.model_dump(include=set(_COST)) for run in (known.runs if known else ())}
    runs = [_recorded(own, recorded, cost("train"), costs)]
    for experiment in (name.format(seed=seed) for seed in others):
        revision = resolve(experiment)
        parent = resolve(f"{revision.commit}^").commit
        runs.append(_recorded(revision, parent, spent.get(experiment), costs))
    write_metrics(PATH, {"digest": digest, "runs": runs})
    print(f"seeds: wrote {PATH}; commit it with dvc.lock and metrics/. The runs: dvc exp show --only-changed")
    return 0


def _run(seeds: Sequence[int], name: str, key: str, threads: int) -> dict[str, dict[str, Any] | None]:
    """Runs seeds as experiments of that name, as many at once as there are cores for.

    Returns:
        By the name of each experiment, what its training cost; None if that is not known.

    Raises:
        StageError: If one fails, with its reason.
    """
    print(f"seeds: runs {', '.join(map(str, seeds))}", flush=True)
    plan = Plan(
        command="seeds",
        key=key,
        job={"project": str(Path().resolve()), "commit": head_commit(), "targets": list(TARGETS), "name": name},
        values={"train.seed": {"grid_search": seeds}},
        threads=threads,
        trials=len(seeds),
        hours=None,
        objective="validation_loss",
    )
    with connected(threads):
        trials = run(plan)
    forget(key)
    for trial in trials:
        if trial["verdict"] != COMPLETED:
            seed = trial["values"]["train.seed"]
            raise StageError(f"the run of seed {seed} {trial['verdict']}: {trial['error']}; `make seeds` tries again")
    return {trial["experiment"]: trial["train"] for trial in trials}


def _recorded(
    revision: Revision, commit: str | None, spent: Mapping[str, Any] | None, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What is recorded of a run.

    Args:
        revision: Holds its results.
        commit: That was run.
        spent: The cost of its training, or None.
        known: Costs that the present record has, by the md5 of the weights.
    """
    ran = run_of(revision)
    return Run(**ran, commit=commit, **(spent or known.get(ran["weights"], {}))).model_dump()


if __name__ == "__main__":
    end("seeds", lambda: main(sys.argv[1:]))
