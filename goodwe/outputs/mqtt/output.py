"""Readings and availability to MQTT (CONTRACT 1), and around them what is switched on.

A reading goes out when it comes. What waits for a connection is `PublishedInverter.newest`: each new
connection carries it first, unless a broker has acknowledged it before, and whatever else waits comes
behind it.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ...events import Happening, Info, Offline, Online, Reading, Remembered, Resting
from ...guard import Guard
from ...loop import Host, Timer
from ...times import NEVER
from .. import Context, Output
from .client import paho_client
from .connection import Connection, ConnectionLog
from .feature import ALL, Feature, Hub, PublishedInverter, Receipt
from .message import Message, Received, Will
from .payload import data_json
from .pool import Pool
from .tls import tls_for

if TYPE_CHECKING:
    from ...config import Config
    from .settings import MqttSettings

log = logging.getLogger(__name__)

ONLINE, OFFLINE = "1", "0"
PLACE = (
    *("enabled", "server", "port", "topic", "clientid", "username", "password", "passwordfile"),
    *("tls", "cafile", "certfile", "keyfile", "protocol", "transport", "websocketpath"),
)
"""Settings that say where an output speaks, and decide whether it is let in."""
GOODBYE_WITHIN = 2.0
"""Seconds for taking back what an output before this one has left."""
DEADLINE: Callable[[Feature], float] = attrgetter("deadline")
"""Asked of each feature in each turn of the loop, by which no Python of ours is run."""
MOST_INVERTERS = 64
"""Each has a connection: a device that claims new serials for ever must not take every descriptor."""


class MqttOutput(Timer, Output):
    """Publishes `<topic>/<serial>/data` and `<topic>/<serial>/online`. A part of the loop."""

    def __init__(
        self,
        settings: "MqttSettings",
        context: Context,
        features: list[str],
        dial: Callable[[str], Connection] | None = None,
    ) -> None:
        """`context` is what surrounds an output; its loop runs this one.

        `features` are modules of this package with a `make`; `dial` makes a connection of a client id.

        Raises StartError when the TLS files of `settings` cannot be used.
        """
        self.closed = False
        self._settings = settings
        self._context = context
        self._clock = context.loop.clock
        tls_for(settings)
        self._connection_log = ConnectionLog()
        self.inverters: dict[str, PublishedInverter] = {}
        self.pool = Pool(dial or self._dial, settings.clientid, self._heard)
        self._features: Guard[Feature] = Guard(context.loop, "MQTT's")
        for name in features:
            self._features.add_if_it_begins(name, partial(self._make_feature, name))
        self.pool.listen(self._subscriptions(ALL))
        self._stopping = False
        self._inherited: set[str] = set()
        """Serials that stand as online at the broker, and no connection has a will that takes it back."""
        self._part_at = NEVER
        """When the connections are closed at the latest, though something inherited still stands there."""
        self._turned_away = 0
        """Events about inverters beyond the most that there can be."""
        self._unasked = 0
        """Messages on topics that nothing here has subscribed to."""
        context.loop.add(self)

    def handle(self, event: Happening) -> None:
        match event:
            case Online(serial) if serial not in self.inverters:
                self.pool.expect(self._will(serial))
            case Reading(serial) | Resting(serial):
                inverter = self.known(serial)
                if inverter is None:
                    return
                self._is_online(inverter, isinstance(event, Reading))
                inverter.phases = event.inverter_type
                self._is_newest(inverter, event)
                self._say(inverter)
            case Offline(serial) if serial in self.inverters:
                inverter = self.inverters[serial]
                if inverter.online is not None:
                    self._is_online(inverter, False)
                    self._is_newest(inverter, None)
                    self._say(inverter)
            case Remembered(serial, phases):
                inverter = self.known(serial)
                if inverter is None:
                    return
                self._is_online(inverter, False)
                inverter.phases = phases
                self._say(inverter)
            case Info(serial, kind, values) if serial in self.inverters:
                inverter = self.inverters[serial]
                inverter.infos[kind] = values
                self._prepare(inverter)
        self._features.each(lambda feature: feature.handle(event))

    def stop(self, now: float) -> None:
        self._stopping = True
        for inverter in self.inverters.values():
            if inverter.online:
                self._is_online(inverter, False)
                self._is_newest(inverter, None)
                self._say(inverter)
        self._part_at = now + (GOODBYE_WITHIN if self._inherited else 0.0)
        if not self._inherited:
            self._part(now)

    def leave(self, now: float, config: "Config | None") -> set[str]:
        """As `stop`; but for one that says the same at the same place, an inverter that is on stays so."""
        stays = config is not None and self._is_same_place(config.mqtt)
        online = {serial for serial, inverter in self.inverters.items() if inverter.online}
        if not stays:
            self.stop(now)
            return set()
        self._stopping = True
        self._part(now)
        return online | self._inherited

    def inherit(self, left: set[str]) -> None:
        self._inherited = set(left or ())

    @property
    def stopped(self) -> bool:
        return self.pool.closed and all(self._features.ask(lambda feature: feature.stopped).values())

    def close(self) -> None:
        self.closed = True
        self._features.each(lambda feature: feature.close())
        self.pool.close()

    def status(self, now: float) -> dict[str, Any]:
        return {
            "state": "stopping" if self._stopping else "running",
            "inverters": {serial: _status(inverter, now) for serial, inverter in self.inverters.items()},
            "connections": self.pool.status(now),
            "features": self._features.ask(lambda feature: feature.status(now)),
            "turned_away": self._turned_away,
            "unasked": self._unasked,
        }

    @property
    def dropped(self) -> list[dict[str, str]]:
        return self._features.dropped

    # what the loop wants of a part

    @property
    def deadline(self) -> float:
        if self._stopping:
            return -NEVER if self.pool.closed else self._part_at
        return min([NEVER, *self._features.ask(DEADLINE).values()])

    def tick(self, now: float) -> None:
        if self._stopping and now >= self._part_at:
            self._part(now)
        if self._stopping:
            if not self.pool.closed:
                return
            self.closed = True
            self._features.each(lambda feature: feature.stop(now))
            return
        self._features.each(lambda feature: feature.tick(now) if now >= feature.deadline else None)

    # inverters and connections

    def known(self, serial: str) -> PublishedInverter | None:
        """The inverter with this serial; a new one gets a connection. None if there are too many."""
        inverter = self.inverters.get(serial)
        if inverter is None:
            if len(self.inverters) >= MOST_INVERTERS and not self._make_room():
                self._turned_away += 1
                if self._turned_away == 1:
                    log.warning("%s is inverter number %d; it is left out", serial, MOST_INVERTERS + 1)
                return None
            topic = f"{self._settings.topic}/{serial}"
            inverter = self.inverters[serial] = PublishedInverter(serial, topic)
            topics, connected = self._subscriptions(serial), partial(self._connected, inverter)
            self.pool.open(serial, self._will(serial), topics, connected)
        return inverter

    def _will(self, serial: str) -> Will:
        return Will(f"{self._settings.topic}/{serial}/online", OFFLINE)

    def _is_online(self, inverter: PublishedInverter, online: bool) -> None:
        if online != inverter.online:
            inverter.online, inverter.since = online, self._clock()

    def _make_room(self) -> bool:
        """Let the one go that has been away for the longest time; False if none is away."""
        away = [i for i in self.inverters.values() if not i.online and not self.pool.is_first(i.serial)]
        if not away:
            return False
        inverter = min(away, key=lambda one: one.since)
        self._is_newest(inverter, None)
        self._features.each(lambda feature: feature.forget(inverter))
        del self.inverters[inverter.serial]
        self.pool.release(inverter.serial, self._clock())
        return True

    def _dial(self, client_id: str) -> Connection:
        connection = Connection(
            self._settings,
            client_id,
            loop=self._context.loop,
            random=self._context.random,
            client_factory=paho_client,
            connection_log=self._connection_log,
        )
        self._context.loop.add(connection)
        return connection

    def _subscriptions(self, serial: str) -> list[str]:
        wanted = self._features.ask(lambda feature: feature.subscriptions(serial))
        return [topic for topics in wanted.values() for topic in topics]

    def _connected(self, inverter: PublishedInverter) -> None:
        """Begin anew with the inverter: the other end may know nothing of it."""
        self._features.each(lambda feature: feature.renew(inverter))
        self._say(inverter)
        self._inherited.discard(inverter.serial)
        self._features.each(lambda feature: feature.caught_up(inverter))
        if self._part_at < NEVER and not self._inherited:
            self._part(self._clock())

    def _part(self, now: float) -> None:
        self._part_at = NEVER
        self.pool.stop(now)

    def _is_same_place(self, settings: "MqttSettings") -> bool:
        """True for one broker, asked in the same way for the same topics: only then is it one `online`."""
        mine = self._settings
        return len(mine.server) == 1 and all(getattr(mine, key) == getattr(settings, key) for key in PLACE)

    def _heard(self, message: Received) -> None:
        now = self._clock()
        if not any(self._features.ask(lambda feature: feature.received(message, now)).values()):
            self._unasked += 1

    # what is published

    def _say(self, inverter: PublishedInverter) -> None:
        """Say what is new, or after a connection how things stand: data first, then online."""
        if inverter.online is None:
            return
        if not inverter.is_introduced:  # Home Assistant hears of it before its first values
            self._prepare(inverter)
        newest = inverter.newest
        if newest is None or inverter.has_arrived or self._publish_data(inverter, newest):
            online = ONLINE if inverter.online else OFFLINE
            self.pool.publish(inverter.serial, Message(f"{inverter.topic}/online", online, 1, retain=True))
        # From then on behind them: a broker may close the connection at what the features have to tell.
        self._prepare(inverter)
        inverter.is_introduced |= self.pool.of(inverter.serial) is not None

    def _prepare(self, inverter: PublishedInverter) -> None:
        self._features.each(lambda feature: feature.prepare(inverter))

    def _is_newest(self, inverter: PublishedInverter, reading: Reading | Resting | None) -> None:
        """From now on this is true of it; a reading that has waited until now is one of the past."""
        receipt, inverter.receipt = inverter.receipt, None
        inverter.newest, inverter.has_arrived = reading, False
        if receipt is not None:
            receipt.told(False)

    def _publish_data(self, inverter: PublishedInverter, reading: Reading | Resting) -> bool:
        """Hand it to the broker; False if it has to wait for the next connection."""
        if self.pool.of(inverter.serial) is None and not self._settings.backlog:
            return False
        data = self._data(inverter, reading)
        receipt, inverter.receipt = inverter.receipt, None
        if receipt is None and isinstance(reading, Reading):
            receipt = self._receipt(reading, data)
        qos = self._settings.qos if receipt is None else max(1, self._settings.qos)
        message = Message(f"{inverter.topic}/data", data, qos, self._settings.retain)
        taken = self.pool.publish(inverter.serial, message, partial(self._told, inverter, reading, receipt))
        if taken:
            self._features.each(lambda feature: feature.published(inverter, reading))
        else:
            self._wait(inverter, receipt)
        return taken

    def _receipt(self, reading: Reading, data: str) -> Receipt | None:
        receipts = self._features.ask(lambda feature: feature.take(reading, data)).values()
        return next((receipt for receipt in receipts if receipt is not None), None)

    def _told(
        self,
        inverter: PublishedInverter,
        reading: Reading | Resting,
        receipt: Receipt | None,
        acknowledged: bool,
    ) -> None:
        """Note the fate of a message with a QoS above 0; another reading may be the newest by then."""
        if inverter.newest is reading:
            inverter.has_arrived = acknowledged
            if not acknowledged:
                self._wait(inverter, receipt)
                return
        if receipt is not None:
            receipt.told(acknowledged)

    @staticmethod
    def _wait(inverter: PublishedInverter, receipt: Receipt | None) -> None:
        inverter.receipt = receipt
        if receipt is not None:
            receipt.wait()

    def _data(self, inverter: PublishedInverter, reading: Reading | Resting) -> str:
        with_id = bool(self._settings.backlog) and isinstance(reading, Reading)
        return data_json(reading, language=self._settings.language, infos=inverter.infos, with_id=with_id)

    def _tell_anew(self, inverter: PublishedInverter) -> None:
        self._features.each(lambda feature: feature.renew(inverter))
        self._prepare(inverter)

    def _say_again(self, inverter: PublishedInverter) -> None:
        if not inverter.online and not self._stopping:
            inverter.has_arrived = False
            self._say(inverter)

    # what is switched on

    def _make_feature(self, name: str, host: Host) -> Feature:
        hub = Hub(
            self._settings,
            replace(self._context, loop=host),
            self.pool,
            self.inverters,
            tell_anew=self._tell_anew,
            say_again=self._say_again,
        )
        feature: Feature = import_module(f"{__package__}.{name}").make(hub)
        return feature


def _status(inverter: PublishedInverter, now: float) -> dict[str, Any]:
    return {
        "online": bool(inverter.online),
        "since_seconds": now - inverter.since,
        "is_waiting": inverter.newest is not None and inverter.receipt is not None,
    }
