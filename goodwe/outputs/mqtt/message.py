"""What goes to a broker, and what comes from one."""

from typing import NamedTuple


class Message(NamedTuple):
    """What is to be published."""

    topic: str
    payload: str
    qos: int = 0
    retain: bool = False
    correlation: bytes = b""
    """What a reply carries so that its asker knows it (MQTT 5 only)."""


class Received(NamedTuple):
    """What somebody else has published."""

    topic: str
    payload: bytes
    retained: bool
    reply_to: str = ""
    """Topic on which an answer is wanted (MQTT 5 only)."""
    correlation: bytes = b""
