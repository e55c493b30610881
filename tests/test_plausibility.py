"""The judge, reading by reading: days that begin in odd ways. test_year.py has the whole year."""

import pytest

from goodwe.events import Reading
from goodwe.protocol.fields import RUNNING
from goodwe.readings.plausibility import Judge, Moment, Refused, Trusted

SERIAL = "15000DTU166W0157"
NOTHING = {row.key: 0 if row.divisor == 1 else 0.0 for row in RUNNING} | {"errorMessage": []}
HOUR = 3600.0
MONDAY, TUESDAY = "2026-11-23", "2026-11-24"
NOON = 1.8e9
"""Seconds since 1970, of Monday."""


def reading(total, today, *, pac=1000, **values) -> Reading:
    flows = {"pac": pac, "vac1": 230.0 + total * 10 % 7}
    counters = {"eTotal": round(total, 1), "eDay": round(today, 1)}
    return Reading(SERIAL, 11, 1, {**NOTHING, **flows, **counters, **values}, NOON)


def at(seconds, day=MONDAY, hour=12, *, right=True, epoch=None) -> Moment:
    """So many seconds after noon of Monday."""
    return Moment(seconds, NOON + seconds if epoch is None else epoch, day, hour, right)


def shown(verdict) -> float:
    assert isinstance(verdict, Trusted), verdict
    return verdict.reading.values["eDay"]


def judge_of_monday(total=100.0, today=12.0) -> Judge:
    """It has seen Monday end with these."""
    judge = Judge(SERIAL, None)
    judge.judge(reading(total, today), at(0.0))
    assert shown(judge.judge(reading(total, today), at(2.5))) == today
    return judge


def after_a_restart(judge: Judge) -> Judge:
    return Judge(SERIAL, judge.account._replace(when=NOON))


def test_boot_on_another_day_with_a_clock_that_is_set_later():
    """A Raspberry Pi begins with the time of its last shutdown; the first reading is there before the network."""
    judge = after_a_restart(judge_of_monday())
    judge.judge(reading(103.0, 3.0), at(60.0, right=False))
    assert shown(judge.judge(reading(103.0, 3.0), at(62.5, right=False))) == 3.0
    assert shown(judge.judge(reading(103.0, 3.0), at(90.0, TUESDAY, 10, epoch=NOON + 22 * HOUR))) == 3.0
    later = at(90.0 + HOUR, TUESDAY, 11, epoch=NOON + 23 * HOUR)
    assert shown(judge.judge(reading(104.0, 4.0), later)) == 4.0


@pytest.mark.parametrize(("total", "at_once"), [(100.1, True), (101.0, False)])
def test_total_that_goes_on_where_it_was_confirms_the_first_reading_without_a_clock(total, at_once):
    judge = after_a_restart(judge_of_monday())
    verdict = judge.judge(reading(total, 12.0 + total - 100.0), at(60.0, right=False))
    assert isinstance(verdict, Trusted) == at_once


def test_clock_that_is_set_in_the_night_after_a_day_without_one():
    judge = after_a_restart(judge_of_monday())
    for seconds, total in ((60, 100.0), (62, 100.0), (12 * HOUR, 107.2)):
        judge.judge(reading(total, total - 100.0), at(seconds, right=False))
    judge.away()
    night = at(30 * HOUR, TUESDAY, 2, epoch=NOON + 38 * HOUR)
    assert judge.resting(night).values["eDay"] == 0.0
    dawn = at(34 * HOUR, TUESDAY, 6, epoch=NOON + 42 * HOUR)
    assert shown(judge.judge(reading(107.2, 0.0), dawn)) == 0.0
    later = at(34 * HOUR + 900, TUESDAY, 6, epoch=NOON + 42 * HOUR + 900)
    assert shown(judge.judge(reading(107.3, 0.1), later)) == 0.1


def test_restart_in_the_night_after_a_day_without_a_clock():
    judge = after_a_restart(judge_of_monday())
    for seconds, total in ((60, 100.0), (62, 100.0), (12 * HOUR, 112.0)):
        judge.judge(reading(total, total - 100.0), at(seconds, right=False))
    judge = after_a_restart(judge)
    night = at(30 * HOUR, TUESDAY, 2, epoch=NOON + 38 * HOUR)
    assert judge.resting(night).values["eDay"] == 0.0
    assert shown(judge.judge(reading(112.0, 0.0), at(34 * HOUR, TUESDAY, 6))) == 0.0
    later = at(38 * HOUR, TUESDAY, 10, epoch=NOON + 46 * HOUR)
    assert shown(judge.judge(reading(117.0, 5.0), later)) == 5.0


