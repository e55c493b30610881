"""From plugged in to unplugged: what is logged, what is published, what is counted."""

import errno
import json
import re

import pytest

from goodwe import link as link_module
from goodwe.errors import DeviceError
from goodwe.events import Answer, Found, Offline, Online, Reading, Resting
from goodwe.link import Link, LinkState
from goodwe.loop import NEVER
from goodwe.place import Place
from goodwe.protocol.bus import Bus
from goodwe.protocol.frame import frame
from goodwe.recurrences import AT_ONCE
from goodwe.tally import MOST_REASONS, OTHERS, Tally
from goodwe.traffic import Tap

from .captures import data
from .fakes import Clock, Wire
from .test_ledger import Books

SERIAL = "15000DTU166W0157"


class Plugged:
    """A link on a wire whose other end is this test."""

    def __init__(
        self,
        wire: Wire | None = None,
        *,
        open_it: bool = True,
        place: Place | None = None,
        start=0.0,
        publish=None,
        tap=None,
    ) -> None:
        self.wire = wire or Wire()
        self.clock = Clock(start)
        self.losses = []
        self.published = []
        self.ended = []
        self.link = Link(
            self.wire,
            Bus(2.5),
            place=place or Place(reset_allowed=False),
            publish=publish or self.published.append,
            clock=self.clock,
            wall_clock=lambda: 1_700_000_000.0 + self.clock(),
            lost=lambda reason, traffic: self.losses.append((reason, traffic)),
            ended=lambda link, reason: self.ended.append(reason),
            tap=tap,
        )
        if open_it:
            self.link.open()

    def run(self, until: float) -> None:
        while self.link.deadline <= until:
            self.clock.now = max(self.clock.now, self.link.deadline)
            self.link.tick(self.clock.now)
        self.clock.now = until

    def hear(self, name: str, source: int, payload: bytes = b"") -> None:
        self.wire.to_read.append(frame(name, source, 0x80, payload).encode())
        self.link.ready(self.clock.now)

    def register(self) -> None:
        self.run(0.31)
        self.hear("register_request", 0x7F, SERIAL.encode())
        self.hear("address_confirm", 0x0B)

    def read(self) -> None:
        self.run(0.9)
        self.hear("running_info", 0x0B, data("usb-running-66"))


def test_from_plugged_in_to_a_reading_with_its_time(caplog):
    caplog.set_level("INFO")
    plugged = Plugged()
    plugged.register()
    plugged.read()
    found, online, reading = plugged.published
    assert (found, online) == (Found(SERIAL, 11), Online(SERIAL, 11))
    assert isinstance(reading, Reading)
    assert reading.when == 1_700_000_000.9
    # the words that people grep for (CONTRACT 5)
    assert f"New inverter found with serial id: {SERIAL}. Register address." in caplog.messages
    assert "Inverter now online." in caplog.messages
    assert plugged.wire.written[0] == frame("remove_register", 0x80, 0x0B).encode()


def test_pulled_cable_is_offline_at_once(caplog):
    caplog.set_level("INFO")
    plugged = Plugged()
    plugged.register()
    plugged.read()
    plugged.wire.to_read.append(OSError(errno.EIO, "Input/output error"))
    plugged.link.ready(1.0)
    assert plugged.published[-1] == Offline(SERIAL, 11, "unplugged (Input/output error)")
    assert plugged.ended == ["unplugged (Input/output error)"]
    assert plugged.link.closed
    assert plugged.wire.is_closed
    assert plugged.link.deadline == NEVER
    assert plugged.link.poll_for() is None
    assert any(message.startswith("Marking inverter @ address 11 offline") for message in caplog.messages)


@pytest.mark.parametrize("how", ["by the reader", "by udev"])
def test_nothing_is_written_to_a_pulled_cable(how):
    plugged = Plugged()
    plugged.register()
    plugged.read()
    written = len(plugged.wire.written)
    if how == "by udev":
        plugged.link.stop("unplugged", gone=True)
    else:
        plugged.wire.to_read.append(OSError(errno.EIO, "Input/output error"))
        plugged.link.ready(1.0)
    assert len(plugged.wire.written) == written
    assert plugged.link.tally.counts["write failed"] == 0


