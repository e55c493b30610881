"""Reading the history: one read-only connection, plain values out. HISTORY.md has examples.

    with Reader(path) as history:
        history.inverters()
        history.slots(datetime.date(2026, 6, 21))

A Reader belongs to one thread. It never waits for a writer and never makes one wait. Every method raises
HistoryError, whose text can be shown to anybody: it names no path.
"""

import datetime
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from .. import databases
from ..errors import HistoryError, NoHistoryError
from . import dates, schema
from .scaling import scaled
from .schema import COLUMNS, HIGH, LOW

MOST_EVENTS = 10_000
BY_DAY, BY_MONTH, BY_YEAR, ALL = "day", "month", "year", "all"
PERIODS = {BY_DAY: "%Y-%m-%d", BY_MONTH: "%Y-%m", BY_YEAR: "%Y", ALL: "all"}
"""How `sums` groups, to the name of a group in the language of SQLite's strftime."""


class InverterRow(NamedTuple):
    """An inverter that the history knows."""

    number: int
    serial: str
    model: str
    """Empty if not known, as is the firmware."""
    firmware: str
    name: str
    """Given by the user; empty without one."""
    phases: int
    """1 or 3."""
    since: float
    """Seconds since 1970 of when it was first seen."""
    replaced_by: str
    """Serial of the inverter that has taken its place; empty while it has it."""
    replaced_at: float | None
    """Seconds since 1970."""


class SlotRow(NamedTuple):
    """Five minutes of one inverter."""

    serial: str
    start: int
    """Seconds since 1970."""
    readings: int
    """0 for a slot that nobody saw: only its energy is known, from the counters. Then all else is empty."""
    energy_kwh: float
    """Its share of the day: the slots of a day add up to what the counter says of it."""
    values: Mapping[str, float]
    """Key of the running info to its mean; of counters and workMode the last value, of errorMessage the
    word of all bits that were set. What is not known is absent."""
    low: Mapping[str, float]
    """The lowest of pac, temp, vac1, vac2, vac3."""
    high: Mapping[str, float]


class DayRow(NamedTuple):
    """A local day of one inverter."""

    date: datetime.date
    serial: str
    energy_kwh: float
    """The corrected one where there is one."""
    counted_kwh: float
    """By the inverter's counter, or as it was imported."""
    corrected: bool
    source: str
    """`read`, `imported`, or `spread`: its share of what was made on several days that nobody saw."""
    total_kwh: float | None
    """On the counter at the end of the day."""
    peak_watts: float | None
    peak_at: float | None
    """Seconds since 1970, as the next two."""
    first_light: float | None
    """Beginning of the feeding."""
    last_light: float | None
    feeding_hours: float | None
    vac_low: float | None
    """Volts, over all phases."""
    vac_high: float | None
    temp_high: float | None
    """°C."""
    seen: float | None
    """The share of the time with power in which it was read: 0 to 1."""


class SumRow(NamedTuple):
    """The sum of the days of a period, over the inverters that were asked for."""

    period: str
    """2026-06-21, 2026-06, 2026 or `all`."""
    energy_kwh: float
    days: int
    """With energy."""
    best: datetime.date | None
    """The day with the most."""
    best_kwh: float
    corrected: bool
    """True if a day among them is."""


class EventRow(NamedTuple):
    """Something that happened."""

    number: int
    at: float
    """Seconds since 1970."""
    serial: str
    """Empty for what concerns the program."""
    kind: str
    """One of schema.KINDS."""
    code: int | None
    """The error bit, the work mode, the limit in per cent; None where the kind has none."""
    text: str
    """In English."""


class LatestRow(NamedTuple):
    """The newest that is known of one inverter."""

    slot: SlotRow | None
    """Its last five minutes with a reading."""
    day: DayRow | None


