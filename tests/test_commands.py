"""Commands: what is obeyed, what is refused and with which words, and how often."""

import json
import logging
from dataclasses import replace

import pytest

from goodwe.config import parse
from goodwe.events import Answer, Unanswered
from goodwe.outputs.mqtt.commands import ALL, BURST, LARGEST, Commands
from goodwe.outputs.mqtt.message import Received

SERIAL, OTHER = "1006KDTU13500023", "53600DSN201W0051"
ROOT = "goodwe-command"


class House:
    """Commands, and what they made the program do."""

    def __init__(self, *, control=True, here=(SERIAL,)):
        self.now = 1000.0
        self.done = []
        self.published = []
        self.here = set(here)
        settings = replace(parse("", "test")[0].mqtt, commands=True, control=control)
        self.commands = Commands(
            settings,
            self,
            announce=lambda: self.done.append("announce"),
            publish=lambda serial, message: self.published.append((serial, message)),
            call=lambda step: step(),
        )
        for serial in (ALL, SERIAL, OTHER):
            self.commands.subscriptions(serial)
        for serial in here:
            self.commands.online(serial, is_online=True)
        self.published.clear()

    def poll(self, serial):
        self.done.append(("poll", serial))
        return serial in self.here

    def register(self, serial):
        self.done.append(("register", serial))
        return serial in self.here

    def ask(self, serial, question, data=b"", *, urgent=False, answered):
        assert urgent
        self.answered = answered
        self.done.append((question, serial, data))
        return serial in self.here

    def hear(self, name, payload=b"", *, serial=SERIAL, retained=False, reply_to="", correlation=b""):
        topic = f"{ROOT}/{serial}/{name}"
        self.commands.received(Received(topic, payload, retained, reply_to, correlation), self.now)

    def take(self):
        """The replies since, and on which topics."""
        taken, self.published = self.published, []
        return [(message.topic, json.loads(message.payload)) for _, message in taken]

    def reply(self):
        ((topic, reply),) = self.take()
        assert topic == f"{ROOT}/{SERIAL}/reply"
        return reply


def test_topics_are_below_the_root_and_our_own_reply_is_none():
    house = House()
    assert house.commands.subscriptions(SERIAL) == [f"{ROOT}/{SERIAL}/+"]
    house.hear("reply", b'{"command": "poll", "ok": true}')
    assert (house.done, house.take()) == ([], [])


@pytest.mark.parametrize(
    ("name", "serial", "control", "told"),
    [
        (
            "format",
            SERIAL,
            True,
            "unknown; known are poll, register, discovery, loglevel, limit, start, stop",
        ),
        ("limit", SERIAL, False, "control in [mqtt] is off"),
        ("start", ALL, True, "an instruction is for one inverter: its serial in place of all"),
        ("loglevel", SERIAL, True, "one level is for the whole program: all in place of the serial"),
    ],
)
def test_what_is_no_command_here_gets_a_reply_that_says_so(name, serial, control, told):
    house = House(control=control)
    house.hear(name, b"50", serial=serial)
    ((topic, reply),) = house.take()
    assert topic == f"{ROOT}/{serial}/reply"
    assert reply == {"command": name, "ok": False, "value": "50", "error": told}
    assert house.done == []


def test_what_is_kept_or_unknown_takes_no_place_of_a_command():
    house = House()
    for n in range(50):
        house.hear(f"unknown{n}", b"x", retained=True)
        house.hear("poll", b"", retained=True)
    house.take()
    house.hear("register")
    assert house.done == [("register", SERIAL)]


def test_empty_message_that_removes_a_retained_stop_stops_nothing():
    house = House()
    house.hear("stop", b"now", retained=True)
    house.hear("stop")
    assert house.done == []
    assert "taken for the removal" in house.take()[-1][1]["error"]
    house.hear("stop")
    assert [action[0] for action in house.done] == ["stop_inverter"]


@pytest.mark.parametrize(
    "topic",
    [
        *("", "/", "//", "poll", f"{SERIAL}/poll", f"/{SERIAL}/poll", f"{ROOT}/poll", f"{ROOT}//poll"),
        *(f"goodwe/{SERIAL}/poll", f"x/{ROOT}/{SERIAL}/poll", f"{ROOT}/15000DSN000W0009/poll", ROOT),
        *(f"{ROOT}/{SERIAL}/x/poll", f"{ROOT}/+/poll", "homeassistant/status"),
    ],
)
def test_topic_that_was_never_subscribed_to_is_no_command(topic, caplog):
    house = House()
    assert not house.commands.received(Received(topic, b"", False), house.now)
    assert (house.done, house.take(), caplog.messages) == ([], [], [])
    assert house.commands.received(Received(f"{ROOT}/{SERIAL}/poll", b"", False), house.now)


