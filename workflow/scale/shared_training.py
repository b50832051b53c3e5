"""`make workers`: one training by several workers, which Ray starts on as many nodes or cores, as a DVC experiment."""

import json
import logging
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.params.whole import Params, load_params
from pipeline.progress import progress
from workflow.command import end
from workflow.scale.cluster import connected, prepare, reason
from workflow.scale.copy import WorkingCopy, failure, history_so_far, stop
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

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # its tracebacks; what failed is said below
    count, threads = params.train.workers, params.threads.intra_op
    group = placement_group([{"CPU": threads}] * count, strategy="SPREAD")
    if cores < count * threads or not group.wait(_PATIENCE):
        raise StageError(
            f"train.workers = {count} with threads.intra_op = {threads}: expected {count * threads} free cores, "
            f"{threads} for each worker on one node; there are {cores} cores in all"
        )
    kept = KEPT.resolve() / commit[:12]
    start = ray.remote(num_cpus=threads, scheduling_strategy=PlacementGroupSchedulingStrategy(group))(_Worker)
    workers = [start.remote(str(Path().resolve()), commit) for _ in range(count)]
    name = f"workers-{commit[:8]}"
    try:
        addresses = ray.get([worker.address.remote() for worker in workers])
        configs = [
            json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
            for index in range(count)
        ]
        runs = [
            worker.train.remote(config, str(kept), index == 0)
            for index, (worker, config) in enumerate(zip(workers, configs, strict=True))
        ]
        _wait(runs, kept, params.train.epochs)
        ray.get(workers[0].save.remote(name))
        ray.get([worker.remove.remote() for worker in workers])
    except RayError as error:
        done = _epochs_kept(kept)
        goes_on = f"\nThe same command goes on after epoch {done}." if done else ""
        raise StageError(f"{reason(error)}{goes_on}") from error
    shutil.rmtree(kept, ignore_errors=True)
    return name


def _wait(runs: Sequence[Any], kept: Path, epochs: int) -> None:
    """Waits for all workers and shows how far the chief is; raises what the first that ended badly raised."""
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


class _Worker:
    """One worker, in a process of Ray: a working copy of the commit, in which it runs the pipeline up to training."""

    def __init__(self, project: str, commit: str) -> None:
        self._copy = WorkingCopy(Path(project), commit, [TARGET])
        self._copy.reset({})
        self._copy.prepare()

    def address(self) -> str:
        """A free port of this node, as the others reach it."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def train(self, config: str, kept: str, is_chief: bool) -> None:
        """Trains with TF_CONFIG `config`, from the state in folder `kept` on, into which the chief copies its own.

        Raises:
            StageError: If training fails, with its reason.
        """
        folder = Path(kept)
        self._copy.take_state(folder)
        log = self._copy.state / "worker.log"
        child = self._copy.start(log, {"TF_CONFIG": config})
        try:
            while child.poll() is None:
                time.sleep(_PAUSE)
                if is_chief:
                    self._copy.keep_state(folder)
        finally:
            stop(child)
        if child.returncode:
            raise StageError(failure(log.read_text(encoding="utf-8", errors="replace")))

    def save(self, name: str) -> None:
        """Saves what was trained as an experiment."""
        self._copy.save(name)

    def remove(self) -> None:
        """Removes the working copy."""
        self._copy.remove()


if __name__ == "__main__":
    end("workers", main)
