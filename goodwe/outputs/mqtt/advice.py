"""The troubles of brokers and networks, in words for the person who can do something about them."""

import errno
import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Any

import paho.mqtt.client as mqtt

from ...config.parsers import LONGEST_FIELD
from ...errors import StartError
from .backoff import Failure
from .tls import NOT_OUR_ADDRESS, NOT_OUR_NAME

CLOSED_AT_ONCE = "it closed the connection without an answer; is it an MQTT broker, are port and tls right?"
NO_ANSWER = "it accepts connections but does not answer; is it an MQTT broker?"
BREACH = "it breaks the protocol, by {packet}; look into its log, or for another one"
NONSENSE = (
    "what it says is not MQTT; is it an MQTT broker, are port, tls, transport and protocol in [mqtt] right?"
)
REFUSALS = {
    # CONNACK of MQTT 3.1.1, and the reason codes of MQTT 5 (3.2.2.2)
    1: "it does not speak this version of MQTT; change protocol in [mqtt]",
    2: "it refuses our client id; change clientid in [mqtt], or set a smaller keepalive",
    3: "it says that it is not available",
    4: "it refuses the login; check username and password in [mqtt]",
    5: "it refuses us; check username and password in [mqtt] and what the broker allows",
    128: "it refuses us and does not say why; look into its log",
    129: "it does not understand what we say; change protocol in [mqtt]",
    130: "it says that we break the protocol; change protocol in [mqtt]",
    131: "it refuses us for a reason of its own; look into its log",
    132: "it does not speak this version of MQTT; change protocol in [mqtt]",
    133: "it refuses our client id; change clientid in [mqtt]",
    134: "it refuses the login; check username and password in [mqtt]",
    135: "it refuses us; check username and password in [mqtt] and what the broker allows",
    136: "it says that it is not available",
    137: "it says that it is busy",
    138: "it has banned us",
    140: "it wants another kind of login than username and password; change what the broker asks for",
    144: "it does not allow our topics; check topic in [mqtt] and what the broker allows",
    149: "our messages are too large for it; raise its limit to 16 kB",
    151: "a quota of it is exceeded",
    153: "it does not take the form of our messages",
    154: "it does not keep retained messages, and online needs that",
    155: "it does not take messages with this qos; change qos in [mqtt]",
    156: "it wants us to use another server; change server in [mqtt]",
    157: "it has moved to another server; change server in [mqtt]",
    159: "it takes no more connections for now",
}
"""Reason of a CONNACK to what the reader can do."""
GOODBYES = {
    4: "it ends the connection and publishes the will",
    128: "it does not say why; look into its log",
    130: "it says that we break the protocol",
    131: "for a reason of its own; look into its log",
    135: "it does not allow what we do; check what the broker allows",
    139: "it shuts down",
    141: "it did not hear from us in time",
    143: "it does not allow what we subscribe to",
    147: "it gets more messages at once than it allows",
    148: "it does not take topic aliases",
    149: "a message was too large for it; raise its limit to 16 kB",
    150: "it gets more messages than it allows",
    151: "a quota of it is exceeded",
    152: "its administrator has ended the connection",
    158: "it does not take shared subscriptions",
    160: "the connection was open for as long as it allows",
    161: "it does not take subscription identifiers",
    162: "it does not take subscriptions with wildcards",
    **{reason: REFUSALS[reason] for reason in (129, 136, 137, 144, 153, 154, 155, 156, 157, 159)},
}
"""Reason of a DISCONNECT that a broker sends with MQTT 5 (3.14.2.1)."""
UNPUBLISHED = {
    128: "Unspecified error",
    131: "Implementation specific error",
    135: "Not authorized",
    144: "Topic Name invalid",
    145: "Packet identifier in use",
    151: "Quota exceeded",
    153: "Payload format invalid",
}
"""Reason of a PUBACK or PUBREC (MQTT 5, 3.4.2.1), in the words of the specification."""
UNSUBSCRIBED = {
    128: "Unspecified error",
    131: "Implementation specific error",
    135: "Not authorized",
    143: "Topic Filter invalid",
    145: "Packet identifier in use",
    151: "Quota exceeded",
    158: "Shared Subscriptions not supported",
    161: "Subscription Identifiers not supported",
    162: "Wildcard Subscriptions not supported",
}
"""Reason of a SUBACK (MQTT 5, 3.9.3), in the words of the specification."""
SESSION_TAKEN_OVER = 142
ABOUT_A_MESSAGE = frozenset({128, 129, 130, 131, 135, 143, 144, 149, 153, 154, 155, 158, 162})
"""Reasons of a DISCONNECT that may be those of a single message."""
BUSY = frozenset({137, 150, 151, 159})
UNAVAILABLE = frozenset({3, 136})
CONTESTED = (
    "another program connects as {client_id}: is this one running twice? Else change clientid in [mqtt];"
    " one try a minute until it is gone"
)
CLIENT_CERTIFICATE_WANTED = (
    "it wants a certificate of ours, and there is none; set certfile and keyfile in [mqtt]"
)
NO_AUTHORITY = (
    "what is in cafile, or stands between it and the broker, is no authority: to be made with"
    " openssl req -x509 -addext basicConstraints=critical,CA:TRUE"
)
NETWORK = "has this machine a network that leads there?"
MEMORY = "this machine has no memory or threads left for it; end what takes them"
FIREWALL = "this machine does not let us connect; look at its firewall"
OF_THIS_MACHINE = {
    errno.EMFILE: "this program has as many as it may; raise LimitNOFILE= in its unit, or ulimit -n",
    errno.ENFILE: "this machine has as many as it can; raise fs.file-max, or end what opens them",
    **dict.fromkeys((errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN), MEMORY),
    **dict.fromkeys((errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT), NETWORK),
    **dict.fromkeys((errno.EHOSTUNREACH, errno.EHOSTDOWN), "is the machine on, is server in [mqtt] right?"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), FIREWALL),
}
"""Errors of a connect() that say more of machines and networks than of the broker, to what can be done."""
NO_CONNECTION = (StartError, OSError, ValueError, struct.error)
"""Raised by an attempt that leads to no connection; anything else is a defect."""
LONGEST_QUOTATION = 200
"""Characters of a broker's own words that are shown."""


