"""The way out of every reading: what passes, what is said in the log, what is repeated and saved."""

import copy
import errno
import functools
import json
import operator
import os
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodwe.events import Found, Offline, Online, Reading, Remembered, Resting
from goodwe.loop import NEVER
from goodwe.outputs.mqtt import payload
from goodwe.protocol.fields import RUNNING, decode_running, encode_running
from goodwe.protocol.identity import Identity
from goodwe.protocol.simulator import Day
from goodwe.readings import clock, ledger
from goodwe.readings.ledger import Ledger
from goodwe.readings.plausibility import Account
from goodwe.readings.state import Memory
from goodwe.snapshot import Snapshot

from .house import NOTHING, Immediately

SERIAL = "15000SIM268W0001"
NOON = 12 * 3600.0
GOOD = {**NOTHING, **Day(1).values(NOON)}


class Books:
    """A ledger on a clock of our own, and what it publishes."""

    def __init__(self, path="", **options):
        self.now = 1000.0
        self.clock_right, self.wrong_by = True, 0.0
        self.published = []
        self.ledger = Ledger(
            str(path),
            loop=SimpleNamespace(clock=lambda: self.now, post=None),
            publish=self.published.append,
            wall_clock=lambda: 1.8e9 + self.now + self.wrong_by,
            clock_right=lambda: self.clock_right,
            worker=Immediately(),
            **{"localtime": time.gmtime, **options},
        )

    def read(self, **changes):
        self.now += 2.5
        self.ledger.handle(Reading(SERIAL, 11, 1, {**GOOD, **changes}, 1.8e9 + self.now + self.wrong_by))

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


def test_away_is_said_once_however_often_it_registers_in_vain():
    books = Books()
    books.read()
    books.read()
    for _ in range(3):
        books.ledger.handle(Found(SERIAL, 11))
        books.ledger.handle(Online(SERIAL, 11))
        books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    said = [type(event) for event in books.take()]
    assert (said.count(Offline), said.count(Resting)) == (1, 1)
    books.read(pac=1700)
    books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    assert [type(event) for event in books.take()] == [Reading, Offline, Resting]


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


def test_inverter_that_never_gave_a_reading_goes_away():
    """It registered, and that was all."""
    books = Books()
    for event in (Found(SERIAL, 11), Online(SERIAL, 11)):
        books.ledger.handle(event)
    books.take()
    books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    assert books.take() == []
    assert books.ledger.deadline == NEVER


@pytest.mark.parametrize(("days", "spoken_for"), [(13.99, True), (14.01, False)])
def test_inverter_is_spoken_for_two_weeks(tmp_path, days, spoken_for):
    books = Books(tmp_path / "state.json")
    books.read()
    books.read()
    books.ledger.close()
    again = Books(tmp_path / "state.json")
    again.now = books.now + days * 86400
    again.ledger.begin()
    assert (len(again.take()) == 2) == spoken_for
    assert (again.ledger.deadline < NEVER) == spoken_for


def test_inverter_that_was_seen_under_no_right_clock_is_not_forgotten():
    """It may have been a minute ago."""
    books = Books()
    books.clock_right, books.wrong_by = False, -30 * 86400.0
    books.read()
    books.read()
    books.clock_right, books.wrong_by = True, 0.0
    books.take()
    books.ledger.handle(Offline(SERIAL, 11, "unplugged"))
    assert [type(event) for event in books.take()] == [Offline, Resting]


def test_clock_that_gives_a_moment_which_the_machine_cannot_show_is_no_clock():
    """A machine with 32 bits, in 2038; and a year of five digits."""
    books = Books(localtime=unshowable)
    books.read()
    books.read()
    books.ledger.handle(Offline(SERIAL, 11, "unplugged"))
    assert [type(event) for event in books.take()] == [Reading, Offline, Resting]
    assert books.ledger.deadline == books.now + ledger.REPEAT_EVERY


@pytest.mark.parametrize("epoch", [4e11, -7e10])
def test_year_that_has_not_four_digits_is_no_clock(tmp_path, epoch):
    books = Books(tmp_path / "state.json")
    books.wrong_by = epoch
    books.read()
    books.read()
    books.ledger.close()
    assert ledger.state.load(str(tmp_path / "state.json"))[SERIAL].account.today == ""


def unshowable(epoch):
    raise OverflowError("timestamp out of range for platform time_t")


def test_change_of_the_time_zone_is_followed(zone):
    """Python looks only once, at the start."""
    zone("Europe/Amsterdam")
    assert clock.local_time(1.8e9).tm_hour == 9
    os.environ["TZ"] = "Asia/Tokyo"
    assert clock.local_time(1.8e9).tm_hour == 17


