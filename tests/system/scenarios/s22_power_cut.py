"""Power cut with the broker on the same machine: it comes back with online 1 in its memory; we take that back."""

from tests.system.kit import House, check, sh


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    simulator = house.simulate()
    plugged = house.plug(simulator)
    data = house.measure_plug(subscriber, plugged)
    total = data["runningInfo"]["eTotal"]
    sh("systemctl kill --signal=USR1 mosquitto; sync")  # it saves what is retained
    sh(f"systemctl kill --signal=KILL mosquitto; kill -9 {house.pid()}")
    plugged.pull()
    house.broker("start")
    subscriber = house.subscriber()
    subscriber.online("1")
    subscriber.forget()
    house.goodwe("start")
    subscriber.online("0")
    message = subscriber.resting()
    check(message["runningInfo"]["pac"] == 0, "no power")
    check(
        message["runningInfo"]["eTotal"] >= total, f"{message['runningInfo']['eTotal']} kWh, {total} before"
    )
    subscriber.forget()
    house.measure_all(subscriber, house.plug(simulator))
