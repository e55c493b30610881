"""Put the parts together; what running means."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, NamedTuple

from .config import Config, InverterSettings
from .errors import RestartError
from .events import Answer, Happening, Instructed, Outcome
from .link import Link
from .loop import NEVER, Loop, Timer
from .outputs import Context, Fanout, make_outputs
from .place import Place
from .protocol.bus import Bus
from .protocol.frame import ACCEPTED
from .readings.clock import clock_is_right
from .readings.ledger import REPEAT_EVERY, Ledger
from .readings.state import Memory
from .traffic import Line, Tap, as_line, packed, unpacked
from .transport import Find, Finder, Ids, Wire, find

log = logging.getLogger(__name__)

FAREWELL = 3.0
"""Seconds that the end may take: the last words to the broker, a write that is under way."""
LOSSES_KEPT = 4
STUCK_AFTER = 600.0
"""Seconds without any outcome on a wire that must have one: twice the longest poll interval."""
SHORTEST_PAUSE = 1000
"""Milliseconds between two readings that leave room for another question."""


class TimeOfDay(NamedTuple):
    """The time of day, as whoever runs the program has it."""

    clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    is_right: Callable[[], bool] = clock_is_right
    """True if that is known to be true."""


OF_THE_MACHINE = TimeOfDay()


def outputs(
    config: Config, loop: Loop, random: Random, actions: "App", *, time_of_day: TimeOfDay = OF_THE_MACHINE
) -> Fanout:
    """The outputs that are switched on; what is off is not even imported. Raises StartError."""
    return make_outputs(config, context_of(config, loop, random, actions, time_of_day))


def context_of(
    config: Config, loop: Loop, random: Random, actions: "App", time_of_day: TimeOfDay = OF_THE_MACHINE
) -> Context:
    """The surroundings of the outputs that are made of this configuration."""
    poll = config.inverter.pollinterval / 1000
    silence = 3 * poll if config.inverter.offlinevalues == "keep" else max(REPEAT_EVERY, poll)
    return Context(loop, random, time_of_day.clock, actions, config, silence, time_of_day.is_right)


def _device(settings: InverterSettings) -> tuple[str, int, int]:
    """The settings that say which devices are ours: a link is made by these."""
    return settings.device, settings.vendorid, settings.modelid


class _Loss(NamedTuple):
    """An inverter that went away."""

    name: str
    reason: str
    epoch: float
    """Seconds since 1970."""
    now: float
    """The same on the clock of the traffic."""
    traffic: bytes
    """The minute before, packed; its times are told from `now`."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values: where, why, and how long ago on the clock of the traffic."""
        return {
            "name": self.name,
            "reason": self.reason,
            "lost_epoch": self.epoch,
            "lost_seconds": max(0.0, now - self.now),
        }

    def plain(self) -> dict[str, Any]:
        """Plain values: where, why and when, and the minute before as the lines of a capture."""
        lines = [
            as_line(self.epoch + line.when, self.name, line.direction, line.data.hex())
            for line in unpacked(self.traffic)
        ]
        return {"name": self.name, "reason": self.reason, "lost_epoch": self.epoch, "traffic": lines}


def instruction(question: str, data: bytes) -> tuple[int, str] | None:
    """The share of its power in per cent that an inverter is told to feed at most, and that in words.

    None for a question that is none.
    """
    match question:
        case "limit_power" if len(data) == 1:
            return data[0], f"limited to {data[0]} %"
        case "start_inverter":
            return 100, "told to start"
        case "stop_inverter":
            return 0, "told to stop"
    return None


