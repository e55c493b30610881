"""The inverter's end: its state machine with literal times, the roof, the habits of the real device."""

from random import Random

import pytest

from goodwe.protocol import fields
from goodwe.protocol.frame import ACCEPTED, Frame, Splitter, frame
from goodwe.protocol.simulator import REFUSED, Day, Habits, Inverter, Port

from .captures import raw

SERIAL = "1006KDTU13500023"
NOON = 12 * 3600.0
ALWAYS = {"lose": 1.0}


def to(name: str, destination: int, data: bytes = b"") -> Frame:
    return frame(name, 0x80, destination, data)


def allocation(serial: str = SERIAL, address: int = 0x0B) -> Frame:
    return to("allocate_register_address", 0x7F, serial.encode() + bytes([address]))


def measure():
    return {"pac": 1520, "eTotal": 9220.4}


def registered() -> Inverter:
    inverter = Inverter(SERIAL, length=66)
    inverter.answer(to("off_line_query", 0x7F), 0.0, measure)
    assert inverter.answer(allocation(), 0.1, measure) == frame("address_confirm", 0x0B, 0x80)
    return inverter


def port(inverter: Inverter | None = None, **habits) -> Port:
    return Port(inverter or registered(), lambda now: measure(), Habits(**habits), Random(1))


def wrapped(query: Frame) -> bytes:
    raw_query = query.encode()
    return b"\x00\xcc\x99" + bytes([len(raw_query)]) + raw_query


def heard(stream: bytes) -> list[Frame]:
    return [packet.frame for packet in Splitter().feed(stream)]


# the state machine


def test_only_an_unregistered_inverter_answers_the_off_line_query():
    inverter = Inverter(SERIAL, length=66)
    request = inverter.answer(to("off_line_query", 0x7F), 0.0, measure)
    assert request == frame("register_request", 0x7F, 0x80, SERIAL.encode())
    assert registered().answer(to("off_line_query", 0x7F), 1.0, measure) is None


def test_allocation_for_another_serial_is_not_ours():
    inverter = Inverter(SERIAL, length=66)
    inverter.answer(to("off_line_query", 0x7F), 0.0, measure)
    assert inverter.answer(allocation("15000DTU166W0157"), 0.1, measure) is None
    assert not inverter.registered


def test_query_is_answered_only_when_registered_and_only_at_its_address():
    inverter = registered()
    reading = inverter.answer(to("query_running_info", 0x0B), 1.0, measure)
    assert fields.decode_running(reading.data)["pac"] == 1520
    assert inverter.answer(to("query_running_info", 0x0C), 1.0, measure) is None
    assert Inverter(SERIAL, length=66).answer(to("query_running_info", 0x7F), 1.0, measure) is None


def test_id_and_setting_info_are_answered():
    inverter = registered()
    identity = fields.decode_id(inverter.answer(to("query_id_info", 0x0B), 1.0, measure).data)
    assert identity["serial"] == SERIAL
    setting = fields.decode_setting(inverter.answer(to("query_setting_info", 0x0B), 1.0, measure).data)
    assert setting["vacMax"] == 264.5


def test_unknown_function_is_not_answered():
    assert registered().answer(Frame(0x80, 0x0B, 1, 0x09), 1.0, measure) is None


def test_remove_is_confirmed_and_makes_it_unregistered():
    inverter = registered()
    assert inverter.answer(to("remove_register", 0x0B), 1.0, measure) == frame("remove_confirm", 0x0B, 0x80)
    assert inverter.answer(to("off_line_query", 0x7F), 1.1, measure) is not None


def test_registration_ends_after_ten_minutes_without_an_instruction():
    inverter = registered()
    assert inverter.answer(to("query_running_info", 0x0B), 600.0, measure) is not None
    assert inverter.answer(to("query_running_info", 0x0B), 1200.0, measure) is None
    assert inverter.answer(to("off_line_query", 0x7F), 1200.1, measure) is not None


def test_lost_register_request_costs_serial_modulo_15_queries():
    inverter = Inverter("1006KDTU00000023", length=66)
    answers = [inverter.answer(to("off_line_query", 0x7F), n, measure) is not None for n in range(20)]
    # 23 % 15 = 8 queries are ignored, then 23 // 15 % 15 = 1
    assert answers[:13] == [True, *[False] * 8, True, False, True, True]


# the roof


def test_energy_is_the_sum_of_the_power():
    day = Day(1, seed=5)
    joules = sum(float(day.values(float(second))["pac"]) for second in range(0, 86400, 60)) * 60
    assert float(day.values(86399.0)["eDay"]) == pytest.approx(joules / 3.6e6, abs=0.1)


def test_total_grows_by_what_the_day_gave():
    day = Day(3, seed=5)
    before, after = day.values(86400 * 3.0 + 5 * 3600), day.values(86400 * 3.0 + 21 * 3600)
    assert float(after["eTotal"]) - float(before["eTotal"]) == pytest.approx(float(after["eDay"]), abs=0.11)


