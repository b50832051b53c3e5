"""`make workers`: one training by several workers, which Ray starts on as many nodes or cores, as a DVC experiment."""

import json
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.params.whole import Params, load_params
from pipeline.progress import progress
from workflow.command import end
from workflow.scale.cluster import connected, prepare, reason
from workflow.scale.copy import WorkingCopy, history_so_far
from workflow.scale.engine import head_commit

#: The stage that workers share.
TARGET = "train"

#: What is kept of unfinished training, by commit.
KEPT = Path("state/workers")

#: Seconds in which a cluster has to find room for all workers.
_PATIENCE = 60

#: Seconds between two looks at the state of training.
_PAUSE = 0.5


def main() -> int:
    """Trains the commit's parameters by `train.workers` workers, or goes on with it, and saves the experiment.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If it was refused, or failed.
    """
    prepare()
    params = load_params()
    if params.train.workers < 2:
        raise StageError("train.workers = 1: expected 2 or more to share a training; `dvc repro` runs one alone")
    commit = head_commit()
    with connected(params.threads.intra_op) as cores:
        name = _train(params, commit, cores)
    print(f"workers: saved experiment {name}. The rest of its pipeline: dvc exp apply {name} && dvc repro")
    return 0


def _train(params: Params, commit: str, cores: int) -> str:
    """Trains, and saves the experiment; its name.

    Raises:
        StageError: If there is no room for all workers, or one of them fails or is lost.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    count, threads = params.train.workers, params.threads.intra_op
    group = placement_group([{"CPU": threads}] * count, strategy="SPREAD")
    if cores < count * threads or not group.wait(_PATIENCE):
        raise StageError(
            f"train.workers = {count} with threads.intra_op = {threads}: expected {count * threads} free cores, "
            f"{threads} for each worker on one node; there are {cores} cores in all"
        )
    kept = KEPT.resolve() / commit[:12]
    start = ray.remote(num_cpus=threads, scheduling_strategy=PlacementGroupSchedulingStrategy(group))(_Worker)
    workers = [start.remote(Path().resolve(), commit) for _ in range(count)]
    name = f"workers-{commit[:8]}"
    try:
        addresses = ray.get([worker.address.remote() for worker in workers])
        runs = [worker.train.remote(addresses, index, kept) for index, worker in enumerate(workers)]
        _wait(runs, kept, params.train.epochs)
        ray.get(workers[0].save.remote(name))
        ray.get([worker.remove.remote() for worker in workers])
    except RayError as error:
        goes_on = f"\nThe same command goes on after epoch {done}." if (done := _epochs_kept(kept)) else ""
        raise StageError(f"{reason(error)}{goes_on}") from error
    shutil.rmtree(kept, ignore_errors=True)
    return name


def _wait(runs: Sequence[Any], kept: Path, epochs: int) -> None:
    """Waits for all workers, and shows how far the chief is. Raises the error of the first worker that fails."""
    import ray

    waiting, done = list(runs), _epochs_kept(kept)
    with progress("workers", epochs, " epochs", done) as shown:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=_PAUSE)
            ray.get(ended)
            now = _epochs_kept(kept) if waiting else epochs
            if now > done:
                shown.advance(now - done)
                done = now


def _epochs_kept(kept: Path) -> int:
    rows = history_so_far(kept)
    return int(rows[-1, 0]) if len(rows) else 0


class _Worker(WorkingCopy):
    """One worker, in a process of Ray: it runs the pipeline up to training in a working copy of the commit."""

    def __init__(self, project: Path, commit: str) -> None:
        super().__init__(project, commit, [TARGET])
        self.reset({})
        self.prepare()

    def address(self) -> str:
        """A free port of this node, as the others reach it."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def train(self, addresses: Sequence[str], index: int, kept: Path) -> None:
        """Trains as the worker of this index, from the state in `kept` on, into which the chief copies its own.

        Raises:
            StageError: If training fails, with its reason.
        """
        self.take_state(kept)
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for _ in self.running(_PAUSE, TF_CONFIG=json.dumps(config)):
            if index == 0:
                self.keep_state(kept)


if __name__ == "__main__":
    end("workers", main)
