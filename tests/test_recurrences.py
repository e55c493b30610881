"""The log of an inverter that registers, or is not believed, again and again: a beginning, a count, an end."""

import errno
from collections import Counter
from types import SimpleNamespace

import pytest

from goodwe.link import Link
from goodwe.place import Place
from goodwe.protocol import fields
from goodwe.protocol.bus import Bus
from goodwe.protocol.frame import Frame, Splitter, frame, to_the_inverter
from goodwe.readings.ledger import Ledger
from goodwe.recurrences import AT_ONCE, DAY, QUIET_FOR, STAYS_FIRST, Recurrences

from .captures import data
from .fakes import Clock, Wire
from .test_ledger import Immediately

SERIAL = "15000DTU166W0157"
RUNNING = [
    fields.encode_running({**fields.decode_running(data("usb-running-66")), "vpv1": 300.0 + n}, 66)
    for n in range(10)
]
RUNNING_KEYS = [row.key for row in fields.RUNNING if row.key != fields.ERRORS]
LINES_EACH = 6
"""Found, online, offline; and where it was silent for long, does not answer, closed, opened."""


class Device:
    """The inverter's doings; subclasses do them badly. Times are seconds."""

    unplugs_every = float("inf")

    def __init__(self) -> None:
        self.address = 0x7F
        self.readings = 0

    def answer(self, query: Frame, now: float) -> bytes:
        if query.name == "off_line_query":
            return frame("register_request", 0x7F, 0x80, self.serial().encode()).encode()
        if query.name == "allocate_register_address":
            self.address = query.data[-1]
            return frame("address_confirm", self.address, 0x80).encode()
        if query.name == "query_running_info" and query.destination == self.address:
            self.readings += 1
            return frame("running_info", self.address, 0x80, RUNNING[self.readings % 10]).encode()
        return b""

    def serial(self) -> str:
        return SERIAL


class NeverConfirms(Device):
    def answer(self, query, now):
        return b"" if query.name == "allocate_register_address" else super().answer(query, now)


class NeverReads(Device):
    def answer(self, query, now):
        return b"" if query.name == "query_running_info" else super().answer(query, now)


class BadSum(Device):
    def answer(self, query, now):
        raw = super().answer(query, now)
        return raw[:-1] + bytes([raw[-1] ^ 1]) if query.name == "query_running_info" else raw


class SilentAfter(Device):
    """Gives some readings, then nothing for a while, then registers anew."""

    def __init__(self, readings: int, silence: float) -> None:
        super().__init__()
        self.most, self.silence, self.silent_until = readings, silence, 0.0

    def answer(self, query, now):
        if now < self.silent_until:
            return b""
        raw = super().answer(query, now)
        if self.readings >= self.most:
            self.readings, self.silent_until, self.address = 0, now + self.silence, 0x7F
        return raw


class AnotherEachTime(NeverReads):
    """Invents a serial for each registration."""

    count = 0

    def serial(self):
        self.count += 1
        return f"1{self.count % 10000:04}DTU166W0157"


class LooseContact(Device):
    unplugs_every = 40.0


class Odd(Device):
    """Gives these values in place of its own, which are good, as long as `odd` of readings and seconds."""

    def __init__(self, odd, **values) -> None:
        super().__init__()
        self.odd, self.values = odd, values

    def answer(self, query, now):
        raw = super().answer(query, now)
        if query.name != "query_running_info" or not raw or not self.odd(self.readings, now):
            return raw
        values = {**fields.decode_running(RUNNING[self.readings % 10]), **self.values}
        return frame("running_info", self.address, 0x80, fields.encode_running(values, 66)).encode()