def test_endless_retained_topics_are_not_remembered():
    house = House()
    for n in range(2000):
        house.now += 1
        house.hear("stop", b"x", serial=f"{n:016}", retained=True)
        house.hear(f"stop{n}", b"x", retained=True)
        house.hear("stop", b"x", retained=True)
    assert house.commands._kept == {f"{ROOT}/{SERIAL}/stop"}


def test_ten_commands_at_once_are_obeyed_and_the_eleventh_is_not():
    house = House()
    for _ in range(11):
        house.hear("poll")
    assert len(house.done) == len(house.take()) == 10
    house.now += 0.49
    house.hear("poll")
    assert len(house.done) == 10
    house.now += 0.02
    house.hear("poll")
    house.hear("poll")
    assert len(house.done) == 11


def test_endless_names_fill_neither_memory_nor_log(caplog):
    house = House()
    for n in range(2000):
        house.now += 1
        house.hear(f"{n}" + "x" * 60_000)
    assert len(house.commands._tally.counts) == 1
    assert len(caplog.text) < 1000
    assert len(house.published[-1][1].payload) < 500


@pytest.mark.parametrize("name", ["poll", "register"])
def test_poll_and_register_reach_the_inverter(name):
    house = House()
    house.hear(name)
    assert house.done == [(name, SERIAL)]
    assert house.reply() == {"command": name, "ok": True}


def test_all_reaches_every_inverter_that_is_here():
    house = House(here=(SERIAL, OTHER))
    house.commands.online(OTHER, is_online=False)
    house.hear("poll", serial=ALL)
    assert house.done == [("poll", SERIAL)]
    assert house.take() == [(f"{ROOT}/all/reply", {"command": "poll", "ok": True})]


def test_inverter_that_is_away_is_said():
    house = House(here=())
    house.hear("poll")
    assert house.reply() == {"command": "poll", "ok": False, "error": "the inverter is away"}
    house.hear("limit", b"50")
    assert house.reply()["error"] == "the inverter is away"


def test_discovery_is_said_again():
    house = House()
    house.hear("discovery", serial=ALL)
    assert house.done == ["announce"]


def test_log_level_is_set(caplog):
    house = House()
    before = logging.getLogger().level
    try:
        house.hear("loglevel", b"debug", serial=ALL)
        assert logging.getLogger().level == logging.DEBUG
        house.hear("loglevel", b"LOUD", serial=ALL)
        assert logging.getLogger().level == logging.DEBUG
    finally:
        logging.getLogger().setLevel(before)
    (_, good), (_, bad) = house.take()
    assert good == {"command": "loglevel", "ok": True, "value": "debug"}
    assert bad["error"] == "the value must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"


@pytest.mark.parametrize(
    ("name", "payload", "instruction", "data"),
    [
        ("limit", b"50", "limit_power", b"\x32"),
        ("limit", b" 100 ", "limit_power", b"\x64"),
        ("limit", b"0", "limit_power", b"\x00"),
        ("limit", b'{"value": 33.0}', "limit_power", b"\x21"),
        ("start", b"", "start_inverter", b""),
        ("stop", b"PRESS", "stop_inverter", b""),
    ],
)
def test_instruction_is_replied_to_when_the_inverter_has_answered(name, payload, instruction, data):
    house = House()
    house.hear(name, payload)
    assert house.done == [(instruction, SERIAL, data)]
    assert house.take() == []
    house.answered(Answer(SERIAL, instruction, b"\x06"))
    assert house.take()[-1][1]["ok"]


def test_accepted_limit_is_the_state_of_the_number():
    house = House()
    house.hear("limit", b"50")
    house.answered(Answer(SERIAL, "limit_power", b"\x06"))
    (serial, state), (_, reply) = house.published
    assert (serial, *state[:4]) == (SERIAL, f"{ROOT}/{SERIAL}/limit/state", "50", 1, True)
    assert not reply.retain


def test_limit_is_not_known_any_more_when_the_inverter_comes_again():
    house = House()
    house.commands.online(SERIAL, is_online=True)
    assert house.published == [], "it was here all the time"
    house.commands.online(SERIAL, is_online=False)
    house.commands.online(SERIAL, is_online=True)
    ((_, state),) = house.published
    assert (state.topic, state.payload, state.retain) == (f"{ROOT}/{SERIAL}/limit/state", "None", True)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Answer(SERIAL, "limit_power", b"\x15"), "the inverter refused it (15)"),
        (Answer(SERIAL, "limit_power", b""), "the inverter refused it (no reason)"),
        (
            Unanswered(SERIAL, "limit_power"),
            "the inverter did not answer; perhaps it does not know this command",
        ),
    ],
)
def test_refusal_and_silence_are_reported(event, told):
    house = House()
    house.hear("limit", b"50")
    house.answered(event)
    assert house.reply() == {"command": "limit", "ok": False, "value": "50", "error": told}
    house.answered(event)
    assert house.take() == [], "an answer that nobody waits for"


