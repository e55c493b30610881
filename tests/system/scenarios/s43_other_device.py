"""A HID device with other USB numbers is not touched, even as root; it is read when the file asks for it."""

import time

from tests.system.kit import OTHER_DEVICE, House, check, open_files, wait_for

LEFT_ALONE_FOR = 10.0


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    simulator = house.simulate()
    plugged = house.plug(simulator, *OTHER_DEVICE)
    wait_for(house.nodes, "the other device's node")
    end = time.monotonic() + LEFT_ALONE_FOR
    while time.monotonic() < end:
        check(not open_files(house.pid(), "/dev/hidraw"), "another maker's device was opened")
        time.sleep(0.1)
    check(not subscriber.new(), f"published: {subscriber.new()}")
    plugged.pull()
    house.goodwe("stop")
    house.configure(f"[inverter]\nvendorId = {OTHER_DEVICE[0]}\nmodelId = {OTHER_DEVICE[1]}\n")
    house.goodwe("start")
    house.measure_all(subscriber, house.plug(simulator, *OTHER_DEVICE))
