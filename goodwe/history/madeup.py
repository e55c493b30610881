"""A made-up history of many years, for demonstrations and for figures: seasons, clouds, faults now and then.

The same for the same seed. It goes straight into the tables: ten years of one inverter with all slots take
some seconds, with the days alone next to nothing.
"""

import datetime
import math
import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from ..protocol import fields
from . import archive, dates, schema
from .dates import SLOT
from .days import DayFacts
from .recorder import Happened
from .schema import COLUMNS, HIGH, LOW

MIDSUMMER = 172
"""Day of the year."""
SHORTEST, LONGEST = 8.0, 16.5
"""Hours of light, as in the middle of Europe."""
NOON = 13.0
"""Hour of the local day."""
DARKEST = 0.35
"""The share of the power that a clear winter noon has of a summer's."""
FAULT_EVERY = 90
"""Days between two faults, about."""
FAULTS = (9, 17, 18, 29)


class MadeUpRoof(NamedTuple):
    """An inverter and what it stands on."""

    serial: str
    phases: int = 1
    peak: float = 3000.0
    """Watts at noon of a clear summer day."""
    model: str = "GW-SIM"
    name: str = ""
    first: int = 0
    """Days after the beginning on which it was installed."""
    last: int = 10**6
    """Days after the beginning on which it was replaced by the next one."""


class _Light(NamedTuple):
    """The light of one day of one roof."""

    dawn: float
    """Hour of the day."""
    dusk: float
    peak: float
    """Watts at noon under a clear sky."""
    clouds: list[float]
    """The share of it that comes through, by slot of the day."""


def write(
    path: str,
    roofs: Sequence[MadeUpRoof],
    *,
    until: datetime.date,
    days: int,
    with_slots: int | None = None,
    seed: int = 1,
) -> dict[str, float]:
    """Make a history at `path` of so many days before `until`; the kWh on each counter at the end, by serial.

    The last `with_slots` days have slots, all of them if that is None. Raises sqlite3.Error.
    """
    connection = archive.connected(path)
    try:
        connection.execute("PRAGMA synchronous = OFF")  # made-up, and quickly made up again
        return archive.in_transaction(
            connection, partial(_write, roofs=roofs, until=until, days=days, with_slots=with_slots, seed=seed)
        )
    finally:
        connection.close()


def _write(
    connection: sqlite3.Connection,
    *,
    roofs: Sequence[MadeUpRoof],
    until: datetime.date,
    days: int,
    with_slots: int | None,
    seed: int,
) -> dict[str, float]:
    totals, numbers = {}, []
    begin = dates.number(until) - days
    for roof in roofs:
        first, last = begin + roof.first, min(begin + roof.last, dates.number(until))
        since = dates.bounds(dates.date(first)).start + 6 * 3600
        number = archive.number_of(connection, roof.serial, since)
        numbers.append(number)
        connection.execute(
            "UPDATE inverters SET phases = ?, model = ?, firmware = '1010C', name = ? WHERE number = ?",
            (roof.phases, roof.model, roof.name, number),
        )
        total = 0
        for day in range(first, last):
            curve = with_slots is None or day >= dates.number(until) - with_slots
            total = _day(connection, number, roof, day, total, Random(f"{seed} {roof.serial} {day}"), curve)
        totals[roof.serial] = total / 1000
    for old, new, roof in zip(numbers, numbers[1:], roofs, strict=False):
        if begin + roof.last < dates.number(until):
            moment = int(dates.bounds(dates.date(begin + roof.last)).start) + 10 * 3600
            replaced = "UPDATE inverters SET replaced_by = ?, replaced_at = ? WHERE number = ?"
            connection.execute(replaced, (new, moment, old))
            text = f"{roof.serial} was replaced"
            archive.put_event(connection, new, Happened(moment, "", schema.REPLACED, None, text))
    return totals


