"""Single readings held against what is known: days that begin in odd ways. test_year.py has the whole year."""

import pytest

from goodwe.events import Reading
from goodwe.protocol.fields import RUNNING
from goodwe.readings.plausibility import Held, Implausible, Moment, Plausibility, Trusted

SERIAL = "15000DTU166W0157"
NOTHING = {row.key: 0 if row.divisor == 1 else 0.0 for row in RUNNING} | {"errorMessage": []}
HOUR = 3600.0
DAY = 24 * HOUR
MONDAY, TUESDAY, WEDNESDAY = "2026-11-23", "2026-11-24", "2026-11-25"
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


def seen_on_monday(total=100.0, today=12.0) -> Plausibility:
    """It has seen Monday end with these."""
    known = Plausibility(SERIAL, None)
    known.check(reading(total, today), at(0.0))
    assert shown(known.check(reading(total, today), at(2.5))) == today
    return known


def after_a_restart(known: Plausibility) -> Plausibility:
    return Plausibility(SERIAL, known.account._replace(when=NOON))


def test_boot_on_another_day_with_a_clock_that_is_set_later():
    """A Raspberry Pi begins with the time of its last shutdown; the first reading is there before the network."""
    known = after_a_restart(seen_on_monday())
    known.check(reading(103.0, 3.0), at(60.0, right=False))
    verdict = known.check(reading(103.0, 3.0), at(62.5, right=False))
    assert shown(verdict) == 15.0, "Monday goes on until the clock says otherwise"
    assert shown(known.check(reading(103.0, 3.0), at(90.0, TUESDAY, 10, epoch=NOON + 22 * HOUR))) == 3.0
    later = at(90.0 + HOUR, TUESDAY, 11, epoch=NOON + 23 * HOUR)
    assert shown(known.check(reading(104.0, 4.0), later)) == 4.0


@pytest.mark.parametrize(("later", "believed"), [(20.0, True), (20.1, True), (19.0, False), (26.0, False)])
def test_day_that_does_not_fit_is_believed_when_the_next_one_agrees_with_it(later, believed):
    known = seen_on_monday()
    assert isinstance(known.check(reading(100.0, 20.0), at(10.0)), Implausible)
    verdict = known.check(reading(100.1, later), at(80.0))
    assert isinstance(verdict, Trusted) == believed


@pytest.mark.parametrize(("total", "at_once"), [(100.1, True), (101.0, False)])
def test_total_that_goes_on_where_it_was_confirms_the_first_reading_without_a_clock(total, at_once):
    known = after_a_restart(seen_on_monday())
    verdict = known.check(reading(total, 12.0 + total - 100.0), at(60.0, right=False))
    assert isinstance(verdict, Trusted) == at_once


def test_clock_that_is_set_in_the_night_after_a_day_without_one():
    known = after_a_restart(seen_on_monday())
    for seconds, total in ((60, 100.0), (62, 100.0), (12 * HOUR, 107.2)):
        known.check(reading(total, total - 100.0), at(seconds, right=False))
    known.away()
    night = at(30 * HOUR, TUESDAY, 2, epoch=NOON + 38 * HOUR)
    assert known.resting(night).values["eDay"] == 0.0
    dawn = at(34 * HOUR, TUESDAY, 6, epoch=NOON + 42 * HOUR)
    assert shown(known.check(reading(107.2, 0.0), dawn)) == 0.0
    later = at(34 * HOUR + 900, TUESDAY, 6, epoch=NOON + 42 * HOUR + 900)
    assert shown(known.check(reading(107.3, 0.1), later)) == 0.1


