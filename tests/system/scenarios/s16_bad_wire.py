"""Garbage, stale bytes, corrupted and lost answers: only good values are published, the rest is counted."""

import json

from tests.system.kit import House, check, wait_for

READINGS = 20


def scenario(house: House) -> None:
    house.configure("[inverter]\npollinterval = 500\n")
    house.goodwe("start")
    subscriber = house.subscriber()
    plugged = house.inverter("--garbage", "0.3", "--corrupt", "0.2", "--lose", "0.1", "--seed", "7")
    house.measure_plug(subscriber, plugged)
    readings = wait_for(lambda: [*subscriber.readings()][READINGS:], f"{READINGS} readings")
    for message in readings:
        values = json.loads(message.payload)["runningInfo"]
        check(0 < values["pac"] < 16000 and 150 < values["vac1"] < 280, f"published: {message.payload}")
    check("counted from now on" in house.log(), "bad input is in the log")
    house.measure_pull(house.measure_broker(), plugged)
    wait_for(lambda: "refused input:" in house.log(), "what was refused is in the log")
