"""The inverter sleeps with its node present: online falls after three missed queries, and comes back by itself."""

import time

from tests.system.kit import House, check


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    simulator = house.simulate()
    plugged = house.plug(simulator)
    house.measure_plug(subscriber, plugged)
    subscriber.forget()
    simulator.freeze()
    asleep = time.monotonic()
    house.figure("silent to online 0", subscriber.online("0").at - asleep)
    check(house.nodes(), "the node is present")
    subscriber.forget()
    simulator.thaw()
    awake = time.monotonic()
    house.figure("awake to first data", subscriber.data()[0].at - awake)
    subscriber.online("1")
    house.measure_pull(house.measure_broker(), plugged)
