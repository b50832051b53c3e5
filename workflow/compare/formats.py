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


def text(comparison: Facts) -> str:
    """Tables of spaces, as wide as a terminal's line."""
    return _page(comparison, "simple", "\n{}\n".format)


def markdown(comparison: Facts) -> str:
    """GitHub's Markdown."""
    return _page(comparison, "github", "\n### {}\n".format)


def as_json(comparison: Facts) -> str:
    """JSON with every number."""
    return json.dumps(comparison, indent=2)


FORMATS: Mapping[str, Callable[[Facts], str]] = {"text": text, "md": markdown, "json": as_json}


def sentence(comparison: Facts) -> str:
    """The verdict in one sentence."""
    row = comparison["primary"]
    return (
        f"{comparison['verdict'].capitalize()}: the {name_of(row)} of validation images went from "
        f"{nats(row['before'])} to {nats(row['after'])} nats, by {signed(row['difference'])} "
        f"({_interval_title(comparison)} {_interval(row)}). "
        f"A difference of {nats(row['smallest_visible'])} would be seen {comparison['power']:.0%} of the time."
    )


def _page(comparison: Facts, style: str, heading: Callable[[str], str]) -> str:
    return "\n".join(_parts(comparison, style, heading))


def _parts(comparison: Facts, style: str, heading: Callable[[str], str]) -> Iterator[str]:
    yield f"{comparison['base']} -> {comparison['head']}"
    yield heading("Verdict")
    yield sentence(comparison)
    yield f"\nIt is about {comparison['basis_reason']}."
    yield from (f"\nNote: {note}." for note in comparison["notes"])
    yield heading("Validation images, nats per image; the test images' difference decides nothing")
    yield _verdict_table(comparison, style)
    yield heading("Changed")
    yield from _changes(comparison["changes"], style)
    yield heading("Other metrics, with errors over images")
    yield _value_table(comparison["values"], style)


def _verdict_table(comparison: Facts, style: str) -> str:
    interval = _interval_title(comparison)
    columns = ["loss", "before", "after", "difference", interval, "visible from", "verdict", "test difference"]
    rows = [
        [
            name_of(row),
            nats(row["before"]),
            nats(row["after"]),
            signed(row["difference"]),
            _interval(row),
            nats(row["smallest_visible"]),
            row["verdict"],
            f"{signed(row['test']['difference'])} ± {nats(row['test']['error'])}",
        ]
        for row in comparison["verdicts"]
    ]
    return _table(rows, columns, style, "lrrrrrlr")


def _changes(changes: Facts, style: str) -> Iterator[str]:
    kinds = {"code and versions": "code", "data": "data", "results": "lock"}
    if changes["params"]:
        rows = [[row["name"], _plain(row["before"]), _plain(row["after"])] for row in changes["params"]]
        yield _table(rows, ["parameter", "before", "after"], style, "lll") + "\n"
    else:
        yield "- parameters: unchanged"
    yield from (f"- {kind}: {_listed(changes[key])}" for kind, key in kinds.items())


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - _LISTED
    return (", ".join(paths[:_LISTED]) or "unchanged") + (f" and {more} more" if more > 0 else "")


def _value_table(values: Sequence[Facts], style: str) -> str:
    """Metrics that changed; losses over images have their table above."""
    rows = [
        [
            f"{row['file']}: {row['name']}",
            _number(row["before"], row["error_before"]),
            _number(row["after"], row["error_after"]),
        ]
        for row in values
        if row["before"] != row["after"]
    ]
    return _table(rows, ["metric", "before", "after"], style, "lrr") if rows else "All are the same."


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str], style: str, align: str) -> str:
    sides = [{"l": "left", "r": "right"}[side] for side in align]
    return tabulate(rows, columns, tablefmt=style, colalign=sides, disable_numparse=True)


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