def test_silence_is_offline():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    plugged.run(30.0)
    assert plugged.published[-1] == Offline(SERIAL, 11, "no answer")
    assert plugged.ended == []


# never stuck


def test_inverter_that_is_never_heard_has_its_node_opened_again_and_again(caplog):
    """No state without an exit, for ever, with growing pauses."""
    caplog.set_level("INFO")
    place = Place(reset_allowed=False)
    now, lasted = 0.0, []
    for _ in range(8):
        plugged = Plugged(place=place, start=now)
        while not plugged.ended:
            plugged.run(plugged.link.deadline)
        assert plugged.ended == ["silent"]
        assert plugged.wire.is_closed
        assert plugged.wire.resets == 0
        lasted.append(plugged.clock.now - now)
        now = plugged.clock.now + 1.0
    assert lasted == [120.0, 240.0, 480.0, 900.0, 900.0, 900.0, 900.0, 900.0]
    assert sum("does not answer" in message for message in caplog.messages) == 1, "a night is told once"
    assert sum("Opened" in message for message in caplog.messages) == 2


def test_every_second_step_resets_the_port_where_that_is_allowed():
    place = Place(reset_allowed=True)
    resets = []
    for n in range(6):
        plugged = Plugged(place=place, start=n * 1000.0)
        while not plugged.ended:
            plugged.run(plugged.link.deadline)
        resets.append(plugged.wire.resets)
    assert resets == [0, 1, 0, 1, 0, 1]


def test_port_that_cannot_be_reset_is_said_once(caplog):
    place = Place(reset_allowed=True)
    for n in range(6):
        wire = Wire()
        wire.reset_error = DeviceError("no right to write to /dev/bus/usb/001/002; see usbreset")
        plugged = Plugged(wire, place=place, start=n * 1000.0)
        while not plugged.ended:
            plugged.run(plugged.link.deadline)
    said = [message for message in caplog.messages if "cannot reset" in message]
    assert said == ["cannot reset the port of wire: no right to write to /dev/bus/usb/001/002; see usbreset"]


def test_inverter_that_answers_is_left_in_peace_and_its_next_silence_begins_at_the_bottom():
    place = Place(reset_allowed=True)
    for n in range(3):
        plugged = Plugged(place=place, start=n * 1000.0)
        while not plugged.ended:
            plugged.run(plugged.link.deadline)
    assert place.ladder.steps == 3
    plugged = Plugged(place=place)
    plugged.register()
    assert place.ladder.deadline == 900.0, "an address alone is no answer to a query"
    plugged.read()
    assert (place.ladder.steps, place.ladder.deadline) == (0, NEVER)
    plugged.run(30.0)
    (offline,) = [event for event in plugged.published if isinstance(event, Offline)]
    assert offline.reason == "no answer"
    assert place.ladder.deadline == pytest.approx(10.81 + 120.0)


def test_booting_inverter_that_sends_zeros_is_heard():
    place = Place(reset_allowed=False)
    plugged = Plugged(place=place)
    plugged.register()
    plugged.run(0.9)
    plugged.hear("running_info", 0x0B, bytes(46))
    assert place.ladder.deadline == NEVER


def test_last_minute_before_a_loss_is_kept():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    for _ in range(40):
        plugged.run(plugged.clock.now + 2.5)
        plugged.hear("running_info", 0x0B, data("usb-running-66"))
    plugged.run(200.0)
    ((reason, traffic),) = plugged.losses
    assert reason == "no answer"
    assert {line.direction for line in traffic} == {"<", ">"}
    assert traffic[-1].when - traffic[0].when <= 60.0
    assert frame("running_info", 0x0B, 0x80, data("usb-running-66")).encode() in [
        line.data for line in traffic
    ]
    assert traffic[-1].data == frame("query_running_info", 0x80, 0x0B).encode()


