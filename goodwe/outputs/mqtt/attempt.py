"""One attempt at a connection: its client, and what the broker has said to it.

Made anew for each attempt, so that nothing of an old one can disturb the next. paho's callbacks only take
notes here; the Connection acts upon them when paho has returned.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as mqtt

from ...times import NEVER
from .client import (
    CONNACK,
    DISCONNECT,
    MQTT5,
    PUBCOMP,
    REFUSED_FROM,
    SUBACK,
    UNREADABLE,
    WEBSOCKETS,
    Said,
    connect_properties,
    new_client,
    no_delay,
    pending,
    publish_properties,
    set_keepalive,
    set_patience,
    set_under_way,
    unacknowledged_bytes,
)
from .message import Message, Received, Will
from .terms import Allowed, Asked, allowed, packet_size
from .tls import tls_for

if TYPE_CHECKING:
    from .settings import MqttSettings

READS_AT_ONCE = 16
"""Packets that one frame of a websocket may hold; paho has read the whole frame then."""


class Unacknowledged(NamedTuple):
    """A message with a QoS above 0 that waits for its acknowledgement."""

    info: Any
    """paho's."""
    topic: str
    done: Callable[[bool], None] | None
    """To be told what became of it."""


class Refusal(NamedTuple):
    """A message or subscription that the broker answered with a reason against it."""

    topic: str
    reason: int
    properties: dict[str, Any]
    is_subscription: bool


