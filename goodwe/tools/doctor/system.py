"""Is the machine fit: clock, disk, log, power, container."""

import os
import shutil

from .checks import Check, Machine, Result, fail, ok, skip, warn

LOW, FULL = 100, 10
"""Megabytes that are free."""
LARGE_LOG = 50
"""Megabytes of a log that nobody rotates."""


def clock(machine: Machine) -> Result:
    from ...readings.clock import clock_is_right

    if clock_is_right():
        return ok("the clock is kept right")
    return warn(
        "nobody keeps the clock right: today's energy begins when somebody does",
        "sudo timedatectl set-ntp true",
    )


def disk(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    files = (settings.inverter.statefile, settings.inverter.logfile, settings.mqtt.backlog)
    folders = sorted({_existing_folder(machine, path) for path in files if path})
    free = {folder: shutil.disk_usage(machine.at(folder)).free // 1_000_000 for folder in folders}
    if not free:
        return skip("nothing is written to a disk")
    folder = min(free, key=lambda each: free[each])
    if free[folder] < FULL:
        return fail(f"the disk of {folder} is full", f"sudo du -xh {folder} | sort -h | tail")
    if free[folder] < LOW:
        return warn(f"{free[folder]} MB are free on the disk of {folder}", "sudo apt-get clean")
    return ok(f"{free[folder]} MB are free")


def read_only(machine: Machine) -> Result:
    """An SD card that fails is mounted read-only."""
    for line in (machine.text("/proc/mounts") or "").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[1] == "/" and "ro" in fields[3].split(","):
            return warn(
                "the root file system is mounted read-only", "sudo dmesg | grep -i -E 'ext4|mmc|error'"
            )
    return ok("the root file system can be written to")


def log(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    path = settings.inverter.logfile
    if machine.unit_state:
        return ok("the unit logs to the journal: journalctl -u goodwe")
    try:
        size = os.path.getsize(machine.at(path)) // 1_000_000
    except OSError:
        return ok(f"{path} is not there yet")
    if size >= LARGE_LOG and not machine.exists("/etc/logrotate.d/goodwe"):
        return warn(f"{path} has {size} MB", "sudo cp etc/goodwe.logrotate /etc/logrotate.d/goodwe")
    return ok(f"{path} has {size} MB")


def state_file(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    path = settings.inverter.statefile
    if not path:
        return warn("no statefile: totals and today's energy are forgotten at each restart", "set statefile")
    if machine.exists(f"{path}.damaged"):
        return warn(f"a damaged {path} was set aside", f"sudo rm {path}.damaged")
    folder = _existing_folder(machine, path)
    if machine.uid == 0 or os.access(machine.at(folder), os.W_OK) or machine.unit_state:
        return ok(path)
    return skip(f"{folder} can be written to by others only; run with sudo to know")


def under_voltage(machine: Machine) -> Result:
    """A Raspberry Pi tells; what else it runs on does not."""
    alarms = [
        path
        for path in machine.paths("/sys/class/hwmon/*/in0_lcrit_alarm")
        if machine.text(f"{os.path.dirname(path)}/name") == "rpi_volt"
    ]
    throttled = machine.text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    bits = int(throttled, 16) if throttled and throttled.isalnum() else 0
    if bits & 0x10001 or any(machine.text(path) == "1" for path in alarms):
        return warn(
            "the machine had too little voltage: USB devices vanish then", "use the official power supply"
        )
    return ok("the voltage was high enough") if alarms or throttled else skip("this machine does not tell")


def container(machine: Machine) -> Result:
    kind = machine.text("/run/systemd/container")
    if kind is None and machine.exists("/.dockerenv"):
        kind = "docker"
    if kind is None and machine.exists("/run/.containerenv"):
        kind = "podman"
    if not kind:
        return ok("no container")
    if machine.exists("/run/udev/control"):
        return ok(f"in a container ({kind}), with udev")
    return warn(
        f"in a container ({kind}) without udev: what is plugged in later is found within 30 s, if /dev is"
        " the machine's",
        "docker run -v /dev:/dev --device-cgroup-rule 'c *:* rw' ...",
    )


def _existing_folder(machine: Machine, path: str) -> str:
    folder = os.path.dirname(path)
    while folder != "/" and not os.path.isdir(machine.at(folder)):
        folder = os.path.dirname(folder)
    return folder


CHECKS = (
    Check("clock", "Is the clock right?", clock),
    Check("disk", "Is there room on the disk?", disk),
    Check("read-only", "Can the disk be written to?", read_only),
    Check("log", "Does the log stay small?", log),
    Check("statefile", "Are totals kept over a restart?", state_file),
    Check("voltage", "Has the machine enough power?", under_voltage),
    Check("container", "Does a container hide the inverter?", container),
)
