"""Two inverters are told apart; one that completes no transfer, or is unplugged, does not touch the other."""

import time
from itertools import pairwise

from tests.system.kit import SERIALS, House, check

FROZEN_FOR = 15.0
LONGEST_PAUSE = 4.0
"""Seconds between two readings of the other inverter, at a pollinterval of 2.5: a blocked write takes 5."""


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    first, second = (house.inverter(serial=serial) for serial in SERIALS)
    for plugged, serial in zip((first, second), SERIALS, strict=True):
        data = house.measure_plug(subscriber, plugged, serial)
        check(data["serial"] == serial, f"{serial} says {data['serial']}")

    subscriber.forget()
    first.freeze()
    time.sleep(FROZEN_FOR)
    times = [message.at for message in subscriber.readings(SERIALS[1])]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    check(len(pauses) > 3, f"{len(times)} readings of the other inverter in {FROZEN_FOR} s")
    house.figure("other inverter's longest pause", max(pauses))
    check(max(pauses) < LONGEST_PAUSE, f"pauses of the other inverter: {pauses}")
    subscriber.online("0", SERIALS[0])
    subscriber.forget()
    first.thaw()
    subscriber.online("1", SERIALS[0])

    subscriber = house.measure_broker(SERIALS[1])
    subscriber.online("1", SERIALS[0])
    house.measure_pull(subscriber, first, SERIALS[0])
    check(not subscriber.seen_online("0", SERIALS[1]), "the other one stays online")
    house.measure_pull(subscriber, second, SERIALS[1])
