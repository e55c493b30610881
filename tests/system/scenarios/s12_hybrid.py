"""An inverter with readings of 130 bytes is read."""

from tests.system.kit import House, check


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    data = house.measure_all(subscriber, house.inverter("--length", "130"))
    check(data["inverterType"] == 1, f"inverterType {data['inverterType']}")
    check(data["runningInfo"]["pac"] > 500, f"power at noon: {data['runningInfo']['pac']} W")
    check(data["isOnline"], "isOnline")
