"""The parts put together: inverters that come, go and cannot be opened, on nodes the test controls."""

import contextlib
import errno
import io
import itertools
import json
import os
import socket
import threading
import time
from random import Random
from types import SimpleNamespace

import pytest

from goodwe import config, transport
from goodwe.app import App
from goodwe.errors import ConfigError, DeviceError, RestartError
from goodwe.events import Offline, Online, Reading
from goodwe.loop import NEVER, Loop, Timer
from goodwe.outputs import Output
from goodwe.protocol.simulator import Day, Habits, Inverter, Port
from goodwe.snapshot import Snapshot
from goodwe.tools import decode
from goodwe.transport import TRANSPORTS, Ids
from goodwe.transport.hidraw import NodeFinder, wrap

from .broker import PATIENCE, wait_for
from .fakes import Nodes, fanout

QUICK = Habits(delay=0.0, report_interval=0.0)


class Recorder(Output):
    """An output that keeps what it is told."""

    stopped = True

    def __init__(self):
        self.events = []

    def handle(self, event):
        self.events.append(event)

    def stop(self, now):
        self.events.append("goodbye")

    def status(self, now):
        return {"events": len(self.events)}

    def of(self, kind, serial=None):
        return [e for e in self.events if isinstance(e, kind) and serial in (None, e.serial)]


class Roof:
    """An inverter behind a node: the kernel's end of a socket pair, in a thread of its own."""

    def __init__(self, serial):
        self.serial = serial
        self.kernel, self.node = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.node.setblocking(False)
        inverter = Inverter(serial, length=46)
        day = Day(1)
        self._port = Port(inverter, lambda now: day.values(43200.0), QUICK, Random(1))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # pulled, maybe in the middle of an answer
            while message := self._receive():
                self._port.write(message, 0.0)
                for report in self._port.reports(float("inf")):
                    self.kernel.send(report)

    def _receive(self):
        return self.kernel.recv(4096)

    def pull(self):
        self.kernel.shutdown(socket.SHUT_RDWR)

    def go_deaf(self):
        """Listen no more: a write to it blocks, whatever its flags, as with a real hidraw node."""
        self._receive = lambda: b""
        try:
            while True:
                self.node.send(b"x" * 1000)
        except BlockingIOError:
            self.node.setblocking(True)


class Running:
    """An App in a thread, on nodes and roofs of the test."""

    def __init__(self, device=""):
        self.nodes = Nodes()
        self.roofs = {}
        self.open_errors = {}
        self.opens = []
        self.recorder = Recorder()
        self.loop = Loop(time.monotonic)
        text = f"[inverter]\npollinterval = 500\nstatefile =\ndevice = {device}\n"
        settings, _ = config.parse(text, "test")
        self.app = App(
            settings,
            self.loop,
            lambda app: fanout(self.loop, self.recorder),
            wall_clock=time.time,
            find=transport.find if device else self._find,
        )
        self.raised = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.app.run()
        except Exception as error:
            self.raised = error

    def _find(self, device, ids, **calls):
        assert (ids, device) == (Ids(0x84, 0x41), "")
        return NodeFinder(self.nodes, self._open, **calls)

    def _open(self, path):
        self.opens.append(path)
        if path in self.open_errors:
            raise self.open_errors[path]
        return os.dup(self.roofs[path].node.fileno())

    def plug(self, path, serial):
        self.roofs[path] = Roof(serial)
        self.nodes.plug(path)
        return self.roofs[path]

    def readings(self, serial):
        return len(self.recorder.of(Reading, serial))

    def times(self, serial):
        return [reading.when for reading in self.recorder.of(Reading, serial)]

    def do(self, step):
        """Take a step in the loop's thread; it is done when this returns."""
        done = threading.Event()
        self.loop.post(lambda: (step(), done.set()))
        assert done.wait(PATIENCE)

    def stop(self):
        self.loop.post(self.app.stop)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


class ToyWire:
    """A transport of the test's own: a wire to a roof that is simply there, for two inverters at most."""

    name, capacity, has_envelope = "toy:roof", 2, True

    def __init__(self, roof):
        self.fileno = roof.node.fileno
        self.read = lambda: roof.node.recv(4096)
        self.write = lambda frame, failed: roof.node.send(wrap(frame))
        self.reset = lambda failed: None
        self.open = lambda opened, failed: opened()
        self.close = lambda closed: closed()
        self.status = lambda now: {"name": self.name}


