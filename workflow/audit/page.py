"""The page of an audit: its verdict, what was looked at and where, and the verdict on each output."""

from pathlib import Path
from typing import Any

from workflow.audit.findings import CHECKS
from workflow.audit.verdict import Audit
from workflow.templates import pages_in

_FOLDER = Path(__file__).parent
_STYLE = _FOLDER.parent / "report" / "style.css"


def page(audit: Audit) -> str:
    """The page as one HTML file that needs nothing else."""
    return (
        pages_in(_FOLDER)
        .get_template("page.html.jinja")
        .render(audit=audit, checks=_checks(audit), style=_STYLE.read_text(encoding="utf-8"))
    )


def _checks(audit: Audit) -> list[dict[str, Any]]:
    """A row a check: what has to hold, what breaks it, where it was looked for, and what was found."""
    differing = [outcome.path for outcome in audit.outcomes if outcome.verdict == "differs"]
    rows = []
    for name, check in CHECKS.items():
        found = [finding.subject for finding in audit.findings if finding.check == name]
        found += differing if name == "rerun" else []
        looked_at = audit.looked_at.get(name, [])
        rows.append({"check": check, "looked_at": looked_at, "found": list(dict.fromkeys(found))})
    return rows
