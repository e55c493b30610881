"""Broken set-ups: the doctor names each, its commands are carried out word for word, and it is content then.

Nothing here knows what mends what: a line of the doctor's that begins with $ goes to the shell as it stands,
with somebody at the keyboard who types the password when he is asked for one.
"""

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.system.kit import (
    CONFIG,
    INSTALLED,
    PROGRAM,
    Failed,
    House,
    Subscriber,
    check,
    sh,
    wait_for,
)

PASSWORD = "correct horse"
TYPED = f"{PASSWORD}\n" * 2
WITHIN = 900
"""Seconds for all of it: some thirty times a doctor of an emulated machine."""
MENDED_WITHIN = 120.0
"""Seconds for commands of the doctor's, and for values and contentment after them."""
COMMAND = re.compile(r"^ {6}\$ (.+)$", re.MULTILINE)
TROUBLE = re.compile(r"^(?:WARN|FAIL) +(\S+) ", re.MULTILINE)
RULE = Path("/etc/udev/rules.d/99-goodwe.rules")
MOSQUITTO = Path("/etc/mosquitto/conf.d/doctor.conf")
PASSWORDS = Path("/etc/mosquitto/passwords")
SMALL_DISK = Path("/mnt/small")
RESTARTD = Path("/etc/restartd.conf")
NEEDS = "restartd"
"""Debian has it up to 12."""


class Case(NamedTuple):
    """Something that is broken in a set-up that worked."""

    check: str
    """The name of the check that has to find it."""
    breaks: Callable[[House], None]


def inverter() -> Path:
    """The inverter's folder of the kernel."""
    (folder,) = (
        file.parent
        for file in Path("/sys/bus/usb/devices").glob("*/idVendor")
        if file.read_text() == "0084\n"
    )
    return folder


# --- what can be broken; the program is started again after it, if it can be


def rule_missing(house: House) -> None:
    RULE.unlink()
    (node,) = house.nodes()
    sh(f"udevadm control --reload; chown root:root {node}; chmod 600 {node}")


def rule_not_applied(house: House) -> None:
    (node,) = house.nodes()
    sh(f"chown root:root {node}; chmod 600 {node}")


def disabled(house: House) -> None:
    sh("systemctl disable goodwe")


def misspelt(house: House) -> None:
    house.configure("[mqtt]\nSever = localhost\n")


def unreadable(house: House) -> None:
    sh(f"chown root:root {CONFIG}; chmod 600 {CONFIG}")


def secret_shown(house: House) -> None:
    CONFIG.write_text(f"[mqtt]\nusername = goodwe\npassword = {PASSWORD}\n")
    CONFIG.chmod(0o644)


def password_wrong(house: House) -> None:
    sh(f"rm -f {PASSWORDS}; mosquitto_passwd -b -c {PASSWORDS} goodwe other; chown mosquitto {PASSWORDS}")
    # Who only listens here has no name.
    MOSQUITTO.write_text(f"allow_anonymous true\npassword_file {PASSWORDS}\n")
    house.broker("restart")
    house.configure(f"[mqtt]\nusername = goodwe\npassword = {PASSWORD}\n")
    sh(f"chown root:goodwe {CONFIG}; chmod 640 {CONFIG}")


def port_wrong(house: House) -> None:
    """With a disk that is soon full."""
    sh(f"mkdir -p {SMALL_DISK}; mount -t tmpfs -o size=4M small {SMALL_DISK}")
    house.configure(f"[inverter]\nlogfile = {SMALL_DISK}/goodwe.log\n[mqtt]\nport = 1884\n")
    house.goodwe("restart")


def other_reader(house: House) -> None:
    (node,) = house.nodes()
    subprocess.Popen(["sh", "-c", f"exec sleep 600 < {node}"])


def also_by_restartd(house: House) -> None:
    """Beside the unit; restartd itself would only notice at its next look."""
    RESTARTD.write_text((INSTALLED / "etc" / "restartd.conf").read_text())


def unbound(house: House) -> None:
    for interface in Path("/sys/bus/usb/drivers/usbhid").glob("*:*"):
        (interface.parent / "unbind").write_text(interface.name)