def test_total_never_falls_in_a_week():
    day = Day(1, seed=2)
    totals = [float(day.values(hour * 1800.0)["eTotal"]) for hour in range(2 * 24 * 7)]
    assert totals == sorted(totals)


def test_e_day_shows_yesterday_until_it_wakes():
    day = Day(1)
    evening = day.values(21 * 3600.0)["eDay"]
    assert day.values(86400 + 5 * 3600.0)["eDay"] == evening
    assert day.values(86400 + 6 * 3600.0)["eDay"] == 0.0


def test_same_seed_same_day_and_another_seed_another():
    assert Day(1, seed=3).values(NOON) == Day(1, seed=3).values(NOON)
    assert Day(1, seed=3).values(NOON) != Day(1, seed=4).values(NOON)


@pytest.mark.parametrize(("phases", "length"), [(1, 46), (1, 60), (3, 66), (1, 130)])
def test_values_of_a_day_survive_the_wire(phases, length):
    day = Day(phases)
    for hour in range(24):
        values = day.values(hour * 3600.0)
        decoded = fields.decode_running(fields.encode_running(values, length))
        assert {key: decoded[key] for key in values} == values


def test_there_is_no_light_at_night():
    assert [Day(1).is_light(hour * 3600.0) for hour in (5, 6, 19, 20, 30)] == [False, True, True, False, True]


# the port


def test_answer_comes_in_reports_of_eight_bytes_at_their_time():
    quiet = port(delay=0.05, leading_zeros=False, stale_tail=False)
    quiet.write(wrapped(to("query_running_info", 0x0B)), 10.0)
    assert quiet.reports(10.04) == []
    assert quiet.deadline == 10.05
    reports = []
    while quiet.deadline < float("inf"):
        reports += quiet.reports(quiet.deadline)
    assert len(reports) == 10  # 75 bytes
    assert {len(report) for report in reports} == {8}
    assert [one.name for one in heard(b"".join(reports))] == ["running_info"]


def test_stale_tail_is_the_recorded_one():
    inverter = Inverter(SERIAL, length=66)
    inverter.answer(to("off_line_query", 0x7F), 0.0, measure)
    habitual = port(inverter, delay=0.0, report_interval=0.0)
    habitual.write(wrapped(allocation(address=0x11)), 1.0)
    stream = b"".join(habitual.reports(1.0)).lstrip(b"\0")
    recorded = raw("usb-confirm-stale-tail").lstrip(b"\0")
    assert stream.rstrip(b"\0") == recorded.rstrip(b"\0")


def test_leading_zeros_are_three_or_four_and_sometimes_a_report_more():
    habitual = port(delay=0.0, report_interval=0.0, stale_tail=False)
    counts = set()
    for n in range(200):
        habitual.write(wrapped(to("query_running_info", 0x0B)), float(n))
        stream = b"".join(habitual.reports(float(n)))
        counts.add(len(stream) - len(stream.lstrip(b"\0")))
    assert counts == {3, 4, 11, 12}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00",
        to("query_running_info", 0x0B).encode(),
        wrapped(to("query_running_info", 0x0B))[1:],
        b"\x00\xcc\x99\x0a" + to("query_running_info", 0x0B).encode(),
        b"\x00\xcc\x99\x09" + to("query_running_info", 0x0B).encode()[:-1] + b"\xff",
    ],
    ids=["nothing", "number only", "no envelope", "no report number", "wrong length", "wrong checksum"],
)
def test_write_that_is_not_a_report_number_and_an_envelope_is_ignored(message):
    strict = port(delay=0.0)
    strict.write(message, 1.0)
    assert strict.reports(100.0) == []
    assert sum(strict.ignored.values()) == 1


def test_padded_write_is_taken():
    padded = port(delay=0.0, report_interval=0.0)
    padded.write(wrapped(to("query_running_info", 0x0B)).ljust(73, b"\0"), 1.0)
    assert heard(b"".join(padded.reports(1.0)))


def test_lost_query_gives_no_answer():
    lossy = port(**ALWAYS)
    lossy.write(wrapped(to("query_running_info", 0x0B)), 1.0)
    assert lossy.reports(100.0) == []


def test_corrupted_answer_has_a_wrong_byte():
    corrupt = port(corrupt=1.0, delay=0.0, report_interval=0.0, stale_tail=False)
    for n in range(100):
        corrupt.write(wrapped(to("query_running_info", 0x0B)), float(n))
        stream = b"".join(corrupt.reports(float(n)))
        assert heard(stream) == []
        assert stream.strip(b"\0")


def test_garbage_stands_in_front_of_the_answer():
    noisy = port(garbage=1.0, delay=0.0, report_interval=0.0)
    noisy.write(wrapped(to("query_running_info", 0x0B)), 1.0)
    stream = b"".join(noisy.reports(1.0))
    assert any(stream[:8])
    assert len(heard(stream)) == 1


