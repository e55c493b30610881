"""One wire and the bus on it, from plugged in to unplugged.

Here the bytes of a device meet the protocol, readings get their time of day, and what happened is told:
to the log as the diary of a day, to the outputs as events.
"""

import errno
import logging
import os
import select
from collections.abc import Callable

from .device import Wire
from .errors import DeviceError
from .events import Event, Found, Offline, Online, Reading, Refused, Send
from .frame import Frame
from .loop import NEVER
from .outputs import Happening
from .session import Bus
from .tally import Tally

log = logging.getLogger(__name__)

GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED)
"""The node went between find and open, or the stand-in is not there yet: no trouble, only absence."""


class Link:
    """A part of the loop: opens the wire, runs the bus, closes when the device is gone."""

    def __init__(
        self,
        wire: Wire,
        bus: Bus,
        *,
        publish: Callable[[Happening], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        ended: Callable[["Link", str], None],
    ) -> None:
        """`clock` only grows; `wall_clock` gives seconds since 1970, for readings.

        `ended` is called once, with the reason, empty if the device simply is not there.
        """
        self.closed = False
        self.was_open = False
        self.name = wire.name
        self.tally = Tally()
        self._wire = wire
        self._bus = bus
        self._publish = publish
        self._clock = clock
        self._wall_clock = wall_clock
        self._ended = ended
        self._stopping = False
        self._open = False

    def open(self) -> None:
        """Begin: open the wire, which may take its time."""
        self._wire.open(self._opened, self._failed)

    @property
    def deadline(self) -> float:
        return self._bus.deadline if self._open else NEVER

    def poll_for(self) -> tuple[int, int] | None:
        return (self._wire.fileno(), select.POLLIN) if self._open else None

    def ready(self, now: float) -> None:
        try:
            data = self._wire.read()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(now, f"unplugged ({_reason(error)})", gone=True)
            return
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s < %s", self.name, data.hex())
        self._carry_out(self._bus.receive(data, now), now)

    def tick(self, now: float) -> None:
        if self._open:
            self._carry_out(self._bus.tick(now), now)

    def stop(self, reason: str, *, gone: bool) -> None:
        """End it from outside: udev says that the device is gone, or the program ends."""
        self._end(self._clock(), reason, gone=gone)

    def ask_again(self, serial: str) -> None:
        """Query this inverter soon, if it is on this wire."""
        self._bus.ask_again(serial)

    def _opened(self) -> None:
        if self._stopping:
            self._wire.close(self._closed)
            return
        log.info("Opened %s", self.name)
        self._open = self.was_open = True
        now = self._clock()
        self._carry_out(self._bus.start(now), now)

    def _failed(self, error: Exception) -> None:
        """It could not be opened."""
        self._wire.close(self._closed)
        if self._stopping:
            return
        self._stopping = True
        absent = isinstance(error, OSError) and error.errno in GONE
        reason = str(error) if isinstance(error, DeviceError) else f"cannot open {self.name}: {error}"
        self._ended(self, "" if absent else reason)

    def _end(self, now: float, reason: str, *, gone: bool) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._open:  # else it is still being opened, and closed as soon as that is done
            last_words = self._bus.stop(now, reason)
            self._carry_out([event for event in last_words if not (gone and isinstance(event, Send))], now)
            self._open = False
            self._wire.close(self._closed)
            log.info("Closed %s: %s; refused input: %s", self.name, reason, self.tally)
        self._ended(self, reason)

    def _closed(self) -> None:
        self.closed = True

    def _carry_out(self, events: list[Event], now: float) -> None:
        for event in events:
            match event:
                case Send(frame):
                    self._send(frame)
                case Refused(reason, detail, times):
                    self._refused(reason, detail, times, now)
                case Reading():
                    self._publish(event._replace(when=self._wall_clock()))
                case Found(serial):
                    log.info("New inverter found with serial id: %s. Register address.", serial)
                    self._publish(event)
                case Online():
                    log.info("Inverter now online.")
                    self._publish(event)
                case Offline(_, address, reason):
                    log.info("Marking inverter @ address %d offline (%s)", address, reason)
                    self._publish(event)

    def _send(self, frame: Frame) -> None:
        log.debug("%s > %s", self.name, frame)
        self._wire.write(frame.encode(), self._write_failed)

    def _write_failed(self, error: OSError) -> None:
        # Not the end: a device that is gone says so to the reader (PROTOCOL 2.6), any other may recover.
        self._refused("write failed", _reason(error), 1, self._clock())

    def _refused(self, reason: str, detail: str, times: int, now: float) -> None:
        if self.tally.add(reason, now, times):
            total = self.tally.counts[reason]
            log.warning("%s: %s (%s); counted from now on, %d so far", self.name, reason, detail, total)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