def why_refused(reason: int, properties: Mapping[str, Any]) -> tuple[Failure, str]:
    """The meaning of a CONNACK with this reason, and the advice with the broker's own words beside it."""
    advice = REFUSALS.get(reason, f"it refuses us with reason {reason}; look into its log")
    kind = Failure.BUSY if reason in BUSY else Failure.AWAY if reason in UNAVAILABLE else Failure.REFUSED
    return kind, with_own_words(advice, properties)


def why_ended(reason: int, properties: Mapping[str, Any]) -> str:
    """Why a connection is gone that the broker ended with this reason; 0 is none at all."""
    advice = GOODBYES.get(reason, f"it gives reason {reason}" if reason else "")
    return with_own_words(advice, properties)


def why_unpublished(reason: int) -> str:
    """The reason of a PUBACK or PUBREC in words; by its number where it has none."""
    return UNPUBLISHED.get(reason, f"reason {reason}")


def not_subscribed(topic: str, reason: int, properties: Mapping[str, Any], *, mqtt5: bool) -> str:
    """The broker's refusal of a subscription, in a sentence; with MQTT 3.1.1 its one reason says nothing."""
    text = f"it does not let us subscribe to {topic}"
    if mqtt5:
        text += f": {UNSUBSCRIBED.get(reason, f'reason {reason}')}"
    return with_own_words(text, properties)


