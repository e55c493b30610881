"""What can happen: on a wire, in the order in which it happened; and what outputs are told of it."""

from typing import NamedTuple

from .protocol.fields import Values
from .protocol.frame import Frame


class Send(NamedTuple):
    """This frame is to be written now."""

    frame: Frame


class Found(NamedTuple):
    """An inverter has asked for an address and is given this one."""

    serial: str
    address: int


class Online(NamedTuple):
    """The inverter has confirmed its address; the queries begin."""

    serial: str
    address: int


class Reading(NamedTuple):
    """A good answer to the running-info query."""

    serial: str
    address: int
    inverter_type: int
    """1 single-phase, 3 three-phase."""
    values: Values
    when: float = 0.0
    """Seconds since 1970 of reception; stamped where the reading leaves the link."""
    clock: str = ""
    """What the inverter's own clock shows, as 2026-11-23T06:00:00; empty where the answer has none."""


class Resting(NamedTuple):
    """What is to be said of an inverter that is away: nothing flows, its totals stand."""

    serial: str
    address: int
    inverter_type: int
    """1 single-phase, 3 three-phase."""
    values: Values
    when: float
    """Seconds since 1970 of its last good reading."""
    said: float
    """Seconds since 1970 of the moment that this speaks of."""


class Answer(NamedTuple):
    """The answer to a question that was asked besides the readings."""

    serial: str
    question: str
    """Name of the frame that asked, such as query_id_info."""
    data: bytes


class Unanswered(NamedTuple):
    """A question that was asked besides the readings, in vain."""

    serial: str
    question: str


class Info(NamedTuple):
    """What an inverter says about itself."""

    serial: str
    kind: str
    """idInfo or settingInfo, the key under which it is published."""
    values: Values


class Offline(NamedTuple):
    """The inverter is known to be away."""

    serial: str
    address: int
    reason: str


class Remembered(NamedTuple):
    """An inverter that was read before the program started, and is not here yet."""

    serial: str
    inverter_type: int = 1
    """1 single-phase, 3 three-phase."""


class Refused(NamedTuple):
    """Bytes that count as bad input: under which reason, what of them, how many times."""

    reason: str
    detail: str
    times: int = 1


Happening = Found | Online | Reading | Resting | Offline | Remembered | Info | Answer | Unanswered
"""What an output is told of; the rest of the events stays on the wire."""

Event = Send | Found | Online | Reading | Offline | Refused | Answer | Unanswered