def test_restart_in_the_night_after_a_day_without_a_clock():
    known = after_a_restart(seen_on_monday())
    for seconds, total in ((60, 100.0), (62, 100.0), (12 * HOUR, 112.0)):
        known.check(reading(total, total - 100.0), at(seconds, right=False))
    known = after_a_restart(known)
    night = at(30 * HOUR, TUESDAY, 2, epoch=NOON + 38 * HOUR)
    assert known.resting(night).values["eDay"] == 0.0
    assert shown(known.check(reading(112.0, 0.0), at(34 * HOUR, TUESDAY, 6))) == 0.0
    later = at(38 * HOUR, TUESDAY, 10, epoch=NOON + 46 * HOUR)
    assert shown(known.check(reading(117.0, 5.0), later)) == 5.0


def test_boot_at_dawn_on_yesterdays_clock_while_the_inverter_shows_yesterday():
    known = after_a_restart(seen_on_monday())
    assert shown(known.check(reading(100.0, 12.0), at(60.0, right=False))) == 12.0
    known.check(reading(100.0, 0.0), at(120.0, right=False))
    known.check(reading(104.0, 4.0), at(3 * HOUR, right=False))
    for total in (104.5, 105.3, 108.3):
        since = (total - 104.0) * HOUR
        now = at(3 * HOUR + since, TUESDAY, 11, epoch=NOON + 23 * HOUR + since)
        verdict = known.check(reading(total, total - 100.0), now)
    assert shown(verdict) == 8.3


def test_inverter_that_gives_one_reading_at_a_time_is_believed():
    known = seen_on_monday()
    verdicts = []
    for number in range(1, 8):
        known.away()
        verdicts.append(known.check(reading(100.0 + number, 12.0 + number), at(number * HOUR)))
    assert sum(isinstance(verdict, Trusted) for verdict in verdicts) >= 3


def test_restart_of_the_inverter_while_nobody_looked():
    known = seen_on_monday()
    known.away()
    for seconds in (2 * HOUR, 2 * HOUR + 2.5):
        verdict = known.check(reading(108.0, 0.5), at(seconds, hour=14))
    assert shown(verdict) == 20.0


def test_time_since_a_reading_under_a_wrong_clock_is_not_known_by_the_right_one():
    known = Plausibility(SERIAL, None)
    for seconds in (0.0, 2.5):
        known.check(reading(100.0, 2.0)._replace(when=3600.0), at(seconds, right=False))
    verdict = known.check(reading(65000.0, 2.0), at(12.5))
    assert isinstance(verdict, Implausible)


def test_day_after_one_that_made_next_to_nothing():
    known = seen_on_monday(100.0, 0.2)
    assert shown(known.check(reading(108.0, 8.0), at(23 * HOUR, TUESDAY, 11))) == 8.0
    assert shown(known.check(reading(111.0, 11.0), at(24 * HOUR, TUESDAY, 12))) == 11.0


def test_first_reading_of_a_morning_waits_for_the_second_unless_its_total_is_that_of_the_evening():
    for total, believed in ((100.0, True), (110.0, False)):
        known = seen_on_monday()
        known.away()
        verdict = known.check(reading(total, 0.0), at(18 * HOUR, TUESDAY, 6))
        assert isinstance(verdict, Trusted) == believed
    assert shown(known.check(reading(100.0, 0.0), at(18 * HOUR + 2.5, TUESDAY, 6))) == 0.0


def test_machine_that_slept_with_its_clock_that_only_grows():
    known = seen_on_monday(100.0, 2.0)
    assert shown(known.check(reading(118.0, 20.0), at(12.5, hour=17, epoch=NOON + 5 * HOUR))) == 20.0


def test_total_that_rises_too_fast_is_refused_where_no_clock_tells_more():
    known = seen_on_monday(100.0, 2.0)
    verdict = known.check(reading(118.0, 20.0), at(12.5, epoch=NOON + 5 * HOUR, right=False))
    assert isinstance(verdict, Implausible)


@pytest.mark.parametrize("total", [3.0, 3.1])
def test_counter_that_was_reset_to_less_than_today_has_shown(total):
    known = seen_on_monday(100.0, 4.0)
    for seconds in range(10, 700, 10):
        known.check(reading(total, 0.0), at(seconds))
    assert shown(known.check(reading(total + 0.6, 0.6), at(1000.0))) == 4.6


