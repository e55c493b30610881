"""A three-phase inverter is read."""

from tests.system.kit import House, check


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    data = house.measure_all(subscriber, house.inverter("--phases", "3"))
    check(data["inverterType"] == 3, f"inverterType {data['inverterType']}")
    check(data["runningInfo"]["pac"] > 500, f"power at noon: {data['runningInfo']['pac']} W")
    check(data["isOnline"], "isOnline")
