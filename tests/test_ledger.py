"""The way out of every reading: what passes, what is said in the log, what is repeated and saved."""

import time
from types import SimpleNamespace

import pytest

from goodwe.events import Found, Offline, Online, Reading, Remembered, Resting
from goodwe.loop import NEVER
from goodwe.protocol.identity import Identity
from goodwe.protocol.simulator import Day
from goodwe.readings import clock, ledger
from goodwe.readings.ledger import Ledger
from goodwe.readings.plausibility import Account
from goodwe.readings.state import Memory

from .test_year import NOTHING, Immediately

SERIAL = "15000SIM268W0001"
NOON = 12 * 3600.0
GOOD = {**NOTHING, **Day(1).values(NOON)}


class Books:
    """A ledger on a clock of our own, and what it publishes."""

    def __init__(self, path="", **options):
        self.now = 1000.0
        self.published = []
        self.ledger = Ledger(
            str(path),
            loop=SimpleNamespace(clock=lambda: self.now, post=None),
            publish=self.published.append,
            wall_clock=lambda: 1.8e9 + self.now,
            clock_right=lambda: True,
            localtime=time.gmtime,
            worker=Immediately(),
            **options,
        )

    def read(self, **changes):
        self.now += 2.5
        self.ledger.handle(Reading(SERIAL, 11, 1, {**GOOD, **changes}, 1.8e9 + self.now))

    def take(self):
        taken, self.published[:] = list(self.published), []
        return taken


def test_first_reading_waits_for_the_second_and_later_ones_pass_at_once():
    wanted = []
    books = Books(poll=wanted.append)
    books.read()
    assert (books.take(), wanted) == ([], [SERIAL])
    books.read()
    assert [type(event) for event in books.take()] == [Reading]
    books.read(pac=1800)
    assert [event.values["pac"] for event in books.take()] == [1800]
    assert wanted == [SERIAL]


def test_new_inverter_is_not_asked_faster_for_as_long_as_it_has_made_nothing():
    wanted = []
    books = Books(poll=wanted.append)
    for _ in range(100):
        books.read(eTotal=0.0, eDay=0.0)
    assert (books.take(), wanted) == ([], [SERIAL])


def test_state_keeps_what_plausibility_off_believes(tmp_path):
    books = Books(tmp_path / "state.json", believe_all=True)
    books.read(hTotal=2_000_000)
    books.ledger.close()
    again = Books(tmp_path / "state.json", believe_all=True)
    again.ledger.begin()
    assert [event.serial for event in again.take()] == [SERIAL, SERIAL]


def test_what_is_no_reading_passes():
    books = Books()
    for event in (Found(SERIAL, 11), Online(SERIAL, 11)):
        books.ledger.handle(event)
        assert books.take() == [event]


def test_inverter_that_was_never_believed_is_not_said_to_be_away():
    books = Books()
    books.read()
    books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    assert books.take() == []
    assert books.ledger.deadline == NEVER


def test_away_is_said_at_once_with_nothing_flowing_and_again_every_five_minutes():
    books = Books()
    books.read()
    books.read()
    books.take()
    gone = Offline(SERIAL, 11, "unplugged")
    books.ledger.handle(gone)
    offline, resting = books.take()
    assert offline == gone
    assert (type(resting), resting.values["pac"], resting.values["vac1"]) == (Resting, 0, 0.0)
    assert (resting.values["eTotal"], resting.values["workMode"]) == (GOOD["eTotal"], 0)
    assert resting.values["temp"] == GOOD["temp"]
    assert resting.when == resting.said == 1.8e9 + books.now
    for _ in range(3):
        assert books.ledger.deadline == books.now + ledger.REPEAT_EVERY
        books.now = books.ledger.deadline
        books.ledger.tick(books.now)
        assert [(type(event), event.said) for event in books.take()] == [(Resting, 1.8e9 + books.now)]


def test_today_is_nothing_from_midnight_on_also_for_one_that_is_away():
    books = Books()
    books.read()
    books.read()
    books.ledger.handle(Offline(SERIAL, 11, "unplugged"))
    before = books.take()[-1].values["eDay"]
    assert before > 0
    while books.ledger.deadline < NEVER:
        books.now = books.ledger.deadline
        books.ledger.tick(books.now)
        (resting,) = books.take()
        seconds = (1.8e9 + books.now) % 86400
        if resting.values["eDay"] != before:
            assert (resting.values["eDay"], seconds < 1.0) == (0.0, True)
            break


def test_keep_says_nothing_for_an_inverter_that_is_away():
    books = Books(speak_for_absent=False)
    books.read()
    books.read()
    books.take()
    books.ledger.handle(Offline(SERIAL, 11, "unplugged"))
    assert [type(event) for event in books.take()] == [Offline]
    assert books.ledger.deadline == NEVER