def _day(
    connection: sqlite3.Connection,
    inverter: int,
    roof: MadeUpRoof,
    day: int,
    total: int,
    chance: Random,
    curve: bool,
) -> int:
    """Make up a day; the Wh on the counter at its end."""
    start, light = int(dates.bounds(dates.date(day)).start), _light(roof, day, chance)
    slots = [
        (start + n * SLOT, _power(light, (n + 0.5) * SLOT / 3600))
        for n in range(int(light.dawn * 12), int(light.dusk * 12) + 1)
    ]
    made = sum(power for _, power in slots) * SLOT / 3600
    energy = round(made / 100) * 100
    peak_at, peak = max(slots, key=lambda slot: slot[1])
    first, last = round(start + light.dawn * 3600), round(start + light.dusk * 3600)
    facts = DayFacts(
        schema.READ,
        energy=energy,
        total=total + energy,
        until=last,
        peak=round(peak * 1.02),
        peak_at=peak_at,
        first=first,
        last=last,
        feeding=last - first,
        seen=last - first,
        vac_low=2270 + chance.randrange(20),
        vac_high=2380 + chance.randrange(60),
        temp_high=round(150 + 300 * peak / roof.peak),
    )
    archive.put_day(connection, inverter, day, facts)
    if curve:
        connection.executemany(archive.PUT_SLOT, _slots(inverter, roof, day, slots, total, chance))
    for event in _events(start, light, chance, curve):
        archive.put_event(connection, inverter, event)
    return total + energy


def _light(roof: MadeUpRoof, day: int, chance: Random) -> _Light:
    season = (1 + math.cos((dates.date(day).timetuple().tm_yday - MIDSUMMER) * 2 * math.pi / 365.25)) / 2
    length = SHORTEST + (LONGEST - SHORTEST) * season
    sky = min(1.0, chance.betavariate(2.2, 1.2))
    clouds, share = [], sky
    for _ in range(300):
        share = min(1.0, max(0.05, share + 0.15 * (sky - share) + chance.gauss(0, 0.25 * sky * (1 - sky))))
        clouds.append(share)
    peak = roof.peak * (DARKEST + (1 - DARKEST) * season)
    return _Light(NOON - length / 2, NOON + length / 2, peak, clouds)


def _power(light: _Light, hour: float) -> float:
    height = math.sin(math.pi * (hour - light.dawn) / (light.dusk - light.dawn))
    return max(0.0, light.peak * height**1.3 * light.clouds[int(hour * 12) % 300]) if height > 0 else 0.0


def _slots(
    inverter: int,
    roof: MadeUpRoof,
    day: int,
    slots: Sequence[tuple[int, float]],
    total: int,
    chance: Random,
) -> Iterator[tuple[int, ...]]:
    made = 0.0
    for start, power in slots:
        energy = power * SLOT / 3600
        made += energy
        values = _values(roof, power, chance)
        values["eTotal"], values["eDay"] = (total + made) / 1000, made / 1000
        values["hTotal"] = 1000.0 + day % 10_000
        yield (inverter, start, day, 120, round(energy * schema.WATT_HOURS), *_row(values))


def _row(values: dict[str, float]) -> Iterator[int]:
    spread = {LOW: 0.97, HIGH: 1.02}
    for _, key, kind, scale in COLUMNS:
        yield round(values.get(key, 0.0) * spread.get(kind, 1.0) * scale)


def _values(roof: MadeUpRoof, power: float, chance: Random) -> dict[str, float]:
    """The values of the running info at that power, without counters."""
    share, volts = power / roof.peak, 231 + 6 * power / roof.peak
    strings = 320 + 40 * share + chance.uniform(-8, 8)
    values = {
        "pac": power,
        "temp": 15 + 30 * share + chance.uniform(-1, 1),
        "workMode": 1.0 if power > 0 else 0.0,
        "vpv1": strings,
        "vpv2": strings * 0.95,
        "ipv1": power / 2 / strings,
        "ipv2": power / 2 / strings / 0.95,
    }
    for phase in range(1, roof.phases + 1):
        values[f"vac{phase}"] = volts + chance.uniform(-1.5, 1.5)
        values[f"iac{phase}"] = power / roof.phases / volts
        values[f"fac{phase}"] = 50 + chance.uniform(-0.02, 0.02)
    return values


def _events(start: int, light: _Light, chance: Random, curve: bool) -> Iterator[Happened]:
    dawn, dusk = start + light.dawn * 3600, start + light.dusk * 3600
    if curve:  # as the slots: the older ones are of interest to nobody
        yield Happened(dawn, "", schema.BACK, None, "")
        yield Happened(dawn + 60, "", schema.MODE, 1, fields.WORK_MODES[1])
    if chance.randrange(FAULT_EVERY) == 0:
        bit, moment = chance.choice(FAULTS), chance.uniform(dawn, dusk - 3600)
        yield Happened(moment, "", schema.FAULT_ON, bit, schema.fault_text(bit))
        over = moment + chance.uniform(60, 3600)
        yield Happened(over, "", schema.FAULT_OFF, bit, schema.fault_text(bit))
    if curve:
        yield Happened(dusk, "", schema.AWAY, None, "no answer")
