"""Finding, checking, reading and writing nodes; a Unix socket stands in for the kernel's hidraw."""

import contextlib
import ctypes
import errno
import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from goodwe.errors import DeviceError, RestartError, StartError
from goodwe.loop import NEVER, Loop, Worker
from goodwe.transport import TRANSPORTS, Ids, find, hidraw
from goodwe.transport.hidraw import (
    Hidraw,
    NodeFinder,
    NodeOpener,
    has_report_numbers,
    open_node,
    reset_port,
    subsystem,
    wrap,
)
from goodwe.transport.standin import StandIn, StandInFinder
from goodwe.transport.udev import UdevNodes, hid_ids, udev_nodes

from .broker import wait_for
from .captures import raw
from .fakes import Clock, Nodes
from .test_loop import turn_until

IDS = Ids(0x0084, 0x0041)
# made up: 8-byte input and output reports of a vendor's page, no report numbers (PROTOCOL 2.1)
REPORT_DESCRIPTOR = bytes.fromhex("0600ff0901a101150026ff007508950809018102950809019102c0")


@pytest.fixture
def loop():
    loop = Loop(time.monotonic)
    yield loop
    loop.close()


def fake_ioctl(ids=IDS, descriptor=REPORT_DESCRIPTOR, error=None):
    """The three hidraw requests, on buffers laid out as linux/hidraw.h has them."""

    def ioctl(fd, request, buffer):
        if error is not None:
            raise OSError(error, os.strerror(error))
        number = request & 0xFF
        if number == 3:
            buffer.bustype, buffer.vendor, buffer.product = 3, *ids
        elif number == 1:
            buffer.value = len(descriptor)
        else:
            assert number == 2
            assert buffer.size == len(descriptor)
            ctypes.memmove(buffer.value, descriptor, len(descriptor))
        return 0

    return ioctl


# one write() for a frame


def test_written_bytes_are_those_recorded_with_the_report_number_in_front():
    recorded = raw("usb-ap-offline")
    assert wrap(recorded[3:]) == b"\x00" + recorded


# resetting


def test_port_is_reset_by_the_request_of_usbdevice_fs_h(tmp_path):
    node = tmp_path / "002"
    node.touch()
    requests = []
    reset_port(str(node), lambda descriptor, request: requests.append(request))
    assert requests == [0x5514]  # USBDEVFS_RESET, _IO('U', 20)


