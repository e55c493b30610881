"""The machine boots with the inverter plugged in, and without: goodwe.service is there both times."""

from pathlib import Path

from tests.system import kit
from tests.system.kit import SERIALS, House, check, sh, wait_for

UNIT = Path("/etc/systemd/system/plugged-in.service")


def plug_at_boot() -> None:
    """The inverter that UNIT runs: one that is plugged in before the program starts, and stays so."""
    house = House(lambda *_: None)
    house.inverter()
    wait_for(house.nodes, "the node")
    sh("systemd-notify --ready")
    kit.stay()


def prepare(house: House) -> None:
    """Enable both units, and boot."""
    UNIT.write_text(
        "[Unit]\nBefore=goodwe.service\nAfter=systemd-udevd.service\n\n"
        "[Service]\nType=notify\nNotifyAccess=all\n"
        f"Environment=PYTHONPATH={kit.CHECKOUT}\n"
        f"ExecStart=/usr/bin/python3 -m {__name__}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    sh(f"systemctl daemon-reload; systemctl enable goodwe {UNIT.name}")


def plugged_in(house: House) -> None:
    """Read without anybody's help; the next boot is without it."""
    subscriber = house.subscriber()
    subscriber.data()
    subscriber.online("1")
    check("No GoodWe inverter found" not in sh("journalctl -b -u goodwe"), "it is found at once")
    sh(f"systemctl disable {UNIT.name}; rm {UNIT}")


def not_plugged_in(house: House) -> None:
    """Up, with nothing to read; then it is plugged in."""
    sh("systemctl is-active goodwe")
    wait_for(lambda: "No GoodWe inverter found" in sh("journalctl -b -u goodwe"), "the journal says so")
    subscriber = house.subscriber()
    wait_for(lambda: subscriber.seen_online("0", SERIALS[0]), "retained online 0 from the shutdown")
    check(not subscriber.seen_online("1", SERIALS[0]), "nothing says that it is online")
    subscriber.forget()
    house.measure_all(subscriber, house.inverter())
    sh("systemctl disable goodwe")


PARTS = [prepare, plugged_in, not_plugged_in]

if __name__ == "__main__":
    plug_at_boot()
