"""Writing the history: one thread, one transaction for each batch.

A file that is damaged, or of a later version, is set aside under another name, and a new one begun; one
that was deleted is begun anew. A disk that takes nothing is an error of the call, and nothing is half done.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

from .. import databases
from ..errors import HistoryError
from . import dates, days, gaps, schema
from .dates import LocalTime
from .days import DayFacts
from .gaps import Known, Share
from .recorder import Batch, Counted, Faults, GatheredSlot, Happened
from .schema import COLUMNS, HIGH, LAST, LOW, MEAN

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_ASIDE = 9
FAULTS_LOOKED_AT = 2000

_NAMES = ", ".join(column.name for column in COLUMNS)
PUT_SLOT = (
    f"INSERT OR REPLACE INTO slots (inverter, start, day, readings, energy, {_NAMES})"
    f" VALUES ({', '.join('?' * (5 + len(COLUMNS)))})"
)
_FACTS = ", ".join(DayFacts._fields)
_PUT_DAY = (
    f"INSERT INTO days (inverter, day, {_FACTS}) VALUES ({', '.join('?' * (2 + len(DayFacts._fields)))})"
    " ON CONFLICT (inverter, day) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in DayFacts._fields)
)
_PUT_EVENT = "INSERT INTO events (at, inverter, kind, code, text) VALUES (?, ?, ?, ?, ?)"


class LaterVersionError(sqlite3.DatabaseError):
    """The file is of a later version of the program."""


class Archive:
    """The file at a path, to be written, for one thread."""

    def __init__(self, path: str, *, localtime: LocalTime = time.localtime, highest: bool = True) -> None:
        """`path` of the file; `localtime` tells the local day of a moment.

        `highest`: the energy of a day as it is published never falls.
        """
        self._path = path
        self._localtime = localtime
        self._highest = highest
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def write(self, batch: Batch) -> None:
        """Put it all into the file, or nothing of it. Raises HistoryError."""
        try:
            self._write(batch)
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(str(error)) from error

    def _write(self, batch: Batch) -> None:
        self._do(lambda connection: _Writing(connection, self._localtime, self._highest).write(batch))

    def close(self) -> None:
        """Give the file back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _do(self, call: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return in_transaction(self._open(), call)
        except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
            if not (isinstance(error, LaterVersionError) or databases.is_damage(error, self._path)):
                raise databases.with_advice(error, self._path) from error
            self.close()
            self._set_aside(error)
            return in_transaction(self._open(), call)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode != databases.inode(self._path):
            log.warning("%s is not there any more; beginning anew", self._path)
            self.close()
        if self._connection is None:
            databases.make_folder(self._path)
            self._connection = connected(self._path)
            check(self._connection)
            self._inode = databases.inode(self._path)
        return self._connection

    def _set_aside(self, error: Exception) -> None:
        why = str(error) or type(error).__name__
        is_later = isinstance(error, LaterVersionError)
        aside = _free(f"{self._path}.{'later' if is_later else 'damaged'}")
        what = "cannot be used" if is_later else "is damaged"
        log.warning("%s %s (%s); set aside as %s, beginning anew", self._path, what, why, aside)
        databases.move(self._path, aside)


def connected(path: str) -> sqlite3.Connection:
    """A connection to a file that has all tables and columns then. Raises sqlite3.Error."""
    connection = databases.connected(path)
    try:
        connection.execute(schema.CACHE)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise LaterVersionError(f"it is of version {version}, of a later program")
        if version < 0:
            raise sqlite3.DatabaseError(f"of version {version}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        in_transaction(connection, _make_tables)
    except BaseException:  # whatever it is goes on; the file would stay open, and perhaps locked
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection) -> None:
    """Read it all once. Raises sqlite3.Error for a file with damage that SQLite can notice."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != b"ok":
        raise sqlite3.DatabaseError(_text(found).replace("\n", " "))


def in_transaction(connection: sqlite3.Connection, call: Callable[[sqlite3.Connection], T]) -> T:
    """Make the call, all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = call(connection)
        connection.execute("COMMIT")
    except BaseException:  # whatever it is goes on
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def number_of(connection: sqlite3.Connection, serial: str, since: float) -> int:
    """The number of an inverter, which is made if it is new: seen for the first time at `since`."""
    # An import may leave out the blanks around it: the longer one is what the inverter itself says.
    alike = (
        "SELECT number, length(serial) < length(?1) FROM inverters WHERE trim(serial) = trim(?1)"
        " ORDER BY serial = ?1 DESC"
    )
    found = connection.execute(alike, (serial,)).fetchone()
    if found is None:
        new = "INSERT INTO inverters (serial, since) VALUES (?, ?)"
        return int(connection.execute(new, (serial, round(since))).lastrowid or 0)
    number, is_shorter = found
    if is_shorter:
        connection.execute("UPDATE inverters SET serial = ? WHERE number = ?", (serial, number))
    return int(number)


def put_event(connection: sqlite3.Connection, inverter: int | None, event: Happened) -> None:
    """Write down an event."""
    connection.execute(_PUT_EVENT, (round(event.at), inverter, event.kind, event.code, event.text))


def day_facts(connection: sqlite3.Connection, inverter: int, day: int) -> DayFacts | None:
    """A day as it stands in the file; None if it does not."""
    query = f"SELECT {_FACTS} FROM days WHERE inverter = ? AND day = ?"
    row = connection.execute(query, (inverter, day)).fetchone()
    if row is None:
        return None
    source, *numbers = row
    return DayFacts(_text(source), *(value if isinstance(value, int) else None for value in numbers))


def put_day(connection: sqlite3.Connection, inverter: int, day: int, facts: DayFacts) -> None:
    """Write down a day; what the user has corrected stays."""
    facts = facts._replace(energy=facts.energy or 0)
    connection.execute(_PUT_DAY, (inverter, day, *facts))


def _make_tables(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.Error for tables that are not ours any more."""
    for table in schema.TABLES:
        connection.execute(table)
    there = {bytes(row[1]).decode() for row in connection.execute("PRAGMA table_info(slots)")}
    for column in COLUMNS:
        if column.name not in there:
            connection.execute(f"ALTER TABLE slots ADD COLUMN {column.name} INTEGER")
    connection.execute(f"SELECT inverter, start, day, readings, energy, {_NAMES} FROM slots LIMIT 0")
    connection.execute(f"SELECT inverter, day, corrected, {_FACTS} FROM days LIMIT 0")
    connection.execute("SELECT number, at, inverter, kind, code, text FROM events LIMIT 0")
    connection.execute("SELECT number, serial, model, firmware, name, phases, since FROM inverters LIMIT 0")
    connection.execute("SELECT replaced_by, replaced_at FROM inverters LIMIT 0")
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")


class _Writing:
    """One transaction."""

    def __init__(self, connection: sqlite3.Connection, localtime: LocalTime, highest: bool) -> None:
        """`connection` to the file; `localtime` and `highest` as Archive has them."""
        self._connection = connection
        self._localtime = localtime
        self._highest = highest
        self._numbers: dict[str, int] = {}

    def write(self, batch: Batch) -> None:
        for serial, facts in batch.inverters.items():
            sets = {"phases": facts.phases, "model": facts.model, "firmware": facts.firmware}
            known = {key: value for key, value in sets.items() if value}
            names = ", ".join(f"{key} = ?" for key in known)
            number = self._number(serial, _begin(batch, serial))
            self._connection.execute(
                f"UPDATE inverters SET {names} WHERE number = ?", (*known.values(), number)
            )
        for serial, counted in batch.resting:
            self._rest(serial, counted)
        for gathered in sorted(batch.slots, key=lambda slot: slot.start):
            self._slot(gathered)
        for event in batch.events:
            self._event(event)

    def _number(self, serial: str, since: float) -> int:
        if serial not in self._numbers:
            self._numbers[serial] = number_of(self._connection, serial, since)
        return self._numbers[serial]

    # slots and days

    def _slot(self, gathered: GatheredSlot) -> None:
        day = self._day(gathered.start)
        if day is None:
            return
        inverter = self._number(gathered.serial, gathered.start)
        if gathered.first is not None and not gathered.joined:
            self._fill(inverter, gathered.first, day)
        query = f"SELECT readings, energy, {_NAMES} FROM slots WHERE inverter = ? AND start = ?"
        old = self._connection.execute(query, (inverter, gathered.start)).fetchone()
        energy = round(gathered.watt_hours * schema.WATT_HOURS)
        new = (gathered.readings, energy, *gathered.row())
        row = new if old is None else merged_rows(old, new)
        self._connection.execute(PUT_SLOT, (inverter, gathered.start, day, *row))
        self._add_to_day(inverter, day, days.of_slot(gathered))

    def _add_to_day(self, inverter: int, day: int, facts: DayFacts) -> None:
        old = day_facts(self._connection, inverter, day)
        if old is not None:
            facts = days.merged(old, facts, highest=self._highest)
        put_day(self._connection, inverter, day, facts)

    def _fill(self, inverter: int, first: Counted, day: int) -> None:
        """Put the energy of the time before a reading where it belongs."""
        before = self._known(inverter, first.at)
        after = Known(first.at, day, max(0.0, first.power), first.today_kwh, first.total_kwh)
        filled = gaps.fill(before, after, lambda number: dates.bounds(dates.date(number)).start)
        for part in filled.days:
            self._add_to_day(inverter, part.day, days.of_day_part(part))
        for share in filled.parts:
            self._add_share(inverter, share)

    def _add_share(self, inverter: int, share: Share) -> None:
        day, energy = self._day(share.start), round(share.watt_hours * schema.WATT_HOURS)
        if day is None or not energy:
            return
        self._connection.execute(
            "INSERT INTO slots (inverter, start, day, readings, energy) VALUES (?, ?, ?, 0, ?)"
            " ON CONFLICT (inverter, start) DO UPDATE SET energy = energy + excluded.energy",
            (inverter, share.start, day, energy),
        )
        self._add_to_day(inverter, day, days.of_share(share))

    def _rest(self, serial: str, counted: Counted) -> None:
        """Add what was counted before this run of the program, and not written when the last one died."""
        day = self._day(counted.at)
        found = self._connection.execute(
            "SELECT number FROM inverters WHERE serial = ?", (serial,)
        ).fetchone()
        known = None if found is None else self._known(int(found[0]), counted.at)
        if day is None or known is None or known.day != day or counted.total_kwh <= known.total_kwh + 0.05:
            return
        today = known.today_kwh + counted.total_kwh - known.total_kwh
        energy, total = days.watt_hours(today), days.watt_hours(counted.total_kwh)
        facts = DayFacts(schema.READ, energy, total, int(counted.at))
        after = Known(counted.at, day, known.power, today, counted.total_kwh)
        self._add_to_day(int(found[0]), day, facts)
        for share in gaps.fill(known, after, lambda number: 0.0).parts:
            self._add_share(int(found[0]), share)

    def _known(self, inverter: int, moment: float) -> Known | None:
        """The inverter as it was read last before that moment."""
        day_row = self._connection.execute(
            "SELECT day, energy, total, until FROM days"
            " WHERE inverter = ? AND until <= ? AND total IS NOT NULL ORDER BY day DESC LIMIT 1",
            (inverter, int(moment)),
        ).fetchone()
        if day_row is None or not all(isinstance(value, int) for value in day_row):
            return None
        day, energy, total, until = day_row
        if not (dates.FIRST <= day <= dates.LAST and until >= dates.FIRST_MOMENT):
            return None  # no date: the file is damaged
        slot_row = self._connection.execute(
            "SELECT pac FROM slots WHERE inverter = ? AND start <= ? AND readings > 0"
            " ORDER BY start DESC LIMIT 1",
            (inverter, until),
        ).fetchone()
        watts = _number(slot_row[0]) / _POWER_SCALE if slot_row else 0.0
        return Known(float(until), day, max(0.0, watts), energy / 1000, total / 1000)

    def _day(self, epoch: float) -> int | None:
        day = dates.day_of(epoch, self._localtime)
        return None if day is None else dates.number(day)

    # events

    def _event(self, event: Happened | Faults) -> None:
        inverter = self._number(event.serial, event.at) if event.serial else None
        if isinstance(event, Faults):
            self._faults(inverter, event)
            return
        if event.kind == schema.BACK and self._last(inverter, schema.AWAY, schema.BACK) != (
            schema.AWAY,
            None,
        ):
            return  # it was never said to be away
        if event.kind == schema.MODE and self._last(inverter, schema.MODE) == (schema.MODE, event.code):
            return  # the program was started anew
        put_event(self._connection, inverter, event)

    def _last(self, inverter: int | None, *kinds: str) -> tuple[str, int | None] | None:
        row = self._connection.execute(
            f"SELECT kind, code FROM events WHERE inverter = ? AND kind IN ({', '.join('?' * len(kinds))})"
            " ORDER BY at DESC, number DESC LIMIT 1",
            (inverter, *kinds),
        ).fetchone()
        return None if row is None else (_text(row[0]), row[1])

    def _faults(self, inverter: int | None, event: Faults) -> None:
        """Write down which bits are new, and which are there no longer."""
        rows: list[Any] = self._connection.execute(
            "SELECT kind, code FROM events WHERE inverter = ? AND kind IN (?, ?)"
            " ORDER BY at DESC, number DESC LIMIT ?",
            (inverter, schema.FAULT_ON, schema.FAULT_OFF, FAULTS_LOOKED_AT),
        ).fetchall()
        newest = {code: _text(kind) for kind, code in reversed(rows) if isinstance(code, int)}
        on = {code for code, kind in newest.items() if kind == schema.FAULT_ON}
        for kind, bits in ((schema.FAULT_ON, event.bits - on), (schema.FAULT_OFF, on - event.bits)):
            for bit in sorted(bits):
                happened = Happened(event.at, event.serial, kind, bit, schema.fault_text(bit))
                put_event(self._connection, inverter, happened)


_POWER_SCALE = next(column.scale for column in COLUMNS if column.name == "pac")


def merged_rows(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[int | None, ...]:
    """Two parts of one slot put together: readings, energy, and the columns of schema.COLUMNS."""
    before, after = _number(old[0]), _number(new[0])
    values = []
    for column, one, other in zip(COLUMNS, old[2:], new[2:], strict=True):
        if not isinstance(one, int) or other is None:  # damage, or nothing
            values.append(other if other is not None or not isinstance(one, int) else one)
        elif column.kind == MEAN:
            values.append(round((one * before + other * after) / (before + after)))
        else:
            values.append(
                {LOW: min(one, other), HIGH: max(one, other), LAST: other}.get(column.kind, one | other)
            )
    return (before + after, _number(old[1]) + _number(new[1]), *values)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _begin(batch: Batch, serial: str) -> float:
    """When an inverter was seen first in this batch."""
    moments = [slot.start for slot in batch.slots if slot.serial == serial]
    return min([*moments, *(event.at for event in batch.events if event.serial == serial)])


def _free(aside: str) -> str:
    """A name that nothing has yet: what is set aside is kept. The last of many is given again."""
    for number in range(1, MOST_ASIDE):
        name = aside if number == 1 else f"{aside}.{number}"
        if not os.path.lexists(name):
            return name
    return f"{aside}.{MOST_ASIDE}"
