"""`make compare BASE=main HEAD=workspace`: is one revision's model better than another's, and what was changed."""

import argparse
import sys
from collections.abc import Sequence

from pipeline.errors import StageError
from workflow.command import end
from workflow.compare.comparison import compare
from workflow.compare.formats import FORMATS
from workflow.compare.verdicts import WORSE
from workflow.history.lock import contradictions
from workflow.history.revisions import WORKSPACE, Revision, resolve

#: Exit statuses.
IS_WORSE, FAILED = 1, 2


def main(arguments: Sequence[str]) -> int:
    """Prints the comparison.

    Returns:
        0; with `--fail-if-worse` 1 if the NLL of binarised validation images is worse.

    Raises:
        StageError: If the two cannot be compared or, with `--fail-if-worse`, if the results of one are not its own.
    """
    parser = argparse.ArgumentParser(prog="python -m workflow.compare", allow_abbrev=False)
    parser.add_argument("base", metavar="BASE", help="commit, branch, tag, DVC experiment or workspace")
    parser.add_argument("head", metavar="HEAD", nargs="?", default=WORKSPACE, help="likewise; workspace if left out")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--fail-if-worse", action="store_true", help="exit with 1 if HEAD is worse")
    options = parser.parse_args(arguments)
    base, head = resolve(options.base), resolve(options.head)
    comparison = compare(base, head)
    print(FORMATS[options.format](comparison.as_dict()))
    if options.fail_if_worse:
        _refuse_untrue(base, head)
    return IS_WORSE if options.fail_if_worse and comparison.verdict == WORSE else 0


def _refuse_untrue(*revisions: Revision) -> None:
    for revision in revisions:
        untrue = contradictions(revision)
        if untrue:
            raise StageError(
                f"the results of {revision.label} are not its own, so nothing can be passed or failed by them: "
                f"{'; '.join(untrue)}; run `dvc repro` there and commit dvc.lock and metrics/"
            )


if __name__ == "__main__":
    end("compare", lambda: main(sys.argv[1:]), refused=FAILED)
