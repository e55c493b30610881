"""The traffic of the wires: its last minute is kept, for whoever asks why an inverter was lost.

A line of it, in a capture and in what is told of a loss, with the time in seconds since 1970:

    (1764125400.123456) /dev/hidraw0 > aa55800b010100018c (query_running_info)
    (1764125400.183456) /dev/hidraw0 < 00000000aa550b80
    (1764125401.000000) /dev/hidraw0 ! offline 15000SIM268W0001: no answer
"""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SECONDS = 60.0
MOST = 4096
"""Lines; a minute at the highest rate has 2000."""
READ, WRITTEN, NOTED = "<", ">", "!"
"""Marks of a line: from the inverter, to it, what happened to the wire."""

HearsLine = Callable[[float, str, str, str], None]
"""Called with seconds on the loop's clock, name of the wire, mark, and what was read, written or noted."""


class Line(NamedTuple):
    """One report read, or one frame written."""

    when: float
    """Seconds on the clock that the calls are given."""
    direction: str
    """< from the inverter, > to it."""
    data: bytes


class Traffic:
    """The reports and frames of one wire. Times are seconds on any clock that only grows."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=MOST)

    def add(self, now: float, direction: str, data: bytes) -> None:
        """Remember it for a minute."""
        self._lines.append(Line(now, direction, data))
        while self._lines[0].when < now - SECONDS:
            self._lines.popleft()

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: how many lines are kept, and the age in seconds of the last of each direction."""
        last = {line.direction: now - line.when for line in self._lines}
        return {"lines": len(self._lines), "read_seconds": last.get("<"), "written_seconds": last.get(">")}

    def before(self, now: float) -> list[Line]:
        """The minute before `now`."""
        return [line for line in self._lines if line.when >= now - SECONDS]


class Tap:
    """Where one can listen to all wires at once. With no listener it costs nothing."""

    def __init__(self) -> None:
        self.listeners: list[HearsLine] = []
        """None of them raises anything."""

    def tell(self, now: float, wire: str, mark: str, data: bytes, note: str = "") -> None:
        """Tell of bytes that were read or written, with a `note` on what they are."""
        if self.listeners:
            self._tell(now, wire, mark, f"{data.hex()} ({note})" if note else data.hex())

    def note(self, now: float, wire: str, text: str) -> None:
        """Tell of something that happened to the wire of that name."""
        if self.listeners:  # a serial may have whatever in it, but no line of its own
            self._tell(now, wire, NOTED, "".join(c if c.isprintable() else "?" for c in text))

    def _tell(self, now: float, wire: str, mark: str, text: str) -> None:
        for listener in list(self.listeners):
            listener(now, wire, mark, text)


def as_line(epoch: float, wire: str, mark: str, text: str) -> str:
    """A line of a capture; `epoch` is seconds since 1970."""
    return f"({epoch:.6f}) {wire} {mark} {text}"


# --- kept small, for as long as nobody asks


def packed(lines: Sequence[Line], now: float) -> bytes:
    """The lines in a tenth of their room; `now` is the time that theirs are told from."""
    text = "\n".join(f"{line.when - now:.6f} {line.direction} {line.data.hex()}" for line in lines)
    return zlib.compress(text.encode(), 9)


def unpacked(data: bytes) -> list[Line]:
    """The lines that `packed` was given, with their times as seconds after its `now`, negative mostly."""
    rows = (row.split(" ") for row in zlib.decompress(data).decode().splitlines())
    return [Line(float(when), direction, bytes.fromhex(raw)) for when, direction, raw in rows]
