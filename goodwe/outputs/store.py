"""The file of the backlog: readings in the order in which they were taken, bounded in size and age.

SQLite with a write-ahead log: a reading that was added survives a kill -9, without a wait for the disk.
"""

import logging
import os
import sqlite3
import zlib
from typing import NamedTuple

log = logging.getLogger(__name__)

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


class Kept(NamedTuple):
    """One reading in the file."""

    number: int
    """The order in which they are sent."""
    serial: str
    data: str
    """The message, as it was published or would have been."""


class Store:
    """The file at a path, for one thread. Every method raises sqlite3.Error or OSError."""

    def __init__(self, path: str, *, largest: int, oldest: float) -> None:
        """`largest` in bytes; `oldest` is how many seconds a reading is kept."""
        self._path = path
        self._largest = largest
        self._oldest = oldest
        self._added = 0
        self._connection: sqlite3.Connection | None = None

    def add(self, serial: str, taken: float, data: str) -> int:
        """Keep a reading, taken so many seconds after 1970; its number."""
        blob = zlib.compress(data.encode("ascii"))
        with self._open() as connection:
            insert = "INSERT INTO readings (serial, taken, data) VALUES (?, ?, ?)"
            return int(connection.execute(insert, (serial, taken, blob)).lastrowid or 0)

    def next(self, count: int, besides: list[int]) -> list[Kept]:
        """The oldest that are not `besides`, so many at most."""
        holes = ",".join("?" * len(besides))
        select = (
            f"SELECT number, serial, data FROM readings WHERE number NOT IN ({holes}) ORDER BY number LIMIT ?"
        )
        rows = self._open().execute(select, (*besides, count))
        return [Kept(number, serial, zlib.decompress(blob).decode("ascii")) for number, serial, blob in rows]

    def delete(self, numbers: list[int]) -> None:
        """These were acknowledged."""
        with self._open() as connection:
            connection.executemany("DELETE FROM readings WHERE number = ?", [(number,) for number in numbers])
        if not self.count():
            self._open().executescript("PRAGMA incremental_vacuum")

    def count(self) -> int:
        """How many are kept."""
        return self._number("SELECT count(*) FROM readings")

    def trim(self, now: float) -> int:
        """Drop what is too old, in seconds since 1970, and then the oldest while it is too much; how many."""
        with self._open() as connection:
            dropped = connection.execute(
                "DELETE FROM readings WHERE taken < ?", (now - self._oldest,)
            ).rowcount
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        used = pages * self._number("PRAGMA page_size")
        if used > self._largest:
            count = int(self.count() * (1 - TRIM_TO * self._largest / used)) + 1
            oldest = "SELECT number FROM readings ORDER BY number LIMIT ?"
            with self._open() as connection:
                dropped += connection.execute(
                    f"DELETE FROM readings WHERE number IN ({oldest})", (count,)
                ).rowcount
        return dropped

    def close(self) -> None:
        """Give the file back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _number(self, query: str) -> int:
        return int(self._open().execute(query).fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            try:
                self._connection = self._connected()
            except sqlite3.OperationalError:  # it cannot be opened or written: not the file's fault
                raise
            except sqlite3.DatabaseError as error:
                self._set_aside(error)
                self._connection = self._connected()
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"of version {version}")
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:  # whatever it is goes on; the file would stay open, and perhaps locked
            connection.close()
            raise
        return connection

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = f"{self._path}.damaged"
        log.warning("%s is damaged (%s); set aside as %s, beginning anew", self._path, error, aside)
        for ending in ("", "-wal", "-shm"):
            if os.path.exists(self._path + ending):
                os.replace(self._path + ending, aside + ending)
