"""`make audit REVS="v1.0 v1.1"`: an audit of each revision, by Ray, as many at once as there are cores for."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from pipeline.errors import StageError
from pipeline.params.whole import load_params
from pipeline.progress import progress
from workflow.command import end
from workflow.history.revisions import resolve
from workflow.scale.cluster import connected, environment

#: What the exit status of an audit says, the worst of several first.
_VERDICTS = {1: "differs", 2: "could not be audited", 0: "identical, or within tolerance"}

#: How often an audit is begun again that was lost with its node; it goes on where it was.
_RETRIES = 3


def main(arguments: Sequence[str]) -> int:
    """Audits the revisions of the first argument; the others are options of each audit.

    Returns:
        Exit status: 1 if one differs, else 2 if one could not be audited, else 0.

    Raises:
        StageError: If one is no revision, or no cluster is there.
    """
    names, options = arguments[0].split(), list(arguments[1:])
    if "--output" in options:
        raise StageError("--output with REVS: each audit has a folder of its own; leave it out")
    revisions = list(dict.fromkeys(resolve(name).commit or name for name in names))
    threads, project = load_params().threads.intra_op, str(Path().resolve())
    found: dict[str, tuple[int, str]] = {}
    with connected(threads), progress("audit", len(revisions), " revisions") as shown:
        import ray

        audit = ray.remote(num_cpus=threads, max_retries=_RETRIES)(_audit)
        waiting = {audit.remote(project, revision, options): revision for revision in revisions}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            revision = waiting.pop(done)
            found[revision] = ray.get(done)
            shown.advance(1, f"{revision[:9]}: {_VERDICTS.get(found[revision][0], 'failed')}")
    rows = [(revision, *found[revision]) for revision in revisions]
    said = [[revision[:9], _VERDICTS.get(status, f"status {status}"), last] for revision, status, last in rows]
    print(tabulate(said, ["commit", "verdict", "said"]))
    statuses = {status if status in _VERDICTS else 2 for _, status, _ in rows}  # one that was killed has another
    return next((status for status in _VERDICTS if status in statuses), 2)


def _audit(project: str, revision: str, options: Sequence[str]) -> tuple[int, str]:
    """Runs in a worker: an audit as a process of its own, in the project's folder; its status and last line."""
    command = [sys.executable, "-m", "workflow.audit", revision, *options]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return done.returncode, said[-1] if said else ""


if __name__ == "__main__":
    end("audit", lambda: main(sys.argv[1:]), refused=2)
