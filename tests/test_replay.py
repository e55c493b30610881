"""`replay`: a capture played to the program gives the readings that it gave then."""

import contextlib
import os
import random
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from goodwe.capture import CaptureFeed
from goodwe.errors import GoodWeError
from goodwe.events import Answer, Offline, Online, Reading
from goodwe.link import Link
from goodwe.place import Place
from goodwe.protocol import fields
from goodwe.protocol.bus import Bus
from goodwe.protocol.frame import Splitter, frame
from goodwe.protocol.simulator import Day, Habits, Inverter, Port
from goodwe.tools import captures, replay
from goodwe.tools.captures import CaptureReader
from goodwe.tools.replay import Player, taken_apart
from goodwe.traffic import Tap
from goodwe.transport.hidraw import wrap

from . import captures as recorded_captures
from .broker import PATIENCE, wait_for
from .fakes import Clock, Wire

GOOD = Habits()
SERIAL = "1010KSIM268W0002"
MIDNIGHT = 1_764_111_600.0
"""Seconds since 1970 when the conversation begins."""


class PortWire(Wire):
    """A wire with an inverter's end of the cable behind it."""

    def __init__(self, port, clock, is_awake=lambda now: True):
        super().__init__()
        self.port = port
        self.clock = clock
        self.is_awake = is_awake

    def write(self, frame, failed):
        super().write(frame, failed)
        if self.is_awake(self.clock.now):
            self.port.write(wrap(frame), self.clock.now)


class Conversation:
    """The program's link with an inverter's end, in simulated time; all that goes over the wire is captured."""

    def __init__(self, port, *, poll=60.0, is_awake=lambda now: True):
        self.clock = Clock()
        self.port = port
        self.wire = PortWire(port, self.clock, is_awake)
        self.events = []
        self.lines = []
        self.ended = False
        tap = Tap()
        tap.listeners.append(CaptureFeed(lambda line: self.lines.append(line) or True, MIDNIGHT))
        self.place = Place(reset_allowed=False)
        self._tap, self._poll = tap, poll
        self.plug()

    def plug(self):
        self.ended = False
        self.link = Link(
            self.wire,
            Bus(self._poll),
            place=self.place,
            publish=lambda event: self.events.append((self.clock.now, event)),
            clock=self.clock,
            wall_clock=lambda: MIDNIGHT + self.clock.now,
            lost=lambda reason, traffic: None,
            ended=self._ended,
            tap=self._tap,
        )
        self.link.open()

    def _ended(self, link, reason):
        self.ended = True

    def run(self, until):
        while (due := min(self.link.deadline, self.port.deadline)) <= until:
            self.clock.now = max(due, self.clock.now)
            for report in self.port.reports(self.clock.now):
                self.wire.to_read.append(report)
                self.link.ready(self.clock.now)
            if self.link.deadline <= self.clock.now:
                self.link.tick(self.clock.now)
            if self.ended:  # silent for long: opened anew, as the program does
                self.plug()
        self.clock.now = until

    def pull(self):
        self.link.stop("unplugged (Input/output error)", gone=True)
        self.port.unplug()
        self.wire.to_read.clear()
        self.plug()

    def of(self, kind):
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def values(self):
        return [reading.values for reading in self.of(Reading)]


def simulated(habits=GOOD, *, seed=1, start=12 * 3600.0, poll=60.0, serial=SERIAL):
    """A conversation with a simulated inverter that begins at that time of its day."""
    day = Day(3, seed=seed)
    inverter = Inverter(serial, length=66)
    port = Port(inverter, lambda now: day.values(start + now), habits, random.Random(seed))

    def is_awake(now):
        light = day.is_light(start + now)
        if not light:
            inverter.forget()
        return light

    return Conversation(port, poll=poll, is_awake=is_awake)


def played(lines, *, speed=None, poll=60.0):
    """A conversation with what a capture plays."""
    reader = CaptureReader(lines, "test")
    return Conversation(Player(taken_apart(reader, reader.serials), speed=speed), poll=poll)


@pytest.mark.parametrize(
    "habits",
    [Habits(), Habits(lose=0.05, corrupt=0.05, garbage=0.05), Habits(delay=0.7, report_interval=0.02)],
)
def test_a_simulated_day_that_was_captured_gives_the_same_readings(habits):
    """Night, dawn, registration, day, dusk, night."""
    end = 16 * 3600.0
    day = simulated(habits, start=5 * 3600.0)
    day.run(end)
    assert len(day.values) > 700
    assert [event.reason for event in day.of(Offline)][-1] == "no answer"
    again = played(day.lines)
    again.run(end)
    assert again.values == day.values
    assert [event for _, event in again.events if not isinstance(event, Reading)] == [
        event for _, event in day.events if not isinstance(event, Reading)
    ]
    assert again.port.played == sum("query_running_info" in line for line in day.lines) - sum(
        not exchange.reports
        for exchange in again.port._exchanges
        if exchange.query is not None and exchange.query.name == "query_running_info"
    )


