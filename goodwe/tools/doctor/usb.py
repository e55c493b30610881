"""Is the inverter there, and may the program open it: from the bus to the node."""

import os
import stat

from .checks import SERVICE_USER, Check, Machine, Result, UsbDevice, fail, ok, skip, warn

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
INSTALL_RULE = (
    "sudo cp etc/99-goodwe.rules /etc/udev/rules.d/ && sudo udevadm control --reload; then replug it"
)


def bus(machine: Machine) -> Result:
    if _is_stand_in(machine):
        return skip("a stand-in is configured in place of an inverter")
    if not machine.exists("/sys/bus/usb/devices"):
        return fail(
            "the kernel shows no USB bus", "sudo modprobe usbcore; in a virtual machine: pass USB through"
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
                f"echo on | sudo tee {device.folder}/power/control",
            )
    return ok("the port stays awake") if machine.inverters else skip("no inverter on the bus")


def modules(machine: Machine) -> Result:
    if _is_stand_in(machine):
        return skip("a stand-in is configured in place of an inverter")
    if machine.exists("/sys/class/hidraw"):
        return ok("the kernel has hidraw")
    return fail("the kernel has no hidraw", "sudo modprobe usbhid")


def node(machine: Machine) -> Result:
    device = machine.settings.inverter.device if machine.settings is not None else ""
    if device and not _is_stand_in(machine):
        return _given_node(machine, device)
    if machine.nodes:
        return ok(", ".join(node.path for node in machine.nodes))
    if machine.inverters:
        return fail(
            "the inverter is on the bus and has no hidraw node", "sudo modprobe usbhid; then replug it"
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
                f"the group {SERVICE_USER} may not open {each.path}",
                INSTALL_RULE,
            )
        if found.st_mode & stat.S_IWOTH:
            return warn(
                f"everybody may write to {each.path}", "sudo cp etc/99-goodwe.rules /etc/udev/rules.d/"
            )
    return ok("the node's rights are right") if machine.nodes else skip("no node")


def rule(machine: Machine) -> Result:
    names = [path for pattern in RULES for path in machine.paths(pattern)]
    ours = [path for path in names if _names(machine.text(path) or "", machine)]
    if not ours:
        if not machine.has_user(SERVICE_USER):
            return skip("no rule, and none is needed to run as root")
        return fail(
            "no udev rule for the inverter",
            INSTALL_RULE,
        )
    if any('MODE="0666"' in (machine.text(path) or "") for path in ours):
        return warn(f"{ours[0]} lets everybody write", f"sudo cp etc/99-goodwe.rules {ours[0]}")
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
        ours = str(machine.status["program"]["pid"]) if machine.status is not None else ""
        others = sorted(set(holders) - {ours}, key=int)
        return fail(f"several programs read the inverter: {told}", f"sudo kill {others[-1]}")
    if holders:
        ((pid, (name, path)),) = holders.items()
        return ok(f"{path} is read by {name}, pid {pid}")
    if machine.uid:
        return ok("nobody that this user can see reads it")
    return ok("nobody reads it")


def _given_node(machine: Machine, device: str) -> Result:
    try:
        found = os.stat(machine.at(device))
    except FileNotFoundError:
        return fail(f"device = {device} is not there", "leave device empty: the inverter is found by itself")
    except OSError as error:
        return fail(f"device = {device}: {error.strerror}", "run with sudo")
    if not stat.S_ISCHR(found.st_mode):
        return fail(
            f"device = {device} is no device node", "leave device empty: the inverter is found by itself"
        )
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
