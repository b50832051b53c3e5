"""How pages are made of templates."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def pages_in(folder: Path) -> Environment:
    """The templates of HTML pages in a folder: what is put into them is escaped, what they lack is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