def test_port_without_the_right_says_where_it_comes_from(tmp_path, monkeypatch):
    def denied(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(
        DeviceError, match=r"no right to write to /dev/bus/usb/001/002; see usbreset in etc/99"
    ):
        reset_port("/dev/bus/usb/001/002")


@pytest.mark.parametrize(
    "error", [None, OSError(errno.ENODEV, "gone"), DeviceError("no USB device is behind it")]
)
def test_reset_comes_before_the_close_and_tells_when_it_fails(loop, error):
    node = Opened(loop)
    node.reset_error = error
    failures, closed = [], []
    node.hidraw.reset(failures.append)
    node.hidraw.close(lambda: closed.append(list(node.resets)))
    turn_until(loop, lambda: closed)
    assert closed == [[] if isinstance(error, DeviceError) else ["/dev/bus/usb/001/002"]]
    assert failures == ([] if error is None else [error])


def test_stand_in_has_no_port(tmp_path):
    stand_in = StandIn(str(tmp_path / "inverter.sock"))
    failures = []
    stand_in.reset(failures.append)
    stand_in.close(lambda: None)
    assert failures == []


# opening


def test_node_is_opened_non_blocking_and_old_reports_are_thrown_away(tmp_path):
    node = tmp_path / "hidraw0"
    os.mkfifo(node)
    keep = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    os.write(keep, b"old old ")
    descriptor = open_node(str(node), IDS, fake_ioctl())
    with pytest.raises(BlockingIOError):
        os.read(descriptor, 8)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    os.close(keep)


def test_endless_old_reports_do_not_hold_it():
    nothing = lambda descriptor, operation: None  # noqa: E731 (it is everybody's)
    assert open_node("/dev/zero", IDS, fake_ioctl(), lambda number: "hidraw", nothing) >= 0


def test_node_that_another_program_reads_is_refused_until_that_one_ends(tmp_path, monkeypatch):
    """Two take each other's answers; whatever became of pid files, and under whatever name it is opened."""
    monkeypatch.setattr(hidraw, "CLOSED_WITHIN", 0.3)
    (tmp_path / "node").touch()
    (tmp_path / "inverter").symlink_to(tmp_path / "node")
    descriptor = open_node(str(tmp_path / "node"), IDS, fake_ioctl())
    with pytest.raises(DeviceError, match="inverter is read by another program already; end that one"):
        open_node(str(tmp_path / "inverter"), IDS, fake_ioctl())
    os.close(descriptor)
    os.close(open_node(str(tmp_path / "node"), IDS, fake_ioctl()))


def test_node_that_is_just_being_closed_by_ourselves_is_waited_for(tmp_path):
    (tmp_path / "node").touch()
    descriptor = open_node(str(tmp_path / "node"), IDS, fake_ioctl())
    closing = threading.Timer(0.2, os.close, [descriptor])
    closing.start()
    os.close(open_node(str(tmp_path / "node"), IDS, fake_ioctl()))
    closing.join()


def test_node_that_our_own_last_write_still_holds_is_no_other_programs(tmp_path, monkeypatch):
    """A device that does not listen holds a write for 5.2 s (PROTOCOL 2.6); it is opened anew in its silence."""
    (tmp_path / "node").touch()
    clock = Clock()
    monkeypatch.setattr(hidraw, "time", SimpleNamespace(monotonic=clock))

    def sleep(reading, writing, failing, seconds):
        clock.now += seconds

    monkeypatch.setattr(hidraw, "select", SimpleNamespace(select=sleep))
    free_at = clock.now + 5.2

    def lock(descriptor, operation):
        if clock.now < free_at:
            raise BlockingIOError

    os.close(open_node(str(tmp_path / "node"), IDS, fake_ioctl(), lock=lock))


def test_empty_read_ends_the_throwing_away(tmp_path):
    (tmp_path / "empty").touch()
    os.close(open_node(str(tmp_path / "empty"), IDS, fake_ioctl()))


def test_another_device_is_refused_and_says_what_to_check(tmp_path):
    (tmp_path / "node").touch()
    with pytest.raises(DeviceError, match="is USB device 046d:c52b, not 0084:0041; check device, vendorId"):
        open_node(str(tmp_path / "node"), IDS, fake_ioctl(ids=(0x046D, 0xC52B)))


def test_device_with_report_numbers_is_refused(tmp_path):
    (tmp_path / "node").touch()
    with pytest.raises(DeviceError, match="numbers its reports"):
        open_node(str(tmp_path / "node"), IDS, fake_ioctl(descriptor=b"\x06\x00\xff\x85\x01\xc0"))


def descriptors_of(path):
    """This process's open descriptors of that file; other threads come and go with their own."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                found.append(number)
    return found


def test_file_that_is_no_node_is_refused(tmp_path):
    (tmp_path / "node").touch()
    with pytest.raises(DeviceError, match="is not a hidraw node"):
        open_node(str(tmp_path / "node"), IDS)  # the real ioctl
    assert descriptors_of(tmp_path / "node") == [], "the descriptor leaks"


def test_node_that_goes_while_it_is_checked_is_an_oserror(tmp_path):
    (tmp_path / "node").touch()
    with pytest.raises(OSError, match="No such device") as caught:
        open_node(str(tmp_path / "node"), IDS, fake_ioctl(error=errno.ENODEV))
    assert caught.value.errno == errno.ENODEV


def test_node_that_vanished_between_find_and_open_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_node(str(tmp_path / "hidraw9"), IDS)


def test_missing_permission_says_which_rule_is_missing(tmp_path):
    node = tmp_path / "hidraw0"
    node.touch(mode=0o600)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != parent.parent and "pytest" in parent.name:
            parent.chmod(0o755)
    script = (
        "import os, sys; from goodwe.transport import Ids\n"
        "from goodwe.transport.hidraw import open_node\n"
        "from goodwe.errors import DeviceError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: open_node(sys.argv[1], Ids(1, 2))\n"
        "except DeviceError as error: print(error)"
    )
    if os.getuid():
        node.chmod(0)
    shown = subprocess.run(
        [sys.executable, "-c", script, str(node)], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert "permission denied" in shown
    assert "etc/99-goodwe.rules" in shown
    assert "group goodwe" in shown


def test_device_cgroup_that_forbids_it_is_told_apart(monkeypatch):
    def forbid(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "open", forbid)
    with pytest.raises(DeviceError, match="The unit or container must be given"):
        open_node("/dev/hidraw0", IDS)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device node")
@pytest.mark.parametrize(("number", "opens"), [(os.makedev(1, 3), False), (os.makedev(1, 5), True)])
def test_character_device_of_another_kind_is_refused_unopened(tmp_path, number, opens):
    node = tmp_path / "inverter"
    os.mknod(node, 0o600 | stat.S_IFCHR, number)
    if opens:
        os.close(open_node(str(node), IDS, fake_ioctl(), lambda number: "hidraw"))
    with pytest.raises(DeviceError, match=f"{node} is not a hidraw node; set device to /dev/hidrawN"):
        open_node(str(node), IDS, fake_ioctl())  # the real /sys, which knows it as a mem device


def test_folder_is_no_node(tmp_path):
    with pytest.raises(DeviceError, match=f"{tmp_path} is not a hidraw node"):
        open_node(str(tmp_path), IDS)


def test_socket_is_no_node_and_the_stand_in_is_named(tmp_path, listener):
    with pytest.raises(DeviceError, match=f"is a socket; .* set device to unix:{tmp_path}/inv.sock"):
        open_node(listener.getsockname(), IDS)


def test_number_that_no_device_has_is_left_to_the_opening():
    assert subsystem(os.makedev(1, 3)) == "mem"
    assert subsystem(os.makedev(4000, 77)) is None


def test_number_that_the_unit_was_not_given_asks_for_a_new_process(tmp_path):
    node = tmp_path / "hidraw0"
    error: list[int] = []

    def open_it(path, ids):
        if error:
            raise DeviceError(f"cannot open {path}") from PermissionError(error[0], "no")
        return os.open(path, os.O_RDONLY)

    opener = NodeOpener(IDS, open_it)
    node.touch()
    error.append(errno.EPERM)
    with pytest.raises(DeviceError):
        opener(str(node))  # never opened: the unit was not given any, and a new process would not be either
    error.clear()
    os.close(opener("/dev/null"))
    error.append(errno.EACCES)
    for path in ("/dev/null", str(node), str(tmp_path / "gone")):
        with pytest.raises(DeviceError):
            opener(path)
    error[0] = errno.EPERM
    for path in ("/dev/null", str(tmp_path / "gone")):
        with pytest.raises(DeviceError):
            opener(path)
    with pytest.raises(RestartError, match="has another major number than before, which this unit was not"):
        opener(str(node))


@pytest.mark.parametrize(
    ("descriptor", "numbered"),
    [
        (REPORT_DESCRIPTOR, False),
        (b"", False),
        (b"\x85\x01", True),
        (b"\x06\x85\x85\xc0", False),  # 85 as data of another item
        (b"\xfe\x02\x10\x85\x85\xc0", False),  # inside a long item
        (b"\x27\x85\x00\x00\x00\x85\x02", True),  # behind an item with four bytes of data
        (b"\xfe", False),
    ],
)
def test_report_numbers_are_found_only_where_they_are_declared(descriptor, numbered):
    assert has_report_numbers(descriptor) is numbered


# a node, through a socket pair that keeps the borders of reports as hidraw does


class Opened:
    def __init__(self, loop):
        self.kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.worker = Worker(loop.post, "node")
        self.resets = []
        self.hidraw = Hidraw(
            "/dev/hidraw0",
            lambda path: ours.detach(),
            self.worker,
            usb_node=self._usb_node,
            reset_port=self._reset,
        )
        self.opened = []
        self.errors = []
        self.closed = []
        self.reset_error = None
        self.hidraw.open(lambda: self.opened.append(True), self.errors.append)
        turn_until(loop, lambda: self.opened)

    def _usb_node(self, path):
        if isinstance(self.reset_error, DeviceError):
            raise self.reset_error
        return "/dev/bus/usb/001/002"

    def _reset(self, usb_node):
        self.resets.append(usb_node)
        if self.reset_error:
            raise self.reset_error


def test_node_reads_reports_and_writes_frames(loop):
    node = Opened(loop)
    node.kernel.send(b"\0\0\0\xaa\x55\x0b\x80\x00")
    assert node.hidraw.read() == b"\0\0\0\xaa\x55\x0b\x80\x00"
    with pytest.raises(BlockingIOError):
        node.hidraw.read()
    node.hidraw.write(b"frame", node.errors.append)
    node.kernel.settimeout(10)
    assert node.kernel.recv(100) == wrap(b"frame")
    assert node.errors == []


def test_pulled_cable_is_an_oserror_for_the_reader(loop):
    node = Opened(loop)
    node.kernel.close()
    with pytest.raises(OSError, match="end of file"):
        node.hidraw.read()


def test_failed_write_is_told(loop):
    node = Opened(loop)
    node.kernel.close()
    node.hidraw.write(b"frame", node.errors.append)
    turn_until(loop, lambda: node.errors)
    assert node.errors[0].errno == errno.EPIPE


def test_failed_open_is_told(loop):
    def gone(path):
        raise FileNotFoundError(errno.ENOENT, "gone", path)

    errors = []
    hidraw = Hidraw("/dev/hidraw0", gone, Worker(loop.post, "node"), usb_node=str, reset_port=str)
    hidraw.open(lambda: errors.append("opened"), errors.append)
    turn_until(loop, lambda: errors)
    assert isinstance(errors[0], FileNotFoundError)
    closed = []
    hidraw.close(lambda: closed.append(True))
    turn_until(loop, lambda: closed)


class Deaf:
    """An opened wire whose device does not listen until it is told to, and a clock for it."""

    def __init__(self, loop):
        # a SEQPACKET socket without room blocks its writer as a device that does not listen does
        self.kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(10)
        ours.setblocking(False)
        try:
            while True:
                ours.send(b"x" * 1000)
        except BlockingIOError:
            ours.setblocking(True)
        self.now = 0.0
        self.hidraw = Hidraw(
            "/dev/hidraw0",
            lambda path: ours.detach(),
            Worker(loop.post, "deaf"),
            usb_node=str,
            reset_port=str,
            clock=lambda: self.now,
        )
        opened = []
        self.errors = []
        self.closed = []
        self.hidraw.open(lambda: opened.append(True), self.errors.append)
        turn_until(loop, lambda: opened)

    def write(self, frame):
        self.hidraw.write(frame, self.errors.append)

    def write_until_it_holds(self, frame):
        self.write(frame)
        wait_for(lambda: self.hidraw._writing, "the thread has it")

    def listen(self):
        """Take the filler that is in the way; the first frame behind it."""
        while (message := self.kernel.recv(2000)) == b"x" * 1000:
            pass
        return message

    def close(self, loop):
        self.hidraw.close(lambda: self.closed.append(True))
        threading.Thread(target=self._listen_on, daemon=True).start()
        turn_until(loop, lambda: self.closed)

    def _listen_on(self):
        with contextlib.suppress(OSError):
            while self.kernel.recv(2000):
                pass


def test_an_answer_may_be_answered_before_the_thread_knows_that_the_write_has_ended(loop):
    wire = Deaf(loop)
    wire.write_until_it_holds(b"asked")
    wire.write(b"answered")  # as if the device had it by now: the thread is still in the write
    assert wire.listen() == wrap(b"asked")
    assert wire.kernel.recv(100) == wrap(b"answered")
    wait_for(lambda: not wire.hidraw.status(0.0)["is_writing"], "both are written")
    wire.write(b"and again")
    assert wire.kernel.recv(100) == wrap(b"and again")
    wire.close(loop)
    assert wire.errors == []


def test_frame_that_waited_longer_than_its_answer_is_waited_for_is_not_written(loop):
    wire = Deaf(loop)
    wire.write_until_it_holds(b"asked")
    wire.write(b"stale")
    wire.now = 0.6
    assert wire.listen() == wrap(b"asked")
    turn_until(loop, lambda: wire.errors)
    assert [error.errno for error in wire.errors] == [errno.EBUSY]
    wire.write(b"asked again")
    assert wire.kernel.recv(100) == wrap(b"asked again")
    wire.close(loop)


def test_write_that_blocks_holds_nobody_and_one_frame_waits_at_most(loop):
    blocked = Deaf(loop)
    blocked.write_until_it_holds(b"first")
    began = time.monotonic()
    blocked.write(b"second")
    blocked.write(b"third")
    assert [error.errno for error in blocked.errors] == [errno.EBUSY]
    other = Opened(loop)
    other.hidraw.write(b"not disturbed", other.errors.append)
    other.kernel.settimeout(10)
    assert other.kernel.recv(100) == wrap(b"not disturbed")
    assert time.monotonic() - began < 1.0
    blocked.hidraw.close(lambda: blocked.closed.append(True))
    loop.post(lambda: None)
    loop.turn()
    assert blocked.closed == [], "closed while a write is under way"
    threading.Thread(target=blocked._listen_on, daemon=True).start()
    turn_until(loop, lambda: blocked.closed)


# a stand-in


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "inv.sock"))
        listener.listen()
        listener.settimeout(10)
        yield listener


def test_stand_in_speaks_as_the_contract_says(listener):
    stand_in = StandIn(listener.getsockname())
    opened, errors, closed = [], [], []
    stand_in.open(lambda: opened.append(True), errors.append)
    inverter, _ = listener.accept()
    off_line_query = bytes.fromhex("aa55807f00000001fe")
    stand_in.write(off_line_query, errors.append)
    assert inverter.recv(100) == bytes.fromhex("00cc9909aa55807f00000001fe")
    inverter.send(b"12345678")
    assert select.select([stand_in.fileno()], [], [], 10)[0]
    assert stand_in.read() == b"12345678"
    inverter.close()
    with pytest.raises(OSError, match="closed the connection"):
        stand_in.read()
    stand_in.write(off_line_query, errors.append)
    assert errors[0].errno == errno.EPIPE
    stand_in.close(lambda: closed.append(True))
    assert (opened, closed) == ([True], [True])


def test_stand_in_that_is_not_there_is_told(tmp_path):
    errors = []
    stand_in = StandIn(str(tmp_path / "nobody"))
    stand_in.open(lambda: errors.append("opened"), errors.append)
    assert isinstance(errors[0], FileNotFoundError)
    stand_in.close(lambda: None)


def refusal(path):
    """The answer of a stand-in that is called at `path`."""
    errors, closed = [], []
    stand_in = StandIn(str(path))
    stand_in.open(lambda: errors.append("opened"), errors.append)
    with pytest.raises(OSError, match="not connected"):
        stand_in.read() if stand_in._socket is None else stand_in._socket.getpeername()
    stand_in.close(lambda: closed.append(True))
    assert closed == [True]
    return errors[0]


def test_stand_in_is_told_from_what_is_no_socket_and_from_one_of_another_kind(tmp_path):
    (tmp_path / "file").touch()
    assert "is there and is no socket; check device in [inverter]" in str(refusal(tmp_path / "file"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(tmp_path / "stream"))
        stream.listen()
        assert "a socket of another kind; a stand-in's is SOCK_SEQPACKET" in str(refusal(tmp_path / "stream"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(tmp_path / "left"))
    assert isinstance(refusal(tmp_path / "left"), ConnectionRefusedError), "it may be there again soon"


def test_stand_in_that_may_not_be_written_to_says_what_to_do(listener, monkeypatch):
    class Denied(socket.socket):
        def connect(self, address):
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Denied)
    told = str(refusal("/run/inv.sock"))
    assert told.startswith("cannot open unix:/run/inv.sock: permission denied. Its user must be given")
    assert "chmod" in told


def test_stand_in_without_a_descriptor_is_an_oserror_and_works_later(listener, monkeypatch):
    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as limit:
        limit.setattr(socket, "socket", full)
        stand_in = StandIn(listener.getsockname())
        errors = []
        stand_in.open(lambda: errors.append("opened"), errors.append)
        stand_in.write(b"frame", errors.append)
        with pytest.raises(OSError, match="not connected"):
            stand_in.read()
        stand_in.close(lambda: None)
    assert [error.errno for error in errors] == [errno.EMFILE, errno.ENOTCONN]
    opened = []
    stand_in = StandIn(listener.getsockname())
    stand_in.open(lambda: opened.append(True), errors.append)
    assert opened
    assert stand_in.status(0.0)["name"] == f"unix:{listener.getsockname()}"
    stand_in.close(lambda: None)


def test_dialer_calls_every_second_then_every_thirty():
    calls = []
    dialer = StandInFinder("/inv.sock", calls.append)
    now = 0.0
    while now < 300.0:
        dialer.tick(now)
        dialer.ended("unix:/inv.sock", now, was_open=False)
        assert dialer.deadline - now in (1.0, 30.0)
        now = dialer.deadline
    assert [wire.name for wire in calls] == ["unix:/inv.sock"] * (120 + 6)
    dialer.ended("unix:/inv.sock", 400.0, was_open=True)
    assert dialer.deadline == 401.0


def test_dialer_waits_while_it_is_connected():
    dialer = StandInFinder("/inv.sock", lambda wire: None)
    assert dialer.deadline == -NEVER
    dialer.tick(0.0)
    assert dialer.deadline == NEVER
    assert dialer.poll_for() is None
    assert dialer.status(5.0) == {"state": "in_use", "device": "unix:/inv.sock", "next_look_seconds": None}
    dialer.ended("unix:/inv.sock", 5.0, was_open=False)
    assert dialer.status(5.5) == {"state": "calling", "device": "unix:/inv.sock", "next_look_seconds": 0.5}
    dialer.close()
    assert dialer.closed
    assert dialer.status(6.0)["state"] == "closed"


# nodes by udev


class Device:
    """As much of a pyudev.Device as is asked for."""

    def __init__(self, node, hid_id="0003:00000084:00000041", action=None, number=0):
        self.device_node = node
        self.device_number = number
        self.action = action
        self.properties = {} if hid_id is None else {"HID_ID": hid_id}
        self.usb = None

    def find_parent(self, subsystem, device_type=None):
        if (subsystem, device_type) == ("usb", "usb_device"):
            return self.usb
        assert subsystem == "hid"
        return self if self.properties is not None else None


class Context:
    def __init__(self, *devices):
        self.devices = devices

    def list_devices(self, subsystem):
        assert subsystem == "hidraw"
        return iter(self.devices)


class Monitor:
    def __init__(self, *devices):
        self.devices = list(devices)

    def fileno(self):
        return 42

    def poll(self, timeout):
        assert timeout == 0, "never waits"
        return self.devices.pop(0) if self.devices else None


def orphan(node):
    device = Device(node)
    device.properties = None
    return device


def test_nodes_are_told_by_the_numbers_of_the_hid_parent():
    context = Context(
        Device("/dev/hidraw0"),
        Device("/dev/hidraw1", "0003:0000046D:0000C52B"),
        Device("/dev/hidraw2", "0005:00000084:00000041"),
        Device("/dev/hidraw3", None),
        Device("/dev/hidraw4", "rubbish"),
        orphan("/dev/hidraw5"),
        Device(None),
    )
    assert UdevNodes(context, lambda: None, IDS, "").present() == {"/dev/hidraw0", "/dev/hidraw2"}
    assert UdevNodes(context, lambda: None, IDS, "/dev/hidraw2").present() == {"/dev/hidraw2"}
    assert UdevNodes(context, lambda: None, IDS, "/dev/hidraw1").present() == {"/dev/hidraw1"}, (
        "opening it says why not"
    )
    assert hid_ids(context.devices[1]) == Ids(0x046D, 0xC52B)
    assert str(IDS) == "0084:0041"


def test_usb_device_behind_a_node():
    device = Device("/dev/hidraw1")
    device.usb = Device("/dev/bus/usb/001/004")
    nodes = UdevNodes(Context(Device("/dev/hidraw0"), device), lambda: None, IDS, "")
    assert nodes.usb_node("/dev/hidraw1") == "/dev/bus/usb/001/004"
    for path in ("/dev/hidraw0", "/dev/hidraw2"):
        with pytest.raises(DeviceError, match="no USB device is behind it"):
            nodes.usb_node(path)


def test_link_to_a_node_is_followed_wherever_it_leads(tmp_path):
    link = tmp_path / "goodwe"
    nodes = UdevNodes(Context(Device("/dev/hidraw0"), Device("/dev/hidraw3")), lambda: None, IDS, str(link))
    assert nodes.present() == set()
    for target in ("/dev/hidraw0", "/dev/hidraw3"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert nodes.present() == {target}


class Dev:
    """The numbers of the nodes in a /dev that the test fills."""

    def __init__(self, **numbers):
        self.numbers = {f"/dev/{name}": number for name, number in numbers.items()}

    def __call__(self, path):
        return self.numbers.get(path)


def test_dangling_link_is_waited_for(tmp_path):
    link = tmp_path / "goodwe"
    link.symlink_to(tmp_path / "later")
    nodes = UdevNodes(Context(), lambda: None, IDS, str(link))
    assert nodes.present() == set()
    (tmp_path / "later").touch()
    assert nodes.present() == {str(tmp_path / "later")}
    link.unlink()
    link.symlink_to(link)
    assert nodes.present() == {str(link)}, "opening it says what is wrong: too many levels of links"


def test_node_under_another_name_is_tried_by_that_name(tmp_path):
    (tmp_path / "inverter").touch()
    context = Context(Device("/dev/hidraw3", number=0xF503))
    for known in (context, Context(), None):  # in a container: udev's list, none of it, no libudev at all
        nodes = UdevNodes(known, lambda: None, IDS, str(tmp_path / "inverter"))
        assert nodes.present() == {str(tmp_path / "inverter")}
    assert UdevNodes(context, lambda: None, IDS, str(tmp_path / "inverter" / "x")).present() == set()


def test_node_under_another_name_goes_when_its_number_does(tmp_path):
    path = tmp_path / "inverter"
    path.touch()
    dev = Dev()
    dev.numbers[str(path)] = 0xF503
    monitor = Monitor()
    nodes = UdevNodes(Context(), lambda: monitor, IDS, str(path), dev)
    assert nodes.present() == {str(path)}
    monitor.devices.append(Device("/dev/hidraw9", action="remove", number=0xF509))
    assert str(path) not in nodes.removed()
    monitor.devices.append(Device("/dev/hidraw3", action="remove", number=0xF503))
    assert str(path) in nodes.removed()
    dev.numbers[str(path)] = 0xF400  # made anew, after the major number changed; nobody told
    assert str(path) in nodes.removed()
    nodes.present()
    assert nodes.removed() == set()


def test_usb_device_behind_a_node_under_another_name():
    device = Device("/dev/hidraw3", number=0xF503)
    device.usb = Device("/dev/bus/usb/001/004")
    nodes = UdevNodes(
        Context(Device("/dev/hidraw0"), device), lambda: None, IDS, "/dev/inverter", Dev(inverter=0xF503)
    )
    assert nodes.usb_node("/dev/inverter") == "/dev/bus/usb/001/004"
    with pytest.raises(DeviceError, match="no USB device is behind it"):
        nodes.usb_node("/dev/another")


def test_nodes_are_not_gone_when_udev_finds_nothing_for_want_of_descriptors():
    context = Context(Device("/dev/hidraw0"), Device("/dev/hidraw1"), Device("/dev/hidraw2"))
    dev = Dev(hidraw0=1, hidraw1=2, hidraw2=3)
    nodes = UdevNodes(context, lambda: None, IDS, "", dev)
    assert nodes.present() == {"/dev/hidraw0", "/dev/hidraw1", "/dev/hidraw2"}
    del dev.numbers["/dev/hidraw1"]  # pulled meanwhile
    context.devices = (Device("/dev/hidraw0", None), Device("/dev/hidraw2", "0003:0000046D:0000C52B"))
    assert nodes.present() == {"/dev/hidraw0"}, "of the third it is known that it is another device now"
    context.devices = ()
    assert nodes.present() == {"/dev/hidraw0"}


def test_this_machines_udev_finds_nothing_without_descriptors_and_the_monitor_comes_later():
    script = (
        "import logging, os, resource, sys\n"
        "logging.basicConfig(format='%(message)s', stream=sys.stdout, level='INFO')\n"
        "from goodwe.transport.udev import udev_nodes\n"
        "from goodwe.transport import Ids\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "nodes = udev_nodes(Ids(0xFFFE, 0xFFFE))\n"
        "nodes._monitor = None\n"  # as after news that were lost
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, hard))\n"
        "for _ in range(3): print(nodes.present(), nodes.fileno())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "print(nodes.present(), nodes.fileno() >= 0)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    assert shown[0].startswith("No news from udev (")
    assert shown[1:] == ["set() -1"] * 3 + ["There is news from udev again", "set() True"]


def test_news_of_removed_nodes_only():
    monitor = Monitor(
        Device("/dev/hidraw0", action="add"),
        Device("/dev/hidraw1", action="remove"),
        Device("/dev/hidraw2", action="change"),
        Device(None, action="remove"),
    )
    nodes = UdevNodes(Context(), lambda: monitor, IDS, "")
    assert nodes.fileno() == 42
    assert nodes.removed() == {"/dev/hidraw1"}
    assert nodes.removed() == set()


def test_news_that_were_lost_are_no_end_and_later_ones_come(caplog):
    class Overflown(Monitor):
        def poll(self, timeout):
            raise OSError("Error while polling fd")

    monitors = [Overflown(), Monitor(Device("/dev/hidraw1", action="remove"))]
    nodes = UdevNodes(Context(), lambda: monitors.pop(0), IDS, "")
    assert nodes.removed() == set()
    assert nodes.removed() == {"/dev/hidraw1"}
    assert "News from udev were lost" in caplog.text


def test_without_a_monitor_there_is_no_news():
    nodes = UdevNodes(Context(), lambda: None, IDS, "")
    assert nodes.fileno() == -1
    assert nodes.removed() == set()


def test_this_machines_udev_can_be_asked():
    nodes = udev_nodes(Ids(0xFFFE, 0xFFFE))
    assert nodes.present() == set()
    assert nodes.fileno() >= 0
    assert nodes.removed() == set()


def test_without_libudev_only_a_given_node_can_be_found(tmp_path, monkeypatch, caplog):
    def missing():
        raise ImportError("No library named udev")

    monkeypatch.setattr("pyudev.Context", missing)
    with pytest.raises(StartError, match="libudev is missing; install it: apt-get install libudev1"):
        udev_nodes(IDS)
    nodes = udev_nodes(IDS, str(tmp_path / "inverter"))
    assert "looking for" in caplog.text
    assert (nodes.present(), nodes.removed(), nodes.fileno()) == (set(), set(), -1)
    (tmp_path / "inverter").touch()
    assert nodes.present() == {str(tmp_path / "inverter")}
    with pytest.raises(DeviceError, match="no USB device is behind it"):
        nodes.usb_node(str(tmp_path / "inverter"))


def test_form_of_device_picks_the_transport(monkeypatch):
    calls = {"post": print, "plugged": print, "unplugged": print}
    assert find("unix:/inv.sock", IDS, **calls).status(0.0)["device"] == "unix:/inv.sock"
    assert find("/dev/hidraw7", IDS, **calls).status(0.0)["device"] == "/dev/hidraw7"
    assert find("", Ids(0xFFFE, 0xFFFE), **calls).status(0.0)["device"] is None
    monkeypatch.setitem(TRANSPORTS, "unix:/very/", "no.such.module")
    with pytest.raises(ModuleNotFoundError):
        find("unix:/very/special", IDS, **calls)


# the finder of nodes


@pytest.fixture
def nodes():
    nodes = Nodes()
    yield nodes
    nodes.close()


class Told:
    """Takes what a finder tells, and answers that each wire is used until `end`."""

    def __init__(self, nodes):
        self.log = []
        self.finder = NodeFinder(
            nodes,
            lambda path: -1,
            post=lambda step: None,
            plugged=lambda wire: self.log.append(("+", wire.name)),
            unplugged=self._unplugged,
        )

    def _unplugged(self, name):
        self.log.append(("-", name))
        self.end(name, 0.0)

    def end(self, name, now, *, was_open=False):
        self.finder.ended(name, now, was_open=was_open)


PLUS, MINUS = ("+", "/dev/hidraw0"), ("-", "/dev/hidraw0")


def test_finder_tells_what_is_there_at_the_start_and_what_comes_and_goes(nodes):
    nodes.paths.add("/dev/hidraw0")
    told = Told(nodes)
    assert told.finder.deadline == -NEVER
    told.finder.tick(0.0)
    nodes.plug("/dev/hidraw1")
    told.finder.ready(1.0)
    nodes.unplug("/dev/hidraw0")
    told.finder.ready(2.0)
    assert told.log == [PLUS, ("+", "/dev/hidraw1"), MINUS]


def test_node_that_went_and_came_between_two_looks_is_first_gone_then_there(nodes):
    told = Told(nodes)
    nodes.plug("/dev/hidraw0")
    told.finder.ready(0.0)
    nodes.replug("/dev/hidraw0")
    told.finder.ready(1.0)
    assert told.log == [PLUS, MINUS, PLUS]


def test_finder_looks_every_30_seconds(nodes):
    told = Told(nodes)
    told.finder.tick(0.0)
    assert told.finder.deadline == 30.0
    nodes.paths.add("/dev/hidraw0")  # without news: the net
    told.finder.tick(30.0)
    assert told.log == [PLUS]
    told.finder.tick(60.0)
    assert told.log == [PLUS], "it is in use"


def test_node_that_fails_is_tried_again_with_pauses_that_grow_until_it_was_open(nodes):
    nodes.paths.add("/dev/hidraw0")
    told = Told(nodes)
    told.finder.tick(0.0)
    now, pauses = 0.0, []
    for was_open in (False, False, False, False, False, False, True, False):
        told.end("/dev/hidraw0", now, was_open=was_open)
        pauses.append(told.finder.deadline - now)
        now = told.finder.deadline
        told.finder.tick(now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 1.0, 2.0]
    assert told.log == [PLUS] * 9
    told.end("/dev/hidraw0", now)
    told.end("/dev/hidraw1", now)
    assert told.finder.deadline == now + 1.0, "the sooner of two counts"


def test_node_that_was_unplugged_begins_anew(nodes):
    nodes.paths.add("/dev/hidraw0")
    told = Told(nodes)
    for now in (0.0, 10.0, 20.0):
        told.finder.tick(now)
        told.end("/dev/hidraw0", now)
    assert told.finder.status(20.0)["failures"] == {"/dev/hidraw0": 3}
    nodes.unplug("/dev/hidraw0")
    told.finder.ready(21.0)
    assert told.finder.status(21.0) == {
        "state": "watching",
        "device": None,
        "nodes": [],
        "failures": {},
        "next_look_seconds": 30.0,
    }


def test_no_inverter_is_one_line_in_the_log(nodes, caplog):
    caplog.set_level("INFO")
    told = Told(nodes)
    for n in range(5):
        told.finder.tick(30.0 * n)
    assert caplog.messages == ["No GoodWe inverter found; waiting for one to be plugged in"]


def test_finder_waits_for_news_where_there_is_any(nodes):
    told = Told(nodes)
    assert told.finder.poll_for() == (nodes.fileno(), select.POLLIN)
    silent = Told(UdevNodes(Context(), lambda: None, IDS, "")).finder
    assert silent.poll_for() is None
    assert silent.status(0.0)["state"] == "looking"
    assert told.finder.status(0.0)["state"] == "watching"
    told.finder.close()
    assert told.finder.closed
    assert told.finder.status(0.0)["state"] == "closed"


def test_wires_say_how_many_they_carry_and_whether_they_have_the_envelope():
    worker = Worker(lambda step: None, "never begun")
    node = Hidraw("/dev/hidraw0", lambda path: 0, worker, usb_node=str, reset_port=lambda path: None)
    for wire in (node, StandIn("/run/inverter.sock")):
        status = wire.status(0.0)
        assert (status["name"], status["capacity"], status["has_envelope"]) == (wire.name, 1, True)
