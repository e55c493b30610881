"""Linux's hidraw nodes: opened, checked, read, written, reset, and tried again after a failure.

As measured in PROTOCOL 2.6: poll() may wait for input only (output is always "possible"); a pulled cable is
EIO, never an end of file; a write ignores O_NONBLOCK and can hold its caller for 5 s, and while it does, the
kernel lets nobody open or close any hidraw node. So everything but poll and read is done in a thread of the
node's own.
"""

import ctypes
import errno
import fcntl
import logging
import os
import select
import stat
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import DeviceError, RestartError
from ..loop import NEVER, Worker
from .wire import Ids, Wire

log = logging.getLogger(__name__)

REPORT_NUMBER = b"\x00"
"""Stands in front of what is written to hidraw; the kernel takes it off (PROTOCOL 2.2)."""
ENVELOPE = b"\xcc\x99"
RESCAN_EVERY = 30.0
RETRY_AFTER, RETRY_AT_MOST = 1.0, 30.0
"""Seconds before a node that failed is tried again; doubled each time."""
MOST_FAILURES = 10
"""Counted so far only: two to the power of a year's is no number."""
KERNEL_QUEUE = 64
"""Reports that hidraw keeps for a reader (PROTOCOL 2.6)."""
READ_SIZE = 4096
CLOSED_WITHIN = 6.0
"""Seconds that a node may still be ours from before: the thread of that wire closes it behind its last write,
which takes 5.2 s while the device does not listen (PROTOCOL 2.6)."""
STALE_AFTER = 0.2
"""Seconds that a frame may wait for the write before it: its answer must come well before the bus asks again
(PROTOCOL 9.5), or it would be taken for that of the next frame."""


def wrap(frame: bytes) -> bytes:
    """One write() for a frame: report number, CC 99, the frame's length, the frame (PROTOCOL 2.2)."""
    return REPORT_NUMBER + ENVELOPE + bytes([len(frame)]) + frame


# --- a node, opened and checked


class _RawInfo(ctypes.Structure):
    """struct hidraw_devinfo of linux/hidraw.h."""

    _fields_ = (("bustype", ctypes.c_uint32), ("vendor", ctypes.c_uint16), ("product", ctypes.c_uint16))


class _ReportDescriptor(ctypes.Structure):
    """struct hidraw_report_descriptor of linux/hidraw.h."""

    _fields_ = (("size", ctypes.c_uint32), ("value", ctypes.c_uint8 * 4096))


_DENIED = {
    errno.EACCES: "permission denied. Install etc/99-goodwe.rules in /etc/udev/rules.d,"
    " replug the inverter, and run as a user in group goodwe or as root",
    # Not the rights of the node: the cgroup of a systemd unit or of a container.
    errno.EPERM: "not allowed in here. The unit or container must be given the hidraw devices:"
    " DeviceAllow=char-hidraw rw after modprobe@hid.service, as etc/goodwe.service has it",
}


def subsystem(number: int) -> str | None:
    """The kernel's word for the kind of character device with that number, such as hidraw or tty.

    None where /sys does not tell, and for a number that no device has now.
    """
    link = f"/sys/dev/char/{os.major(number)}:{os.minor(number)}/subsystem"
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return None


def open_node(
    path: str,
    ids: Ids,
    ioctl: Callable[..., int] = fcntl.ioctl,
    subsystem: Callable[[int], str | None] = subsystem,
    lock: Callable[[int, int], None] = fcntl.flock,
) -> int:
    """A descriptor of the node at `path`, non-blocking, checked, locked, with no old reports in it.

    Raises OSError when it cannot be opened, DeviceError when it is not the inverter's, or another
    program has it. May block.
    """
    try:
        _refuse_other_files(path, subsystem)
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise DeviceError(f"cannot open {path}: {_DENIED[error.errno or errno.EACCES]}") from error
    try:
        _check(descriptor, path, ids, ioctl)
        _take(descriptor, path, lock)
        _discard_old_reports(descriptor)
    except BaseException:  # whatever it is goes on; the descriptor would stay open for ever
        os.close(descriptor)
        raise
    return descriptor


