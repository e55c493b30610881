"""udev restarted, systemd executed anew, the kernel's HID modules loaded anew: the unit just goes on."""

from tests.system.kit import House, check, sh, wait_for

CHANGES = (
    "systemctl restart systemd-udevd",
    "systemctl daemon-reexec",
    "modprobe -r usbhid hid_generic hid",
    "hostname another",
)


def scenario(house: House) -> None:
    name = sh("hostname").strip()
    sh("systemctl start goodwe")
    subscriber = house.subscriber()
    simulator = house.simulate()
    try:
        for change in CHANGES:
            sh(change)
            plugged = house.plug(simulator)
            house.measure_plug(subscriber, plugged)
            house.measure_pull(subscriber, plugged)
            subscriber.forget()
            wait_for(lambda: not house.nodes(), "the node is gone")
        plugged = house.plug(simulator)
        subscriber.data()
        house.measure_pull(house.measure_broker(), plugged)
        check(sh("systemctl show -P NRestarts goodwe").strip() == "0", "it was started again")
    finally:
        sh(f"hostname {name}")
