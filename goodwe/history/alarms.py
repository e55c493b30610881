"""Alarms by what the history has: too little is made though the sun shines; faults, and since when.

Pure but for `look`, which reads. A day is held against the same weeks of the years before, and against what
the other inverters have made that day. Nothing is said of what cannot be known: an inverter that is new has
no years, a program that did not run has not seen the day. A dark day in winter makes less than the counter
shows; so as many days are taken together as it needs to expect something, up to a week.
"""

import datetime
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from . import dates, schema
from .dates import LocalTime, Span
from .queries import DayRow, EventRow, Reader, chain

SEASON, NEIGHBOURS = "season", "neighbours"
"""Against which a day is held: the same weeks of other years, or the other inverters."""
SHARE = {SEASON: 0.05, NEIGHBOURS: 0.3}
"""Less than this of what is expected is an alarm. The darkest day of a season has more than a twentieth of
its median; inverters beside each other differ, but have the same sky."""
LEAST = 0.2
"""kWh that this share must come to, at least: the counter has one decimal."""
MOST_DAYS = 7
AROUND, YEARS = 10, 5
"""The same weeks: so many days before and after this one, in so many years."""
ENOUGH_DAYS = 14
"""Of these must be known."""
COMPARED, ENOUGH_COMPARED = 60, 10
"""Days on which two inverters are compared to know how they differ, and how many of them must be known."""
WATCHED = 0.7
"""The share of the light in which the program has to have run."""
LATE = 0.75
"""The share of the light after which a day that goes on is held against others."""
FAULTS_SINCE, MOST_FAULTS = 400 * 86400.0, 1000
"""How far back, in seconds and in events, is looked for faults."""


class Made(NamedTuple):
    """The energy of an inverter on one day, and its light in seconds since midnight."""

    kwh: float
    first: float | None = None
    last: float | None = None


Roof = Mapping[datetime.date, Made]
"""The days of one inverter and of those that it has replaced."""


class Daylight(NamedTuple):
    """From when until when there is light in these weeks, in seconds since midnight."""

    first: float
    last: float

    def passed(self, second: float) -> float:
        """The share of it that has passed at that second of the day: 0 to 1."""
        return min(1.0, max(0.0, (second - self.first) / max(1.0, self.last - self.first)))


class Present(NamedTuple):
    """The time of the judgement."""

    now: float
    """Seconds since 1970."""
    today: datetime.date
    watched: Sequence[Span]
    """When the program ran."""


class Judgement(NamedTuple):
    """The judgement of what an inverter makes."""

    is_low: bool | None
    """None while it cannot be told: too little of the day was watched."""
    against: str
    date: datetime.date | None = None
    """The day that was judged, or the last one of several."""
    days: int = 0
    made_kwh: float = 0.0
    expected_kwh: float = 0.0


class Fault(NamedTuple):
    """A fault that is there."""

    bit: int
    since: float
    """Seconds since 1970."""


class FaultTimes(NamedTuple):
    """The faults of an inverter."""

    now: list[Fault]
    began: float | None
    """When the last one began, in seconds since 1970; None without any."""
    ended: float | None
    """When the last one ended; None while there is one, and without any."""


class Alarms(NamedTuple):
    """All that can be said of one inverter."""

    faults: FaultTimes
    production: Judgement | None
    """None where it cannot be known: no years, no neighbours."""


# --- production


def roof(rows: Iterable[DayRow]) -> Roof:
    """The days of inverters that stood in one place one after the other."""
    made: dict[datetime.date, Made] = {}
    for row in rows:
        midnight = dates.bounds(row.date).start
        first, last = (None if at is None else at - midnight for at in (row.first_light, row.last_light))
        before = made.get(row.date)
        if before is not None:  # both on the day of the replacement
            first = before.first if first is None else min(first, before.first or first)
            last = before.last if last is None else max(last, before.last or last)
        made[row.date] = Made(row.energy_kwh + (before.kwh if before else 0.0), first, last)
    return made


