"""Alarms: what the history allows to be said, over years that are made up, and what is published of it."""

import datetime
import json
import math
import time
from dataclasses import replace
from random import Random

import pytest

from goodwe.config import parse
from goodwe.errors import ConfigError, HistoryError
from goodwe.events import Offline
from goodwe.history import alarms, archive, dates, madeup, schema
from goodwe.history.alarms import NEIGHBOURS, SEASON, Made, Present, production, watched
from goodwe.history.dates import Span
from goodwe.history.queries import EventRow, Reader
from goodwe.history.recorder import Happened
from goodwe.outputs import Context
from goodwe.outputs.mqtt.alarms import LOOK_EVERY, NEWS_AFTER, AlarmsFeature, payload
from goodwe.outputs.mqtt.feature import Hub, PublishedInverter

from .fakes import Clock
from .mqtt import SERIAL, reading
from .mqtt import settings as mqtt_settings

ROOF, BESIDE = "15000SIM268W0001", "15000SIM268W0002"
UNTIL = datetime.date(2026, 1, 1)
YEARS = 5
HOUR = 3600.0
DAYS = [UNTIL - datetime.timedelta(n) for n in range(2 * 365, 0, -1)]
"""Two years, which have three before them."""


@pytest.fixture(scope="module", autouse=True)
def amsterdam():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Amsterdam")
        time.tzset()
        yield
    time.tzset()


def made_up(folder, seed=1, peak=3000.0):
    """The days of a roof, under the sky of that seed."""
    path = str(folder / f"{peak:.0f}.db")
    madeup.write(
        path, [madeup.MadeUpRoof(ROOF, peak=peak)], until=UNTIL, days=YEARS * 365, with_slots=0, seed=seed
    )
    with Reader(path) as history:
        return alarms.roof(history.days(datetime.date.min, datetime.date.max))


@pytest.fixture(scope="module")
def years(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("years"))


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    """A smaller roof under the same sky."""
    return made_up(tmp_path_factory.mktemp("smaller"), peak=1000.0)


def at(day, hour, roof, *, ran=None, dead_from=None):
    """All that is known of a roof at that hour of a day, and the moment. The program `ran` since then, or for weeks."""
    bounds = dates.bounds(day)
    now = bounds.start + hour * HOUR
    known = {date: made for date, made in roof.items() if date < day}
    if day in roof:
        made = roof[day]
        first, last = made.first or 8 * HOUR, made.last or 16 * HOUR
        passed = min(1.0, max(0.0, (hour * HOUR - first) / (last - first)))
        so_far = round(made.kwh * (1 - math.cos(math.pi * passed)) / 2, 1)
        known[day] = Made(so_far, first, min(last, hour * HOUR)) if so_far else Made(0.0)
    if dead_from is not None:
        known = {date: made for date, made in known.items() if date < dead_from}
    since = now - 20 * 86400 if ran is None else ran
    return known, Present(now, day, [Span(since, now)])


def low(day, hour, roof, **options):
    known, moment = at(day, hour, roof, **options)
    verdict = production(ROOF, {ROOF: known}, moment)
    return None if verdict is None else verdict.is_low


# production against the season


@pytest.mark.parametrize("hour", [2, 11, 17, 20, 23])
def test_no_false_alarm_in_two_years_of_clouds(years, hour):
    said = [low(day, hour, years) for day in DAYS]
    assert True not in said
    assert said.count(False) > 600, "it can be known on most days"


def test_darkest_days_are_dark(years):
    """Else the test above would say nothing."""
    shares = sorted(years[day].kwh / alarms._usual(years, day) for day in DAYS)
    assert shares[4] < 0.2


@pytest.mark.parametrize(("share", "is_low"), [(0.06, False), (0.04, True)])
def test_day_of_a_twentieth(years, share, is_low):
    """6 % of the median is what the darkest day of many years has; less has another reason."""
    day = datetime.date(2025, 6, 10)
    dark = {**years, day: years[day]._replace(kwh=alarms._usual(years, day) * share)}
    assert low(day, 23, dark) is is_low


