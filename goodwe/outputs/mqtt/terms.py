"""The terms of a connection: those that we ask for, and those that a broker allows. Pure.

`Allowed` is what a CONNACK of MQTT 5 says (3.2.2.3). What stands in our CONNECT a broker can only take or
refuse; `Terms` goes down one step with each refusal that a step may help against.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...times import NEVER
from .message import Message

MOST_UNDER_WAY = 20
"""Messages that we send without an acknowledgement of the first, where the broker allows as many."""
SHORTEST_KEEPALIVE = 5
LENGTH_BYTES = NUMBER_BYTES = 2
"""Before the topic; behind it, with a QoS above 0."""
NO_PROPERTIES = 1
CORRELATION_PARTS = 3
"""Its number and length."""


class Allowed(NamedTuple):
    """The limits that a broker sets; the defaults are those of a broker that has not said."""

    receive_maximum: int = 65_535
    """Messages with QoS 1 and 2 that may wait for their acknowledgement."""
    maximum_qos: int = 2
    retain: bool = True
    largest: float = NEVER
    """Bytes of a packet."""
    keepalive: int = 0
    """Seconds after which it wants to hear from us; 0 where it does not mind."""
    client_id: str = ""
    """The name it has given us, if we had none."""
    wildcards: bool = True

    @property
    def under_way(self) -> int:
        """How many messages we send ahead of their acknowledgements."""
        return min(self.receive_maximum, MOST_UNDER_WAY)

    def as_status(self) -> dict[str, Any]:
        """Plain values; only what differs from a broker that allows everything."""
        values = zip(self._fields, self, Allowed(), strict=True)
        return {name: value for name, value, usual in values if value != usual}


def allowed(properties: Mapping[str, Any]) -> Allowed:
    """The limits in the properties of a CONNACK, by their names in MQTT 5 without blanks."""
    usual = Allowed()
    return Allowed(
        # 0 is none that the protocol knows; to paho it would mean "without limit".
        receive_maximum=properties.get("ReceiveMaximum", usual.receive_maximum) or 1,
        maximum_qos=properties.get("MaximumQoS", usual.maximum_qos),
        retain=bool(properties.get("RetainAvailable", usual.retain)),
        largest=properties.get("MaximumPacketSize", usual.largest) or usual.largest,
        keepalive=properties.get("ServerKeepAlive", usual.keepalive),
        client_id=properties.get("AssignedClientIdentifier", usual.client_id),
        wildcards=bool(properties.get("WildcardSubscriptionAvailable", usual.wildcards)),
    )


def packet_size(message: Message, *, mqtt5: bool) -> int:
    """Bytes of the PUBLISH that carries a message."""
    inside = LENGTH_BYTES + len(message.topic.encode()) + len(message.payload.encode())
    if message.qos:
        inside += NUMBER_BYTES
    if mqtt5:
        inside += NO_PROPERTIES
    if mqtt5 and message.correlation:
        inside += CORRELATION_PARTS + len(message.correlation)
    header = 1 + next(count for count in range(1, 5) if inside < 128**count or count == 4)
    return header + inside


class Asked(NamedTuple):
    """The terms that one CONNECT asks for."""

    keepalive: int
    """Seconds."""
    will_qos: int = 1
    will_retain: bool = True


class Terms:
    """The terms that the next CONNECT to one server asks for; less after each refusal that tells so.

    A broker of 3.1.1 that does not take a will with QoS 1, or a retained one, closes without a word. So does
    a broker that just stops. Therefore less that was taken after silence is only believed when more has
    failed once again, right after.
    """

    def __init__(self, keepalive: int) -> None:
        """`keepalive` in seconds is what we would like."""
        self._full = Asked(keepalive)
        self._settled = self._full
        """Asked for as long as nothing speaks against it."""
        self.asked = self._full
        """Asked for by the next CONNECT."""
        self._lower: Asked | None = None
        """Accepted when more was met with silence; more is asked for again now."""

    def refused(self, reason: int) -> bool:
        """The broker refused with this reason; whether it makes sense to ask for less at once."""
        asked = self.asked
        match reason:
            case 155 if asked.will_qos:  # QoS not supported
                lower = asked._replace(will_qos=0)
            case 154 if asked.will_retain:  # retain not supported
                lower = asked._replace(will_retain=False)
            case 2 if asked.keepalive > SHORTEST_KEEPALIVE:
                # mosquitto's answer to MQTT 3.1.1 when it wants to hear from us more often (max_keepalive)
                lower = asked._replace(keepalive=max(SHORTEST_KEEPALIVE, asked.keepalive // 2))
            case _:
                self.asked = self._settled = self._full
                self._lower = None
                return False
        self.asked = self._settled = lower
        return True

    def silent(self) -> None:
        """The broker closed the connection instead of an answer to a CONNECT that has a will."""
        if self._lower is not None:  # more has failed again
            self.asked = self._settled = self._lower
            self._lower = None
        elif self.asked.will_qos:
            self.asked = self.asked._replace(will_qos=0)
        elif self.asked.will_retain:
            self.asked = self.asked._replace(will_retain=False)
        else:
            self.asked = self._settled = self._full

    def accepted(self) -> bool:
        """The broker took it; False when it is to be asked for more once again, to be sure."""
        if self.asked == self._settled:
            self._lower = None
            return True
        self._lower, self.asked = self.asked, self._settled
        return False