def test_without_plausibility_the_night_says_what_the_day_said():
    known = Plausibility(SERIAL, None)
    for total in (100.0, 0.0, 100.0):  # a glitch, which looks like a restart of the count
        known.take(reading(total, 8.4 if total else 0.0), at(0.0))
    assert known.resting(at(10.0)).values["eDay"] == 8.4


@pytest.mark.parametrize(("day", "hour", "true"), [(MONDAY, 13, 12.2), (TUESDAY, 10, 0.2)])
def test_power_cut_at_noon_on_a_machine_without_a_clock_chip(day, hour, true):
    """The energy shown stays until the clock is known; then the date of the last good reading decides."""
    known = after_a_restart(seen_on_monday())
    assert shown(known.check(reading(100.1, 0.1), at(60.0, right=False))) == 12.1
    assert shown(known.check(reading(100.2, 0.2), at(90.0, right=False))) == 12.2
    epoch = NOON + 3600.0 if day == MONDAY else NOON + 22 * HOUR
    assert shown(known.check(reading(100.2, 0.2), at(120.0, day, hour, epoch=epoch))) == true


def test_second_power_cut_before_the_clock_was_known():
    known = after_a_restart(seen_on_monday())
    known.check(reading(100.1, 0.1), at(60.0, right=False))
    known.check(reading(100.8, 0.8), at(600.0, right=False))
    known = after_a_restart(known)
    assert shown(known.check(reading(100.9, 0.1), at(60.0, right=False))) == 12.9
    assert shown(known.check(reading(101.0, 0.2), at(120.0))) == 13.0


def test_count_that_begins_after_three_hours_without_a_clock_is_of_today_if_the_clock_says_so():
    """The grid was away for so long; no night was it."""
    known = seen_on_monday()
    known = Plausibility(SERIAL, known.account, now=0.0)
    known.check(reading(100.0, 12.0), at(60.0, right=False))
    known.away()
    for seconds in (4 * HOUR, 4 * HOUR + 2.5):
        verdict = known.check(reading(101.0, 0.5), at(seconds, right=False))
    assert shown(verdict) == 0.5
    assert shown(known.check(reading(101.1, 0.6), at(4 * HOUR + 30, hour=16))) == 13.1


def test_night_that_passed_since_the_program_began_without_a_clock():
    known = seen_on_monday()
    known = Plausibility(SERIAL, known.account, now=1000.0)
    for seconds in (1000.0 + 4 * HOUR, 1002.5 + 4 * HOUR):
        verdict = known.check(reading(100.0, 0.0), at(seconds, right=False))
    assert shown(verdict) == 0.0


def test_count_that_went_on_while_no_clock_was_right_stays_yesterdays():
    """A restart in the evening, and an inverter that feeds all morning under yesterday's E-Day."""
    known = after_a_restart(seen_on_monday())
    assert shown(known.check(reading(100.0, 12.0), at(60.0, right=False))) == 12.0
    known.away()
    assert known.resting(at(2 * HOUR, hour=14)).values["eDay"] == 12.0
    for seconds, total in ((19 * HOUR, 100.0), (19 * HOUR + 300, 100.2), (19 * HOUR + 600, 100.3)):
        verdict = known.check(reading(total, 12.0), at(seconds, TUESDAY, 7))
    assert shown(verdict) == 0.3


def test_count_of_an_evening_without_a_clock_is_not_of_the_day_on_which_it_is_set():
    """The inverter began it before midnight, as the clock that only grows tells."""
    known = after_a_restart(seen_on_monday())
    for seconds, total in ((60.0, 101.0), (62.5, 101.0), (6 * HOUR, 105.0)):
        known.check(reading(total, total - 100.5), at(seconds, right=False))
    known.away()
    known.resting(at(14 * HOUR, TUESDAY, 2))
    for seconds in (18 * HOUR, 18 * HOUR + 2.5):
        verdict = known.check(reading(105.0, 4.5), at(seconds, TUESDAY, 6))
    assert shown(verdict) == 0.0


