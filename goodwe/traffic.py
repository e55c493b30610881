"""The last minute on a wire, kept for whoever wants to know why an inverter was lost."""

from collections import deque
from typing import Any, NamedTuple

SECONDS = 60.0
MOST = 4096
"""Lines; a minute at the highest rate has 2000."""


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
