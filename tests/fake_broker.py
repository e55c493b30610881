"""A broker that does what a test says: it speaks MQTT 3.1.1 and 5 in literal bytes.

`FakeBroker(script)` runs the script for each connection, in a thread of its own; `obliging` is a script that takes
everything, but for what its arguments say.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from .broker import PATIENCE

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x80, 0x90, 0xC0, 0xD0, 0xE0


class Packet(NamedTuple):
    """One packet as it came."""

    kind: int
    flags: int
    body: bytes


class Publish(NamedTuple):
    """A message of the program."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    number: int


class Connect(NamedTuple):
    """The terms that the program asks for when it comes."""

    version: int
    client_id: str
    keepalive: int
    will_qos: int
    will_retain: bool
    has_will: bool
    username: str
    password: str


def packet(kind: int, body: bytes = b"") -> bytes:
    """A packet with its header; bodies are shorter than 16,384 bytes."""
    assert len(body) < 128 * 128
    low, high = len(body) % 128, len(body) // 128
    return bytes([kind, low | 128, high] if high else [kind, low]) + body


def properties(**named: Any) -> bytes:
    """MQTT 5 properties (2.2.2.2) with their length in front; texts are long strings, numbers as wide as due."""
    forms = {
        "session_expiry": (17, "!I"),
        "assigned_id": (18, "text"),
        "server_keepalive": (19, "!H"),
        "authentication_method": (21, "text"),
        "response_information": (26, "text"),
        "server_reference": (28, "text"),
        "reason_string": (31, "text"),
        "receive_maximum": (33, "!H"),
        "topic_alias_maximum": (34, "!H"),
        "maximum_qos": (36, "!B"),
        "retain_available": (37, "!B"),
        "user_property": (38, "pair"),
        "maximum_packet_size": (39, "!I"),
        "wildcards": (40, "!B"),
        "subscription_identifiers": (41, "!B"),
        "shared": (42, "!B"),
    }
    found = b""
    for name, value in named.items():
        number, form = forms[name]
        texts = [value] if form == "text" else value if form == "pair" else []
        coded = b"".join(struct.pack("!H", len(str(t).encode())) + str(t).encode() for t in texts)
        found += bytes([number]) + (coded if form in ("text", "pair") else struct.pack(form, value))
    assert len(found) < 128 * 128
    return (
        bytes([len(found)]) if len(found) < 128 else bytes([len(found) % 128 | 128, len(found) // 128])
    ) + found


def connack(reason: int = 0, version: int = 5, **named: Any) -> bytes:
    return packet(CONNACK, bytes([0, reason]) + (properties(**named) if version == 5 else b""))


def disconnect(reason: int, **named: Any) -> bytes:
    """Without properties it has only the reason, as mosquitto sends it."""
    return packet(DISCONNECT, bytes([reason]) + (properties(**named) if named else b""))


def answer(kind: int, number: int, reason: int | None = None, **named: Any) -> bytes:
    """A PUBACK, PUBREC or PUBCOMP."""
    body = struct.pack("!H", number)
    if reason is not None:
        body += bytes([reason]) + (properties(**named) if named else b"")
    return packet(kind, body)


class Talk:
    """One connection, as the broker sees it."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.number = number
        """How many connections came before."""
        self.connect: Connect | None = None
        self.published: list[Publish] = []
        self.pings = 0
        self._socket = connection
        self._socket.settimeout(PATIENCE)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def next(self) -> Packet | None:
        """The next packet; None when the program has gone."""
        header = self._exactly(1)
        length, shift = 0, 0
        while header:
            byte = self._exactly(1)
            if not byte:
                return None
            length |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                body = self._exactly(length)
                return Packet(header[0] & 0xF0, header[0] & 0x0F, body) if len(body) == length else None
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """From now on with TLS."""
        self._socket = context.wrap_socket(self._socket, server_side=True)

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        with contextlib.suppress(OSError):
            while len(data) < count and (chunk := self._socket.recv(count - len(data))):
                data += chunk
        return data


class FakeBroker:
    """Listens until it is closed; `talks` has all connections, the newest last."""

    def __init__(
        self,
        script: Callable[[Talk], None],
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = socket.create_server((host, port))
        self.port = int(self._listener.getsockname()[1])
        self.talks: list[Talk] = []
        self._script = script
        self._tls = tls
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def published(self) -> list[Publish]:
        """All that came, in all connections."""
        return [publish for talk in self.talks for publish in talk.published]

    def topics(self) -> set[str]:
        return {publish.topic for publish in self.published}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self.talks:
            talk.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            talk = Talk(connection, len(self.talks))
            self.talks.append(talk)
            threading.Thread(target=self._run, args=(talk,), daemon=True).start()

    def _run(self, talk: Talk) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                talk.encrypt(self._tls)
            self._script(talk)
        talk.close()


def obliging(
    welcome: bytes | Callable[[Talk], bytes] = b"",
    on_publish: Callable[[Talk, Publish], bool] = lambda talk, publish: False,
    on_subscribe: Callable[[Talk, list[str]], bool] = lambda talk, topics: False,
    *,
    acknowledges: bool = True,
    on_connect: Callable[[Talk, Connect], bool] = lambda talk, connect: False,
) -> Callable[[Talk], None]:
    """A script: CONNACK `welcome`, then each packet's due answer.

    The functions may do something else instead and give True: then nothing more is answered to that packet; to
    end the connection they close it. Without `acknowledges` no PUBACK and PUBREC is sent.
    """

    def script(talk: Talk) -> None:
        while (got := talk.next()) is not None:
            if got.kind == CONNECT:
                talk.connect = parse_connect(got.body)
                usual = connack(version=talk.connect.version)
                if talk.connect.version not in (3, 4, 5):  # what a broker has to do (3.1.2.2)
                    talk.send(connack(1, version=4))
                    talk.close()
                elif not on_connect(talk, talk.connect):
                    talk.send((welcome(talk) if callable(welcome) else welcome) or usual)
            elif got.kind == PUBLISH:
                assert talk.connect is not None
                publish = parse_publish(got, talk.connect.version)
                talk.published.append(publish)
                if not on_publish(talk, publish) and publish.qos and acknowledges:
                    talk.send(answer(PUBACK if publish.qos == 1 else PUBREC, publish.number))
            elif got.kind == PUBREL:
                talk.send(answer(PUBCOMP, int.from_bytes(got.body[:2])))
            elif got.kind == SUBSCRIBE:
                assert talk.connect is not None
                topics = parse_subscribe(got.body, talk.connect.version)
                if not on_subscribe(talk, topics):
                    inside = b"\0" if talk.connect.version == 5 else b""
                    talk.send(packet(SUBACK, got.body[:2] + inside + bytes(len(topics))))
            elif got.kind == PINGREQ:
                talk.pings += 1
                talk.send(packet(PINGRESP))

    return script


def parse_connect(body: bytes) -> Connect:
    """The body of a CONNECT."""
    _, at = _text(body, 0)
    version, flags, keepalive = struct.unpack("!BBH", body[at : at + 4])
    at += 4
    if version == 5:
        at += 1 + body[at]
    client_id, at = _text(body, at)
    has_will = bool(flags & 4)
    if has_will:
        at += (1 + body[at]) if version == 5 else 0
        _, at = _text(body, at)
        _, at = _text(body, at)
    username, at = _text(body, at) if flags & 128 else ("", at)
    password, at = _text(body, at) if flags & 64 else ("", at)
    will = (flags >> 3) & 3, bool(flags & 32), has_will
    return Connect(version, client_id, keepalive, *will, username, password)


def parse_publish(got: Packet, version: int) -> Publish:
    """A PUBLISH; properties are skipped."""
    topic, at = _text(got.body, 0)
    qos, number = (got.flags >> 1) & 3, 0
    if qos:
        number = int.from_bytes(got.body[at : at + 2])
        at += 2
    if version == 5:
        at += 1 + got.body[at]
    return Publish(topic, got.body[at:], qos, bool(got.flags & 1), number)


def parse_subscribe(body: bytes, version: int) -> list[str]:
    """The topics of a SUBSCRIBE."""
    at, topics = 2 + (1 + body[2] if version == 5 else 0), []
    while at < len(body):
        topic, at = _text(body, at)
        topics.append(topic)
        at += 1
    return topics


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2])
    return body[at + 2 : end].decode(), end