def test_what_was_wrong_on_the_wire_is_wrong_again():
    day = simulated(Habits(lose=0.2, corrupt=0.2, garbage=0.2), poll=2.5)
    day.run(900.0)
    assert day.link.tally.counts["wrong checksum"] > 20
    again = played(day.lines, poll=2.5)
    again.run(900.0)
    assert again.values == day.values
    assert again.link.tally.counts == day.link.tally.counts


def test_capture_of_a_program_that_had_registered_before_is_played_with_a_registration_of_its_own():
    day = simulated(poll=2.5)
    day.run(300.0)
    first = next(n for n, line in enumerate(day.lines) if "query_running_info" in line)
    lines = [captures.inverter(SERIAL, "GW-SIM", "wire"), *day.lines[first:]]
    again = played(lines, poll=2.5)
    again.run(330.0)
    assert again.values == day.values
    assert again.of(Online)[0].serial == SERIAL


def test_serial_that_no_line_names_is_an_invented_one():
    day = simulated(poll=2.5)
    day.run(30.0)
    first = next(n for n, line in enumerate(day.lines) if "query_running_info" in line)
    again = played(day.lines[first:], poll=2.5)
    again.run(60.0)
    assert again.values == day.values
    assert again.of(Online)[0].serial == "15000SIM268W0001"


def test_answers_come_from_the_address_that_the_program_gives():
    day = simulated(poll=2.5)
    day.run(30.0)
    first = next(n for n, line in enumerate(day.lines) if "query_running_info" in line)
    for lines in (day.lines, day.lines[first:]):
        again = played(lines, poll=2.5)
        again.link._bus._addresses["another"] = 0x0B  # so that this one gets the next
        again.run(60.0)
        assert again.of(Online)[0].address == 0x0C
        assert again.values == day.values


def test_program_that_begins_anew_in_the_middle_is_given_the_rest():
    day = simulated(poll=2.5)
    day.run(120.0)
    again = played(day.lines, poll=2.5)
    again.run(60.0)
    given = len(again.values)
    again.pull()
    again.run(140.0)
    assert again.values == day.values
    assert 0 < given < len(day.values)


def test_other_questions_have_the_answers_of_then_and_keep_them():
    day = simulated(poll=2.5)
    answers, again_answers = [], []
    day.run(20.0)
    assert day.link.ask(SERIAL, "query_id_info", answered=answers.append)
    day.run(60.0)
    again = played(day.lines, poll=2.5)
    again.run(5.0)
    for _ in range(2):
        assert again.link.ask(SERIAL, "query_id_info", answered=again_answers.append)
        again.run(again.clock.now + 10.0)
    assert isinstance(answers[0], Answer)
    assert again_answers == answers * 2
    assert again.link.ask(SERIAL, "query_setting_info", answered=again_answers.append)
    again.run(60.0)
    assert not isinstance(again_answers[-1], Answer), "it was never asked that"


def test_frames_that_nobody_asked_for_come_at_their_time():
    unasked = frame("register_request", 0x7F, 0x80, SERIAL.encode()).encode()
    lines = [
        f"({MIDNIGHT:.6f}) wire ! opened",
        f"({MIDNIGHT:.6f}) wire > {frame('remove_register', 0x80, 0x0B).encode().hex()}",
        f"({MIDNIGHT + 7.5:.6f}) wire < {unasked.hex()}",
    ]
    again = played(lines)
    again.run(7.0)
    assert again.port.deadline == pytest.approx(7.5)
    hurried = played(lines, speed=5.0)
    hurried.run(1.0)
    assert hurried.port.deadline == pytest.approx(1.5)


def test_with_a_speed_it_keeps_pace_with_so_many_times_the_clock():
    day = simulated(poll=2.5)
    day.run(1000.0)
    again = played(day.lines, speed=10.0, poll=2.5)
    again.run(80.0)
    times = [MIDNIGHT + at for at, event in day.events if isinstance(event, Reading)]
    shown = [day.values.index(values) for values in again.values]
    assert shown == sorted(shown)
    assert times[shown[-1]] == pytest.approx(MIDNIGHT + 800.0, abs=40.0)
    assert len(again.values) < len(day.values) / 5


