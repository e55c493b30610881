"""From readings to the file: the simulated house knows what the sun gave, and the history must say so."""

import datetime
import logging
import os
import sqlite3
import time
from pathlib import Path
from random import Random

import pytest

from goodwe.errors import HistoryError
from goodwe.events import Info, Instructed, Offline, Reading, RefusedReading
from goodwe.history import dates, schema
from goodwe.history.archive import Archive
from goodwe.history.queries import Reader
from goodwe.history.recorder import BRIDGE, MOST_A_DAY, MOST_SLOTS, Recorder
from goodwe.loop import NEVER
from goodwe.outputs import Context
from goodwe.outputs import history as output_module
from goodwe.outputs.history import HistoryOutput
from goodwe.readings import ledger

from .fakes import Clock
from .house import DAY, HOUR, NEW_YEAR, SERIAL, ZONE, House

NEW_YEARS_DAY = datetime.date(2026, 1, 1)
LONG_NOON = 12 * HOUR


@pytest.fixture(autouse=True)
def amsterdam(monkeypatch):
    """The zone of the house, and a disk that is quick."""
    monkeypatch.setattr(ledger.state.os, "fsync", lambda descriptor: None)
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class AtOnce:
    """A worker that has done it already; it refuses while `trouble` is set, and does nothing while `stuck`."""

    def __init__(self):
        self.stuck = False
        self.waiting = []

    def do(self, call, then):
        if self.stuck:
            self.waiting.append((call, then))
            return
        try:
            result = call()
        except HistoryError as error:
            raised = error
            then(lambda: raise_(raised))
        else:
            then(lambda: result)

    def finish(self):
        pass


def raise_(error):
    raise error


class Roof(House):
    """A house with a history."""

    def __init__(self, path, *scripts, bridge=BRIDGE, **arguments):
        self.path = str(path)
        self.bridge = bridge
        self.worker = AtOnce()
        self.output = None
        super().__init__(path.parent / "state.json", *scripts, **arguments)

    def start(self):
        self.begin_history()
        super().start()

    def begin_history(self):
        loop = Loop(lambda: self.now - self.started)
        context = Context(
            loop,
            Random(1),
            lambda: self.new_year + self.now + self.wrong_by,
            None,
            None,
            300.0,
            lambda: self.clock_right,
        )
        self.output = HistoryOutput(Archive(self.path), Recorder(self.bridge), context, self.worker)

    def witness(self, event):
        super().witness(event)
        self.output.handle(event)
        self.turn()

    def turn(self):
        while self.output.deadline <= self.now - self.started:
            self.output.tick(self.now - self.started)

    def wait(self, seconds, every=60.0, nights=False):
        super().wait(seconds, every, nights)
        self.turn()

    def restart(self, *, kill=False):
        if not kill:
            if self.awake:
                self.ledger.stop()
                self.ledger.handle(Offline(self.serial, 11, "the program ends"))
            self.ledger.close()
            self.output.stop(self.now)
        self.awake = False
        self.start()

    def end(self):
        self.output.stop(self.now)

    def made(self, date):
        """kWh that the sun gave on that day."""
        start, end = (bound - self.new_year for bound in dates.bounds(date))
        return self.day.total(end) - self.day.total(max(0.0, start))


class Loop:
    def __init__(self, clock):
        self.clock = clock

    def add(self, part):
        pass

    def post(self, step):
        step()


def days_of(roof):
    with Reader(roof.path) as history:
        return {day.date: day for day in history.days(datetime.date.min, datetime.date.max)}


def slots_of(roof, date):
    with Reader(roof.path) as history:
        return history.slots(date)


def kinds_of(roof, *kinds):
    with Reader(roof.path) as history:
        events = history.events(float("-inf"), float("inf"), kinds=kinds)
    return [(event.kind, event.code, event.text) for event in reversed(events)]


# days and slots


@pytest.mark.parametrize("first", [0, 86, 296])
def test_slots_of_each_day_add_up_to_the_counter(tmp_path, first):
    """An ordinary week; the last Sunday of March, of 23 hours; the last Sunday of October, of 25."""
    roof = Roof(tmp_path / "history.db", day=first)
    roof.wait(4 * DAY, every=60.0)
    roof.end()
    days = days_of(roof)
    assert len(days) == 4
    for date, day in days.items():
        slots = slots_of(roof, date)
        assert day.energy_kwh == pytest.approx(roof.made(date), abs=0.1001)
        assert sum(slot.energy_kwh for slot in slots) == pytest.approx(day.energy_kwh, abs=1e-6)
        assert all(dates.bounds(date).start <= slot.start < dates.bounds(date).end for slot in slots)
        assert all(slot.readings for slot in slots), "nothing was missed"
        assert 0.98 <= day.seen <= 1.0
        assert day.source == schema.READ
    lengths = {round((bounds.end - bounds.start) / HOUR) for bounds in map(dates.bounds, days)}
    assert lengths == {0: {24}, 86: {24, 23}, 296: {24, 25}}[first]


