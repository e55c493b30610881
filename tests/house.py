"""The program's readings on a clock of our own, beside a witness who knows what the sun really gave."""

import datetime
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from goodwe.events import Happening, Offline, Reading, Resting
from goodwe.loop import Loop, Worker
from goodwe.protocol.fields import FLOWS, RUNNING, Value
from goodwe.protocol.scripts import MARK, SCRIPTS
from goodwe.protocol.simulator import Day
from goodwe.readings.ledger import Ledger

SERIAL, OTHER = "15000SIM268W0001", "15000SIM268W0002"
ZONE = zoneinfo.ZoneInfo("Europe/Amsterdam")
NEW_YEAR = datetime.datetime(2026, 1, 1, tzinfo=ZONE).timestamp()
DAWN, DUSK, HOUR, DAY = 6 * 3600.0, 20 * 3600.0, 3600.0, 86400.0
SHARP = 0.31
"""kWh by which published energy may differ from the true one: three numbers of one decimal each."""


class Immediately:
    """A worker that has done it already."""

    def do(self, job: Callable[[], object], done: Callable[[Callable[[], Any]], object]) -> None:
        try:
            job()
        except OSError as error:
            self.error = error
            done(self._raise)
        else:
            done(lambda: None)

    def _raise(self) -> NoReturn:
        raise self.error

    def finish(self) -> None:
        pass


class House:
    """The program's ledger on a clock of our own, and a witness who knows the truth."""

    def __init__(
        self,
        state: Path | str = "",
        *scripts: str,
        seed: int = 1,
        zone: zoneinfo.ZoneInfo = ZONE,
        day: int = 0,
    ) -> None:
        """`scripts` are the habits of the inverter, one after the other; `zone` is where it stands.

        The first day is that many days after New Year.
        """
        self.zone = zone
        first = datetime.date(2026, 1, 1) + datetime.timedelta(day)
        self.new_year = datetime.datetime.combine(first, datetime.time(), zone).timestamp()
        self.now = 0.0
        """True seconds since the first day began."""
        self.started = 0.0
        self.wrong_by = 0.0
        """Seconds by which the machine's clock is ahead."""
        self.clock_right = True
        self.state = str(state)
        self.scripts = scripts
        self.day = Day(1, seed=seed)
        self.serial = SERIAL
        self.days = {SERIAL: self.day}
        self.awake = False
        self.checked = 0
        self.last_total: dict[str, float] = {}
        self.last_day: dict[str, tuple[datetime.date, float]] = {}
        self.online: dict[str, bool] = {}
        self.messages: list[Reading | Resting] = []
        self.repaired = False
        self.blind = False
        """True while the day's energy cannot be known: the clock is wrong, or a night passed unseen."""
        self.doubtful: set[datetime.date] = set()
        """The dates whose energy nobody could tell from what was seen."""
        self.start()

    # the program

    def start(self) -> None:
        self.started = self.now
        self.ledger = Ledger(
            self.state,
            loop=cast(Loop, SimpleNamespace(clock=lambda: self.now - self.started, post=None)),
            publish=self.witness,
            wall_clock=lambda: self.new_year + self.now + self.wrong_by,
            clock_right=lambda: self.clock_right,
            localtime=lambda epoch: datetime.datetime.fromtimestamp(epoch, self.zone).timetuple(),
            worker=cast(Worker, Immediately()),
        )
        self.ledger.begin()

    def restart(self, *, kill: bool = False) -> None:
        if not kill:
            if self.awake:
                self.ledger.stop()
                self.ledger.handle(Offline(self.serial, 11, "the program ends"))
            self.ledger.close()
        self.awake = False
        self.start()

    # time and the inverter

    def sun(self, time: float) -> bool:
        return self.day.is_light(time)

    def wait(self, seconds: float, every: float = 300.0, nights: bool = False) -> None:
        """Let time pass with a reading every so many seconds while the inverter is awake."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + every, end)
            if self.sun(self.now) or nights:
                self.read()
            elif self.awake:
                self.sleep()
            while self.ledger.deadline <= self.now - self.started:
                self.ledger.tick(self.now - self.started)

    def read(self, **changes: Value) -> None:
        values = self.day.values(self.now)
        if self.now >= DAY:  # it was installed on a good day
            for script in self.scripts:
                values = SCRIPTS[script].play(self.day, self.now, values) if values else values
        values = {**NOTHING, **values, **changes}
        self.awake = True
        if any(values[key] for key in ("eTotal", "vac1", "pac")):  # else the wire refuses it
            when = self.new_year + self.now + self.wrong_by
            self.ledger.handle(Reading(self.serial, 11, 1, values, when))

    def sleep(self, reason: str = "no answer") -> None:
        self.ledger.handle(Offline(self.serial, 11, reason))
        self.awake = False
        assert not self.online.get(self.serial), "offline is said at once"

    def away(self, seconds: float) -> None:
        """The inverter is not here for so long; the program goes on."""
        end = self.now + seconds
        while self.started + (due := self.ledger.deadline) <= end:
            self.now = max(self.now, self.started + due)
            self.ledger.tick(max(self.now - self.started, due))  # which rounding may have put before it
        self.now = end

    # the truth

    @property
    def date(self) -> datetime.date:
        return self.date_at(self.now)

    def date_at(self, time: float) -> datetime.date:
        return datetime.datetime.fromtimestamp(self.new_year + time, self.zone).date()

    def energy_today(self) -> float:
        midnight = (
            datetime.datetime.combine(self.date, datetime.time(), self.zone).timestamp() - self.new_year
        )
        return self._total(self.now) - self._total(max(0.0, midnight))

    def _total(self, time: float) -> float:
        return self.day.total(time)

    def witness(self, event: Happening) -> None:
        """Everything that is published comes by here."""
        if isinstance(event, Offline):
            self.online[event.serial] = False
        if not isinstance(event, Reading | Resting):
            return
        self.checked += 1
        self.messages.append(event)
        values, serial = event.values, event.serial
        self.online[serial] = isinstance(event, Reading)
        assert values["temp"] != MARK, "a refused reading is published"
        total, day = values["eTotal"], values["eDay"]
        assert isinstance(total, float)
        assert isinstance(day, float)
        if serial in self.last_total and not self.repaired:
            assert total >= self.last_total[serial], "E-Total fell"
            assert total <= self.days[serial].total(self.now) + 0.05, "E-Total jumped"
        self.last_total[serial] = total
        date, before = self.last_day.get(serial, (self.date, 0.0))
        if not self.blind and self.date not in self.doubtful and serial == self.serial:
            assert day <= self.energy_today() + SHARP, f"E-Day {day} of {self.energy_today()}: yesterday's"
            if date == self.date:
                assert day >= before, "E-Day fell within a day"
            self.last_day[serial] = (self.date, day)
        if isinstance(event, Resting):
            assert not any(values[row.key] for row in FLOWS), "something flows at night"

    def refused(self, reason: str) -> int:
        return self.ledger.tally.counts[f"{self.serial} {reason}"]


NOTHING = {
    key: value if isinstance(value, list) else type(value)(0) for key, value in Day(1).values(0.0).items()
}
NOTHING |= {row.key: 0.0 for row in RUNNING if row.key not in NOTHING}
