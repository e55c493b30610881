"""Is the inverter there, and may the program open it: from the bus to the node."""

import os
import re
import shlex
import stat

from .checks import SERVICE_USER, Check, Machine, Result, ShellCommand, UsbDevice, fail, ok, skip, warn

SERIAL_CHIPS = {
    "0403:6001": "FTDI",
    "0403:6015": "FTDI",
    "067b:2303": "Prolific",
    "067b:23a3": "Prolific",
    "10c4:ea60": "Silicon Labs",
    "1a86:7523": "WCH",
    "1a86:55d4": "WCH",
}
"""USB serial adapters, which people have for the RS485 socket of an inverter."""
RULES = ("/etc/udev/rules.d/*.rules", "/lib/udev/rules.d/*.rules", "/usr/lib/udev/rules.d/*.rules")
SELF_POWERED = 0x40
"""Bit of bmAttributes of a hub with a power supply of its own (USB 2.0, 9.6.3)."""
HUB_CLASS = "09"
OUR_RULE = "/etc/udev/rules.d/99-goodwe.rules"
MODULES = ("hid", "usbhid", "hid_generic")
"""Kernel modules between the bus and the node."""
HELD_BACK = re.compile(
    rf"^\s*(?:blacklist|install)\s+(?:{'|'.join(name.replace('_', '[-_]') for name in MODULES)})(?:\s|$)",
    re.MULTILINE,
)
MODULE_RULES = ("/etc/modprobe.d/*.conf", "/run/modprobe.d/*.conf")
APPLY_RULES = "sudo udevadm control --reload && sudo udevadm trigger --settle --subsystem-match=hidraw"


def bus(machine: Machine) -> Result:
    if _is_stand_in(machine):
        return skip("a stand-in is configured in place of an inverter")
    if not machine.exists("/sys/bus/usb/devices"):
        return fail(
            "the kernel shows no USB bus",
            "pass USB and /sys through to this container"
            if machine.container
            else ShellCommand("sudo modprobe usbcore  # in a virtual machine: pass USB through to it"),
        )
    return ok(f"{len(machine.usb)} devices on the USB bus")


def inverter(machine: Machine) -> Result:
    if _is_stand_in(machine):
        return skip("a stand-in is configured in place of an inverter")
    if machine.inverters:
        return ok(f"{machine.ids} is on the bus, {len(machine.inverters)} of it")
    serial = [
        f"{device.ids} ({SERIAL_CHIPS[device.ids]})" for device in machine.usb if device.ids in SERIAL_CHIPS
    ]
    if serial:
        return fail(
            f"{machine.ids} is not on the bus, but a serial adapter is: {', '.join(serial)}",
            "connect the inverter's real USB socket; RS485, and the socket of XS and newer DT, are serial",
        )
    return fail(
        f"{machine.ids} is not on the bus",
        "lsusb; then another cable (many only charge), another port, daylight: most sleep at night",
    )


def hub(machine: Machine) -> Result:
    for device in machine.inverters:
        for above in _hubs_above(machine, device):
            attributes = machine.text(f"{above}/bmAttributes") or ""
            if attributes and not int(attributes, 16) & SELF_POWERED:
                name = machine.text(f"{above}/product") or "a hub"
                return warn(
                    f"behind {name}, which has no power of its own", "plug the inverter into the machine"
                )
    return ok("no weak hub in between") if machine.inverters else skip("no inverter on the bus")


def autosuspend(machine: Machine) -> Result:
    for device in machine.inverters:
        if machine.text(f"{device.folder}/power/control") == "auto":
            return warn(
                "the kernel may put the inverter's port to sleep",
                machine.outside(f"echo on | sudo tee {device.folder}/power/control"),
            )
    return ok("the port stays awake") if machine.inverters else skip("no inverter on the bus")


def modules(machine: Machine) -> Result:
    if _is_stand_in(machine):
        return skip("a stand-in is configured in place of an inverter")
    for file in (path for pattern in MODULE_RULES for path in machine.paths(pattern)):
        if HELD_BACK.search(machine.text(file) or ""):
            take_out = f"sudo sed -i -E {shlex.quote(f'/{_for_sed(HELD_BACK)}/d')} {shlex.quote(file)}"
            return fail(
                f"{file} keeps the kernel from loading what reads such devices",
                machine.outside(f"{take_out} && {_load_modules(machine)}"),
            )
    if machine.exists("/sys/class/hidraw"):
        return ok("the kernel has hidraw")
    return fail("the kernel has no hidraw", machine.outside(_load_modules(machine)))


def node(machine: Machine) -> Result:
    device = machine.settings.inverter.device if machine.settings is not None else ""
    if device and not _is_stand_in(machine):
        return _given_node(machine, device)
    if machine.nodes:
        return ok(", ".join(node.path for node in machine.nodes))
    if machine.inverters:
        return fail(
            "the inverter is on the bus and has no hidraw node", machine.outside(_load_modules(machine))
        )
    return skip("no inverter on the bus")