class ToyFinder(Timer):
    """And what finds it, once."""

    closed, deadline = False, -NEVER

    def __init__(self, device, ids, *, post, plugged, unplugged):
        self._plugged = lambda: plugged(ToyWire(Roof(device.removeprefix("toy:"))))

    def tick(self, now):
        self.deadline = NEVER
        self._plugged()

    def ended(self, name, now, *, was_open):
        self.deadline = now + 1.0

    def close(self):
        self.closed = True

    def status(self, now):
        return {"state": "toy"}


find = ToyFinder


@pytest.fixture
def running():
    running = Running()
    yield running
    if running.thread.is_alive():
        running.stop()


ONE, TWO = "15000DSN000W0001", "15000DSN000W0002"


def device(raw):
    """The toy's part in the configuration: `device = toy:SERIAL`."""
    if len(raw) != len("toy:") + 16:
        raise ValueError("toy: and a serial")
    return raw


def test_transport_from_the_outside_is_a_row_of_the_table(monkeypatch):
    monkeypatch.setitem(TRANSPORTS, "toy:", __name__)
    with pytest.raises(ConfigError, match=r"^test:2: device = toy:you: must be toy: and a serial$"):
        config.parse("[inverter]\ndevice = toy:you\n", "test")
    running = Running(f"toy:{ONE}")
    wait_for(lambda: running.readings(ONE) >= 2, "readings")
    running.stop()
    assert running.recorder.of(Offline, ONE)


def test_what_only_a_new_process_may_open_ends_this_one_after_its_goodbye(running, caplog):
    running.plug("/dev/hidraw1", TWO)
    wait_for(lambda: running.readings(TWO), "a reading")
    running.open_errors["/dev/hidraw0"] = RestartError("/dev/hidraw0 has another major number than before")
    running.nodes.plug("/dev/hidraw0")
    running.thread.join(PATIENCE)
    assert not running.thread.is_alive()
    assert isinstance(running.raised, RestartError)
    assert running.recorder.of(Offline, TWO)
    assert "has another major number than before; ending, to be started again" in caplog.text
    assert "Traceback" not in caplog.text


def test_plugged_read_unplugged_and_plugged_again(running):
    roof = running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE) >= 2, "readings")
    began = time.monotonic()
    roof.pull()
    wait_for(lambda: running.recorder.of(Offline), "offline")
    assert time.monotonic() - began < 1.0, "the cable's own word is enough, and is heard at once"
    running.nodes.unplug("/dev/hidraw0")
    # replugged while the old descriptor is open it has another number (PROTOCOL 2.6)
    before = running.readings(ONE)
    running.plug("/dev/hidraw1", ONE)
    wait_for(lambda: running.readings(ONE) > before, "readings again")
    assert len(running.recorder.of(Online)) == 2


def test_node_that_cannot_be_opened_for_years_is_tried_on(running):
    link = SimpleNamespace(name="/dev/hidraw9", was_open=False, closed=True)
    tried = threading.Event()

    def try_for_years():
        for _ in range(3000):
            running.app._ended(link, "permission denied")
        tried.set()

    running.loop.post(try_for_years)
    assert tried.wait(PATIENCE)
    running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE), "another inverter is read")


@pytest.mark.parametrize(("steps", "kept"), [(0, False), (2, True)])
def test_pauses_between_resets_go_on_when_the_reset_unplugs(running, steps, kept):
    place = running.app._place("/dev/hidraw9")
    place.ladder.steps = steps
    running.app._unplugged("/dev/hidraw9")
    assert ("/dev/hidraw9" in running.app._places) == kept


def test_inverter_that_is_plugged_in_again_has_the_time_to_answer(running):
    place = running.app._place("/dev/hidraw0")
    place.ladder.step()
    place.ladder.silent(time.monotonic() - 1000.0)
    running.app._unplugged("/dev/hidraw0")
    running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE), "a reading")
    assert running.opens == ["/dev/hidraw0"]


def test_unplugging_is_known_by_udevs_word_alone_within_a_second(running):
    running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE), "a reading")
    began = time.monotonic()
    running.nodes.unplug("/dev/hidraw0")
    wait_for(lambda: running.recorder.of(Offline), "offline")
    assert time.monotonic() - began < 1.0
    assert running.recorder.of(Offline)[0].reason == "unplugged"


