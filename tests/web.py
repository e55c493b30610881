"""For tests of the page: histories, one whose values are known and one that is made up; the page, with a network
and without."""

import contextlib
import datetime
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from goodwe.history import dates, madeup, schema
from goodwe.history.madeup import MadeUpRoof
from goodwe.history.queries import Reader
from goodwe.outputs.web.latest import Latest
from goodwe.outputs.web.server import Server, listening
from goodwe.outputs.web.settings import Address
from goodwe.outputs.web.site import Sources, WebSite

ROOF, BARN = "15000DTU166W0157", "1010KDTU18<b>&02"
"""Two serials; the second has whatever HTML has a meaning for."""
DAY = datetime.date(2026, 6, 21)
NOW = dates.bounds(DAY).start + 13 * 3600
VALUES: dict[str, Any] = {
    **{"vpv1": 305.1, "vpv2": 289.8, "ipv1": 4.1, "ipv2": 3.2, "iac1": 10.1, "iac2": 3.0, "iac3": 3.1},
    **{"vac1": 229.3, "vac2": 230.1, "vac3": 231.1, "fac1": 49.98, "fac2": 49.97, "fac3": 49.99},
    **{"pac": 2351, "workMode": 1, "temp": 38.5, "errorMessage": [], "eTotal": 4368.4, "eDay": 8.4},
}
STATUS: dict[str, Any] = {
    "inverters": {ROOF: {"online": True, "firmware": "1010C", "refused": {"power impossible": 2}}},
    "links": [
        {"state": "open", "refused": {"noise": 3}, "bus": {"checksum_errors": 4, "partial_frames": 1}},
    ],
    "losses": [
        {"name": "/dev/hidraw0", "reason": "unplugged", "lost_epoch": NOW - 3600, "lost_seconds": 3600}
    ],
    "dropped": [{"part": "toy", "error": "OSError: /var/lib/secret"}],
    "outputs": {
        "mqtt": {
            "connections": {
                ROOF: {"connected_seconds": 700.0, "server": "127.0.0.1:1883", "why_not": ""},
                BARN: {"connected_seconds": None, "server": "nas:1883", "why_not": "connection refused"},
            },
            "features": {"backlog": {"kept": 12}},
        }
    },
}
PROGRAM = {
    "version": "1.2.3",
    "uptime_seconds": 4000.0,
    "memory_kilobytes": 30_720,
    "start_epoch": NOW - 4000,
}


