"""reload by verb, by systemctl and by a signal, under systemd and as a daemon that goes on as user goodwe."""

import json
from itertools import pairwise
from pathlib import Path

from tests.system.kit import (
    INSTALLED,
    LOG,
    PIDFILE,
    STATE,
    House,
    Simulator,
    Subscriber,
    check,
    open_files,
    sh,
    wait_for,
)
from tests.system.scenarios.s17_port_reset import LADDER, uncomment
from tests.system.scenarios.s40_systemd import journal

UNIT = Path("/etc/systemd/system/goodwe.service")
OTHER = Path("/etc/systemd/system/roof.service")
RULES = Path("/etc/udev/rules.d/99-goodwe.rules")
SOCKET = PIDFILE.with_suffix(".sock")
WITHIN = 900
"""Seconds for all of it: eight times a program that starts in an emulated machine, and four reloads of systemd."""
POLL, MOST_POLLS, LATE = 5.0, 2, 3.0
"""Seconds between two readings at the most, how many intervals one may miss, and how late an emulated one is."""


def main_pid(unit: str = "goodwe") -> str:
    """Number of the unit's process."""
    return sh(f"systemctl show -P MainPID {unit}").strip()


def scenario(house: House) -> None:
    subscriber = house.subscriber()
    simulator = house.simulate()
    plugged = house.plug(simulator)
    under_systemd(house, subscriber)
    in_a_unit_of_another_name(house, subscriber)
    plugged.pull()
    classic(house, subscriber, simulator)
    as_another_user(house, subscriber, simulator)


def under_systemd(house: House, subscriber: Subscriber) -> None:
    sh("systemctl start goodwe")
    subscriber.online("1")
    pid, files = main_pid(), open_files(int(main_pid()), "/dev/hidraw")
    subscriber.forget()
    house.configure("[inverter]\npollinterval = 5000\n")
    sh("systemctl reload goodwe")
    check(
        "Configuration changed: [inverter] pollinterval = 5000, was 2500" in journal(), "it says what changed"
    )
    house.configure("[mqtt]\nsever = nas\n")
    sh("systemctl reload goodwe", code=1)
    check("/etc/goodwe.conf:2: unknown key sever in [mqtt]" in journal(), "the reason is in the journal")
    told = house.goodwe("reload", code=2)
    check("is server meant?; it goes on with the configuration of before" in told, f"the verb says: {told}")
    before = journal().count("The configuration stays as it was")
    sh("systemctl kill --signal=HUP goodwe")
    refused = "a signal is refused as well"
    wait_for(lambda: journal().count("The configuration stays as it was") > before, refused)
    subscriber.data()
    check(sh("systemctl is-active goodwe").strip() == "active", "the unit is active")
    check(main_pid() == pid and open_files(int(pid), "/dev/hidraw") == files, "the node was never closed")
    house.configure("[mqtt]\nvalues = on\n")
    check("[mqtt] values = on, was off" in house.goodwe("reload"), "the verb says what changed")
    wait_for(lambda: [m for m in subscriber.new() if m.topic.endswith("/pac")], "values on their own topics")
    check(not subscriber.seen_online("0"), "nobody said that the inverter is away")
    house.figure("largest gap beside reloads", gap(subscriber))
    check(" W, last reading at 2" in sh("systemctl status --no-pager goodwe"), "systemd shows the power")


def in_a_unit_of_another_name(house: House, subscriber: Subscriber) -> None:
    sh("systemctl stop goodwe")
    OTHER.write_text(UNIT.read_text().replace("RuntimeDirectory=goodwe", "RuntimeDirectory=roof"))
    try:
        subscriber.forget()
        sh("systemctl daemon-reload && systemctl start roof")
        subscriber.online("1")
        house.configure("[inverter]\nusbreset = on\n")
        sh("systemctl reload roof")
        told = sh("journalctl -b -u roof -o cat --no-pager")
        check("usbreset = on, was off" in told, "the unit's own program is asked")
    finally:
        sh(f"systemctl stop roof; rm -f {OTHER}; systemctl daemon-reload")