def test_two_inverters_at_once_are_told_apart_by_serial(running):
    running.plug("/dev/hidraw0", ONE)
    running.plug("/dev/hidraw1", TWO)
    wait_for(lambda: running.readings(ONE) and running.readings(TWO), "both read")
    running.roofs["/dev/hidraw0"].pull()
    wait_for(lambda: running.recorder.of(Offline, ONE), "one is offline")
    before = running.readings(TWO)
    wait_for(lambda: running.readings(TWO) >= before + 2, "the other goes on")
    assert not running.recorder.of(Offline, TWO)


def test_node_that_fails_is_opened_again_within_seconds(running):
    roof = running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE), "a reading")
    running.roofs["/dev/hidraw0"] = Roof(ONE)  # the kernel has it again under the same name
    roof.pull()  # and udev says nothing
    wait_for(lambda: len(running.opens) == 2, "opened again")
    before = running.readings(ONE)
    wait_for(lambda: running.readings(ONE) > before, "read again")


def test_node_without_permission_is_said_once_and_tried_again(running, caplog):
    running.open_errors["/dev/hidraw0"] = DeviceError("cannot open /dev/hidraw0: permission denied. Install")
    running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: len(running.opens) >= 2, "tried again")
    assert [m for m in caplog.messages if "permission denied" in m] == [
        "cannot open /dev/hidraw0: permission denied. Install"
    ]
    del running.open_errors["/dev/hidraw0"]
    wait_for(lambda: running.readings(ONE), "a reading once it may")


def test_node_that_vanishes_between_find_and_open_is_no_trouble(running, caplog):
    running.open_errors["/dev/hidraw0"] = FileNotFoundError(errno.ENOENT, "gone")
    running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.opens, "it was tried")
    running.nodes.unplug("/dev/hidraw0")
    running.plug("/dev/hidraw1", TWO)
    wait_for(lambda: running.readings(TWO), "the other is read")
    assert "WARNING" not in caplog.text


def test_device_that_holds_its_writer_disturbs_no_other(running):
    running.roofs["/dev/hidraw0"] = deaf = Roof(ONE)
    deaf.go_deaf()
    running.nodes.plug("/dev/hidraw0")
    running.plug("/dev/hidraw1", TWO)
    wait_for(lambda: running.readings(TWO) >= 3, "the other is read")
    assert max(b - a for a, b in itertools.pairwise(running.times(TWO))) < 1.0
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 4.0


def longest_delay(running, serials, mischief):
    """Seconds by which a reading of the others came late in the 2.5 s after mischief to the first of them."""
    path = next(iter(serials))
    began = time.time()
    mischief(running.roofs[path])
    del serials[path]
    last = list(serials.values())[-1]
    wait_for(lambda: running.times(last)[-1] > began + 2.5, "the others go on")
    gaps = [
        later - earlier
        for serial in serials.values()
        for earlier, later in itertools.pairwise(running.times(serial))
        if later > began
    ]
    return max(gaps) - 0.5


@pytest.mark.parametrize("mischief", [Roof.pull, Roof.go_deaf])
def test_of_sixteen_one_that_dies_or_blocks_delays_no_other_by_50_ms(running, mischief):
    serials = {f"/dev/hidraw{n}": f"15000DSN000W{n:04}" for n in range(16)}
    for path, serial in serials.items():
        running.plug(path, serial)
    wait_for(lambda: all(running.readings(serial) for serial in serials.values()), "all are read")
    delays = []
    while not delays or (min(delays) >= 0.05 and len(serials) > 8):  # again on a machine that was busy
        delays.append(longest_delay(running, serials, mischief))
    assert min(delays) < 0.05, delays


