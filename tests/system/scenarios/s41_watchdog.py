"""The watchdog of goodwe.service: a program that stands still is replaced."""

import time
from pathlib import Path

from tests.system.kit import House, check, sh, wait_for

DROP_IN = Path("/etc/systemd/system/goodwe.service.d/watchdog.conf")
WATCHDOG = 10


def scenario(house: House) -> None:
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text(f"[Service]\nWatchdogSec={WATCHDOG}\nRestartSec=1\n")
    sh("systemctl daemon-reload && systemctl start goodwe")
    subscriber = house.subscriber()
    plugged = house.inverter()
    house.measure_plug(subscriber, plugged)
    pid = sh("systemctl show -P MainPID goodwe").strip()
    time.sleep(2 * WATCHDOG)
    check(sh("systemctl show -P MainPID goodwe").strip() == pid, "a program that runs is left alone")
    subscriber.forget()
    sh(f"kill -STOP {pid}")
    at = time.monotonic()
    subscriber.online("0")
    wait_for(lambda: subscriber.seen_online("1"), "systemd replaces it")
    house.figure("standing still to back online", time.monotonic() - at)
    check(sh("systemctl show -P MainPID goodwe").strip() != pid, "it is another process")
    house.measure_pull(house.measure_broker(), plugged)