def test_question_and_its_answer_pass():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    told = []
    assert plugged.link.ask(SERIAL, "query_id_info", answered=told.append)
    assert not plugged.link.ask("15000DTU166W0158", "query_id_info", answered=told.append)
    plugged.run(1.4)
    plugged.hear("id_info", 0x0B, bytes(64))
    assert told == [Answer(SERIAL, "query_id_info", bytes(64))]
    assert isinstance(plugged.published[-1], Reading), "nobody else is told"


def test_inverter_can_be_registered_again():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    assert plugged.link.register(SERIAL)
    assert plugged.published[-1] == Offline(SERIAL, 11, "to be registered again")
    assert not plugged.link.register(SERIAL)


def test_only_a_piece_that_nobody_else_hears_of_is_a_beginning():
    tap = Tap()
    plugged = Plugged(tap=tap)
    plugged.register()
    plugged.run(0.9)
    answer = frame("running_info", 0x0B, 0x80, data("usb-running-66")).encode()

    def hear(piece):
        plugged.wire.to_read.append(piece)
        return plugged.link.ready(plugged.clock.now)

    assert hear(answer[:8]) is True
    tap.listeners.append(lambda *line: None)  # a capture, that has something to write now
    assert hear(answer[8:16]) is False
    tap.listeners.clear()
    assert hear(answer[16:24]) is True
    assert hear(answer[24:]) is False
    assert isinstance(plugged.published[-1], Reading)
    assert hear(b"garbage") is False


def test_question_to_nobody_is_heard_of_by_nobody_else_and_a_step_of_the_ladder_is():
    plugged = Plugged()
    outcomes = []
    while LinkState.CLOSED is not plugged.link._state:
        plugged.clock.now = max(plugged.clock.now, plugged.link.deadline)
        outcomes.append(plugged.link.tick(plugged.clock.now))
    assert len(outcomes) > 10
    assert outcomes == [True] * (len(outcomes) - 1) + [False]


def test_report_that_is_not_there_after_all_changes_nothing():
    plugged = Plugged()
    plugged.link.ready(0.0)
    assert plugged.ended == []


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED])
def test_node_that_is_not_there_is_no_trouble(number):
    wire = Wire()
    wire.open_error = OSError(number, "gone")
    plugged = Plugged(wire)
    assert plugged.ended == [""]
    assert wire.is_closed


def test_node_that_cannot_be_opened_says_why():
    wire = Wire()
    wire.open_error = DeviceError("cannot open /dev/hidraw0: permission denied. Install ...")
    assert Plugged(wire).ended == ["cannot open /dev/hidraw0: permission denied. Install ..."]
    wire.open_error = OSError(errno.EMFILE, "Too many open files")
    assert Plugged(wire).ended == ["cannot open wire: [Errno 24] Too many open files"]


def test_unplugged_while_it_is_being_opened_is_closed_when_that_is_done():
    wire = Wire()
    wire.late = True
    plugged = Plugged(wire)
    plugged.link.tick(0.0)
    plugged.link.stop("unplugged", gone=True)
    plugged.link.stop("twice", gone=True)
    assert plugged.ended == [""], "it simply is not there"
    assert not plugged.link.closed
    wire.finish_open()
    assert plugged.link.closed
    assert wire.written == []


def test_open_that_fails_after_it_was_stopped_is_told_once():
    wire = Wire()
    wire.late = True
    wire.open_error = OSError(errno.EACCES, "no")
    plugged = Plugged(wire)
    plugged.link.stop("unplugged", gone=True)
    wire.finish_open()
    assert plugged.ended == [""]
    assert plugged.link.closed


def test_stop_removes_the_registration():
    plugged = Plugged()
    plugged.register()
    plugged.link.stop("the program ends", gone=False)
    assert plugged.wire.written[-1] == frame("remove_register", 0x80, 0x0B).encode()