def rights(machine: Machine) -> Result:
    """For who runs this, and for the unit's user where there is one."""
    for each in machine.nodes:
        try:
            found = os.stat(machine.at(each.path))
        except OSError:
            return fail(f"{each.path} is not in /dev", "in a container: bind /dev of the machine")
        shared = found.st_mode & 0o060 == 0o060 and machine.group(found.st_gid) == SERVICE_USER
        if machine.has_user(SERVICE_USER) and not shared:
            return warn(
                f"the group {SERVICE_USER} may not open {each.path}", machine.outside(_install_rule(machine))
            )
        if found.st_mode & stat.S_IWOTH:
            return warn(f"everybody may write to {each.path}", machine.outside(_install_rule(machine)))
    return ok("the node's rights are right") if machine.nodes else skip("no node")


def rule(machine: Machine) -> Result:
    names = [path for pattern in RULES for path in machine.paths(pattern)]
    ours = [path for path in names if _names(machine.text(path) or "", machine)]
    if not ours:
        if not machine.has_user(SERVICE_USER):
            return skip("no rule, and none is needed to run as root")
        return fail("no udev rule for the inverter", machine.outside(_install_rule(machine)))
    if any('MODE="0666"' in (machine.text(path) or "") for path in ours):
        take = f"sudo cp {machine.own_file('etc/99-goodwe.rules')} {shlex.quote(ours[0])}"
        return warn(f"{ours[0]} lets everybody write", machine.outside(f"{take} && {APPLY_RULES}"))
    return ok(ours[0])


def holder(machine: Machine) -> Result:
    """Two readers of one node take each other's answers."""
    nodes = {each.path for each in machine.nodes}
    if not nodes:
        return skip("no node")
    holders = {}
    for link in machine.paths("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(machine.at(link))
        except OSError:
            continue
        if target in nodes:
            pid = link.split("/")[2]
            holders[pid] = (machine.text(f"/proc/{pid}/comm") or "?", target)
    if len(holders) > 1:
        told = ", ".join(f"{name} (pid {pid})" for pid, (name, _) in sorted(holders.items()))
        keep_one = machine.keep_one_of(sorted(holders, key=int))
        return fail(f"several programs read the inverter: {told}", keep_one)
    if holders:
        ((pid, (name, path)),) = holders.items()
        return ok(f"{path} is read by {name}, pid {pid}")
    if machine.uid:
        return ok("nobody that this user can see reads it")
    return ok("nobody reads it")


def _install_rule(machine: Machine) -> str:
    """The command that brings our rule into force, for what is plugged in as well."""
    return f"sudo cp {machine.own_file('etc/99-goodwe.rules')} {OUR_RULE} && {APPLY_RULES}"


def _load_modules(machine: Machine) -> str:
    """The command that gives the inverter its node: modules loaded, then as if it were plugged in anew."""
    steps = ["sudo modprobe usbhid", "sudo modprobe hid-generic"]
    for device in machine.inverters:
        name = os.path.basename(device.folder)
        steps += [f"echo {name} | sudo tee /sys/bus/usb/drivers/usb/{word}" for word in ("unbind", "bind")]
    return " && ".join(steps)


def _for_sed(pattern: re.Pattern[str]) -> str:
    """The pattern as sed -E takes it."""
    return pattern.pattern.replace("(?:", "(")


def _given_node(machine: Machine, device: str) -> Result:
    hint = "leave device empty: the inverter is found by itself"
    empty = machine.setting("inverter", "device", "", by_hand=hint) or hint
    try:
        found = os.stat(machine.at(device))
    except FileNotFoundError:
        return fail(f"device = {device} is not there", empty)
    except OSError as error:
        return fail(f"device = {device}: {error.strerror}", "run with sudo")
    if not stat.S_ISCHR(found.st_mode):
        return fail(f"device = {device} is no device node", empty)
    return ok(device)


def _hubs_above(machine: Machine, device: UsbDevice) -> list[str]:
    """Folders of the hubs that a device hangs on: 1-1.4 hangs on 1-1; root hubs have power."""
    name, folder = os.path.basename(device.folder), os.path.dirname(device.folder)
    hubs = []
    while "." in name:
        name = name.rpartition(".")[0]
        if machine.text(f"{folder}/{name}/bDeviceClass") == HUB_CLASS:
            hubs.append(f"{folder}/{name}")
    return hubs


def _names(text: str, machine: Machine) -> bool:
    """Tell whether a rule that is no comment is about the inverter."""
    lines = [line.lower() for line in text.splitlines() if not line.lstrip().startswith("#")]
    vendor, product = str(machine.ids).split(":")
    return any(f"{vendor}:{product}" in line or f'"{vendor}"' in line for line in lines)


def _is_stand_in(machine: Machine) -> bool:
    return machine.settings is not None and machine.settings.inverter.device.startswith("unix:")


CHECKS = (
    Check("usb-bus", "Is there a USB bus?", bus),
    Check("inverter", "Is the inverter on it?", inverter),
    Check("hub", "Has it enough power?", hub),
    Check("autosuspend", "Does its port stay awake?", autosuspend),
    Check("modules", "Does the kernel know such devices?", modules),
    Check("node", "Has it a node?", node),
    Check("rights", "May the program open it?", rights),
    Check("rule", "Is the udev rule there?", rule),
    Check("holder", "Who else reads it?", holder),
)