def test_the_end_is_when_no_reading_is_left():
    day = simulated(poll=2.5)
    day.run(30.0)
    again = played(day.lines, poll=2.5)
    again.run(29.0)
    assert not again.port.finished
    again.run(60.0)
    assert again.port.finished


def test_cable_that_was_pulled_is_pulled_again():
    day = simulated(poll=2.5)
    day.run(30.0)
    day.pull()
    day.run(60.0)
    again = played(day.lines, poll=2.5)
    while not again.port.pulled:
        again.run(again.clock.now + 0.5)
        assert again.clock.now < 60.0
    given = len(again.values)
    assert given == sum(at < 30.0 for at, event in day.events if isinstance(event, Reading))
    again.port.pulled = False
    again.pull()
    again.run(100.0)
    assert again.values == day.values


# files that cannot be played


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "test: it is empty"),
        (["", "  "], "test: it is empty"),
        (["{}", "hello"], "test: neither a capture nor a log of ours with loglevel = DEBUG"),
        (["# GoodWeUSBLogger capture, form 1", "# program: 1.0.0"], "test: a capture without a line of traffic in it"),
        (["# GoodWeUSBLogger capture, form 1", "(12.5) wire < 0"], "test:2: not a line of a capture"),
        (["# GoodWeUSBLogger capture, form 7"], "test: written by a newer version of this program (form 7); update this one"),
        (["(1.0) wire ! opened"], "nothing of a wire is in it"),
    ],
)  # fmt: skip
def test_what_is_no_capture_is_told_with_its_place(lines, said):
    reader = CaptureReader(lines, "test")
    with pytest.raises(GoodWeError) as raised:
        taken_apart(reader, reader.serials)
    assert str(raised.value) == said


def test_damaged_lines_are_left_out_and_the_first_is_named():
    day = simulated(poll=2.5)
    day.run(30.0)
    damaged = list(day.lines)
    damaged[7] = damaged[7][:-1]
    damaged.insert(20, "\0\0\0")
    damaged.insert(30, "> quoted by a mail program")
    reader = CaptureReader(damaged, "test")
    assert taken_apart(reader, reader.serials).readings
    assert (reader.damaged, reader.damage) == (3, "test:8: not a line of a capture")


def test_whatever_a_file_has_in_it_is_played_or_refused():
    chance = random.Random(1)
    day = simulated(poll=2.5)
    day.run(20.0)
    text = "\n".join(day.lines)
    played_ones = 0
    for _ in range(60):
        letters = list(text)
        for _ in range(chance.randrange(200)):
            letters[chance.randrange(len(letters))] = chr(chance.randrange(1, 0x250))
        at, to = sorted((chance.randrange(len(letters)), chance.randrange(len(letters))))
        try:
            again = played("".join(letters[at:to]).split("\n"), poll=2.5)
        except GoodWeError:
            continue
        again.run(30.0)
        played_ones += 1
    assert played_ones > 40


def test_wire_of_several_is_chosen_by_name():
    one, two = simulated(poll=2.5), simulated(poll=2.5, seed=2, serial="1010KSIM268W0003")
    one.run(20.0)
    two.run(20.0)
    lines = [*one.lines, *(line.replace(" wire ", " other ") for line in two.lines)]
    reader = CaptureReader(lines, "test")
    assert taken_apart(reader, reader.serials).serial == SERIAL
    assert taken_apart(reader, reader.serials, wire="other").serial == "1010KSIM268W0003"
    with pytest.raises(GoodWeError, match="nothing of third is in it"):
        taken_apart(reader, reader.serials, wire="third")


def test_capture_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(replay, "MOST_RECORDS", 3)
    reader = CaptureReader([f"({n}.0) wire ! opened" for n in range(9)], "test")
    with pytest.raises(GoodWeError, match="more than 3 lines; play a part of it"):
        taken_apart(reader, reader.serials)


def test_log_of_ours_with_debug_can_be_played():
    day = simulated(poll=2.5)
    day.run(30.0)
    log = []
    for line in day.lines:
        epoch, _, rest = line[1:].partition(") ")
        seconds = time.localtime(float(epoch))
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", seconds) + f",{int(float(epoch) % 1 * 1000):03}"
        if " ! " not in rest:
            log.append(f"{stamp} ready(137) - DEBUG: {rest}")
        log.append(f"{stamp} run(48) - INFO: Connected to MQTT nas")
    again = played(log, poll=2.5)
    again.run(60.0)
    assert again.values == day.values


# the verb


