"""paho-mqtt, 1.6 (Debian 12) and 2 (Debian 13), as we use it."""

import fcntl
import os
import socket
import ssl  # paho has loaded it in any case
import struct
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt import MQTTException
from paho.mqtt import properties as mqtt5  # the client has loaded it in any case
from paho.mqtt.packettypes import PacketTypes

from .message import Message
from .tls import password_for

if TYPE_CHECKING:
    from .settings import MqttSettings

PAHO_2 = hasattr(mqtt, "CallbackAPIVersion")
MQTT5 = "5"
WEBSOCKETS = "websockets"
LONGEST_HANDSHAKE = 20
CONNECT_WITHIN = 4.0
"""Seconds for a machine to take the connection; the kernel asks it after 0, 1 and 3."""
CONNECT_WITHIN_OF_SEVERAL = 2.5
"""The same where other servers wait for their turn."""
HANDSHAKE_WITHIN = 10.0
LARGEST_RECEIVED = 81_920
"""Bytes of a packet that we take, where the protocol lets us say so: the longest topic, and a command."""
CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK, DISCONNECT = 0x20, 0x40, 0x50, 0x70, 0x90, 0xE0
CONNACK_BYTES = 2
NUMBER_BYTES = 2
INT_BYTES = 4
REFUSED_FROM = 128
NOT_FOR_US = {0x10: "a CONNECT", 0x80: "a SUBSCRIBE", 0xA0: "an UNSUBSCRIBE"}
"""Packets that only clients send."""
AUTH = 0xF0
NO_VERSION = 99
"""A version of MQTT that will never be."""
UNREADABLE = (
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error),
    *(MQTTException, mqtt5.MQTTException),  # not the same in paho 1
)
"""Errors that paho raises, besides OSError, when a packet is none."""


class Said(NamedTuple):
    """An answer of the broker: a CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK or DISCONNECT."""

    packet: int
    """Its kind, as the first byte has it."""
    number: int
    """Of the packet that it answers; 0 where there are no numbers."""
    reasons: tuple[int, ...]
    properties: dict[str, Any]
    """By their names in MQTT 5, without blanks."""


def said(packet: int, body: bytes, *, is_mqtt5: bool) -> Said | None:
    """The content of a packet of the broker; None for another kind, or one that is too short.

    paho 1 keeps the reasons of PUBACK to itself, and of a DISCONNECT without properties; both keep those of
    PUBREC, and a CONNACK of MQTT 3.1.1 that refuses the version.
    """
    kind = packet & 0xF0
    number = int.from_bytes(body[:NUMBER_BYTES])
    rest = body[NUMBER_BYTES:]
    if kind == CONNACK and len(body) >= CONNACK_BYTES:
        return Said(kind, 0, (body[1],), _properties_of(kind, rest)[0] if is_mqtt5 else {})
    if kind == DISCONNECT and is_mqtt5:
        return Said(kind, 0, (body[0] if body else 0,), _properties_of(kind, body[1:])[0])
    if kind in (PUBACK, PUBREC, PUBCOMP) and len(body) >= NUMBER_BYTES:
        return Said(kind, number, (rest[0] if rest else 0,), _properties_of(kind, rest[1:])[0])
    if kind == SUBACK and len(body) > NUMBER_BYTES:
        properties, count = _properties_of(kind, rest) if is_mqtt5 else ({}, 0)
        return Said(kind, number, tuple(rest[count:]), properties)
    return None


def _properties_of(kind: int, body: bytes) -> tuple[dict[str, Any], int]:
    """The properties that a part of a packet begins with, and how many bytes they take."""
    if not body:
        return {}, 0
    found = mqtt5.Properties(kind >> 4)
    try:
        _, count = found.unpack(bytes(body))
    except UNREADABLE:
        return {}, 0
    names = (name.replace(" ", "") for name in found.names)
    return {name: getattr(found, name) for name in names if hasattr(found, name)}, count


