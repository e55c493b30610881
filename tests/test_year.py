"""A year of every bad habit, mishap and wrong clock, and what must hold in every message that comes of it.

The scripts are named after what users of such programs report: yesterday's energy at dawn, totals that fall
to 0 or jump, a clock that is wrong after the boot, restarts at any moment. Time is an argument: a simulated
year takes seconds. How many messages were checked stands at the end of what pytest prints.
"""

import datetime
import json
from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goodwe.events import Reading, Resting
from goodwe.protocol.scripts import MARK, SCRIPTS
from goodwe.protocol.simulator import Day
from goodwe.readings import ledger, plausibility
from goodwe.readings.plausibility import FELL, POWER, RANGE, ROSE, STUCK

from .conftest import CHECKED
from .house import DAWN, DAY, DUSK, HOUR, NEW_YEAR, NOTHING, OTHER, SERIAL, SHARP, ZONE, House


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    monkeypatch.setattr(ledger.state.os, "fsync", lambda descriptor: None)


@pytest.fixture
def report(request):
    """Adds the messages that a house has checked to the sum that is printed at the end."""
    checked = request.config.stash.setdefault(CHECKED, [])
    return lambda house: checked.append(house.checked)


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "repaired-on-day-2"])
def test_year(script, report):
    """No habit of the inverter reaches the values, on any day of the year."""
    house = House("", script)
    house.wait(365 * DAY, every=900.0)
    report(house)
    assert house.checked > 20_000
    assert house.online == {SERIAL: False}


@pytest.mark.parametrize("script", ["day-kept-until-one", "healthy"])
def test_year_of_an_inverter_that_never_sleeps(script, report):
    """Midnight is midnight, whenever the inverter begins its day."""
    house = House("", script)
    house.wait(365 * DAY, every=900.0, nights=True)
    report(house)
    assert house.checked > 35_000


def test_energy_of_the_day_is_right_all_day():
    """Not only never yesterday's, also today's."""
    for script in (
        "healthy",
        "stale-day-at-dawn",
        "restarts-at-noon",
        "day-jumps-at-noon",
        "day-kept-until-one",
    ):
        house = House("", script)
        for _ in range(20):
            house.wait(4 * HOUR)
            if house.messages:
                assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


@pytest.mark.parametrize("moment", [1.0, DAWN - 60, DAWN + 60, DAWN + 1500, 12 * HOUR, DUSK + 60, DAY - 1])
@pytest.mark.parametrize("script", ["healthy", "stale-day-at-dawn", "total-zero-at-dawn"])
@pytest.mark.parametrize("kill", [False, True])
def test_restart_at_any_moment(tmp_path, script, moment, kill, report):
    """Totals and the day survive a restart of the program, a clean one and a power cut."""
    house = House(tmp_path / "state.json", script)
    house.wait(3 * DAY)
    house.wait(moment, every=60.0)
    house.restart(kill=kill)
    house.wait(2 * DAY, every=60.0)
    report(house)
    assert house.messages[-1].values["eTotal"] == pytest.approx(house._total(house.now), abs=0.11)


def test_restart_at_night_gives_the_stored_totals_at_once(tmp_path):
    """A consumer that starts at night has values."""
    house = House(tmp_path / "state.json")
    house.wait(DAY + 23 * HOUR)
    seen = len(house.messages)
    house.restart()
    (message, *_) = house.messages[seen:]
    assert (type(message), message.values["pac"]) == (Resting, 0)
    assert message.values["eTotal"] == pytest.approx(house._total(house.now), abs=0.11)
    assert message.values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)
    house.wait(2 * HOUR)
    assert house.messages[-1].values["eDay"] == 0.0, "after midnight"


def test_night_is_repeated_every_five_minutes_and_not_with_keep(tmp_path):
    house = House()
    house.wait(DUSK + 600)
    seen = len(house.messages)
    house.wait(HOUR)
    assert len(house.messages) - seen == HOUR / ledger.REPEAT_EVERY
    house.ledger._speak_for_absent = False
    house.wait(DAY - house.now % DAY + DUSK + 600)
    assert isinstance(house.messages[-1], Reading)