@pytest.mark.parametrize("restart", [False, True])
def test_clock_a_day_ahead_at_dawn_that_claims_to_be_right(restart):
    """A count dated after today is unknown, not today's: neither then, nor when its date has come."""
    known = seen_on_monday()
    known.away()
    dawn, ahead = 18 * HOUR, DAY
    for seconds, total in ((dawn, 100.0), (dawn + 2.5, 100.0), (dawn + 1800, 100.4)):
        wednesday = at(seconds, WEDNESDAY, 6, epoch=NOON + seconds + ahead)
        known.check(reading(total, total - 100.0), wednesday)
    if restart:
        known = Plausibility(SERIAL, known.account, now=dawn + 1900)
    values = [
        known.check(reading(total, total - 100.0), at(dawn + 3600 + 3600 * (total - 100.5), TUESDAY, 7))
        for total in (100.5, 101.0, 110.0)
    ]
    assert [shown(verdict) for verdict in values] == [0.5, 1.0, 10.0]
    known.away()
    for seconds in (42 * HOUR, 42 * HOUR + 2.5):
        verdict = known.check(reading(110.0, 10.0, pac=0), at(seconds, WEDNESDAY, 6))
    assert shown(verdict) == 0.0


@pytest.mark.parametrize(("day", "ahead"), [(TUESDAY, 24 * HOUR), ("2025-11-23", -365 * 24 * HOUR)])
def test_energy_of_today_does_not_fall_when_a_clock_comes_back(day, ahead):
    """The inverter was restarted that day, so its E-Day alone does not tell."""
    known = seen_on_monday()
    known.check(reading(100.1, 0.1), at(60.0))
    assert shown(known.check(reading(103.0, 3.0), at(HOUR))) == 15.0
    wrong = at(2 * HOUR, day, 14, epoch=NOON + 2 * HOUR + ahead)
    known.check(reading(104.0, 4.0), wrong)
    assert shown(known.check(reading(105.0, 5.0), at(3 * HOUR, hour=15))) == 17.0
    assert known.resting(at(3 * HOUR + 60, hour=15)).values["eDay"] == 17.0


def test_days_of_a_clock_that_was_ahead_are_forgotten_when_they_come():
    known = seen_on_monday()
    ahead = [at(seconds, TUESDAY, 14, epoch=NOON + seconds + DAY) for seconds in (HOUR, 2 * HOUR)]
    for moment, total in zip(ahead, (101.0, 102.0), strict=True):
        known.check(reading(total, total - 88.0), moment)
    assert shown(known.check(reading(103.0, 15.0), at(3 * HOUR, hour=15))) == 15.0
    known.away()
    assert known.resting(at(13 * HOUR, TUESDAY, 1)).values["eDay"] == 0.0


def test_clock_that_was_an_hour_ahead_over_midnight_comes_back_to_the_same_day():
    plausibility = seen_on_monday()
    ahead = [at(seconds, MONDAY, 19, epoch=NOON + seconds + HOUR) for seconds in (6 * HOUR, 6 * HOUR + 600)]
    for moment in ahead:
        plausibility.check(reading(100.5, 12.5), moment)
    plausibility.away()
    assert (
        plausibility.resting(at(11 * HOUR + 60, TUESDAY, 0, epoch=NOON + 12 * HOUR + 60)).values["eDay"]
        == 0.0
    )
    assert plausibility.resting(at(11 * HOUR + 120, MONDAY, 23)).values["eDay"] == 12.5
    assert plausibility.resting(at(12 * HOUR + 60, TUESDAY, 0)).values["eDay"] == 0.0