def test_dead_inverter_is_found_the_same_day_in_the_bright_half_of_the_year(years):
    for day in DAYS:
        if 4 <= day.month <= 9:
            assert low(day, 23, years, dead_from=day), day
            assert not low(day, 9, years, dead_from=day), "the day has only begun"


def test_dead_inverter_is_found_within_a_week_in_winter(years):
    for day in DAYS[:-7]:
        assert any(low(day + datetime.timedelta(n), 23, years, dead_from=day) for n in range(7)), day


def test_alarm_stays_through_the_night_and_ends_when_it_makes_something(years):
    day = datetime.date(2025, 6, 10)
    after = day + datetime.timedelta(1)
    for date, hour in ((day, 23.9), (after, 0.1), (after, 3), (after, 12)):
        assert low(date, hour, years, dead_from=day)
    repaired = {date: made for date, made in years.items() if date != day}
    assert low(after, 4, repaired)
    assert low(after, 14, repaired) is False


def test_night_begins_no_alarm(years):
    """Between dusk and dawn the judgement is the evening's."""
    for day in DAYS[::7]:
        dead = day - datetime.timedelta(Random(str(day)).randrange(5))
        evening = low(day, 23, years, dead_from=dead)
        assert low(day + datetime.timedelta(1), 3, years, dead_from=dead) == evening


def test_snow_is_an_alarm_as_long_as_it_lies(years):
    """Nobody can tell it from an inverter that makes nothing for another reason."""
    snow = [datetime.date(2025, 2, 3) + datetime.timedelta(n) for n in range(7)]
    covered = {**years, **{day: Made(0.0) for day in snow}}
    assert low(snow[-1], 23, covered)
    thaw = snow[-1] + datetime.timedelta(1)
    assert not low(thaw, 23, covered)


def test_nothing_is_said_before_there_are_years(years):
    first = min(years)
    young = {day: made for day, made in years.items() if day < first + datetime.timedelta(300)}
    assert low(first + datetime.timedelta(299), 23, young) is None
    assert production(ROOF, {ROOF: {}}, at(first, 23, {})[1]) is None
    second = first + datetime.timedelta(375)
    assert low(second, 23, {day: made for day, made in years.items() if day <= second}) is False


def test_nothing_is_said_of_a_day_of_which_too_little_was_seen(years):
    day = datetime.date(2025, 6, 10)
    noon = dates.bounds(day).start + 13 * HOUR
    known, moment = at(day, 23, years, dead_from=day, ran=noon)
    verdict = production(ROOF, {ROOF: known}, moment)
    assert verdict is not None, "the entity stays"
    assert verdict.is_low is None
    assert low(day, 23, years, dead_from=day, ran=noon - 6 * HOUR)


@pytest.mark.parametrize("day", [datetime.date(2025, 3, 30), datetime.date(2025, 10, 26)])
def test_days_of_23_and_25_hours(years, day):
    assert low(day, 22, years) is False
    assert any(low(day + datetime.timedelta(n), 22, years, dead_from=day) for n in range(3))


def test_leap_day(years):
    assert low(datetime.date(2024, 2, 29), 22, years) is False


# against neighbours


def beside(day, hour, own, other, **options):
    known, moment = at(day, hour, own, **options)
    return production(ROOF, {ROOF: known, BESIDE: at(day, hour, other)[0]}, moment)


def test_dead_inverter_is_found_the_same_day_by_one_beside_it(years, smaller):
    """Of another size, and without years: the first two months are enough."""
    first = min(years)
    recent = [first + datetime.timedelta(n) for n in range(170, 260)]
    found = 0
    for day in recent[60:]:
        own, other = ({date: roof[date] for date in recent if date <= day} for roof in (smaller, years))
        healthy, dead = beside(day, 23, own, other), beside(day, 23, own, other, dead_from=day)
        assert healthy.is_low is False
        assert healthy.against == NEIGHBOURS
        found += dead.is_low is True
    assert found >= 28, "but for the darkest day"