def test_day_that_begins_is_saved(tmp_path):
    """Else a restart in the morning, before the clock is set, shows yesterday's energy."""
    books = Books(tmp_path / "state.json")
    books.read()
    books.read()
    books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    for _ in range(2 * 86400 // int(ledger.REPEAT_EVERY)):
        books.now = books.ledger.deadline
        books.ledger.tick(books.now)
    assert ledger.state.load(str(tmp_path / "state.json"))[SERIAL].account.shown == 0.0


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (errno.EACCES, "must be able to write to"),
        (errno.EPERM, "must be able to write to"),
        (errno.EROFS, "name another place with [inverter] statefile"),
        (errno.ENOSPC, "make room there"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("verb", ["read", "save"])
def test_file_that_cannot_be_read_or_saved_is_said_with_a_remedy(
    monkeypatch, tmp_path, error, remedy, verb, caplog
):
    def fails(*arguments, **options):
        raise OSError(error, os.strerror(error))

    if verb == "save":
        books = Books(tmp_path / "state.json")
        monkeypatch.setattr(ledger.state.os, "makedirs", fails)
        books.read()
        books.read()
        books.ledger.close()
    else:
        monkeypatch.setattr(ledger.state.os, "open", fails)
        assert ledger.state.load(str(tmp_path / "state.json")) == {}
    assert f"cannot {verb} {tmp_path / 'state.json'}" in caplog.text
    assert remedy in caplog.text
    assert "Traceback" not in caplog.text


def test_file_of_somebody_else_is_to_be_given_to_the_user_of_the_program(monkeypatch, tmp_path):
    """Here one who has a number and no name."""
    monkeypatch.setattr(ledger.state.os, "geteuid", lambda: 4_000_000)
    monkeypatch.setattr(ledger.state.os, "access", lambda path, mode: False)
    path = tmp_path / "state.json"
    path.touch()
    said = ledger.state.remedy(str(path), PermissionError(errno.EACCES, "Permission denied"))
    assert said == f"Permission denied (sudo chown 4000000 {path})"


def test_pipe_in_place_of_the_state_holds_nobody_up(tmp_path, caplog):
    os.mkfifo(tmp_path / "state.json")
    assert ledger.state.load(str(tmp_path / "state.json")) == {}
    assert "cannot read" in caplog.text


def test_file_that_is_endless_is_damaged(tmp_path, caplog):
    with open(tmp_path / "state.json", "wb") as file:
        file.truncate(ledger.state.LONGEST + 1)
    assert ledger.state.load(str(tmp_path / "state.json")) == {}
    assert "is damaged" in caplog.text


def test_damaged_file_that_cannot_be_set_aside_is_said(tmp_path, caplog):
    (tmp_path / "state.json").write_text("{")
    (tmp_path / "state.json.damaged").mkdir()
    assert ledger.state.load(str(tmp_path / "state.json")) == {}
    assert "cannot be set aside" in caplog.text


def test_state_of_an_earlier_version_is_read(tmp_path):
    """One without the days before today."""
    books = Books(tmp_path / "state.json")
    books.read()
    books.read()
    books.ledger.close()
    content = json.loads((tmp_path / "state.json").read_text())
    assert content["inverters"][SERIAL].pop("earlier") == {}
    (tmp_path / "state.json").write_text(json.dumps(content))
    assert ledger.state.load(str(tmp_path / "state.json"))[SERIAL].account.earlier == {}


# how it stands


def test_status_tells_each_inverter_by_serial_in_plain_values():
    books = Books()
    assert books.ledger.status(books.now) == {}
    books.read()
    (told,) = books.ledger.status(books.now + 1.5).values()
    assert (told["online"], told["held"], told["last_reading_seconds"]) == (False, True, None)
    assert told["waits_to_be_believed"] == {"reason": "first reading", "since_seconds": 1.5}
    books.read()
    books.read(pac=30_000)
    told = books.ledger.status(books.now + 1.5)[SERIAL]
    assert Snapshot(told).plain() == told
    assert (told["online"], told["held"], told["last_reading_seconds"]) == (True, False, 4.0)
    assert (told["total_kwh"], told["today_kwh"]) == (GOOD["eTotal"], GOOD["eDay"])
    assert (told["values"]["pac"], told["values"]["vac1"]) == (GOOD["pac"], GOOD["vac1"])
    assert told["refused"] == {"more power than the inverter has": 1}
    assert (told["rated_watts"], told["model"], told["address"]) == (5000, None, 11)


def test_status_of_one_that_is_away_over_midnight_and_a_restart(tmp_path):
    books = Books(tmp_path / "state.json")
    books.read()
    books.read()
    books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    books.ledger.close()
    again = Books(tmp_path / "state.json", speak_for_absent=False)
    again.now = books.now + 86400
    again.ledger.begin()
    told = again.ledger.status(again.now)[SERIAL]
    assert (told["online"], told["values"], told["last_reading_seconds"]) == (False, None, 86400.0)
    assert (told["total_kwh"], told["today_kwh"], told["spoken_for"]) == (GOOD["eTotal"], 0.0, False)
    unsure = Books(tmp_path / "state.json")
    unsure.clock_right = False
    assert unsure.ledger.status(unsure.now)[SERIAL]["last_reading_seconds"] is None


# damage of every kind

REAL = {
    "version": 1,
    "inverters": {
        SERIAL: {
            **Account(
                *(11, 1, 1.8e9 - 3600, {**GOOD, "errorMessage": [9, 17]}),
                *("2026-11-23", "2026-11-23", "2026-11-23", 4300.0, 0.0, 2.5, {"2026-11-22": 4298.0}),
            )._asdict(),
            "identity": Identity(
                {"modelName": "GW1500-XS", "safetyCountry": 32}, {"vacMin": 196.0}
            )._asdict(),
        }
    },
}
ODD = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            -1,
            1,
            2**31,
            2**32,
            2**63,
            10**400,
            1e308,
            -1e308,
            5e-324,
            1e16,
            float("nan"),
        ),
        *(
            float("inf"),
            "",
            "x",
            "2026-11-23",
            "\x00",
            "9" * 5000,
            [],
            [[]],
            [1e308],
            {},
            {"a": {}},
            [31, 31],
        ),
    ]
)


