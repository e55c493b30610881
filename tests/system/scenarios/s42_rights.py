"""Our udev rule opens the inverter's node for the group goodwe, and no other input device."""

from pathlib import Path

from tests.system.kit import OTHER_DEVICE, SERIALS, House, check, sh, wait_for


def mode(node: Path) -> str:
    """Rights and group of a node."""
    return sh(f"stat -c '%a %G' {node}").strip()


def scenario(house: House) -> None:
    sh("systemctl start goodwe")
    subscriber = house.subscriber()
    other = house.plug(house.simulate(serial=SERIALS[1]), *OTHER_DEVICE)
    others = wait_for(house.nodes, "the other device's node")
    plugged = house.inverter()
    house.measure_plug(subscriber, plugged)
    (ours,) = set(house.nodes()) - set(others)
    sh("udevadm settle")
    check(mode(ours) == "660 goodwe", f"our node: {mode(ours)}")
    check(mode(others[0]) == "600 root", f"the other node: {mode(others[0])}")
    sh(f"sudo -u goodwe test -r {ours} -a -w {ours}")
    for node in (others[0], *Path("/dev/input").glob("event*"), *Path("/dev/input").glob("mouse*")):
        sh(f"sudo -u goodwe test ! -r {node} -a ! -w {node}")
    check(not [*subscriber.readings(SERIALS[1])], "the other one is read")
    house.measure_pull(house.measure_broker(), plugged)
    other.pull()
