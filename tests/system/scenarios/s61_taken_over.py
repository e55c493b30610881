"""Debian's package over an older installation in /opt: its daemon ends, its configuration stays, never two."""

import time
from pathlib import Path

from tests.system.kit import CONFIG, INSTALLED, House, check, sh
from tests.system.scenarios.s60_package import APT, DEPENDENCIES, THIS, gap, never_two, programs

WITHIN = 900
"""Seconds for the scenario: apt works twice."""


def scenario(house: House) -> None:
    sh(f"{APT} {DEPENDENCIES}", seconds=300)
    house.goodwe("uninstall --purge")
    # An edited configuration, and files that were copied by hand, one of them edited.
    CONFIG.write_text("[mqtt]\nlanguage = de\n")
    sh(f"cp {INSTALLED}/etc/99-goodwe.rules /etc/udev/rules.d/")
    sh(f"cp {INSTALLED}/etc/goodwe.logrotate /etc/logrotate.d/goodwe")
    unit = (INSTALLED / "etc/goodwe.service").read_text()
    Path("/etc/systemd/system/goodwe.service").write_text(unit.replace("RestartSec=5", "RestartSec=7"))
    house.inverter()
    house.goodwe("start")
    with_restartd = Path("/etc/restartd.conf").exists()
    if with_restartd:
        Path("/etc/restartd.conf").write_text((INSTALLED / "etc/restartd.conf").read_text())
        sh("systemctl restart restartd")
    subscriber = house.subscriber()
    subscriber.data()
    at = time.monotonic()
    with never_two():
        said = sh(f"{APT} {THIS}", seconds=300)
        house.figure("longest gap of taking over", gap(subscriber, at))
    check(sh("systemctl is-active goodwe").strip() == "active", "the unit runs")
    check("foreground" in Path(f"/proc/{programs()[0]}/cmdline").read_text(), "the daemon has ended")
    check(CONFIG.read_text() == "[mqtt]\nlanguage = de\n", "the configuration stays")
    check(Path("/etc/systemd/system/goodwe.service.old").exists(), "the edited unit is kept")
    check(not Path("/etc/udev/rules.d/99-goodwe.rules").exists(), "the rule that was copied is gone")
    if with_restartd:
        check("/etc/restartd.conf" in said, f"restartd's line is told:\n{said}")
        check(sh("systemctl is-active restartd").strip() == "active", "restartd goes on")
        sh("systemctl stop restartd")
    sh("apt-get purge -qy goodwe-usb-logger", seconds=300)
    check(not CONFIG.exists(), "purge takes the configuration")
