"""restartd, with the line of etc/restartd.conf, brings the program back after it was killed."""

import time
from pathlib import Path

from tests.system.kit import INSTALLED, House, check, sh, wait_for

NEEDS = "restartd"
"""Debian has it up to 12."""


def scenario(house: House) -> None:
    Path("/etc/restartd.conf").write_text((INSTALLED / "etc" / "restartd.conf").read_text())
    subscriber = house.subscriber()
    plugged = house.inverter()
    sh("systemctl start restartd")
    house.measure_plug(subscriber, plugged)
    killed = house.pid()
    subscriber.forget()
    at = time.monotonic()
    sh(f"kill -9 {killed}")
    subscriber.online("0")
    wait_for(lambda: subscriber.seen_online("1"), "restartd brings it back")
    house.figure("killed to back online", time.monotonic() - at)
    check(house.pid() != killed, "it is another process")
    house.measure_pull(house.measure_broker(), plugged)
