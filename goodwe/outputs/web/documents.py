"""The data interface: its description for people who write programs, and its CSV."""

import csv as csv_module
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .data import JsonObject
from .markup import Html, join, tag
from .pages import card


class Document(NamedTuple):
    """One address below `/api`."""

    name: str
    query: tuple[str, ...]
    """Keys that may stand behind the question mark; all of it may be left out."""
    meaning: str
    rows: str
    """The key of what becomes the lines of the CSV; empty without one."""


DOCUMENTS = (
    Document("now", (), "This moment: power, today's and total energy, each inverter.", "inverters"),
    Document(
        "day",
        ("date", "serial"),
        "A day: its slots of five minutes, and what it was for each inverter.",
        "slots",
    ),
    Document(
        "month",
        ("date", "serial"),
        "The days of the month of that date, each with that of the year before.",
        "rows",
    ),
    Document(
        "year",
        ("date", "serial"),
        "The months of the year of that date, each with that of the year before.",
        "rows",
    ),
    Document("years", ("serial",), "All years.", "rows"),
    Document(
        "events",
        ("kind", "serial", "until"),
        "What happened, newest first, 500 at once; with at_epoch of the last one as until, what was before.",
        "",
    ),
    Document("health", (), "How the program does: counters, last losses.", ""),
)
NAMES = tuple(one.name for one in DOCUMENTS)
BY_NAME = {one.name: one for one in DOCUMENTS}
CHARTS = (
    ("chart/day.svg", ("date", "serial", "show", "size")),
    ("chart/month.svg", ("date", "serial", "size")),
    ("chart/year.svg", ("date", "serial", "size")),
    ("chart/years.svg", ("serial", "size")),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for something to be calculated."""


def page() -> Html:
    """The description, in English: it is for programs."""
    return join(
        card(
            tag(
                "p",
                "The same values that the pages show, as JSON. Keys are never renamed; new ones may come.",
            ),
            tag(
                "p",
                "Moments are seconds since 1970 (*_epoch), days are local dates (2026-06-21), null is what is"
                " not known. Without a date it is today, without a serial all inverters. For CSV the"
                " addresses begin with csv/ and end in .csv.",
            ),
            tag("ul", *[_line(f"api/{one.name}", one.query, one.meaning) for one in DOCUMENTS]),
        ),
        card(
            tag("h2", "Charts"),
            tag(
                "p",
                "Pictures to be embedded elsewhere, in the light and in the dark; size is wide or narrow.",
            ),
            tag("ul", *[_line(path, query, "") for path, query in CHARTS]),
        ),
    )


def _line(path: str, query: Sequence[str], meaning: str) -> Html:
    said = f"?{'&'.join(f'{key}=' for key in query)}" if query else ""
    return tag("li", tag("a", tag("code", path), href=path), tag("code", said), f" {meaning}")


def rows(name: str, told: Any) -> Sequence[JsonObject]:
    """The lines of the CSV of what `/api/<name>` gives."""
    found: Sequence[JsonObject] = told if name == "events" else told[BY_NAME[name].rows]
    return found


def csv(rows: Iterable[JsonObject]) -> str:
    """The rows below the names of their keys; lists and objects are written in one cell."""
    rows = list(rows)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv_module.writer(text)
    writer.writerow(keys)
    writer.writerows([_cell(row.get(key)) for key in keys] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> object:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(str(_cell(one)) for one in value)
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
