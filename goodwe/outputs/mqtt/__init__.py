"""Readings and availability to MQTT (CONTRACT 1), and around them what is switched on.

MQTT allows one will for each connection, and each inverter's `online` must fall to 0 when we die. So
each inverter has a connection of its own. The one that is opened at the start, before any inverter is
known, becomes the first inverter's: closed, and opened again with the will.
"""

import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from ...events import (
    Answer,
    Found,
    Happening,
    Info,
    Offline,
    Online,
    Reading,
    Remembered,
    Resting,
    Unanswered,
)
from ...loop import NEVER, Host, Timer
from ...protocol.fields import Values as FieldValues
from .. import Actions, Context, Output
from .client import paho_client
from .connection import Connection, ConnectionLog
from .message import Message, Received, Will
from .payload import data_json
from .tls import tls_for

if TYPE_CHECKING:
    from ...config import MqttSettings
    from .backlog import Backlog
    from .commands import Commands
    from .homeassistant import Announcer
    from .store import Kept
    from .sums import Plant
    from .values import Values

ONLINE, OFFLINE = "1", "0"
ALL = "all"
BIRTH_DELAY = 3.0
"""Seconds within which Home Assistant is answered, spread by chance over all that hear it."""
REPEAT_AFTER = 2.0
"""Seconds after an announcement until Home Assistant listens to the values it tells of."""


def make(settings: "MqttSettings", context: Context) -> "MqttOutput":
    """The output of these settings. Raises StartError."""
    announcer = _announcer(context) if context.config.homeassistant.discovery else None
    return MqttOutput(
        settings,
        loop=context.loop,
        random=context.random,
        announcer=announcer,
        actions=context.actions,
        wall_clock=context.wall_clock,
    )


def _announcer(context: Context) -> "Announcer":
    from .homeassistant import Announcer

    config = context.config
    follows_online = config.inverter.offlinevalues == "keep"
    return Announcer(
        config.homeassistant, config.mqtt, silence=context.silence, follows_online=follows_online
    )


class _Inverter:
    """What the broker is to know of one inverter."""

    def __init__(self, serial: str, topic: str, connection: Connection, values: "Values | None") -> None:
        self.serial = serial
        self.topic = topic
        self.connection = connection
        self.values = values
        self.online: bool | None = None
        """None before the first event about it: until then nothing is published."""
        self.unsent: Reading | Resting | None = None
        """The newest reading, as long as no broker has it."""
        self.last: Reading | Resting | None = None
        """The newest reading."""
        self.infos: dict[str, FieldValues] = {}
        """What it told about itself, by published name."""
        self.phases = 0
        """0 until it is known."""
        self.announced: Message | None = None
        """The announcement that this connection has carried."""
        self.announce_at = NEVER
        self.repeat_at = NEVER