def autosuspend(house: House) -> None:
    inverter().joinpath("power", "control").write_text("auto")


def state_damaged(house: House) -> None:
    sh("systemctl stop goodwe; echo damaged > /var/lib/goodwe/state.json")


def killed(house: House) -> None:
    sh(f"kill -9 {house.pid()}")


def disk_full(house: House) -> None:
    sh(f"head -c 4000000 /dev/zero >> {SMALL_DISK}/goodwe.log", code=None)


OF_UNIT = (
    (
        Case("secrets", secret_shown),
        Case("statefile", state_damaged),
        Case("rule", rule_missing),
        Case("unit", disabled),
        Case("one-way", also_by_restartd),
    ),
    (Case("configuration", misspelt), Case("service-user", unreadable), Case("node", unbound)),
    (Case("login", password_wrong), Case("holder", other_reader), Case("autosuspend", autosuspend)),
)
"""Rounds: what is broken together, each in a way of its own."""
OF_DAEMON = (
    Case("broker-port", port_wrong),
    Case("rights", rule_not_applied),
    Case("disk", disk_full),
    Case("program", killed),
)


def examined() -> tuple[int, str]:
    """The exit code of the doctor, and what it says."""
    done = subprocess.run([PROGRAM, "doctor"], capture_output=True, text=True, timeout=MENDED_WITHIN)
    return done.returncode, done.stdout + done.stderr


def is_content() -> bool:
    """True if the doctor has nothing to say."""
    return examined()[0] == 0


def carry_out(text: str) -> str:
    """Give each command of the doctor's to the shell, word for word, from the top. What they said."""
    said = []
    for command in dict.fromkeys(COMMAND.findall(text)):
        done = subprocess.run(
            ["sh", "-c", command], input=TYPED, capture_output=True, text=True, timeout=MENDED_WITHIN
        )
        # The first of two that restart a program with two troubles fails, and that is as it has to be.
        said.append(f"$ {command}: {done.returncode}\n{done.stdout}{done.stderr}")
    check(said, f"no command: {text}")
    return "\n".join(said)


def mended(house: House, subscriber: Subscriber, cases: Sequence[Case], again: str = "true") -> None:
    """Break it, start the program `again`, ask, do what is said, look."""
    began = time.monotonic()
    for case in cases:
        case.breaks(house)
    sh(again, code=None)
    code, text = examined()
    found = TROUBLE.findall(text)
    for case in cases:
        check(code and case.check in found, f"{case.breaks.__name__} is not found:\n{text}")
    said = carry_out(text)
    try:
        subscriber.forget()
        subscriber.data()
        wait_for(is_content, "the doctor is content", MENDED_WITHIN)
    except Failed as error:
        names = ", ".join(case.breaks.__name__ for case in cases)
        raise Failed(f"{names}: {error}\n{text}\n{said}\nand then:\n{examined()[1]}") from error
    house.figure(f"{len(cases)} mended", time.monotonic() - began)


def scenario(house: House) -> None:
    subscriber = house.subscriber()
    plugged = house.inverter()
    sh("systemctl enable --now goodwe")
    house.measure_plug(subscriber, plugged)
    code, text = examined()
    check(code == 0, f"content with a house in order:\n{text}")
    check(len(text.splitlines()) < 24, "at most a screen then")
    try:
        for cases in OF_UNIT:
            mended(house, subscriber, cases, "systemctl restart goodwe")
        sh("systemctl disable --now goodwe")
        house.goodwe("start")
        mended(house, subscriber, OF_DAEMON)
        house.measure_pull(house.measure_broker(), plugged)
    finally:
        leave_as_it_was()


def leave_as_it_was() -> None:
    """Whatever came of it, the next scenario finds what the installation has left."""
    for file in (MOSQUITTO, PASSWORDS):
        file.unlink(missing_ok=True)
    sh(f"umount {SMALL_DISK}; systemctl start mosquitto", code=None)
    sh(f"{PROGRAM} install; systemctl disable --now goodwe", code=None, seconds=2 * MENDED_WITHIN)
