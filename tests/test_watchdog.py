"""The side of systemd: a sign of life while there is progress, and a line that says how things stand."""

import time

import pytest

from goodwe.app import STUCK_AFTER
from goodwe.events import Offline, Reading, Send
from goodwe.link import Link
from goodwe.place import Place
from goodwe.protocol.frame import frame
from goodwe.service import StatusLine, WatchdogPart, status_line

from .fakes import Clock, Wire
from .test_link import Plugged
from .test_program import House, topic
from .test_reload import Systemd


@pytest.fixture
def house(tmp_path, mosquitto):
    house = House(tmp_path, mosquitto.port)
    yield house
    house.end()


class Systems:
    """The notifier's side of systemd."""

    def __init__(self):
        self.fed = []
        self.now = 0.0

    def watchdog(self):
        self.fed.append(self.now)


class Watched:
    """A watchdog that is fed every 60 s, of a program that is stuck when the test says so."""

    def __init__(self):
        self.systemd = Systems()
        self.stuck = ""
        self.part = WatchdogPart(self.systemd, 60.0, 0.0, stuck=lambda now: self.stuck)

    def tick(self, now):
        self.systemd.now = now
        assert self.part.deadline == now
        self.part.tick(now)


def test_progress_is_a_sign_of_life():
    watched = Watched()
    for now in (60.0, 120.0, 180.0):
        watched.tick(now)
    assert watched.systemd.fed == [60.0, 120.0, 180.0]


def test_loop_that_turns_and_reads_nothing_is_none_and_said_once(caplog):
    watched = Watched()
    watched.tick(60.0)
    watched.stuck = "/dev/hidraw0"
    for now in (120.0, 180.0, 240.0, 300.0):
        watched.tick(now)
    assert watched.systemd.fed == [60.0, 120.0], "the second time in a row counts"
    assert caplog.messages == [
        "/dev/hidraw0 is not read any more, by a defect; systemd is to start the program anew"
    ]
    watched.stuck = ""
    watched.tick(360.0)
    assert watched.systemd.fed == [60.0, 120.0, 360.0]


def test_process_that_was_stopped_as_a_whole_has_a_turn_to_catch_up():
    watched = Watched()
    watched.stuck = "/dev/hidraw0"
    watched.tick(60.0)
    watched.stuck = ""
    watched.tick(120.0)
    assert watched.systemd.fed == [60.0, 120.0]


# what is no progress, on one wire


def test_readings_are_progress():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    assert plugged.link.stuck_for(0.9) == 0.0
    assert plugged.link.stuck_for(3.0) < 3.0


def test_inverter_that_goes_silent_is_lost_which_is_an_outcome_and_a_night_is_none_of_ours():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    longest = 0.0
    for now in range(1, 12 * 3600, 60):
        plugged.run(float(now))
        longest = max(longest, plugged.link.stuck_for(float(now)))
    assert longest < 60.0
    assert isinstance(plugged.published[-1], Offline)


def test_refused_readings_of_a_broken_inverter_are_an_outcome():
    """A restart would read the same from it."""
    plugged = Plugged()
    plugged.register()
    now = 0.9
    while now < 3600.0:
        plugged.run(now)
        plugged.hear("running_info", 0x0B, b"too short")
        now += 2.5
    assert plugged.link.stuck_for(3600.0) < 10.0
    assert not [event for event in plugged.published if isinstance(event, Reading)]


def test_wire_that_is_not_open_or_unplugged_is_not_stuck():
    plugged = Plugged(open_it=False)
    assert plugged.link.stuck_for(86_400.0) == 0.0
    plugged = Plugged()
    plugged.register()
    plugged.link.stop("unplugged", gone=True)
    assert plugged.link.stuck_for(86_400.0) == 0.0


def test_loop_that_forgets_a_wire_is_stuck():
    """It turns, and neither reads nor calls this one any more."""
    plugged = Plugged()
    plugged.register()
    plugged.read()
    assert plugged.link.stuck_for(600.9) >= STUCK_AFTER
    searching = Plugged()
    searching.run(30.0)
    assert searching.link.stuck_for(700.0) >= STUCK_AFTER


