"""The inverter's end of the cable as this machine shows it: find it, check it, read and write it.

Linux's hidraw, as measured in PROTOCOL 2.6: poll() may wait for input only (output is always
"possible"); a pulled cable is EIO, never an end of file; a write ignores O_NONBLOCK and can hold its
caller for 5 s, and while it does, the kernel lets nobody open or close any hidraw node. So everything
but poll and read is done in a thread of the node's own.
"""

import ctypes
import errno
import fcntl
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import DeviceError, StartError
from ..loop import NEVER, Timer, Worker

if TYPE_CHECKING:
    import pyudev

log = logging.getLogger(__name__)

REPORT_NUMBER = b"\x00"
"""Stands in front of what is written to hidraw; the kernel takes it off (PROTOCOL 2.2)."""
ENVELOPE = b"\xcc\x99"
STAND_IN = "unix:"
"""Begins a `device` that is a stand-in's socket and not a node (CONTRACT 8)."""
RESCAN_EVERY = 30.0
KERNEL_QUEUE = 64
"""Reports that hidraw keeps for a reader (PROTOCOL 2.6)."""
READ_SIZE = 4096


def wrap(frame: bytes) -> bytes:
    """One write() for a frame: report number, CC 99, the frame's length, the frame (PROTOCOL 2.2)."""
    return REPORT_NUMBER + ENVELOPE + bytes([len(frame)]) + frame