def classic(house: House, subscriber: Subscriber, simulator: Simulator) -> None:
    """A daemon of root's, asked by the verb and by a signal; its log is moved away in between."""
    house.configure("[inverter]\npollinterval = 2500\n")
    house.goodwe("start")
    subscriber.forget()
    plugged = house.plug(simulator)
    subscriber.online("1")
    pid, files = house.pid(), open_files(house.pid(), "/dev/hidraw")
    subscriber.forget()
    check("GoodWe is running, pid" in house.goodwe("status --long"), "status tells of the daemon")
    house.configure("[inverter]\npollinterval = 3000\n")
    check("pollinterval = 3000, was 2500" in house.goodwe("reload"), "the verb says what changed")
    house.configure("rubbish\n")
    check("stands before the first section" in house.goodwe("reload", code=2), "and why not")
    LOG.rename(f"{LOG}.1")
    house.configure("[inverter]\npollinterval = 3500\n")
    sh(f"kill -HUP {pid}")
    wait_for(lambda: "pollinterval = 3500, was 3000" in house.log(), "the new log has what changed")
    subscriber.data()
    check(house.pid() == pid and open_files(pid, "/dev/hidraw") == files, "the node was never closed")
    check(not subscriber.seen_online("0"), "nobody said that the inverter is away")
    house.figure("largest gap beside reloads", gap(subscriber))
    plugged.pull()
    house.goodwe("stop")
    Path(f"{LOG}.1").unlink()


def gap(subscriber: Subscriber) -> float:
    """The largest number of seconds between two readings since the last forget(). Fails when it is too large."""
    times = [json.loads(message.payload)["lastSeen"] / 1000 for message in subscriber.readings()]
    largest = max((after - before for before, after in pairwise(times)), default=0.0)
    check(largest < MOST_POLLS * POLL + LATE, f"no reading for {largest:.1f} s")
    return largest


def as_another_user(house: House, subscriber: Subscriber, simulator: Simulator) -> None:
    uncomment(str(RULES), "usb_device")
    sh(f"udevadm control --reload; chown -R goodwe {STATE}")
    try:
        house.configure("[inverter]\nuser = goodwe\nusbreset = on\n")
        house.goodwe("start")
        check(
            sh(f"stat -c %U /proc/{house.pid()} {LOG} {SOCKET}").split() == ["goodwe"] * 3, "whose they are"
        )
        subscriber.forget()
        plugged = house.plug(simulator)
        check(plugged.next_line() == "configured\n", "the kernel has configured it")
        house.measure_plug(subscriber, plugged)
        sh("udevadm settle")
        python = f"cd {INSTALLED} && sudo -u goodwe .venv/bin/python"
        sh(f"{python} - <<'END'\n{LADDER}END")
        check(plugged.next_line() == "configured\n", "its user may reset the port")
        house.configure("[inverter]\nuser = goodwe\n")
        check("usbreset = off, was on" in house.goodwe("reload"), "root may ask it")
        house.measure_pull(subscriber, plugged)
        subscriber.forget()
        plugged = house.plug(simulator)
        check(plugged.next_line() == "configured\n", "it is there again, and has another node")
        house.measure_plug(subscriber, plugged)
        sh("logrotate --force /etc/logrotate.d/goodwe")
        house.goodwe("reload")
        wait_for(lambda: "nothing has changed" in house.log(), "the log goes on in the new file")
        check(sh(f"stat -c %U {LOG}").strip() == "goodwe", "which is the user's again")
        subscriber.forget()
        house.goodwe("restart")
        subscriber.online("1")
        house.measure_pull(subscriber, plugged)
        house.goodwe("stop")
        check(not PIDFILE.exists() and not SOCKET.exists(), "nothing is left after stop")
        check("Traceback" not in house.log(), "no defect")
    finally:
        sh(f"cp {INSTALLED}/etc/99-goodwe.rules {RULES}; udevadm control --reload")
        Path(f"{LOG}.1").unlink(missing_ok=True)
