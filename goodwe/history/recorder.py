"""Readings become slots, and what changes from one to the next becomes events. No clock, no file.

Times are seconds on one line: at first on the loop's clock, since a machine without a clock chip does not
know the date for a while; `date_from` moves all that is held to its place once it is known, and only then
is anything given out. What is given out and could not be written is given back.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..events import Reading, Resting
from ..protocol import fields
from ..protocol.fields import Values
from . import schema
from .dates import SLOT, slot
from .gaps import line
from .schema import BITS, COLUMNS, HIGH, LAST, LOW, MEAN

MOST_SLOTS, MOST_EVENTS = 2000, 1000
"""So many wait at the most for a disk that takes nothing, or for a clock: a week of one inverter."""
MOST_A_DAY = 100
"""Events of one kind about one inverter in 24 hours; then it is said that there are more."""
DAY = 86400.0
BRIDGE = float(SLOT)
"""Seconds between two readings, at least, over which the power is taken to go straight."""

_MEANS = tuple(column.key for column in COLUMNS if column.kind == MEAN)
_LASTS = tuple(column.key for column in COLUMNS if column.kind == LAST)
_SIDES = tuple(column.key for column in COLUMNS if column.kind == LOW)
_GRID = tuple(row.key for row in fields.RUNNING if row.extremes and row.unit == "V")


class Counted(NamedTuple):
    """The power and the counters of a reading."""

    at: float
    power: float
    today_kwh: float
    total_kwh: float


class GatheredSlot:
    """A slot of one inverter, as far as it was seen."""

    def __init__(self, serial: str, start: int) -> None:
        """`serial` of the inverter; `start` of the slot in seconds."""
        self.serial = serial
        self.start = start
        self.readings = 0
        self.watt_hours = 0.0
        self.seen = 0.0
        """Seconds between readings."""
        self.feeding = 0.0
        """Seconds of these with power."""
        self.feeding_from = self.feeding_until = 0.0
        """0 without power."""
        self.first: Counted | None = None
        self.last: Counted | None = None
        self.joined = False
        """True if the time before its first reading has been counted."""
        self.peak_at = 0.0
        self.errors = 0
        self.sums = dict.fromkeys(_MEANS, 0.0)
        self.low: dict[str, float] = {}
        self.high: dict[str, float] = {}
        self.lasts: dict[str, float] = {}

    def add(self, counted: Counted, values: Values) -> None:
        """Take a reading."""
        self.readings += 1
        self.first = self.first or counted
        self.last = counted
        number = fields.number
        for key in _MEANS:
            self.sums[key] += number(values, key)
        if counted.power > self.high.get("pac", 0.0):
            self.peak_at = counted.at
        for key in _SIDES:
            value = number(values, key)
            self.low[key] = min(value, self.low.get(key, value))
            self.high[key] = max(value, self.high.get(key, value))
        for key in _LASTS:
            self.lasts[key] = number(values, key)
        self.errors |= int(number(values, fields.ERRORS))

    def add_energy(self, watt_hours: float, start: float, end: float) -> None:
        """Take the energy between two moments of this slot."""
        self.watt_hours += watt_hours
        self.seen += end - start
        if watt_hours > 0:
            self.feeding += end - start
            self.feeding_from = self.feeding_from or start
            self.feeding_until = end

    def moved(self, by: float) -> "GatheredSlot":
        """The same, so many seconds later, in the slot that most of it then lies in."""
        start = slot(self.start + by + SLOT / 2)
        other = GatheredSlot(self.serial, start)
        other.__dict__.update(self.__dict__, start=start)
        other.first, other.last = _moved(self.first, by), _moved(self.last, by)
        for key in ("feeding_from", "feeding_until", "peak_at"):
            setattr(other, key, getattr(self, key) + by if getattr(self, key) else 0.0)
        return other

    def row(self) -> tuple[int | None, ...]:
        """The columns of schema.COLUMNS, scaled; null in a slot without a reading."""
        if not self.readings:
            return (None,) * len(COLUMNS)
        sides: dict[str, Mapping[str, float]] = {LOW: self.low, HIGH: self.high, LAST: self.lasts}
        row: list[int] = []
        for _, key, kind, scale in COLUMNS:
            if kind == MEAN:
                row.append(round(self.sums[key] / self.readings * scale))
            else:
                row.append(self.errors if kind == BITS else round(sides[kind][key] * scale))
        return tuple(row)

    def extremes(self, keys: Iterable[str] = _GRID) -> tuple[float, float] | None:
        """The lowest and the highest of the grid voltages that are there at all; None without one."""
        low = [self.low[key] for key in keys if self.high.get(key)]
        high = [self.high[key] for key in keys if self.high.get(key)]
        return (min(low), max(high)) if low else None


class Happened(NamedTuple):
    """An event, on its way to the file."""

    at: float
    serial: str
    """Empty for what concerns the program."""
    kind: str
    code: int | None
    text: str


class Faults(NamedTuple):
    """All error bits that are set from now on; the file knows which of them are new."""

    at: float
    serial: str
    bits: frozenset[int]


class Facts(NamedTuple):
    """An inverter itself."""

    phases: int
    model: str = ""
    firmware: str = ""


class Batch(NamedTuple):
    """All that is to be written in one transaction."""

    slots: list[GatheredSlot]
    resting: list[tuple[str, Counted]]
    """Counters of inverters that were last read before this run of the program, if those know more."""
    events: list[Happened | Faults]
    inverters: dict[str, Facts]


class _Window(NamedTuple):
    """A day in which something happens again and again."""

    since: float
    times: int


class _Followed:
    """One inverter, from reading to reading."""

    def __init__(self) -> None:
        self.facts = Facts(1)
        self.last: Counted | None = None
        """Its last reading in this run of the program."""
        self.rested = False
        """True if its counters of an earlier run were told."""
        self.errors: int | None = None
        self.mode: float | None = None
        self.away: bool | None = None
        """None as long as nothing was heard of it."""


class Recorder:
    """Takes what outputs are told, and gives out batches."""

    def __init__(self, bridge: float = BRIDGE) -> None:
        """`bridge` is the time in seconds between two readings over which the power goes straight."""
        self._bridge = max(BRIDGE, bridge)
        self._seen: dict[str, _Followed] = {}
        self._open: dict[tuple[str, int], GatheredSlot] = {}
        self._slots: list[GatheredSlot] = []
        """They are to be written."""
        self._resting: list[tuple[str, Counted]] = []
        self._events: list[Happened | Faults] = []
        self._told: dict[tuple[str, str, int | str], _Window] = {}
        """Serial, kind and code, or for a refusal its reason, to how often that was told."""
        self.lost = 0
        """Slots and events that were too many."""

    @property
    def waits(self) -> bool:
        """True if there is anything to be given out, now or when its slot ends."""
        return bool(self._open or self._slots or self._resting or self._events)

    @property
    def waiting(self) -> int:
        """How many slots that have ended, and events, are to be given out."""
        return len(self._slots) + len(self._events)

    def until_slot_ends(self, now: float) -> float:
        """Seconds until the oldest slot that is open has ended; negative if the clock has gone past that."""
        oldest = min((start for _, start in self._open), default=slot(now))
        return oldest + SLOT - now

    @property
    def news(self) -> bool:
        """True if an event waits."""
        return bool(self._events)

    def serials(self) -> list[str]:
        """The inverters that were read in this run."""
        return [serial for serial, seen in self._seen.items() if seen.last is not None]

    def reading(self, reading: Reading, at: float) -> None:
        """Take a good reading, received at that time."""
        serial, values = reading.serial, reading.values
        seen = self._seen.setdefault(serial, _Followed())
        seen.facts = seen.facts._replace(phases=reading.inverter_type)
        number = fields.number
        counted = Counted(at, number(values, "pac"), number(values, "eDay"), number(values, "eTotal"))
        before, seen.last = seen.last, counted
        joined = before is not None and 0 <= at - before.at <= self._bridge
        if joined and before is not None and at > before.at:
            for part in line(before.at, at, max(0.0, before.power), max(0.0, counted.power)):
                start = max(before.at, float(part.start))
                self._slot(serial, part.start).add_energy(part.watt_hours, start, start + part.seconds)
        gathered = self._slot(serial, slot(at))
        gathered.joined = joined if gathered.first is None else gathered.joined
        gathered.add(counted, values)
        self._changes(serial, seen, values, at)

    def resting(self, resting: Resting) -> None:
        """Take the counters of an inverter that is away; `when` must be a time of day."""
        seen = self._seen.setdefault(resting.serial, _Followed())
        if seen.last is None and not seen.rested:
            seen.rested = True
            total = fields.number(resting.values, "eTotal")
            self._resting.append((resting.serial, Counted(resting.when, 0.0, 0.0, total)))

    def info(self, serial: str, values: Values) -> None:
        """Take what an inverter says of itself."""
        seen = self._seen.setdefault(serial, _Followed())
        model, firmware = str(values.get("modelName", "")), str(values.get("firmwareVersion", ""))
        seen.facts = seen.facts._replace(model=model, firmware=firmware)

    def away(self, serial: str, reason: str, at: float) -> None:
        """Take that an inverter is gone."""
        seen = self._seen.setdefault(serial, _Followed())
        if not seen.away:
            seen.away = True
            self._event(Happened(at, serial, schema.AWAY, None, reason))

    def refused(self, serial: str, reason: str, detail: str, at: float) -> None:
        """Take that a reading could not be believed: the first of its kind in 24 hours is an event."""
        if serial in self._seen and self._times(serial, schema.REFUSED, reason, at) == 1:
            self._keep(Happened(at, serial, schema.REFUSED, None, f"{reason} ({detail})"))

    def happened(self, kind: str, code: int | None, text: str, serial: str, at: float) -> None:
        """Take something else that has happened, of one of the kinds of schema.py."""
        self._event(Happened(at, serial, kind, code, text))

    def _event(self, event: Happened) -> None:
        times = self._times(event.serial, event.kind, event.code or 0, event.at)
        if times == MOST_A_DAY:
            event = event._replace(text=f"{event.text}; no more of these for a day".lstrip("; "))
        if times <= MOST_A_DAY:
            self._keep(event)

    def date_from(self, offset: float) -> None:
        """All that is held was so many seconds later: on the clock of the world."""
        moved = [gathered.moved(offset) for gathered in [*self._slots, *self._open.values()]]
        self._slots = []
        self._open = {}
        for gathered in moved:
            key = gathered.serial, gathered.start
            if key in self._open:  # two that began in one slot; the file puts them together
                self._slots.append(self._open[key])
            self._open[key] = gathered
        self._events = [event._replace(at=event.at + offset) for event in self._events]
        for seen in self._seen.values():
            seen.last = _moved(seen.last, offset)
        self._told = {key: _Window(told.since + offset, told.times) for key, told in self._told.items()}

    def close(self, until: float) -> None:
        """No more comes for the slots that have ended by then."""
        for key in [key for key in self._open if key[1] + SLOT <= until]:
            self._slots.append(self._open.pop(key))
        too_many = len(self._slots) - MOST_SLOTS
        if too_many > 0:
            del self._slots[:too_many]
            self.lost += too_many

    def take(self, until: float) -> Batch | None:
        """All that can be written: the slots that have ended by then; None if that is nothing."""
        self.close(until)
        serials = {gathered.serial for gathered in self._slots} | {event.serial for event in self._events}
        facts = {serial: seen.facts for serial, seen in self._seen.items() if serial in serials}
        batch = Batch(self._slots, self._resting, self._events, facts)
        self._slots, self._resting, self._events = [], [], []
        return batch if batch.slots or batch.resting or batch.events else None

    def give_back(self, batch: Batch) -> None:
        """It could not be written: it comes first in the next one."""
        self._slots = [*batch.slots, *self._slots]
        self._resting = [*batch.resting, *self._resting]
        self._events = [*batch.events, *self._events]

    def _slot(self, serial: str, start: int) -> GatheredSlot:
        key = serial, start
        if key not in self._open:
            self._open[key] = GatheredSlot(serial, start)
        return self._open[key]

    def _changes(self, serial: str, seen: _Followed, values: Values, at: float) -> None:
        number = fields.number
        if seen.away is not False:  # the file knows whether it was away when the program ended
            seen.away = False
            self._event(Happened(at, serial, schema.BACK, None, ""))
        errors = int(number(values, fields.ERRORS))
        if errors != seen.errors and self._times(serial, schema.FAULT_ON, errors, at) <= MOST_A_DAY:
            seen.errors = errors
            self._keep(Faults(at, serial, frozenset(fields.set_bits(errors))))
        mode = number(values, "workMode")
        if mode != seen.mode:
            seen.mode = mode
            text = fields.WORK_MODES.get(int(mode), f"mode {int(mode)}")
            self._event(Happened(at, serial, schema.MODE, int(mode), text))

    def _times(self, serial: str, kind: str, code: int | str, at: float) -> int:
        """How often this has happened in the 24 hours since it first did, this time included."""
        told = self._told.get((serial, kind, code))
        if told is None or not 0 <= at - told.since < DAY:
            told = _Window(at, 0)
        self._told[serial, kind, code] = told._replace(times=told.times + 1)
        return told.times + 1

    def _keep(self, event: Happened | Faults) -> None:
        if len(self._events) >= MOST_EVENTS:
            self._events.pop(0)
            self.lost += 1
        self._events.append(event)


def _moved(counted: Counted | None, by: float) -> Counted | None:
    return None if counted is None else counted._replace(at=counted.at + by)