@pytest.mark.parametrize(("first", "hours"), [(60, 23), (270, 25)])
def test_each_day_of_two_months_is_right_to_a_step_of_the_counter(tmp_path, first, hours):
    """With a restart or a kill now and then, and a day of 23 or 25 hours among them."""
    roof = Roof(tmp_path / "history.db", bridge=900.0, day=first)
    chance = Random(1)
    for kill in (True, False, True, True):
        roof.wait(14 * DAY + chance.uniform(0, 12 * HOUR), every=900.0)
        roof.restart(kill=kill)
    roof.wait(DAY - roof.now % DAY, every=900.0)
    roof.end()
    days = days_of(roof)
    assert len(days) >= 56
    wrong = {
        str(date): (day.energy_kwh, roof.made(date))
        for date, day in days.items()
        if abs(day.energy_kwh - roof.made(date)) > 0.1001
    }
    assert wrong == {}
    sums = {date: sum(slot.energy_kwh for slot in slots_of(roof, date)) for date in days}
    assert all(abs(sums[date] - day.energy_kwh) < 1e-6 for date, day in days.items())
    assert hours in [round((bounds.end - bounds.start) / HOUR) for bounds in map(dates.bounds, days)]


def test_no_slot_jumps_though_the_counter_has_one_decimal(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(DAY, every=20.0)
    roof.end()
    for slot in slots_of(roof, NEW_YEARS_DAY):
        assert slot.energy_kwh * 12_000 == pytest.approx(slot.values["pac"], abs=25)


def test_day_has_its_peak_light_and_extremes(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(DAY, every=30.0)
    roof.end()
    day = days_of(roof)[NEW_YEARS_DAY]
    clock = {key: (getattr(day, key) - NEW_YEAR) / HOUR for key in ("peak_at", "first_light", "last_light")}
    assert clock["first_light"] == pytest.approx(6.0, abs=0.02)
    assert clock["last_light"] == pytest.approx(20.0, abs=0.02)
    assert clock["peak_at"] == pytest.approx(13.0, abs=0.2)
    assert day.feeding_hours == pytest.approx(14.0, abs=0.05)
    assert day.peak_watts == max(roof.day.values(LONG_NOON + n)["pac"] for n in range(3600))
    assert 228 <= day.vac_low < 229 < 231 < day.vac_high <= 232
    assert day.temp_high == pytest.approx(15 + 30 * day.peak_watts / 3000, abs=0.1)
    assert day.total_kwh == pytest.approx(roof.day.total(DAY), abs=0.11)


def test_slot_has_means_and_extremes(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(12 * HOUR + 600, every=10.0)
    slot = next(slot for slot in slots_of(roof, NEW_YEARS_DAY) if slot.start == NEW_YEAR + LONG_NOON)
    read = [roof.day.values(LONG_NOON + 10.0 * n) for n in range(30)]
    assert slot.readings == 30
    for key in ("pac", "vac1", "temp", "vpv1", "fac1", "ipv2"):
        assert slot.values[key] == pytest.approx(
            sum(values[key] for values in read) / 30, abs=0.06 if key == "pac" else 0.01
        ), key
    assert slot.low["vac1"] == min(values["vac1"] for values in read)
    assert slot.high["vac1"] == max(values["vac1"] for values in read)
    assert slot.values["eTotal"] == read[-1]["eTotal"]
    assert slot.values["workMode"] == 1
    assert "vac1" not in {*slot.low} - {"vac1"}


# restarts, kills, absences


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("off", [0.0, 40.0, 2 * HOUR])
def test_no_energy_is_lost_by_a_restart(tmp_path, kill, off):
    """At most the curve of the current slot is lost."""
    roof = Roof(tmp_path / "history.db")
    roof.wait(11 * HOUR + 100, every=10.0)
    for _ in range(3):
        roof.now += off
        roof.restart(kill=kill)
        roof.wait(500, every=10.0)
    roof.wait(DAY - roof.now, every=30.0)
    roof.end()
    day, slots = days_of(roof)[NEW_YEARS_DAY], slots_of(roof, NEW_YEARS_DAY)
    assert day.energy_kwh == pytest.approx(roof.made(NEW_YEARS_DAY), abs=0.1001)
    assert sum(slot.energy_kwh for slot in slots) == pytest.approx(day.energy_kwh, abs=1e-6)
    assert [slot.start for slot in slots] == list(range(slots[0].start, slots[-1].start + 300, 300)), (
        "no hole"
    )
    for slot in slots:
        middle = slot.start + 150 - NEW_YEAR
        assert slot.energy_kwh * 12_000 == pytest.approx(roof.day.values(middle)["pac"], abs=300)
    missed = [slot for slot in slots if not slot.readings]
    assert len(missed) >= 3 * off // 300 - 3
    assert day.seen == pytest.approx(1 - 3 * off / (14 * HOUR), abs=0.03)


def test_program_that_was_killed_at_dusk_loses_no_energy(tmp_path):
    """Its state has more than the history, and says so at the next start, when the inverter is away."""
    roof = Roof(tmp_path / "history.db")
    roof.wait(15 * HOUR + 299, every=10.0)
    roof.worker.stuck = True  # the last slots never reach the disk
    roof.wait(1800, every=10.0)
    roof.worker.stuck = False
    before = roof.day.values(roof.now)["eDay"]
    roof.restart(kill=True)
    roof.now += 6 * HOUR
    roof.ledger.tick(roof.now - roof.started)
    roof.end()
    day = days_of(roof)[NEW_YEARS_DAY]
    assert day.energy_kwh == pytest.approx(before, abs=0.11)
    slots = slots_of(roof, NEW_YEARS_DAY)
    assert sum(slot.energy_kwh for slot in slots) == pytest.approx(day.energy_kwh, abs=1e-6)
    roof.restart(kill=True)
    roof.wait(600)
    assert days_of(roof)[NEW_YEARS_DAY].energy_kwh == day.energy_kwh, "it is said again at each start"


def test_first_day_has_the_energy_of_its_morning(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.now = 12 * HOUR
    roof.wait(12 * HOUR)
    roof.end()
    day, slots = days_of(roof)[NEW_YEARS_DAY], slots_of(roof, NEW_YEARS_DAY)
    assert day.energy_kwh == pytest.approx(roof.made(NEW_YEARS_DAY), abs=0.1001)
    morning = [slot for slot in slots if not slot.readings]
    assert sum(slot.energy_kwh for slot in morning) == pytest.approx(
        roof.day.values(12 * HOUR)["eDay"], rel=0.03
    )
    assert 3 * HOUR < morning[0].start - NEW_YEAR < 8 * HOUR
    assert 0.5 < day.seen < 0.7


@pytest.mark.parametrize("hours", [20, 44, 10 * 24])
def test_energy_of_days_that_nobody_saw_is_in_the_file(tmp_path, hours):
    """The rest of the day on which it was switched off, and days without a program at all."""
    roof = Roof(tmp_path / "history.db")
    roof.wait(DAY + 14 * HOUR)
    roof.restart()
    roof.now += hours * HOUR
    roof.wait(2 * DAY - roof.now % DAY)
    roof.end()
    days = days_of(roof)
    last = max(days)
    assert len(days) == (last - min(days)).days + 1
    made = roof.day.total(roof.now) - roof.day.total(0.0)
    assert sum(day.energy_kwh for day in days.values()) == pytest.approx(made, abs=0.1 * len(days))
    unseen = [day for day in days.values() if day.source == schema.SPREAD]
    assert len(unseen) == {20: 0, 44: 1, 240: 9}[hours]
    assert all(day.energy_kwh > 5 for day in days.values())
    with Reader(roof.path) as history:
        assert history.total_kwh(SERIAL) == pytest.approx(roof.day.total(roof.now), abs=0.11)


# the clock


def test_nothing_is_filed_under_a_day_that_is_not_known(tmp_path):
    """A machine without a clock chip begins in the past; what was read is filed when the time is known."""
    roof = Roof(tmp_path / "history.db")
    roof.wait(DAY)
    roof.restart(kill=True)
    roof.clock_right, roof.wrong_by = False, -400 * DAY
    roof.restart(kill=True)
    roof.wait(12 * HOUR)
    assert set(days_of(roof)) == {NEW_YEARS_DAY}
    assert ("started", None, "version") not in kinds_of(roof)
    roof.clock_right, roof.wrong_by = True, 0.0
    roof.wait(12 * HOUR)
    roof.end()
    second = NEW_YEARS_DAY + datetime.timedelta(1)
    days = days_of(roof)
    assert set(days) == {NEW_YEARS_DAY, second}
    assert days[second].energy_kwh == pytest.approx(roof.made(second), abs=0.1001)
    slots = slots_of(roof, second)
    assert sum(slot.readings for slot in slots) == pytest.approx(14 * 60, abs=3), "none was lost"
    for slot in slots:
        middle = slot.start + 150 - NEW_YEAR
        assert slot.values["pac"] == pytest.approx(roof.day.values(middle)["pac"], abs=60)


def test_clock_that_is_never_right_fills_no_memory(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.clock_right, roof.blind = False, True
    roof.restart(kill=True)
    roof.wait(15 * DAY, every=300.0)
    assert roof.output.status(0.0)["waiting"] <= MOST_SLOTS + 100
    roof.end()
    assert not os.path.exists(roof.path)


def test_clock_that_is_set_goes_on(tmp_path):
    """Back by two hours, and on again: nothing is counted twice, and the day is whole."""
    roof = Roof(tmp_path / "history.db")
    roof.blind = True
    roof.wait(12 * HOUR)
    for wrong in (-2 * HOUR, 0.0):
        roof.wrong_by = wrong
        roof.wait(HOUR)
    roof.wait(DAY - roof.now)
    roof.end()
    day = days_of(roof)[NEW_YEARS_DAY]
    assert day.energy_kwh == pytest.approx(roof.made(NEW_YEARS_DAY), abs=0.31)
    slots = slots_of(roof, NEW_YEARS_DAY)
    assert sum(slot.energy_kwh for slot in slots) == pytest.approx(day.energy_kwh, abs=1e-6)


def test_change_of_the_time_zone_is_followed(tmp_path, monkeypatch):
    roof = Roof(tmp_path / "history.db")
    roof.wait(DAY)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    roof.output.handle(Reading(SERIAL, 11, 1, roof.day.values(DAY + LONG_NOON), NEW_YEAR + DAY + LONG_NOON))
    roof.now = DAY + LONG_NOON + 400
    roof.end()
    assert set(days_of(roof)) >= {NEW_YEARS_DAY, NEW_YEARS_DAY + datetime.timedelta(2)}


# events


def test_story_of_a_day(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(12 * HOUR)
    roof.read(errorMessage=[9, 17], workMode=2)
    roof.output.handle(RefusedReading(SERIAL, "E-Total fell", "from 2.0 to 1.0 kWh"))
    roof.output.handle(RefusedReading(SERIAL, "E-Total fell", "from 2.0 to 1.1 kWh"))
    roof.now += 60
    roof.read(errorMessage=[17])
    roof.output.handle(Instructed(SERIAL, 60, "limited to 60 %"))
    roof.wait(12 * HOUR)
    roof.restart()
    roof.wait(DAY / 2)
    (started, *story) = [event for event in kinds_of(roof) if event[0] != "mode"]
    assert started[0] == "started"
    assert started[2].startswith("version ")
    assert story == [
        ("fault_on", 9, "utility loss"),
        ("fault_on", 17, "grid voltage out of range"),
        ("refused", None, "E-Total fell (from 2.0 to 1.0 kWh)"),
        ("fault_off", 9, "utility loss"),
        ("limit", 60, "limited to 60 %"),
        ("fault_off", 17, "grid voltage out of range"),
        ("away", None, "no answer"),
        ("stopped", None, ""),
        started,
        ("back", None, ""),
    ]
    assert [event[1] for event in kinds_of(roof, "mode")] == [1, 2, 1, 0, 1]


def test_fault_that_outlives_the_program_begins_once(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(12 * HOUR)
    roof.repaired = roof.blind = True  # the state is not saved in between, so totals fall back
    for kill in (True, False, True):
        for _ in range(3):
            roof.now += 60
            roof.read(errorMessage=[9])
            roof.turn()
        roof.now += 400
        roof.turn()
        roof.restart(kill=kill)
    roof.wait(600)
    assert kinds_of(roof, "fault_on", "fault_off") == [
        ("fault_on", 9, "utility loss"),
        ("fault_off", 9, "utility loss"),
    ]


def test_event_is_there_within_a_minute(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(12 * HOUR)
    roof.read(errorMessage=[9])
    roof.now += output_module.NEWS_WITHIN
    roof.turn()
    assert kinds_of(roof, "fault_on") == [("fault_on", 9, "utility loss")]


def test_events_that_repeat_are_bounded(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(12 * HOUR)
    for n in range(300):
        roof.output.handle(Offline(SERIAL, 11, "no answer"))
        roof.now += 20
        roof.read(errorMessage=[n % 2])
    roof.turn()
    away = kinds_of(roof, "away")
    assert len(away) == MOST_A_DAY
    assert away[-1][2] == "no answer; no more of these for a day"
    assert len(kinds_of(roof, "fault_on")) <= 2 * MOST_A_DAY


def test_model_and_firmware_are_kept(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(7 * HOUR)
    roof.output.handle(Info(SERIAL, "idInfo", {"modelName": "GW3600-NS", "firmwareVersion": "1.23"}))
    roof.wait(600)
    roof.restart(kill=True)
    roof.wait(600)
    with Reader(roof.path) as history:
        (inverter,) = history.inverters()
    assert (inverter.model, inverter.firmware, inverter.phases) == ("GW3600-NS", "1.23", 1)
    assert inverter.since == pytest.approx(NEW_YEAR + 6 * HOUR, abs=300)


# the file


def test_disk_that_takes_nothing_holds_nothing_up_and_loses_nothing(tmp_path, caplog):
    folder = tmp_path / "there"
    folder.touch()  # a file where a folder should be
    roof = Roof(folder / "history.db")
    roof.state = ""
    roof.wait(10 * HOUR)
    told = [record.message for record in caplog.records if record.message.startswith("history:")]
    assert len(told) == 1
    assert "must be a file, and it and its folder writable" in told[0]
    assert roof.output.status(0.0)["state"] == "in trouble"
    folder.unlink()
    with caplog.at_level(logging.INFO):
        roof.wait(14 * HOUR)
    assert "history: written again" in caplog.text
    roof.end()
    slots = slots_of(roof, NEW_YEARS_DAY)
    assert all(slot.readings for slot in slots)
    assert days_of(roof)[NEW_YEARS_DAY].energy_kwh == pytest.approx(roof.made(NEW_YEARS_DAY), abs=0.1001)


def test_disk_that_hangs_fills_no_memory_and_is_said_once(tmp_path, caplog):
    roof = Roof(tmp_path / "history.db")
    roof.worker.stuck = True
    roof.wait(20 * DAY, every=300.0)
    assert len(roof.worker.waiting) == 1
    roof.output._writing = False  # it has failed, after all
    roof.output._recorder.close(NEVER)
    roof.output._tell_lost()
    roof.output._tell_lost()
    assert roof.output.status(0.0)["waiting"] <= MOST_SLOTS + 1000
    assert caplog.text.count("is dropped from now on") == 1


def test_file_that_is_deleted_while_it_runs_begins_anew(tmp_path, caplog):
    roof = Roof(tmp_path / "history.db")
    roof.wait(12 * HOUR)
    for ending in ("", "-wal", "-shm"):
        Path(roof.path + ending).unlink(missing_ok=True)
    roof.wait(12 * HOUR)
    roof.end()
    assert caplog.text.count("is not there any more; beginning anew") == 1
    assert days_of(roof)[NEW_YEARS_DAY].energy_kwh == pytest.approx(roof.made(NEW_YEARS_DAY), abs=0.1001)


def test_file_of_a_later_version_is_set_aside_and_kept(tmp_path, caplog):
    roof = Roof(tmp_path / "history.db")
    roof.wait(8 * HOUR)
    for number in ("", ".2"):
        roof.restart()
        connection = sqlite3.connect(roof.path)
        connection.execute("PRAGMA user_version = 7")
        connection.close()
        roof.restart()
        roof.wait(HOUR)
        assert f"set aside as {roof.path}.later{number}, beginning anew" in caplog.text
    assert len(slots_of(roof, NEW_YEARS_DAY)) > 10


def test_row_that_is_new_gets_its_column(tmp_path):
    roof = Roof(tmp_path / "history.db")
    roof.wait(8 * HOUR)
    roof.end()
    connection = sqlite3.connect(roof.path)
    connection.execute("ALTER TABLE slots DROP COLUMN temp_high")
    connection.close()
    assert "temp" in slots_of(roof, NEW_YEARS_DAY)[0].low
    assert "temp" not in slots_of(roof, NEW_YEARS_DAY)[0].high
    roof.restart()
    roof.wait(HOUR)
    slots = slots_of(roof, NEW_YEARS_DAY)
    assert "temp" not in slots[0].high
    assert "temp" in slots[-1].high


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A morning's history: its bytes."""
    roof = Roof(tmp_path_factory.mktemp("whole") / "history.db")
    roof.wait(9 * HOUR, every=100.0)
    roof.end()
    return Path(roof.path).read_bytes()


class Patient:
    """A file that is damaged in many ways, one after the other."""

    def __init__(self, folder, whole):
        self.path = folder / "history.db"
        self.whole = whole
        self.batch_of = None

    def survives(self, content):
        """The next reading is written, whatever was in the file, and whoever reads is answered or told."""
        for path in self.path.parent.glob("history.db*"):
            path.unlink()
        self.path.write_bytes(content)
        try:
            with Reader(str(self.path)) as history:
                history.inverters()
                history.slots(NEW_YEARS_DAY)
                history.latest()
                history.sums("month")
                history.days(datetime.date.min, datetime.date.max)
                history.events(float("-inf"), float("inf"))
                history.total_kwh(SERIAL)
                history.span()
        except HistoryError:
            pass
        recorder = Recorder()
        values = House("").day.values(10 * HOUR)
        recorder.reading(
            Reading(SERIAL, 11, 1, {**dict.fromkeys(recorder_keys(), 0.0), **values}), NEW_YEAR + 10 * HOUR
        )
        archive = Archive(str(self.path))
        archive.write(recorder.take(NEVER))
        archive.close()
        with Reader(str(self.path)) as history:
            by_start = {slot.start: slot for slot in history.slots(NEW_YEARS_DAY, SERIAL)}
        assert by_start[NEW_YEAR + 10 * HOUR].values["pac"] == values["pac"]


def recorder_keys():
    return ["vac1", "vac2", "vac3", "temp", "pac"]


@pytest.fixture
def patient(tmp_path, whole):
    return Patient(tmp_path, whole)


def test_no_byte_of_the_header_keeps_a_slot_out(patient):
    for at in range(100):
        for value in {3, 0xFF, patient.whole[at] ^ 1} - {patient.whole[at]}:
            patient.survives(patient.whole[:at] + bytes([value]) + patient.whole[at + 1 :])


def test_no_flipped_bit_keeps_a_slot_out(patient):
    chance = Random(1)
    used = [at for at in range(len(patient.whole)) if any(patient.whole[max(0, at - 8) : at + 8])]
    for at in chance.sample(used, 300):
        flipped = bytearray(patient.whole)
        flipped[at] ^= 1 << chance.randrange(8)
        patient.survives(bytes(flipped))


def test_no_lost_end_and_no_rubbish_keeps_a_slot_out(patient):
    whole, page = patient.whole, 4096
    for length in (0, 1, 15, 16, 99, 100, 101, 512, page - 1, page, page + 1, 2 * page, len(whole) - 1):
        patient.survives(whole[:length])
    chance = Random(2)
    for rubbish in (b"\0", b"\xff", b"A", b"\x7f"):
        for length in (8, 100, page):
            for at in (*range(0, len(whole), page), *chance.sample(range(len(whole)), 4)):
                patient.survives(whole[:at] + rubbish * length + whole[at + length :])


def test_output_is_made_of_its_section(tmp_path):
    from goodwe.config import parse

    config, warnings = parse(
        f"[history]\nfile = {tmp_path}/history.db\n[inverter]\npollinterval = 300000\n", "test"
    )
    assert not warnings
    clock = Clock()
    context = Context(Loop(clock), Random(1), lambda: NEW_YEAR, None, config, 300.0, lambda: True)
    output = output_module.make(config.history, context)
    assert output.status(0.0)["state"] == "running"
    assert output._recorder._bridge == 900.0
    output.close()
    assert not output.dropped


def test_history_needs_a_file():
    from goodwe.config import parse
    from goodwe.errors import ConfigError

    with pytest.raises(ConfigError, match="file is empty; name one"):
        parse("[history]\nfile =\n", "test")
    assert parse("[history]\nfile =\nenabled = off\n", "test")[0].history.enabled is False


def test_zone_of_the_house_is_the_machines():
    assert (
        dates.bounds(NEW_YEARS_DAY).start
        == NEW_YEAR
        == datetime.datetime(2026, 1, 1, tzinfo=ZONE).timestamp()
    )
