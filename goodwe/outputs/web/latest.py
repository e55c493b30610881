"""This moment as the page shows it: the last that was said of each inverter.

Written by the loop's thread, read by any.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...events import Found, Happening, Info, Offline, Online, Reading, Remembered, Resting
from ...protocol.fields import Values


class Seen(NamedTuple):
    """One inverter at this moment."""

    online: bool = False
    phases: int = 1
    """1 or 3."""
    values: Values | None = None
    """By the keys of CONTRACT 2; None before anything was said of it."""
    when: float = 0.0
    """Seconds since 1970 of its last good reading; 0 without one."""
    since: float = 0.0
    """Seconds since 1970 of when it came or went, as long as the program runs."""
    reason: str = ""
    """Why it is away."""
    model: str = ""
    firmware: str = ""
    readings: int = 0
    """Good ones, since the program started."""
    arrivals: int = 0
    """How often it came since then."""


class Latest:
    """All inverters by serial. `inverters` is replaced, never changed: whoever has it can keep it."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        """`wall_clock` gives seconds since 1970."""
        self.inverters: Mapping[str, Seen] = {}
        self._wall_clock = wall_clock

    def handle(self, event: Happening) -> None:
        """Take what an output is told."""
        before = self.inverters.get(event.serial, Seen())
        self.inverters = {**self.inverters, event.serial: self._after(before, event)}

    def _after(self, seen: Seen, event: Happening) -> Seen:
        match event:
            case Reading():
                told = seen._replace(phases=event.inverter_type, values=event.values, when=event.when)
                return told._replace(readings=seen.readings + 1)
            case Resting():
                return seen._replace(phases=event.inverter_type, values=event.values, when=event.when)
            case Online():
                arrivals = seen.arrivals + 1
                return seen._replace(online=True, reason="", since=self._wall_clock(), arrivals=arrivals)
            case Offline():
                return seen._replace(online=False, reason=event.reason, since=self._wall_clock())
            case Remembered():
                return seen._replace(phases=event.inverter_type)
            case Info():
                values = event.values
                model, firmware = str(values.get("modelName", "")), str(values.get("firmwareVersion", ""))
                return seen._replace(model=model or seen.model, firmware=firmware or seen.firmware)
            case Found():
                return seen
        raise TypeError(f"an event that is not known: {event!r}")
