"""Section [inverter]: the device, how it is read and where the program keeps what it knows."""

from dataclasses import dataclass

from .. import transport
from ..paths import LOG
from . import parsers
from .options import Section, option
from .parsers import OF_FILES, one_of, switch


def device(raw: str) -> str:
    """A device as its transport takes it. Raises ValueError for what none does."""
    parse = getattr(transport.module_for(raw), "device", parsers.device)
    return str(parse(raw))


OF_FILES.add(device)


@dataclass(frozen=True, kw_only=True)
class InverterSettings(Section):
    """Section [inverter]."""

    NAME = "inverter"

    loglevel: int = option(
        "INFO", parsers.level, "How much is logged: DEBUG (each frame and report), INFO, WARNING, ERROR."
    )
    pollinterval: int = option(
        "2500",
        parsers.poll_interval,
        "Milliseconds between two readings, at least 500; more than 300000 counts as that.",
    )
    vendorid: int = option(
        "0084", parsers.usb_id, "USB vendor number of the inverter, hexadecimal.", name="vendorId"
    )
    modelid: int = option(
        "0041", parsers.usb_id, "USB product number of the inverter, hexadecimal.", name="modelId"
    )
    logfile: str = option(
        LOG,
        parsers.log_file,
        "Where the daemon logs; in the foreground it is the terminal.",
    )
    device: str = option(
        "",
        device,
        "Empty: every inverter that is plugged in. /dev/hidrawN: only that node."
        " unix:/path: a simulated inverter's socket.",
    )
    user: str = option(
        "",
        parsers.user,
        "User to go on as after a start by root, once log, pid file and socket are there, such as goodwe."
        " Empty to stay root. With systemd the unit names it.",
        takes_restart=True,
    )
    plausibility: bool = option(
        "on",
        switch,
        "on: publish only readings that can be true, and eDay 0 from midnight until the new day has begun."
        " off: whatever the inverter says, as the older program did.",
    )
    offlinevalues: str = option(
        "zero",
        one_of("zero", "keep"),
        "zero: when the inverter goes away, and every 5 minutes while it is, data with power, voltages,"
        " currents and frequencies 0, the totals as they stand, eDay 0 from midnight. keep: nothing.",
    )
    statefile: str = option(
        "/var/lib/goodwe/state.json",
        parsers.own_file("/var/lib/goodwe/state.json"),
        "Where the totals are kept over a restart; empty to forget them.",
    )
    identity: bool = option(
        "on",
        switch,
        "Ask each inverter once for its model, firmware and grid limits, in a pause between two readings"
        " (with a pollinterval below 1000 there is none).",
    )
    usbreset: bool = option(
        "off",
        switch,
        "Reset the USB port of an inverter that does not answer for long. Needs root, or a line of"
        " etc/99-goodwe.rules and one of etc/goodwe.service.",
    )