def history(path: Path) -> str:
    """A history at `path`: 20 and 21 June 2026 with slots, a June and a year before, events. Its path."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    for table in schema.TABLES:
        connection.execute(table)
    rows = [(1, ROOF, "GW5000D-NS", "roof", 1), (2, BARN, "GW10K-DT", "", 3)]
    connection.executemany(
        "INSERT INTO inverters (number, serial, model, name, phases, since) VALUES (?, ?, ?, ?, ?, 0)", rows
    )
    for number in (1, 2):
        for day, made in {
            datetime.date(2025, 6, 20): 9000,
            datetime.date(2025, 6, 21): 11_000,
            datetime.date(2026, 5, 2): 7000,
            datetime.date(2026, 6, 20): 12_500,
            DAY: 10_000,
        }.items():
            _add_day(connection, number, day, made * number)
        for day in (datetime.date(2026, 6, 20), DAY):
            _add_slots(connection, number, day)
    _add_events(connection)
    connection.commit()
    connection.close()
    return str(path)


def _add_day(connection: sqlite3.Connection, number: int, day: datetime.date, made: int) -> None:
    noon = int(dates.bounds(day).start) + 12 * 3600
    row = (number, dates.number(day), "read", made, None, 50_000, 2000 * number, noon, noon - 6 * 3600)
    rest = (noon + 6 * 3600, 40_000, 43_200, 2295, 2412, 480)
    columns = "inverter, day, source, energy, corrected, total, peak, peak_at, first, last, feeding, seen"
    marks = ", ".join("?" * 15)
    insert = f"INSERT INTO days ({columns}, vac_low, vac_high, temp_high) VALUES ({marks})"
    connection.execute(insert, (*row, *rest))


def _add_slots(connection: sqlite3.Connection, number: int, day: datetime.date) -> None:
    """From 06:00 to 18:00 a triangle with its top at noon, and nothing from 09:00 to 10:00."""
    names = ", ".join(column.name for column in schema.COLUMNS)
    start = int(dates.bounds(day).start)
    for minute in range(6 * 60, 18 * 60, 5):
        if 540 <= minute < 600:
            continue
        watts = 2000 * number * (1 - abs(minute - 720) / 360)
        values = {**VALUES, "pac": watts, "temp": 20 + watts / 100, "errorMessage": 0}
        if number == 1:
            values |= dict.fromkeys(("vac2", "vac3", "fac2", "fac3"), 0.0)
        cells = [round(values.get(column.key, 0) * column.scale) for column in schema.COLUMNS]
        connection.execute(
            f"INSERT INTO slots (inverter, start, day, readings, energy, {names})"
            f" VALUES ({', '.join('?' * (5 + len(cells)))})",
            (number, start + minute * 60, dates.number(day), 60, round(watts / 12 * 10), *cells),
        )


def _add_events(connection: sqlite3.Connection) -> None:
    rows = [
        (NOW - 300, 1, schema.FAULT_ON, 17, "grid voltage out of range"),
        (NOW - 200, 1, schema.FAULT_OFF, 17, "grid voltage out of range"),
        (NOW - 100, 2, schema.AWAY, None, "unplugged <b>"),
        (NOW - 50, None, schema.STARTED, None, "the program started"),
    ]
    connection.executemany(
        "INSERT INTO events (at, inverter, kind, code, text) VALUES (?, ?, ?, ?, ?)",
        [(int(at), *rest) for at, *rest in rows],
    )


def made_up_history(path: Path) -> str:
    """A history at `path` as of a home: two inverters, two years until NOW. Its path."""
    roofs = [
        MadeUpRoof(ROOF, 1, 3000.0, "GW5000D-NS", "South roof"),
        MadeUpRoof("1010KDTU18600002", 3, 8000.0, "GW10K-DT"),
    ]
    madeup.write(str(path), roofs, until=DAY + datetime.timedelta(1), days=420, with_slots=5, seed=3)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM slots WHERE start > ?", (NOW,))
        connection.execute("DELETE FROM events WHERE at > ?", (NOW,))
    return str(path)


@contextlib.contextmanager
def served(application: Callable[..., Any]) -> Iterator[str]:
    """The address, without a slash at its end, at which a real server answers with it."""
    at = listening(Address("127.0.0.1", 0))
    server = Server(application, at)
    try:
        yield f"http://127.0.0.1:{at.getsockname()[1]}"
    finally:
        server.close()
        server._thread.join(5)


class Page:
    """The page of a house, asked without a network."""

    def __init__(
        self,
        history: str | None = None,
        *,
        status: Mapping[str, Any] | Exception = STATUS,
        metrics: bool = False,
        hosts: Sequence[str] = ("localhost", "raspberrypi"),
        frame: str = "'none'",
        fresh: float = 180.0,
    ) -> None:
        """`history` is the path of its file; `status` that of the app, or why there is none."""
        self.live = Latest(lambda: NOW)
        self.history = history or ""

        def told() -> Mapping[str, Any]:
            if isinstance(status, Exception):
                raise status
            return status

        self.site = WebSite(
            Sources(
                live=self.live,
                wall_clock=lambda: NOW,
                history=None if history is None else lambda: Reader(history),
                status=told,
                program=lambda: PROGRAM,
                metrics=(lambda: b"goodwe_up 1\n") if metrics else None,
                fresh=fresh,
            ),
            hosts=lambda: hosts,
            frame=frame,
            language="en",
        )

    def ask(self, address: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body. Headers are given as accept_language="nl"."""
        status, given, body = self.ask_bytes(address, method, **headers)
        return status, given, body.decode()

    def ask_bytes(
        self, address: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """The same with a body that may be a picture."""
        path, _, query = address.partition("?")
        answer: list[Any] = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_HOST": "localhost:8765",
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }
        body = b"".join(self.site(environ, lambda status, given: answer.extend([status, given])))
        return int(answer[0][:3]), dict(answer[1]), body

    def body(self, address: str, **headers: str) -> str:
        """The body of an answer that must be good."""
        status, _, body = self.ask(address, **headers)
        assert status == 200, f"{address}: {status} {body}"
        return body


def asked(path: str, **query: str) -> str:
    """An address with its query."""
    return f"{path}?{'&'.join(f'{key}={quote(value)}' for key, value in query.items())}"


def clock_of(moment: float) -> str:
    """HH:MM of a moment in this machine's zone."""
    return time.strftime("%H:%M", time.localtime(moment))