def production(serial: str, roofs: Mapping[str, Roof], moment: Present) -> Judgement | None:
    """Judge an inverter by its own days and those of the others, by serial; None if it cannot be known."""
    own = roofs[serial]
    light = _light(roofs.values(), moment.today)
    ratios = _ratios(own, [other for key, other in roofs.items() if key != serial], moment.today)
    verdicts = []
    if ratios:
        verdicts.append(_judged(NEIGHBOURS, own, lambda day: _beside(ratios, day), light, moment))
    if _usual(own, moment.today) is not None:
        verdicts.append(_judged(SEASON, own, lambda day: _in_season(own, day, light, moment), light, moment))
    return max(verdicts, key=lambda one: (one.is_low is True, one.is_low is not None), default=None)


def _judged(
    against: str,
    own: Roof,
    expected: Callable[[datetime.date], float | None],
    light: Daylight | None,
    moment: Present,
) -> Judgement:
    """Hold today against what is expected, if enough of it has passed or been made, else the day before."""
    today = expected(moment.today) or 0.0
    made = _kwh(own, moment.today)
    if SHARE[against] * today >= LEAST and made >= SHARE[against] * today:
        return Judgement(False, against, moment.today, 1, made, today)
    is_late = light is not None and light.passed(_second(moment)) >= LATE
    last = moment.today if is_late else moment.today - datetime.timedelta(1)
    made = sum_expected = 0.0
    for count in range(MOST_DAYS):
        day = last - datetime.timedelta(count)
        one = expected(day)
        if one is None or not _was_watched(day, light, moment):
            break
        made += _kwh(own, day)
        sum_expected += one
        if SHARE[against] * sum_expected >= LEAST:
            is_low = made < SHARE[against] * sum_expected
            return Judgement(is_low, against, last, count + 1, made, sum_expected)
    return Judgement(None, against)


def _in_season(own: Roof, day: datetime.date, light: Daylight | None, moment: Present) -> float | None:
    """kWh of that day by the same weeks of other years; of today what would have been made by now."""
    usual = _usual(own, day)
    if usual is None or day != moment.today:
        return usual
    passed = 0.0 if light is None else light.passed(_second(moment))
    return usual * (1 - math.cos(math.pi * passed)) / 2


def _usual(own: Roof, day: datetime.date) -> float | None:
    known = [own[one].kwh for one in _same_weeks(day) if one in own]
    return median(known) if len(known) >= ENOUGH_DAYS else None


def _same_weeks(day: datetime.date) -> Iterable[datetime.date]:
    for years in range(1, YEARS + 1):
        middle = _years_before(day, years)
        yield from (middle + datetime.timedelta(n) for n in range(-AROUND, AROUND + 1))


def _years_before(day: datetime.date, years: int) -> datetime.date:
    month_day = (2, 28) if (day.month, day.day) == (2, 29) else (day.month, day.day)
    return datetime.date(day.year - years, *month_day)


def _ratios(own: Roof, others: Iterable[Roof], today: datetime.date) -> list[tuple[float, Roof]]:
    """The other inverters, each with how many times its energy this one usually makes."""
    days = [today - datetime.timedelta(n) for n in range(1, COMPARED + 1)]
    found = []
    for other in others:
        both = [day for day in days if min(_kwh(own, day), _kwh(other, day)) >= LEAST]
        if len(both) >= ENOUGH_COMPARED:
            found.append((median(own[day].kwh / other[day].kwh for day in both), other))
    return found


def _beside(ratios: Iterable[tuple[float, Roof]], day: datetime.date) -> float | None:
    """kWh of that day by what the other inverters have made."""
    found = [ratio * other[day].kwh for ratio, other in ratios if day in other]
    return median(found) if found else None


def _light(roofs: Iterable[Roof], today: datetime.date) -> Daylight | None:
    weeks = [today - datetime.timedelta(n) for n in range(1, AROUND + 1)] + list(_same_weeks(today))
    seen = [own[day] for own in roofs for day in weeks if day in own]
    first = [made.first for made in seen if made.first is not None]
    last = [made.last for made in seen if made.last is not None]
    return Daylight(median(first), median(last)) if len(first) >= ENOUGH_DAYS / 2 and last else None