class MqttOutput(Timer, Output):
    """Publishes `<topic>/<serial>/data` and `<topic>/<serial>/online`. A part of the loop."""

    def __init__(
        self,
        settings: "MqttSettings",
        *,
        loop: Host,
        random: Random,
        announcer: "Announcer | None" = None,
        actions: "Actions | None" = None,
        client_factory: Callable[..., Any] = paho_client,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`announcer` tells Home Assistant about the inverters, `actions` are what commands can do.

        Raises StartError when the TLS files of `settings` cannot be used.
        """
        self.closed = False
        self._settings = settings
        self._loop = loop
        self._random = random
        self._client_factory = client_factory
        self._announcer = announcer
        tls_for(settings)
        self._connection_log = ConnectionLog()
        self._inverters: dict[str, _Inverter] = {}
        self._connections: list[Connection] = []
        self._stopping = False
        self._backlog = self._make_backlog(wall_clock) if settings.backlog else None
        self._commands = self._make_commands(actions) if settings.commands and actions else None
        self._plant = self._make_plant(wall_clock) if settings.sum else None
        self._sum: Message | None = None
        """The last one, for a broker that has not heard it."""
        self._unused: Connection | None = self._connect(settings.clientid)
        if self._commands is not None:
            self._unused.listen(self._commands.topics(ALL), self._heard)
        loop.add(self)

    def handle(self, event: Happening) -> None:
        match event:
            case Found(serial) | Online(serial):
                self._inverter(serial)
            case Reading(serial) | Resting(serial):
                inverter = self._inverter(serial)
                inverter.online = isinstance(event, Reading)
                inverter.unsent = inverter.last = event
                inverter.phases = event.inverter_type
                self._publish(inverter)
            case Offline(serial):
                inverter = self._inverter(serial)
                if inverter.online is not None:
                    inverter.online = False
                    inverter.unsent = None
                    self._publish(inverter)
            case Remembered(serial, phases):
                inverter = self._inverter(serial)
                inverter.online = False
                inverter.phases = phases
                self._publish(inverter)
            case Info(serial, kind, values):
                inverter = self._inverter(serial)
                inverter.infos[kind] = values
                self._announce(inverter)
            case Answer() | Unanswered():
                if self._commands is not None:
                    self._commands.answered(event)
        self._tell_others(event)

    def stop(self, now: float) -> None:
        self._stopping = True
        for inverter in self._inverters.values():
            if inverter.online:
                inverter.online = False
                inverter.unsent = None
                self._publish(inverter)
        for connection in self._connections:
            connection.stop(now)

    @property
    def stopped(self) -> bool:
        return self._disconnected and (self._backlog is None or self._backlog.closed)

    @property
    def connected(self) -> bool:
        """Whether what is said of any inverter goes out at once."""
        return all(inverter.connection.serving for inverter in self._inverters.values())

    # what the loop wants of a part

    @property
    def deadline(self) -> float:
        if self._stopping:
            return -NEVER if self._disconnected else NEVER
        inverters = self._inverters.values()
        return min([NEVER, *(i.announce_at for i in inverters), *(i.repeat_at for i in inverters)])

    def tick(self, now: float) -> None:
        if self._stopping:
            self.closed = True
            if self._backlog is not None:
                self._backlog.stop()
            return
        for inverter in self._inverters.values():
            if now >= inverter.announce_at:
                inverter.announce_at, inverter.announced = NEVER, None
                if inverter.values is not None:
                    inverter.values.forget()
                self._announce(inverter)
            if now >= inverter.repeat_at:
                inverter.repeat_at = NEVER
                self._repeat(inverter)

    # connections

    @property
    def _disconnected(self) -> bool:
        return all(connection.closed for connection in self._connections)

    def _inverter(self, serial: str) -> _Inverter:
        """The inverter with this serial; a new one gets a connection."""
        inverter = self._inverters.get(serial)
        if inverter is None:
            topic = f"{self._settings.topic}/{serial}"
            connection = self._unused or self._connect(f"{self._settings.clientid}-{serial}")
            self._unused = None
            inverter = _Inverter(serial, topic, connection, self._make_values(topic))
            self._inverters[serial] = inverter
            topics = [self._announcer.birth_topic] if self._announcer is not None else []
            topics += self._commands.topics(serial) if self._commands is not None else []
            connection.listen(topics, self._heard)
            connection.serve(Will(f"{topic}/online", OFFLINE), lambda: self._connected(inverter))
        return inverter

    def _connect(self, client_id: str) -> Connection:
        connection = Connection(
            self._settings,
            client_id,
            loop=self._loop,
            random=self._random,
            client_factory=self._client_factory,
            connection_log=self._connection_log,
        )
        self._connections.append(connection)
        self._loop.add(connection)
        return connection

    def _connected(self, inverter: _Inverter) -> None:
        """Whoever is at the other end may know nothing of it."""
        inverter.announced = None
        if inverter.values is not None:
            inverter.values.forget()
        self._publish(inverter)
        if self._sum is not None:
            self._publish_for(ALL, self._sum)
        if self._commands is not None:
            self._commands.say_state(inverter.serial)
        if self._backlog is not None:
            self._backlog.linked()

    def _heard(self, message: Received) -> None:
        now = self._loop.clock()
        if self._announcer is not None and message.topic == self._announcer.birth_topic:
            if message.payload == b"online":
                for inverter in self._inverters.values():
                    due = now + self._random.random() * BIRTH_DELAY
                    inverter.announce_at = min(inverter.announce_at, due)
        elif self._commands is not None:
            self._commands.received(message, now)

    # what is published

    def _publish(self, inverter: _Inverter) -> None:
        """Say what is new, or after a connection how things stand: data first, then online."""
        connection = inverter.connection
        if inverter.online is None:
            return
        self._announce(inverter)
        if not connection.serving:
            self._keep(inverter)
            return
        if inverter.unsent is not None:
            reading, inverter.unsent = inverter.unsent, None
            if not self._publish_data(inverter, reading):
                return
            self._publish_values(inverter, reading)
        if connection.serving:
            online = ONLINE if inverter.online else OFFLINE
            connection.publish(Message(f"{inverter.topic}/online", online, 1, retain=True))

    def _publish_data(self, inverter: _Inverter, reading: Reading | Resting) -> bool:
        """Whether the broker has it, or will: else it is the newest one that waits, or in the backlog."""
        data = self._data(inverter, reading)
        topic, qos, retain = f"{inverter.topic}/data", self._settings.qos, self._settings.retain
        if self._backlog is None or isinstance(reading, Resting):
            taken = inverter.connection.publish(Message(topic, data, qos, retain))
            inverter.unsent = None if taken else reading
            return taken
        done = self._backlog.published(reading.serial, reading.when, data)
        taken = inverter.connection.publish(Message(topic, data, max(1, qos), retain), done)
        if not taken:
            done(False)
        return taken

    def _publish_values(self, inverter: _Inverter, reading: Reading | Resting) -> None:
        if inverter.values is None:
            return
        for message in inverter.values.messages(reading, self._loop.clock()):
            if not inverter.connection.serving or not inverter.connection.publish(message):
                inverter.values.forget()  # with the next reading all of them again
                return

    def _keep(self, inverter: _Inverter) -> None:
        """There is no connection: the newest reading waits, with a backlog all do."""
        reading = inverter.unsent
        if self._backlog is not None and isinstance(reading, Reading):
            self._backlog.keep(reading.serial, reading.when, self._data(inverter, reading))
            inverter.unsent = None

    def _data(self, inverter: _Inverter, reading: Reading | Resting) -> str:
        with_id = self._backlog is not None and isinstance(reading, Reading)
        return data_json(reading, language=self._settings.language, infos=inverter.infos, with_id=with_id)

    def _announce(self, inverter: _Inverter) -> None:
        """Tell Home Assistant about it, if there is anything to tell that it has not heard."""
        if self._announcer is None or not inverter.phases or not inverter.connection.serving:
            return
        message = self._announcer.message(inverter.serial, inverter.phases, inverter.infos)
        if message != inverter.announced and inverter.connection.publish(message):
            inverter.announced = message
            inverter.repeat_at = self._loop.clock() + REPEAT_AFTER

    def _repeat(self, inverter: _Inverter) -> None:
        """What a newcomer would else wait for: of an inverter that is away nothing comes for minutes."""
        last = inverter.last
        if isinstance(last, Resting) and not inverter.online and not self._stopping:
            inverter.unsent = last
            self._publish(inverter)

    def _tell_others(self, event: Happening) -> None:
        """Those that look on: the sum of all, and who waits for an inverter to obey."""
        if self._commands is not None and isinstance(event, Reading | Resting | Offline):
            self._commands.online(event.serial, is_online=isinstance(event, Reading))
        if self._plant is not None:
            message = self._plant.handle(event)
            if message is not None:
                self._sum = message._replace(qos=self._settings.qos, retain=self._settings.retain)
                self._publish_for(ALL, self._sum)

    def _publish_for(self, serial: str, message: Message, done: Callable[[bool], None] | None = None) -> bool:
        """On the connection of this inverter, or on any; False if there is none."""
        own = self._inverters.get(serial)
        connections = [own.connection] if own is not None else []
        for connection in (*connections, *self._connections):
            if connection.serving:
                return connection.publish(message, done)
        return False

    # what is switched on; what is off is not even imported

    def _make_backlog(self, wall_clock: Callable[[], float]) -> "Backlog":
        from .backlog import Backlog
        from .store import Store

        settings = self._settings
        store = Store(
            settings.backlog, largest=settings.backlogsize * 1_000_000, oldest=settings.backlogdays * 86400.0
        )
        backlog = Backlog(
            store, rate=settings.backlograte, send=self._send_kept, loop=self._loop, wall_clock=wall_clock
        )
        self._loop.add(backlog)
        return backlog

    def _send_kept(self, kept: "Kept", done: Callable[[bool], None]) -> bool:
        topic = f"{self._settings.topic}/{kept.serial}/backlog"
        return self._publish_for(kept.serial, Message(topic, kept.data, 1), done)

    def _make_commands(self, actions: "Actions") -> "Commands":
        from .commands import Commands

        return Commands(self._settings, actions, announce=self._announce_all, publish=self._publish_for)

    def _announce_all(self) -> None:
        for inverter in self._inverters.values():
            inverter.announce_at = self._loop.clock()

    def _make_plant(self, wall_clock: Callable[[], float]) -> "Plant":
        from .sums import Plant

        return Plant(self._settings.topic, wall_clock)

    def _make_values(self, topic: str) -> "Values | None":
        if not self._settings.values:
            return None
        from .values import Values

        return Values(topic, self._settings)