def _take(descriptor: int, path: str, lock: Callable[[int, int], None]) -> None:
    """Keep others of our kind away: two that read one inverter take each other's answers."""
    end = time.monotonic() + CLOSED_WITHIN
    while True:
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise DeviceError(
                    f"{path} is read by another program already; end that one: sudo fuser -v {path}"
                ) from None
            select.select([], [], [], CLOSED_WITHIN / 20)
        else:
            return


def _refuse_other_files(path: str, subsystem: Callable[[int], str | None]) -> None:
    """Raises DeviceError for what is better not opened: a disk, or a serial port, which would notice."""
    try:
        found = os.stat(path)
    except OSError:
        return  # opening it fails as well, and tells why
    if stat.S_ISSOCK(found.st_mode):
        raise DeviceError(f"{path} is a socket; if a stand-in listens there, set device to unix:{path}")
    if stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode):
        return  # harmless, and refused when it is asked what it is
    if not stat.S_ISCHR(found.st_mode) or subsystem(found.st_rdev) not in (None, "hidraw"):
        raise _not_hidraw(path)


def _not_hidraw(path: str) -> DeviceError:
    return DeviceError(f"{path} is not a hidraw node; set device to /dev/hidrawN")


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
        raise _not_hidraw(path) from error
    found = Ids(info.vendor, info.product)
    if found != ids:
        raise DeviceError(f"{path} is USB device {found}, not {ids}; check device, vendorId and modelId")
    raw = bytes(report.value[: report.size])
    log.debug("%s has report descriptor %s", path, raw.hex())
    if has_report_numbers(raw):
        raise DeviceError(f"{path} numbers its reports, which no known GoodWe inverter does: {raw.hex()}")


def has_report_numbers(descriptor: bytes) -> bool:
    """True if a HID report descriptor declares report ids (HID 1.11, 6.2.2.7); ours has none.

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
    """Throw away what another reader left: it answers somebody else's question."""
    for _ in range(KERNEL_QUEUE):
        try:
            if not os.read(descriptor, READ_SIZE):
                return
        except BlockingIOError:
            return


class NodeOpener:
    """`open_node` for one finder, which remembers the kernel's number for this kind of device."""

    def __init__(self, ids: Ids, open_node: Callable[[str, Ids], int] = open_node) -> None:
        """`ids` are an inverter's; `open_node` does the work."""
        self._ids = ids
        self._open_node = open_node
        self._major: int | None = None
        """Major number of the node that was opened last."""

    def __call__(self, path: str) -> int:
        """A descriptor of the node at `path`; errors as in `open_node`, and RestartError."""
        try:
            descriptor = self._open_node(path, self._ids)
        except DeviceError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.EPERM and self._has_another_major(path):
                raise RestartError(
                    f"{path} has another major number than before, which this unit was not given when it was"
                    " started"
                ) from error
            raise
        self._major = os.major(os.fstat(descriptor).st_rdev)
        return descriptor

    def _has_another_major(self, path: str) -> bool:
        # A unit's DeviceAllow=char-hidraw is looked up once: the kernel's module was loaded anew since.
        try:
            return self._major not in (None, os.major(os.stat(path).st_rdev))
        except OSError:
            return False


# --- the wire


