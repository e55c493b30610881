"""Killed with the pid file left behind: the broker says online 0, and start works again."""

import time

from tests.system.kit import PIDFILE, House, check, sh


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    plugged = house.inverter()
    house.measure_plug(subscriber, plugged)
    subscriber.forget()
    at = time.monotonic()
    sh(f"kill -9 {house.pid()}")
    house.figure("killed to online 0", subscriber.online("0").at - at)
    check(PIDFILE.exists(), "the pid file is stale")
    house.goodwe("status", code=1)
    subscriber.forget()
    house.goodwe("start")
    subscriber.data()
    house.goodwe("stop")
    for left in ("1\n", "garbage\n", ""):  # of somebody else, damaged, empty
        PIDFILE.write_text(left)
        house.goodwe("start")
        house.goodwe("status")
        house.goodwe("stop")
    PIDFILE.write_text(f"{2**22 - 1}\n")
    house.goodwe("start")
    house.measure_pull(house.measure_broker(), plugged)
