"""The events of a wire, in the order in which they happen, and those of them that outputs are told of."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

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
    """The inverter's own clock, as 2026-11-23T06:00:00; empty where the answer has none."""


class Resting(NamedTuple):
    """An inverter that is away, as it is published: nothing flows, its totals stand."""

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
    """Facts about an inverter that it has told itself."""

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


Outcome = Answer | Unanswered
"""How a question ended."""


class RefusedReading(NamedTuple):
    """A reading that cannot be true, and is not published: under which reason, and what is wrong with it."""

    serial: str
    reason: str
    detail: str


class Instructed(NamedTuple):
    """An inverter was told how much it may feed, and has taken it."""

    serial: str
    per_cent: int
    """0 also for one that was stopped, 100 for one that was started."""
    text: str


class Reply(NamedTuple):
    """A question has ended: whoever asked is to be told."""

    answered: Callable[[Outcome], object]
    outcome: Outcome


class Ask(Protocol):
    """Puts a question to an inverter."""

    def __call__(
        self,
        serial: str,
        question: str,
        data: bytes = b"",
        *,
        urgent: bool = False,
        answered: Callable[[Outcome], object],
    ) -> bool:
        """`answered` is called with what comes of it. False, and it is not, if the inverter is away.

        An urgent question takes the next turn. Any other waits for a pause between two readings, and is
        forgotten without a call when the inverter goes away before.
        """


class Entered(NamedTuple):
    """The wire's bus is in another state now."""

    state: str
    """By its name."""


Happening = Found | Online | Reading | Resting | Offline | Remembered | Info | RefusedReading | Instructed
"""The events that an output is told of; the rest stays on the wire. Each output passes over what it does not
know."""

Event = Send | Found | Online | Reading | Offline | Refused | Reply | Entered
