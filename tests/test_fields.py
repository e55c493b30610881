"""The rows, against the tables of PROTOCOL 5 and 6 and recorded payloads."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodwe.errors import FieldError
from goodwe.protocol import fields

from .captures import ALL, GOLDEN_JSON, data

# PROTOCOL 5.1, the columns 1p and 3p, copied by hand; -1: not in the answer
OFFSETS = {
    "vpv1": (0, 0), "vpv2": (2, 2), "ipv1": (4, 4), "ipv2": (6, 6),
    "vac1": (8, 8), "vac2": (-1, 10), "vac3": (-1, 12),
    "iac1": (10, 14), "iac2": (-1, 16), "iac3": (-1, 18),
    "fac1": (12, 20), "fac2": (-1, 22), "fac3": (-1, 24),
    "pac": (14, 26), "workMode": (16, 28), "temp": (18, 30), "errorMessage": (20, 32),
    "eTotal": (24, 36), "hTotal": (28, 40), "tempFault": (32, 44), "pv1Fault": (34, 46),
    "pv2Fault": (36, 48), "line1VFault": (38, 50), "line2VFault": (-1, 52), "line3VFault": (-1, 54),
    "line1FFault": (40, 56), "line2FFault": (-1, 58), "line3FFault": (-1, 60),
    "gcfiFault": (42, 62), "eDay": (44, 64),
}  # fmt: skip

# Made by hand from the tables, as PROTOCOL 10 says: no capture of 46 bytes is public.
XS_CUT_TO_46 = bytes.fromhex(
    "06ae000000080000094d0005138c0089000100f10000000000007a9000001bfc141f0000019501400edd00060000"
)


def offsets(phases: int) -> dict[str, int]:
    """Key to byte offset, by adding up the words in front of it."""
    rows = fields.sent_rows(fields.RUNNING, phases)
    return {row.key: 2 * sum(before.words for before in rows[:at]) for at, row in enumerate(rows)}


@pytest.mark.parametrize(("phases", "column", "length"), [(1, 0, 46), (3, 1, 66)])
def test_rows_stand_where_the_document_says(phases, column, length):
    assert offsets(phases) == {key: both[column] for key, both in OFFSETS.items() if both[column] >= 0}
    assert fields.phases(length) == phases
    assert fields.codec(length).length == length


def test_position_is_the_word_in_the_three_phase_answer():
    assert all(2 * row.position == OFFSETS[row.key][1] for row in fields.RUNNING)


def test_recorded_three_phase_reading_is_what_the_older_program_printed():
    golden = json.loads(GOLDEN_JSON)["runningInfo"]
    del golden["function"], golden["timestamp"]
    values = fields.decode_running(data("usb-running-66"))
    assert values == golden
    assert {key: type(value) for key, value in values.items()} == {k: type(v) for k, v in golden.items()}


def test_recorded_hybrid_reading_has_negative_power():
    values = fields.decode_running(data("rs485-running-130"))
    assert values["pac"] == -133
    assert values["vac1"] == 236.8
    assert values["eTotal"] == 650.0
    assert values["vac2"] == 0.0


def test_recorded_reading_with_a_tail_is_single_phase():
    values = fields.decode_running(data("xs-running-60"))
    assert (values["vpv1"], values["pac"], values["eTotal"], values["hTotal"]) == (171.0, 137, 3137.6, 7164)
    assert fields.decode_running(XS_CUT_TO_46) == values


@pytest.mark.parametrize("length", [*range(46, 66), *range(67, 256)])
def test_every_other_length_from_46_up_is_single_phase(length):
    padded = XS_CUT_TO_46.ljust(length, b"\xee")
    values = fields.decode_running(padded)
    assert values == fields.decode_running(XS_CUT_TO_46)


@pytest.mark.parametrize("length", range(46))
def test_reading_below_46_bytes_is_refused(length):
    with pytest.raises(FieldError, match="running info too short"):
        fields.decode_running(XS_CUT_TO_46[:length])


@pytest.mark.parametrize("length", [46, 60, 66, 130])
def test_all_zero_reading_is_refused(length):
    with pytest.raises(FieldError, match="all-zero reading"):
        fields.decode_running(bytes(length))


def test_all_zero_reading_with_a_clock_in_its_tail_is_refused():
    with pytest.raises(FieldError, match="all-zero reading"):
        fields.decode_running(bytes(46) + b"\x1a\x0b\x17\x06\x00\x00" + bytes(8))


@pytest.mark.parametrize("length", [46, 66, 130])
def test_every_raw_word_survives_decode_and_encode(length):
    rows = [row for row in fields.sent_rows(fields.RUNNING, fields.phases(length)) if row.words == 1]
    places = offsets(fields.phases(length))
    payload = bytearray(fields.encode_running({"hTotal": 1}, length))
    for raw in range(65536):
        word = raw.to_bytes(2, "big")
        for row in rows:
            payload[places[row.key] : places[row.key] + 2] = word
        values = fields.decode_running(bytes(payload))
        again = fields.encode_running(values, length)
        for row in rows:
            absent = raw in row.absent or (row.key == "temp" and raw == 0xFFFF)
            expected = b"\0\0" if absent else word
            assert again[places[row.key] : places[row.key] + 2] == expected, (row.key, raw)
    assert max(len(str(raw / 100)) for raw in range(65536)) <= 6  # two decimals at most are printed


def test_clock_in_the_tail_of_an_answer():
    assert fields.decode_clock(data("xs-running-60")) == "2024-01-30T10:29:05"
    assert fields.decode_clock(data("rs485-running-130")) == "2020-04-04T02:48:12"
    assert fields.decode_clock(data("usb-running-66")) == ""
    assert fields.decode_clock(bytes(60)) == ""


def test_single_phase_publishes_zero_for_the_other_phases():
    values = fields.decode_running(XS_CUT_TO_46)
    assert {values[row.key] for row in fields.RUNNING if row.three_phase} == {0.0}
    assert set(values) == {row.key for row in fields.RUNNING}


def test_temperature_below_zero_is_negative():
    # the older program printed 6548.6 for -5.0
    payload = fields.encode_running({"temp": -5.0, "hTotal": 1}, 46)
    assert payload[18:20] == bytes.fromhex("ffce")
    assert fields.decode_running(payload)["temp"] == -5.0


@pytest.mark.parametrize("raw", ["ffff", "7fff"])
def test_temperature_without_a_sensor_is_zero(raw):
    payload = bytearray(XS_CUT_TO_46)
    payload[18:20] = bytes.fromhex(raw)
    assert fields.decode_running(bytes(payload))["temp"] == 0.0


def test_string_that_is_not_fitted_is_zero():
    payload = bytearray(XS_CUT_TO_46)
    payload[2:4] = payload[6:8] = b"\xff\xff"
    values = fields.decode_running(bytes(payload))
    assert (values["vpv2"], values["ipv2"]) == (0.0, 0.0)


def test_power_of_a_large_three_phase_inverter_is_not_negative():
    assert fields.decode_running(fields.encode_running({"pac": 50_000}, 66))["pac"] == 50_000


def test_error_bits_count_from_the_last_byte():
    # PROTOCOL 6.2: bit 0 is the least significant bit of the L word; 9 is utility loss
    payload = bytearray(XS_CUT_TO_46)
    payload[20:24] = bytes.fromhex("80000201")
    values = fields.decode_running(bytes(payload))
    assert values["errorMessage"] == [0, 9, 31]
    assert fields.encode_running(values, 46)[20:24] == bytes.fromhex("80000201")
    assert fields.ERROR_BITS[9] == "utility loss"


def test_bits_without_a_meaning_in_any_document_have_no_row():
    assert set(range(32)) - set(fields.ERROR_BITS) == {26, 24, 21, 5, 2}


@given(st.integers(0, 2**32 - 1))
def test_any_error_word_survives(raw):
    payload = fields.encode_running({"errorMessage": fields.set_bits(raw), "hTotal": 1}, 46)
    assert int.from_bytes(payload[20:24], "big") == raw


@given(st.binary(max_size=255))
def test_no_payload_breaks_a_decoder(payload):
    for decode in (fields.decode_running, fields.decode_id, fields.decode_setting, fields.decode_serial):
        with contextlib.suppress(FieldError):
            assert decode(payload)


def test_recorded_id_of_77_bytes():
    values = fields.decode_id(data("udp-id-77-sbp-c"))
    assert values == {
        "firmwareVersion": "1010C",
        "modelName": "GW5000S-BP",
        "manufacturer": "#10",
        "serial": "95000BPS223W0182",
        "nominalVpv": "3600",
        "internalVersion": "410-04001-10",
        "secondInternalVersion": "410-02034-16",
        "safetyCountry": 9,
    }


def test_recorded_id_with_blank_texts():
    values = fields.decode_id(data("xs-id-64"))
    assert (values["modelName"], values["firmwareVersion"], values["safetyCountry"]) == ("GW1500-XS", "", 6)


def test_recorded_id_with_binary_texts():
    values = fields.decode_id(data("sample-gw6000-es-20_device_info"))
    assert len(data("sample-gw6000-es-20_device_info")) == 76
    assert (values["firmwareVersion"], values["modelName"], values["serial"]) == ("", "", "56000ESN00AW0000")


def test_every_recorded_id_has_the_serial_that_its_author_read():
    names = [name for name, capture in ALL.items() if capture["kind"] == "ID info"]
    assert len(names) >= 6
    for name in names:
        assert len(str(fields.decode_id(data(name))["serial"])) == 16


@pytest.mark.parametrize("length", [64, 76, 77])
def test_id_survives_encode_and_decode(length):
    values = fields.decode_id(data("udp-id-77-sbp-c"))
    again = fields.decode_id(fields.encode_id(values, length))
    if length != 77:
        del values["secondInternalVersion"]
    assert again == values


def test_setting_info_made_from_the_table():
    # by hand from PROTOCOL 5.6; no capture is public
    payload = bytes.fromhex("04b0 003c 07a8 0a55 128e 141e")
    values = fields.decode_setting(payload)
    assert values == {
        "vpvStart": 120.0, "tStart": 60, "vacMin": 196.0, "vacMax": 264.5, "facMin": 47.5, "facMax": 51.5,
    }  # fmt: skip
    assert fields.encode_setting(values) == payload


@pytest.mark.parametrize("decode", [fields.decode_id, fields.decode_setting])
def test_short_payload_is_refused(decode):
    with pytest.raises(FieldError, match="too short"):
        decode(bytes(11))


@pytest.mark.parametrize(
    ("code", "country"),
    [
        *((0, "Italy"), (69, "Cyprus"), (70, "Australia"), (73, "Australia, Victoria"), (129, "Estonia")),
        *((74, ""), (128, ""), (130, ""), (255, "")),
    ],
)
def test_safety_country_in_words_to_the_ends_of_the_table(code, country):
    assert fields.safety_country(code) == country
    told = fields.decode_id(fields.encode_id({"safetyCountry": code}))
    assert told["safetyCountry"] == code


def test_serial_of_nothing_but_blanks_is_refused():
    with pytest.raises(FieldError, match="nothing but blanks"):
        fields.decode_serial(b" " * 16)


@pytest.mark.parametrize(
    "serial", ["15000DTU166W01  ", " 5000DTU166W0157", "15000DTU 66W0157", " " * 15 + "7"]
)
def test_blanks_of_a_serial_stay(serial):
    assert fields.decode_serial(serial.encode()) == serial


@pytest.mark.parametrize("serial", ["1006KDTU13500023", "15000DTU166W0157", "51500SSX211W0413"])
def test_real_serials_are_taken(serial):
    assert fields.decode_serial(serial.encode()) == serial


@pytest.mark.parametrize("character", ["+", "#", "/", "\0", "\n", "\x7f", "\xe9"])
def test_serial_that_cannot_be_a_topic_is_refused(character):
    with pytest.raises(FieldError, match="a topic cannot hold"):
        fields.decode_serial(f"15000DTU{character}66W0157".encode("latin-1"))


@pytest.mark.parametrize("length", [0, 15, 17])
def test_serial_of_another_length_is_refused(length):
    with pytest.raises(FieldError, match="wrong length"):
        fields.decode_serial(b"1" * length)
