"""Everything that the page shows as plain JSON values, which `/api` and the CSV files hand out as well.

Moments are seconds since 1970 (`*_epoch`) and local days (`date`). What is not known is null.
"""

import calendar
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...history import dates
from ...history.queries import (
    BY_DAY,
    BY_MONTH,
    BY_YEAR,
    DayRow,
    EventRow,
    InverterRow,
    Reader,
    SlotRow,
    SumRow,
)
from ...protocol import fields, texts
from .latest import Seen

FRESH = 180.0
"""Seconds after which a reading of an inverter that is said to be there is told to be old."""

JsonObject = Mapping[str, Any]
"""A JSON object."""


class Quantity(NamedTuple):
    """Something that a day's curve can show."""

    name: str
    """Also in the address of the page."""
    keys: tuple[str, ...]
    """Of the running info; those of one kind that an inverter can have."""
    unit: str
    digits: int = 1
    """Behind the point, where a single value is told."""
    from_zero: bool = False


POWER = Quantity("power", ("pac",), "W", digits=0, from_zero=True)
QUANTITIES = (
    POWER,
    Quantity("grid voltage", ("vac1", "vac2", "vac3"), "V"),
    Quantity("PV voltage", ("vpv1", "vpv2"), "V"),
    Quantity("temperature", ("temp",), "°C"),
    Quantity("frequency", ("fac1", "fac2", "fac3"), "Hz", digits=2),
)


def now(
    inverters: Mapping[str, Seen],
    names: Mapping[str, str],
    before: Mapping[str, float | None],
    at: float,
    language: str,
) -> JsonObject:
    """This moment: each inverter, and all together. `names` are the user's, by serial.

    `before` is what `before()` gives: the total of an inverter goes on where the one that it has replaced
    left off, and that one is no row of its own any more, unless it is there.
    """
    rows = []
    for serial, seen in sorted(inverters.items()):
        made = before.get(serial, 0.0)
        if made is not None:
            rows.append(_inverter(serial, seen, names, made, at, language))
        elif seen.online:
            rows.append(_inverter(serial, seen, names, 0.0, at, language))
    known = [row for row in rows if row["today_kwh"] is not None]
    return {
        "at_epoch": at,
        "power_watts": sum(row["power_watts"] for row in rows if row["power_watts"] is not None),
        "rated_watts": sum(row["rated_watts"] or 0 for row in rows) or None,
        "today_kwh": round(sum(row["today_kwh"] for row in known), 1) if known else None,
        "total_kwh": round(sum(row["total_kwh"] for row in known), 1) if known else None,
        "inverters": rows,
    }


def _inverter(
    serial: str, seen: Seen, names: Mapping[str, str], before: float, at: float, language: str
) -> JsonObject:
    values = seen.values
    total = _number(values, "eTotal")
    awake = seen.online and values is not None
    mode = values.get("workMode") if values is not None and awake else None
    faults = values.get("errorMessage") if values is not None and awake else None
    return {
        "serial": serial,
        "name": names.get(serial) or serial,
        "model": seen.model or None,
        "firmware": seen.firmware or None,
        "phases": seen.phases,
        "online": seen.online,
        "reason": seen.reason or None,
        "power_watts": _number(values, "pac") if awake else None if values is None else 0,
        "rated_watts": fields.rated_power_of_model(seen.model) or fields.rated_power(serial),
        "today_kwh": _number(values, "eDay"),
        "total_kwh": None if total is None else round(total + before, 1),
        "temperature_celsius": _number(values, "temp") if awake else None,
        "mode": texts.work_mode(mode, language) if isinstance(mode, int) else None,
        "faults": [texts.error(bit, language) for bit in faults] if isinstance(faults, list) else [],
        "strings": [_pair(values, f"vpv{one}", f"ipv{one}") for one in (1, 2)] if awake else [],
        "lines": [_pair(values, f"vac{one}", f"iac{one}") for one in range(1, seen.phases + 1)]
        if awake
        else [],
        "last_reading_epoch": seen.when or None,
        "last_reading_seconds": max(0.0, round(at - seen.when, 1)) if seen.when else None,
    }


def _number(values: Mapping[str, Any] | None, key: str) -> float | None:
    return None if values is None or key not in values else fields.number(values, key)


def _pair(values: Mapping[str, Any] | None, volts: str, amperes: str) -> JsonObject:
    return {"volts": _number(values, volts), "amperes": _number(values, amperes)}


# --- the history


def names(inverters: Iterable[InverterRow]) -> dict[str, str]:
    """Serial to the name that the user has given."""
    return {one.serial: one.name for one in inverters if one.name}


def newest(history: Reader) -> int:
    """The start of the last slot that was read of any inverter, in seconds since 1970; 0 without one."""
    return max((row.slot.start for row in history.latest().values() if row.slot is not None), default=0)