def test_unplugging_forgets_what_was_not_sent():
    pulled = port()
    pulled.write(wrapped(to("query_running_info", 0x0B)), 1.0)
    pulled.unplug()
    assert pulled.deadline == float("inf")


def test_answers_do_not_mix():
    busy = port(delay=0.0, report_interval=0.01)
    busy.write(wrapped(to("query_running_info", 0x0B)), 1.0)
    busy.write(wrapped(to("query_id_info", 0x0B)), 1.02)
    assert [one.name for one in heard(b"".join(busy.reports(100.0)))] == ["running_info", "id_info"]


def test_plain_has_no_habits():
    plain = Port(
        registered(),
        lambda now: measure(),
        Habits(leading_zeros=False, stale_tail=False, delay=0.0, report_interval=0.0),
        Random(1),
    )
    plain.write(wrapped(to("query_running_info", 0x0B)), 1.0)
    assert b"".join(plain.reports(1.0)).startswith(b"\xaa\x55")


# what it is told (PROTOCOL 7)


SUNNY = {"pac": 4000, "eTotal": 100.0, "eDay": 10.0, "iac1": 17.4, "ipv1": 10.0, "workMode": 1, "vac1": 230.0}


def told(inverter: Inverter, name: str, data: bytes = b"") -> bytes | None:
    answer = inverter.answer(to(name, 0x0B, data), 1.0, measure)
    if answer is None:
        return None
    assert answer.kind == (3, to(name, 0x0B).function + 0x80)
    return answer.data


def measured(inverter: Inverter, **changes) -> dict:
    answer = inverter.answer(to("query_running_info", 0x0B), 1.0, lambda: {**SUNNY, **changes})
    return fields.decode_running(answer.data)


def rated() -> Inverter:
    """One of 5000 W, registered."""
    inverter = Inverter("15000SIM268W0001", length=46)
    inverter.answer(to("off_line_query", 0x7F), 0.0, measure)
    inverter.answer(allocation("15000SIM268W0001"), 0.1, measure)
    return inverter


def test_limit_is_a_share_of_the_rated_power_and_nothing_else_changes():
    inverter = rated()
    assert measured(inverter)["pac"] == 4000
    assert told(inverter, "limit_power", b"\x32") == ACCEPTED
    values = measured(inverter)
    assert (values["pac"], values["iac1"], values["ipv1"]) == (2500, 10.9, 6.2)
    assert (values["vac1"], values["workMode"]) == (230.0, 1)
    assert told(inverter, "limit_power", b"\x64") == ACCEPTED
    assert measured(inverter)["pac"] == 4000


def test_stopped_it_feeds_nothing_until_it_is_started():
    inverter = rated()
    assert told(inverter, "stop_inverter") == ACCEPTED
    assert (measured(inverter)["pac"], measured(inverter)["workMode"]) == (0, 0)
    assert told(inverter, "start_inverter") == ACCEPTED
    assert measured(inverter)["pac"] == 4000


def test_counters_do_not_count_what_was_not_fed():
    inverter = rated()
    measured(inverter)
    told(inverter, "limit_power", b"\x28")  # 2000 W, half of what the roof gives
    values = measured(inverter, eTotal=102.0, eDay=12.0)
    assert (values["eTotal"], values["eDay"]) == (101.0, 11.0)
    told(inverter, "limit_power", b"\x64")
    assert measured(inverter, eTotal=103.0, eDay=13.0)["eTotal"] == 102.0
    assert measured(inverter, eTotal=103.0, eDay=0.0)["eDay"] == 0.0
    assert measured(inverter, eTotal=104.0, eDay=1.0)["eDay"] == 1.0, "a new day has lost nothing yet"


@pytest.mark.parametrize("data", [b"\x65", b"", b"\x10\x10"])
def test_limit_that_makes_no_sense_is_refused(data):
    assert rated().answer(to("limit_power", 0x0B, data), 1.0, measure).data == REFUSED


def test_answer_of_another_inverter_is_no_instruction():
    assert rated().answer(to("limit_power_answer", 0x0B), 1.0, measure) is None


def test_unregistered_inverter_obeys_nobody():
    assert Inverter(SERIAL, length=66).answer(to("stop_inverter", 0x7F), 0.0, measure) is None


def test_restart_ends_every_limit():
    inverter = rated()
    told(inverter, "stop_inverter")
    inverter.forget()
    inverter.answer(to("off_line_query", 0x7F), 2.0, measure)
    inverter.answer(allocation("15000SIM268W0001"), 2.1, measure)
    assert measured(inverter)["pac"] == 4000


def test_boot_of_a_limited_inverter_is_all_zero():
    inverter = rated()
    told(inverter, "limit_power", b"\x0a")
    assert inverter.answer(to("query_running_info", 0x0B), 1.0, dict).data == bytes(46)
