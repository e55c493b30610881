"""One wire and the bus on it, from plugged in to unplugged.

Here the bytes of a device meet the protocol, readings get their time of day, and what happened is told: to
the log as the story of a day, to the outputs as events. And here the steps of the ladder are taken.

    plugged    nothing is done yet
       | open
    opening    the wire is asked to open itself -- it fails, or it ends: closing
       | opened
    open       the bus runs -- unplugged, silent for long, the program ends: closing
       |
    closing    the wire is asked to close itself
       | closed
    closed     the loop drops it
"""

import errno
import logging
import os
import select
from collections.abc import Callable
from enum import Enum
from typing import Any

from .errors import DeviceError
from .events import (
    Entered,
    Event,
    Found,
    Happening,
    Offline,
    Online,
    Outcome,
    Reading,
    Refused,
    Reply,
    Send,
)
from .ladder import Step
from .place import Place
from .protocol.bus import Bus
from .protocol.fields import ALL_ZERO
from .protocol.frame import Frame
from .times import NEVER
from .traffic import READ, WRITTEN, Line, Tap, Traffic
from .transport import Wire

log = logging.getLogger(__name__)

GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED)
"""The node went between find and open, or the stand-in is not there yet: no trouble, only absence."""


class LinkState(Enum):
    """The state of a link."""

    PLUGGED = "plugged"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Link:
    """A part of the loop: opens the wire, runs the bus, closes when the device is gone."""

    def __init__(
        self,
        wire: Wire,
        bus: Bus,
        *,
        place: Place,
        publish: Callable[[Happening], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        lost: Callable[[str, list[Line]], None],
        ended: Callable[["Link", str], None],
        tap: Tap | None = None,
    ) -> None:
        """`wire` leads to the inverters that `bus` talks to, `place` remembers them between two links.

        `publish` is told what happened. `clock` only grows; `wall_clock` gives seconds since 1970, for
        readings.

        `lost` is called when an inverter is, with the reason and the traffic before it; `ended` once, with
        the reason, empty if the device simply is not there. `tap` hears all that goes over the wire.
        """
        self.name = wire.name
        self.opened_at: float | None = None
        """None as long as it never was open."""
        self.tally = place.tally
        self._wire = wire
        self._bus = bus
        self._ladder = place.ladder
        self._registrations = place.registrations
        self._traffic = Traffic()
        self._tap = tap or Tap()
        self._lost = lost
        self._publish = publish
        self._clock = clock
        self._wall_clock = wall_clock
        self._ended = ended
        self._state = LinkState.PLUGGED
        self._entered_at = clock()
        self._outcome_at = clock()
        """When the wire was opened, or something came of it: a reading, a refusal, a registration, a loss."""

    def open(self) -> None:
        """Begin: open the wire, which may take its time."""
        self._enter(LinkState.OPENING)
        self._wire.open(self._opened, self._failed)

    @property
    def closed(self) -> bool:
        """True when the wire has closed itself, so that the loop may drop the link."""
        return self._state is LinkState.CLOSED

    @property
    def was_open(self) -> bool:
        """True when it is or was open."""
        return self.opened_at is not None

    @property
    def deadline(self) -> float:
        return min(self._bus.deadline, self._ladder.deadline) if self._state is LinkState.OPEN else NEVER

    def poll_for(self) -> tuple[int, int] | None:
        return (self._wire.fileno(), select.POLLIN) if self._state is LinkState.OPEN else None

    def ready(self, now: float) -> bool:
        try:
            data = self._wire.read()
        except BlockingIOError:
            return True
        except OSError as error:
            self._end(now, f"unplugged ({_reason(error)})", gone=True)
            return False
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s < %s", self.name, data.hex())
        self._traffic.add(now, READ, data)
        self._tap.tell(now, self.name, READ, data)
        return self._carry_out(self._bus.receive(data, now), now)

    def tick(self, now: float) -> bool:
        if self._state is LinkState.OPEN and now >= self._ladder.deadline:
            self._take_step(now)
            return False
        return self._state is LinkState.OPEN and self._carry_out(self._bus.tick(now), now)

    def stop(self, reason: str, *, gone: bool) -> None:
        """End it from outside: udev says that the device is gone, or the program ends."""
        self._end(self._clock(), reason, gone=gone)

    def change_interval(self, interval: float) -> None:
        """From now on query each inverter every so many seconds."""
        self._bus.change_interval(interval, self._clock())

    def poll(self, serial: str) -> bool:
        """Query this inverter soon; False if it is not registered on this wire."""
        return self._bus.poll(serial)

    def ask(
        self,
        serial: str,
        question: str,
        data: bytes = b"",
        *,
        urgent: bool = False,
        answered: Callable[[Outcome], object],
    ) -> bool:
        """Put a question to this inverter, see `Ask`; False if it is not registered on this wire."""
        return self._bus.ask(serial, question, data, now=self._clock(), urgent=urgent, answered=answered)

    def register(self, serial: str) -> bool:
        """Begin anew with this inverter; False if it is not registered on this wire."""
        now = self._clock()
        events = self._bus.register(serial, now)
        self._carry_out(events, now)
        return bool(events)

    def stuck_for(self, now: float) -> float:
        """Seconds for which nothing came of it though something must have, by whatever the inverter does.

        A registered inverter is read, refused or lost within a poll interval and half a minute, and the bus
        has something to do every few seconds. Silence before it registers, or a wire that is not open, is
        none of ours.
        """
        if self._state is not LinkState.OPEN:
            return 0.0
        without = now - self._outcome_at if self._bus.has_registered else 0.0
        return max(without, now - self.deadline, 0.0)

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: the state for so many seconds, the wire, the bus on it, ladder and traffic."""
        return {
            "name": self.name,
            "wire": self._wire.status(now),
            "state": self._state.value,
            "state_seconds": now - self._entered_at,
            "bus": self._bus.status(now),
            "ladder": self._ladder.status(now),
            "traffic": self._traffic.status(now),
            "refused": dict(self.tally.counts),
            "registrations_counted": self._registrations.counted,
        }

    def _enter(self, state: LinkState) -> None:
        """The one way from state to state."""
        log.debug("%s is %s", self.name, state.value)
        self._state, self._entered_at = state, self._clock()

    def _opened(self) -> None:
        if self._state is LinkState.CLOSING:  # it was stopped meanwhile
            self._wire.close(self._closed)
            return
        self._log_step("Opened %s", self.name)
        self._enter(LinkState.OPEN)
        now = self.opened_at = self._outcome_at = self._clock()
        self._tap.note(now, self.name, "opened")
        self._ladder.silent(now)
        self._carry_out(self._bus.start(now), now)

    def _failed(self, error: Exception) -> None:
        """It could not be opened."""
        told = self._state is LinkState.CLOSING  # it was stopped meanwhile
        if not told:
            self._enter(LinkState.CLOSING)
        self._wire.close(self._closed)
        if told:
            return
        absent = isinstance(error, OSError) and error.errno in GONE
        reason = str(error) if isinstance(error, DeviceError) else f"cannot open {self.name}: {error}"
        self._ended(self, "" if absent else reason)

    def _end(self, now: float, reason: str, *, gone: bool) -> None:
        if self._state in (LinkState.CLOSING, LinkState.CLOSED):
            return
        was_open = self._state is LinkState.OPEN
        if was_open:  # else it is still being opened, and closed as soon as that is done
            last_words = self._bus.stop(now, reason)
            self._carry_out([event for event in last_words if not (gone and isinstance(event, Send))], now)
        self._enter(LinkState.CLOSING)
        if was_open:
            self._tap.note(now, self.name, f"closed: {reason}")
            self._wire.close(self._closed)
            self._log_step("Closed %s: %s; refused input: %s", self.name, reason, self.tally)
        self._ended(self, reason if self.was_open or not gone else "")

    def _closed(self) -> None:
        self._enter(LinkState.CLOSED)

    def _take_step(self, now: float) -> None:
        """It has been silent for long: the next step, after which the wire is opened anew."""
        step = self._ladder.step()
        self._log_step("%s does not answer: %s, from now on every few minutes", self.name, step.value)
        if step is Step.RESET:
            self._wire.reset(self._reset_failed)
        self._end(now, "silent", gone=False)

    def _reset_failed(self, error: Exception) -> None:
        reason = f"cannot reset the port of {self.name}: {error}"
        if self._ladder.trouble != reason:
            log.warning("%s", reason)
        self._ladder.trouble = reason

    def _log_step(self, text: str, *arguments: object) -> None:
        """A whole night of the same steps is told once, and none of an inverter that comes and goes."""
        told = self._ladder.steps <= 1 and not self._registrations.counted
        log.log(logging.INFO if told else logging.DEBUG, text, *arguments)

    def _log_registration(self, text: str, *arguments: object) -> None:
        log.log(logging.DEBUG if self._registrations.counted else logging.INFO, text, *arguments)

    def _log_found(self, serial: str, now: float) -> None:
        begun = self._registrations.begins(now)
        if begun.counted_before:
            log.info("%s: %d registrations more until an hour ago", self.name, begun.counted_before)
        if begun.first_counted:
            log.warning("%s registers again and again; counted from now on. Is its cable sound?", serial)
        self._log_registration("New inverter found with serial id: %s. Register address.", serial)

    def _log_reading(self, serial: str, now: float) -> None:
        counted = self._registrations.reading(now)
        if counted:
            log.info("%s stays registered now, after %d times more", serial, counted)

    def _carry_out(self, events: list[Event], now: float) -> bool:
        """True if nobody else hears of it."""
        for event in events:
            if not isinstance(event, Send | Entered | Reply):
                self._outcome_at = now
            match event:
                case Send(frame):
                    self._send(frame)
                case Refused(reason, detail, times):
                    if reason == ALL_ZERO:
                        self._ladder.heard()
                    self._refused(reason, detail, times, now)
                case Reading():
                    self._ladder.heard()
                    self._log_reading(event.serial, now)
                    self._publish(event._replace(when=self._wall_clock()))
                case Found(serial):
                    self._log_found(serial, now)
                    self._publish(event)
                case Online(serial, address):
                    self._tap.note(now, self.name, f"online {serial} at address {address}")
                    self._log_registration("Inverter now online.")
                    self._ladder.registered(now)
                    self._publish(event)
                case Reply(answered, outcome):
                    answered(outcome)
                case Entered(state):
                    log.debug("%s: the bus is %s", self.name, state)
                case Offline(serial, address, reason):
                    self._tap.note(now, self.name, f"offline {serial}: {reason}")
                    self._log_registration("Marking inverter @ address %d offline (%s)", address, reason)
                    self._ladder.silent(now)
                    self._lost(reason, self._traffic.before(now))
                    self._publish(event)
        return not self._tap.listeners and all(isinstance(event, Send | Entered) for event in events)

    def _send(self, frame: Frame) -> None:
        raw = frame.encode()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s > %s (%s)", self.name, raw.hex(), frame)
        now = self._clock()
        self._traffic.add(now, WRITTEN, raw)
        self._tap.tell(now, self.name, WRITTEN, raw, frame.name)
        self._wire.write(raw, self._write_failed)

    def _write_failed(self, error: OSError) -> None:
        # Not the end: a device that is gone says so to the reader (PROTOCOL 2.6), any other may recover.
        now = self._clock()
        self._tap.note(now, self.name, f"write failed: {_reason(error)}")
        self._outcome_at = now
        self._refused("write failed", _reason(error), 1, now)

    def _refused(self, reason: str, detail: str, times: int, now: float) -> None:
        if self.tally.add(reason, now, times):
            total = self.tally.counts[reason]
            log.warning("%s: %s (%s); counted from now on, %d so far", self.name, reason, detail, total)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