class Attempt:
    """From finding the host to the end of the connection that came of it."""

    def __init__(
        self, settings: "MqttSettings", *, host: str, client_id: str, asked: Asked, will: Will | None
    ) -> None:
        """To connect as `settings` say to their server `host`, with `client_id`.

        `asked` is what CONNECT asks for, `will` what the broker is to publish when we die.
        """
        self.host = host
        self.began = -NEVER
        self.is_wanted = True
        """False once another has taken its place."""
        self.asked = asked
        self.will = will
        self.client: Any = None
        """None before the handshakes are made, and when it is given up."""
        self.connack: Said | None = None
        self.goodbye: Said | None = None
        """The broker's DISCONNECT, which only MQTT 5 has."""
        self.allowed = Allowed()
        self.keepalive = asked.keepalive
        """Seconds."""
        self.since = self.last_in = self.last_out = 0.0
        """When CONNACK came, when bytes came, when something was sent."""
        self.online = ""
        """The state of the inverter that was published last."""
        self.unacknowledged: list[Unacknowledged] = []
        self.acknowledged: list[str] = []
        """Topics whose answer has come, whatever it was."""
        self.refusals: list[Refusal] = []
        self.arrived: list[Received] = []
        self.unreadable = 0
        """Messages whose topic is no text."""
        self._settings = settings
        self._client_id = client_id
        self._subscribing: dict[int, list[str]] = {}
        """The topics of each SUBSCRIBE that has no answer."""

    # in the worker

    def open(self, factory: Callable[..., Any], prepare: Callable[[Any], None] = lambda client: None) -> Any:
        """A client with a connection that has sent CONNECT; blocks. `prepare` gets it before it connects.

        Raises StartError, OSError, ValueError or struct.error.
        """
        settings = self._settings
        client = new_client(settings, self._client_id, tls_for(settings, self.host), factory)
        client.on_packet = self._packet
        client.on_message = self._message
        if self.will is not None:
            topic, payload = self.will
            client.will_set(topic, payload, qos=self.asked.will_qos, retain=self.asked.will_retain)
        client.is_wanted = lambda: self.is_wanted
        set_patience(client, len(settings.server))
        prepare(client)
        client.connect(self.host, settings.port, self.asked.keepalive, **connect_properties(settings))
        return client

    # in the loop

    def opened(self, client: Any, now: float) -> None:
        """This client has connected. Raises OSError when it is gone already."""
        # `online` follows `data` at once; Nagle's algorithm would hold it until the broker acknowledges.
        no_delay(client.socket().fileno())
        self.client = client
        self.last_in = self.last_out = now

    @property
    def is_mqtt5(self) -> bool:
        """True if it speaks MQTT 5: with 3.1.1 no answer has a reason."""
        return self._settings.protocol == MQTT5

    @property
    def trouble(self) -> OSError | None:
        """Why the socket failed, if it did."""
        found = getattr(self.client, "trouble", None)
        return found if isinstance(found, OSError) else None

    @property
    def breach(self) -> str:
        """The packet by which the broker has broken the protocol; empty for none."""
        return str(getattr(self.client, "breach", ""))

    @property
    def is_gone(self) -> bool:
        """True when paho has closed the socket."""
        return self.client is None or self.client.socket() is None

    def welcomed(self, now: float) -> None:
        """CONNACK has come, and takes us: obey what else it says."""
        self.since = now
        self.keepalive = min(self.asked.keepalive, self.allowed.keepalive or self.asked.keepalive)
        set_keepalive(self.client, self.keepalive)

    def transfer(self) -> int:
        """Read what is there and write what is waiting; paho's result code."""
        try:
            return self._transfer()
        except UNREADABLE:  # paho does not expect a broker that talks nonsense
            self.drop()
            return int(mqtt.MQTT_ERR_PROTOCOL)

    def as_allowed(self, message: Message) -> Message:
        """The message with the QoS and the retain flag that the broker takes."""
        qos = min(message.qos, self.allowed.maximum_qos if self.asked.will_qos else 0)
        return message._replace(
            qos=qos, retain=message.retain and self.allowed.retain and self.asked.will_retain
        )

    def size(self, message: Message) -> int:
        """Bytes of its packet."""
        return packet_size(message, mqtt5=self.is_mqtt5)

    def publish(self, message: Message, done: Callable[[bool], None] | None, now: float) -> bool:
        """Hand it to paho; whether it could be sent or queued."""
        info = self.client.publish(*message[:4], **publish_properties(self._settings, message))
        self.last_out = now
        taken = bool(info.rc == mqtt.MQTT_ERR_SUCCESS)
        if taken and message.qos:
            self.unacknowledged.append(Unacknowledged(info, message.topic, done))
        return taken

    def subscribe(self, topics: list[str], now: float) -> None:
        """Ask for these topics in one packet."""
        # QoS 0: RabbitMQ keeps a queue for more on one node, and drops us everywhere when that node dies.
        _, number = self.client.subscribe([(topic, 0) for topic in topics])
        self.last_out = now
        if number is not None:
            self._subscribing[number] = topics

    def tell_acknowledged(self) -> None:
        """Tell those whose message has been acknowledged."""
        known, self.unacknowledged = self.unacknowledged, []
        for waiting in known:
            if not waiting.info.is_published():
                self.unacknowledged.append(waiting)
            elif waiting.done is not None:
                waiting.done(True)

    def tell_lost(self) -> None:
        """Tell everybody whose message is not acknowledged, and never will be."""
        lost, self.unacknowledged = self.unacknowledged, []
        for waiting in lost:
            if waiting.done is not None:
                waiting.done(waiting.info.is_published())

    @property
    def stands_still(self) -> bool:
        """True while the broker's machine has not got what we sent last."""
        return not self.is_gone and unacknowledged_bytes(self.client.socket().fileno()) > 0

    def drop(self) -> None:
        """Close the socket without a word."""
        self.is_wanted = False
        client, self.client = self.client, None
        if client is not None and client.socket() is not None:
            client.socket().close()

    def _transfer(self) -> int:
        result = self.client.loop_read()
        # TLS reads whole records: what is in the buffer does not make the socket readable again.
        while result == mqtt.MQTT_ERR_SUCCESS and pending(self.client.socket()):
            result = self.client.loop_read()
        if self._settings.transport == WEBSOCKETS:  # and paho whole frames
            for _ in range(READS_AT_ONCE):
                result = result or self.client.loop_read()
        if self.client.socket() is not None and self.client.want_write():
            result = self.client.loop_write()
        return int(result)

    # notes

    def _packet(self, said: Said) -> None:
        if said.packet == CONNACK:
            self.connack = said
            self.allowed = allowed(said.properties)
            if self.client is not None:
                set_under_way(self.client, self.allowed.under_way)
        elif said.packet == DISCONNECT:
            self.goodbye = said
        elif said.packet == SUBACK:
            self._subscribed(said)
        else:
            self._answered(said)

    def _answered(self, said: Said) -> None:
        """A PUBACK, PUBREC or PUBCOMP."""
        for waiting in self.unacknowledged:
            if waiting.info.mid == said.number:
                self.acknowledged.append(waiting.topic)
                # PUBCOMP can only say that the number is not known: the message was taken before.
                if said.reasons[0] >= REFUSED_FROM and said.packet != PUBCOMP:
                    self.refusals.append(Refusal(waiting.topic, said.reasons[0], said.properties, False))
                return

    def _subscribed(self, said: Said) -> None:
        topics = self._subscribing.pop(said.number, [])
        for topic, reason in zip(topics, said.reasons, strict=False):
            self.acknowledged.append(topic)
            if reason >= REFUSED_FROM:
                self.refusals.append(Refusal(topic, reason, said.properties, True))

    def _message(self, client: Any, userdata: Any, message: Any) -> None:
        properties = getattr(message, "properties", None)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self.unreadable += 1
            return
        self.arrived.append(
            Received(
                topic,
                message.payload,
                bool(message.retain),
                getattr(properties, "ResponseTopic", ""),
                getattr(properties, "CorrelationData", b""),
            )
        )