def test_instructions_have_two_seconds_between_them():
    house = House()
    house.hear("limit", b"50")
    house.now += 1.9
    house.hear("limit", b"60")
    assert house.reply()["error"] == "too soon; one instruction every 2 s"
    house.now += 0.1
    house.hear("limit", b"60")
    assert [data for _, _, data in house.done] == [b"\x32", b"\x3c"]
    assert house.reply()["error"] == "another command came before it was answered"
    house.answered(Answer(SERIAL, "limit_power", b"\x06"))
    assert house.published[0][1].payload == "60"


def test_late_answer_to_an_earlier_instruction_is_none_to_the_later_one():
    house = House()
    house.hear("limit", b"50")
    earlier = house.answered
    house.now += 2.0
    house.hear("limit", b"60")
    house.take()
    earlier(Answer(SERIAL, "limit_power", b"\x15"))
    assert house.take() == []
    house.answered(Answer(SERIAL, "limit_power", b"\x06"))
    assert house.take()[-1][1] == {"command": "limit", "ok": True, "value": "60"}


def test_id_comes_back_and_mqtt_5_names_the_topic_of_the_reply():
    house = House()
    house.hear("poll", b'{"id": "abc"}')
    assert house.reply() == {"command": "poll", "ok": True, "id": "abc"}
    house.hear("poll", b"", reply_to="my/replies", correlation=b"\x01\x02")
    ((_, message),) = house.published
    assert (message.topic, message.correlation) == ("my/replies", b"\x01\x02")


@pytest.mark.parametrize("topic", ["goodwe", "goodwe/x/data", "a/#", "a/+/b", "a\x00b", "a" + "/a" * 201])
def test_reply_never_goes_among_the_values_or_where_it_cannot(topic):
    house = House()
    house.hear("poll", reply_to=topic)
    assert house.reply()["ok"]


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        *[
            ("limit", value, "the value must be a whole number of per cent, 0 to 100")
            for value in (
                b"",
                b"1_0",
                b"\xd9\xa5",
                b"0" * 400,
                b"101",
                b"-1",
                b"50.5",
                b"nan",
                b"inf",
                b"1e400",
                b"half",
                b'{"value": true}',
            )
        ],
        (
            "limit",
            b'{"value": 1' + b"0" * 400 + b"}",
            "the value must be a whole number of per cent, 0 to 100",
        ),
        ("limit", b'{"value": [50]}', "the value must be a text or a number"),
        ("limit", b'{"value": null}', "the value must be a text or a number"),
        ("poll", b'{"vlaue": 1}', "unknown keys; known are value and id"),
        ("poll", b'{"id": {}}', "the id must be a text or a number of at most 64 characters"),
        (
            "poll",
            b'{"id": "' + b"x" * 65 + b'"}',
            "the id must be a text or a number of at most 64 characters",
        ),
        ("poll", b"{", "a payload that begins as JSON and is none"),
        ("poll", b'{"id":' * 100, "a payload that begins as JSON and is none"),
        ("poll", b"\xff\xfe", "a payload that is not UTF-8 text"),
        ("poll", b"x" * (LARGEST + 1), f"a payload of {LARGEST + 1} bytes, at most {LARGEST} are looked at"),
        ("poll", b"x" * 1_000_000, f"a payload of 1000000 bytes, at most {LARGEST} are looked at"),
    ],
)
def test_bad_command_gets_an_error_for_a_reply_and_does_nothing(name, payload, told, caplog):
    house = House()
    house.hear(name, payload)
    ((_, reply),) = house.take()
    assert (reply["ok"], reply["error"]) == (False, told)
    assert house.done == []
    assert sum("Bad command" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999"])
def test_number_that_is_none_is_refused_whichever_way_json_takes_it(value):
    house = House()
    house.hear("limit", b'{"value": ' + value + b"}")
    assert not house.reply()["ok"]
    assert house.done == []


def test_retained_command_is_refused():
    house = House()
    house.hear("stop", retained=True)
    assert house.done == []
    assert house.reply()["error"].startswith("retained: ")


def test_storm_of_commands_is_dropped_but_for_some(caplog):
    house = House()
    for _ in range(5000):
        house.hear("poll")
        house.now += 0.001
    assert BURST <= len(house.done) <= BURST + 11
    assert len(house.take()) == len(house.done)
    assert sum("commands at once" in message for message in caplog.messages) == 1
    house.now += 10
    house.hear("poll")
    assert house.reply()["ok"]
