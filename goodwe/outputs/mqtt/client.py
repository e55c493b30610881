"""paho-mqtt, 1.6 (Debian 12) and 2 (Debian 13), as we use it, and what brokers say in words for a person."""

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt

from ...errors import StartError
from .message import Message

if TYPE_CHECKING:
    import ssl

    from ...config import MqttSettings

PAHO_2 = hasattr(mqtt, "CallbackAPIVersion")
MQTT5 = "5"
WEBSOCKETS = "websockets"
OVERHEAD = 64
"""Bytes of a packet beside topic and payload, at most."""
LONGEST_HANDSHAKE = 20
LARGEST_RECEIVED = 16_384
"""Bytes of a packet that we take, where the protocol lets us say so."""

CLOSED_AT_ONCE = "it closed the connection without an answer; is it an MQTT broker, are port and tls right?"
REFUSALS = {
    # CONNACK of MQTT 3.1.1, the reason codes that paho 2 translates them into, and those of MQTT 5
    1: "it does not speak this version of MQTT; change protocol in [mqtt]",
    132: "it does not speak this version of MQTT; change protocol in [mqtt]",
    2: "it refuses our client id; change clientid in [mqtt]",
    133: "it refuses our client id; change clientid in [mqtt]",
    3: "it says that it is not available",
    136: "it says that it is not available",
    4: "it refuses the login; check username and password in [mqtt]",
    134: "it refuses the login; check username and password in [mqtt]",
    5: "it refuses us; check username and password in [mqtt] and what the broker allows",
    135: "it refuses us; check username and password in [mqtt] and what the broker allows",
    137: "it says that it is busy",
    138: "it has banned us",
    144: "it does not allow our topics; check topic in [mqtt] and what the broker allows",
    149: "our messages are too large for it; raise its limit to 16 kB",
    154: "it does not keep retained messages, and online needs that",
    155: "it does not take messages with this qos; change qos in [mqtt]",
    156: "it wants us to use another server; change server in [mqtt]",
    157: "it has moved to another server; change server in [mqtt]",
    159: "it takes no more connections for now",
}
"""Reason of a CONNACK to what the reader can do."""
GOODBYES = {
    139: "it shuts down",
    141: "it did not hear from us in time",
    149: "a message was too large for it; raise its limit to 16 kB",
    150: "it gets more messages than it allows",
    151: "a quota of it is exceeded",
    152: "its administrator has ended the connection",
    **{reason: REFUSALS[reason] for reason in (144, 154, 155)},
}
"""Reason of a DISCONNECT that a broker sends with MQTT 5."""
LOST = mqtt.error_string(mqtt.MQTT_ERR_CONN_LOST)
SESSION_TAKEN_OVER = 142
NOT_ALLOWED = 128
"""Reason codes from here up refuse what was asked for."""


def paho_client(client_id: str, **options: Any) -> Any:
    """A client of paho-mqtt 1.6 (Debian 12) or 2 (Debian 13); `options` are protocol and transport."""
    # Without reconnect_on_failure=False a refusal would make paho connect again inside its callback.
    options |= {"client_id": client_id, "reconnect_on_failure": False}
    return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **options) if PAHO_2 else mqtt.Client(**options)


def tls_context(cafile: str, certfile: str, keyfile: str) -> "ssl.SSLContext":
    """Verified TLS 1.2 or newer. Raises StartError when a file cannot be used."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=cafile or None)
    except OSError as error:
        raise StartError(f"cafile = {cafile}: must have certificates in it, PEM ({error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if certfile:
            context.load_cert_chain(certfile, keyfile, password=_no_passphrase)
    except OSError as error:
        both = f"certfile = {certfile}, keyfile = {keyfile}"
        raise StartError(f"{both}: must be a certificate and its key, PEM ({error})") from error
    return context


def tls_for(settings: "MqttSettings") -> "ssl.SSLContext | None":
    """What the settings ask for; None without TLS. Raises StartError when a file cannot be used."""
    if not settings.tls:
        return None
    return tls_context(settings.cafile, settings.certfile, settings.keyfile)


def _no_passphrase() -> str:
    """Instead of a question at a terminal that a daemon does not have."""
    raise StartError(
        "keyfile has a passphrase, and nobody to type it; openssl pkey -in KEY -out NEW makes one without"
    )


def new_client(
    settings: "MqttSettings",
    client_id: str,
    tls: "ssl.SSLContext | None",
    client_factory: Callable[..., Any] = paho_client,
) -> Any:
    """A client that speaks and logs in as the settings say; `connect()` and callbacks are the caller's."""
    options: dict[str, Any] = {}
    if settings.protocol == MQTT5:
        options["protocol"] = mqtt.MQTTv5
    if settings.transport == WEBSOCKETS:
        options["transport"] = WEBSOCKETS
    client = client_factory(client_id, **options)
    if settings.transport == WEBSOCKETS:
        client.ws_set_options(path=settings.websocketpath)
    if settings.username:
        client.username_pw_set(settings.username, settings.password or None)
    if tls is not None:
        client.tls_set_context(tls)
    return client


def keepalive_seconds(settings: "MqttSettings") -> int:
    """Seconds. Two thirds, so that a dead connection is noticed in one and a half of the configured."""
    seconds = max(1, settings.keepalive * 2 // 3)
    if not PAHO_2 and (settings.tls or settings.transport == WEBSOCKETS):
        # paho 1 waits for these handshakes as long as the keep-alive is.
        return min(seconds, LONGEST_HANDSHAKE)
    return seconds


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
    from paho.mqtt.packettypes import PacketTypes  # here, since only MQTT 5 needs them
    from paho.mqtt.properties import Properties

    return Properties(getattr(PacketTypes, packet))


def no_delay(descriptor: int) -> None:
    """Switch Nagle's algorithm off, whatever TLS and websockets have wrapped around the socket."""
    with socket.socket(fileno=os.dup(descriptor)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def pending(client_socket: Any) -> int:
    """Bytes that TLS has read and nobody has taken: poll() knows nothing of them."""
    return client_socket.pending() if hasattr(client_socket, "pending") else 0


def reason_of(error: Exception) -> str:
    """Why a connection could not be made, for a person."""
    import ssl  # paho has loaded it in any case

    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}; check cafile in [mqtt]"
        case ssl.SSLError():
            return f"no TLS connection ({error.reason}); check port and tls in [mqtt]"
        case mqtt.WebsocketConnectionError():
            return f"no websocket ({error}); check transport, websocketpath and port in [mqtt]"
        case socket.gaierror():
            return "its name is not known; check server in [mqtt]"
        case ConnectionRefusedError():
            return "nothing listens there; is the broker running, are server and port in [mqtt] right?"
        case TimeoutError():
            return "no answer; is the machine on, are server and port in [mqtt] right?"
        case OSError():
            return f"{error.strerror or error}; are server, port and tls in [mqtt] right?"
    return f"not a host name ({error}); check server in [mqtt]"
