"""The file of the backlog: readings in the order in which they were taken, bounded in size and age.

SQLite with a write-ahead log: a reading that was added survives a kill -9 and a power cut.
"""

import logging
import math
import sqlite3
import zlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import simplejson

from ... import databases

log = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS readings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    serial TEXT NOT NULL,
    taken REAL NOT NULL,
    data BLOB NOT NULL
) STRICT;
"""
VERSION = 1
TRIM_EVERY = 500
"""Readings between two looks at size and age."""
TRIM_TO = 0.9
"""The share that is kept of a file that was too large, so that not each reading has to make room."""
NO_CLOCK_BEFORE = 1_600_000_000.0
"""Seconds since 1970; a time before September 2020 is that of a clock that was not set."""
LAST_NUMBER = 2**62
"""Half of what there are; near the end SQLite finds none and calls its disk full."""
REMEMBERED = 1000
"""Deleted readings that must not come again."""


class Kept(NamedTuple):
    """One reading in the file."""

    number: int
    """The order in which they are sent."""
    serial: str
    data: str
    """The message, as it was published or would have been."""


class Store:
    """The file at a path, for one thread. Every method raises sqlite3.Error or OSError.

    A file that is damaged is set aside, and a new one begun; a damaged reading in it is dropped.
    """

    def __init__(self, path: str, *, largest: int, oldest: float) -> None:
        """`path` is the file's, `largest` its size in bytes; a reading is kept for `oldest` seconds."""
        self._path = path
        self._largest = largest
        self._oldest = oldest
        self._highest = 0
        """The largest number seen: none is given twice, also not by the file that follows a damaged one."""
        self._deleted: deque[int] = deque(maxlen=REMEMBERED)
        """The numbers that were deleted last."""
        self.kept: int | None = None
        """How many are kept, for whoever wants to show it: also in another thread, and None before a look."""
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def add(self, serial: str, taken: float, data: str) -> int:
        """Keep a reading, taken so many seconds after 1970; its number."""
        return self._do(lambda connection: self._add(connection, serial, taken, data))

    def next(self, count: int, besides: list[int]) -> list[Kept]:
        """The oldest that are not `besides`, so many at most."""
        return self._do(lambda connection: self._next(connection, count, besides))

    def delete(self, numbers: list[int]) -> None:
        """These were acknowledged."""
        self._do(lambda connection: self._delete(connection, numbers))

    def count(self) -> int:
        """How many are kept; counts them."""
        return self._do(_count)

    def trim(self, now: float) -> int:
        """Drop what is too old, in seconds since 1970, and then the oldest while it is too much; how many."""
        return self._do(lambda connection: self._trim(connection, now))

    def close(self) -> None:
        """Give the file back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _add(self, connection: sqlite3.Connection, serial: str, taken: float, data: str) -> int:
        blob = zlib.compress(data.encode("ascii"))
        taken = 0.0 if math.isnan(taken) else taken  # SQLite has no such number; it would be a damaged file's
        with connection:
            insert = "INSERT INTO readings (serial, taken, data) VALUES (?, ?, ?)"
            number = int(connection.execute(insert, (serial, taken, blob)).lastrowid or 0)
        self._highest = max(self._highest, number)
        self._changed(1)
        return number

    def _changed(self, by: int) -> None:
        self.kept = None if self.kept is None else self.kept + by

    def _next(self, connection: sqlite3.Connection, count: int, besides: list[int]) -> list[Kept]:
        readings: list[Kept] = []
        damaged: list[int] = []
        before = None
        rows = connection.execute("SELECT number, serial, data FROM readings ORDER BY number")
        for number, serial, blob in rows:
            if number > LAST_NUMBER or (before is not None and number <= before) or number in self._deleted:
                rows.close()
                raise sqlite3.DatabaseError(f"reading {number} is not where it should be")
            before = number
            if number in besides:
                continue
            kept = _kept(number, serial, blob)
            if kept is None:
                damaged.append(number)
            else:
                readings.append(kept)
            if len(readings) == count:
                break
        rows.close()
        if before is not None:
            self._highest = max(self._highest, before)
        if damaged:
            self._delete(connection, damaged)
            log.warning("%s: %d readings are damaged, dropped", self._path, len(damaged))
        return readings

    def _delete(self, connection: sqlite3.Connection, numbers: list[int]) -> None:
        if not numbers:
            return
        with connection:
            one = "DELETE FROM readings WHERE number = ?"
            self._changed(-connection.executemany(one, [(number,) for number in numbers]).rowcount)
        self._deleted.extend(numbers)
        if not connection.execute("SELECT 1 FROM readings LIMIT 1").fetchone():
            connection.executescript("PRAGMA incremental_vacuum")

    def _trim(self, connection: sqlite3.Connection, now: float) -> int:
        with connection:
            # Those from before a clock was set have no age that anybody knows.
            old = "DELETE FROM readings WHERE taken < ? AND taken > ?"
            dropped = connection.execute(old, (now - self._oldest, NO_CLOCK_BEFORE)).rowcount
        pages = _number(connection, "PRAGMA page_count") - _number(connection, "PRAGMA freelist_count")
        used = pages * _number(connection, "PRAGMA page_size")
        if used > self._largest:
            count = int(_count(connection) * (1 - TRIM_TO * self._largest / used)) + 1
            oldest = "SELECT number FROM readings ORDER BY number LIMIT ?"
            with connection:
                dropped += connection.execute(
                    f"DELETE FROM readings WHERE number IN ({oldest})", (count,)
                ).rowcount
        self._changed(-dropped)
        return dropped

    def _do(self, call: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return call(self._open())
        except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
            if not databases.is_damage(error, self._path):
                raise databases.with_advice(error, self._path) from error
            self.close()
            self._set_aside(error)
            return call(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode != databases.inode(self._path):
            # What is added to a file without a name is gone with the next restart.
            log.warning("%s is not there any more; beginning anew", self._path)
            self.close()
        if self._connection is None:
            databases.make_folder(self._path)
            self._connection = self._connected()
            self._inode = databases.inode(self._path)
            self.kept = _count(self._connection)
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        connection = databases.connected(self._path, isolation_level="DEFERRED")
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"of version {version}")
            connection.executescript(SCHEMA)
            _check_columns(connection)
            _check_numbers(connection)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            if self._highest and not connection.execute("SELECT 1 FROM sqlite_sequence").fetchone():
                with connection:
                    connection.execute("INSERT INTO sqlite_sequence VALUES ('readings', ?)", (self._highest,))
        except BaseException:  # whatever it is goes on; the file would stay open, and perhaps locked
            connection.close()
            raise
        return connection

    def _set_aside(self, error: Exception) -> None:
        aside = f"{self._path}.damaged"
        why = str(error) or type(error).__name__
        log.warning("%s is damaged (%s); set aside as %s, beginning anew", self._path, why, aside)
        databases.move(self._path, aside)


def _kept(number: int, serial: bytes, blob: bytes) -> Kept | None:
    """The reading of a row; None if it is damaged: SQLite does not notice a flipped bit."""
    try:
        name, data = serial.decode("ascii"), zlib.decompress(blob).decode("ascii")
    except (zlib.error, UnicodeDecodeError, AttributeError, TypeError):  # also another type than it had
        return None
    fits_a_topic = name.isprintable() and not set(name) & set("+#/")
    return Kept(number, name, data) if fits_a_topic and _serial_in(data) in (name, None) else None


def _serial_in(data: str) -> str | None:
    """Serial of the inverter that a message is about; None if it does not say so."""
    try:
        return str(simplejson.loads(data)["serial"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_columns(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.OperationalError for a table that is not ours any more."""
    connection.execute("SELECT number, serial, taken, data FROM readings LIMIT 0")


def _check_numbers(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError when SQLite would soon find no number for a new reading."""
    sequence = "SELECT seq FROM sqlite_sequence WHERE typeof(seq) <> 'integer' OR seq > ?"
    largest = "SELECT number FROM readings WHERE number > ? LIMIT 1"
    for query in (sequence, largest):
        if connection.execute(query, (LAST_NUMBER,)).fetchone():
            raise sqlite3.DatabaseError("its numbers have come to an end")


def _count(connection: sqlite3.Connection) -> int:
    return _number(connection, "SELECT count(*) FROM readings")


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
