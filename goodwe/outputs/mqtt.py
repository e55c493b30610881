"""Readings and availability to MQTT (CONTRACT 1).

MQTT allows one will for each connection, and each inverter's `online` must fall to 0 when we die. So
each inverter has a connection of its own. The one that is opened at the start, before any inverter is
known, becomes the first inverter's: closed, and opened again with the will.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from ..events import Found, Info, Offline, Reading, Remembered
from ..fields import Values
from ..loop import Loop
from . import Happening
from .broker import Connection, Diary, Will, paho_client, tls_context
from .payload import data_json

if TYPE_CHECKING:
    from ..config import MqttSettings

ONLINE, OFFLINE = "1", "0"


class _Inverter:
    """What the broker is to know of one inverter."""

    def __init__(self, topic: str, connection: Connection) -> None:
        self.topic = topic
        self.connection = connection
        self.online: bool | None = None
        """None before the first event about it: until then nothing is published."""
        self.unsent: Reading | None = None
        """The newest reading, as long as no broker has it."""
        self.infos: dict[str, Values] = {}
        """What it told about itself, by published name."""


class MqttOutput:
    """Publishes `<topic>/<serial>/data` and `<topic>/<serial>/online`."""

    def __init__(
        self,
        settings: "MqttSettings",
        *,
        loop: Loop,
        random: Random,
        client_factory: Callable[..., Any] = paho_client,
    ) -> None:
        """Raises StartError when the TLS files of `settings` cannot be used."""
        self._settings = settings
        self._loop = loop
        self._random = random
        self._client_factory = client_factory
        files = settings.cafile, settings.certfile, settings.keyfile
        self._tls = tls_context(*files) if settings.tls else None
        self._diary = Diary()
        self._inverters: dict[str, _Inverter] = {}
        self._connections: list[Connection] = []
        self._unused: Connection | None = self._connect(settings.clientid)

    def handle(self, event: Happening) -> None:
        match event:
            case Found(serial):
                self._inverter(serial)
            case Reading(serial):
                inverter = self._inverter(serial)
                inverter.online = event.is_online
                inverter.unsent = event
                self._publish(inverter)
            case Offline(serial):
                inverter = self._inverter(serial)
                if inverter.online is not None:
                    inverter.online = False
                    inverter.unsent = None
                    self._publish(inverter)
            case Remembered(serial):
                inverter = self._inverter(serial)
                inverter.online = False
                self._publish(inverter)
            case Info(serial, kind, values):
                self._inverter(serial).infos[kind] = values

    def stop(self, now: float) -> None:
        for inverter in self._inverters.values():
            if inverter.online:
                inverter.online = False
                inverter.unsent = None
                self._publish(inverter)
        for connection in self._connections:
            connection.stop(now)

    @property
    def stopped(self) -> bool:
        return all(connection.closed for connection in self._connections)

    def _inverter(self, serial: str) -> _Inverter:
        """The inverter with this serial; a new one gets a connection."""
        inverter = self._inverters.get(serial)
        if inverter is None:
            topic = f"{self._settings.topic}/{serial}"
            connection = self._unused or self._connect(f"{self._settings.clientid}-{serial}")
            self._unused = None
            inverter = self._inverters[serial] = _Inverter(topic, connection)
            connection.serve(Will(f"{topic}/online", OFFLINE), lambda: self._publish(inverter))
        return inverter

    def _connect(self, client_id: str) -> Connection:
        connection = Connection(
            self._settings,
            client_id,
            loop=self._loop,
            random=self._random,
            tls=self._tls,
            client_factory=self._client_factory,
            diary=self._diary,
        )
        self._connections.append(connection)
        self._loop.add(connection)
        return connection

    def _publish(self, inverter: _Inverter) -> None:
        """Say what is new, or after a connection how things stand: data first, then online."""
        connection = inverter.connection
        if inverter.online is None or not connection.serving:
            return
        if inverter.unsent is not None:
            data = data_json(inverter.unsent, language=self._settings.language, infos=inverter.infos)
            qos, retain = self._settings.qos, self._settings.retain
            if not connection.publish(f"{inverter.topic}/data", data, qos=qos, retain=retain):
                return
            inverter.unsent = None
        online = ONLINE if inverter.online else OFFLINE
        connection.publish(f"{inverter.topic}/online", online, qos=1, retain=True)
