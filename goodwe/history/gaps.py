"""Energy over time: of two readings, and of a gap in which there was none.

Powers are watts, times seconds since 1970, energies watt-hours; the counters that readings carry are kWh.
A gap that was not seen has no curve, but the counters at its two ends tell its energy: it goes to the days
in which it was made, and to slots along a straight line between what is known of the power at both ends.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import dates
from .dates import SLOT
from .schema import READ, SPREAD

STEP = 0.1
"""kWh by which a counter moves: what was made in a gap is known to that."""
ROUNDING = 0.2
"""kWh that three numbers of one decimal each may differ, and mean that nothing was made."""
MOST_DAYS = 3660
MORNING, EVENING = 8.0, 18.0
"""Hours in which most of a day's energy is made."""
HOUR = 3600.0


class Share(NamedTuple):
    """The part of a stretch of time that lies in one slot."""

    start: int
    """Of the slot."""
    watt_hours: float
    seconds: float


class Known(NamedTuple):
    """An inverter at one moment."""

    at: float
    day: int
    """Number of its local day."""
    power: float
    today_kwh: float
    total_kwh: float


class DayPart(NamedTuple):
    """The energy of a day that no reading of that day has shown."""

    day: int
    energy_kwh: float
    """Of the whole day."""
    total_kwh: float
    """On the counter at its end."""
    source: str


class Filled(NamedTuple):
    """The energy of a gap."""

    parts: list[Share]
    days: list[DayPart]


NOTHING = Filled([], [])


def line(start: float, end: float, first: float, last: float) -> Iterator[Share]:
    """The energy under a straight line of power from `first` to `last`, slot by slot."""
    length = end - start
    at = start
    while at < end:
        slot = dates.slot(at)
        until = min(end, slot + SLOT)
        middle = ((at + until) / 2 - start) / length
        power = first + (last - first) * middle
        yield Share(slot, max(0.0, power) * (until - at) / HOUR, until - at)
        at = until


def fill(before: Known | None, after: Known, midnight: Callable[[int], float]) -> Filled:
    """The energy between two moments without a reading between them; without `before`, since midnight.

    `midnight` gives the beginning of the local day with that number.
    """
    if before is None:
        return Filled(_up(midnight(after.day), after, after.today_kwh), [])
    if before.day == after.day:
        return Filled(_between(before, after), [])
    if before.day > after.day or after.day - before.day > MOST_DAYS:
        return NOTHING
    rest = after.total_kwh - before.total_kwh - after.today_kwh
    earlier = _earlier(before, after, rest, midnight) if rest > ROUNDING else NOTHING
    today = _up(max(midnight(after.day), before.at), after, after.today_kwh)
    return Filled([*earlier.parts, *today], earlier.days)


def _between(before: Known, after: Known) -> list[Share]:
    """By the counter, which knows it to a step, and within that by the power at both ends."""
    grown = max(0.0, after.today_kwh - before.today_kwh)
    parts = list(line(before.at, after.at, before.power, after.power))
    guess = sum(part.watt_hours for part in parts) / 1000
    return _scaled(parts, min(max(guess, grown - STEP), grown + STEP))


def _earlier(before: Known, after: Known, rest: float, midnight: Callable[[int], float]) -> Filled:
    """`rest` kWh were made after `before`, and before the day of `after` began."""
    whole = range(before.day + 1, after.day)
    end = midnight(before.day + 1)
    hour = 24.0 - (end - before.at) / HOUR
    share = min(1.0, max(0.0, (EVENING - hour) / (EVENING - MORNING))) if whole else 1.0
    each = rest / (share + len(whole))
    days = [DayPart(before.day, before.today_kwh + each * share, before.total_kwh + each * share, READ)]
    for day in whole:
        days.append(DayPart(day, each, days[-1].total_kwh + each, SPREAD))
    return Filled(_down(before, end, each * share), days)


def _up(start: float, after: Known, kwh: float) -> list[Share]:
    """From nothing up to the power at the end, as long as that takes, but not before `start`."""
    if kwh <= STEP or start >= after.at:
        return []
    length = 2 * kwh * 1000 / after.power * HOUR if after.power > 0 else after.at - start
    begin = max(start, after.at - length)
    return _scaled(list(line(begin, after.at, *_ends(begin, after.at, kwh, after.power))), kwh)


def _down(before: Known, end: float, kwh: float) -> list[Share]:
    """From the power at the beginning down to nothing, but not after `end`."""
    if kwh <= 0 or before.at >= end:
        return []
    length = 2 * kwh * 1000 / before.power * HOUR if before.power > 0 else end - before.at
    until = min(end, before.at + length)
    first, last = _ends(before.at, until, kwh, before.power)
    return _scaled(list(line(before.at, until, last, first)), kwh)


def _ends(start: float, end: float, kwh: float, power: float) -> tuple[float, float]:
    """The power at the far end and at the near one, which is known, for a line with that energy below it."""
    return max(0.0, 2 * kwh * 1000 * HOUR / (end - start) - power), power


def _scaled(parts: list[Share], kwh: float) -> list[Share]:
    """The same, with that energy in all; without any shape in equal shares."""
    total, seconds = sum(part.watt_hours for part in parts), sum(part.seconds for part in parts)
    if kwh <= 0 or not parts:
        return []
    if total <= 0:
        return [part._replace(watt_hours=kwh * 1000 * part.seconds / seconds) for part in parts]
    return [part._replace(watt_hours=part.watt_hours * kwh * 1000 / total) for part in parts]
