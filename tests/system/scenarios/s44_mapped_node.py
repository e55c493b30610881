"""A node under another name, as a container has it, is read by that name; what is no hidraw node is told at once."""

import os
import stat
from pathlib import Path

from tests.system.kit import House, check, open_files, wait_for

MAPPED = Path("/dev/inverter")
SERIAL_PORT = Path("/dev/ttyS0")
DANGLING = Path("/dev/not-yet")


def map_node(node: Path) -> None:
    """Does what `docker run --device /dev/hidraw0:/dev/inverter` does."""
    MAPPED.unlink(missing_ok=True)
    os.mknod(MAPPED, stat.S_IFCHR | 0o600, node.stat().st_rdev)


def use(house: House, device: Path) -> None:
    """Run with that device."""
    house.goodwe("stop")
    house.configure(f"[inverter]\ndevice = {device}\n")
    house.goodwe("start")


def scenario(house: House) -> None:
    subscriber = house.subscriber()
    simulator = house.simulate()
    try:
        plugged = house.plug(simulator)
        (node,) = wait_for(house.nodes, "its node")
        map_node(node)
        use(house, MAPPED)
        subscriber.data()
        check(open_files(house.pid(), "/dev/hidraw", str(MAPPED)) == [str(MAPPED)], "it has that name open")
        subscriber = house.measure_broker()
        house.measure_pull(subscriber, plugged)
        subscriber.forget()
        plugged = house.plug(simulator)
        (node,) = wait_for(house.nodes, "its node")
        map_node(node)
        house.measure_plug(subscriber, plugged)
        DANGLING.symlink_to("/dev/nowhere")
        use(house, DANGLING)
        wait_for(lambda: "No GoodWe inverter found at /dev/not-yet" in house.log(), "it is waited for")
        DANGLING.unlink()
        DANGLING.symlink_to(SERIAL_PORT)
        wait_for(lambda: f"{SERIAL_PORT} is not a hidraw node" in house.log(), "it is told")
        check(not open_files(house.pid(), str(SERIAL_PORT)), "a serial port was opened")
        DANGLING.unlink()
        DANGLING.symlink_to(node)
        subscriber.forget()
        subscriber.data()
        house.measure_pull(house.measure_broker(), plugged)
    finally:
        MAPPED.unlink(missing_ok=True)
        DANGLING.unlink(missing_ok=True)
