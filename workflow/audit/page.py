"""The page of an audit: its verdict, what was looked at and where, and the verdict on each output."""

from pathlib import Path

from workflow.audit.findings import CHECKS
from workflow.audit.verdict import Audit
from workflow.templates import pages_in

_FOLDER = Path(__file__).parent


def page(audit: Audit) -> str:
    """The page as one HTML file that needs nothing else."""
    template = pages_in(_FOLDER).get_template("page.html.jinja")
    style = (_FOLDER.parent / "report/style.css").read_text(encoding="utf-8")
    return template.render(audit=audit, checks=CHECKS, style=style)
