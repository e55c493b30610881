"""`history check`: is the file whole, do its sums agree, what is missing. Nothing is changed."""

import datetime
from collections.abc import Iterator, Sequence
from itertools import pairwise

from . import schema
from .queries import DayRow, Reader

SHARE, LEAST = 0.15, 0.5
"""The curve of a day may differ by this share from its counter, or by so many kWh; the counter by as many."""


def findings(reader: Reader, today: datetime.date) -> Iterator[str]:
    """Each thing that a person may want to know, in a line."""
    for damage in reader.damages():
        yield f"the file is damaged: {damage}"
    days = reader.days(datetime.date.min, datetime.date.max)
    counted = {(day.serial, day.date): day.counted_kwh for day in days}
    for inverter in reader.inverters():
        own = [day for day in days if day.serial == inverter.serial]
        for told in (*_future(own, today), *_missing(own), *_unseen(own), *_apart(own)):
            yield f"{inverter.serial}: {told}"
    for serial, date, made in reader.curves():
        kwh = counted.get((serial, date), 0.0)
        if abs(made - kwh) > max(LEAST, SHARE * kwh):
            yield f"{serial}: {date} has a curve of {made:.1f} kWh, and the counter says {kwh:.1f} kWh"


def _future(days: Sequence[DayRow], today: datetime.date) -> Iterator[str]:
    for day in days:
        if day.date > today and day.energy_kwh:
            yield f"{day.date} is in the future; `history correct {day.date} 0` takes its energy away"


def _missing(days: Sequence[DayRow]) -> Iterator[str]:
    for one, other in pairwise(days):
        count = (other.date - one.date).days - 1
        if count > 0:
            first, last = one.date + datetime.timedelta(1), other.date - datetime.timedelta(1)
            yield f"nothing of {first}" if count == 1 else f"nothing of {first} to {last}, {count} days"


def _unseen(days: Sequence[DayRow]) -> Iterator[str]:
    unseen = [day.date for day in days if day.source == schema.SPREAD]
    if unseen:
        yield f"{len(unseen)} days have a share of what nobody saw, {unseen[0]} the first of them"


def _apart(days: Sequence[DayRow]) -> Iterator[str]:
    """Days on which the counter has not grown by what they have."""
    counters = [(day, day.total_kwh) for day in days if day.total_kwh is not None]
    for (one, before), (day, after) in pairwise(counters):
        grown = after - before
        if grown < 0:
            yield f"the counter fell from {before:.1f} to {after:.1f} kWh on {day.date}"
        elif (day.date - one.date).days == 1 and abs(grown - day.counted_kwh) > LEAST:
            yield f"{day.date} has {day.counted_kwh:.1f} kWh, and the counter grew by {grown:.1f} kWh"