@pytest.mark.parametrize("kill", [False, True])
def test_program_that_was_off_for_a_week(tmp_path, kill, report):
    house = House(tmp_path / "state.json", "stale-day-at-dawn")
    house.wait(3 * DAY + 12 * HOUR)
    house.now += 7 * DAY
    house.restart(kill=kill)
    house.wait(3 * DAY)
    report(house)


@pytest.mark.parametrize("moment", [DAWN + 60, 12 * HOUR, 23 * HOUR])
@pytest.mark.parametrize("behind", [600.0, 5 * HOUR, 3 * DAY, 400 * DAY])
def test_machine_without_a_clock_chip(tmp_path, moment, behind, report):
    """Nothing is rolled over before the clock is known to be right."""
    house = House(tmp_path / "state.json", "stale-day-at-dawn")
    house.wait(2 * DAY + moment, every=60.0)
    house.clock_right, house.wrong_by = False, -behind
    seen = len(house.messages)
    house.restart(kill=True)
    house.wait(300.0, every=60.0)
    days = {message.values["eDay"] for message in house.messages[seen:]}
    assert all(day <= house.energy_today() + SHARP for day in days)
    house.clock_right, house.wrong_by = True, 0.0
    house.wait(2 * DAY, every=60.0)
    report(house)
    assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


@pytest.mark.parametrize("moment", [600.0, 12 * HOUR, DAWN + 600])
@pytest.mark.parametrize("jump", [-HOUR, 10 * 365 * DAY, -56 * 365 * DAY, DAY])
def test_clock_that_jumps_and_comes_back(moment, jump, report):
    """An hour back, ten years on, to 1970, a day: afterwards all is as it was."""
    house = House()
    house.wait(2 * DAY + moment)
    house.wrong_by, house.blind = jump, True
    house.wait(HOUR, every=60.0)
    house.wrong_by, house.blind = 0.0, False
    house.wait(2 * DAY, every=60.0)
    report(house)
    assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


@pytest.mark.parametrize("month_and_day", [(3, 29), (10, 25)])
def test_days_of_23_and_of_25_hours(month_and_day, report):
    """Daylight-saving days of 2026 in Europe."""
    house = House("", "stale-day-at-dawn")
    change = datetime.datetime(2026, *month_and_day, tzinfo=ZONE).timestamp() - NEW_YEAR
    house.now = change - DAY
    house.wait(3 * DAY, every=60.0)
    report(house)
    assert house.checked > 1000


@pytest.mark.parametrize("script", ["healthy", "stale-day-at-dawn"])
@pytest.mark.parametrize("hours", [18.1, 18.5, 22.0, 42.1, 42.5, 46.0, 90.2])
@pytest.mark.parametrize("off", [False, True])
def test_unplugged_or_off_from_noon_until_another_morning(tmp_path, script, hours, off, report):
    """Energy that was made on days that nobody saw is not today's."""
    house = House(tmp_path / "state.json", script)
    house.wait(2 * DAY + 12 * HOUR)
    house.sleep("unplugged")
    if off:
        house.restart()
        house.now += hours * HOUR
        house.restart(kill=True)
    else:
        house.away(hours * HOUR)
    house.wait(2 * DAY, every=60.0)
    report(house)
    assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


@pytest.mark.parametrize("script", ["healthy", "restarts-at-noon"])
def test_week_without_a_right_clock(script):
    """The inverter's own days are the days then."""
    house = House("", script)
    house.clock_right, house.wrong_by, house.blind = False, -3 * DAY, True
    house.wait(DUSK - 600)
    for _ in range(6):
        house.wait(DAY)
        assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


def test_clock_that_loses_its_source_stays_right():
    house = House()
    house.wait(DUSK - 600)
    house.clock_right = False
    for _ in range(6):
        house.wait(DAY)
        assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