class App(Timer):
    """The running program: a link for each inverter that is plugged in, and the outputs."""

    def __init__(
        self,
        config: Config,
        loop: Loop,
        outputs: Callable[["App"], Fanout],
        *,
        wall_clock: Callable[[], float],
        clock_right: Callable[[], bool] = clock_is_right,
        find: Find = find,
    ) -> None:
        """`config` is in force, `loop` runs the parts. `outputs` makes the outputs, given what they may ask.

        `wall_clock` gives seconds since 1970, `clock_right` tells whether that is known to be true; `find`
        makes what finds the wires.

        Raises StartError when something needed is missing.
        """
        self.closed = False
        self.deadline = NEVER
        self._config = config
        self._loop = loop
        self._links: dict[str, Link] = {}
        self.heard: Callable[[], object] = lambda: None
        """Called after each event that the outputs were told of."""
        self.fanout = outputs(self)
        self._ledger = Ledger(
            config.inverter.statefile,
            loop=loop,
            publish=self._publish,
            poll=self.poll,
            wall_clock=wall_clock,
            clock_right=clock_right,
            **self._ledger_settings(config),
        )
        self._wall_clock = wall_clock
        self._closing: list[Link] = []
        self._places: dict[str, Place] = {}
        """By the name of the device."""
        self._losses: deque[_Loss] = deque(maxlen=LOSSES_KEPT)
        self.tap = Tap()
        """For whoever wants to hear what goes over the wires."""
        self._stopping = False
        self._late = False
        self._find = find
        self._finder = self._make_finder(config)
        loop.add(self._finder)
        loop.add(self._ledger)
        loop.add(self)
        self._ledger.begin()

    def run(self) -> None:
        """Until `stop()` was called and everything is closed, or the farewell took too long.

        Raises what a part has raised that the program cannot do without, after the outputs said goodbye; a
        RestartError when only a new process can go on.
        """
        try:
            self._loop.run(until=self._finished)
        except RestartError as error:
            log.error("%s; ending, to be started again", error)
            self._end_all_the_same()
            raise
        except Exception:  # whatever it is goes on, after the goodbye
            log.error("The program has a defect and ends; the outputs are told")
            self._end_all_the_same()
            raise

    def stop(self) -> None:
        """Say goodbye to inverters and broker, then let `run()` return."""
        if self._stopping:
            return
        self._stopping = True
        now = self._loop.clock()
        self.deadline = now + FAREWELL
        self._finder.close()
        self._ledger.stop()
        for link in list(self._links.values()):
            link.stop("the program ends", gone=False)
        self._ledger.close()
        self.fanout.stop(now)

    @property
    def stopping(self) -> bool:
        """True once it was told to stop."""
        return self._stopping

    def change(self, config: Config, memories: Mapping[str, Memory]) -> None:
        """Go on with this configuration, but for the outputs. Raises StartError, and nothing has changed.

        Links stay while the device does. `memories` are those of the state file, if that is another.
        """
        old, new = self._config.inverter, config.inverter
        finder = self._make_finder(config) if _device(old) != _device(new) else None
        self._config = config
        self._ledger.change(new.statefile, memories, **self._ledger_settings(config))
        for place in self._places.values():
            place.allow_reset(new.usbreset)
        for link in list(self._links.values()):
            link.change_interval(new.pollinterval / 1000)
        if finder is not None:
            self._finder.close()
            for link in list(self._links.values()):
                link.stop("the device settings have changed", gone=False)
            self._places.clear()
            self._finder = finder
            self._loop.add(finder)

    def stuck(self, now: float) -> str:
        """Name of a wire whose inverter is not read any more, by a defect of ours; empty for none."""
        return next((link.name for link in self._links.values() if link.stuck_for(now) >= STUCK_AFTER), "")

    def inverters(self, now: float) -> dict[str, Any]:
        """Each inverter's state, by serial, as plain values; `now` is on the loop's clock."""
        return self._ledger.status(now)

    def _publish(self, event: Happening) -> None:
        self.fanout.handle(event)
        self.heard()

    def introduction(self) -> list[Happening]:
        """How things stand, as events for an output that begins now."""
        return self._ledger.introduction()

    def _make_finder(self, config: Config) -> Finder:
        device, vendor, product = _device(config.inverter)
        return self._find(
            device,
            Ids(vendor, product),
            post=self._loop.post,
            plugged=self._plugged,
            unplugged=self._unplugged,
        )

    def _ledger_settings(self, config: Config) -> dict[str, Any]:
        interval = config.inverter.pollinterval
        return {
            "ask": self.ask if config.inverter.identity and interval >= SHORTEST_PAUSE else None,
            "poll_interval": interval / 1000,
            "speak_for_absent": config.inverter.offlinevalues == "zero",
            "believe_all": not config.inverter.plausibility,
        }

    def _end_all_the_same(self) -> None:
        """As `stop`, and until `_finished`, after a part has failed: what else fails holds nothing up."""
        self._stopping = True
        self.closed = False
        self.deadline = self._loop.clock() + FAREWELL
        self._loop.add(self)  # it may be the one that has failed
        links = [partial(link.stop, "the program ends", gone=False) for link in self._links.values()]
        steps: list[Callable[[], object]] = [self._finder.close, self._ledger.stop, *links]
        steps += [self._ledger.close, partial(self.fanout.stop, self._loop.clock())]
        for step in steps:
            self._try(step)
        while not self._late and not self._try(partial(self._loop.run, self._finished)):
            pass

    @staticmethod
    def _try(step: Callable[[], object]) -> bool:
        """True if it could be done; else the log has why not."""
        try:
            step()
        except Exception:  # on the way out; the first failure is the one that is raised
            log.exception("And this failed at the end")
            return False
        return True

    def tell_losses(self) -> None:
        """Write to the log what went over the wire in the minute before each of the last losses."""
        log.info("Refused readings since the start: %s", self._ledger.tally)
        if not self._losses:
            log.info("No inverter was lost since the start")
        for loss in self._losses:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(loss.epoch))
            log.info("%s was lost at %s (%s); the minute before:", loss.name, when, loss.reason)
            for line in unpacked(loss.traffic):
                log.info("%s %+.3f s %s %s", loss.name, line.when, line.direction, line.data.hex())

    def losses(self) -> list[dict[str, Any]]:
        """The last losses as plain values, each with the traffic of the minute before it."""
        return [loss.plain() for loss in self._losses]

    def status(self, now: float) -> dict[str, Any]:
        """Plain values by the keys of snapshot.py; `now` is on the loop's clock."""
        return {
            "finder": self._finder.status(now),
            "links": [link.status(now) for link in self._links.values()],
            "places": [{"name": name, **place.status(now)} for name, place in sorted(self._places.items())],
            "losses": [loss.status(now) for loss in self._losses],
            "inverters": self._ledger.status(now),
            "outputs": self.fanout.status(now),
            "dropped": list(self.fanout.dropped),
        }

    # what the loop wants of a part

    def tick(self, now: float) -> None:
        self.deadline = NEVER
        self._late = True

    # what the others want of the links: whether the inverter is on one of them

    def poll(self, serial: str) -> bool:
        """Read this inverter soon."""
        return any(link.poll(serial) for link in self._links.values())

    def register(self, serial: str) -> bool:
        """Begin anew with this inverter."""
        return any(link.register(serial) for link in self._links.values())

    def ask(
        self,
        serial: str,
        question: str,
        data: bytes = b"",
        *,
        urgent: bool = False,
        answered: Callable[[Outcome], object],
    ) -> bool:
        """Put a question to this inverter, see `Ask`."""
        told = self._telling_instruction(question, data, answered)
        return any(
            link.ask(serial, question, data, urgent=urgent, answered=told) for link in self._links.values()
        )

    def _telling_instruction(
        self, question: str, data: bytes, answered: Callable[[Outcome], object]
    ) -> Callable[[Outcome], object]:
        """`answered`; when an instruction was taken, the outputs are told of it as well."""
        told = instruction(question, data)
        if told is None:
            return answered
        per_cent, text = told

        def then(outcome: Outcome) -> None:
            answered(outcome)
            if isinstance(outcome, Answer) and outcome.data == ACCEPTED:
                self.fanout.handle(Instructed(outcome.serial, per_cent, text))

        return then

    def _lost(self, name: str, reason: str, traffic: list[Line]) -> None:
        now = self._loop.clock()
        self._losses.append(_Loss(name, reason, self._wall_clock(), now, packed(traffic, now)))

    # devices that come and go

    def _unplugged(self, name: str) -> None:
        if name in self._links:
            self._links[name].stop("unplugged", gone=True)
        if name in self._places and not self._places[name].unplugged():
            del self._places[name]

    def _plugged(self, wire: Wire) -> None:
        link = Link(
            wire,
            Bus(self._config.inverter.pollinterval / 1000, capacity=wire.capacity),
            place=self._place(wire.name),
            publish=self._ledger.handle,
            clock=self._loop.clock,
            wall_clock=self._wall_clock,
            lost=partial(self._lost, wire.name),
            ended=self._ended,
            tap=self.tap,
        )
        self._links[wire.name] = link
        self._loop.add(link)
        link.open()

    def _place(self, name: str) -> Place:
        if name not in self._places:
            self._places[name] = Place(reset_allowed=self._config.inverter.usbreset)
        return self._places[name]

    def _ended(self, link: Link, reason: str) -> None:
        self._links.pop(link.name, None)
        self._closing = [*(other for other in self._closing if not other.closed), link]
        if self._stopping:
            return
        place = self._place(link.name)
        if link.was_open:
            place.trouble = None
        else:
            self._cannot_open(link.name, reason, place)
        self._finder.ended(link.name, self._loop.clock(), was_open=link.was_open)

    def _cannot_open(self, name: str, reason: str, place: Place) -> None:
        """Say why, once for each reason: it is tried again until it works."""
        if reason and place.trouble != reason:
            log.warning("%s", reason)
        elif not reason and place.trouble is None:
            log.info("No inverter at %s yet; waiting for it", name)
        place.trouble = reason

    def _finished(self) -> bool:
        if not self._stopping:
            return False
        gone = self.fanout.stopped and self._ledger.closed and all(link.closed for link in self._closing)
        return gone or self._late