class Wire(Protocol):
    """What carries frames to one inverter and its reports back."""

    name: str

    def open(self, opened: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Open it; one of the two is called, perhaps later: `failed` with an OSError or DeviceError."""

    def fileno(self) -> int:
        """What to poll for input once it is open."""

    def read(self) -> bytes:
        """One report. Raises BlockingIOError when there is none, OSError when the device is gone."""

    def write(self, frame: bytes, failed: Callable[[OSError], None]) -> None:
        """Send a frame; never waits. `failed` is called, perhaps later, when it could not be sent."""

    def reset(self, failed: Callable[[Exception], None]) -> None:
        """Reset its port, if it has one; `failed`, with an OSError or DeviceError, perhaps later."""

    def close(self, closed: Callable[[], None]) -> None:
        """Give it back; `closed` is called, perhaps later, when that is done."""


class Hidraw:
    """A /dev/hidraw node. Opening, writing, resetting and closing are done in order in a thread."""

    def __init__(
        self,
        path: str,
        open_node: Callable[[str], int],
        worker: Worker,
        *,
        usb_node: Callable[[str], str],
        reset_port: Callable[[str], None],
    ) -> None:
        """`open_node` gives a descriptor, `usb_node` the path of the USB device whose port is reset.

        All three raise OSError or DeviceError; the first and the last may take their time.
        """
        self.name = path
        self._open_node = open_node
        self._usb_node = usb_node
        self._reset_port = reset_port
        self._worker = worker
        self._descriptor = -1
        self._writing = False

    def open(self, opened: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        def then(outcome: Callable[[], int]) -> None:
            try:
                self._descriptor = outcome()
            except (OSError, DeviceError) as error:
                failed(error)
            else:
                opened()

        self._worker.do(lambda: self._open_node(self.name), then)

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> bytes:
        report = os.read(self._descriptor, READ_SIZE)
        if not report:
            raise OSError(errno.EIO, "end of file")
        return report

    def write(self, frame: bytes, failed: Callable[[OSError], None]) -> None:
        if self._writing:
            # The kernel still tries to get rid of the frame before; the session repeats this one.
            failed(OSError(errno.EBUSY, "the write before has not ended yet"))
            return

        def then(outcome: Callable[[], int]) -> None:
            self._writing = False
            try:
                outcome()
            except OSError as error:
                failed(error)

        self._writing = True
        descriptor = self._descriptor
        self._worker.do(lambda: os.write(descriptor, wrap(frame)), then)

    def reset(self, failed: Callable[[Exception], None]) -> None:
        def then(outcome: Callable[[], None]) -> None:
            try:
                outcome()
            except (OSError, DeviceError) as error:
                failed(error)

        try:
            usb_node = self._usb_node(self.name)  # not in the thread: libudev is for one only
        except DeviceError as error:
            failed(error)
        else:
            self._worker.do(lambda: self._reset_port(usb_node), then)

    def close(self, closed: Callable[[], None]) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        # Behind a write that is under way: a number that was closed could by then be another file's.
        self._worker.do(lambda: None if descriptor < 0 else os.close(descriptor), lambda outcome: closed())
        self._worker.finish()


class StandIn:
    """A Unix socket that behaves like a node, one message a report (CONTRACT 8)."""

    def __init__(self, path: str) -> None:
        self.name = STAND_IN + path
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)

    def open(self, opened: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        try:
            self._socket.connect(self._path)
        except OSError as error:
            failed(error)
        else:
            opened()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        report = self._socket.recv(READ_SIZE)
        if not report:
            raise OSError(errno.EIO, "the stand-in closed the connection")
        return report

    def write(self, frame: bytes, failed: Callable[[OSError], None]) -> None:
        try:
            self._socket.send(wrap(frame))
        except OSError as error:
            failed(error)

    def reset(self, failed: Callable[[Exception], None]) -> None:
        """A socket has no port; closing it is all that can be done."""

    def close(self, closed: Callable[[], None]) -> None:
        self._socket.close()
        closed()


# --- a node, opened and checked


class _RawInfo(ctypes.Structure):
    """struct hidraw_devinfo of linux/hidraw.h."""

    _fields_ = (("bustype", ctypes.c_uint32), ("vendor", ctypes.c_uint16), ("product", ctypes.c_uint16))


class _ReportDescriptor(ctypes.Structure):
    """struct hidraw_report_descriptor of linux/hidraw.h."""

    _fields_ = (("size", ctypes.c_uint32), ("value", ctypes.c_uint8 * 4096))


class Ids(NamedTuple):
    """USB vendor and product number."""

    vendor: int
    product: int

    def __str__(self) -> str:
        return f"{self.vendor:04x}:{self.product:04x}"


_DENIED = {
    errno.EACCES: "permission denied. Install etc/99-goodwe.rules in /etc/udev/rules.d,"
    " replug the inverter, and run as a user in group goodwe or as root",
    # Not the rights of the node: the cgroup of a systemd unit or of a container.
    errno.EPERM: "not allowed in here. The unit or container must be given the hidraw devices:"
    " DeviceAllow=char-hidraw rw after modprobe@hid.service, as etc/goodwe.service has it",
}


def open_node(path: str, ids: Ids, ioctl: Callable[..., int] = fcntl.ioctl) -> int:
    """A descriptor of the node at `path`, non-blocking, checked, with no old reports in it.

    Raises OSError when it cannot be opened, DeviceError when it is not the inverter's. May block.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise DeviceError(f"cannot open {path}: {_DENIED[error.errno or errno.EACCES]}") from error
    try:
        _check(descriptor, path, ids, ioctl)
        _discard_old_reports(descriptor)
    except BaseException:  # whatever it is goes on; the descriptor would stay open for ever
        os.close(descriptor)
        raise
    return descriptor


def _check(descriptor: int, path: str, ids: Ids, ioctl: Callable[..., int]) -> None:
    from ioctl_opt import IOR  # here, since only a real node needs it

    info = _RawInfo()
    size = ctypes.c_int()
    report = _ReportDescriptor()
    try:
        ioctl(descriptor, IOR(ord("H"), 0x03, _RawInfo), info)
        ioctl(descriptor, IOR(ord("H"), 0x01, ctypes.c_int), size)
        report.size = size.value
        ioctl(descriptor, IOR(ord("H"), 0x02, _ReportDescriptor), report)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        raise DeviceError(f"{path} is not a hidraw node; set device to /dev/hidrawN") from error
    found = Ids(info.vendor, info.product)
    if found != ids:
        raise DeviceError(f"{path} is USB device {found}, not {ids}; check device, vendorId and modelId")
    raw = bytes(report.value[: report.size])
    log.debug("%s has report descriptor %s", path, raw.hex())
    if has_report_numbers(raw):
        raise DeviceError(f"{path} numbers its reports, which no known GoodWe inverter does: {raw.hex()}")


def has_report_numbers(descriptor: bytes) -> bool:
    """Whether a HID report descriptor declares report ids (HID 1.11, 6.2.2.7); ours has none.

    With ids, the first byte of each report read would not be the inverter's.
    """
    at = 0
    while at < len(descriptor):
        prefix = descriptor[at]
        if prefix == 0xFE:  # long item: size in the next byte
            at += 3 + (descriptor[at + 1] if at + 1 < len(descriptor) else 0)
            continue
        if prefix & 0xFC == 0x84:  # global item, tag 8
            return True
        at += 1 + (0, 1, 2, 4)[prefix & 3]
    return False


def reset_port(usb_node: str, ioctl: Callable[..., int] = fcntl.ioctl) -> None:
    """Reset the USB port of the device at `usb_node`, /dev/bus/usb/BBB/DDD, as if it was plugged in anew.

    Raises OSError, or DeviceError when it is not allowed. May block.
    """
    from ioctl_opt import IO  # here, since only who wants resets needs it

    try:
        descriptor = os.open(usb_node, os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise DeviceError(f"no right to write to {usb_node}; see usbreset in etc/99-goodwe.rules") from error
    try:
        ioctl(descriptor, IO(ord("U"), 20))
    finally:
        os.close(descriptor)


def _discard_old_reports(descriptor: int) -> None:
    """What another reader left is an answer to somebody else's question."""
    for _ in range(KERNEL_QUEUE):
        try:
            if not os.read(descriptor, READ_SIZE):
                return
        except BlockingIOError:
            return


# --- nodes that come and go


class Nodes(Protocol):
    """The inverters' nodes, and news of them."""

    def present(self) -> set[str]:
        """Paths of the nodes that are there now."""

    def usb_node(self, path: str) -> str:
        """Path of the USB device behind a node. Raises DeviceError when it has none."""

    def fileno(self) -> int:
        """Readable when something changed; -1 without such news."""

    def removed(self) -> set[str]:
        """Take the news: paths of nodes that went since, even if there again; never waits."""


class UdevNodes:
    """hidraw nodes whose HID parent has the vendor and product looked for, by udev."""

    def __init__(
        self, context: "pyudev.Context", listen: Callable[[], "pyudev.Monitor | None"], ids: Ids, only: str
    ) -> None:
        """`only` is the path of one node or of a link to it, whatever its numbers: opening it will tell
        what is wrong with them. Empty for all with these numbers. `listen` makes the monitor that gives the
        news; None for no news.
        """
        self._context = context
        self._listen = listen
        self._monitor = listen()
        self._ids = ids
        self._only = only

    def present(self) -> set[str]:
        return {
            device.device_node
            for device in self._context.list_devices(subsystem="hidraw")
            if self._is_ours(device.device_node) and (self._only or hid_ids(device) == self._ids)
        }

    def usb_node(self, path: str) -> str:
        for device in self._context.list_devices(subsystem="hidraw"):
            if device.device_node == path:
                usb = device.find_parent("usb", "usb_device")
                if usb is not None and usb.device_node:
                    return str(usb.device_node)
        raise DeviceError("no USB device is behind it")

    def fileno(self) -> int:
        return -1 if self._monitor is None else self._monitor.fileno()

    def removed(self) -> set[str]:
        paths = set()
        try:
            while self._monitor is not None and (device := self._monitor.poll(timeout=0)) is not None:
                # A node that went has no parent any more to tell it by; its path is enough.
                if device.action == "remove" and self._is_ours(device.device_node):
                    paths.add(device.device_node)
        except OSError as error:
            # More than the kernel keeps came at once. What is there now can be seen; a node that was
            # replugged meanwhile is noticed by reading it.
            log.warning("News from udev were lost (%s); listening anew", error)
            self._monitor = self._listen()
        return paths

    def _is_ours(self, path: str | None) -> bool:
        # A link's target is looked up each time: it is another node after each plugging in.
        return path is not None and (not self._only or os.path.realpath(self._only) == path)


def udev_nodes(ids: Ids, only: str = "") -> UdevNodes:
    """The machine's nodes. Raises StartError without libudev; without its monitor it rescans only."""
    import pyudev  # here, since a stand-in needs none of it

    try:
        context = pyudev.Context()
    except ImportError as error:
        raise StartError("libudev is missing; install it: apt-get install libudev1") from error

    def listen() -> "pyudev.Monitor | None":
        try:
            monitor = pyudev.Monitor.from_netlink(context)
            monitor.filter_by("hidraw")
            monitor.start()
        except OSError as error:
            log.warning("No news from udev (%s); looking for inverters every %d s", error, RESCAN_EVERY)
            return None
        return monitor

    return UdevNodes(context, listen, ids, only)


def hid_ids(device: "pyudev.Device") -> Ids | None:
    """Vendor and product of a hidraw device's HID parent, HID_ID=0003:00000084:00000041."""
    parent = device.find_parent("hid")
    hid_id = parent.properties.get("HID_ID", "") if parent is not None else ""
    try:
        _, vendor, product = (int(number, 16) for number in hid_id.split(":"))
    except ValueError:
        return None
    return Ids(vendor, product)


class Scanner:
    """Tells which nodes are there: at once when udev says so, and every 30 s as a net."""

    def __init__(
        self,
        nodes: Nodes,
        plugged: Callable[[str], None],
        unplugged: Callable[[str], None],
        only: str = "",
    ) -> None:
        """`plugged` is called for every node at each look; whoever knows it already ignores it.

        `only` is the path that `nodes` is restricted to, for the log.
        """
        self.closed = False
        self.deadline = -NEVER
        self._nodes = nodes
        self._plugged = plugged
        self._unplugged = unplugged
        self._known: set[str] = set()
        self._where = f" at {only} (device in [inverter])" if only else ""
        self._said_none = False

    def poll_for(self) -> tuple[int, int] | None:
        descriptor = self._nodes.fileno()
        return None if descriptor < 0 else (descriptor, select.POLLIN)

    def ready(self, now: float) -> None:
        # Unplugged and plugged in again between two looks: first gone, then there.
        self._look(now, went=self._known & self._nodes.removed())

    def tick(self, now: float) -> None:
        self._look(now, went=set())

    def look_again(self, when: float) -> None:
        """Look at `when` at the latest: a node has failed and may be there again by then."""
        self.deadline = min(self.deadline, when)

    def close(self) -> None:
        self.closed = True

    def _look(self, now: float, went: set[str]) -> None:
        present = self._nodes.present()
        for path in sorted(self._known - present | went):
            self._unplugged(path)
        for path in sorted(present):
            self._plugged(path)
        if not present and not self._said_none:
            log.info("No GoodWe inverter found%s; waiting for one to be plugged in", self._where)
        self._said_none = not present
        self._known = present
        self.deadline = now + RESCAN_EVERY


class StandInDialer(Timer):
    """Calls for the stand-in, again and again while it is not connected: after 1 s, later after 30 s."""

    OFTEN, SELDOM = 1.0, 30.0
    OFTEN_FOR = 120.0

    def __init__(self, path: str, plugged: Callable[[str], None]) -> None:
        self.closed = False
        self.deadline = -NEVER
        self._path = path
        self._plugged = plugged
        self._since = NEVER

    def tick(self, now: float) -> None:
        self.deadline = NEVER
        self._plugged(self._path)

    def failed(self, now: float, *, was_open: bool) -> None:
        """It closed, or was not there: try again."""
        if was_open or self._since == NEVER:
            self._since = now
        self.deadline = now + (self.OFTEN if now - self._since < self.OFTEN_FOR else self.SELDOM)

    def close(self) -> None:
        self.closed = True
