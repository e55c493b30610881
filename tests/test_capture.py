"""Captures: what the program tells of its wires to who captures them, and the verbs that write, play and count them."""

import random

import pytest

from goodwe.capture import MISSED, CaptureFeed, facts
from goodwe.traffic import Line, Tap, packed, unpacked

from .test_link import SERIAL, Plugged

# what the running program tells


def heard(tap: Tap) -> list[tuple[float, str, str, str]]:
    """All that a listener at the tap will hear."""
    lines = []
    tap.listeners.append(lambda *line: lines.append(line))
    return lines


def test_who_listens_hears_what_is_read_and_written_and_what_befalls_the_wire():
    tap = Tap()
    lines = heard(tap)
    plugged = Plugged(tap=tap)
    plugged.register()
    plugged.read()
    plugged.wire.write_error = OSError(5, "Input/output error")
    plugged.run(4.0)
    plugged.link.stop("the program ends", gone=True)
    assert {wire for _, wire, _, _ in lines} == {"wire"}
    assert [when for when, *_ in lines] == sorted(when for when, *_ in lines)
    assert lines[0] == (0.0, "wire", "!", "opened")
    assert lines[1] == (0.0, "wire", ">", "aa55800b000200018c (remove_register)")
    assert next(text for _, _, mark, text in lines if mark == "<").startswith("aa557f800080")
    notes = [text for _, _, mark, text in lines if mark == "!"]
    assert notes[0:2] == ["opened", f"online {SERIAL} at address 11"]
    assert notes[2] == "write failed: Input/output error"
    assert notes[-2:] == [f"offline {SERIAL}: the program ends", "closed: the program ends"]


def test_nobody_listening_costs_no_line():
    plugged = Plugged(tap=Tap())
    plugged.register()
    plugged.read()
    assert plugged.published


def test_note_has_one_line_whatever_an_inverter_calls_itself():
    tap = Tap()
    lines = heard(tap)
    tap.note(1.0, "wire", "online 1500\n(1.0) wire < ff\x1b[2J at address 11")
    assert lines == [(1.0, "wire", "!", "online 1500?(1.0) wire < ff?[2J at address 11")]


def test_line_of_the_feed_has_the_time_of_day():
    taken = []
    CaptureFeed(lambda line: taken.append(line) or True, 1_764_125_400.0)(0.25, "/dev/hidraw0", "<", "00aa")
    assert taken == ["(1764125400.250000) /dev/hidraw0 < 00aa"]


def test_what_is_not_taken_is_counted_and_told_in_front_of_the_next_line():
    taken, room = [], []

    def take(line):
        if not room:
            return False
        room.pop()
        taken.append(line)
        return True

    feed = CaptureFeed(take, 0.0)
    for n in range(3):
        feed(float(n), "wire", "<", f"0{n}")
    room.extend([1])
    feed(3.0, "wire", "<", "03")
    assert taken == [f"(3.000000) wire ! 3 {MISSED}"], "there was room for that alone"
    room.extend([1, 1])
    feed(4.0, "wire", "<", "04")
    assert taken[1:] == [f"(4.000000) wire ! 1 {MISSED}", "(4.000000) wire < 04"]


def test_facts_name_each_wire_and_who_is_on_it():
    status = {
        "links": [
            {"name": "/dev/hidraw0", "bus": {"inverters": {SERIAL: {}}}},
            {"name": "/dev/hidraw1", "bus": {"inverters": {}}},
        ],
        "inverters": {SERIAL: {"model": "GW-SIM"}},
    }
    told = facts(12.5, status)
    assert (told["version"], told["began_epoch"]) == (1, 12.5)
    assert told["wires"] == ["/dev/hidraw0", "/dev/hidraw1"]
    assert told["inverters"] == [{"serial": SERIAL, "model": "GW-SIM", "wire": "/dev/hidraw0"}]


# the minute before a loss, kept


def test_minute_before_a_loss_is_kept_whole_and_small():
    chance = random.Random(1)
    lines, now = [], 1000.0
    for _ in range(
        24
    ):  # a minute at the usual rate: a query, an answer of 11 reports, with the jitter of a loop
        lines.append(Line(now, ">", bytes.fromhex("aa55800b010100018c")))
        now += 0.05 + chance.random() / 500
        for _ in range(11):
            lines.append(Line(now, "<", chance.randbytes(4) + bytes(4)))
            now += 0.01 + chance.random() / 500
        now += 2.3
    kept = packed(lines, now)
    assert len(kept) < 5000
    again = unpacked(kept)
    assert [line[1:] for line in again] == [line[1:] for line in lines]
    assert [line.when for line in again] == pytest.approx([line.when - now for line in lines], abs=1e-6)
    assert unpacked(packed([], now)) == []