def _was_watched(day: datetime.date, light: Daylight | None, moment: Present) -> bool:
    bounds = dates.bounds(day)
    start, end = bounds if light is None else (bounds.start + light.first, bounds.start + light.last)
    end = min(end, moment.now)
    ran = sum(max(0.0, min(end, span.end) - max(start, span.start)) for span in moment.watched)
    return end > start and ran >= WATCHED * (end - start)


def _second(moment: Present) -> float:
    return moment.now - dates.bounds(moment.today).start


def _kwh(own: Roof, day: datetime.date) -> float:
    return own[day].kwh if day in own else 0.0


# --- what the program has seen


def watched(events: Iterable[EventRow], read: Iterable[float], window: Span) -> list[Span]:
    """When the program ran, in that window, by its events; one that was killed, until it last saw something.

    `read` are moments at which something was read.
    """
    moments = [(moment, "") for moment in read] + [(event.at, event.kind) for event in events]
    spans: list[Span] = []
    start: float | None = window.start
    last = window.start
    for at, kind in sorted(moments):
        if not window.start <= at < window.end:
            continue
        if kind in (schema.STARTED, schema.STOPPED) and start is not None:
            spans.append(Span(start, at if kind == schema.STOPPED else last))
        if kind in (schema.STARTED, schema.STOPPED):
            start = at if kind == schema.STARTED else None
        last = at
    return spans if start is None else [*spans, Span(start, window.end)]


# --- faults


def fault_times(events: Iterable[EventRow]) -> FaultTimes:
    """The faults, out of those events of one inverter that say so, newest first."""
    newest: dict[int, EventRow] = {}
    for event in events:
        if event.code is not None:
            newest.setdefault(event.code, event)
    there = [Fault(bit, event.at) for bit, event in sorted(newest.items()) if event.kind == schema.FAULT_ON]
    began = max((event.at for event in events if event.kind == schema.FAULT_ON), default=None)
    ended = max((event.at for event in events if event.kind == schema.FAULT_OFF), default=None)
    return FaultTimes(there, began, None if there else ended)


# --- reading


def look(
    history: Reader, now: float, live: Mapping[str, float], localtime: LocalTime = time.localtime
) -> dict[str, Alarms]:
    """All that can be said at `now`, in seconds since 1970, by the serials of those that none has replaced.

    `live` is what inverters have made today in kWh, as they say themselves. Raises HistoryError.
    """
    today = dates.day_of(now, localtime)
    inverters = history.inverters()
    rows = list(_rows(history, today)) if today is not None and today.year > YEARS else []
    roofs: dict[str, Roof] = {}
    for inverter in inverters:
        if not inverter.replaced_by:
            serials = chain(inverters, inverter.serial)
            roofs[inverter.serial] = roof(row for row in rows if row.serial in serials)
    found = {}
    for serial, own in roofs.items():
        if today is not None and live.get(serial, 0.0) > _kwh(own, today):
            roofs[serial] = {**own, today: own.get(today, Made(0.0))._replace(kwh=live[serial])}
    moment = None if today is None else Present(now, today, _watched(history, rows, now))
    for serial in roofs:
        kinds = (schema.FAULT_ON, schema.FAULT_OFF)
        events = history.events(now - FAULTS_SINCE, now + 1, kinds=kinds, serial=serial, most=MOST_FAULTS)
        verdict = production(serial, roofs, moment) if moment is not None else None
        found[serial] = Alarms(fault_times(events), verdict)
    return found


def _rows(history: Reader, today: datetime.date) -> Iterable[DayRow]:
    """The days that `production` looks at."""
    yield from history.days(today - datetime.timedelta(COMPARED + MOST_DAYS), today)
    for years in range(1, YEARS + 1):
        middle = _years_before(today, years)
        first, last = middle - datetime.timedelta(AROUND + MOST_DAYS), middle + datetime.timedelta(AROUND)
        yield from history.days(first, last)


def _watched(history: Reader, rows: Iterable[DayRow], now: float) -> list[Span]:
    window = Span(now - (MOST_DAYS + 1) * 86400.0, now)
    read = [at for row in rows for at in (row.first_light, row.last_light, row.peak_at) if at is not None]
    return watched(history.events(*window), read, window)