class Reader:
    """A read-only look into the file at a path, for one thread."""

    def __init__(self, path: str) -> None:
        """`path` of the file. Raises NoHistoryError without one, HistoryError for one that cannot be read."""
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
            may_read = os.access(path, os.R_OK)
        except PermissionError:
            is_folder = may_read = False
        except OSError:
            raise NoHistoryError("there is no history yet") from None
        if not may_read:
            raise HistoryError(f"this user may not read {path}; run it with sudo, or as the program's user")
        if is_folder:  # SQLite says that the disk is broken
            raise HistoryError(f"{path} is a folder; name the file of the history in it")
        self._connection = _asked(lambda: _read_only(path))
        self._serials: dict[int, str] | None = None

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def inverters(self) -> list[InverterRow]:
        """All inverters, in the order in which they were first seen."""
        rows = self._rows(f"SELECT {', '.join(_INVERTER)} FROM inverters ORDER BY number")
        serials = {_int(row[0]): _text(row[1]) for row in rows}
        return [_inverter(row, serials) for row in rows]

    def chain(self, serial: str) -> list[str]:
        """The serial and those that it has replaced, one after the other: their totals go on as one."""
        return chain(self.inverters(), serial)

    def slots(self, day: datetime.date, serial: str = "") -> list[SlotRow]:
        """The slots of a local day by their start, of one inverter or of all; empty without any."""
        number = dates.number(day)
        around = (number - 1) * 86400, (number + 2) * 86400  # a local day is never further from UTC's
        names = ", ".join(column.name for column in self._columns())
        rows = self._rows(
            f"SELECT inverter, start, readings, energy, {names} FROM slots"
            " WHERE inverter IN (SELECT number FROM inverters WHERE serial = ? OR ? = '')"
            " AND start BETWEEN ? AND ? AND day = ? ORDER BY start, inverter",
            (serial, serial, *around, number),
        )
        found = [slot for row in rows if (slot := self._slot(row)) is not None]
        by_serial = {day_row.serial: day_row for day_row in self.days(day, day, [serial] if serial else None)}
        return list(_with_energy(found, by_serial))

    def days(
        self, first: datetime.date, last: datetime.date, serials: Sequence[str] | None = None
    ) -> list[DayRow]:
        """The days from `first` to `last`, both included, of `serials` or of all inverters."""
        where, arguments = _where(first, last, serials)
        rows = self._rows(
            f"SELECT {', '.join(_DAY)} FROM days WHERE {where} ORDER BY day, inverter", arguments
        )
        return [day for row in rows if (day := self._day(row)) is not None]

    def sums(
        self,
        period: str,
        first: datetime.date = datetime.date.min,
        last: datetime.date = datetime.date.max,
        serials: Sequence[str] | None = None,
    ) -> list[SumRow]:
        """The energy by day, month, year or in all, of `serials` together, or of all inverters.

        `period` is a key of PERIODS. Months and days without energy are left out.
        """
        where, arguments = _where(first, last, serials)
        rows = self._rows(
            # SQLite gives the day of the row that max() has found, as long as that is the only one.
            "SELECT strftime(?, day * 86400, 'unixepoch'), sum(made), sum(made > 0), day, max(made),"
            " sum(fixed) FROM (SELECT day, sum(coalesce(corrected, energy)) AS made,"
            f" sum(corrected IS NOT NULL) AS fixed FROM days WHERE {where} GROUP BY day)"
            " GROUP BY 1 ORDER BY 1",
            (PERIODS[period], *arguments),
        )
        return [
            SumRow(_text(row[0]), _kwh(row[1]), _int(row[2]), _date(row[3]), _kwh(row[4]), bool(row[5]))
            for row in rows
            if row[0] is not None
        ]

    def span(self) -> tuple[datetime.date, datetime.date] | None:
        """The first and the last day that there is anything of; None without one."""
        ((first, last),) = self._rows("SELECT min(day), max(day) FROM days")
        one, other = _date(first), _date(last)
        return (one, other) if one is not None and other is not None else None

    def events(
        self,
        since: float,
        until: float,
        *,
        kinds: Sequence[str] = (),
        serial: str = "",
        most: int = MOST_EVENTS,
    ) -> list[EventRow]:
        """The events from `since` until just before `until`, newest first, `most` of them at the most.

        Of all kinds without `kinds`; with `serial` those of one inverter alone.
        """
        marks = ", ".join("?" * len(kinds))
        rows = self._rows(
            "SELECT events.number, at, serial, kind, code, text FROM events"
            " LEFT JOIN inverters ON inverters.number = events.inverter"
            f" WHERE at >= ? AND at < ?{f' AND kind IN ({marks})' if kinds else ''}"
            f"{' AND serial = ?' if serial else ''} ORDER BY at DESC, events.number DESC LIMIT ?",
            (*_dated(since, until), *kinds, *([serial] if serial else []), most),
        )
        return [
            EventRow(_int(n), float(_int(at)), _text(who), _text(kind), _maybe(code), _text(text))
            for n, at, who, kind, code, text in rows
        ]

    def latest(self) -> dict[str, LatestRow]:
        """By serial: the last slot that was read, and the last day, of every inverter."""
        found = {}
        names = ", ".join(column.name for column in self._columns())
        for inverter in self.inverters():
            slots = self._rows(
                f"SELECT inverter, start, readings, energy, {names} FROM slots"
                " WHERE inverter = ? AND readings > 0 ORDER BY start DESC LIMIT 1",
                (inverter.number,),
            )
            days = self._rows(
                f"SELECT {', '.join(_DAY)} FROM days WHERE inverter = ? ORDER BY day DESC LIMIT 1",
                (inverter.number,),
            )
            found[inverter.serial] = LatestRow(
                next(iter([slot for row in slots if (slot := self._slot(row)) is not None]), None),
                next(iter([day for row in days if (day := self._day(row)) is not None]), None),
            )
        return found

    def total_kwh(self, serial: str) -> float | None:
        """The energy that it and its predecessors have made since they were installed; None if not known.

        By their counters: one that was reset takes nothing away, and a corrected day counts as corrected. One
        whose counter was never read, of which there are imported days alone, has made what those have.
        """
        serials = self.chain(serial)
        those = f"serial IN ({_marks(serials)})"
        among = f"FROM days JOIN inverters ON inverters.number = days.inverter WHERE {those}"
        rows = self._rows(
            "SELECT inverter,"
            " sum(iif(total < before, total, total - before) + coalesce(corrected - energy, 0)) FROM"
            " (SELECT inverter, corrected, energy, total, lag(total, 1, 0) OVER (PARTITION BY inverter"
            f" ORDER BY day) AS before {among} AND total IS NOT NULL) GROUP BY inverter",
            serials,
        )
        imported = self._rows(
            f"SELECT inverter, sum(coalesce(corrected, energy)) {among} GROUP BY inverter"
            " HAVING max(total) IS NULL",
            serials,
        )
        return _kwh(sum(_int(row[1]) for row in (*rows, *imported))) if rows or imported else None

    def curves(self) -> list[tuple[str, datetime.date, float]]:
        """Serial, day and kWh of each day that was seen wholly: the integral of its power, as it was."""
        rows = self._rows(
            "SELECT inverter, day, sum(energy) FROM slots GROUP BY inverter, day HAVING min(readings) > 0"
        )
        found = [(self._serial(row[0]), _date(row[1]), _int(row[2])) for row in rows]
        return [
            (serial, date, made / schema.WATT_HOURS / 1000)
            for serial, date, made in found
            if serial and date is not None
        ]

    def damages(self, most: int = 10) -> list[str]:
        """All that SQLite finds wrong in the file, read to its last byte; nothing if it is whole."""
        found = [_text(row[0]) for row in self._rows(f"PRAGMA integrity_check({most})")]
        return [] if found == ["ok"] else found

    # rows to values

    def _rows(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = _asked(
            lambda: self._connection.execute(query, tuple(arguments)).fetchall()
        )
        return rows

    def _columns(self) -> list[schema.Column]:
        """The columns that the file has: an older one lacks the newest."""
        there = {_text(row[1]) for row in self._rows("PRAGMA table_info(slots)")}
        return [column for column in COLUMNS if column.name in there]

    def _serial(self, number: object) -> str:
        if self._serials is None:
            self._serials = {row.number: row.serial for row in self.inverters()}
        return self._serials.get(_int(number), "")

    def _slot(self, row: tuple[Any, ...]) -> SlotRow | None:
        """None for a row that is damaged: SQLite does not notice a flipped bit."""
        inverter, start, readings, energy, *numbers = row
        if _moment(start) is None or not isinstance(energy, int) or not self._serial(inverter):
            return None
        sides: dict[str, dict[str, float]] = {LOW: {}, HIGH: {}}
        values: dict[str, float] = {}
        for column, number in zip(self._columns_read(len(numbers)), numbers, strict=True):
            if isinstance(number, int):
                sides.get(column.kind, values)[column.key] = number / column.scale
        serial = self._serial(inverter)
        return SlotRow(serial, start, _int(readings), float(energy), values, sides[LOW], sides[HIGH])

    def _columns_read(self, count: int) -> Sequence[schema.Column]:
        return COLUMNS if count == len(COLUMNS) else self._columns()

    def _day(self, row: tuple[Any, ...]) -> DayRow | None:
        inverter, day, source, energy, corrected, total, peak, *moments, low, high, temp = row
        peak_at, first, last, feeding, seen = map(_maybe, moments)
        date, serial = _date(day), self._serial(inverter)
        if date is None or not serial or not isinstance(energy, int):
            return None
        return DayRow(
            date,
            serial,
            _kwh(energy if corrected is None else corrected),
            _kwh(energy),
            corrected is not None,
            _text(source),
            None if total is None else _kwh(total),
            _scaled(peak, 1),
            _moment(peak_at),
            _moment(first),
            _moment(last),
            _scaled(feeding, 3600),
            _scaled(low, 10),
            _scaled(high, 10),
            _scaled(temp, 10),
            _share(seen, feeding),
        )


def chain(inverters: Iterable[InverterRow], serial: str) -> list[str]:
    """The serial and those of its predecessors, one after the other, as `Reader.chain` gives them."""
    by_successor: dict[str, list[str]] = {}
    for inverter in inverters:
        by_successor.setdefault(inverter.replaced_by, []).append(inverter.serial)
    found, waiting = [], [serial]
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found.append(one)
            waiting += by_successor.get(one, [])
    return found


_INVERTER = (
    "number",
    "serial",
    "model",
    "firmware",
    "name",
    "phases",
    "since",
    "replaced_by",
    "replaced_at",
)
_DAY = (
    "inverter",
    "day",
    "source",
    "energy",
    "corrected",
    "total",
    "peak",
    "peak_at",
    "first",
    "last",
    "feeding",
    "seen",
    "vac_low",
    "vac_high",
    "temp_high",
)


def _marks(values: Sequence[object]) -> str:
    """A question mark for each, as SQL has them in a list."""
    return ", ".join("?" * len(values))


def _inverter(row: tuple[Any, ...], serials: Mapping[int, str]) -> InverterRow:
    number, serial, model, firmware, name, phases, since, by, at = row
    texts = (_text(model), _text(firmware), _text(name))
    replaced_by = serials.get(_int(by), "") if by is not None else ""
    when = float(_int(at)) if at is not None else None
    return InverterRow(
        _int(number), _text(serial), *texts, _int(phases), float(_int(since)), replaced_by, when
    )


def _where(first: datetime.date, last: datetime.date, serials: Sequence[str] | None) -> tuple[str, list[Any]]:
    where, arguments = "day BETWEEN ? AND ?", [dates.number(first), dates.number(last)]
    if serials is None:
        return where, arguments
    among = f"SELECT number FROM inverters WHERE serial IN ({', '.join('?' * len(serials))})"
    return f"inverter IN ({among}) AND {where}", [*serials, *arguments]


def _with_energy(slots: list[SlotRow], days: Mapping[str, DayRow]) -> Iterator[SlotRow]:
    """The slots with their share of the day, in the order in which they were."""
    made: dict[str, list[float]] = {}
    for slot in slots:
        made.setdefault(slot.serial, []).append(slot.energy_kwh / schema.WATT_HOURS / 1000)
    shares = {}
    for serial, energies in made.items():
        day = days.get(serial)
        exact = day is not None and day.corrected
        shares[serial] = iter(scaled(energies, None if day is None else day.energy_kwh, exact=exact))
    for slot in slots:
        yield slot._replace(energy_kwh=next(shares[slot.serial]))


def _read_only(path: str) -> sqlite3.Connection:
    """A connection that can change nothing. Raises sqlite3.Error."""
    address = f"file:{quote(os.path.abspath(path))}?mode=ro"
    try:
        return _checked(databases.connected(address, uri=True))
    except sqlite3.OperationalError:
        # Nobody has it open, and we may not make the files beside it that SQLite wants for reading.
        if os.path.exists(f"{path}-wal"):
            raise
        return _checked(databases.connected(f"{address}&immutable=1", uri=True))


def _checked(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute(schema.CACHE)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise HistoryError("the history is of a later version of the program")
        if version < 1:
            raise NoHistoryError("there is no history yet")
    except BaseException:  # whatever it is goes on; the file would stay open
        connection.close()
        raise
    return connection


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except sqlite3.OperationalError as error:
        raise HistoryError(f"the history cannot be read now: {error}") from error
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise HistoryError(f"the history is damaged: {error}") from error


# --- what stands in a damaged row may be anything


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _maybe(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _kwh(watt_hours: object) -> float:
    return _int(watt_hours) / 1000


def _scaled(value: object, scale: int) -> float | None:
    return value / scale if isinstance(value, int) else None


def _date(value: object) -> datetime.date | None:
    if not isinstance(value, int) or not dates.FIRST <= value <= dates.LAST:
        return None
    return dates.date(value)


def _share(seen: int | None, feeding: int | None) -> float | None:
    if seen is None or not feeding or feeding < 0:
        return None
    return min(1.0, max(0.0, seen / feeding))


def _moment(value: object) -> float | None:
    """Seconds since 1970; None for what is no date, as in a file that is damaged."""
    return float(value) if isinstance(value, int) and _is_date(value) else None


def _is_date(seconds: float) -> bool:
    return dates.FIRST_MOMENT <= seconds <= dates.LAST_MOMENT


def _dated(since: float, until: float) -> tuple[int, int]:
    """Both in whole seconds, within the moments that are a date."""
    first, last = (
        int(max(dates.FIRST_MOMENT, min(dates.LAST_MOMENT, seconds))) for seconds in (since, until)
    )
    return first, last