class Played:
    """`replay` in a thread, and a client on its socket."""

    def __init__(self, *arguments):
        self.said = []
        self.stops = []
        self.code = None
        self.thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self.thread.start()

    def _run(self, *arguments):
        def stop_on_signal(loop, stop):
            self.stops.append(lambda: loop.post(stop))

        self.code = replay.main(list(arguments), stop_on_signal, say=self.said.append)

    def stop(self):
        self.stops[0]()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def file(tmp_path):
    """A capture of half a minute, the cable pulled after 15 s."""
    day = simulated(poll=2.5)
    day.run(15.0)
    day.pull()
    day.run(30.0)
    path = tmp_path / "one.capture"
    facts = {"version": 1, "program": "1.0.0", "began_epoch": MIDNIGHT, "wires": ["wire"], "inverters": []}
    path.write_text(captures.head(facts) + "\n".join(day.lines) + "\n")
    return SimpleNamespace(path=str(path), readings=len(day.values))


def connected(path):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(PATIENCE)
    # The file is there a moment before anybody listens at it.
    wait_for(lambda: client.connect_ex(path) == 0, "the socket")
    return client


def hear(client, splitter):
    while report := client.recv(4096):
        for packet in splitter.feed(report):
            return packet.frame
    raise EOFError("the cable was pulled")


def ask(client, name, address, data=b""):
    client.send(wrap(frame(name, 0x80, address, data).encode()))


def test_verb_plays_to_the_end_and_pulls_the_cable_between(file, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "UNPLUGGED_FOR", 0.1)
    path = str(tmp_path / "inv.sock")
    one = Played(file.path, "--listen", f"unix:{path}")
    readings = 0
    for _ in range(2):
        with connected(path) as client:
            splitter = Splitter()
            ask(client, "off_line_query", 0x7F)
            ask(client, "allocate_register_address", 0x7F, hear(client, splitter).data + b"\x0b")
            assert hear(client, splitter).name == "address_confirm"
            with contextlib.suppress(EOFError):
                while True:
                    ask(client, "query_running_info", 0x0B)
                    assert fields.decode_running(hear(client, splitter).data)["pac"]
                    readings += 1
        wait_for(lambda: os.path.exists(path) or not one.thread.is_alive(), "plugged in again")
    one.thread.join(PATIENCE)
    assert (one.code, readings) == (0, file.readings)
    assert one.said[-1] == f"Played to the end: {readings} readings given."
    assert not os.path.exists(path)


def test_verb_is_stopped_by_a_signal(file, tmp_path):
    one = Played(file.path, "--listen", f"unix:{tmp_path / 'inv.sock'}")
    wait_for(lambda: one.said, "it listens")
    one.stop()
    assert (one.code, one.said[-1]) == (0, "Stopped: 0 readings given.")


def test_second_program_is_not_let_in(file, tmp_path):
    path = str(tmp_path / "inv.sock")
    one = Played(file.path, "--listen", f"unix:{path}")
    with connected(path) as first, connected(path) as second:
        ask(first, "off_line_query", 0x7F)
        assert hear(first, Splitter()).name == "register_request"
        assert second.recv(10) == b""
    one.stop()


def test_verb_says_what_is_wrong_with_the_file(tmp_path):
    with pytest.raises(GoodWeError, match=r"cannot read .*none\.capture: No such file or directory"):
        replay.main([str(tmp_path / "none.capture"), "--listen", f"unix:{tmp_path}/s"], lambda *_: None)
    path = tmp_path / "one.capture"
    path.write_bytes(random.Random(1).randbytes(5000))
    with pytest.raises(GoodWeError, match="neither a capture nor a log"):
        replay.main([str(path), "--listen", f"unix:{tmp_path}/s"], lambda *_: None)


@pytest.mark.parametrize("arguments", [[], ["x.capture"], ["x.capture", "--listen", "here"], ["x", "--listen", "unix:/s", "--speed", "0"]])  # fmt: skip
def test_wrong_arguments_are_usage_and_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        replay.main(arguments, lambda *_: None)
    assert exit_.value.code == 2
    assert "usage: GoodWe.py replay" in capsys.readouterr().err


# captures of users, as they came


@pytest.mark.parametrize("path", recorded_captures.FILES, ids=lambda path: path.stem)
def test_capture_of_a_user_gives_its_readings_when_it_is_played(path):
    complaints = []
    recorded = replay.load(str(path), complain=complaints.append)
    assert complaints == []
    once, twice = (Conversation(Player(recorded), poll=2.5) for _ in range(2))
    for one in (once, twice):
        for _ in range(2000):
            one.run(one.clock.now + 1.0)
            if one.port.pulled:
                one.port.pulled = False
                one.pull()
            if one.port.finished:
                break
        assert one.port.finished
    assert once.values == twice.values
    assert once.values
