"""Power and energy of all inverters together, and whether they are all in it."""

from collections.abc import Callable

import simplejson

from ...events import Happening, Offline, Reading, Remembered, Resting
from ...protocol import fields
from .feature import ALL, Feature, Hub, PublishedInverter
from .message import Message
from .payload import iso_time, milliseconds

SUMMED = {"pac": None, "eDay": 1, "eTotal": 1}
"""Key to the decimals of its sum: whole W, tenths of a kWh."""


class Plant:
    """The inverters that are known. One that is away counts with its totals and makes the sum invalid."""

    def __init__(self, topic: str, wall_clock: Callable[[], float]) -> None:
        """`topic` is the one above the inverters'; `wall_clock` gives seconds since 1970."""
        self._wall_clock = wall_clock
        self._topic = f"{topic}/sum/data"
        self._readings: dict[str, Reading | Resting | None] = {}
        """Serial to its last reading; None for one that has not been read since the start."""
        self._online: set[str] = set()

    def handle(self, event: Happening) -> Message | None:
        """The sum to publish now that this has happened; None if that changes nothing."""
        match event:
            case Remembered(serial):
                self._readings.setdefault(serial, None)
            case Offline(serial) if serial in self._online:
                self._online.discard(serial)
                last = self._readings[serial]
                if last is not None:  # nothing flows there any more
                    self._readings[serial] = last._replace(values={**last.values, "pac": 0})
            case Reading(serial):
                self._readings[serial] = event
                self._online.add(serial)
            case Resting(serial):
                self._readings[serial] = event
                self._online.discard(serial)
            case _:
                return None
        return self._message()

    def forget(self, serial: str) -> None:
        """This inverter is none of the plant any more."""
        self._readings.pop(serial, None)
        self._online.discard(serial)

    def _message(self) -> Message:
        readings = [reading for reading in self._readings.values() if reading is not None]
        missing = sorted(self._readings.keys() - self._online)
        message: dict[str, object] = {
            key: round(sum(fields.number(reading.values, key) for reading in readings), decimals)
            for key, decimals in SUMMED.items()
        }
        message |= {"inverters": len(self._readings), "isValid": not missing, "missing": missing}
        message["lastSeen"] = milliseconds(max((reading.when for reading in readings), default=0.0))
        message["time"] = iso_time(milliseconds(self._wall_clock()))
        return Message(self._topic, simplejson.dumps(message, sort_keys=True, indent=4))


class Sums(Feature):
    """Publishes the sum whenever it changes, and to each new connection."""

    def __init__(self, plant: Plant, hub: Hub) -> None:
        """`plant` adds up, `hub` publishes it."""
        self._plant = plant
        self._hub = hub
        self._last: Message | None = None

    def handle(self, event: Happening) -> None:
        message = self._plant.handle(event)
        if message is not None:
            settings = self._hub.settings
            self._last = message._replace(qos=settings.qos, retain=settings.retain)
            self._hub.publish(ALL, self._last)

    def caught_up(self, inverter: PublishedInverter) -> None:
        if self._last is not None:
            self._hub.publish(ALL, self._last)

    def forget(self, inverter: PublishedInverter) -> None:
        self._plant.forget(inverter.serial)


def make(hub: Hub) -> Sums:
    """The feature, of `sum` in the section [mqtt]."""
    return Sums(Plant(hub.settings.topic, hub.context.wall_clock), hub)