def test_dark_day_is_dark_for_both(years, smaller):
    for day in DAYS:
        assert beside(day, 23, smaller, years).is_low is not True


def test_ten_days_together_are_needed(years, smaller):
    day = datetime.date(2025, 6, 10)
    for days, verdict in ((10, None), (11, False)):
        own = {date: smaller[date] for n in range(days) for date in [day - datetime.timedelta(n)]}
        found = beside(day, 23, own, own)
        assert (found.is_low if found else None) is verdict


def test_season_and_neighbours_are_both_heard(years, smaller):
    day = datetime.date(2025, 6, 10)
    half = {**smaller, day: smaller[day]._replace(kwh=smaller[day].kwh * 0.2)}
    assert beside(day, 23, half, years).against == NEIGHBOURS
    assert beside(day, 23, half, years).is_low
    assert low(day, 23, half) is False, "by the season it could be clouds"
    nothing = {date: made for date, made in years.items() if date < day}
    verdict = beside(day, 23, smaller, nothing, dead_from=day)
    assert (verdict.is_low, verdict.against) == (True, SEASON), "all of them make nothing"


# what the program has seen


def event(at, kind, code=None):
    return EventRow(int(at), float(at), "", kind, code, "")


@pytest.mark.parametrize(
    ("events", "read", "spans"),
    [
        ([], [], [(0, 100)]),
        ([(50, "stopped"), (60, "started")], [], [(0, 50), (60, 100)]),
        ([(60, "started")], [20, 40, 80], [(0, 40), (60, 100)]),
        ([(10, "started"), (60, "started")], [40], [(0, 0), (10, 40), (60, 100)]),
        ([(50, "stopped")], [], [(0, 50)]),
        ([(30, "away"), (60, "started")], [], [(0, 30), (60, 100)]),
        ([(-5, "stopped"), (200, "started")], [-3], [(0, 100)]),
    ],
)
def test_program_that_was_killed_ran_until_it_last_saw_something(events, read, spans):
    found = watched([event(*one) for one in events], read, Span(0, 100))
    assert found == spans


def test_faults_and_since_when():
    on, off = schema.FAULT_ON, schema.FAULT_OFF
    newest_first = [
        event(50, on, 17),
        event(40, off, 9),
        event(30, on, 9),
        event(20, off, 17),
        event(10, on, 17),
    ]
    assert alarms.fault_times(newest_first) == ([(17, 50.0)], 50.0, None)
    assert alarms.fault_times(newest_first[1:]) == ([], 30.0, 40.0)
    assert alarms.fault_times([]) == ([], None, None)


# out of a file


@pytest.fixture
def path(tmp_path):
    """Two roofs, the first one replaced a year ago; the program runs and has seen a fault."""
    path = str(tmp_path / "history.db")
    roofs = [madeup.MadeUpRoof(ROOF, last=700), madeup.MadeUpRoof(BESIDE, first=700)]
    madeup.write(path, roofs, until=datetime.date(2025, 7, 1), days=1095, with_slots=0)
    connection = archive.connected(path)
    now = dates.bounds(datetime.date(2025, 6, 30)).start + 21 * HOUR
    for kind, ago in ((schema.FAULT_ON, 7200), (schema.STARTED, 30 * 86400)):
        number = None if kind == schema.STARTED else archive.number_of(connection, BESIDE, 0)
        archive.put_event(connection, number, Happened(now - ago, BESIDE, kind, 9 if number else None, ""))
    connection.close()
    return path


NOW = 1751310000.0 - 1800  # 2025-06-30 20:30 in Amsterdam


def test_look_into_a_file(path):
    with Reader(path) as history:
        found = alarms.look(history, NOW, {})
        assert list(found) == [BESIDE], "the other one is replaced"
        assert found[BESIDE].faults.now == [(9, NOW + 1800 - 7200)]
        verdict = found[BESIDE].production
        assert (verdict.is_low, verdict.against, verdict.date) == (False, SEASON, datetime.date(2025, 6, 30))