@pytest.mark.parametrize("wrong", [0.0, 30.0])
@pytest.mark.parametrize("seconds", [10.0, 120.0])
def test_day_that_is_wrong_for_a_while_spoils_nothing(wrong, seconds):
    house = House()
    house.wait(DAY + 12 * HOUR, every=10.0)
    end = house.now + seconds
    while house.now < end:
        house.now += 10.0
        house.read(eDay=wrong)
    house.wait(DUSK - 13 * HOUR, every=10.0)
    assert house.messages[-1].values["eDay"] == pytest.approx(house.energy_today(), abs=SHARP)


def test_jump_in_the_first_reading_after_a_boot_without_a_clock_waits_for_the_second(tmp_path):
    house = House(tmp_path / "state.json")
    house.wait(DAY + 12 * HOUR)
    house.clock_right, house.wrong_by, house.blind = False, -DAY, True
    house.restart(kill=True)
    house.now += 10.0
    house.read(eTotal=house._total(house.now) + 40.0, temp=MARK)
    house.wait(HOUR, every=10.0)
    assert house.online[SERIAL]


def test_counter_that_was_reset_in_a_repair_is_believed_after_ten_minutes(caplog):
    house = House("", "repaired-on-day-2")
    house.wait(2 * DAY + 12 * HOUR)
    before = house.checked
    house.repaired = True
    house.wait(590.0, every=10.0)
    online = [message for message in house.messages[before:] if isinstance(message, Reading)]
    assert online == []
    assert house.refused(FELL) + house.refused(plausibility.NOTHING) > 50
    house.wait(DAY, every=60.0)
    house.repaired = False
    house.last_total.clear()
    assert house.messages[-1].values["eTotal"] < 50
    assert any("stayed so: believed from now on" in message for message in caplog.messages)


def test_replaced_inverter_begins_books_of_its_own(report):
    house = House()
    house.wait(2 * DAY + 12 * HOUR)
    house.sleep("unplugged")
    house.serial, house.day = OTHER, Day(1, seed=5, total_before=0.0)
    house.days[OTHER] = house.day
    house.wait(2 * DAY)
    report(house)
    assert set(house.last_total) == {SERIAL, OTHER}


def test_swapped_cables_change_nothing(report):
    """Two inverters are told apart by serial, whatever they are plugged into."""
    house = House()
    days = house.days = {SERIAL: Day(1, seed=2), OTHER: Day(1, seed=3, total_before=100.0)}
    for turn in range(2 * 14 * 60):
        house.now = DAWN + turn * 60.0
        house.serial = (SERIAL, OTHER)[turn % 2]
        house.day = days[house.serial]
        if house.sun(house.now):
            house.read()
    report(house)
    assert house.checked > 800
    assert house.ledger.tally.counts == Counter()


def test_reading_that_stands_still_is_refused_after_a_quarter_of_an_hour():
    house = House("", "stands-still-at-noon")
    house.wait(DAY)
    house.wait(12 * HOUR + 880, every=10.0)
    assert house.refused(STUCK) == 0
    house.wait(600.0, every=10.0)
    assert house.refused(STUCK) > 50
    assert not house.online[SERIAL]
    house.wait(3 * HOUR, every=10.0)
    assert house.online[SERIAL]


def test_night_that_stands_still_is_no_fault():
    """A hybrid at night says the same for hours, and that is true."""
    house = House("", "dark-days")
    house.wait(10 * HOUR, every=60.0, nights=True)
    assert house.refused(STUCK) == 0


def test_reasons_are_counted():
    for script, reason in [
        ("total-zero-at-dawn", plausibility.NOTHING),
        ("total-huge-at-dawn", RANGE),
        ("total-jumps-at-noon", ROSE),
        ("total-falls-at-noon", FELL),
        ("day-jumps-at-noon", plausibility.DISAGREE),
        ("power-huge-at-noon", POWER),
        ("voltage-impossible-at-noon", RANGE),
    ]:
        house = House("", script)
        house.wait(2 * DAY, every=30.0)
        assert house.refused(reason) >= 1, script


def test_inverter_that_is_not_believed_for_a_minute_is_offline():
    house = House("", "power-huge-at-noon")
    house.wait(DAY)
    house.wait(12 * HOUR + 50, every=10.0)
    assert house.online[SERIAL]
    house.wait(60.0, every=10.0)
    assert not house.online[SERIAL]
    house.wait(600.0, every=10.0)
    assert house.online[SERIAL]