def test_bad_input_is_one_line_when_it_begins_and_counted(caplog):
    caplog.set_level("WARNING")
    plugged = Plugged()
    for _ in range(50):
        plugged.wire.to_read.append(b"\x13\x37rubbish")
        plugged.link.ready(plugged.clock.now)
    (line,) = caplog.messages
    assert "bytes outside a frame" in line
    assert "1337" in line
    assert plugged.link.tally.counts["bytes outside a frame"] == 50 * 9


def test_failing_write_is_counted_and_not_the_end(caplog):
    wire = Wire()
    wire.write_error = OSError(errno.ETIMEDOUT, "Connection timed out")
    plugged = Plugged(wire)
    plugged.run(30.0)
    assert plugged.ended == []
    assert plugged.link.tally.counts["write failed"] == len(wire.written)
    assert sum("write failed" in message for message in caplog.messages) == 1


def test_debug_has_the_wire_in_hex(caplog):
    caplog.set_level("DEBUG")
    plugged = Plugged()
    plugged.wire.to_read.append(bytes.fromhex("00000000aa551180"))
    plugged.link.ready(0.0)
    assert "wire < 00000000aa551180" in caplog.messages
    assert "wire > aa55800b000200018c (remove_register 80>0b)" in caplog.messages


def test_tally_begins_anew_after_ten_quiet_minutes():
    tally = Tally()
    assert tally.add("wrong checksum", 0.0)
    assert not tally.add("wrong checksum", 599.0)
    assert not tally.add("wrong checksum", 1100.0)
    assert tally.add("wrong checksum", 1700.0)
    assert tally.add("all-zero reading", 1700.0, 3)
    assert str(tally) == "all-zero reading: 3, wrong checksum: 4"
    assert str(Tally()) == "none"


def test_inverter_that_registered_and_never_gave_a_reading_goes_away_without_a_trace():
    books = Books()
    plugged = Plugged(publish=books.ledger.handle)
    plugged.register()
    plugged.run(60.0)
    assert [type(event) for event in books.take()] == [Found, Online], "nobody was told that it was here"
    plugged.link.stop("unplugged", gone=True)
    assert (books.take(), books.ledger.deadline) == ([], NEVER)


@pytest.mark.parametrize("speaks", [True, False])
def test_offline_is_said_once_while_it_registers_in_vain(speaks):
    books = Books(speak_for_absent=speaks)
    plugged = Plugged(publish=books.ledger.handle)
    plugged.register()
    plugged.read()
    plugged.run(3.4)
    plugged.hear("running_info", 0x0B, data("usb-running-66"))
    assert [type(event) for event in books.take()] == [Found, Online, Reading]
    for losses in range(1, 6):
        plugged.run(plugged.clock.now + 12.0)
        assert len(plugged.losses) == losses
        plugged.hear("register_request", 0x7F, SERIAL.encode())
        plugged.hear("address_confirm", 0x0B)
    told = [type(event) for event in books.take()]
    assert (told.count(Offline), told.count(Found)) == (1, 5)
    assert told.count(Resting) <= speaks


# states and status


def test_states_from_plugged_in_to_closed(caplog):
    caplog.set_level("DEBUG")
    wire = Wire()
    wire.late = True
    plugged = Plugged(wire)
    assert plugged.link.status(0.0)["state"] == "opening"
    wire.finish_open()
    assert plugged.link.status(0.0)["state"] == "open"
    plugged.register()
    plugged.read()
    plugged.link.stop("unplugged", gone=True)
    assert plugged.link.status(1.0)["state"] == "closed"
    said = [message for message in caplog.messages if message.startswith(("wire is", "wire: the bus is"))]
    links = ["wire is opening", "wire is open", "wire is closing", "wire is closed"]
    assert [message for message in said if message.startswith("wire is")] == links
    buses = ["clearing", "searching", "allocated", "registered", "idle"]
    assert [message.split()[-1] for message in said if "bus" in message] == buses


