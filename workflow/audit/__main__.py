"""`make audit REV=v1.0`: proves, or refutes, that a commit's numbers follow from its code, parameters and data.

--quick looks at all that needs no training. Without it the whole pipeline is run anew in a clean folder.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import StageError
from pipeline.files import atomic
from workflow.audit.checkout import checkout
from workflow.audit.checks import quick_findings, unreadable
from workflow.audit.evidence import not_proved
from workflow.audit.findings import CACHE, CHECKS, COMMIT, PACK, RERUN, WORKSPACE, Finding
from workflow.audit.machine import machine, packages
from workflow.audit.page import page
from workflow.audit.recorded import Recorded
from workflow.audit.records import cache_findings
from workflow.audit.rerun import now, rerun
from workflow.audit.signing import signed, signer_of
from workflow.audit.statement import ENVELOPE, RECORD, serialised, statement
from workflow.audit.verdict import Audit
from workflow.command import end
from workflow.history.revisions import Revision, resolve
from workflow.release.pack import cache_folder, read_pack

AUDITS = Path("audits")


def main(arguments: Sequence[str]) -> int:
    """Audits, and writes the record and the page.

    Returns:
        0 if all is identical or, with a note, within tolerance (then 1 with `--strict`); 1 if anything differs.

    Raises:
        StageError: If the commit could not be audited.
    """
    options = _parser().parse_args(arguments)
    revision = resolve(options.revision)
    output = _output(options, revision)
    if options.sign and revision.commit is None:
        raise StageError("the workspace is no commit, so there is nothing that others could verify: commit it first")
    signer = signer_of(options.sign) if options.sign else None
    found = audit(revision, quick=options.quick, recorded=options.recorded, pack=options.pack)
    record = serialised(statement(found))
    with atomic(output) as partial_output:
        partial_output.mkdir()
        (partial_output / RECORD).write_bytes(record)
        (partial_output / "audit.html").write_text(page(found), encoding="utf-8")
        if signer:
            (partial_output / ENVELOPE).write_bytes(signed(record, signer))
    for said in found.sentences:
        print(f"audit: {said}")
    for path, words in found.not_proved.items():
        print(f"audit: not proved here: {path}: {words}")
    print(f"audit: {revision.label}: {found.verdict}. The record: {output / RECORD}; the page: {output / 'audit.html'}")
    return found.status(strict=options.strict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.audit", allow_abbrev=False)
    parser.add_argument("revision", metavar="REV", nargs="?", default="HEAD", help="commit, branch, tag, experiment")
    parser.add_argument("--quick", action="store_true", help="only what needs no training; REV may be workspace")
    run = parser.add_mutually_exclusive_group()
    for kind, value, words in (
        ("preset", "NAME", "run a preset, and hold it against presets/NAME.json"),
        ("seed", "N", "run seed N, and hold it against its row of metrics/seeds.json"),
    ):
        run.add_argument(f"--{kind}", dest="recorded", type=partial(Recorded, kind), metavar=value, help=words)
    parser.add_argument("--strict", action="store_true", help="exit with 1 if bytes differ, though within tolerance")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="private key, PEM, that signs the record")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="look at this pack of a release too")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"for record and page; default: {AUDITS}/COMMIT")
    return parser


def _output(options: argparse.Namespace, revision: Revision) -> Path:
    """The folder that the record goes to. An earlier audit in it is replaced, and nothing else.

    Raises:
        StageError: If something else is there, or it has no name.
    """
    named = options.recorded.label if options.recorded else None
    parts = [(revision.commit or "")[:9] or "workspace", named, "quick" if options.quick else None]
    output: Path = options.output or AUDITS / "-".join(part for part in parts if part)
    foreign = output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file())
    if not output.name or foreign:
        raise StageError(f"--output {str(output)!r} holds something else than an audit; expected a new folder")
    return output


def audit(revision: Revision, *, quick: bool, recorded: Recorded | None, pack: Path | None) -> Audit:
    """What an audit of a revision finds.

    Raises:
        StageError: If it could not be audited.
    """
    if revision.commit is None and not quick:
        raise StageError("the workspace is no commit, so nobody can run it anew: commit it first, or use --quick")
    started = now()
    if recorded:
        recorded.require(revision)
    findings, looked_at = _look(revision, pack)
    readable = not unreadable(revision)
    run = rerun(revision, recorded) if readable and not quick else None
    if run and not recorded:
        looked_at["rerun"] = [RERUN]
    return Audit(
        revision=revision,
        recorded=recorded,
        quick=quick,
        started=run.started if run else started,
        finished=now(),
        findings=findings,
        looked_at=looked_at,
        run=run,
        not_proved=not_proved(revision) if readable and not recorded else {},
        machine=run.machine if run else machine(),
        packages=run.packages if run else packages(),
    )


def _look(revision: Revision, pack: Path | None) -> tuple[list[Finding], dict[str, list[str]]]:
    """What needs no training: the findings, and where each check looked."""
    if revision.commit is None:
        findings, place = quick_findings(revision, Path()), WORKSPACE
    else:
        with TemporaryDirectory(prefix="fashion-vae-") as folder, checkout(revision, Path(folder) / "audit") as clean:
            findings, place = quick_findings(revision, clean.project), COMMIT
    looked_at = {name: [place] for name, check in CHECKS.items() if place in check.places}
    if not unreadable(revision):
        in_cache, seen = cache_findings(revision, cache_folder())
        findings += in_cache
        if seen:
            looked_at["provenance"].append(CACHE)
            looked_at["cache"] = [CACHE]
        if pack:
            findings += _pack_findings(revision, pack)
            looked_at["pack"] = [PACK]
    return findings, looked_at


def _pack_findings(revision: Revision, pack: Path) -> list[Finding]:
    try:
        with TemporaryDirectory(prefix="fashion-vae-") as folder, pack.open("rb") as source:
            read_pack(source, Path(folder), revision)
    except StageError as error:
        return [Finding("pack", PACK, pack.name, str(error))]
    except OSError as error:
        raise StageError(f"PACK = {str(pack)!r} cannot be read ({error}); expected a pack of `make release`") from error
    return []


if __name__ == "__main__":
    end("audit: could not be audited", lambda: main(sys.argv[1:]), refused=2)