def test_boot_at_dawn_on_yesterdays_clock_while_the_inverter_shows_yesterday():
    judge = after_a_restart(judge_of_monday())
    assert shown(judge.judge(reading(100.0, 12.0), at(60.0, right=False))) == 12.0
    judge.judge(reading(100.0, 0.0), at(120.0, right=False))
    judge.judge(reading(104.0, 4.0), at(3 * HOUR, right=False))
    for total in (104.5, 105.3, 108.3):
        since = (total - 104.0) * HOUR
        now = at(3 * HOUR + since, TUESDAY, 11, epoch=NOON + 23 * HOUR + since)
        verdict = judge.judge(reading(total, total - 100.0), now)
    assert shown(verdict) == 8.3


def test_inverter_that_gives_one_reading_at_a_time_is_believed():
    judge = judge_of_monday()
    verdicts = []
    for number in range(1, 8):
        judge.away()
        verdicts.append(judge.judge(reading(100.0 + number, 12.0 + number), at(number * HOUR)))
    assert sum(isinstance(verdict, Trusted) for verdict in verdicts) >= 3


def test_restart_of_the_inverter_while_nobody_looked():
    judge = judge_of_monday()
    judge.away()
    for seconds in (2 * HOUR, 2 * HOUR + 2.5):
        verdict = judge.judge(reading(108.0, 0.5), at(seconds, hour=14))
    assert shown(verdict) == 20.0


def test_time_since_a_reading_under_a_wrong_clock_is_not_known_by_the_right_one():
    judge = Judge(SERIAL, None)
    for seconds in (0.0, 2.5):
        judge.judge(reading(100.0, 2.0)._replace(when=3600.0), at(seconds, right=False))
    verdict = judge.judge(reading(65000.0, 2.0), at(12.5))
    assert isinstance(verdict, Refused)


def test_day_after_one_that_made_next_to_nothing():
    judge = judge_of_monday(100.0, 0.2)
    assert shown(judge.judge(reading(108.0, 8.0), at(23 * HOUR, TUESDAY, 11))) == 8.0
    assert shown(judge.judge(reading(111.0, 11.0), at(24 * HOUR, TUESDAY, 12))) == 11.0


def test_first_reading_of_a_morning_waits_for_the_second_unless_its_total_is_that_of_the_evening():
    for total, believed in ((100.0, True), (110.0, False)):
        judge = judge_of_monday()
        judge.away()
        verdict = judge.judge(reading(total, 0.0), at(18 * HOUR, TUESDAY, 6))
        assert isinstance(verdict, Trusted) == believed
    assert shown(judge.judge(reading(100.0, 0.0), at(18 * HOUR + 2.5, TUESDAY, 6))) == 0.0


def test_machine_that_slept_with_its_clock_that_only_grows():
    judge = judge_of_monday(100.0, 2.0)
    assert shown(judge.judge(reading(118.0, 20.0), at(12.5, hour=17, epoch=NOON + 5 * HOUR))) == 20.0


def test_total_that_rises_too_fast_is_refused_where_no_clock_tells_more():
    judge = judge_of_monday(100.0, 2.0)
    verdict = judge.judge(reading(118.0, 20.0), at(12.5, epoch=NOON + 5 * HOUR, right=False))
    assert isinstance(verdict, Refused)


@pytest.mark.parametrize("total", [3.0, 3.1])
def test_counter_that_was_reset_to_less_than_today_has_shown(total):
    judge = judge_of_monday(100.0, 4.0)
    for seconds in range(10, 700, 10):
        judge.judge(reading(total, 0.0), at(seconds))
    assert shown(judge.judge(reading(total + 0.6, 0.6), at(1000.0))) == 4.6


def test_without_plausibility_the_night_says_what_the_day_said():
    judge = Judge(SERIAL, None)
    for total in (100.0, 0.0, 100.0):  # a glitch, which looks like a restart of the count
        judge.believe(reading(total, 8.4 if total else 0.0), at(0.0))
    assert judge.resting(at(10.0)).values["eDay"] == 8.4
