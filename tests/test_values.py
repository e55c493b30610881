"""A topic for each value: what counts as news, and what is said again."""

import itertools
from dataclasses import replace

import pytest

from goodwe.config import parse
from goodwe.events import Reading
from goodwe.outputs.mqtt.message import Message
from goodwe.outputs.mqtt.values import PublishedValues
from goodwe.protocol import fields

from .captures import data

SERIAL = "1006KDTU13500023"
MEASURED = fields.decode_running(data("usb-running-66"))
TOPIC = f"goodwe/{SERIAL}"


def settings(**changes):
    return replace(parse("", "test")[0].mqtt, **changes)


def reading(phases=3, **changes):
    return Reading(SERIAL, 11, phases, {**MEASURED, **changes}, 1.7e9)


def test_first_reading_is_news_altogether_as_plain_numbers():
    messages = PublishedValues(TOPIC, settings()).messages(reading(), 0.0)
    assert len(messages) == len(fields.RUNNING)
    assert Message(f"{TOPIC}/pac", "38", 0, False) in messages
    assert Message(f"{TOPIC}/vac1", "231.2", 0, False) in messages
    assert Message(f"{TOPIC}/errorMessage", "0", 0, False) in messages
    assert all(float(message.payload) == float(message.payload) for message in messages)


def test_single_phase_inverter_has_no_topics_of_other_phases():
    keys = {
        message.topic.rsplit("/")[-1]
        for message in PublishedValues(TOPIC, settings()).messages(reading(1), 0.0)
    }
    assert "vac1" in keys
    assert not keys & {"vac2", "vac3", "fac2", "line3VFault"}


@pytest.mark.parametrize(
    ("key", "from_", "small", "large"),
    [
        ("pac", 1000, 1010, 1011),
        ("vac1", 230.0, 230.5, 230.6),
        ("fac1", 50.0, 50.02, 50.03),
        ("eTotal", 100.0, 100.0, 100.1),
        ("temp", 40.0, 40.5, 40.6),
        ("workMode", 1, 1, 2),
    ],
)
def test_only_what_leaves_its_dead_band_is_news(key, from_, small, large):
    values = PublishedValues(TOPIC, settings())
    values.messages(reading(**{key: from_}), 0.0)
    assert values.messages(reading(**{key: small}), 1.0) == []
    (message,) = values.messages(reading(**{key: large}), 2.0)
    assert (message.topic, float(message.payload)) == (f"{TOPIC}/{key}", large)


def test_slow_drift_is_news_once_it_has_gone_far():
    values = PublishedValues(TOPIC, settings())
    values.messages(reading(pac=1000), 0.0)
    sent = [m.payload for n in range(1, 13) for m in values.messages(reading(pac=1000 + n), float(n))]
    assert sent == ["1011"]


def test_zero_is_always_exact():
    values = PublishedValues(TOPIC, settings())
    values.messages(reading(pac=5), 0.0)
    assert [m.payload for m in values.messages(reading(pac=0), 1.0)] == ["0"]


def test_what_does_not_change_is_said_again_after_the_heartbeat():
    values = PublishedValues(TOPIC, settings(valuesheartbeat=60))
    values.messages(reading(), 0.0)
    assert values.messages(reading(), 59.0) == []
    assert len(values.messages(reading(), 60.0)) == len(fields.RUNNING)


@pytest.mark.parametrize(("interval", "heartbeat"), [(1.0, 1), (60.0, 60), (300.0, 300), (2.5, 10)])
def test_heartbeat_is_of_the_reading_nearest_to_it_however_quick_the_answers(interval, heartbeat):
    values = PublishedValues(TOPIC, settings(valuesheartbeat=heartbeat), interval)
    delays = itertools.cycle([0.3, 0.05, 0.45, 0.1])
    said = [at for n in range(40) for at in [n * interval + next(delays)] if values.messages(reading(), at)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(said)]
    assert len(said) == 40 * interval // heartbeat
    assert max(abs(gap - heartbeat) for gap in gaps) < 0.5


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_qos_and_retain_are_those_of_the_values(qos):
    text = f"[mqtt]\nvalues = on\nvaluesqos = {qos}\nvaluesretain = on\n"
    messages = PublishedValues(TOPIC, parse(text, "test")[0].mqtt).messages(reading(), 0.0)
    assert {message[2:4] for message in messages} == {(qos, True)}


def test_error_bits_are_the_word_they_came_in():
    messages = PublishedValues(TOPIC, settings()).messages(reading(errorMessage=[0, 9, 31]), 0.0)
    assert Message(f"{TOPIC}/errorMessage", str(1 | 1 << 9 | 1 << 31), 0, False) in messages


def test_new_connection_gets_all_again():
    values = PublishedValues(TOPIC, settings())
    values.messages(reading(), 0.0)
    values.forget()
    assert len(values.messages(reading(), 1.0)) == len(fields.RUNNING)
