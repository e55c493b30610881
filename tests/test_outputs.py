"""One output's trouble is its own; the JSON is the predecessor's."""

import json
import time

import pytest

from goodwe.events import Offline, Reading
from goodwe.outputs import Fanout
from goodwe.outputs.mqtt.payload import data_json
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
    shown = data_json(reading("usb-running-66", golden["lastSeen"] / 1000), lambda when: moment)
    assert shown == GOLDEN_JSON


@pytest.mark.parametrize("name", ["usb-running-66", "xs-running-60", "rs485-running-130"])
def test_json_has_every_key_and_type_for_every_kind_of_inverter(name):
    golden = json.loads(GOLDEN_JSON)
    shown = json.loads(data_json(reading(name, 1_700_000_000.0)))
    for expected, got in ((golden, shown), (golden["runningInfo"], shown["runningInfo"])):
        assert {key: type(value) for key, value in got.items()} == {k: type(v) for k, v in expected.items()}


def test_timestamp_is_the_time_of_the_house():
    shown = json.loads(data_json(reading("usb-running-66", 1_700_000_000.9), time.gmtime))
    assert shown["runningInfo"]["timestamp"] == "20231114221320"
    assert shown["lastSeen"] == 1_700_000_000_900
