"""Debian's package: from nothing to values, upgraded while it runs, downgraded, interrupted, removed, purged."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from tests.system.kit import CONFIG, STATE, House, Subscriber, check, sh, wait_for

DEPENDENCIES = "/var/cache/goodwe-debs/*.deb"
THIS, NEXT = "/mnt/project/debs/this/*.deb", "/mnt/project/debs/next/*.deb"
APT = "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends --allow-downgrades"
WITHIN = 900
"""Seconds for the scenario: it installs eight times."""
LONGEST_GAP = 5.0
"""Seconds without a reading. An emulated processor needs ten to start Python: a restart alone is measured there."""
LOOKED_AT = ("/etc", "/usr", "/var", "/opt", "/run/goodwe")
OTHERS = (
    "/var/log/journal",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/mosquitto",
    "/var/cache",
    "/var/log/apt",
)
"""Folders in which the machine goes on living."""
RUNNING = {"start", "restart", "foreground"}


def files() -> set[str]:
    """All files that the package could have left."""
    found = set()
    for top in LOOKED_AT:
        for folder, _, names in os.walk(top):
            if not folder.startswith(OTHERS) and "__pycache__" not in folder:
                found |= {f"{folder}/{name}" for name in [*names, ""]}
    return {
        path
        for path in found
        if not path.startswith(("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"))
    }


def programs() -> list[str]:
    """The processes that run as a daemon or in the foreground."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_text().split("\0")
        except OSError:  # it has just ended
            continue
        names = [os.path.basename(word) for word in words]
        if names[0].startswith("python") and "GoodWe.py" in names[:3] and RUNNING & set(words):
            found.append(file.parent.name)
    return found


@contextmanager
def never_two() -> Iterator[None]:
    """Fails if two programs run at once meanwhile; a daemon that is being forked is one."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            sessions = {os.getsid(int(pid)) for pid in programs() if os.path.exists(f"/proc/{pid}")}
            most[0] = max(most[0], len(sessions))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    check(most[0] <= 1, f"{most[0]} programs ran at once")


def gap(subscriber: Subscriber, began: float) -> float:
    """The longest time without a reading since `began`, after three more have come."""
    subscriber.forget()
    wait_for(lambda: len(list(subscriber.readings())) >= 3, "readings go on")
    times = [began, *(message.at for message in subscriber.everything() if message.at > began)]
    return max(later - earlier for earlier, later in pairwise(times))


def scenario(house: House) -> None:
    sh(f"{APT} {DEPENDENCIES}", seconds=300)
    house.goodwe("uninstall --purge")
    check("goodwe" not in Path("/etc/passwd").read_text(), "the user is gone")
    before = files()
    life(house)
    left = files() - before
    check(not left, f"left after purge: {sorted(left)}")
    check(not [*Path("/var/lib/systemd").rglob("*goodwe*")], "systemd remembers it")
    check(
        "goodwe" not in Path("/etc/passwd").read_text() + Path("/etc/group").read_text(),
        "user and group stay",
    )


def life(house: House) -> None:
    """From nothing to values without an edited file, and back to nothing."""
    plugged = house.inverter()
    (node,) = wait_for(house.nodes, "the node")
    subscriber = house.subscriber()
    at = time.monotonic()
    sh(f"{APT} {THIS}", seconds=300)
    house.figure("apt", time.monotonic() - at)
    message, _ = subscriber.data()
    house.figure("apt to first data", message.at - at)
    check(sh(f"stat -c '%a %U %G' {CONFIG}").strip() == "640 root goodwe", "the configuration's rights")
    check(sh(f"stat -c '%a %G' {node}").strip() == "660 goodwe", "the rule holds for what was plugged in")
    check(sh("systemctl is-enabled goodwe").strip() == "enabled", "it comes up at boot")
    check("is running" in sh("goodwe-logger status"), "goodwe-logger says that it runs")
    check("usage: goodwe-logger" in sh("goodwe-logger --help"), "goodwe-logger calls itself so")
    (pid,) = programs()
    check(sh(f"stat -c %U /proc/{pid}").strip() == "goodwe", "it runs as goodwe")
    sh("dpkg --verify goodwe-usb-logger")

    at = time.monotonic()
    sh("systemctl restart goodwe")
    restart = gap(subscriber, at)
    house.figure("longest gap of a restart", restart)
    emulated = sh("systemd-detect-virt", code=None).strip() == "qemu"
    allowed = LONGEST_GAP + (2 * restart if emulated else 0.0)
    for name, deb in (("upgrade", NEXT), ("downgrade", THIS)):
        before, at = programs(), time.monotonic()
        with never_two():
            sh(f"{APT} {deb}", seconds=300)
        longest = gap(subscriber, at)
        house.figure(name, longest)
        check(longest < allowed, f"{name}: {longest:.1f} s without a reading")
        check(programs() != before, f"the {name} has started it anew")

    sh(f"dpkg --unpack {NEXT}; sync", seconds=300)  # and the power goes
    sh("systemctl stop goodwe")
    sh("dpkg --configure -a", seconds=300)
    subscriber.forget()
    subscriber.data()

    house.measure_pull(subscriber, plugged)
    wait_for(lambda: (STATE / "state.json").exists(), "totals are kept")
    sh("apt-get remove -qy goodwe-usb-logger", seconds=300)
    check(not programs(), "it has ended")
    check(CONFIG.exists() and (STATE / "state.json").exists(), "remove keeps configuration and totals")
    sh("apt-get purge -qy goodwe-usb-logger", seconds=300)
