"""Axes: where the lines stand, and what is written beside them. JsonObject numbers in, plain numbers out."""

import math
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import NamedTuple

QUARTER = 900
"""Seconds; every time zone is a whole number of these away from UTC."""
HOUR_STEPS = (1, 2, 3, 4, 6, 12)
DAY = 86_400


class Tick(NamedTuple):
    """A place on an axis."""

    at: float
    label: str


class Scale(NamedTuple):
    """A straight way from values to places on the drawing."""

    low: float
    high: float
    first: float
    """The place of `low`."""
    last: float
    """The place of `high`."""

    def place(self, value: float) -> float:
        """Where on the drawing `value` stands; what is outside stands at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)


def round_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5, 10, 20 ... and their tenths that needs at most `most` steps for `span`."""
    if not span > 0:
        return 1.0
    tens = 10.0 ** math.floor(math.log10(span / most))
    return next(tens * factor for factor in (1, 2, 5, 10, 20) if span <= tens * factor * most * (1 + 1e-9))


def round_ends(low: float, high: float, most: int) -> tuple[float, float, float]:
    """Round numbers around `low` and `high`, and the step between two lines of at most `most` + 1."""
    step = round_step(high - low, most)
    first, last = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return first, last if last > first else first + step, step


def decimals(step: float) -> int:
    """Digits behind the point that numbers in steps of `step` need."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def marks(low: float, high: float, step: float) -> list[float]:
    """`low`, and every `step` up to `high`."""
    return [low + number * step for number in range(round((high - low) / step) + 1)]


def hours(start: float, end: float, most: int, zone: tzinfo | None) -> list[Tick]:
    """Full hours between two moments (seconds since 1970), at most `most` and both ends.

    In `zone`, None for that of the machine. A day of summer time that has 23 or 25 hours shows them where
    they are; an hour that comes twice stands there twice.
    """
    span = (end - start) / 3600
    step = next((step for step in HOUR_STEPS if span / step <= most), 24)
    return [
        Tick(moment, f"{local.hour or (24 if moment == end else 0):02}")
        for moment, local in _quarters(start, end, zone)
        if not local.minute and not local.hour % step
    ]


def _quarters(start: float, end: float, zone: tzinfo | None) -> Iterator[tuple[float, datetime]]:
    moment = math.ceil(start / QUARTER) * QUARTER
    while moment <= end:
        yield moment, datetime.fromtimestamp(moment, zone)
        moment += QUARTER