def before(history: Reader, inverters: Sequence[InverterRow]) -> dict[str, float | None]:
    """Serial to the kWh of the inverters that it has replaced; None for one that is replaced itself.

    Without those that have replaced none and are in their place.
    """
    made: dict[str, float | None] = {one.serial: None for one in inverters if one.replaced_by}
    direct: dict[str, float] = {}
    for one in inverters:
        if one.replaced_by:
            kwh = history.total_kwh(one.serial) or 0.0  # with its own predecessors
            direct[one.replaced_by] = direct.get(one.replaced_by, 0.0) + kwh
    return {**direct, **made}


def day(history: Reader, date: datetime.date, serial: str) -> JsonObject:
    """The slots of a local day, and what the day was for each inverter; of one, with `serial`, or of all."""
    serials = history.chain(serial) if serial else None
    slots = [slot for one in serials or [""] for slot in history.slots(date, one)]
    rows = history.days(date, date, serials)
    bounds = dates.bounds(date)
    return {
        "date": date.isoformat(),
        "from_epoch": bounds.start,
        "to_epoch": bounds.end,
        "energy_kwh": round(sum(row.energy_kwh for row in rows), 3) if rows else None,
        "days": [_day(row) for row in rows],
        "slots": [_slot(slot) for slot in slots],
    }


def _day(row: DayRow) -> JsonObject:
    told = row._asdict()
    moments = {f"{key}_epoch": told.pop(key) for key in ("first_light", "last_light")}
    return {**told, "date": row.date.isoformat(), "peak_epoch": told.pop("peak_at"), **moments}


def _slot(slot: SlotRow) -> JsonObject:
    return {
        "from_epoch": slot.start,
        "time": datetime.datetime.fromtimestamp(slot.start).astimezone().isoformat(),
        "serial": slot.serial,
        "readings": slot.readings,
        "energy_kwh": round(slot.energy_kwh, 4),
        **slot.values,
        **{f"{key}_low": value for key, value in slot.low.items()},
        **{f"{key}_high": value for key, value in slot.high.items()},
    }


def period(history: Reader, kind: str, date: datetime.date, serial: str) -> JsonObject:
    """The days of a month, the months of a year, all years: each with the same of the year before.

    `kind` is BY_DAY for the month of `date`, BY_MONTH for its year, BY_YEAR for all years.
    """
    serials = history.chain(serial) if serial else None
    if kind == BY_DAY:
        first = date.replace(day=1)
        last = date.replace(day=calendar.monthrange(date.year, date.month)[1])
        wanted = [str(first.replace(day=number)) for number in range(1, last.day + 1)]
        name = f"{date:%Y-%m}"
    elif kind == BY_MONTH:
        first, last = datetime.date(date.year, 1, 1), datetime.date(date.year, 12, 31)
        wanted = [f"{date.year:04}-{number:02}" for number in range(1, 13)]
        name = f"{date.year:04}"
    else:
        first, last = datetime.date.min, datetime.date.max
        wanted, name = [], "all"
    sums = history.sums(kind, first, last, serials)
    if kind == BY_YEAR and sums:
        wanted = [f"{year:04}" for year in range(int(sums[0].period), int(sums[-1].period) + 1)]
    before = _before(history, kind, first, last, serials)
    return {"period": name, "by": kind, **_summary(wanted, sums, before)}


def _before(
    history: Reader, kind: str, first: datetime.date, last: datetime.date, serials: Sequence[str] | None
) -> dict[str, SumRow]:
    """The sums of the year before, by the period that they stand beside."""
    if kind == BY_YEAR or first.year == datetime.MINYEAR:
        return {}
    start = first.replace(year=first.year - 1)
    end = start.replace(month=last.month, day=calendar.monthrange(start.year, last.month)[1])
    return {
        f"{int(row.period[:4]) + 1:04}{row.period[4:]}": row
        for row in history.sums(kind, start, end, serials)
    }


def _summary(wanted: Sequence[str], sums: Sequence[SumRow], before: Mapping[str, SumRow]) -> JsonObject:
    by_period = {row.period: row for row in sums}
    best = max((row for row in sums if row.best), key=lambda row: row.best_kwh, default=None)
    total = sum(row.energy_kwh for row in sums)
    days = sum(row.days for row in sums)
    return {
        "total_kwh": round(total, 3),
        "before_kwh": round(sum(row.energy_kwh for row in before.values()), 3) if before else None,
        "mean_day_kwh": round(total / days, 3) if days else None,
        "best_day": str(best.best) if best else None,
        "best_day_kwh": round(best.best_kwh, 3) if best else None,
        "rows": [
            {
                "period": one,
                "energy_kwh": round(by_period[one].energy_kwh, 3) if one in by_period else None,
                "before_kwh": round(before[one].energy_kwh, 3) if one in before else None,
                "corrected": by_period[one].corrected if one in by_period else False,
            }
            for one in wanted
        ],
    }


def events(rows: Iterable[EventRow]) -> list[JsonObject]:
    """The events as JSON objects, newest first."""
    return [
        {
            "at_epoch": row.at,
            "serial": row.serial or None,
            "kind": row.kind,
            "code": row.code,
            "text": row.text,
        }
        for row in rows
    ]