def test_program_that_ends_says_that_nobody_is_there_and_no_zeros():
    books = Books()
    books.read()
    books.read()
    books.take()
    books.ledger.stop()
    books.ledger.handle(Offline(SERIAL, 11, "the program ends"))
    assert [type(event) for event in books.take()] == [Offline]
    books.ledger.close()
    assert books.ledger.closed
    assert books.ledger.deadline == NEVER, "or the loop would spin until everything is closed"


def test_inverter_of_which_nothing_is_believed_counts_as_away_after_a_minute(caplog):
    caplog.set_level("INFO")
    books = Books()
    books.read()
    books.read()
    books.take()
    assert books.ledger.deadline == books.now + 62.5
    books.now += 62.5
    books.ledger.tick(books.now)
    offline, resting = books.take()
    assert (offline.reason, type(resting)) == ("no believable reading", Resting)
    assert "Marking inverter @ address 11 offline (no believable reading)" in caplog.messages
    books.read(pac=1700)
    assert [type(event) for event in books.take()] == [Reading]


def test_refusal_is_one_line_and_counted(caplog):
    books = Books()
    books.read()
    books.read()
    for _ in range(5):
        books.read(eTotal=GOOD["eTotal"] + 40)
    (message,) = caplog.messages
    assert message.startswith(f"{SERIAL}: refused a reading, E-Total rose too fast (from 43")
    assert books.ledger.tally.counts[f"{SERIAL} E-Total rose too fast"] == 5


def test_how_often_each_reason_came_is_said_at_the_end(caplog):
    caplog.set_level("INFO")
    books = Books()
    books.read()
    for _ in range(3):
        books.read(pac=30_000)
    books.ledger.close()
    assert (
        f"Refused readings since the start: {SERIAL} more power than the inverter has: 3" in caplog.messages
    )


def test_plausibility_off_publishes_whatever_comes():
    books = Books(believe_all=True)
    books.read(eTotal=0.0, eDay=99.9, pac=65000)
    (event,) = books.take()
    assert (event.values["eTotal"], event.values["eDay"], event.values["pac"]) == (0.0, 99.9, 65000)


def test_hybrid_that_takes_power_from_the_grid_is_believed():
    books = Books()
    books.read(pac=-133)
    books.read(pac=-150)
    assert [event.values["pac"] for event in books.take()] == [-150]


def test_remembered_inverter_is_said_to_be_away_before_it_comes(tmp_path):
    books = Books(tmp_path / "state.json")
    books.read()
    books.read()
    books.ledger.tick(books.now)
    again = Books(tmp_path / "state.json")
    again.now = books.now + 60
    again.ledger.begin()
    remembered, resting = again.take()
    assert remembered == Remembered(SERIAL)
    assert resting.values["eTotal"] == GOOD["eTotal"]
    again.read()
    assert [type(event) for event in again.take()] == [Reading], "it agrees with what is known of it"


def test_saved_and_loaded_is_the_same(tmp_path):
    path = str(tmp_path / "deep" / "state.json")
    account = Account(
        11, 3, 1.5e9, {**GOOD, "errorMessage": [9]}, "2026-11-23", *["2026-11-23"] * 2, 1.0, 0.0, 2.5
    )
    memory = Memory(account, Identity({"modelName": "GW1500-XS"}, None, True))
    ledger.state.save(path, {SERIAL: memory})
    assert ledger.state.load(path) == {SERIAL: memory}


def test_state_that_cannot_be_read_is_said(tmp_path, caplog):
    (tmp_path / "state.json").mkdir()
    assert ledger.state.load(str(tmp_path / "state.json")) == {}
    assert "cannot read" in caplog.text


@pytest.mark.parametrize(
    ("now", "chip", "in_step", "right"),
    [
        (2e9, "2000000010\n", False, True),
        (2e9, None, True, True),
        (2e9, None, False, False),
        (1e6, "1000000\n", True, False),
        (2e9, "1700000000\n", False, False),  # a Pi 5 without a battery, before the network has set its clock
        (2e9, "rubbish", False, False),
    ],
)
def test_clock_is_right_when_it_was_set(monkeypatch, tmp_path, now, chip, in_step, right):
    if chip is not None:
        (tmp_path / "since_epoch").write_text(chip)
    monkeypatch.setattr(clock.time, "time", lambda: now)
    monkeypatch.setattr(clock, "CLOCK_CHIP", str(tmp_path / "since_epoch"))
    monkeypatch.setattr(clock, "_kept_in_step", lambda: in_step)
    assert clock.clock_is_right() is right


def test_kernel_is_asked_whether_its_clock_is_kept_in_step():
    assert clock._kept_in_step() in (True, False)