def with_own_words(advice: str, properties: Mapping[str, Any]) -> str:
    """The advice, and what the broker says itself: its reason string, the server it refers to."""
    reference = quoted(properties.get("ServerReference", ""))
    words = quoted(properties.get("ReasonString", ""))
    said = [
        *([f"the other server is {reference}"] if reference else []),
        *([f"it says: {words}"] if words else []),
    ]
    if not said:
        return advice
    return f"{advice} ({'; '.join(said)})" if advice else "; ".join(said)


def quoted(text: str) -> str:
    """A foreign text in one line that is not too long."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    line = " ".join(line.split())
    return line if len(line) <= LONGEST_QUOTATION else line[:LONGEST_QUOTATION] + "..."


def why_not(error: Exception, *, has_certificate: bool = False) -> tuple[Failure, str]:
    """Why no connection could be made, from one of NO_CONNECTION; `has_certificate`: we show one of ours."""
    match error:
        case StartError():
            return Failure.AWAY, str(error)
        # The second is something in front of a broker that is away.
        case ConnectionAbortedError() | ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return Failure.AWAY, CLOSED_AT_ONCE
        case ssl.SSLError():
            return Failure.TLS, _why_no_tls(error, has_certificate=has_certificate)
        case socket.gaierror():
            return Failure.NAME, _why_no_address(error)
        case struct.error():
            text = f"clientid, username, password or topic in [mqtt] has more than {LONGEST_FIELD} bytes"
            return Failure.REFUSED, text
    return Failure.AWAY, _why_away(error)


def reason_of(error: Exception) -> str:
    """Why a connection could not be made, for a person."""
    return why_not(error)[1]


def _why_away(error: Exception) -> str:
    match error:
        case mqtt.WebsocketConnectionError():
            return f"no websocket ({error}); check transport, websocketpath and port in [mqtt]"
        case ConnectionRefusedError():
            return "nothing listens there; is the broker running, are server and port in [mqtt] right?"
        case TimeoutError():
            return "no answer; is the machine on, are server and port in [mqtt] right?"
        case OSError():
            remedy = OF_THIS_MACHINE.get(error.errno or 0, "are server, port and tls in [mqtt] right?")
            return f"{error.strerror or error}; {remedy}"
    return f"not a host name ({error}); check server in [mqtt]"


def _why_no_address(error: socket.gaierror) -> str:
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return "its name is not known; check server in [mqtt]"
    if error.errno == socket.EAI_AGAIN:
        return "the name server does not answer; is the network up, is /etc/resolv.conf right?"
    return f"its name cannot be looked up ({error.strerror}); check server in [mqtt] and the name server"


def _why_no_tls(error: ssl.SSLError, *, has_certificate: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_not_trusted(error)
    reason = str(error.reason or error)
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and not has_certificate):
        return f"{CLIENT_CERTIFICATE_WANTED} ({reason})"
    if has_certificate and any(word in reason for word in ("UNKNOWN_CA", "CERTIFICATE", "ACCESS_DENIED")):
        return f"it does not accept our certificate ({reason}); check certfile and keyfile in [mqtt]"
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return f"it does not speak TLS 1.2 or newer ({reason}); the broker needs an update"
    return f"no TLS connection ({reason}); check port and tls in [mqtt]"


def _why_not_trusted(error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message
    match error.verify_code:
        case code if code in (NOT_OUR_NAME, NOT_OUR_ADDRESS):
            return f"its certificate is for another name: {why}; check server in [mqtt]"
        case 9:
            return f"its certificate is not trusted: {why}; is the clock of this machine right?"
        case 10:
            return f"its certificate is not trusted: {why}; renew it, or set this machine's clock"
        case 23:
            return f"its certificate is not trusted: {why}; the broker needs a new one"
        case _ if "invalid CA" in why:  # its number differs with the version of OpenSSL
            return f"its certificate is not trusted: {why}; {NO_AUTHORITY}"
    return f"its certificate is not trusted: {why}; check cafile in [mqtt]"