class Home:
    """A link with its ledger at a device, on one clock that jumps from deadline to deadline."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.clock = Clock()
        self.place = Place(reset_allowed=True)
        self.published = Counter()
        self.ledger = Ledger(
            "",
            loop=SimpleNamespace(clock=self.clock, post=None),
            publish=lambda event: self.published.update([type(event).__name__]),
            wall_clock=lambda: 1.8e9 + self.clock(),
            clock_right=lambda: True,
            worker=Immediately(),
        )
        self.link = None
        self.answers = []
        self.plug()

    def plug(self) -> None:
        self.wire = Wire()
        self.wire.write = self.write
        self.answers = []
        self.unplugs_at = self.clock() + self.device.unplugs_every
        self.link = Link(
            self.wire,
            Bus(2.5),
            place=self.place,
            publish=self.ledger.handle,
            clock=self.clock,
            wall_clock=lambda: 1.8e9 + self.clock(),
            lost=lambda reason, traffic: None,
            ended=lambda link, reason: None,
        )
        self.link.open()

    def write(self, raw: bytes, failed) -> None:
        (packet,) = Splitter(to_the_inverter).feed(raw)
        answer = self.device.answer(packet.frame, self.clock())
        if answer:
            self.answers.append((self.clock() + 0.05, answer))

    def run(self, until: float) -> None:
        while self.clock.now < until:
            due = [self.link.deadline, self.ledger.deadline, self.unplugs_at, until]
            now = self.clock.now = max(self.clock.now, min([*due, *(at for at, _ in self.answers[:1])]))
            if now >= self.unplugs_at:
                self.wire.to_read.append(OSError(errno.EIO, "Input/output error"))
                self.link.ready(now)
                self.place.unplugged()
            while self.answers and self.answers[0][0] <= now:
                self.wire.to_read.append(self.answers.pop(0)[1])
                self.link.ready(now)
            if self.link.deadline <= now:
                self.link.tick(now)
            if self.ledger.deadline <= now:
                self.ledger.tick(now)
            if self.link.closed:
                self.clock.now += 1.0
                self.plug()


@pytest.mark.parametrize(
    "device",
    [
        NeverConfirms(),
        NeverReads(),
        BadSum(),
        SilentAfter(4, 30.0),
        SilentAfter(1, 150.0),
        SilentAfter(40, 30.0),
        SilentAfter(300, 30.0),
        AnotherEachTime(),
        LooseContact(),
    ],
    ids=lambda device: f"{type(device).__name__} {getattr(device, 'most', '')}",
)
def test_hours_of_an_inverter_that_registers_again_and_again_are_few_lines(device, caplog):
    caplog.set_level("INFO")
    home = Home(device)
    home.run(3 * 3600.0)
    # what a day adds to this: test_day_is_under_a_hundred_lines
    assert 5 < len(caplog.messages) <= LINES_EACH * AT_ONCE + 10, Counter(caplog.messages)
    assert sum("registers again and again" in message for message in caplog.messages) >= 1
    assert home.place.registrations.counted > 0
    if isinstance(device, NeverConfirms | NeverReads | BadSum | AnotherEachTime):
        assert home.published["Reading"] == home.published["Resting"] == 0
        assert sum("registers again and again" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("bad", [NeverConfirms, NeverReads, BadSum])
def test_end_of_registering_in_vain_is_told_once_with_its_count(bad, caplog):
    caplog.set_level("INFO")
    home = Home(bad())
    home.run(3600.0)
    counted = home.place.registrations.counted
    assert counted > 100
    caplog.clear()
    home.device = Device()
    home.run(3600.0 + 600.0)
    (line,) = [message for message in caplog.messages if "stays registered now" in message]
    assert SERIAL in line
    assert int(line.split()[-3]) >= counted
    assert len(caplog.messages) == 1, "and nothing else: what it did before is known"
    home.run(3 * 3600.0)
    assert len(caplog.messages) == 1


def test_usual_day_has_the_lines_that_people_look_for(caplog):
    caplog.set_level("INFO")
    home = Home(SilentAfter(100, 8 * 3600.0))
    home.run(3 * 8.05 * 3600.0)
    said = Counter(message.split(" offline")[0] for message in caplog.messages)
    assert said[f"New inverter found with serial id: {SERIAL}. Register address."] == 3
    assert said["Inverter now online."] == 3
    assert said["Marking inverter @ address 11"] == 3
    assert not any("again and again" in message for message in caplog.messages)


DOUBTFUL = {
    "one good reading a minute": (lambda reading, now: reading > 5 and reading % 28, {"pac": 60_000}),
    "two minutes good, two out of range": (lambda reading, now: now % 240.0 > 120.0, {"vac1": 5000.0}),
    "nothing but zeros for a minute": (lambda reading, now: now % 70.0 > 5.0, dict.fromkeys(RUNNING_KEYS, 0)),
    "E-Day to and fro": (lambda reading, now: now % 140.0 > 70.0, {"eDay": 50.0}),
    "E-Total to and fro": (lambda reading, now: now % 1400.0 > 700.0, {"eTotal": 9000.0}),
}


@pytest.mark.parametrize(("odd", "values"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_hours_of_an_inverter_that_is_hardly_believed_are_few_lines(odd, values, caplog):
    caplog.set_level("INFO")
    home = Home(Odd(odd, **values))
    home.run(6 * 3600.0)
    assert len(caplog.messages) <= AT_ONCE + 20, Counter(caplog.messages)
    assert home.published["Reading"] > 200
    if "E-Day" not in str(values):
        assert sum("offline" in message for message in caplog.messages) in (0, *range(AT_ONCE, AT_ONCE + 3))


def test_end_of_being_hardly_believed_is_told_once_with_its_count(caplog):
    caplog.set_level("INFO")
    odd, values = DOUBTFUL["one good reading a minute"]
    home = Home(Odd(odd, **values))
    home.run(3600.0)
    told = [message for message in caplog.messages if "offline" in message or "again and again" in message]
    assert told[:AT_ONCE] == ["Marking inverter @ address 11 offline (no believable reading)"] * AT_ONCE
    assert told[AT_ONCE:] == [f"{SERIAL} has no believable reading again and again; counted from now on"]
    times = home.published["Offline"] - AT_ONCE
    assert times > 30
    caplog.clear()
    home.device.odd = lambda reading, now: False
    home.run(3 * 3600.0)
    assert caplog.messages == [
        f"{SERIAL} gives believable readings now, after it counted as away {times} times"
    ]


def test_count_of_an_inverter_that_was_hardly_believed_yesterday_is_told_with_the_next_time(caplog):
    caplog.set_level("INFO")
    odd, values = DOUBTFUL["one good reading a minute"]
    home = Home(Odd(odd, **values))
    home.run(3600.0)
    home.device.odd = lambda reading, now: True
    home.run(6 * 3600.0)
    times = home.published["Offline"] - AT_ONCE
    home.device.odd = odd
    caplog.clear()
    home.run(6 * 3600.0 + 300.0)
    assert f"{SERIAL} counted as away {times} times more, until an hour ago" in caplog.messages


# by literal times


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize(
    "period", [2.0, 30.0, 61.0, 130.0, 600.0, 1000.0, 2000.0, 3599.0, 3601.0, 5000.0, 7200.0]
)
def test_day_is_under_a_hundred_lines(period, reads):
    registrations, lines, now = Recurrences(), 0, 0.0
    while now < DAY:
        begun = registrations.begins(now)
        lines += LINES_EACH * begun.told + begun.first_counted + bool(begun.counted_before)
        if reads:
            registrations.reading(now)
            lines += bool(registrations.reading(now + period - 1.0))
        now += period
    assert lines < 100


def begin(registrations: Recurrences, *times: float) -> list[bool]:
    return [registrations.begins(at).told for at in times]


def test_as_many_as_a_usual_day_has_are_told_then_they_are_counted():
    registrations = Recurrences()
    assert not registrations.any
    assert begin(registrations, *range(AT_ONCE)) == [True] * AT_ONCE
    first, second = registrations.begins(10.0), registrations.begins(20.0)
    assert (first.told, first.first_counted) == (False, True)
    assert (second.told, second.first_counted) == (False, False)
    assert (registrations.any, registrations.counted) == (True, 2)


def test_it_is_over_when_one_stays_and_its_count_is_given_once():
    registrations = Recurrences()
    begin(registrations, *range(AT_ONCE + 3))
    assert registrations.reading(10.0) == 0
    assert registrations.reading(10.0 + STAYS_FIRST - 0.1) == 0
    assert registrations.reading(10.0 + STAYS_FIRST) == 3
    assert registrations.reading(11.0 + STAYS_FIRST) == 0
    assert registrations.counted == 0


def test_time_with_readings_begins_anew_with_each_registration():
    registrations = Recurrences()
    begin(registrations, *range(AT_ONCE + 1))
    registrations.reading(10.0)
    begin(registrations, 60.0)
    assert registrations.reading(10.0 + STAYS_FIRST) == 0


def test_it_has_to_stay_for_longer_each_time_until_a_day_was_good():
    registrations = Recurrences()
    now = 0.0
    for stays in (60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0):
        while not registrations.begins(now := now + 1.0).first_counted:
            pass
        assert registrations.reading(now) == 0
        assert registrations.reading(now + stays - 0.1) == 0
        assert registrations.reading(now + stays) >= 1
        now += stays
    now += 2 * DAY
    begin(registrations, *(now + n for n in range(AT_ONCE + 1)))
    registrations.reading(now + 10.0)
    assert registrations.reading(now + 10.0 + STAYS_FIRST) == 1


def test_it_is_over_when_nothing_registered_for_an_hour():
    registrations = Recurrences()
    begin(registrations, *range(AT_ONCE + 5))
    at_dawn = AT_ONCE + 4 + 9 * QUIET_FOR
    assert registrations.begins(at_dawn) == (True, False, 5)
    assert registrations.counted == 0