def test_minute_before_a_loss_can_be_had(running, caplog):
    caplog.set_level("INFO")
    running.do(running.app.tell_losses)
    assert "No inverter was lost since the start" in caplog.text
    roof = running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE) >= 2, "readings")
    roof.pull()
    wait_for(lambda: running.recorder.of(Offline), "offline")
    running.do(running.app.tell_losses)
    assert "the minute before:" in caplog.text
    out = io.StringIO()
    assert decode.main([], source=io.StringIO("\n".join(caplog.messages)), out=out) == 0
    kinds = {json.loads(line).get("name") for line in out.getvalue().splitlines()}
    assert kinds >= {"query_running_info", "running_info"}
    assert "/dev/hidraw0 -0." in caplog.text, "with its times, seconds before the loss"
    asked = []
    running.loop.post(lambda: asked.append(running.app.losses()))
    ((loss,),) = wait_for(lambda: asked, "asked for at the control socket")
    assert (loss["name"], loss["reason"]) == ("/dev/hidraw0", "unplugged (Input/output error)")
    out = io.StringIO()
    assert decode.main([], source=io.StringIO("\n".join(loss["traffic"])), out=out) == 0
    assert {json.loads(line).get("name") for line in out.getvalue().splitlines()} == kinds
    first, last = (float(line[1:].partition(")")[0]) for line in (loss["traffic"][0], loss["traffic"][-1]))
    assert loss["lost_epoch"] - 60.0 <= first <= last <= loss["lost_epoch"]


def test_status_tells_of_finder_links_places_and_losses(running):
    def status():
        asked = []
        running.loop.post(lambda: asked.append(running.app.status(running.loop.clock())))
        return wait_for(lambda: asked, "an answer")[0]

    assert status()["finder"]["state"] == "watching"
    assert (status()["links"], status()["places"], status()["losses"]) == ([], [], [])
    assert status()["dropped"] == []
    assert list(status()["outputs"]) == ["Recorder"]
    running.open_errors["/dev/hidraw1"] = DeviceError("cannot open /dev/hidraw1: permission denied")
    running.nodes.plug("/dev/hidraw1")
    roof = running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE), "a reading")
    wait_for(lambda: any(place["trouble"] for place in status()["places"]), "one cannot be opened")
    told = status()
    assert told["inverters"][ONE]["online"] is True
    assert [link["wire"]["name"] for link in told["links"] if link["name"] == "/dev/hidraw0"] == [
        "/dev/hidraw0"
    ]
    assert [(place["name"], place["trouble"]) for place in told["places"]] == [
        ("/dev/hidraw0", None),
        ("/dev/hidraw1", "cannot open /dev/hidraw1: permission denied"),
    ]
    before = time.time()
    roof.pull()
    wait_for(lambda: running.recorder.of(Offline), "offline")
    (loss,) = status()["losses"]
    assert (loss["name"], loss["reason"]) == ("/dev/hidraw0", "unplugged (Input/output error)")
    assert before <= loss["lost_epoch"] <= time.time()
    assert 0.0 <= loss["lost_seconds"] < PATIENCE
    assert Snapshot(status()).json()


def test_stop_says_offline_for_each(running):
    running.plug("/dev/hidraw0", ONE)
    running.plug("/dev/hidraw1", TWO)
    wait_for(lambda: running.readings(ONE) and running.readings(TWO), "both read")
    running.stop()
    running.app.stop()  # a second signal changes nothing
    assert {offline.serial for offline in running.recorder.of(Offline)} == {ONE, TWO}


def test_idle_without_a_device_wakes_up_for_the_rescan_only(running):
    wait_for(lambda: running.app._finder.deadline > time.monotonic() + 25, "the first look")
    assert min(part.deadline for part in running.loop._parts) > time.monotonic() + 25


def break_ledger(running):
    running.app._ledger.tick = running.app._ledger.close = lambda *_: 1 / 0
    running.app._ledger._save_at = 0.0


def break_link(running):
    (link,) = running.app._links.values()
    link.ready = link.stop = lambda *_, **__: 1 / 0


@pytest.mark.parametrize(
    "break_it", [break_ledger, break_link, lambda running: setattr(running.app, "deadline", None)]
)
def test_defect_in_what_is_essential_ends_the_program_loudly_after_the_goodbye(running, caplog, break_it):
    running.plug("/dev/hidraw0", ONE)
    wait_for(lambda: running.readings(ONE) >= 2, "readings")
    running.loop.post(lambda: break_it(running))
    running.thread.join(PATIENCE)
    assert not running.thread.is_alive()
    assert isinstance(running.raised, ZeroDivisionError | TypeError)
    assert running.recorder.events[-1] == "goodbye"
    assert "The program has a defect and ends; the outputs are told" in caplog.messages
