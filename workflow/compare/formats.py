"""A comparison as text for a terminal, as Markdown for a forge, as JSON for a program."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

Facts = Mapping[str, Any]

#: Digits after the point of nats.
_DIGITS = 3

#: Changed files that are named; JSON names all.
_LISTED = 6


def sentence(comparison: Facts) -> str:
    """The verdict in one sentence."""
    row = comparison["primary"]
    return (
        f"{comparison['verdict'].capitalize()}: the {name_of(row)} of validation images went from "
        f"{nats(row['before'])} to {nats(row['after'])} nats, by {signed(row['difference'])} "
        f"({_interval_title(comparison)} {_interval(row)}). "
        f"A difference of {nats(row['smallest_visible'])} would be seen {comparison['power']:.0%} of the time."
    )


def _parts(comparison: Facts, style: str, heading: str) -> Iterator[str]:
    """The parts of a page: `style` is that of its tables, `heading` has a place for the text."""
    yield f"{comparison['base']} -> {comparison['head']}"
    yield from (f"\nNote: {note}." for note in comparison["notes"])
    yield heading.format("Verdict")
    yield sentence(comparison)
    yield f"\nIt is about {comparison['basis_reason']}."
    yield heading.format("Validation images, nats per image; the test images' difference decides nothing")
    yield _table([_verdict_row(row, _interval_title(comparison)) for row in comparison["verdicts"]], style, "lrrrrrlr")
    yield heading.format("Changed")
    yield from _changes(comparison["changes"], style)
    yield heading.format("Other metrics, with errors over images")
    changed = [_value_row(row) for row in comparison["values"] if row["before"] != row["after"]]
    yield _table(changed, style, "lrr") if changed else "All are the same."


def _verdict_row(row: Facts, interval: str) -> dict[str, str]:
    return {
        "loss": name_of(row),
        "before": nats(row["before"]),
        "after": nats(row["after"]),
        "difference": signed(row["difference"]),
        interval: _interval(row),
        "visible from": nats(row["smallest_visible"]),
        "verdict": row["verdict"],
        "test difference": f"{signed(row['test']['difference'])} ± {nats(row['test']['error'])}",
    }


def _changes(changes: Facts, style: str) -> Iterator[str]:
    rows = [
        {"parameter": row["name"], **{when: _plain(row[when]) for when in ("before", "after")}}
        for row in changes["params"]
    ]
    yield f"{_table(rows, style, 'lll')}\n" if rows else "- parameters: unchanged"
    for kind, key in (("code and versions", "code"), ("data", "data"), ("results", "lock")):
        paths = changes[key]
        more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
        yield f"- {kind}: {', '.join(paths[:_LISTED]) or 'unchanged'}{more}"


def _value_row(row: Facts) -> dict[str, str]:
    numbers = {when: _number(row[when], row[f"error_{when}"]) for when in ("before", "after")}
    return {"metric": f"{row['file']}: {row['name']}", **numbers}


def _table(rows: Sequence[Mapping[str, str]], style: str, align: str) -> str:
    """A table with the rows' keys as its head, and a letter for each column: `l` or `r`, to which side it is flush."""
    sides = [{"l": "left", "r": "right"}[side] for side in align]
    return tabulate(rows, headers="keys", tablefmt=style, colalign=sides, disable_numparse=True)


def name_of(row: Facts) -> str:
    """What a row of verdicts is about, as `binarised NLL`."""
    loss = row["metric"].removesuffix("_nats").replace("_", " ")
    return f"{row['targets']} {loss.upper() if loss in ('kl', 'elbo', 'nll') else loss}"


def _interval(row: Facts) -> str:
    return f"{signed(row['low'])} to {signed(row['high'])}"


def _interval_title(comparison: Facts) -> str:
    return f"{1 - comparison['level']:.0%} interval"


def nats(number: float) -> str:
    """Nats as a table shows them."""
    return f"{number:.{_DIGITS}f}"


def signed(number: float) -> str:
    """A difference in nats as a table shows it; zero is `+0.000`."""
    return f"{number:+z.{_DIGITS}f}"


def _plain(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def _number(value: float | None, error: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if error is None else f"{value:.6g} ± {error:.2g}"


#: A comparison as a text: in tables for a terminal, in GitHub's Markdown, in JSON with every number.
FORMATS: Mapping[str, Callable[[Facts], str]] = {
    "text": lambda comparison: "\n".join(_parts(comparison, "simple", "\n{}\n")),
    "md": lambda comparison: "\n".join(_parts(comparison, "github", "\n### {}\n")),
    "json": lambda comparison: json.dumps(comparison, indent=2),
}
