"""SQLite files that hold nothing up: which errors are the file's own, and what becomes of it then."""

import os
import sqlite3
from typing import Literal

Isolation = Literal["DEFERRED"] | None

OF_THE_DISK = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}
"""SQLite's codes for locks and for a disk that is full, read-only or broken; the rest is said of what is in
the file: the statements are always the same, so one that fails finds another table than ours."""
NOT_WRITABLE = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
WRITE_VERSION, READ_VERSION = 18, 19
"""Bytes of the file's header; SQLite only reads a file whose write version it does not know."""
KNOWN_VERSIONS = (1, 2)
ENDINGS = ("", "-wal", "-shm", "-journal")
"""Of the files that are one database."""
BUSY_SECONDS = 5.0
"""How long a statement waits for another program: for a person who corrects a day, say."""
LARGEST_ROW = 1_000_000
"""Bytes; a row that promises more is damaged, and is not even begun to be read."""


def connected(address: str, *, uri: bool = False, isolation_level: Isolation = None) -> sqlite3.Connection:
    """A connection to whatever the file is, that no damage in it can hold up. Raises sqlite3.Error.

    `address`, `uri` and `isolation_level` are those of sqlite3.connect().
    """
    connection = sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=isolation_level, uri=uri)
    connection.text_factory = bytes  # a text that is damaged is no error to SQLite
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_ROW)
    return connection


def is_damage(error: Exception, path: str) -> bool:
    """True when the file at `path` is to blame, and neither the disk nor we are. Raises OSError."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # of our own making, text that is none, a row that promises more than there is
        return type(error) in (sqlite3.DatabaseError, UnicodeDecodeError, MemoryError)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_READONLY:
        return _has_unknown_version(path)
    return primary not in OF_THE_DISK


def advice(path: str) -> str:
    """How a file has to be, to be written."""
    return f"{path} must be a file, and it and its folder writable for the user that this runs as"


def with_advice(error: Exception, path: str) -> Exception:
    """The error, with the remedy if it says that the file cannot be written."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in NOT_WRITABLE:
        return error
    return sqlite3.OperationalError(f"{error}: {advice(path)}")


def inode(path: str) -> int:
    """The number by which a file is told from the one that has its name next; 0 where there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def make_folder(path: str) -> None:
    """Make the folder of a file. Raises OSError, with the remedy."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {advice(path)}") from error


def move(path: str, aside: str) -> None:
    """Give a database another name, with the files beside it. Raises OSError."""
    for ending in ENDINGS:
        if os.path.exists(path + ending):
            os.replace(path + ending, aside + ending)


def _has_unknown_version(path: str) -> bool:
    """True when that is why SQLite would not write to the file. Raises OSError."""
    with open(path, "rb") as file:
        header = file.read(READ_VERSION + 1)
    return len(header) > READ_VERSION and header[WRITE_VERSION] not in KNOWN_VERSIONS
