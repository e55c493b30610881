"""Play random years and hold every message against the truth; exit 1 with what reproduces the first that is wrong.

A stay is some weeks of one inverter: two or three scripts at once, one time zone, and mishaps in a random order.
What must hold is in tests/house.py, and beside it: at the end of a day without a gap its energy is not too little.
"""

import argparse
import datetime
import logging
import os
import sys
import tempfile
import time
import traceback
import zoneinfo
from pathlib import Path
from random import Random
from unittest import mock

from goodwe.protocol.scripts import MARK, SCRIPTS
from goodwe.readings.ledger import REPEAT_EVERY, SAVE_EVERY

from ..house import DAWN, DAY, HOUR, SHARP, House

CANNOT_BE_TOLD = {"repaired-on-day-2"}
"""A counter that was reset."""
STALE_WHILE_FEEDING = "day-stale-until-noon"
DARK = "dark-days"
RESTARTS = "restarts-at-noon"
FLICKERS, STANDING = "total-flickers", {DARK, "stands-still-at-noon"}
"""Not together: a total that stands, and is 0.1 kWh less both times it is looked at in a quarter of an hour, fell."""
JUMPS = "total-jumps-at-noon"
DAY_JUMPS = "day-jumps-at-noon"
"""Not under a stale E-Day: that does not fit either every quarter of an hour, so one is believed for the other."""
NOON = 12 * HOUR
INSTANT = 1e-3
"""Seconds; sums of times differ by less."""
ZONES = (
    "Europe/Amsterdam",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "UTC",
)
DAYS_OF_A_STAY = 20, 40


def order(script: str) -> int:
    """Scripts that say what the sun gives come before those whose readings must never be published.

    What is done to a reading later must neither undo what makes it impossible, nor turn a counter back.
    """
    if script.startswith(("total-", "all-", "day-jumps", "power-", "voltage-")):
        return 2
    return 1 if script == DARK else 0


