"""The file of the backlog: readings in the order in which they were taken, bounded in size and age.

SQLite with a write-ahead log: a reading that was added survives a kill -9 and a power cut.
"""

import logging
import os
import sqlite3
import zlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

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
"""What is left of a file that was too large, so that not each reading has to make room."""
BUSY_SECONDS = 5.0
NO_CLOCK_BEFORE = 1_600_000_000.0
"""Seconds since 1970; a time before September 2020 is that of a clock that was not set."""


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
        """`largest` in bytes; `oldest` is how many seconds a reading is kept."""
        self._path = path
        self._largest = largest
        self._oldest = oldest
        self._highest = 0
        """The largest number seen: none is given twice, also not by the file that follows a damaged one."""
        self._connection: sqlite3.Connection | None = None

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
        """How many are kept."""
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
        with connection:
            insert = "INSERT INTO readings (serial, taken, data) VALUES (?, ?, ?)"
            number = int(connection.execute(insert, (serial, taken, blob)).lastrowid or 0)
        self._highest = max(self._highest, number)
        return number

    def _next(self, connection: sqlite3.Connection, count: int, besides: list[int]) -> list[Kept]:
        holes = ",".join("?" * len(besides))
        select = (
            f"SELECT number, serial, data FROM readings WHERE number NOT IN ({holes}) ORDER BY number LIMIT ?"
        )
        dropped: set[int] = set()
        while True:
            rows = connection.execute(select, (*besides, count)).fetchall()
            self._highest = max([self._highest, *(number for number, _, _ in rows)])
            readings = [kept for kept in (_kept(*row) for row in rows) if kept is not None]
            damaged = {number for number, _, _ in rows} - {kept.number for kept in readings}
            if damaged & dropped:
                raise sqlite3.DatabaseError("what is deleted comes again")
            self._delete(connection, sorted(damaged))
            dropped |= damaged
            if readings or not damaged:
                if dropped:
                    log.warning("%s: %d readings are damaged, dropped", self._path, len(dropped))
                return readings

    def _delete(self, connection: sqlite3.Connection, numbers: list[int]) -> None:
        if not numbers:
            return
        with connection:
            connection.executemany("DELETE FROM readings WHERE number = ?", [(number,) for number in numbers])
        if not _count(connection):
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
        return dropped

    def _do(self, call: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return call(self._open())
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # Subclasses are the disk's trouble, or ours; damage is the class itself, or text that is none.
            if type(error) not in (sqlite3.DatabaseError, UnicodeDecodeError):
                raise
            self.close()
            self._set_aside(error)
            return call(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        connection.text_factory = bytes  # a text that is damaged is no error to SQLite
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"of version {version}")
            connection.executescript(SCHEMA)
            _check_columns(connection)
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
        log.warning("%s is damaged (%s); set aside as %s, beginning anew", self._path, error, aside)
        for ending in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(self._path + ending):
                os.replace(self._path + ending, aside + ending)


def _kept(number: int, serial: bytes, blob: bytes) -> Kept | None:
    """The reading of a row; None if it is damaged: SQLite does not notice a flipped bit."""
    try:
        name, data = serial.decode("ascii"), zlib.decompress(blob).decode("ascii")
    except (zlib.error, UnicodeDecodeError, AttributeError, TypeError):  # also another type than it had
        return None
    fits_a_topic = name.isprintable() and not set(name) & set("+#/")
    return Kept(number, name, data) if fits_a_topic else None


def _check_columns(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError for a table that is not ours any more."""
    try:
        connection.execute("SELECT number, serial, taken, data FROM readings LIMIT 0")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # the disk's trouble, or a lock
            raise
        raise sqlite3.DatabaseError(str(error)) from error


def _count(connection: sqlite3.Connection) -> int:
    return _number(connection, "SELECT count(*) FROM readings")


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
