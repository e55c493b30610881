"""The wires' traffic as whoever captures it gets it from the running program: facts first, then lines.

    {"request": "losses"}    a list, the last loss last: name of the wire, reason, lost_epoch, traffic (lines)
    {"request": "capture"}   an object: version, program (version), began_epoch, wires (names), inverters
                             (serial, model, wire); then lines, until the client goes

The lines are those of traffic.py. Who reads them too slowly misses some, and is told how many.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from . import __version__
from .control import Feed
from .traffic import NOTED, HearsLine, Tap, as_line

VERSION = 1
"""Of the form; another number when a line or a fact changes its meaning, not when something is added."""
MISSED = "lines dropped, read too slowly"
"""Behind a number in the line that says so."""


Guarded = Callable[[HearsLine], HearsLine]
"""Makes of a listener one that raises nothing."""


class CaptureFeed:
    """A listener that hands each line on, with the time in seconds since 1970."""

    def __init__(self, take: Callable[[str], bool], offset: float) -> None:
        """`take` takes a line and says whether it could; `offset` is 1970's clock less the loop's."""
        self._take = take
        self._offset = offset
        self._missed = 0

    def __call__(self, now: float, wire: str, mark: str, text: str) -> None:
        epoch = now + self._offset
        if self._missed and self._take(as_line(epoch, wire, NOTED, f"{self._missed} {MISSED}")):
            self._missed = 0
        if self._missed or not self._take(as_line(epoch, wire, mark, text)):
            self._missed += 1


def facts(epoch: float, status: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a capture that begins at `epoch`, out of the `status` of the App."""
    wires = {link["name"]: link["bus"]["inverters"] for link in status["links"]}
    return {
        "version": VERSION,
        "program": __version__,
        "began_epoch": epoch,
        "wires": list(wires),
        "inverters": [
            {"serial": serial, "model": status["inverters"].get(serial, {}).get("model"), "wire": name}
            for name, inverters in wires.items()
            for serial in inverters
        ],
    }


def feed(tap: Tap, status: Mapping[str, Any], *, now: float, epoch: float, guarded: Guarded) -> Feed:
    """The answer to who wants to capture: `now` on the loop's clock is `epoch` seconds since 1970.

    `guarded` makes of a listener one that raises nothing.
    """

    def begin(take: Callable[[str], bool]) -> Callable[[], None]:
        listener = guarded(CaptureFeed(take, epoch - now))
        tap.listeners.append(listener)
        return partial(tap.listeners.remove, listener)

    return Feed(facts(epoch, status), begin)