def test_time_of_the_last_reading_is_known_once_the_clock_is():
    """It is what lastSeen says, and what tells whether an inverter is long gone."""
    known = Plausibility(SERIAL, None)
    for seconds in (0.0, 2.5):
        known.check(reading(100.0, 2.0)._replace(when=3600.0), at(seconds, right=False))
    assert known.resting(at(60.0)).when == NOON + 2.5


def test_first_boot_without_a_clock_does_not_show_yesterdays_energy():
    """At dawn, when the wrong clock says one o'clock."""
    known = Plausibility(SERIAL, None)
    for seconds in (0.0, 2.5):
        verdict = known.check(reading(100.0, 12.0, pac=0), at(seconds, hour=13, right=False))
    assert shown(verdict) == 0.0


def test_total_and_today_that_rose_together_for_longer_than_was_known_are_the_same_count():
    """A restart of the program while the inverter stood still for hours."""
    known = seen_on_monday()
    for seconds in range(10, 640, 10):
        verdict = known.check(reading(120.0, 32.0), at(float(seconds)))
    assert shown(verdict) == 32.0


def test_reading_that_does_not_fit_in_the_morning_brings_nothing_of_yesterday():
    known = seen_on_monday()
    known.away()
    known.resting(at(12.5 * HOUR, TUESDAY, 0))
    for seconds in range(0, 90, 10):
        verdict = known.check(reading(104.0, 30.0), at(22 * HOUR + seconds, TUESDAY, 10))
    assert shown(verdict) == 0.0


# small and new ones


def small(serial="10500SIM268W0001") -> Plausibility:
    """An inverter of 500 W."""
    known = Plausibility(serial, None)
    for seconds in (0.0, 2.5):
        known.check(reading(100.0, 1.0, pac=400), at(seconds))
    return known


@pytest.mark.parametrize(("power", "believed"), [(1050, True), (-1050, True), (1051, False), (-1051, False)])
def test_power_that_an_inverter_of_500_watts_may_have(power, believed):
    """Half as much again, and 300 W."""
    assert isinstance(small().check(reading(100.0, 1.0, pac=power), at(10.0)), Trusted) == believed


@pytest.mark.parametrize(("rise", "believed"), [(1.3, True), (1.4, False)])
def test_energy_that_an_inverter_of_500_watts_may_have_made_in_an_hour(rise, believed):
    """1.05 kWh, and a quarter of one for rounding."""
    verdict = small().check(reading(100.0 + rise, 1.0 + rise), at(2.5 + HOUR))
    assert isinstance(verdict, Trusted) == believed


@pytest.mark.parametrize(("serial", "believed"), [("10299SIM268W0001", True), ("10300SIM268W0001", False)])
def test_power_of_less_than_300_watts_is_no_rating(serial, believed):
    known = small(serial)
    assert isinstance(known.check(reading(100.0, 1.0, pac=751), at(10.0)), Trusted) == believed


def test_brand_new_inverter_between_its_first_and_second_reading():
    """Its total of 0 may be true, or not read yet: it waits until it moves, or for ten minutes."""
    known = Plausibility(SERIAL, None)
    assert isinstance(known.check(reading(0.0, 0.0), at(0.0)), Held)
    assert isinstance(known.check(reading(0.0, 0.0), at(2.5)), Held)
    assert known.account is None
    assert shown(known.check(reading(0.1, 0.1), at(5.0))) == 0.1


def test_brand_new_inverter_in_the_rain():
    known = Plausibility(SERIAL, None)
    verdicts = [known.check(reading(0.0, 0.0), at(float(seconds))) for seconds in range(0, 601, 10)]
    assert all(isinstance(verdict, Held) for verdict in verdicts[:-1])
    assert shown(verdicts[-1]) == 0.0


def test_total_of_0_before_the_true_one_is_not_believed():
    known = Plausibility(SERIAL, None)
    assert isinstance(known.check(reading(0.0, 0.0), at(0.0)), Held)
    assert isinstance(known.check(reading(100.0, 2.0), at(2.5)), Held)
    assert shown(known.check(reading(100.0, 2.0), at(5.0))) == 2.0
