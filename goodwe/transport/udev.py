"""The inverters' hidraw nodes on this machine, as udev and the kernel tell of them."""

import logging
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import DeviceError, StartError
from .hidraw import RESCAN_EVERY, NodeFinder, NodeOpener
from .wire import Ids, Wire

if TYPE_CHECKING:
    import pyudev

log = logging.getLogger(__name__)


def device_number(path: str) -> int | None:
    """Major and minor number, as one, of the device node at a path; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else None


class UdevNodes:
    """Nodes whose HID parent has the vendor and product looked for; or the one at a given path."""

    def __init__(
        self,
        context: "pyudev.Context | None",
        listen: Callable[[], "pyudev.Monitor | None"],
        ids: Ids,
        only: str,
        device_number: Callable[[str], int | None] = device_number,
    ) -> None:
        """`context` is None without udev, which only the node at a given path can do without.

        `listen` makes the monitor that gives the news; None for no news. `only` is the path of one node under
        whatever name, or of a link to it, whatever its USB numbers: opening it will tell what is wrong with
        them. Empty for all with `ids`. `device_number` tells a node's number by its path.
        """
        self._context = context
        self._listen = listen
        self._monitor = listen()
        self._ids = ids
        self._only = only
        self._number = device_number
        self._numbers: dict[str, int] = {}
        """Of the nodes that were present at the last look."""

    def present(self) -> set[str]:
        if self._monitor is None:
            self._monitor = self._listen()
        if self._only:
            # A link's target is looked up each time: it is another node after each plugging in.
            path = os.path.realpath(self._only)
            found = {path} if self._is_there(path) else set()
        else:
            found = self._listed()
        self._numbers = {path: number for path in found if (number := self._number(path)) is not None}
        return found

    def usb_node(self, path: str) -> str:
        number = self._number(path)
        for device in self._devices():
            if device.device_node == path or (number is not None and device.device_number == number):
                usb = device.find_parent("usb", "usb_device")
                if usb is not None and usb.device_node:
                    return str(usb.device_node)
        raise DeviceError("no USB device is behind it")

    def fileno(self) -> int:
        return -1 if self._monitor is None else self._monitor.fileno()

    def removed(self) -> set[str]:
        # Made anew under the same name, with nobody's word for it: in a container there is no news.
        paths = {path for path, number in self._numbers.items() if self._number(path) not in (None, number)}
        try:
            while self._monitor is not None and (device := self._monitor.poll(timeout=0)) is not None:
                # A node that went has no parent any more to tell it by; its name and number are enough.
                if device.action == "remove" and device.device_node is not None:
                    names = {path for path, number in self._numbers.items() if number == device.device_number}
                    paths |= names | {device.device_node}
        except OSError as error:
            # More than the kernel keeps came at once. What is there now can be seen; a node that was
            # replugged meanwhile is noticed by reading it.
            log.warning("News from udev were lost (%s); listening anew", error)
            self._monitor = self._listen()
        return paths

    def _listed(self) -> set[str]:
        """Nodes with the right USB numbers, by udev; and those of the last look that are there still.

        Without a free file descriptor udev finds nothing at all, and says nothing of it.
        """
        listed: set[str] = set()
        others: set[str] = set()
        for device in self._devices():
            if device.device_node is not None:
                ids = hid_ids(device)
                if ids == self._ids:
                    listed.add(device.device_node)
                elif ids is not None:
                    others.add(device.device_node)
        still = {path for path, number in self._numbers.items() if self._number(path) == number}
        return listed | (still - others)

    def _is_there(self, path: str) -> bool:
        """True for whatever is at the path: opening it tells what is wrong with it."""
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return any(device.device_node == path for device in self._devices())
        except OSError:
            return True
        return True

    def _devices(self) -> "list[pyudev.Device]":
        return [] if self._context is None else list(self._context.list_devices(subsystem="hidraw"))


class _Listener:
    """Makes monitors, and tells in the log when that fails and when it works again."""

    def __init__(self, context: "pyudev.Context") -> None:
        """`context` is udev's, for this thread."""
        self._context = context
        self._failed = False

    def __call__(self) -> "pyudev.Monitor | None":
        import pyudev

        try:
            monitor = pyudev.Monitor.from_netlink(self._context)
            monitor.filter_by("hidraw")
            monitor.start()
        except OSError as error:
            if not self._failed:
                log.warning("No news from udev (%s); looking for inverters every %d s", error, RESCAN_EVERY)
            self._failed = True
            return None
        if self._failed:
            log.info("There is news from udev again")
        self._failed = False
        return monitor


def udev_nodes(ids: Ids, only: str = "") -> UdevNodes:
    """The machine's nodes. Raises StartError where libudev is needed and missing.

    The node at a given path is found without it; without its monitor there are rescans only.
    """
    import pyudev  # here, since a stand-in needs none of it

    try:
        context = pyudev.Context()
    except ImportError as error:
        if not only:
            raise StartError("libudev is missing; install it: apt-get install libudev1") from error
        log.warning("libudev is missing; looking for %s every %d s", only, RESCAN_EVERY)
        return UdevNodes(None, lambda: None, ids, only)
    return UdevNodes(context, _Listener(context), ids, only)


def hid_ids(device: "pyudev.Device") -> Ids | None:
    """Vendor and product of a hidraw device's HID parent, HID_ID=0003:00000084:00000041."""
    parent = device.find_parent("hid")
    hid_id = parent.properties.get("HID_ID", "") if parent is not None else ""
    try:
        _, vendor, product = (int(number, 16) for number in hid_id.split(":"))
    except ValueError:
        return None
    return Ids(vendor, product)


def find(
    device: str,
    ids: Ids,
    *,
    post: Callable[[Callable[[], None]], None],
    plugged: Callable[[Wire], None],
    unplugged: Callable[[str], None],
) -> NodeFinder:
    """The finder of hidraw nodes, as `Find` has it: of the one at `device`, or of all for an empty one."""
    return NodeFinder(
        udev_nodes(ids, device),
        NodeOpener(ids),
        post=post,
        plugged=plugged,
        unplugged=unplugged,
        only=device,
    )
