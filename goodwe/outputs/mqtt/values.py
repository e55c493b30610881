"""One topic for each value, for those who want plain numbers: published when they change (CONTRACT 6)."""

from typing import TYPE_CHECKING

from ...events import Reading, Resting
from ...protocol import fields
from ...protocol.fields import Field
from .feature import Feature, Hub, PublishedInverter
from .message import Message

if TYPE_CHECKING:
    from .settings import MqttSettings


ROUNDING = 1e-6
"""50.02 - 50.0 is a little more than 0.02."""


class PublishedValues:
    """The values of one inverter as last published. Times are seconds on a clock that only grows."""

    def __init__(self, topic: str, settings: "MqttSettings", interval: float = 0.0) -> None:
        """`topic` is that of the inverter; each value stands below it under its key.

        `settings` say how they are published, and how much a value has to change for it; readings come every
        `interval` seconds, about.
        """
        self._topic = topic
        self._settings = settings
        # An answer that is a little quicker than the one before must not cost a whole interval: it is the
        # reading nearest to the time.
        self._heartbeat = settings.valuesheartbeat - interval / 2
        self._sent: dict[str, tuple[float, float]] = {}
        """Key to the number that was published last, and when."""

    def forget(self) -> None:
        """Subscribers may have lost the values: all are new again."""
        self._sent.clear()

    def messages(self, reading: Reading | Resting, now: float) -> list[Message]:
        """A message for each value that left its dead band, or was not published for long."""
        messages = []
        for row in fields.sent_rows(fields.RUNNING, reading.inverter_type):
            number = fields.number(reading.values, row.key)
            if self._is_news(row, number, now):
                self._sent[row.key] = number, now
                topic = f"{self._topic}/{row.key}"
                messages.append(
                    Message(topic, repr(number), self._settings.valuesqos, self._settings.valuesretain)
                )
        return messages

    def _is_news(self, row: Field, number: float, now: float) -> bool:
        if row.key not in self._sent:
            return True
        sent, when = self._sent[row.key]
        # 0 is always exact: a power of 3 W that has gone is not 3 W.
        moved = abs(number - sent) > row.dead_band + ROUNDING or (number == 0 != sent)
        return moved or now - when >= self._heartbeat


class ValueTopics(Feature):
    """Publishes behind each reading which of its values have changed."""

    def __init__(self, hub: Hub) -> None:
        """`hub` is what surrounds the feature."""
        self._hub = hub
        self._clock = hub.context.loop.clock
        self._by_serial: dict[str, PublishedValues] = {}

    def renew(self, inverter: PublishedInverter) -> None:
        self._by_serial.pop(inverter.serial, None)

    forget = renew

    def published(self, inverter: PublishedInverter, reading: Reading | Resting) -> None:
        interval = self._hub.context.config.inverter.pollinterval / 1000
        values = self._by_serial.setdefault(
            inverter.serial, PublishedValues(inverter.topic, self._hub.settings, interval)
        )
        for message in values.messages(reading, self._clock()):
            if not self._hub.pool.publish(inverter.serial, message):
                values.forget()  # with the next reading all of them again
                return


def make(hub: Hub) -> ValueTopics:
    """The feature, of `values` in the section [mqtt]."""
    return ValueTopics(hub)