class _PahoClient(mqtt.Client):  # type: ignore[misc]  # paho 1 ships no types
    """paho, and what it keeps to itself.

    These methods have been in paho since its beginning; without them only the reasons would be missing.
    """

    on_packet: Callable[[Said], None] = staticmethod(lambda said: None)
    """Called with each answer of the broker before paho acts on it."""
    trouble: OSError | None = None
    """Why the socket failed."""
    breach = ""
    """The packet by which the broker has broken the protocol."""
    _is_welcomed = False
    handshake_within = HANDSHAKE_WITHIN
    """Seconds, for TLS and websockets each."""
    is_wanted: Callable[[], bool] = staticmethod(lambda: True)
    """Asked before CONNECT is sent, which would end the connection of the client that has taken its place."""

    def _packet_handle(self) -> Any:
        kind, is_mqtt5 = self._in_packet["command"] & 0xF0, self._protocol == mqtt.MQTTv5
        if kind in NOT_FOR_US or (kind == AUTH and is_mqtt5):  # we ask for no other login (MQTT 5, 4.12)
            self.breach = NOT_FOR_US.get(kind, "an AUTH")
            return mqtt.MQTT_ERR_PROTOCOL
        answer = said(self._in_packet["command"], self._in_packet["packet"], is_mqtt5=is_mqtt5)
        if answer is not None:
            if answer.packet == CONNACK:
                if self._is_welcomed:  # paho would begin the connection anew (MQTT 3.1.1, 3.2; MQTT 5, 3.2)
                    self.breach = "a second CONNACK"
                    return mqtt.MQTT_ERR_PROTOCOL
                self._is_welcomed = True
            self.on_packet(answer)
            if answer.packet in (PUBACK, PUBREC, PUBCOMP):
                # Without the reason: paho stumbles over one that it does not know.
                body = self._in_packet["packet"][:NUMBER_BYTES]
                self._in_packet.update(packet=body, remaining_length=NUMBER_BYTES)
            if answer.packet == PUBREC and answer.reasons[0] >= REFUSED_FROM:
                # That ends it; paho would go on with a PUBREL and wait for ever (MQTT 5, 4.3.3).
                self._in_packet["command"] = PUBCOMP
        return super()._packet_handle()

    def _create_socket_connection(self) -> Any:
        connection = super()._create_socket_connection()
        # paho 2 waits for TLS and websockets as long as for the machine.
        self._connect_timeout = self.handshake_within
        return connection

    def _send_connect(self, *arguments: Any) -> Any:
        if not self.is_wanted():
            self.socket().close()
            raise ConnectionAbortedError
        return super()._send_connect(*arguments)

    def _sock_recv(self, bufsize: int) -> Any:
        return self._noting_trouble(lambda: super(_PahoClient, self)._sock_recv(bufsize))

    def _sock_send(self, buffer: Any) -> Any:
        return self._noting_trouble(lambda: super(_PahoClient, self)._sock_send(buffer))

    def _noting_trouble(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except BlockingIOError:
            raise
        except ConnectionError as error:
            self.trouble = self.trouble or error
            raise
        except OSError as error:  # a TLS alert, no route: paho 1 only knows how to lose a ConnectionError
            self.trouble = self.trouble or error
            raise ConnectionError(*error.args) from error


def paho_client(client_id: str, **options: Any) -> Any:
    """A client of paho-mqtt 1.6 (Debian 12) or 2 (Debian 13); `options` are protocol and transport."""
    # Without reconnect_on_failure=False a refusal would make paho connect again inside its callback.
    options |= {"client_id": client_id, "reconnect_on_failure": False}
    return _PahoClient(mqtt.CallbackAPIVersion.VERSION2, **options) if PAHO_2 else _PahoClient(**options)


def new_client(
    settings: "MqttSettings",
    client_id: str,
    tls: ssl.SSLContext | None,
    client_factory: Callable[..., Any] = paho_client,
) -> Any:
    """A client that speaks and logs in as the settings say; `connect()` and callbacks are the caller's.

    Raises StartError when the file with the password cannot be read.
    """
    options: dict[str, Any] = {}
    if settings.protocol == MQTT5:
        options["protocol"] = mqtt.MQTTv5
    if settings.transport == WEBSOCKETS:
        options["transport"] = WEBSOCKETS
    client = client_factory(client_id, **options)
    if settings.transport == WEBSOCKETS:
        client.ws_set_options(path=settings.websocketpath)
    if settings.username:
        client.username_pw_set(settings.username, password_for(settings) or None)
    if tls is not None:
        client.tls_set_context(tls)
        if not tls.check_hostname:
            client.tls_insecure_set(True)  # the context's own sockets look at the name
    return client


def keepalive_seconds(settings: "MqttSettings") -> int:
    """Seconds. Two thirds, so that a dead connection is noticed in one and a half of the configured."""
    seconds = max(1, settings.keepalive * 2 // 3)
    if not PAHO_2 and (settings.tls or settings.transport == WEBSOCKETS):
        # paho 1 waits for these handshakes as long as the keep-alive is.
        return min(seconds, LONGEST_HANDSHAKE)
    return seconds


def set_patience(client: Any, servers: int) -> None:
    """Let connect() wait for a machine that does not answer as long as suits so many servers."""
    seconds = CONNECT_WITHIN if servers == 1 else CONNECT_WITHIN_OF_SEVERAL
    client._connect_timeout = seconds  # paho 1 has no other way


def make_a_probe(client: Any, seconds: float) -> None:
    """Let connect() wait so long for each of its steps, and send a CONNECT that lets nobody in.

    Its version is one that no broker speaks: whoever is alive says so and closes (MQTT 3.1.1 and 5, 3.1.2.2),
    before it looks at login and client id.
    """
    client._connect_timeout = client.handshake_within = seconds
    client._protocol = NO_VERSION


def set_under_way(client: Any, most: int) -> None:
    """Let a client that is connected send so many messages ahead of their acknowledgements."""
    client._max_inflight_messages = most  # paho 2 has a method for it that refuses to be called now


def set_keepalive(client: Any, seconds: int) -> None:
    """Let a client that is connected ping after so many seconds; paho 1 is deaf to the broker's wish."""
    client._keepalive = seconds


def connect_properties(settings: "MqttSettings") -> dict[str, Any]:
    """Further arguments of paho's connect(): how much we take, where the protocol lets us say so."""
    if settings.protocol != MQTT5:
        return {}
    properties = _properties("CONNECT")
    properties.MaximumPacketSize = LARGEST_RECEIVED
    return {"properties": properties}


def publish_properties(settings: "MqttSettings", message: Message) -> dict[str, Any]:
    """Further arguments of paho's publish()."""
    if not message.correlation or settings.protocol != MQTT5:
        return {}
    properties = _properties("PUBLISH")
    properties.CorrelationData = message.correlation
    return {"properties": properties}


def _properties(packet: str) -> Any:
    """MQTT 5 properties of a kind of packet."""
    return mqtt5.Properties(getattr(PacketTypes, packet))


def no_delay(descriptor: int) -> None:
    """Switch Nagle's algorithm off, whatever TLS and websockets have wrapped around the socket."""
    with socket.socket(fileno=os.dup(descriptor)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unacknowledged_bytes(descriptor: int) -> int:
    """Bytes that we have sent and the other machine has not got yet, as far as this one knows."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(INT_BYTES)), sys.byteorder)


def pending(client_socket: Any) -> int:
    """Bytes that TLS has read and nobody has taken: poll() knows nothing of them."""
    return client_socket.pending() if hasattr(client_socket, "pending") else 0
