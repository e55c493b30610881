"""usbreset = on: with its lines of rule and unit the program's user may reset the inverter's port, and goes on."""

from tests.system.kit import INSTALLED, House, check, sh

LADDER = """
from goodwe.transport import Ids
from goodwe.transport.hidraw import reset_port
from goodwe.transport.udev import udev_nodes
nodes = udev_nodes(Ids(0x0084, 0x0041))
(node,) = nodes.present()
reset_port(nodes.usb_node(node))
"""
"""The step that the ladder takes, without the minutes of silence before it."""


def uncomment(path: str, words: str) -> None:
    """Take the # of a line away, as a person would."""
    before = sh(f"cat {path}")
    sh(f"sed -i '/{words}/s/^#//' {path}")
    check(sh(f"cat {path}") != before, f"{path} has no such line: {words}")


def scenario(house: House) -> None:
    rules = "/etc/udev/rules.d/99-goodwe.rules"
    uncomment(rules, "usb_device")
    sh("udevadm control --reload")
    try:
        house.configure("[inverter]\nusbreset = on\n")
        sh("systemctl start goodwe")
        subscriber = house.subscriber()
        plugged = house.inverter()
        check(plugged.next_line() == "configured\n", "the kernel has configured it")
        house.measure_plug(subscriber, plugged)
        sh("udevadm settle")
        python = f"cd {INSTALLED} && sudo -u goodwe .venv/bin/python"
        sh(f"{python} - <<'END'\n{LADDER}END")
        check(plugged.next_line() == "configured\n", "its port was reset")
        subscriber.forget()
        subscriber.data()
        house.measure_pull(house.measure_broker(), plugged)
    finally:
        sh(f"cp {INSTALLED}/etc/99-goodwe.rules {rules}; udevadm control --reload")