class DeafBus:
    """A bus with a defect: it asks, frames arrive, and it makes nothing of them."""

    has_registered = True

    def __init__(self):
        self.deadline = 0.0

    def start(self, now):
        return []

    def receive(self, frames, now):
        return []

    def tick(self, now):
        self.deadline = now + 2.5
        return [Send(frame("query_running_info", 0x80, 0x0B))]


def opened(wire, bus, place, clock):
    """A link with its node open, whose events nobody wants."""
    link = Link(
        wire,
        bus,
        place=place,
        publish=lambda event: None,
        clock=clock,
        wall_clock=lambda: 0.0,
        lost=lambda reason, traffic: None,
        ended=lambda link, reason: None,
    )
    link.open()
    return link


@pytest.mark.parametrize(("has_registered", "stuck"), [(True, 600.0), (False, 0.0)])
def test_frames_that_arrive_and_become_nothing_are_no_progress(has_registered, stuck):
    """Of one that is not registered nobody knows what it wants to say: a look-alike talks, too."""
    clock, wire, bus, place = Clock(), Wire(), DeafBus(), Place(reset_allowed=False)
    bus.has_registered = has_registered
    link = opened(wire, bus, place, clock)
    place.ladder.heard()  # it was read once: nobody opens it again
    while clock.now < 600.0:
        link.tick(clock.now)
        wire.to_read.append(b"\xaa\x55 bytes")
        link.ready(clock.now)
        clock.now += 2.5
    bus.deadline = 602.5
    assert link.stuck_for(600.0) == stuck


def test_write_that_fails_is_an_outcome():
    """The kernel takes no frame: that is the device's affair."""
    clock, wire, bus, place = Clock(), Wire(), DeafBus(), Place(reset_allowed=False)
    wire.write_error = OSError(5, "Input/output error")
    link = opened(wire, bus, place, clock)
    place.ladder.heard()
    clock.now = 600.0
    link.tick(600.0)
    assert link.stuck_for(600.0) == 0.0


# the line


ONE = {"online": True, "last_reading_seconds": 2.0, "values": {"pac": 2345}}
AWAY = {"online": False, "last_reading_seconds": 3602.0, "values": None}
UNREAD = {"online": False, "last_reading_seconds": None, "values": None}
NOON = time.mktime((2026, 6, 1, 12, 0, 2, 0, 0, -1))


@pytest.mark.parametrize(
    ("inverters", "line"),
    [
        ({}, ""),
        ({"A": UNREAD}, ""),
        ({"A": ONE}, "2345 W, last reading at 2026-06-01 12:00:00"),
        ({"A": ONE, "B": AWAY}, "1 of 2 inverters online, 2345 W, last reading at 2026-06-01 12:00:00"),
        ({"A": ONE, "B": ONE}, "2 of 2 inverters online, 4690 W, last reading at 2026-06-01 12:00:00"),
        ({"A": AWAY, "B": UNREAD}, "no inverter online, last reading at 2026-06-01 11:00:00"),
    ],
)
def test_line_has_power_and_the_time_of_the_last_reading(inverters, line):
    assert status_line(inverters, NOON) == line


def test_line_is_told_when_it_changes_and_once_in_half_a_minute():
    clock, told, inverters = Clock(), [], {}
    line = StatusLine(
        lambda text: told.append((clock.now, text)),
        lambda now: inverters,
        clock=clock,
        wall_clock=lambda: NOON,
    )
    line.renew()
    assert told == [], "nothing before there is something to say"
    for power in range(100):
        clock.now += 2.5
        inverters["A"] = {**ONE, "values": {"pac": power}}
        line.renew()
    assert [when for when, _ in told] == [2.5 + 30.0 * n for n in range(9)]
    inverters["A"] = AWAY
    for _ in range(100):
        clock.now += 300.0
        line.renew()
    assert len(told) == 10, "a night is one line"


def test_systemd_sees_it(house, subscriber):
    house.simulate()
    systemd = Systemd(house)
    systemd.until("READY=1")
    told = systemd.until(r"STATUS=\d+ W, last reading at [0-9-]{10} [0-9:]{8}")
    assert told
    subscriber.until(topic("online"), "1")
    systemd.close()
