"""`simulate --fleet N`: as many loggers as a broker is to serve, to see whether it does.

Each is the program's own MQTT output with an inverter of its own, a prefix and a client id of its own, as N
sites would have them; a subscriber counts what arrives.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from ..config import parse
from ..errors import GoodWeError
from ..events import Reading, Remembered
from ..loop import NEVER, Loop, Timer
from ..outputs import Context
from ..outputs.mqtt.advice import reason_of
from ..outputs.mqtt.client import new_client
from ..outputs.mqtt.output import MqttOutput
from ..outputs.mqtt.settings import MqttSettings
from ..outputs.mqtt.tls import tls_for
from ..protocol.fields import RUNNING, Values
from ..protocol.simulator import Day

SITE = "fleet"
NOON = 43200.0
REPORT_EVERY = 5.0
LATE = 2.0
"""Seconds after its end in which a message may still arrive."""
NOTHING: Values = {row.key: [] if row.key == "errorMessage" else 0.0 for row in RUNNING}


class FleetError(GoodWeError):
    """It cannot begin; the text says what to do."""


class Count(NamedTuple):
    """The figures of one run."""

    sent: int
    arrived: int
    seconds: float

    @property
    def lost(self) -> int:
        """Readings that were published and did not arrive."""
        return self.sent - self.arrived

    def __str__(self) -> str:
        rate = self.arrived / self.seconds if self.seconds else 0.0
        return f"{self.sent} readings sent, {self.arrived} arrived; {rate:.1f} a second"


SILENCE = 300.0
"""Seconds between two readings of the real program at the most; here it is less."""


class _Site:
    """One logger on one roof."""

    def __init__(self, number: int, settings: MqttSettings, loop: Loop) -> None:
        """`number` tells it from the others; `settings` are the person's; `loop` runs it."""
        self.serial = f"15000SIM{number:08}"
        site = f"{SITE}/site{number}"
        own = replace(
            settings,
            topic=site,
            clientid=f"{settings.clientid}-{SITE}{number}",
            # Nothing that touches what is real, or that somebody would take for it.
            backlog="",
            commands=False,
            control=False,
            sum=False,
            retain=False,
            valuesretain=False,
        )
        nothing, _ = parse("", "no configuration")
        context = Context(loop, Random(number), time.time, None, nothing, SILENCE)
        self.output = MqttOutput(own, context, ["values"] if own.values else [])
        self._day = Day(1, seed=number)
        self.output.handle(Remembered(self.serial))

    @property
    def connected(self) -> bool:
        """True when its readings go out."""
        return self.output.pool.all_stand

    def read(self, epoch: float) -> None:
        """A reading at that time, in seconds since 1970."""
        values = {**NOTHING, **self._day.values(NOON + epoch % 3600)}
        self.output.handle(Reading(self.serial, 11, 1, values, epoch))


class Fleet(Timer):
    """A part of the loop: all sites, each with a reading every `interval` seconds, evenly spread."""

    def __init__(
        self,
        count: int,
        settings: MqttSettings,
        *,
        interval: float,
        loop: Loop,
        wall_clock: Callable[[], float],
    ) -> None:
        """`count` sites at the broker of `settings`, run by `loop`; `interval` in seconds.

        `wall_clock` gives seconds since 1970.
        """
        self.closed = False
        self.sent = 0
        self._sites = [_Site(number, settings, loop) for number in range(count)]
        self._pause = interval / count
        self._wall_clock = wall_clock
        self._next = 0
        self.deadline = NEVER

    @property
    def connected(self) -> int:
        """How many sites have their connection."""
        return sum(site.connected for site in self._sites)

    def begin(self, now: float) -> None:
        """The readings start."""
        self.deadline = now

    def end(self, now: float) -> None:
        """No more readings; every site says goodbye."""
        self.deadline = NEVER
        for site in self._sites:
            site.output.stop(now)

    @property
    def ended(self) -> bool:
        """True when all sites have their connection."""
        return all(site.output.stopped for site in self._sites)

    def tick(self, now: float) -> None:
        self._sites[self._next].read(self._wall_clock())
        self.sent += 1
        self._next = (self._next + 1) % len(self._sites)
        self.deadline = max(self.deadline + self._pause, now - 1.0)


class Audience:
    """Counts the readings that arrive, in a thread of paho's."""

    def __init__(self, settings: MqttSettings) -> None:
        """At the broker of `settings`.

        Raises FleetError when it cannot be reached, StartError for TLS files that are none.
        """
        self.arrived = 0
        self._ready = False
        tls = tls_for(settings)
        self._client = new_client(settings, f"{settings.clientid}-{SITE}-audience", tls)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{SITE}/+/+/data")
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._message
        try:
            self._client.connect(settings.server[0], settings.port)
        except (OSError, ValueError) as error:
            where = f"{settings.server[0]}:{settings.port}"
            raise FleetError(f"MQTT {where}: {reason_of(error)}") from error
        self._client.loop_start()

    @property
    def ready(self) -> bool:
        """True when it listens."""
        return self._ready

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribed(self, *_: Any) -> None:
        self._ready = True

    def _message(self, client: Any, userdata: Any, message: Any) -> None:
        self.arrived += 1


def run(
    count: int,
    settings: MqttSettings,
    *,
    interval: float,
    seconds: float,
    loop: Loop,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
) -> Count:
    """Play the fleet for so many seconds, or until `stopped()`; what came of it. Raises FleetError."""
    _allow_files(count + 100)
    audience = Audience(settings)
    fleet = Fleet(count, settings, interval=interval, loop=loop, wall_clock=time.time)
    loop.add(fleet)
    clock = loop.clock
    say(f"{count} loggers connect to {settings.server[0]}:{settings.port} ...")
    _turn(loop, clock() + 30.0, lambda: stopped() or (audience.ready and fleet.connected == count))
    began = clock()
    say(f"{fleet.connected} are connected after that; each sends a reading every {interval:g} s")
    fleet.begin(began)
    while clock() < began + seconds and not stopped():
        _turn(loop, min(began + seconds, clock() + REPORT_EVERY), stopped)
        say(str(Count(fleet.sent, audience.arrived, clock() - began)))
    ended = clock()
    fleet.deadline = NEVER
    _turn(loop, ended + LATE, lambda: audience.arrived >= fleet.sent)
    fleet.end(clock())
    _turn(loop, clock() + LATE, lambda: fleet.ended)
    audience.close()
    return Count(fleet.sent, audience.arrived, ended - began)


def _allow_files(count: int) -> None:
    """Each connection is one. Raises FleetError where the system allows fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise FleetError(f"this system allows {hard} open files, {count} are needed; raise it with ulimit -n")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class _Alarm(Timer):
    """A part whose deadline only ends a sleep of the loop."""

    def __init__(self, deadline: float) -> None:
        """`deadline` is on the loop's clock."""
        self.closed = False
        self.deadline = deadline

    def tick(self, now: float) -> None:
        self.closed = True


def _turn(loop: Loop, end: float, until: Callable[[], bool]) -> None:
    """Turn until it is true, at most until `end`; looked at ten times a second."""
    while not until() and loop.clock() < end:
        loop.add(_Alarm(min(end, loop.clock() + 0.1)))
        loop.turn()