def test_counter_that_is_read_now_counts_before_it_stands_in_the_file(path):
    connection = archive.connected(path)
    day = dates.number(datetime.date(2025, 6, 30))
    connection.execute("DELETE FROM days WHERE day = ?", (day,))
    connection.close()
    with Reader(path) as history:
        assert alarms.look(history, NOW, {})[BESIDE].production.is_low
        assert alarms.look(history, NOW, {BESIDE: 12.5})[BESIDE].production.made_kwh == 12.5
        assert alarms.look(history, NOW, {BESIDE: 12.5})[BESIDE].production.is_low is False


@pytest.mark.parametrize("now", [0.0, -1e12, 1e12, 1e30, 4e9])
def test_clock_that_cannot_be(path, now):
    with Reader(path) as history:
        verdict = alarms.look(history, now, {})[BESIDE].production
    assert verdict is None or verdict.is_low is not True


# what is published


class Files:
    """A look into a history that is made up."""

    def __init__(self):
        self.asked = []
        self.found = {}
        self.error = None

    def __call__(self, now, live):
        self.asked.append((now, dict(live)))
        if self.error:
            raise self.error
        return self.found


class AtOnce:
    def do(self, call, then):
        try:
            result = call()
        except HistoryError as error:
            raised = error

            def outcome():
                raise raised
        else:
            outcome = lambda: result  # noqa: E731
        then(outcome)

    def finish(self):
        self.finished = True


class Bench:
    """The feature on a clock of our own."""

    def __init__(self):
        self.clock, self.right, self.sent = Clock(), True, []
        self.look, self.worker = Files(), AtOnce()
        loop = type("Loop", (), {"clock": self.clock, "call": staticmethod(lambda call: call())})()
        context = Context(loop, Random(1), lambda: 1_700_000_000.0, None, None, 300.0, lambda: self.right)
        self.inverter = PublishedInverter(SERIAL, f"goodwe/{SERIAL}", phases=3)
        pool = type(
            "Pool", (), {"publish_any": lambda _, serial, message, done: self.sent.append(message) or True}
        )()
        inverters = {SERIAL: self.inverter}
        hub = Hub(
            mqtt_settings(1883, language="de"), context, pool, inverters, lambda _: None, lambda _: None
        )
        self.feature = AlarmsFeature(self.look, hub, self.worker)

    def turn(self, seconds):
        self.clock.now += seconds
        if self.feature.deadline <= self.clock.now:
            self.feature.tick(self.clock.now)


NOTHING = alarms.Alarms(alarms.FaultTimes([], None, None), None)
LOW = alarms.Judgement(True, SEASON, datetime.date(2025, 6, 30), 1, 0.04, 17.26)


@pytest.fixture
def bench():
    return Bench()


def test_alarms_are_said_every_quarter_of_an_hour(bench):
    bench.look.found = {SERIAL: NOTHING}
    bench.feature.handle(reading(when=1_700_000_000.0, eDay=7.3, errorMessage=[]))
    bench.turn(NEWS_AFTER)
    bench.turn(LOOK_EVERY - 1)
    (message,) = bench.sent
    assert (message.topic, message.qos, message.retain) == (f"goodwe/{SERIAL}/alarms", 1, True)
    assert json.loads(message.payload) == {
        "faults": [],
        "faultBegan": None,
        "faultEnded": None,
        "lowProduction": None,
        "production": None,
    }
    bench.turn(1)
    assert bench.sent == [message, message]
    assert bench.look.asked == [(1_700_000_000.0, {SERIAL: 7.3})] * 2
    assert bench.inverter.alarms == {"faultBegan": True, "faultEnded": True, "lowProduction": False}
    assert bench.feature.status(0.0) == {"said": [SERIAL], "trouble": None}


