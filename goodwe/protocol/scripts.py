"""Bad habits of real inverters with their readings, as scripts that the simulator plays (PROTOCOL 5.4 and 8).

Each takes the values that a healthy inverter would send and gives those that this one sends. Times are
seconds since midnight of day 0, as `Day` has them. A value that must never be published carries MARK.
"""

from collections.abc import Callable
from typing import NamedTuple

from .fields import RUNNING, Values, number
from .simulator import Day

MARK = 66.6
"""Temperature of a reading that is not to be believed: so a test finds it wherever it turns up."""

Play = Callable[[Day, float, Values], Values]


class Script(NamedTuple):
    """One bad habit."""

    says: str
    """A line for a person."""
    play: Play


def _since_dawn(day: Day, time: float) -> float:
    return time % 86400 - day.sunrise


def _noon(time: float) -> float:
    """Seconds since twelve."""
    return time % 86400 - 43200


def healthy(day: Day, time: float, values: Values) -> Values:
    return values


def stale_day_at_dawn(day: Day, time: float, values: Values) -> Values:
    if 0 <= _since_dawn(day, time) < 1200:
        before = day.values(time // 86400 * 86400 - 1)
        return {**values, "eDay": before["eDay"], "eTotal": before["eTotal"], "pac": 0, "workMode": 0}
    return values


def day_kept_until_one(day: Day, time: float, values: Values) -> Values:
    if time % 86400 < 3600 and time >= 86400:
        return {**values, "eDay": day.values(time // 86400 * 86400 - 1)["eDay"]}
    return values


def total_zero_at_dawn(day: Day, time: float, values: Values) -> Values:
    if 0 <= _since_dawn(day, time) < 900:
        return {**values, "eTotal": 0.0, "hTotal": 0, "eDay": 0.0, "temp": MARK}
    return values


def all_zero_at_dawn(day: Day, time: float, values: Values) -> Values:
    return {} if 0 <= _since_dawn(day, time) < 600 else values


def all_ones_at_dawn(day: Day, time: float, values: Values) -> Values:
    if 0 <= _since_dawn(day, time) < 600:
        ones: Values = {row.key: (2 ** (16 * row.words) - 1) / row.divisor for row in RUNNING}
        return {**ones, "errorMessage": list(range(32)), "temp": MARK}
    return values


def total_huge_at_dawn(day: Day, time: float, values: Values) -> Values:
    if 0 <= _since_dawn(day, time) < 600:
        return {**values, "eTotal": 214748364.7, "temp": MARK}
    return values


def total_jumps_at_noon(day: Day, time: float, values: Values) -> Values:
    if 0 <= _noon(time) < 300:
        return {**values, "eTotal": _plus(values, "eTotal", 40.0), "temp": MARK}
    return values


def total_falls_at_noon(day: Day, time: float, values: Values) -> Values:
    if 0 <= _noon(time) < 300:
        return {**values, "eTotal": _plus(values, "eTotal", -3.0), "temp": MARK}
    return values


def day_jumps_at_noon(day: Day, time: float, values: Values) -> Values:
    if 0 <= _noon(time) < 50:
        return {**values, "eDay": _plus(values, "eDay", 12.0), "temp": MARK}
    return values


def power_huge_at_noon(day: Day, time: float, values: Values) -> Values:
    return {**values, "pac": 65000, "temp": MARK} if 0 <= _noon(time) < 600 else values


def voltage_impossible_at_noon(day: Day, time: float, values: Values) -> Values:
    return {**values, "vac1": 6553.4, "temp": MARK} if 0 <= _noon(time) < 600 else values


def frost_at_dawn(day: Day, time: float, values: Values) -> Values:
    return {**values, "temp": -19.5} if 0 <= _since_dawn(day, time) < 3600 else values


def restarts_at_noon(day: Day, time: float, values: Values) -> Values:
    if _noon(time) >= 0:
        noon = day.values(time // 86400 * 86400 + 43200)
        return {**values, "eDay": round(max(0.0, _plus(values, "eDay", -number(noon, "eDay"))), 1)}
    return values


def stands_still_at_noon(day: Day, time: float, values: Values) -> Values:
    return day.values(time // 86400 * 86400 + 43200) if 0 <= _noon(time) < 3 * 3600 else values


def repaired_on_day_2(day: Day, time: float, values: Values) -> Values:
    """A new mainboard: the counter begins at nothing."""
    if time < 2 * 86400 + 43200:
        return values
    before = number(day.values(2 * 86400 + 43200), "eTotal")
    shown = _plus(values, "eTotal", -before)
    return {**values, "eTotal": shown, "eDay": min(number(values, "eDay"), shown)}


def dark_days(day: Day, time: float, values: Values) -> Values:
    if time < 86400:
        return values
    before = day.values(86399.0)
    return {**values, "pac": 0, "workMode": 0, "eDay": 0.0, "eTotal": before["eTotal"]}


def fault_at_noon(day: Day, time: float, values: Values) -> Values:
    if 0 <= _noon(time) < 600:
        return {**values, "pac": 0, "workMode": 2, "errorMessage": [9, 17]}
    return values


def day_stale_until_noon(day: Day, time: float, values: Values) -> Values:
    if _since_dawn(day, time) >= 0 > _noon(time):
        return {**values, "eDay": day.values(time // 86400 * 86400 - 1)["eDay"]}
    return values


def total_flickers(day: Day, time: float, values: Values) -> Values:
    """Believed where it has grown by more in between: nobody could tell."""
    if int(time // 60) % 2 and 0 <= _noon(time) < 3600:
        return {**values, "eTotal": _plus(values, "eTotal", -0.1)}
    return values


def total_loses_its_high_word_at_noon(day: Day, time: float, values: Values) -> Values:
    if 0 <= _noon(time) < 300 and number(values, "eTotal") >= 6553.6:
        return {**values, "eTotal": round(number(values, "eTotal") * 10) % 65536 / 10, "temp": MARK}
    return values


def wakes_three_times(day: Day, time: float, values: Values) -> Values:
    """At dawn the sun is too weak twice: it restarts, and shows nothing but zeros for a while."""
    return {} if _since_dawn(day, time) % 900 < 120 and 0 <= _since_dawn(day, time) < 2700 else values


def _plus(values: Values, key: str, amount: float) -> float:
    return round(max(0.0, number(values, key) + amount), 1)


SCRIPTS = {
    "healthy": Script("nothing is wrong", healthy),
    "stale-day-at-dawn": Script("shows yesterday's E-Day for twenty minutes after waking", stale_day_at_dawn),
    "day-kept-until-one": Script("awake at night, begins its day at one o'clock", day_kept_until_one),
    "total-zero-at-dawn": Script("both totals are 0 for a while after waking", total_zero_at_dawn),
    "all-zero-at-dawn": Script("readings of zeros only after waking", all_zero_at_dawn),
    "all-ones-at-dawn": Script("readings of ones only after waking", all_ones_at_dawn),
    "total-huge-at-dawn": Script("a total of 2147483647 after waking", total_huge_at_dawn),
    "total-jumps-at-noon": Script("the total is 40 kWh too high for five minutes", total_jumps_at_noon),
    "total-falls-at-noon": Script("the total is 3 kWh too low for five minutes", total_falls_at_noon),
    "day-jumps-at-noon": Script("E-Day is 12 kWh too high for a while, the total is not", day_jumps_at_noon),
    "power-huge-at-noon": Script("65 kW from a small inverter", power_huge_at_noon),
    "voltage-impossible-at-noon": Script("6553 V of grid voltage", voltage_impossible_at_noon),
    "frost-at-dawn": Script("-19.5 °C, and that is true", frost_at_dawn),
    "restarts-at-noon": Script("loses its E-Day in a restart at noon", restarts_at_noon),
    "stands-still-at-noon": Script("sends the same reading for three hours", stands_still_at_noon),
    "repaired-on-day-2": Script("a new mainboard: the total begins at nothing", repaired_on_day_2),
    "dark-days": Script("no sun at all after the first day", dark_days),
    "fault-at-noon": Script("grid lost for ten minutes", fault_at_noon),
    "day-stale-until-noon": Script("feeds all morning under yesterday's E-Day", day_stale_until_noon),
    "total-flickers": Script("every other minute the total is 0.1 kWh less", total_flickers),
    "total-loses-its-high-word-at-noon": Script(
        "only the low word of the total for five minutes", total_loses_its_high_word_at_noon
    ),
    "wakes-three-times": Script("restarts twice at dawn before it stays", wakes_three_times),
}