def test_status_is_plain_and_tells_all():
    plugged = Plugged()
    plugged.register()
    plugged.read()
    plugged.wire.to_read.append(b"\x13\x37rubbish")
    plugged.link.ready(1.0)
    status = plugged.link.status(2.0)
    assert json.loads(json.dumps(status)) == status
    assert (status["name"], status["state"], status["state_seconds"]) == ("wire", "open", 2.0)
    assert status["bus"]["inverters"][SERIAL]["address"] == 11
    assert status["refused"] == {"bytes outside a frame": 9}
    assert status["ladder"] == {"steps": 0, "next_step_seconds": None, "trouble": None}
    assert status["traffic"]["read_seconds"] == pytest.approx(1.1, abs=0.2)
    assert status["registrations_counted"] == 0


def test_ladder_that_waits_says_for_how_long():
    plugged = Plugged()
    assert plugged.link.status(20.0)["ladder"]["next_step_seconds"] == 100.0


def test_diagram_has_the_words_of_the_states():
    diagram = re.findall(r"^    (\w+) {2,}\w", link_module.__doc__, re.M)
    assert diagram == [state.value for state in LinkState]


def test_inverter_that_registers_just_before_a_step_is_due_is_not_interrupted():
    plugged = Plugged()
    plugged.run(119.9)
    plugged.hear("register_request", 0x7F, SERIAL.encode())
    plugged.hear("address_confirm", 0x0B)
    plugged.run(121.0)
    assert plugged.ended == []
    plugged.hear("running_info", 0x0B, data("usb-running-66"))
    plugged.run(125.0)
    assert plugged.ended == []
    silent = Plugged()
    for at in (115.0, 119.9, 124.0, 128.0):
        silent.run(at)
        silent.hear("register_request", 0x7F, SERIAL.encode())
        silent.hear("address_confirm", 0x0B)
    silent.run(130.0)
    assert silent.ended == ["silent"], "put off once, not for ever"


def test_tally_of_what_comes_every_quarter_of_an_hour_is_a_handful_of_lines_a_day():
    tally = Tally()
    told = sum(tally.add("wrong checksum", n * 900.0) for n in range(96))
    assert (told, tally.counts["wrong checksum"]) == (2, 96)


def test_tally_that_was_quiet_for_a_day_begins_as_at_first():
    tally = Tally()
    times = [0.0, 700.0, 2000.0, 5000.0, 5000.0 + 86400.0]
    assert [tally.add("wrong checksum", at) for at in times] == [True] * 5
    assert not tally.add("wrong checksum", times[-1] + 599.0)
    assert tally.add("wrong checksum", times[-1] + 599.0 + 600.0)


def test_tally_counts_endless_reasons_together():
    tally = Tally()
    told = sum(tally.add(f"1{n:04}DTU166W0157 total falls", float(n)) for n in range(5000))
    assert told == MOST_REASONS + 1
    assert len(tally.counts) == MOST_REASONS + 1
    assert tally.counts[OTHERS] == 5000 - MOST_REASONS
    assert str(tally).count(",") == MOST_REASONS


def test_place_with_a_loose_contact_is_remembered_and_one_that_nobody_used_is_not():
    place = Place(reset_allowed=False)
    assert not place.unplugged()
    for _ in range(AT_ONCE + 1):
        plugged = Plugged(place=place)
        plugged.register()
        place.trouble = "cannot open wire"
        plugged.link.stop("unplugged", gone=True)
        assert place.unplugged()
        assert (place.trouble, place.ladder.deadline) == (None, NEVER)
    assert place.registrations.counted == 1
    assert place.status(0.0) == {"trouble": None, "refused": {}}


def test_pauses_between_steps_go_on_when_our_own_reset_unplugs():
    place = Place(reset_allowed=True)
    place.ladder.silent(0.0)
    place.ladder.step()
    place.ladder.silent(1.0)
    assert place.unplugged()
    assert (place.ladder.steps, place.ladder.deadline) == (1, NEVER)