def spots(value, path=()):
    """Every place in a state file, by the keys that lead to it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from spots(inner, (*path, key))


def loaded_and_told(path):
    """A program begins with this file, and says all that it knows, as every output would need it."""
    books = Books(path)
    books.ledger.begin()
    for event in books.take():
        if isinstance(event, Resting):
            decode_running(encode_running(event.values, 66))
            payload.data_json(event, time.gmtime, language="en", with_id=True)
            time.gmtime(event.when)
    books.read()
    books.read()
    books.ledger.close()


@settings(max_examples=300, derandomize=True, deadline=None)
@given(spot=st.sampled_from(list(spots(REAL))), odd=ODD, remove=st.booleans())
def test_state_with_anything_in_any_place_never_ends_the_program(tmp_path_factory, spot, odd, remove):
    content = copy.deepcopy(REAL)
    holder = functools.reduce(operator.getitem, spot[:-1], content)
    if not spot:
        content = odd
    elif remove:
        del holder[spot[-1]]
    else:
        holder[spot[-1]] = odd
    path = tmp_path_factory.mktemp("state") / "state.json"
    path.write_text(json.dumps(content))
    loaded_and_told(path)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(data=st.data())
def test_state_with_flipped_and_lost_bytes_never_ends_the_program(tmp_path_factory, data):
    raw = bytearray(json.dumps(REAL).encode())
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("state") / "state.json"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    loaded_and_told(path)


@pytest.mark.parametrize("row", [row.key for row in RUNNING if row.key != "errorMessage"])
@pytest.mark.parametrize("value", [1e308, -1e308, 2.0**33, True, "1", None])
def test_value_that_no_inverter_can_have_sent_is_damage(tmp_path, row, value, caplog):
    """1e308 in a fault value ended the program at every start."""
    content = copy.deepcopy(REAL)
    content["inverters"][SERIAL]["values"][row] = value
    (tmp_path / "state.json").write_text(json.dumps(content))
    assert ledger.state.load(str(tmp_path / "state.json")) == {}
    assert json.loads((tmp_path / "state.json.damaged").read_text()) == content


@pytest.mark.parametrize(
    ("address", "known"), [(0, []), (1, [SERIAL]), (0x7E, [SERIAL]), (0x7F, []), (256, [])]
)
def test_address_that_no_inverter_can_be_given_is_damage(tmp_path, address, known):
    content = copy.deepcopy(REAL)
    content["inverters"][SERIAL]["address"] = address
    (tmp_path / "state.json").write_text(json.dumps(content))
    assert list(ledger.state.load(str(tmp_path / "state.json"))) == known


def test_state_as_it_is_meant_to_be_is_no_damage(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps(REAL))
    assert list(ledger.state.load(str(tmp_path / "state.json"))) == [SERIAL]


def test_moment_that_a_machine_with_32_bits_cannot_show_is_published_all_the_same(tmp_path):
    """In a file that a clock has spoilt; the totals in it are good."""
    content = copy.deepcopy(REAL)
    content["inverters"][SERIAL] |= {"when": 2.0**31 + 1, "read_day": ""}
    (tmp_path / "state.json").write_text(json.dumps(content))
    books = Books(tmp_path / "state.json", localtime=unshowable)
    books.ledger.begin()
    *_, resting = books.take()
    assert json.loads(payload.data_json(resting, unshowable))["runningInfo"]["eTotal"] == GOOD["eTotal"]
