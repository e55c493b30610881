"""The tables of the file, and how a value stands in them (HISTORY.md says it for people).

The columns of `slots` follow the rows of protocol/fields.py: a row that is new gets its column when the file
is opened to be written, and is null in older slots. Numbers stand as integers, scaled: SQLite then needs two
bytes for most, which is a third of what it needs for the same as floating point.
"""

from typing import NamedTuple

from ..protocol import fields
from ..protocol.fields import Field

VERSION = 1
"""Another number when a column changes its meaning; a further column changes nothing."""
WATT_HOURS = 10
"""The energy of a slot stands in tenths of a watt-hour, that of a day in watt-hours."""
CACHE = "PRAGMA cache_size = -128"
"""KiB for each of several connections; with SQLite's own 2000 a page of ten years is no faster."""

MEAN, LAST, BITS, LOW, HIGH = "mean", "last", "bits", "low", "high"


class Column(NamedTuple):
    """A column of `slots` that comes from a row of the running info."""

    name: str
    key: str
    """Key of the row."""
    kind: str
    """MEAN of the slot, its LAST value, all its error BITS, its LOWest or HIGHest value."""
    scale: int
    """The value is multiplied by it, and rounded."""


def _columns(row: Field) -> list[Column]:
    if row.key == fields.ERRORS:
        return [Column(row.key, row.key, BITS, 1)]
    if not row.unit or row.unit in ("kWh", "h"):  # a mode, a counter
        return [Column(row.key, row.key, LAST, row.divisor)]
    mean = Column(row.key, row.key, MEAN, row.divisor * 10)
    if not row.extremes:
        return [mean]
    low = Column(f"{row.key}_low", row.key, LOW, row.divisor)
    return [mean, low, Column(f"{row.key}_high", row.key, HIGH, row.divisor)]


COLUMNS = tuple(column for row in fields.RUNNING for column in _columns(row))

INVERTERS = """
CREATE TABLE IF NOT EXISTS inverters (
    number INTEGER PRIMARY KEY,
    serial TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL DEFAULT '',
    firmware TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL DEFAULT '',
    phases INTEGER NOT NULL DEFAULT 1,
    since INTEGER NOT NULL,
    replaced_by INTEGER REFERENCES inverters (number),
    replaced_at INTEGER
) STRICT"""
SLOTS = f"""
CREATE TABLE IF NOT EXISTS slots (
    inverter INTEGER NOT NULL REFERENCES inverters (number),
    start INTEGER NOT NULL,
    day INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    energy INTEGER NOT NULL,
    {", ".join(f"{column.name} INTEGER" for column in COLUMNS)},
    PRIMARY KEY (inverter, start)
) STRICT, WITHOUT ROWID"""
DAYS = """
CREATE TABLE IF NOT EXISTS days (
    inverter INTEGER NOT NULL REFERENCES inverters (number),
    day INTEGER NOT NULL,
    source TEXT NOT NULL,
    energy INTEGER NOT NULL,
    corrected INTEGER,
    total INTEGER,
    until INTEGER,
    peak INTEGER,
    peak_at INTEGER,
    first INTEGER,
    last INTEGER,
    feeding INTEGER,
    seen INTEGER,
    vac_low INTEGER,
    vac_high INTEGER,
    temp_high INTEGER,
    PRIMARY KEY (inverter, day)
) STRICT, WITHOUT ROWID"""
EVENTS = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    inverter INTEGER REFERENCES inverters (number),
    kind TEXT NOT NULL,
    code INTEGER,
    text TEXT NOT NULL
) STRICT"""
EVENTS_BY_TIME = "CREATE INDEX IF NOT EXISTS events_by_time ON events (at)"

TABLES = (INVERTERS, SLOTS, DAYS, EVENTS, EVENTS_BY_TIME)

# sources of a day
READ, SPREAD, IMPORTED = "read", "spread", "imported"

# kinds of events
FAULT_ON, FAULT_OFF, MODE = "fault_on", "fault_off", "mode"
AWAY, BACK, REFUSED, LIMIT = "away", "back", "refused", "limit"
STARTED, STOPPED, REPLACED, CORRECTED = "started", "stopped", "replaced", "corrected"
KINDS = (FAULT_ON, FAULT_OFF, MODE, AWAY, BACK, REFUSED, LIMIT, STARTED, STOPPED, REPLACED, CORRECTED)


def fault_text(bit: int) -> str:
    """The English text of an error bit."""
    return fields.ERROR_BITS.get(bit, f"error {bit}")
