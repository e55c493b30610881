"""A HID device with other USB numbers is not touched, even as root; it is read when the file asks for it."""

import os
import time
from contextlib import suppress
from pathlib import Path

from tests.system.kit import OTHER_DEVICE, House, check, wait_for

LEFT_ALONE_FOR = 10.0


def open_nodes(pid: int) -> list[str]:
    """The hidraw nodes that a process has open."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            targets.append(os.readlink(link))
    return [target for target in targets if target.startswith("/dev/hidraw")]


def scenario(house: House) -> None:
    house.goodwe("start")
    subscriber = house.subscriber()
    simulator = house.simulate()
    plugged = house.plug(simulator, *OTHER_DEVICE)
    wait_for(house.nodes, "the other device's node")
    end = time.monotonic() + LEFT_ALONE_FOR
    while time.monotonic() < end:
        check(not open_nodes(house.pid()), "another maker's device was opened")
        time.sleep(0.1)
    check(not subscriber.new(), f"published: {subscriber.new()}")
    plugged.pull()
    house.goodwe("stop")
    house.configure(f"[inverter]\nvendorId = {OTHER_DEVICE[0]}\nmodelId = {OTHER_DEVICE[1]}\n")
    house.goodwe("start")
    house.measure_all(subscriber, house.plug(simulator, *OTHER_DEVICE))
