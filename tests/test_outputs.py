"""One output's trouble is its own; the JSON is the predecessor's."""

import json
import math
import re
import time
from datetime import datetime

import pytest

from goodwe.events import Offline, Reading, Resting
from goodwe.outputs import Fanout
from goodwe.outputs.mqtt.payload import data_json, iso_time, milliseconds
from goodwe.protocol import fields, texts

from .captures import GOLDEN_JSON, data

EVENT = Offline("15000DTU166W0157", 11, "no answer")


class Recorder:
    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.events = []
        self.stopped = False

    def handle(self, event):
        if self.broken:
            raise ZeroDivisionError("a defect")
        self.events.append(event)

    def stop(self, now):
        self.stopped = True


def test_broken_output_does_not_keep_the_event_from_the_others(caplog):
    broken, good = Recorder(broken=True), Recorder()
    fanout = Fanout([broken, good])
    for _ in range(3):
        fanout.handle(EVENT)
    assert good.events == [EVENT] * 3
    assert [message for message in caplog.messages if "failed" in message] == [
        "Recorder failed; later failures are counted only"
    ]
    assert "ZeroDivisionError" in caplog.text
    fanout.stop(0.0)
    assert caplog.messages[-1] == "Recorder failed 3 times"


def test_fanout_has_stopped_when_all_have():
    slow, quick = Recorder(), Recorder()
    fanout = Fanout([slow, quick])
    quick.stopped = True
    assert not fanout.stopped
    fanout.stop(0.0)
    assert fanout.stopped


def reading(name: str, when: float = 0.0) -> Reading:
    payload = data(name)
    return Reading("1006KDTU13500023", 11, fields.phases(len(payload)), fields.decode_running(payload), when)


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_words_are_additional_and_change_no_line_of_the_others(language):
    plain = data_json(reading("usb-running-66")).splitlines()
    with_words = data_json(reading("usb-running-66"), language=language).splitlines()
    running = json.loads("\n".join(with_words))["runningInfo"]
    added = {key: running.pop(key) for key in ("workModeText", "errorText", "faultWords")}
    assert running == json.loads("\n".join(plain))["runningInfo"]
    assert added["workModeText"] == texts.work_mode(1, language)
    assert (added["errorText"], added["faultWords"]) == ([], [0] * 10)


def test_fault_words_are_what_the_inverter_sent():
    message = json.loads(data_json(reading("xs-running-60"), language="en"))
    words = message["runningInfo"]["faultWords"]
    assert [words[0], words[2], words[3], words[6]] == [0x141F, 0x0195, 0x0140, 0x0EDD]  # PROTOCOL 5.3


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_every_code_has_a_text_of_its_own_in_every_language(language):
    errors = [texts.error(bit, language) for bit in fields.ERROR_BITS]
    modes = [texts.work_mode(number, language) for number in fields.WORK_MODES]
    assert all(errors + modes)
    assert len(set(errors)) == len(errors)
    assert len(set(modes)) == len(modes)


def test_code_that_nobody_knows_keeps_its_number():
    assert texts.work_mode(7, "de") == "7"
    assert texts.error(26, "pt") == "bit 26"


def test_json_of_the_recorded_reading_is_byte_for_byte_the_predecessors():
    golden = json.loads(GOLDEN_JSON)
    moment = time.strptime(golden["runningInfo"]["timestamp"], "%Y%m%d%H%M%S")
    assert data_json(reading("usb-running-66", golden["lastSeen"] / 1000), lambda when: moment) == GOLDEN_JSON


def test_what_is_added_collides_with_no_key_of_the_predecessor():
    plain = json.loads(data_json(reading("usb-running-66", 1.7e9), time.gmtime))
    message = shown(reading("usb-running-66", 1.7e9))
    assert message.keys() - plain.keys() == {"time"}
    assert {key: message[key] for key in plain.keys() - {"runningInfo"}} == {
        key: plain[key] for key in plain.keys() - {"runningInfo"}
    }


