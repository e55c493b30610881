"""Frames and the splitter, against recorded bytes and against every way of cutting a stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodwe.protocol.frame import (
    NAMES,
    Frame,
    Splitter,
    checksum,
    either_way,
    frame,
    to_the_ap,
    to_the_inverter,
)

from .captures import ALL, raw

WHOLE = [name for name, capture in ALL.items() if capture["checksum_ok"]]
CUT_SHORT = ["udp-id-trunc-14", "udp-id-trunc-29", "udp-id-trunc-47", "udp-running-trunc-7", "unit-aa55-02"]
LOOK_ALIKES = [name for name, capture in ALL.items() if "look-alike" in capture["kind"]]

ANSWERS = st.builds(
    Frame,
    source=st.integers(0, 0x7F),
    destination=st.integers(0x80, 0xFF),
    control=st.integers(0, 3),
    function=st.integers(0, 255),
    data=st.binary(max_size=255),
)


def split(stream: bytes, accepts=either_way) -> list[Frame]:
    """The frames in a whole stream, nothing more to come."""
    splitter = Splitter(accepts)
    packets = splitter.feed(stream)
    while splitter.collecting:
        packets += splitter.expire()
    return [packet.frame for packet in packets]


@pytest.mark.parametrize("name", WHOLE)
def test_recorded_frame_is_found_and_encodes_to_the_same_bytes(name):
    (found,) = split(raw(name))
    decoded = ALL[name]["decoded"]
    assert found.source == int(decoded["src"], 16)
    assert found.destination == int(decoded["dst"], 16)
    assert found.kind == (int(decoded["ctrl"], 16), int(decoded["func"], 16))
    assert len(found.data) == decoded["len"]
    assert found.encode() in raw(name)


@pytest.mark.parametrize("name", WHOLE)
def test_recorded_frame_fed_byte_by_byte_is_the_same(name):
    splitter = Splitter(either_way)
    packets = [packet for byte in raw(name) for packet in splitter.feed(bytes([byte]))]
    assert [packet.frame for packet in packets] == split(raw(name))
    assert raw(name)[packets[0].offset :].startswith(b"\xaa\x55")


@pytest.mark.parametrize("name", CUT_SHORT)
def test_recorded_frame_cut_short_is_none_and_is_counted_when_it_expires(name):
    splitter = Splitter(either_way)
    assert splitter.feed(raw(name)) == []
    while splitter.collecting:  # one of them ends in an AA, which could be the next header's first byte
        assert splitter.expire() == []
    assert splitter.partial_frames >= 1


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_modbus_behind_aa55_is_never_a_frame(name):
    assert split(raw(name)) == []
    assert split(raw(name), to_the_ap) == []


def test_there_are_look_alikes_to_try():
    assert len(LOOK_ALIKES) >= 10


def test_wrong_checksum_is_counted():
    splitter = Splitter(either_way)
    assert splitter.feed(raw("rs485-ap-alloc-bad")) == []
    assert splitter.checksum_errors == 1


def test_header_bytes_inside_a_payload_are_data():
    # E-Total of 4360.5 kWh is 0000AA55 on the wire
    inside = Frame(0x0B, 0x80, 1, 0x81, bytes(24) + bytes.fromhex("0000aa55") + bytes(38))
    assert split(inside.encode()) == [inside]


def test_frame_after_a_false_header_with_a_wrong_checksum_is_found():
    good = Frame(0x0B, 0x80, 0, 0x81)
    false = bytes.fromhex("aa550b80018103010203ffff")
    assert split(false + good.encode()) == [good]


def test_frame_behind_a_false_header_that_promises_255_bytes_is_found_when_that_expires():
    good = Frame(0x0B, 0x80, 0, 0x81)
    splitter = Splitter()
    assert splitter.feed(bytes.fromhex("aa550b800181ff") + good.encode()) == []
    assert [packet.frame for packet in splitter.expire()] == [good]


def test_frame_inside_the_bytes_of_a_failed_one_is_found():
    good = Frame(0x0B, 0x80, 0, 0x81)
    # a length byte that was changed on the wire swallows the frame behind it
    broken = bytes.fromhex("aa550b8001810c0000") + good.encode() + bytes(3)
    assert split(broken, to_the_ap) == [good]


def test_doubled_first_header_byte_does_not_hide_a_frame():
    good = Frame(0x0B, 0x80, 0, 0x81)
    assert split(b"\xaa" + good.encode()) == [good]


@pytest.mark.parametrize("second", [n for n in range(256) if n != 0x55])
def test_header_byte_before_anything_else_is_no_header(second):
    stray = bytes([0xAA, second])
    query = frame("query_running_info", 0x80, 0x0B)
    splitter = Splitter(either_way)
    assert [packet.frame for packet in splitter.feed(stray + query.encode())] == [query]
    assert (splitter.checksum_errors, splitter.partial_frames, splitter.collecting) == (0, 0, False)
    # alone: given up as soon as the byte behind it shows that it is none
    assert splitter.feed(stray) == []
    assert splitter.collecting == (second == 0xAA)
    assert splitter.take_skipped() == (stray[:1] if second == 0xAA else stray)


def test_destination_without_bit_7_is_not_for_an_ap():
    ours = Frame(0x80, 0x0B, 1, 0x01)
    assert split(ours.encode(), to_the_ap) == []
    assert split(ours.encode(), to_the_inverter) == [ours]


def test_frame_of_255_bytes_of_data_is_a_frame():
    longest = Frame(0x0B, 0x80, 1, 0x81, bytes(range(255)))
    assert split(longest.encode(), to_the_ap) == [longest]


def test_skipped_bytes_are_told_with_the_frame_behind_them():
    good = Frame(0x0B, 0x80, 0, 0x81)
    splitter = Splitter()
    (packet,) = splitter.feed(b"\x01\x02" + good.encode() + b"\x03")
    assert packet.skipped == b"\x01\x02"
    assert packet.offset == 2
    assert splitter.take_skipped() == b"\x03"
    assert splitter.take_skipped() == b""


def test_expiring_nothing_counts_nothing():
    splitter = Splitter()
    assert splitter.expire() == []
    assert splitter.partial_frames == 0


def test_kinds_have_the_documents_names():
    assert frame("off_line_query", 0x80, 0x7F).encode() == bytes.fromhex("aa55807f00000001fe")
    assert all(frame(name, 1, 0x80).kind == kind for kind, name in NAMES.items())
    assert Frame(0x7F, 0xC0, 3, 0x9D, b"\x06").name == "unknown"
    assert str(frame("query_running_info", 0x80, 0x0B)) == "query_running_info 80>0b"


def test_checksum_of_the_recorded_query():
    assert checksum(bytes.fromhex("aa558011010100")) == bytes.fromhex("0192")


@given(ANSWERS)
def test_any_frame_survives_the_wire(any_frame):
    assert split(any_frame.encode(), to_the_ap) == [any_frame]


@given(st.lists(st.one_of(ANSWERS.map(Frame.encode), st.binary(max_size=40)), max_size=6), st.data())
def test_any_stream_cut_anywhere_gives_the_same_frames(pieces, draw):
    stream = b"".join(pieces)
    cuts = draw.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))
    splitter = Splitter()
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    packets = [packet for part in parts for packet in splitter.feed(part)]
    while splitter.collecting:
        packets += splitter.expire()
    assert [packet.frame for packet in packets] == split(stream, to_the_ap)
    frames = sum(len(packet.frame.encode()) for packet in packets)
    skipped = sum(len(packet.skipped) for packet in packets) + len(splitter.take_skipped())
    assert frames + skipped == len(stream)


@given(st.binary(max_size=2000))
def test_no_bytes_break_the_splitter_and_its_buffer_stays_small(garbage):
    splitter = Splitter(either_way)
    for byte in garbage:
        splitter.feed(bytes([byte]))
        assert len(splitter._buffer) < 9 + 255
