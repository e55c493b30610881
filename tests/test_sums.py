"""The sum of all inverters, and when it is not one."""

import json

from goodwe.events import Found, Offline, Reading, Remembered, Resting
from goodwe.outputs.mqtt.sums import Plant

from .fakes import Clock
from .test_values import MEASURED

ONE, TWO = "15000DSN000W0001", "15000DSN000W0002"


def reading(serial, *, online=True, **values):
    measured = {**MEASURED, **values}
    return (
        Reading(serial, 11, 1, measured, 1.7e9) if online else Resting(serial, 11, 1, measured, 1.7e9, 1.7e9)
    )


def summed(plant, *events):
    """The sum after the last of the events."""
    messages = [plant.handle(event) for event in events]
    assert messages[-1].topic == "goodwe/sum/data"
    return json.loads(messages[-1].payload)


def test_power_and_energy_of_all(zone):
    zone("UTC")
    plant = Plant("goodwe", Clock(1.7e9 + 5))
    total = summed(
        plant,
        reading(ONE, pac=1000, eDay=1.1, eTotal=100.1),
        reading(TWO, pac=500, eDay=0.2, eTotal=50.2),
    )
    assert total == {
        "pac": 1500, "eDay": 1.3, "eTotal": 150.3, "inverters": 2, "isValid": True, "missing": [],
        "lastSeen": 1_700_000_000_000, "time": "2023-11-14T22:13:25.000+00:00",
    }  # fmt: skip
    assert isinstance(total["pac"], int)


def test_sum_says_of_what_moment_it_speaks(zone):
    zone("UTC")
    now = Clock(1.7e9 + 5)
    plant = Plant("goodwe", now)
    assert summed(plant, reading(ONE))["time"] == "2023-11-14T22:13:25.000+00:00"
    now.now += 0.25
    total = summed(plant, Offline(ONE, 11, "unplugged"))
    assert total["time"] == "2023-11-14T22:13:25.250+00:00"
    assert total["lastSeen"] == 1_700_000_000_000, "the last reading of any"


def test_sum_is_invalid_while_one_is_away_and_counts_its_totals():
    """Do not sum half the plant."""
    plant = Plant("goodwe", Clock(1.7e9 + 5))
    plant.handle(reading(ONE, pac=1000, eTotal=100.0))
    plant.handle(reading(TWO, pac=500, eTotal=50.0))
    total = summed(plant, Offline(TWO, 11, "unplugged"))
    assert (total["isValid"], total["missing"]) == (False, [TWO])
    assert (total["pac"], total["eTotal"]) == (1000, 150.0)
    total = summed(plant, reading(TWO, online=False, pac=0, eTotal=50.0))
    assert not total["isValid"]
    assert summed(plant, reading(TWO, pac=400, eTotal=50.1))["isValid"]


def test_inverter_that_was_not_read_since_the_start_is_missing():
    plant = Plant("goodwe", Clock(1.7e9 + 5))
    assert summed(plant, Remembered(TWO))["missing"] == [TWO]
    total = summed(plant, reading(ONE, pac=1000))
    assert (total["pac"], total["isValid"], total["inverters"]) == (1000, False, 2)


def test_what_changes_nothing_is_not_published():
    plant = Plant("goodwe", Clock(1.7e9 + 5))
    assert plant.handle(Found(ONE, 11)) is None
    assert plant.handle(Offline(ONE, 11, "no answer")) is None
    plant.handle(reading(ONE))
    plant.handle(Offline(ONE, 11, "no answer"))
    assert plant.handle(Offline(ONE, 11, "no answer")) is None
