"""Local days, and the slots of five minutes that lie in them.

Every time zone of today is whole quarters of an hour away from UTC, so a slot lies in one local day, and a
day of 23 or 25 hours has 276 or 300 of them.
"""

import datetime
import time
from collections.abc import Callable
from typing import NamedTuple

SLOT = 300
"""Seconds."""
EPOCH = datetime.date(1970, 1, 1).toordinal()
FIRST, LAST = 1 - EPOCH, datetime.date.max.toordinal() - EPOCH
"""Numbers of the first and the last day that there are."""
FIRST_MOMENT, LAST_MOMENT = (FIRST + 3) * 86400, LAST * 86400
"""Seconds since 1970 within which every moment is a date, whatever the time zone."""

LocalTime = Callable[[float], time.struct_time]
"""Seconds since 1970 to local time. Raises OverflowError, OSError or ValueError for what it cannot show."""


class Span(NamedTuple):
    """A stretch of time: from `start` until just before `end`, in seconds since 1970."""

    start: float
    end: float


def number(day: datetime.date) -> int:
    """The number of a day in the file: days since 1970-01-01."""
    return day.toordinal() - EPOCH


def date(number: int) -> datetime.date:
    """The day of a number. Raises ValueError for one that is no day."""
    return datetime.date.fromordinal(number + EPOCH)


def slot(epoch: float) -> int:
    """The start of the slot of a moment, both in seconds since 1970."""
    return int(epoch // SLOT) * SLOT


def day_of(epoch: float, localtime: LocalTime) -> datetime.date | None:
    """The local day of a moment; None for one that this machine cannot show."""
    try:
        local = localtime(epoch)
        return datetime.date(local.tm_year, local.tm_mon, local.tm_mday)
    except (OverflowError, OSError, ValueError):
        return None


def bounds(day: datetime.date) -> Span:
    """The local day from midnight to midnight in the machine's zone: 23, 24 or 25 hours."""
    start = _midnight(day.year, day.month, day.day)
    if day == datetime.date.max:
        return Span(start, start + 86400.0)
    after = day + datetime.timedelta(1)
    return Span(start, _midnight(after.year, after.month, after.day))


def _midnight(year: int, month: int, day: int) -> float:
    try:
        return time.mktime((year, month, day, 0, 0, 0, 0, 0, -1))
    except (OverflowError, ValueError):  # the first years, on some machines
        return (datetime.date(year, month, day).toordinal() - EPOCH) * 86400.0