# the file


def test_state_that_cannot_be_saved_is_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    house = House(tmp_path / "file" / "state.json")
    house.wait(3 * DAY)
    assert sum("cannot save" in message for message in caplog.messages) == 1
    assert house.checked > 500


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", "null", "\x00\xff"),
        *('{"version": 2, "inverters": {}}', '{"version": 1}', '{"version": 1, "inverters": 3}'),
        '{"version": 1, "inverters": {"x": {"address": 1}}}',
        "[" * 200_000,
    ],
)
def test_damaged_state_is_set_aside_and_said(tmp_path, content, caplog):
    file = tmp_path / "state.json"
    file.write_text(content, encoding="latin-1")
    house = House(file)
    assert (tmp_path / "state.json.damaged").read_text("latin-1") == content
    assert sum("is damaged" in message for message in caplog.messages) == 1
    house.wait(DAY)
    house.restart()
    assert house.messages[-1].values["eTotal"] == pytest.approx(house._total(house.now), abs=0.11)


@pytest.mark.parametrize(
    "silly",
    [
        {"midnight_total": "much"},
        {"values": {}},
        {"values": {**NOTHING, "errorMessage": 5}},
        {"values": {**NOTHING, "errorMessage": [99]}},
        {"values": {**NOTHING, "tempFault": "x"}},
        {"values": {**NOTHING, "vac1": 10**400}},
        {"when": 1e300},
        {"shown": float("nan")},
        {"address": 0},
        {"inverter_type": 2},
        {"address": True},
    ],
)
def test_state_with_silly_content_is_damaged(tmp_path, silly, caplog):
    house = House(tmp_path / "state.json")
    house.wait(DAY)
    content = json.loads((tmp_path / "state.json").read_text())
    content["inverters"][SERIAL] |= silly
    (tmp_path / "state.json").write_text(json.dumps(content))
    house.restart(kill=True)
    assert any("is damaged" in message for message in caplog.messages)


def test_state_is_saved_seldom(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(ledger.state, "save", lambda path, accounts: saved.append(path))
    house = House(tmp_path / "state.json")
    house.wait(DAY, every=10.0)
    assert len(saved) < 300


def test_inverter_that_is_long_gone_is_not_spoken_for(tmp_path):
    house = House(tmp_path / "state.json")
    house.wait(DAY)
    house.now += 20 * DAY
    seen = house.checked
    house.restart()
    house.wait(2 * HOUR)
    assert house.checked == seen


# anything at all


CANNOT_BE_TOLD = {"repaired-on-day-2"}
"""A counter that was reset."""
MISHAPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "restart", "kill", "unplug", "rubbish", "off", "no clock"]),
        st.floats(30.0, 40_000.0),
        st.integers(0, 2**32),
    ),
    max_size=25,
)


@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(script=st.sampled_from(sorted(set(SCRIPTS) - CANNOT_BE_TOLD)), mishaps=MISHAPS)
def test_no_order_of_mishaps_breaks_an_invariant(tmp_path_factory, script, mishaps):
    house = House(tmp_path_factory.mktemp("state") / "state.json", script)
    house.wait(2 * DAY, every=900.0)
    for what, seconds, number in mishaps:
        match what:
            case "restart" | "kill":
                house.restart(kill=what == "kill")
            case "unplug" if house.awake:
                house.sleep("unplugged")
            case "rubbish" if house.sun(house.now):
                random = Random(number)
                rubbish = {key: random.choice([0.0, 6553.5, 429496729.5]) for key in ("eTotal", "vac1")}
                house.read(**rubbish, pac=random.randrange(20_000, 65_536), temp=MARK)
            case "off":
                house.now += seconds
                house.restart(kill=True)
            case "no clock":
                house.clock_right, house.wrong_by, house.blind = False, -seconds, True
                house.restart(kill=True)
                house.wait(300.0, every=60.0)
                house.clock_right, house.wrong_by, house.blind = True, 0.0, False
        house.wait(seconds, every=300.0)