class Stay:
    """One inverter for some weeks, and what happens to it."""

    def __init__(self, random: Random, folder: Path) -> None:
        self.random = random
        self.lossy: set[datetime.date] = set()
        """The dates of which part was not seen, or under a clock that lied: perhaps part of its energy is lost."""
        self.told: list[str] = []
        """Everything that was done, with the day and the hour."""
        names = sorted(set(SCRIPTS) - CANNOT_BE_TOLD)
        scripts = sorted(random.sample(names, random.choice((2, 3))), key=order)
        if not STANDING.isdisjoint(scripts) and FLICKERS in scripts:
            scripts.remove(FLICKERS)
        if STALE_WHILE_FEEDING in scripts and DAY_JUMPS in scripts:
            scripts.remove(DAY_JUMPS)
        zone = zoneinfo.ZoneInfo(random.choice(ZONES))
        self.days = random.randrange(*DAYS_OF_A_STAY)
        self.every = random.choice((300.0, 900.0, 900.0, 900.0))
        seed, day = random.randrange(1000), random.randrange(365)
        self.house = House(folder / "state.json", *scripts, seed=seed, zone=zone, day=day)
        self.told.append(
            f"{' + '.join(scripts)} in {zone}, from day {day} of the year, {self.days} days, every {self.every:.0f} s"
        )

    def play(self) -> int:
        """All of it; the number of messages that were checked."""
        house, random = self.house, self.random
        self.wait(2 * DAY)
        mishaps = (self.restart, self.off, self.unplugged, self.rubbish, self.no_clock, self.jump)
        while house.now < self.days * DAY:
            self.wait(random.choice((HOUR, 12 * HOUR, 2 * DAY)) * random.random())
            mishap = random.choice(mishaps)
            mishap()
        self.wait(2 * DAY)
        return house.checked

    # time

    def wait(self, seconds: float) -> None:
        """Let time pass; each day is looked at before its sun sets."""
        house = self.house
        end = house.now + seconds
        while end - house.now > INSTANT:
            evening = house.now // DAY * DAY + house.day.sunset - 60.0
            evening += DAY if house.now > evening - INSTANT else 0.0
            house.wait(min(end, evening) - house.now, every=self.every)
            if abs(house.now - evening) < INSTANT and not house.blind:
                self.day_is_over()

    def day_is_over(self) -> None:
        """Its energy is all there, if it can be known."""
        house = self.house
        house.wait(20.0, every=10.0)  # a first reading is held until the second
        if house.date not in house.doubtful | self.lossy and DARK not in house.scripts:
            shown, true = house.messages[-1].values["eDay"], house.energy_today()
            assert isinstance(shown, float)
            assert shown >= true - SHARP, f"E-Day {shown} of {true:.1f} in the evening: too little"

    def say(self, text: str) -> None:
        day, second = divmod(self.house.now, DAY)
        self.told.append(f"day {day:.0f} {second / 3600:.2f} h: {text}")

    # mishaps

    def restart(self) -> None:
        kill = self.random.random() < 0.5
        self.say("killed" if kill else "restarted")
        self.saved()
        self.house.restart(kill=kill)

    def saved(self) -> None:
        """A power cut within ten seconds of a reading may take 0.1 kWh of it back; it comes after them here."""
        self.house.wait(SAVE_EVERY, every=SAVE_EVERY)

    def absence(self) -> float:
        return self.random.choice((0.1 * HOUR, 5 * HOUR, 2 * DAY)) * self.random.random()

    def off(self) -> None:
        seconds = self.absence()
        kill = self.random.random() < 0.5
        self.say(f"off for {seconds / 3600:.2f} h, {'killed' if kill else 'stopped'}")
        self.saved()
        if not kill:
            self.house.restart()
        self.gap(seconds)
        self.house.now += seconds
        self.house.restart(kill=True)

    def unplugged(self) -> None:
        if self.house.awake:
            seconds = self.absence()
            self.say(f"unplugged for {seconds / 3600:.2f} h")
            self.house.sleep("unplugged")
            self.gap(seconds)
            self.house.away(seconds)

    def gap(self, seconds: float) -> None:
        """Nobody looks; what cannot be told afterwards, as the README says, is not held against the program."""
        house = self.house
        end = house.now + seconds
        self.lossy.add(house.date_at(end))
        if STALE_WHILE_FEEDING in house.scripts and (house.now - NOON) // DAY != (end - NOON) // DAY:
            seen = house.sun(end) and house.sun(end + 2 * self.every)  # by two readings, of which one is held
            light = end if seen else (end - DAWN) // DAY * DAY + DAY + DAWN
            if light % DAY < NOON:
                house.doubtful.add(house.date_at(light))

    def rubbish(self) -> None:
        house, random = self.house, self.random
        if house.sun(house.now):
            rubbish = {key: random.choice([0.0, 6553.5, 429496729.5]) for key in ("eTotal", "vac1")}
            house.read(**rubbish, pac=random.randrange(20_000, 65_536), temp=MARK)

    def no_clock(self) -> None:
        """The machine boots and has no right time for a while."""
        house, random = self.house, self.random
        behind = random.choice((0.0, 600.0, 12 * HOUR, 30 * DAY, 400 * DAY)) * random.random()
        seconds = random.choice((300.0, HOUR, 20 * HOUR)) * random.random()
        self.say(f"booted with a clock {behind / 3600:.2f} h behind that is not known to be right")
        self.saved()
        house.clock_right, house.wrong_by, house.blind = False, -behind, True
        house.restart(kill=True)
        self.wait(seconds / 2)
        if random.random() < 0.3:
            self.restart()
        self.wait(seconds / 2)
        self.say("clock right")
        house.clock_right, house.wrong_by, house.blind = True, 0.0, False
        if seconds > HOUR or RESTARTS in house.scripts:  # what was counted meanwhile has no day
            self.lossy.add(house.date)

    def jump(self) -> None:
        """The clock is wrong for a while and says that it is right."""
        house, random = self.house, self.random
        wrong = random.choice((-HOUR, HOUR, DAY, 2 * DAY, 40 * DAY, 3650 * DAY, -DAY))
        if JUMPS in house.scripts:
            wrong = min(wrong, HOUR)  # in two days that nobody saw, 40 kWh can be made
        seconds = random.choice((600.0, HOUR, 10 * HOUR)) * random.random()
        self.say(f"clock wrong by {wrong / 3600:.0f} h")
        house.wrong_by, house.blind = wrong, True
        self.wait(seconds / 2)
        if wrong > 0 and random.random() < 0.3:
            self.restart()
        self.wait(seconds / 2)
        self.say("clock right")
        house.wrong_by, house.blind = 0.0, False
        self.lossy.add(house.date)
        self.wait(
            REPEAT_EVERY
        )  # a restart before anything was said under the right clock knows the wrong day alone


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.soak", description=__doc__)
    parser.add_argument("--years", type=float, default=1.0)
    parser.add_argument("--seed", default=str(time.time_ns() % 1_000_000))
    parser.add_argument("--only", type=int, metavar="STAY", help="this stay of the seed alone")
    given = parser.parse_args()
    logging.disable()
    began, days, messages, stay = time.monotonic(), 0.0, 0, given.only or 0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no disk is worn out by it
    with mock.patch.object(os, "fsync"), tempfile.TemporaryDirectory(dir=memory) as folder:
        while days < given.years * 365:
            place = Path(folder) / str(stay)
            place.mkdir()
            one = Stay(Random(f"{given.seed} {stay}"), place)
            try:
                messages += one.play()
            except Exception:
                traceback.print_exc()
                print(*one.told, sep="\n")
                print(f"\nagain: python3 -m tests.soak --seed {given.seed} --only {stay}")
                return 1
            if given.only is not None:
                break
            days += one.days
            stay += 1
    seconds = time.monotonic() - began
    print(
        f"seed {given.seed}: {days / 365:.1f} years, {stay} stays, {messages} messages held, {seconds:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