def test_fault_is_said_about_a_minute_later(bench):
    bench.look.found = {SERIAL: NOTHING}
    bench.turn(NEWS_AFTER)
    for errors in ([9], [9], []):
        bench.clock.now += 100
        bench.feature.handle(reading(errorMessage=errors))
        bench.turn(NEWS_AFTER)
    assert len(bench.look.asked) == 3
    bench.feature.handle(Offline(SERIAL, 11, "no answer"))
    assert bench.feature.deadline == bench.clock.now + NEWS_AFTER


def test_yesterdays_counter_is_not_todays(bench):
    bench.look.found = {SERIAL: NOTHING}
    bench.feature.handle(reading(when=1_700_000_000.0 - 86400, eDay=7.3))
    bench.turn(NEWS_AFTER)
    assert bench.look.asked[0][1] == {}


def test_nothing_is_said_while_the_clock_is_not_known_to_be_right(bench):
    bench.right = False
    bench.turn(NEWS_AFTER)
    assert bench.look.asked == []
    bench.right = True
    bench.look.found = {SERIAL: NOTHING}
    bench.turn(LOOK_EVERY)
    assert len(bench.look.asked) == len(bench.sent) == 1
    bench.right = False
    bench.turn(LOOK_EVERY)
    bench.feature.caught_up(bench.inverter)
    assert len(bench.sent) == 1


def test_history_that_cannot_be_read_is_said_once_and_takes_nothing_back(bench, caplog):
    caplog.set_level("INFO")
    bench.look.found = {SERIAL: NOTHING}
    bench.turn(NEWS_AFTER)
    bench.look.error = HistoryError("there is no history yet")
    for _ in range(3):
        bench.turn(LOOK_EVERY)
    assert len(bench.sent) == 1
    bench.feature.caught_up(bench.inverter)
    assert len(bench.sent) == 1, "said again to a new connection it would not expire"
    assert caplog.text.count("no alarms: there is no history yet") == 1
    assert bench.inverter.alarms["faultBegan"]


def test_inverter_that_the_history_does_not_know_has_no_alarm(bench):
    bench.turn(NEWS_AFTER)
    assert bench.sent == []
    assert not any(bench.inverter.alarms.values())


def test_new_connection_is_told(bench):
    bench.look.found = {SERIAL: NOTHING}
    bench.feature.caught_up(bench.inverter)
    bench.turn(NEWS_AFTER)
    bench.feature.caught_up(bench.inverter)
    assert len(bench.sent) == 2
    bench.feature.forget(bench.inverter)
    bench.feature.caught_up(bench.inverter)
    assert len(bench.sent) == 2
    bench.feature.stop(0.0)
    assert bench.worker.finished


def test_json_of_alarms():
    faults = alarms.FaultTimes([alarms.Fault(9, 1_700_000_000.0)], 1_700_000_000.0, None)
    message = json.loads(payload(alarms.Alarms(faults, LOW), "de"))
    since = "2023-11-14T23:13:20.000+01:00"
    assert message == {
        "faults": [{"code": 9, "text": "Netzausfall", "since": since}],
        "faultBegan": since,
        "faultEnded": None,
        "lowProduction": True,
        "production": {
            "date": "2025-06-30",
            "days": 1,
            "madeKWh": 0.0,
            "expectedKWh": 17.3,
            "against": "season",
        },
    }


def test_alarms_need_a_history():
    with pytest.raises(ConfigError, match=r"alarms come out of the history; add a section \[history\]"):
        parse("[mqtt]\nalarms = on\n", "test")
    with pytest.raises(ConfigError, match="add a section"):
        parse("[mqtt]\nalarms = on\n[history]\nenabled = off\n", "test")
    assert parse("[mqtt]\nalarms = on\n[history]\n", "test")[0].mqtt.alarms


def test_settings_are_made_into_a_feature():
    from goodwe.outputs.mqtt import features

    config = parse("[inverter]\nstatefile =\n[homeassistant]\ndiscovery = off\n", "test")[0]
    context = Context(None, Random(1), time.time, None, config, 300.0)
    assert features(replace(config.mqtt, alarms=True), context) == ["alarms"]
    assert features(config.mqtt, context) == []
