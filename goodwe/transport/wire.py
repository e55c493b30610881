"""The two interfaces of a transport: a way for bytes, and something that finds it.

A `Finder` is a part of the loop that tells which wires are there; a `Wire` carries bytes, and knows nothing
of their meaning.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..loop import Part


class Ids(NamedTuple):
    """USB vendor and product number."""

    vendor: int
    product: int

    def __str__(self) -> str:
        return f"{self.vendor:04x}:{self.product:04x}"


class Wire(Protocol):
    """A way for frames to one inverter or several, and for their reports back."""

    name: str
    """As the log has it; no two wires of one finder have the same at a time."""
    capacity: int
    """How many inverters can be on it."""
    has_envelope: bool
    """True if `write` puts CC 99 and the length in front of a frame (PROTOCOL 2.2)."""

    def open(self, opened: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Open it; one of the two is called, perhaps later: `failed` with an OSError or DeviceError."""

    def fileno(self) -> int:
        """The descriptor to poll for input once it is open."""

    def read(self) -> bytes:
        """One report. Raises BlockingIOError when there is none, OSError when the device is gone."""

    def write(self, frame: bytes, failed: Callable[[OSError], None]) -> None:
        """Send a frame; never waits. `failed` is called, perhaps later, when it could not be sent."""

    def reset(self, failed: Callable[[Exception], None]) -> None:
        """Reset its port, if it has one; `failed`, with an OSError or DeviceError, perhaps later."""

    def close(self, closed: Callable[[], None]) -> None:
        """Give it back, opened or not; `closed` is called, perhaps later, when that is done."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: its name, and what it is doing."""


class Finder(Part, Protocol):
    """Tells of wires that come and go, and when one that failed is to be tried again.

    It calls `plugged(wire)` with a new wire, which is its user's until he says `ended`, and `unplugged(name)`
    when the device behind one is gone.
    """

    def ended(self, name: str, now: float, *, was_open: bool) -> None:
        """The wire of that name is closed, or could not be opened: another follows when it is time."""

    def close(self) -> None:
        """Tell nothing any more."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: what it looks for, what it knows, when it looks again."""


class Find(Protocol):
    """The function `find` of a transport: makes its finder. Raises StartError when something is missing."""

    def __call__(
        self,
        device: str,
        ids: Ids,
        *,
        post: Callable[[Callable[[], None]], None],
        plugged: Callable[[Wire], None],
        unplugged: Callable[[str], None],
    ) -> Finder:
        """`device` is the option as it was given, `ids` an inverter's USB numbers, `post` the loop's."""
