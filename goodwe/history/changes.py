"""The user's changes of the history: while the program runs or not, each in one transaction.

Every function raises HistoryError, whose text says what to do.
"""

import contextlib
import datetime
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .. import databases
from ..errors import HistoryError, NoHistoryError
from ..protocol import fields
from . import archive, dates, schema
from .days import DayFacts
from .queries import Reader, chain
from .recorder import Happened
from .spreadsheets import ImportedDay

NEW, CHANGED, SAME, READ = "new", "changed", "the same as before", "read by this program itself"
"""The fates of an imported day; the last two are left alone."""


@contextlib.contextmanager
def writing(path: str, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection within a transaction, which ends with it: all of it is done, or nothing."""
    is_new = not os.path.exists(path)
    if is_new and not create:
        raise NoHistoryError("there is no history yet")
    try:
        if is_new:
            databases.make_folder(path)
        connection = archive.connected(path)
        if is_new:
            _give_away(path)
        with contextlib.closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise HistoryError(str(databases.with_advice(error, path))) from error


def _give_away(path: str) -> None:
    """A file that root has made belongs to whoever has the folder: the program runs as another user."""
    if os.geteuid() == 0:
        folder = os.stat(os.path.dirname(path) or ".")
        os.chown(path, folder.st_uid, folder.st_gid)


def correct(path: str, serial: str, date: datetime.date, kwh: float | None, *, now: float) -> str:
    """Set the energy of a day, or with None take that back; what was done, in words."""
    number = dates.number(date)
    with writing(path) as connection:
        serial = _as_known(connection, serial)
        inverter = _known(connection, serial)
        row = connection.execute(
            "SELECT coalesce(corrected, energy) FROM days WHERE inverter = ? AND day = ?", (inverter, number)
        ).fetchone()
        if row is None:
            if kwh is None:
                return f"{date} has no correction"
            archive.put_day(connection, inverter, number, DayFacts(schema.IMPORTED, 0))
        connection.execute(
            "UPDATE days SET corrected = ? WHERE inverter = ? AND day = ?",
            (None if kwh is None else round(kwh * 1000), inverter, number),
        )
        before = f"{row[0] / 1000:.1f} kWh" if row is not None else "nothing"
        if kwh is None:
            told = f"{date}: as the counter says again, in place of {before}"
        else:
            told = f"{date}: {kwh:.1f} kWh in place of {before}"
        archive.put_event(connection, inverter, Happened(now, serial, schema.CORRECTED, None, told))
    return told


def replace(path: str, old: str, new: str, *, now: float) -> str:
    """Let the totals of one inverter go on as another's; what was done, in words.

    An empty `new` takes that back.
    """
    with Reader(path) as reader:
        inverters = reader.inverters()
    known = [inverter.serial for inverter in inverters]
    old, new = fields.known_serial(old, known), fields.known_serial(new, known)
    if new and (new == old or new in chain(inverters, old)):
        raise HistoryError(f"{new} cannot take the place of {old}, since {old} took its place")
    with writing(path) as connection:
        number = _known(connection, old)
        successor = archive.number_of(connection, new, now) if new else None
        (before,) = connection.execute(
            "SELECT replaced_by FROM inverters WHERE number = ?", (number,)
        ).fetchone()
        if before == successor:
            return f"{old}: nothing to do"
        connection.execute(
            "UPDATE inverters SET replaced_by = ?, replaced_at = ? WHERE number = ?",
            (successor, None if successor is None else round(now), number),
        )
        told = f"{old} was replaced by {new}" if new else f"{old} was not replaced"
        event = Happened(now, new or old, schema.REPLACED, None, told)
        archive.put_event(connection, successor or number, event)
    return told


def name(path: str, serial: str, given: str) -> None:
    """Give an inverter a name; an empty one takes it away."""
    with writing(path) as connection:
        number = _known(connection, _as_known(connection, serial))
        connection.execute("UPDATE inverters SET name = ? WHERE number = ?", (given, number))


def put_imported(
    path: str, serial: str, days: Sequence[ImportedDay], *, dry_run: bool = False
) -> Mapping[str, int]:
    """Put the days of a file into the history; NEW, CHANGED, SAME or READ to how many there were of it.

    `serial` counts for days that have none. A day that this program has read itself is left as it is. With
    `dry_run` nothing is changed.
    """
    if dry_run and not os.path.exists(path):
        return {NEW: len(days)}
    counts: Counter[str] = Counter()
    with contextlib.suppress(_DryRunEnd), writing(path, create=True) as connection:
        for day in sorted(days, key=lambda day: day.date):
            since = dates.bounds(day.date).start
            number = archive.number_of(connection, day.serial or serial, since)
            connection.execute("UPDATE inverters SET since = min(since, ?) WHERE number = ?", (since, number))
            counts[_put(connection, number, day)] += 1
        if dry_run:
            raise _DryRunEnd
    return counts


class _DryRunEnd(Exception):
    """Everything is known, and nothing is to be kept."""


def _put(connection: sqlite3.Connection, inverter: int, day: ImportedDay) -> str:
    number = dates.number(day.date)
    before = archive.day_facts(connection, inverter, number)
    if before is not None and before.source == schema.READ:
        return READ
    total = before.total if before is not None else None
    after = DayFacts(schema.IMPORTED, day.watt_hours, total, peak=day.peak)
    if after == before:
        return SAME
    archive.put_day(connection, inverter, number, after)
    return NEW if before is None else CHANGED


def _known(connection: sqlite3.Connection, serial: str) -> int:
    row = connection.execute("SELECT number FROM inverters WHERE serial = ?", (serial,)).fetchone()
    if row is None:
        known = ", ".join(_serials(connection)) or "none yet"
        raise HistoryError(f"{serial} is not known; known are {known}")
    return int(row[0])


def _as_known(connection: sqlite3.Connection, serial: str) -> str:
    return fields.known_serial(serial, _serials(connection))


def _serials(connection: sqlite3.Connection) -> list[str]:
    return [bytes(one).decode() for (one,) in connection.execute("SELECT serial FROM inverters")]
