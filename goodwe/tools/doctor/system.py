"""Is the machine fit: clock, disk, log, power, container."""

import os
import shlex
import shutil

from .checks import Check, Machine, Result, ShellCommand, fail, ok, skip, warn

LOW, FULL = 100, 10
"""Megabytes that are free."""
LOW_PART = 0.1
"""Part of a disk that is free, where the whole is small: a log in memory has some fifty megabytes."""
LARGE_LOG = 50
"""Megabytes of a log that nobody rotates."""
MEGABYTE = 1_000_000
REMOUNT = "sudo mount -o remount,rw /  # why: sudo dmesg | grep -i -E 'ext4|mmc|error'"
TIME_SERVICES = ("systemd-timesyncd", "chrony", "chronyd", "ntpsec", "ntp", "openntpd")
"""Units that keep the clock."""


def clock(machine: Machine) -> Result:
    from ...readings.clock import clock_is_right

    if clock_is_right():
        return ok("the clock is kept right")
    remedy = "sudo timedatectl set-ntp true"
    if machine.exists("/run/systemd/system") and not _has_time_service(machine):
        remedy = f"sudo apt-get install systemd-timesyncd && {remedy}"
    return warn(
        "nobody keeps the clock right: today's energy begins when somebody does", machine.outside(remedy)
    )


def disk(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    files = (settings.inverter.statefile, settings.inverter.logfile, settings.mqtt.backlog)
    folders = sorted({_existing_folder(machine, path) for path in files if path})
    free = {folder: shutil.disk_usage(machine.at(folder)).free / MEGABYTE for folder in folders}
    if not free:
        return skip("nothing is written to a disk")
    # Of a small disk a part is enough.
    low = {folder: _low(machine, folder) for folder in folders}
    folder = min(free, key=lambda each: free[each] / low[each])
    if free[folder] < FULL * low[folder]:
        return fail(f"the disk of {folder} is full", _room(machine, folder, settings.inverter.logfile))
    if free[folder] < LOW * low[folder]:
        return warn(
            f"{free[folder]:.0f} MB are free on the disk of {folder}",
            _room(machine, folder, settings.inverter.logfile),
        )
    if not os.statvfs(machine.at(folder)).f_favail and os.statvfs(machine.at(folder)).f_files:
        return fail(
            f"the disk of {folder} has no room for another file", f"look: sudo du --inodes -x {folder}"
        )
    return ok(f"{free[folder]:.0f} MB are free")


def read_only(machine: Machine) -> Result:
    """An SD card that fails is mounted read-only."""
    for line in (machine.text("/proc/mounts") or "").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[1] == "/" and "ro" in fields[3].split(","):
            return warn(
                "the root file system is mounted read-only",
                machine.outside(
                    "sudo mount -o remount,rw /  # why: sudo dmesg | grep -i -E 'ext4|mmc|error'"
                ),
            )
    return ok("the root file system can be written to")


def log(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    path = settings.inverter.logfile
    if machine.is_of_systemd:
        return ok("the unit logs to the journal: journalctl -u goodwe")
    folder = _existing_folder(machine, path)
    if os.path.isdir(machine.at(path)) or not os.path.isdir(machine.at(folder)):
        return fail(
            f"logfile = {path} cannot be a file", f"set another logfile in [inverter]; then {machine.restart}"
        )
    try:
        size = os.path.getsize(machine.at(path)) // MEGABYTE
    except OSError:
        return ok(f"{path} is not there yet")
    if size >= LARGE_LOG and not machine.exists("/etc/logrotate.d/goodwe"):
        rotate = f"sudo cp {machine.own_file('etc/goodwe.logrotate')} /etc/logrotate.d/goodwe"
        return warn(
            f"{path} has {size} MB", ShellCommand(f"{rotate} && sudo logrotate /etc/logrotate.d/goodwe")
        )
    return ok(f"{path} has {size} MB")


def state_file(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    path = settings.inverter.statefile
    if not path:
        text = "no statefile: totals and today's energy are forgotten at each restart"
        options = type(settings.inverter).options()
        default = next(option.default for option in options if option.key == "statefile")
        return warn(
            text,
            machine.setting("inverter", "statefile", default, by_hand="and set statefile")
            or "set statefile in [inverter]",
        )
    if machine.exists(f"{path}.damaged"):
        return warn(f"a damaged {path} was set aside", ShellCommand(f"sudo rm {shlex.quote(path)}.damaged"))
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
    kind = machine.container
    if not kind:
        return ok("no container")
    if machine.exists("/run/udev/control"):
        return ok(f"in a container ({kind}), with udev")
    return warn(
        f"in a container ({kind}) without udev: what is plugged in later is found within 30 s, if /dev is"
        " the machine's",
        "docker run -v /dev:/dev --device-cgroup-rule 'c *:* rw' ...",
    )


def _has_time_service(machine: Machine) -> bool:
    folders = ("/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system")
    return any(machine.exists(f"{folder}/{name}.service") for folder in folders for name in TIME_SERVICES)


def _low(machine: Machine, folder: str) -> float:
    """The part of LOW and FULL that counts for the disk that a folder is on: 1 unless it is small."""
    found = os.statvfs(machine.at(folder))
    part = found.f_blocks * found.f_frsize / MEGABYTE * LOW_PART / LOW
    return min(1.0, part) or 1.0


def _room(machine: Machine, folder: str, logfile: str) -> str:
    """The remedy for a full disk: what is ours and large, the journal, Debian's packages; else look."""
    disk = os.stat(machine.at(folder)).st_dev
    for path in (logfile, f"{logfile}.1"):
        try:
            found = os.stat(machine.at(path))
        except OSError:
            continue
        if found.st_dev == disk and found.st_size / MEGABYTE > LOW * _low(machine, folder):
            return ShellCommand(f"sudo truncate -s 0 {shlex.quote(path)}  # our own log, with what it tells")
    look = f"sudo du -xh {shlex.quote(folder)} | sort -h | tail"
    if _is_on(machine, "/var/cache/apt/archives", disk):
        return ShellCommand(
            f"sudo apt-get clean && sudo journalctl --vacuum-size=50M  # what else is large: {look}"
        )
    return f"look what is large: {look}"


def _is_on(machine: Machine, path: str, disk: int) -> bool:
    try:
        return os.stat(machine.at(path)).st_dev == disk
    except OSError:
        return False


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
