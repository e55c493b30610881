"""Alarms by what the history has: faults with their times, an inverter that makes too little (CONTRACT 6).

The file is read in a thread, every quarter of an hour and soon after a fault. While it cannot be read, or the
time of day is not known to be right, nothing is said, and what was said expires.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import simplejson

from ...errors import HistoryError
from ...events import Happening, Offline, Reading
from ...loop import Worker
from ...protocol import fields, texts
from .feature import Feature, Hub, PublishedInverter
from .message import ALARM_ENTITIES, LOW_PRODUCTION, Message, alarms_topic
from .payload import iso_time, milliseconds

if TYPE_CHECKING:
    from ...history.alarms import Alarms, Judgement

log = logging.getLogger(__name__)

LOOK_EVERY = 900.0
"""Seconds."""
NEWS_AFTER = 75.0
"""Seconds after which a fault stands in the history: an event is written within a minute."""

Look = Callable[[float, Mapping[str, float]], Mapping[str, "Alarms"]]
"""All that can be said at a time, in seconds since 1970, by serial; with the kWh that each has made today.
Raises HistoryError."""


class AlarmsFeature(Feature):
    """Looks, and publishes for each inverter what can be said."""

    def __init__(self, look: Look, hub: Hub, worker: Worker) -> None:
        """`look` is called in the thread of `worker`; `hub` publishes."""
        self._look = look
        self._hub = hub
        self._worker = worker
        self._clock = hub.context.loop.clock
        self._due = self._clock() + NEWS_AFTER
        self._errors: dict[str, object] = {}
        """Serial to the error bits of its last reading."""
        self._today: dict[str, tuple[tuple[int, int], float]] = {}
        """Serial to the local day of its last reading, and the kWh of that day."""
        self._said: dict[str, Message] = {}
        self._trouble = ""

    @property
    def deadline(self) -> float:
        return self._due

    def handle(self, event: Happening) -> None:
        match event:
            case Reading(serial):
                self._today[serial] = _day(event.when), fields.number(event.values, "eDay")
                errors = event.values.get(fields.ERRORS)
                if errors != self._errors.get(serial, []):
                    self._soon()
                self._errors[serial] = errors
            case Offline():
                self._soon()

    def _soon(self) -> None:
        self._due = min(self._due, self._clock() + NEWS_AFTER)

    def tick(self, now: float) -> None:
        self._due = now + LOOK_EVERY
        if not self._hub.context.clock_right():
            self._said.clear()
            return
        moment = self._hub.context.wall_clock()
        live = {serial: kwh for serial, (day, kwh) in self._today.items() if day == _day(moment)}
        self._worker.do(partial(self._look, moment, live), self._looked)

    def _looked(self, outcome: Callable[[], Mapping[str, "Alarms"]]) -> None:
        try:
            found = outcome()
        except (HistoryError, OSError) as error:
            if str(error) != self._trouble:
                log.info("no alarms: %s", error)
            self._trouble = str(error)
            self._said.clear()  # a new connection would be told it as if it were known now
            return
        self._trouble = ""
        for serial, inverter in self._hub.inverters.items():
            alarms = found.get(serial)
            inverter.alarms = _known(alarms)
            if alarms is None:
                self._said.pop(serial, None)
                continue
            text = payload(alarms, self._hub.settings.language)
            self._said[serial] = Message(alarms_topic(inverter.topic), text, 1, retain=True)
            self._hub.publish(serial, self._said[serial])

    def caught_up(self, inverter: PublishedInverter) -> None:
        if inverter.serial in self._said:
            self._hub.publish(inverter.serial, self._said[inverter.serial])

    def forget(self, inverter: PublishedInverter) -> None:
        for by_serial in (self._errors, self._today, self._said):
            by_serial.pop(inverter.serial, None)

    def stop(self, now: float) -> None:
        self._worker.finish()

    def close(self) -> None:
        self._worker.finish()

    def status(self, now: float) -> dict[str, Any]:
        return {"said": sorted(self._said), "trouble": self._trouble or None}


def payload(alarms: "Alarms", language: str) -> str:
    """The JSON of CONTRACT 6; moments in the zone of the house, texts of faults in that language."""
    faults = [
        {"code": fault.bit, "text": texts.error(fault.bit, language), "since": _iso(fault.since)}
        for fault in alarms.faults.now
    ]
    verdict = alarms.production
    message = {
        "faults": faults,
        "faultBegan": _iso(alarms.faults.began),
        "faultEnded": _iso(alarms.faults.ended),
        "lowProduction": None if verdict is None else verdict.is_low,
        "production": _production(verdict),
    }
    return simplejson.dumps(message, sort_keys=True, indent=4)


def _production(verdict: "Judgement | None") -> dict[str, Any] | None:
    if verdict is None or verdict.date is None:
        return None
    return {
        "date": verdict.date.isoformat(),
        "days": verdict.days,
        "madeKWh": round(verdict.made_kwh, 1),
        "expectedKWh": round(verdict.expected_kwh, 1),
        "against": verdict.against,
    }


def _known(alarms: "Alarms | None") -> dict[str, bool]:
    """The entities of Home Assistant, and whether there is anything to be known for each."""
    known = dict.fromkeys(ALARM_ENTITIES, alarms is not None)
    known[LOW_PRODUCTION] = alarms is not None and alarms.production is not None
    return known


def _iso(at: float | None) -> str | None:
    return None if at is None else iso_time(milliseconds(at))


def _day(epoch: float) -> tuple[int, int]:
    """Year and day of the year, of seconds since 1970; of a moment that this machine cannot show none."""
    try:
        local = time.localtime(epoch)
    except (OverflowError, OSError, ValueError):
        return 0, 0
    return local.tm_year, local.tm_yday


def make(hub: Hub) -> AlarmsFeature:
    """The feature, of `alarms` in the section [mqtt]."""
    from ...history import alarms
    from ...history.queries import Reader

    path = hub.context.config.history.file

    def look(now: float, live: Mapping[str, float]) -> Mapping[str, "Alarms"]:
        with Reader(path) as history:
            return alarms.look(history, now, live)

    return AlarmsFeature(look, hub, Worker(hub.context.loop.post, "alarms"))
