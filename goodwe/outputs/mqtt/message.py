"""Messages to a broker and from one."""

from typing import NamedTuple

KEPT_TOPICS = ".retained"
"""Ends the name of the file, beside the state, with the topics on which brokers keep something."""

LOW_PRODUCTION = "lowProduction"
ALARM_ENTITIES = ("faultBegan", "faultEnded", LOW_PRODUCTION)
"""Keys of `alarms` (CONTRACT 6) that are entities of Home Assistant."""


class Message(NamedTuple):
    """A message to be published."""

    topic: str
    payload: str
    qos: int = 0
    retain: bool = False
    correlation: bytes = b""
    """Carried by a reply, so that whoever asked recognises it (MQTT 5 only)."""


class Received(NamedTuple):
    """A message that somebody else has published."""

    topic: str
    payload: bytes
    retained: bool
    reply_to: str = ""
    """Topic on which an answer is wanted (MQTT 5 only)."""
    correlation: bytes = b""


class Will(NamedTuple):
    """The message that the broker publishes, retained, with QoS 1, when we are gone without a word."""

    topic: str
    payload: str


def alarms_topic(topic: str) -> str:
    """Where the alarms of an inverter stand, below its own topic."""
    return f"{topic}/alarms"
