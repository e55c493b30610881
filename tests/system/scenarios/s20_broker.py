"""The broker is away when the program starts, comes, goes and comes again: the inverter's side goes on."""

import time

from tests.system.kit import House, check, wait_for


def scenario(house: House) -> None:
    house.broker("stop")
    house.goodwe("start")
    simulator = house.simulate()
    plugged = house.plug(simulator)
    wait_for(lambda: "Inverter now online." in house.log(), "the inverter is read without a broker")
    for _ in range(2):
        house.broker("start")
        back = time.monotonic()
        subscriber = house.subscriber()
        house.figure("broker back to first data", subscriber.data()[0].at - back)
        subscriber.online("1")
        house.broker("stop")
        time.sleep(10)
    troubles = [line for line in house.log().splitlines() if "trying again" in line]
    house.figure("log lines about the broker", len(troubles))
    check(len(troubles) < 8, f"{len(troubles)} lines about the broker")
    check(house.log().count("Inverter now online.") == 1, "the inverter is undisturbed")
    house.broker("start")
    subscriber = house.subscriber()
    subscriber.online("1")
    house.measure_pull(subscriber, plugged)
    subscriber.forget()
    house.measure_plug(subscriber, house.plug(simulator))
