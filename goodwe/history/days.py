"""The facts of a day of one inverter, put together slot by slot. Integers, as they stand in the file."""

from collections.abc import Callable
from typing import NamedTuple

from . import schema
from .gaps import DayPart, Share
from .recorder import GatheredSlot


class DayFacts(NamedTuple):
    """A row of `days` without its key and without the user's correction; see HISTORY.md for the units."""

    source: str
    energy: int | None = None
    """None while no counter has told it."""
    total: int | None = None
    until: int | None = None
    """When both were read."""
    peak: int | None = None
    peak_at: int | None = None
    first: int | None = None
    last: int | None = None
    feeding: int | None = None
    seen: int | None = None
    vac_low: int | None = None
    vac_high: int | None = None
    temp_high: int | None = None


def of_slot(gathered: GatheredSlot) -> DayFacts:
    """The share of a day that lies in a slot."""
    facts = DayFacts(schema.READ, feeding=round(gathered.feeding), seen=round(gathered.feeding))
    if gathered.feeding_until:
        facts = facts._replace(first=round(gathered.feeding_from), last=round(gathered.feeding_until))
    if gathered.last is None:
        return facts
    energy, total = watt_hours(gathered.last.today_kwh), watt_hours(gathered.last.total_kwh)
    facts = facts._replace(energy=energy, total=total, until=int(gathered.last.at))
    facts = facts._replace(temp_high=round(gathered.high["temp"] * 10))
    if gathered.peak_at:
        facts = facts._replace(peak=round(gathered.high["pac"]), peak_at=round(gathered.peak_at))
    grid = gathered.extremes()
    return (
        facts if grid is None else facts._replace(vac_low=round(grid[0] * 10), vac_high=round(grid[1] * 10))
    )


def of_share(share: Share) -> DayFacts:
    """The same of a gap: light that nobody saw."""
    if share.watt_hours <= 0:
        return DayFacts(schema.READ)
    seconds, end = round(share.seconds), round(share.start + share.seconds)
    return DayFacts(schema.READ, first=share.start, last=end, feeding=seconds)


def of_day_part(part: DayPart) -> DayFacts:
    """A day by what the counters say after the fact."""
    return DayFacts(part.source, watt_hours(part.energy_kwh), watt_hours(part.total_kwh))


def merged(old: DayFacts, new: DayFacts, *, highest: bool) -> DayFacts:
    """A day with what came to it. `highest`: its energy never falls; else the last counter is right."""
    energy = new.energy if new.energy is not None else old.energy
    if highest and old.source == new.source and old.energy is not None and energy is not None:
        energy = max(old.energy, energy)
    is_higher = (new.peak or 0) > (old.peak or 0)
    return DayFacts(
        new.source if new.source != schema.SPREAD else old.source,
        energy,
        new.total if new.total is not None else old.total,
        _one(max, old.until, new.until),
        new.peak if is_higher else old.peak,
        new.peak_at if is_higher else old.peak_at,
        _one(min, old.first, new.first),
        _one(max, old.last, new.last),
        _sum(old.feeding, new.feeding),
        _sum(old.seen, new.seen),
        _one(min, old.vac_low, new.vac_low),
        _one(max, old.vac_high, new.vac_high),
        _one(max, old.temp_high, new.temp_high),
    )


def watt_hours(kwh: float) -> int:
    """Energy as days have it."""
    return round(kwh * 1000)


def _one(choose: Callable[[list[int]], int], old: int | None, new: int | None) -> int | None:
    known = [value for value in (old, new) if value is not None]
    return choose(known) if known else None


def _sum(old: int | None, new: int | None) -> int | None:
    return None if old is None and new is None else (old or 0) + (new or 0)
