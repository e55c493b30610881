"""Tells Home Assistant about the inverters: with their first values, and again when it starts."""

from random import Random
from typing import Any

from ...events import Resting
from ...protocol.fields import Values
from ...times import NEVER
from .feature import ALL, Feature, Hub, PublishedInverter
from .homeassistant import Announcer
from .message import Message, Received

BIRTH_DELAY = 3.0
"""Seconds within which Home Assistant is answered, spread by chance over all that hear it."""
REPEAT_AFTER = 2.0
"""Seconds after an announcement until Home Assistant listens to the values it tells of."""


class Discovery(Feature):
    """Announces each inverter once on each connection, and whenever there is more to tell."""

    def __init__(self, announcer: Announcer, hub: Hub, random: Random) -> None:
        """`announcer` makes the messages, `hub` sends them; `random` spreads answers to Home Assistant."""
        self._announcer = announcer
        self._hub = hub
        self._clock = hub.context.loop.clock
        self._random = random
        self._announced: dict[str, Message] = {}
        """Serial to its announcement that subscribers know."""
        self._made: dict[str, tuple[tuple[int, dict[str, Values], dict[str, bool]], Message]] = {}
        """Serial to its announcement, behind what that was made of."""
        self._due: dict[str, float] = {}
        """Serial to when it is announced again to a Home Assistant that has started."""
        self._repeat: dict[str, float] = {}
        """Serial to when its values are said again for one that did not listen before."""

    @property
    def deadline(self) -> float:
        return min([NEVER, *self._due.values(), *self._repeat.values()])

    def subscriptions(self, serial: str) -> list[str]:
        return [] if serial == ALL else [self._announcer.birth_topic]

    def received(self, message: Received, now: float) -> bool:
        if message.topic != self._announcer.birth_topic:
            return False
        if message.payload == b"online":
            for serial in self._hub.inverters:
                due = now + self._random.random() * BIRTH_DELAY
                self._due[serial] = min(self._due.get(serial, NEVER), due)
        return True

    def renew(self, inverter: PublishedInverter) -> None:
        self._announced.pop(inverter.serial, None)

    def prepare(self, inverter: PublishedInverter) -> None:
        if not inverter.phases or self._hub.pool.of(inverter.serial) is None:
            return
        message = self._message(inverter)
        known = self._announced.get(inverter.serial)
        if message != known and self._hub.pool.publish(inverter.serial, message):
            self._announced[inverter.serial] = message
            self._repeat[inverter.serial] = self._clock() + REPEAT_AFTER

    def _message(self, inverter: PublishedInverter) -> Message:
        """The announcement; it is asked for at each reading, and hardly ever another one than before."""
        of = inverter.phases, dict(inverter.infos), dict(inverter.alarms)
        made = self._made.get(inverter.serial)
        if made is None or made[0] != of:
            message = self._announcer.message(inverter.serial, *of)
            made = self._made[inverter.serial] = of, message
        return made[1]

    def forget(self, inverter: PublishedInverter) -> None:
        for by_serial in (self._announced, self._made, self._due, self._repeat):
            by_serial.pop(inverter.serial, None)

    def tick(self, now: float) -> None:
        for serial in _take_due(self._due, now):
            self._hub.tell_anew(self._hub.inverters[serial])
        for serial in _take_due(self._repeat, now):
            inverter = self._hub.inverters[serial]
            # Of an inverter that is away nothing else comes for minutes.
            if isinstance(inverter.newest, Resting):
                self._hub.say_again(inverter)

    def status(self, now: float) -> dict[str, Any]:
        return {"announced": sorted(self._announced)}


def _take_due(due: dict[str, float], now: float) -> list[str]:
    """Take those out whose time has come."""
    taken = [serial for serial, when in due.items() if when <= now]
    for serial in taken:
        del due[serial]
    return taken


def make(hub: Hub) -> Discovery:
    """The feature, of the section [homeassistant]."""
    config = hub.context.config
    announcer = Announcer(
        config.homeassistant,
        hub.settings,
        silence=hub.context.silence,
        follows_online=config.inverter.offlinevalues == "keep",
    )
    return Discovery(announcer, hub, hub.context.random)