@pytest.mark.parametrize("name", ["usb-running-66", "xs-running-60", "rs485-running-130"])
def test_json_has_every_key_and_type_for_every_kind_of_inverter(name):
    golden = json.loads(GOLDEN_JSON)
    message = json.loads(data_json(reading(name, 1_700_000_000.0)))
    for expected, got in ((golden, message), (golden["runningInfo"], message["runningInfo"])):
        assert {key: type(value) for key, value in got.items()} == {k: type(v) for k, v in expected.items()}


def resting(when: float, said: float) -> Resting:
    serial, address, phases, values, *_ = reading("usb-running-66")
    return Resting(serial, address, phases, values, when, said)


def shown(said: Reading | Resting, localtime=time.gmtime) -> dict:
    return json.loads(data_json(said, localtime, language="en"))


def test_time_is_the_moment_that_the_message_speaks_of():
    message = shown(reading("usb-running-66", 1_700_000_000.9))
    assert message["time"] == "2023-11-14T22:13:20.900+00:00"
    away = shown(resting(1_700_000_000.9, 1_700_000_300.25))
    assert away["time"] == "2023-11-14T22:18:20.250+00:00"
    assert (away["lastSeen"], away["runningInfo"]["timestamp"]) == (1_700_000_000_900, "20231114221320")


def test_cable_pulled_in_the_millisecond_of_a_reading_does_not_take_its_place():
    assert shown(resting(1_700_000_000.9001, 1_700_000_000.9003))["time"] == "2023-11-14T22:13:20.901+00:00"


def test_time_and_last_seen_are_one_moment_to_the_millisecond():
    for when in (1_700_000_000.0006, 1_700_000_000.9999, 1_764_106_813.123, 0.0):
        message = shown(reading("usb-running-66", when))
        assert datetime.fromisoformat(message["time"]).timestamp() * 1000 == message["lastSeen"]


@pytest.mark.parametrize(
    ("place", "when", "expected"),
    [
        ("Europe/Amsterdam", 1_761_438_599.5, "2025-10-26T02:29:59.500+02:00"),
        ("Europe/Amsterdam", 1_761_442_199.5, "2025-10-26T02:29:59.500+01:00"),  # an hour later
        ("America/St_Johns", 1_764_106_813.123, "2025-11-25T18:10:13.123-03:30"),
        ("Asia/Kathmandu", 1_764_106_813.123, "2025-11-26T03:25:13.123+05:45"),
        ("Africa/Monrovia", 86_400.0, "1970-01-02T00:00:00.000+00:00"),  # it was -00:44:30 then
    ],
)
def test_time_has_the_zone_of_the_house_also_after_a_change(place, when, expected, zone):
    zone("Pacific/Auckland")
    zone(place)
    assert shown(reading("usb-running-66", when), time.localtime)["time"] == expected


def no_time_after_2038(when):
    if not -(2**31) <= when < 2**31:
        raise OverflowError("timestamp out of range for platform time_t")
    return time.gmtime(when)


@pytest.mark.parametrize("localtime", [time.localtime, time.gmtime, no_time_after_2038])
@pytest.mark.parametrize(
    "when",
    [-0.5, -1e9, -1e12, -1e300, 2.0**31 - 1, 2.0**31, 2.0**32, 2.0**62, 1e300, math.inf, -math.inf, math.nan],
)
def test_absurd_clock_ends_nothing(when, localtime):
    for said in (reading("usb-running-66", when), resting(when, when), resting(1.7e9, when)):
        message = shown(said, localtime)
        assert datetime.fromisoformat(message["time"]).utcoffset() is not None
        assert re.fullmatch(r"\d{14}", message["runningInfo"]["timestamp"])


def test_time_beyond_what_the_system_knows_is_that_of_greenwich():
    assert iso_time(milliseconds(2.0**31), no_time_after_2038) == "2038-01-19T03:14:08.000+00:00"
    message = shown(reading("usb-running-66", 2.0**31), no_time_after_2038)
    assert message["runningInfo"]["timestamp"] == "20380119031408"


def test_timestamp_is_the_time_of_the_house():
    message = json.loads(data_json(reading("usb-running-66", 1_700_000_000.9), time.gmtime))
    assert message["runningInfo"]["timestamp"] == "20231114221320"
    assert message["lastSeen"] == 1_700_000_000_900
