"""The history that `demo --web` begins with: two made-up years, and the morning of the simulated day."""

import datetime
from pathlib import Path

from ..events import Reading
from ..history import dates, madeup
from ..history.archive import Archive
from ..history.madeup import MadeUpRoof
from ..history.recorder import Recorder
from ..protocol.simulator import Day

DAYS, WITH_SLOTS = 730, 366
"""Days before the simulated one, so that the year has one before it; so many of them with their curves."""
EVERY = 60
"""Seconds between two readings of the morning."""
ADDRESS = 0x0B


def write(path: Path, serial: str, phases: int, date: datetime.date, second: int) -> float:
    """Make the history at `path`, up to that second of `date`; the kWh on the counter when that day began."""
    roof = MadeUpRoof(serial, phases, model="GW-SIM", peak=Day(phases).peak)
    total = madeup.write(str(path), [roof], until=date, days=DAYS, with_slots=WITH_SLOTS)[serial]
    _write_morning(path, serial, Day(phases, total_before=total), date, second)
    return total


def _write_morning(path: Path, serial: str, day: Day, date: datetime.date, second: int) -> None:
    midnight, recorder = dates.bounds(date).start, Recorder()
    for at in range(int(day.sunrise), second, EVERY):
        if day.is_light(at):
            reading = Reading(serial, ADDRESS, day.phases, day.values(at), midnight + at)
            recorder.reading(reading, midnight + at)
    batch = recorder.take(midnight + second)
    if batch is not None:
        archive = Archive(str(path))
        archive.write(batch)
        archive.close()
