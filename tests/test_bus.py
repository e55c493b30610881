"""The AP's end of a wire: whole conversations with literal times."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodwe.events import (
    Answer,
    Entered,
    Found,
    Offline,
    Online,
    Reading,
    Refused,
    Reply,
    Send,
    Unanswered,
)
from goodwe.protocol import bus as bus_module
from goodwe.protocol import fields
from goodwe.protocol.bus import FIRST_ADDRESS, LAST_ADDRESS, REMEMBERED, BusState
from goodwe.protocol.bus import Bus as RealBus
from goodwe.protocol.frame import Frame, frame

from .captures import data, raw

SERIAL = "15000DTU166W0157"
OTHER = "53600DSN201W0051"
RUNNING = data("usb-running-66")


def TOLD(outcome) -> None:
    """Who asked; the bus hands it back and never calls it."""


def answered(*answer: object) -> Reply:
    return Reply(TOLD, Answer(*answer))


def unanswered(*question: str) -> Reply:
    return Reply(TOLD, Unanswered(*question))


class Bus(RealBus):
    """The bus, with the states that it enters in a list of their own."""

    def __init__(self, interval: float, *, capacity: int = 1) -> None:
        super().__init__(interval, capacity=capacity)
        self.entered = []

    def start(self, now):
        return self._apart(super().start(now))

    def receive(self, data, now):
        return self._apart(super().receive(data, now))

    def tick(self, now):
        return self._apart(super().tick(now))

    def register(self, serial, now):
        return self._apart(super().register(serial, now))

    def stop(self, now, reason):
        return self._apart(super().stop(now, reason))

    def _apart(self, events):
        states = [BusState(event.state) for event in events if isinstance(event, Entered)]
        assert states[-1:] in ([], [self._state])
        self.entered += states
        return [event for event in events if not isinstance(event, Entered)]


def sent(name: str, destination: int, payload: bytes = b"") -> Send:
    return Send(frame(name, 0x80, destination, payload))


def answer(name: str, source: int, payload: bytes = b"", destination: int = 0x80) -> bytes:
    return frame(name, source, destination, payload).encode()


def allocate(serial: str, address: int) -> Send:
    return sent("allocate_register_address", 0x7F, serial.encode() + bytes([address]))


REMOVE_OURS = sent("remove_register", 0x0B)
REMOVE_VENDORS = sent("remove_register", 0x11)
REMOVE_UNREGISTERED = sent("remove_register", 0x7F)
OFF_LINE_QUERY = sent("off_line_query", 0x7F)
QUERY = sent("query_running_info", 0x0B)
REGISTER_REQUEST = answer("register_request", 0x7F, SERIAL.encode())
CONFIRM = answer("address_confirm", 0x0B)
READING = answer("running_info", 0x0B, RUNNING)


def run_until(bus: Bus, end: float) -> list[tuple[float, object]]:
    """Tick at each deadline up to `end`; what happened, with its time."""
    happened = []
    while bus.deadline <= end + 1e-6:  # 0.1 + 0.1 + 0.1 is a little more than 0.3
        now = bus.deadline
        events = bus.tick(now)
        happened += [(round(now, 3), event) for event in events]
        assert events or bus.deadline > now, "a deadline must lead somewhere"
    return happened


def searching() -> Bus:
    """A bus that has just sent its first off-line query, at 0.3 s."""
    bus = Bus(2.5)
    bus.start(0.0)
    run_until(bus, 0.3)
    return bus


def registered() -> Bus:
    """A bus whose inverter has confirmed its address, at 0.4 s."""
    bus = searching()
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    return bus


def online() -> Bus:
    """A bus that got its first reading at 0.9 s; queries at 0.85, 3.35, 5.85, ..."""
    bus = registered()
    assert run_until(bus, 0.85) == [(0.85, QUERY)]
    bus.receive(READING, 0.9)
    return bus


def test_from_plugged_in_to_the_first_reading():
    bus = Bus(2.5)
    assert bus.start(0.0) == [REMOVE_OURS]
    assert run_until(bus, 0.3) == [(0.1, REMOVE_VENDORS), (0.2, REMOVE_UNREGISTERED), (0.3, OFF_LINE_QUERY)]
    assert bus.receive(REGISTER_REQUEST, 0.35) == [Found(SERIAL, 11), allocate(SERIAL, 11)]
    assert bus.receive(CONFIRM, 0.4) == [Online(SERIAL, 11)]
    assert run_until(bus, 0.85) == [(0.85, QUERY)]
    (reading,) = bus.receive(READING, 0.9)
    assert reading == Reading(SERIAL, 11, 3, fields.decode_running(RUNNING))
    assert run_until(bus, 3.35) == [(3.35, QUERY)]


def test_recorded_usb_streams_with_zeros_and_stale_tails_are_understood():
    bus = Bus(2.5)
    bus.start(0.0)
    run_until(bus, 0.3)
    serial = "1006KDTU13500023"
    assert bus.receive(raw("usb-register-request"), 0.35) == [Found(serial, 11), allocate(serial, 11)]
    # recorded with the vendor's address 0x11, so the confirm is another inverter's to us
    refused, tail = bus.receive(raw("usb-confirm-stale-tail"), 0.4)
    assert "address_confirm 11>80" in tail.detail
    assert refused.reason == "bytes outside a frame"  # of an allocate that we did not send


def test_stale_tail_of_our_own_report_is_not_garbage():
    bus = searching()
    bus.receive(REGISTER_REQUEST, 0.35)
    report = bytes.fromhex("cc991a") + allocate(SERIAL, 11).frame.encode()
    assert bus.receive(bytes(4) + CONFIRM + report[9:] + bytes(8), 0.4) == [Online(SERIAL, 11)]


def test_readings_come_at_the_rate_asked_for_without_drift():
    bus = online()
    queries = []
    for _ in range(100):
        now = bus.deadline
        assert bus.tick(now) == [QUERY]
        queries.append(now)
        bus.receive(READING, now + 0.137)
    assert queries == pytest.approx([3.35 + 2.5 * n for n in range(100)])


def one_round(first: float) -> list[tuple[float, Send]]:
    """A query that is not answered, from its first try on."""
    order = (QUERY, OFF_LINE_QUERY, QUERY, QUERY, QUERY)
    return [(pytest.approx(first + n * 0.5), event) for n, event in enumerate(order)]


def test_unanswered_query_is_sent_three_times_more_half_a_second_apart():
    bus = online()
    # behind the first try the off-line query, in case that the inverter has restarted
    assert run_until(bus, 5.5) == one_round(3.35)


def test_after_three_rounds_it_is_offline_and_all_begins_again():
    bus = online()
    happened = run_until(bus, 11.5)
    offline = Offline(SERIAL, 11, "no answer")
    assert [try_ for first in (3.35, 5.85, 8.35) for try_ in one_round(first)] == happened[:15]
    assert happened[15:17] == [(10.85, offline), (10.85, REMOVE_OURS)]
    assert [event for _, event in happened[17:]] == [REMOVE_VENDORS, REMOVE_UNREGISTERED, OFF_LINE_QUERY]
    assert bus.receive(REGISTER_REQUEST, 11.5)[0] == Found(SERIAL, 11)


@pytest.mark.parametrize("interval", [0.5, 1.0, 2.5])
def test_inverter_that_restarts_at_once_is_read_again_within_four_seconds(interval):
    for n in range(50):
        restarted = 20.0 + n * interval / 50
        at = read_again_after_a_restart(interval, restarted)
        assert at - restarted < interval + 1.2 < 4.0


def read_again_after_a_restart(interval: float, restarted: float) -> float:
    """When the first reading comes from an inverter that has lost its registration, and nothing else."""
    bus = Bus(interval)
    registered, heard, readings, to_restart = False, [], [], [restarted]
    bus.start(0.0)
    while not readings or readings[-1] <= restarted:
        now = min([bus.deadline, *(at for at, _ in heard)])
        if to_restart and now >= restarted:
            to_restart.clear()
            registered = False
        arrived = [data for at, data in heard if at <= now]
        heard = [(at, data) for at, data in heard if at > now]
        events = [event for data in arrived for event in bus.receive(data, now)] or bus.tick(now)
        for event in events:
            if isinstance(event, Reading):
                readings.append(now)
            elif event == OFF_LINE_QUERY and not registered:
                heard.append((now + 0.1, REGISTER_REQUEST))
            elif event == allocate(SERIAL, 11):
                registered = True
                heard.append((now + 0.1, CONFIRM))
            elif event == QUERY and registered:
                heard.append((now + 0.1, READING))
    return readings[-1]


def test_request_for_an_address_that_comes_after_the_next_try_counts():
    bus = online()
    run_until(bus, 4.35)
    offline, found, allocated = bus.receive(REGISTER_REQUEST, 4.4)
    assert offline == Offline(SERIAL, 11, "it asks for an address again")
    assert (found, allocated) == (Found(SERIAL, 11), allocate(SERIAL, 11))


def test_answer_that_comes_after_the_off_line_query_counts():
    bus = online()
    assert run_until(bus, 3.85)[-1] == (3.85, OFF_LINE_QUERY)
    assert [type(event) for event in bus.receive(READING, 3.9)] == [Reading]
    assert run_until(bus, 5.85) == [(5.85, QUERY)]


def test_silence_is_known_soon_at_a_long_poll_interval_too():
    bus = Bus(300.0)
    bus.start(0.0)
    run_until(bus, 0.3)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    run_until(bus, 0.85)
    bus.receive(READING, 0.9)
    happened = run_until(bus, 330.0)
    assert [try_ for first in (300.85, 305.35, 309.85) for try_ in one_round(first)] == happened[:15]
    assert (pytest.approx(312.35), Offline(SERIAL, 11, "no answer")) == happened[15]


def test_inverter_whose_next_reading_is_wanted_soon_is_asked_after_the_gap():
    bus = online()
    bus.poll(SERIAL)
    assert run_until(bus, 1.35) == [(1.35, QUERY)]
    bus.receive(READING, 1.4)
    assert run_until(bus, 3.85) == [(3.85, QUERY)]


def test_nobody_is_asked_again_who_is_not_there():
    bus = searching()
    bus.poll(SERIAL)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.poll(SERIAL)
    assert run_until(bus, 0.85) == [(0.85, allocate(SERIAL, 11))]


def test_registered_inverter_that_asks_again_was_offline_in_between():
    bus = online()
    (offline, *rest) = bus.receive(REGISTER_REQUEST, 1.0)
    assert offline == Offline(SERIAL, 11, "it asks for an address again")
    assert rest == [Found(SERIAL, 11), allocate(SERIAL, 11)]
    assert bus.receive(CONFIRM, 1.1) == [Online(SERIAL, 11)]


def test_an_answer_in_the_last_round_is_enough_to_stay():
    bus = online()
    run_until(bus, 9.9)
    assert [type(event) for event in bus.receive(READING, 10.0)] == [Reading]
    assert all(event in (QUERY, OFF_LINE_QUERY) for _, event in run_until(bus, 18.3))


def test_late_answer_to_a_repeated_query_counts_once():
    bus = online()
    run_until(bus, 3.85)
    assert [type(event) for event in bus.receive(READING, 3.95)] == [Reading]
    (refused,) = bus.receive(READING, 4.45)
    assert refused.reason == "frame that nobody asked for"


def test_answer_that_is_still_coming_is_waited_for():
    bus = online()
    run_until(bus, 3.35)
    bus.receive(READING[:40], 3.80)
    assert run_until(bus, 4.1) == []
    assert [type(event) for event in bus.receive(READING[40:], 4.1)] == [Reading]


def test_answer_that_never_ends_is_not_waited_for_longer_than_two_seconds():
    bus = online()
    run_until(bus, 3.35)
    # a false header that promises 255 bytes, then a byte now and then
    bus.receive(bytes.fromhex("aa550b800181ff"), 3.4)
    now = 3.4
    repeated = []
    while not repeated:
        now += 0.3
        assert now < 5.7
        bus.receive(b"\x01", now)
        repeated = [event for event in bus.tick(now) if event == OFF_LINE_QUERY]
    assert now >= 5.35


def test_answer_behind_a_false_header_is_found_before_the_query_is_repeated():
    bus = online()
    run_until(bus, 3.35)
    assert bus.receive(bytes.fromhex("aa550b800181ff") + READING, 3.4) == []
    happened = [event for _, event in run_until(bus, 3.95)]
    assert [type(event) for event in happened] == [Refused, Reading]
    assert happened[0].reason == "frame without an end"


def test_partial_frame_is_dropped_a_second_after_its_last_byte():
    bus = online()
    assert bus.receive(READING[:30], 1.0) == []
    (event,) = [event for _, event in run_until(bus, 2.0)]
    assert event.reason == "frame without an end"
    run_until(bus, 3.35)
    assert [type(event) for event in bus.receive(READING, 3.4)] == [Reading]


def test_lost_confirmation_is_asked_for_three_times_more_then_all_begins_again():
    bus = searching()
    bus.receive(REGISTER_REQUEST, 0.35)
    happened = run_until(bus, 2.4)
    again = allocate(SERIAL, 11)
    assert happened == [(0.85, again), (1.35, again), (1.85, again), (2.35, REMOVE_OURS)]


def test_silent_wire_is_asked_every_second_then_every_ten():
    bus = Bus(2.5)
    bus.start(0.0)
    queries = [at for at, event in run_until(bus, 300.0) if event == OFF_LINE_QUERY]
    assert queries[:4] == pytest.approx([0.3, 1.0, 2.0, 3.0])
    assert sum(at < 60 for at in queries) == 60
    late = [at for at in queries if at > 130]
    pauses = [b - a for a, b in itertools.pairwise(late)]
    # once a minute the removes come first, which takes 0.3 s
    assert pauses == pytest.approx([10.0] * (len(late) - 1), abs=0.31)


def test_silent_wire_is_swept_once_after_a_minute():
    bus = Bus(2.5)
    bus.start(0.0)
    happened = run_until(bus, 3600.0)
    usual = (0x0B, 0x11, 0x7F)
    sweep = [
        (at, event.frame.destination)
        for at, event in happened
        if event.frame.name == "remove_register"
        and (event.frame.destination not in usual or 60 <= at < 72.55)
    ]
    assert [address for _, address in sweep] == list(range(1, 127))
    assert 60.0 <= sweep[0][0] < 61.0
    assert sweep[-1][0] - sweep[0][0] == pytest.approx(12.5)


def test_each_silence_is_swept_once():
    bus = online()
    happened = run_until(bus, 3600.0)
    lost = next(at for at, event in happened if isinstance(event, Offline))
    assert lost == pytest.approx(10.85)
    bus.receive(REGISTER_REQUEST, 3600.0)
    bus.receive(CONFIRM, 3600.1)
    run_until(bus, 3600.6)
    bus.receive(READING, 3600.7)
    happened += run_until(bus, 7200.0)
    # 42 hex is removed by no other step
    sweeps = [at for at, event in happened if event == sent("remove_register", 0x42)]
    second = next(at for at, event in happened if isinstance(event, Offline) and at > 3600.0)
    assert [pytest.approx(lost + 66.5, abs=2.0), pytest.approx(second + 66.5, abs=2.0)] == sweeps


def test_usual_removes_are_repeated_while_it_stays_silent():
    # they get lost as well, and an inverter that counts itself registered hears nothing else
    bus = Bus(2.5)
    bus.start(0.0)
    removes = [at for at, event in run_until(bus, 3600.0) if event == REMOVE_VENDORS]
    assert removes[:4] == pytest.approx([0.1, 5.1, 10.1, 15.1])
    assert removes[-1] - removes[-2] == pytest.approx(60.0)


def test_inverter_that_answers_during_the_sweep_is_registered_at_once():
    bus = Bus(2.5)
    bus.start(0.0)
    run_until(bus, 62.0)
    assert bus.receive(REGISTER_REQUEST, 62.0) == [Found(SERIAL, 11), allocate(SERIAL, 11)]
    assert bus.receive(CONFIRM, 62.1) == [Online(SERIAL, 11)]
    assert run_until(bus, 63.0)[0] == (62.5, QUERY)


def test_queries_are_never_closer_than_half_a_second():
    bus = Bus(0.5)
    bus.start(0.0)
    times = []
    now = 0.0
    while now < 60.0:
        now = bus.deadline
        for event in bus.tick(now):
            if isinstance(event, Send) and event.frame.name in ("off_line_query", "query_running_info"):
                times.append(now)
                reply = REGISTER_REQUEST if event == OFF_LINE_QUERY else READING
                for follow in bus.receive(reply, now + 0.01):
                    if isinstance(follow, Send):
                        bus.receive(CONFIRM, now + 0.02)
    assert len(times) > 100
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.5 - 1e-9


def test_suspended_machine_does_not_catch_up():
    bus = online()
    assert bus.tick(1000.0) == [QUERY]
    bus.receive(READING, 1000.1)
    assert run_until(bus, 1002.9) == [(1002.5, QUERY)]


# the states


def test_states_of_a_usual_day():
    bus = Bus(2.5)
    assert bus.status(0.0)["state"] == "idle"
    bus.start(0.0)
    run_until(bus, 0.3)
    assert bus.entered == [BusState.CLEARING, BusState.SEARCHING]
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    assert bus.entered[2:] == [BusState.ALLOCATED, BusState.REGISTERED]
    run_until(bus, 0.85)
    bus.receive(READING, 0.9)
    run_until(bus, 11.2)
    assert bus.entered[4:] == [BusState.CLEARING, BusState.SEARCHING]
    bus.stop(11.2, "unplugged")
    assert bus.entered[6:] == [BusState.IDLE]


def test_states_of_an_address_that_is_never_confirmed():
    bus = searching()
    bus.receive(REGISTER_REQUEST, 0.35)
    run_until(bus, 3.0)
    assert bus.entered[2:] == [BusState.ALLOCATED, BusState.CLEARING, BusState.SEARCHING]


def test_wire_with_room_for_more_goes_on_searching():
    bus = Bus(2.5, capacity=2)
    bus.start(0.0)
    run_until(bus, 0.3)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    assert bus.entered[-2:] == [BusState.ALLOCATED, BusState.SEARCHING]
    assert bus.status(0.4)["inverters"][SERIAL]["state"] == "registered"


def test_status_is_plain_and_tells_all():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=1.0, answered=TOLD)
    assert bus.status(1.2) == {
        "state": "registered",
        "state_seconds": pytest.approx(0.8),
        "capacity": 1,
        "searching_seconds": None,
        "inverters": {
            SERIAL: {
                "address": 11,
                "state": "registered",
                "missed_rounds": 0,
                "questions": ["query_id_info"],
            }
        },
        "checksum_errors": 0,
        "partial_frames": 0,
    }
    assert searching().status(5.3)["searching_seconds"] == pytest.approx(5.3)


def test_diagram_has_the_words_of_the_states():
    diagram = re.findall(r"^    (\w+) {2,}\w|^    (\w+) \w", bus_module.__doc__, re.M)
    assert [first or second for first, second in diagram] == [state.value for state in BusState]


# what does not count


@pytest.mark.parametrize(
    ("reason", "bytes_"),
    [
        ("frame for another AP", answer("running_info", 0x0B, RUNNING, destination=0xC0)),
        ("frame that nobody asked for", answer("running_info", 0x0C, RUNNING)),
        ("frame that nobody asked for", answer("id_info", 0x0B, bytes(64))),
        ("frame that nobody asked for", answer("address_confirm", 0x0B)),
        ("frame that nobody asked for", REGISTER_REQUEST),
        ("frame that nobody asked for", Frame(0x7F, 0x80, 3, 0x9D, b"\x06").encode()),
        ("running info too short", answer("running_info", 0x0B, RUNNING[:45])),
        ("wrong checksum", READING[:-1] + bytes([READING[-1] ^ 1])),
        ("bytes outside a frame", b"\x13\x37garbage"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_query_goes_on(reason, bytes_):
    bus = online()
    run_until(bus, 3.35)
    (refused,) = bus.receive(bytes_, 3.4)
    assert (type(refused), refused.reason) == (Refused, reason)
    assert [type(event) for event in bus.receive(READING, 3.45)] == [Reading]


@pytest.mark.parametrize("name", ["udp-modbus-ms", "udp-modbus-dns", "sample-gw8k-dt_running_data"])
def test_modbus_look_alike_is_garbage(name):
    bus = online()
    run_until(bus, 3.35)
    happened = bus.receive(raw(name), 3.4)
    assert {type(event) for event in happened} == {Refused}
    run_until(bus, 5.3)
    assert Reading in {type(event) for event in bus.receive(READING, 5.35)}


def test_all_zero_reading_is_refused_but_shows_that_the_inverter_is_there():
    bus = online()
    for n in range(20):
        run_until(bus, 3.35 + 2.5 * n)
        (refused,) = bus.receive(answer("running_info", 0x0B, bytes(66)), 3.4 + 2.5 * n)
        assert refused.reason == "all-zero reading"
    run_until(bus, 3.35 + 2.5 * 20)
    assert [type(event) for event in bus.receive(READING, 53.4)] == [Reading]


@pytest.mark.parametrize("serial", [b"15000DTU+66W0157", b"15000DTU/66W0157", b"15000DTU\x0066W0157"])
def test_serial_that_cannot_be_a_topic_gets_no_address(serial):
    bus = searching()
    (refused,) = bus.receive(answer("register_request", 0x7F, serial), 0.35)
    assert refused.reason == "serial with characters that a topic cannot hold"
    assert [event for _, event in run_until(bus, 1.4)] == [OFF_LINE_QUERY]


def test_register_request_of_15_bytes_gets_no_address():
    (refused,) = searching().receive(answer("register_request", 0x7F, SERIAL.encode()[:15]), 0.35)
    assert refused.reason == "serial of the wrong length"


def test_header_inside_a_reading_is_data():
    # E-Total of 4360.5 kWh is 0000AA55 on the wire; the older program lost such a reading
    bus = online()
    run_until(bus, 3.35)
    values = {**fields.decode_running(RUNNING), "eTotal": 4360.5}
    (reading,) = bus.receive(answer("running_info", 0x0B, fields.encode_running(values, 66)), 3.4)
    assert reading.values["eTotal"] == 4360.5


def test_reading_of_255_bytes_is_read():
    bus = online()
    run_until(bus, 3.35)
    (reading,) = bus.receive(answer("running_info", 0x0B, RUNNING.ljust(255, b"\1")), 3.4)
    assert reading.inverter_type == 1


# the end


def test_stop_removes_the_address_and_says_offline():
    bus = online()
    assert bus.stop(2.0, "unplugged") == [REMOVE_OURS, Offline(SERIAL, 11, "unplugged")]
    assert bus.deadline == float("inf")
    assert bus.tick(100.0) == []


def test_stop_before_anything_was_found_says_nothing():
    assert searching().stop(1.0, "unplugged") == []


def test_stop_before_the_confirmation_is_no_offline():
    bus = searching()
    bus.receive(REGISTER_REQUEST, 0.35)
    assert bus.stop(0.4, "unplugged") == [REMOVE_OURS]


# other questions


QUERY_ID = sent("query_id_info", 0x0B)
LIMIT = sent("limit_power", 0x0B, b"\x32")
ID_INFO = answer("id_info", 0x0B, bytes(64))


def test_question_is_asked_in_the_pause_after_a_reading_and_delays_none():
    bus = online()
    assert bus.ask(SERIAL, "query_id_info", now=1.0, answered=TOLD)
    assert run_until(bus, 1.35) == [(1.35, QUERY_ID)]
    assert bus.receive(ID_INFO, 1.4) == [answered(SERIAL, "query_id_info", bytes(64))]
    assert run_until(bus, 3.35) == [(3.35, QUERY)]


def test_question_waits_for_a_pause_that_is_long_enough():
    bus = online()
    # 3.35 is the next query: what is asked later than 2.85 could make it late
    assert bus.ask(SERIAL, "query_id_info", now=2.9, answered=TOLD)
    assert run_until(bus, 3.35) == [(3.35, QUERY)]
    bus.receive(READING, 3.4)
    assert run_until(bus, 3.85) == [(3.85, QUERY_ID)]


def test_tick_that_is_late_leaves_the_question_for_the_next_pause():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=1.0, answered=TOLD)
    assert bus.tick(3.0) == []
    assert run_until(bus, 3.35) == [(3.35, QUERY)]


def test_question_is_never_asked_where_readings_leave_no_pause():
    bus = Bus(0.5)
    bus.start(0.0)
    run_until(bus, 0.3)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    bus.ask(SERIAL, "query_id_info", now=0.5, answered=TOLD)
    now = 0.5
    while now < 30.0:
        now = bus.deadline
        assert bus.tick(now) == [QUERY]
        bus.receive(READING, now + 0.1)


@pytest.mark.parametrize("late", [0.0, 0.0002, 0.001, 0.02])
@pytest.mark.parametrize("interval", [1.0, 1.001, 1.5, 2.5])
def test_question_finds_its_pause_though_the_loop_is_never_on_time(interval, late):
    # a loop that sleeps in whole milliseconds comes a little after each deadline
    bus = Bus(interval)
    bus.start(0.0)
    run_until(bus, 0.3)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    bus.ask(SERIAL, "query_id_info", now=0.5, answered=TOLD)
    bus.ask(SERIAL, "query_setting_info", now=0.5, answered=TOLD)
    now, answers, queries = 0.5, [], []
    while now < 20.0:
        now = bus.deadline + late
        for event in bus.tick(now):
            if event == QUERY:
                queries.append(now)
                bus.receive(READING, now + 0.2)
            elif event == QUERY_ID:
                answers += bus.receive(ID_INFO, now + 0.2)
    assert answers == [answered(SERIAL, "query_id_info", bytes(64))]
    # the second one is never answered: even so no reading is lost, and none is late by more than a blink
    assert len(queries) >= int(19.0 / interval)
    grid = [queries[0] + n * interval for n in range(len(queries))]
    assert max(at - due for at, due in zip(queries, grid, strict=True)) < 0.2


def test_question_that_is_not_answered_is_asked_in_three_pauses_and_given_up():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=1.0, answered=TOLD)
    happened = [
        (1.35, QUERY_ID),
        (1.85, QUERY_ID),
        (2.35, QUERY_ID),
        (2.85, unanswered(SERIAL, "query_id_info")),
    ]
    assert run_until(bus, 3.35) == [*happened, (3.35, QUERY)]


def test_answer_that_comes_slowly_gives_way_to_the_reading():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=2.8, answered=TOLD)
    assert run_until(bus, 2.8) == [(2.8, QUERY_ID)]
    bus.receive(ID_INFO[:40], 3.25)
    happened = run_until(bus, 3.35)
    assert happened[-1] == (3.35, QUERY)


def test_answer_that_comes_after_the_next_query_counts():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=2.8, answered=TOLD)
    assert run_until(bus, 3.35) == [(2.8, QUERY_ID), (3.35, QUERY)]
    assert bus.receive(ID_INFO, 3.4) == [answered(SERIAL, "query_id_info", bytes(64))]
    assert [type(event) for event in bus.receive(READING, 3.45)] == [Reading]


def test_urgent_question_takes_the_next_turn():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=3.3, answered=TOLD)
    bus.ask(SERIAL, "limit_power", b"\x32", now=3.3, urgent=True, answered=TOLD)
    assert run_until(bus, 3.3) == [(3.3, LIMIT)]
    assert bus.receive(answer("limit_power_answer", 0x0B, b"\x06"), 3.35) == [
        answered(SERIAL, "limit_power", b"\x06")
    ]
    assert run_until(bus, 3.8) == [(3.8, QUERY)]


def test_urgent_question_beside_one_under_way_confuses_neither():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=1.0, answered=TOLD)
    run_until(bus, 1.35)
    bus.ask(SERIAL, "limit_power", b"\x32", now=1.4, urgent=True, answered=TOLD)
    assert run_until(bus, 1.85) == [(1.85, LIMIT)]
    assert bus.receive(ID_INFO, 1.9) == [answered(SERIAL, "query_id_info", bytes(64))]
    assert bus.receive(answer("limit_power_answer", 0x0B, b"\x15"), 1.95) == [
        answered(SERIAL, "limit_power", b"\x15")
    ]
    assert run_until(bus, 3.35) == [(3.35, QUERY)]


def test_urgent_question_of_an_inverter_that_goes_is_unanswered():
    bus = online()
    bus.ask(SERIAL, "query_id_info", now=1.0, answered=TOLD)
    bus.ask(SERIAL, "limit_power", b"\x32", now=1.0, urgent=True, answered=TOLD)
    assert bus.stop(1.1, "unplugged") == [
        REMOVE_OURS,
        unanswered(SERIAL, "limit_power"),
        Offline(SERIAL, 11, "unplugged"),
    ]


def test_question_to_nobody_is_not_taken():
    bus = searching()
    assert not bus.ask(SERIAL, "query_id_info", now=0.4, answered=TOLD)
    bus.receive(REGISTER_REQUEST, 0.35)
    assert not bus.ask(SERIAL, "query_id_info", now=0.4, answered=TOLD)
    assert not registered().ask(OTHER, "query_id_info", now=0.5, answered=TOLD)


def test_inverter_that_is_to_register_again_does():
    bus = online()
    assert bus.register(OTHER, 1.0) == []
    offline = Offline(SERIAL, 11, "to be registered again")
    assert bus.register(SERIAL, 1.0) == [offline, REMOVE_OURS]
    assert bus.register(SERIAL, 1.0) == []
    run_until(bus, 1.4)
    assert bus.receive(REGISTER_REQUEST, 1.4)[0] == Found(SERIAL, 11)


# a bus with several


def test_two_inverters_on_one_wire_get_an_address_each_and_are_queried_in_turn():
    bus = Bus(2.5, capacity=2)
    bus.start(0.0)
    run_until(bus, 0.3)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    first = [event for _, event in run_until(bus, 1.0)]
    assert OFF_LINE_QUERY in first or QUERY in first
    now = 1.0
    online_at = {}
    readings = {11: 0, 12: 0}
    while now < 30.0:
        now = bus.deadline
        for event in bus.tick(now):
            if event == OFF_LINE_QUERY and OTHER not in online_at:
                request = answer("register_request", 0x7F, OTHER.encode())
                assert bus.receive(request, now + 0.05) == [Found(OTHER, 12), allocate(OTHER, 12)]
                assert bus.receive(answer("address_confirm", 12), now + 0.1) == [Online(OTHER, 12)]
                online_at[OTHER] = now
            elif event.frame.name == "query_running_info":
                address = event.frame.destination
                (reading,) = bus.receive(answer("running_info", address, RUNNING), now + 0.1)
                assert reading.serial == {11: SERIAL, 12: OTHER}[address]
                readings[address] += 1
    assert min(readings.values()) >= 10


def test_third_inverter_on_a_full_wire_is_refused():
    bus = registered()
    (refused,) = bus.receive(answer("register_request", 0x7F, OTHER.encode()), 0.45)
    assert refused.reason == "register request on a full wire"


def test_lost_inverter_gets_its_old_address_and_the_other_goes_on():
    bus = Bus(2.5, capacity=2)
    bus.start(0.0)
    run_until(bus, 0.3)
    bus.receive(REGISTER_REQUEST, 0.35)
    bus.receive(CONFIRM, 0.4)
    alive, lost = 0, []
    registered_other = False
    now = 0.4
    while now < 40.0:
        now = bus.deadline
        for event in bus.tick(now):
            if isinstance(event, Offline):
                lost.append(event)
            elif event == OFF_LINE_QUERY and not registered_other:
                bus.receive(answer("register_request", 0x7F, OTHER.encode()), now + 0.05)
                bus.receive(answer("address_confirm", 12), now + 0.1)
                registered_other = True
            elif event == QUERY:
                bus.receive(READING, now + 0.1)
                alive += 1
    assert [(event.serial, event.address) for event in lost] == [(OTHER, 12)]
    assert alive > 10
    bus.tick(now)
    while bus.tick(now := bus.deadline) != [OFF_LINE_QUERY]:
        pass
    request = answer("register_request", 0x7F, OTHER.encode())
    assert bus.receive(request, now + 0.05)[0] == Found(OTHER, 12)


def test_addresses_avoid_the_vendors():
    bus = Bus(2.5, capacity=16)
    given_out = {bus._address_of(str(n)) for n in range(16)}
    assert len(given_out) == 16
    assert 0x11 not in given_out


def test_wire_that_has_seen_more_serials_than_there_are_addresses():
    bus = Bus(2.5)
    given_out = [bus._address_of(str(n)) for n in range(500)]
    assert all(FIRST_ADDRESS <= address <= LAST_ADDRESS for address in given_out)
    assert bus._address_of("499") == given_out[-1], "it keeps its own"
    assert len(set(bus._addresses.values())) == len(bus._addresses)


def test_longest_wire_gives_each_inverter_an_address_of_its_own():
    # 0B to 7E without the vendor's: 7F is where an inverter without an address listens
    bus = Bus(2.5, capacity=LAST_ADDRESS - FIRST_ADDRESS)
    given_out = {}
    for n in range(LAST_ADDRESS - FIRST_ADDRESS):
        bus._registrations[str(n)] = None
        given_out[str(n)] = bus._address_of(str(n))
    assert sorted(given_out.values()) == [a for a in range(0x0B, 0x7F) if a != 0x11]
    assert {serial: bus._address_of(serial) for serial in given_out} == given_out


def test_device_that_invents_a_serial_each_time_makes_no_search_longer():
    bus = searching()
    now = 0.35
    for n in range(300):
        serial = f"1{n:04}DTU166W0157"
        found, allocated = bus.receive(answer("register_request", 0x7F, serial.encode()), now)
        assert found == Found(serial, allocated.frame.data[-1])
        removes = []
        while (event := bus.tick(bus.deadline)[-1]) != OFF_LINE_QUERY:
            removes += [event] if event.frame.name == "remove_register" else []
        assert 3 <= len(removes) <= REMEMBERED + 2
        now = bus.deadline - 0.4
    assert len(bus._addresses) == REMEMBERED


def test_inverter_keeps_its_address_while_few_others_come():
    bus = Bus(2.5)
    address = bus._address_of(SERIAL)
    for n in range(REMEMBERED - 1):
        bus._address_of(str(n))
    assert bus._address_of(SERIAL) == address
    for n in range(REMEMBERED - 1):
        bus._address_of(str(100 + n))
    assert bus._address_of(SERIAL) == address, "seen lately, it is not the one that is forgotten"


# anything at all


@given(st.lists(st.tuples(st.binary(max_size=60), st.floats(0.0, 3.0)), max_size=40))
def test_no_bytes_and_no_timing_break_it_or_stop_it(steps):
    bus = Bus(2.5)
    now = 0.0
    bus.start(now)
    for noise, pause in steps:
        end = now + pause
        run_until(bus, end)
        now = end
        for event in bus.receive(noise, now):
            assert not isinstance(event, Reading)
    run_until(bus, now + 12.0)
    assert bus.deadline < float("inf"), "no state without an exit"