class Hidraw:
    """A wire to a node. Opening, writing, resetting and closing are done in order in a thread."""

    capacity = 1
    has_envelope = True

    def __init__(
        self,
        path: str,
        open_node: Callable[[str], int],
        worker: Worker,
        *,
        usb_node: Callable[[str], str],
        reset_port: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` is the node's. `open_node` gives a descriptor of it, `usb_node` the path of the USB device
        behind it, whose port `reset_port` resets; `worker` has a thread of this wire's own.

        All three raise OSError or DeviceError; the first and the last may take their time. `clock` gives
        seconds that only grow, in any thread.
        """
        self.name = path
        self._open_node = open_node
        self._usb_node = usb_node
        self._reset_port = reset_port
        self._worker = worker
        self._clock = clock
        self._descriptor = -1
        self._waiting = False
        """A frame has been given to the thread, which has not come to it."""
        self._writing = False
        """The thread is in a write."""

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
        if self._waiting:
            failed(OSError(errno.EBUSY, "the write before has not ended yet"))
            return
        since, is_behind = self._clock(), self._writing

        def write() -> int:
            # In this order: at no moment is it in neither state.
            self._writing = True
            self._waiting = False
            try:
                if is_behind and self._clock() - since > STALE_AFTER:
                    # The kernel tried to get rid of the frame before; the bus repeats this one.
                    raise OSError(errno.EBUSY, "the write before did not end in time")
                return os.write(descriptor, wrap(frame))
            finally:
                self._writing = False

        def then(outcome: Callable[[], int]) -> None:
            try:
                outcome()
            except OSError as error:
                failed(error)

        # One frame waits, and none is refused at once because of a write under way: that write has ended
        # when its answer is here, and the thread may still have to hear of it.
        self._waiting = True
        descriptor = self._descriptor
        # Each step wakes the loop up: a write that has ended well is none. The thread is there since open().
        self._worker.do(write, then, only_if_it_fails=True)

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

    def status(self, now: float) -> dict[str, Any]:
        return {
            "name": self.name,
            "capacity": self.capacity,
            "has_envelope": self.has_envelope,
            "is_writing": self._waiting or self._writing,
        }


# --- nodes that come and go


class Nodes(Protocol):
    """The inverters' nodes on this machine, and news of them."""

    def present(self) -> set[str]:
        """Paths of the nodes that are there now."""

    def usb_node(self, path: str) -> str:
        """Path of the USB device behind a node. Raises DeviceError when it has none."""

    def fileno(self) -> int:
        """Readable when something changed; -1 without such news."""

    def removed(self) -> set[str]:
        """Take the news: paths of nodes that went since the last call, even if there again; never waits."""


class NodeFinder:
    """Tells which nodes are there: at once when there is news, and every 30 s as a net."""

    def __init__(
        self,
        nodes: Nodes,
        open_node: Callable[[str], int],
        *,
        post: Callable[[Callable[[], None]], None],
        plugged: Callable[[Wire], None],
        unplugged: Callable[[str], None],
        only: str = "",
    ) -> None:
        """`open_node` gives a descriptor for a path, as the wire wants it; `post` is the loop's.

        `plugged` is called with a new wire, `unplugged` with the name of one whose node is gone. `only` is
        the path that `nodes` is restricted to, for the log.
        """
        self.closed = False
        self.deadline = -NEVER
        self._nodes = nodes
        self._open_node = open_node
        self._post = post
        self._plugged = plugged
        self._unplugged = unplugged
        self._only = only
        self._known: set[str] = set()
        self._in_use: set[str] = set()
        self._failures: dict[str, int] = {}
        """How often a node failed since it was last open."""
        self._said_none = False

    def poll_for(self) -> tuple[int, int] | None:
        descriptor = self._nodes.fileno()
        return None if descriptor < 0 else (descriptor, select.POLLIN)

    def ready(self, now: float) -> None:
        self._look(now)

    def tick(self, now: float) -> None:
        self._look(now)

    def ended(self, name: str, now: float, *, was_open: bool) -> None:
        self._in_use.discard(name)
        failures = 0 if was_open else self._failures.get(name, 0)
        self._failures[name] = min(failures + 1, MOST_FAILURES)
        self.deadline = min(self.deadline, now + min(RETRY_AFTER * 2**failures, RETRY_AT_MOST))

    def close(self) -> None:
        self.closed = True

    def status(self, now: float) -> dict[str, Any]:
        return {
            "state": "closed" if self.closed else "watching" if self._nodes.fileno() >= 0 else "looking",
            "device": self._only or None,
            "nodes": sorted(self._known),
            "failures": dict(sorted(self._failures.items())),
            "next_look_seconds": max(0.0, self.deadline - now),
        }

    def _look(self, now: float) -> None:
        went = self._known & self._nodes.removed()
        present = self._nodes.present()
        # Unplugged and plugged in again between two looks: first gone, then there.
        for path in sorted(self._known - present | went):
            self._unplugged(path)
            self._failures.pop(path, None)
        self.deadline = now + RESCAN_EVERY
        for path in sorted(present - self._in_use):
            self._in_use.add(path)
            self._plugged(self._wire(path))
        if not present and not self._said_none:
            where = f" at {self._only} (device in [inverter])" if self._only else ""
            log.info("No GoodWe inverter found%s; waiting for one to be plugged in", where)
        self._said_none = not present
        self._known = present

    def _wire(self, path: str) -> Wire:
        worker = Worker(self._post, path)
        return Hidraw(path, self._open_node, worker, usb_node=self._nodes.usb_node, reset_port=reset_port)
