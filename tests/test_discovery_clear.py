"""`discovery clear` at brokers with limits and words of their own: it obeys them as the daemon does, and says them."""

import io

import pytest

from goodwe.config import Config, parse
from goodwe.errors import GoodWeError
from goodwe.tools import discovery

from .broker import Mosquitto, wait_for
from .fake_broker import (
    PUBACK,
    PUBLISH,
    SUBACK,
    FakeBroker,
    Publish,
    Talk,
    answer,
    connack,
    disconnect,
    obliging,
    packet,
    properties,
)
from .test_tools import announce, kept_at

SERIAL = "1006KDTU13500023"
ONLINE = f"goodwe/{SERIAL}/online"


@pytest.fixture
def fake(monkeypatch):
    """Makes brokers from scripts; they have nothing more to give after a moment."""
    monkeypatch.setattr(discovery, "QUIET_FOR", 0.2)
    brokers = []

    def start(**options) -> FakeBroker:
        brokers.append(FakeBroker(obliging(**options)))
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.close()


def settings(port: int, protocol: str = "5") -> Config:
    text = f"[inverter]\nstatefile =\n[mqtt]\nserver = 127.0.0.1\nport = {port}\nprotocol = {protocol}\n"
    return parse(text, "test")[0]


def clear(port: int, *serials: str, protocol: str = "5") -> str:
    out = io.StringIO()
    assert discovery.main(["clear", *serials], settings(port, protocol), out=out) == 0
    return out.getvalue()


def keeps_online(talk: Talk, topics: list[str]) -> bool:
    if ONLINE in topics:
        inside = b"\0" if talk.connect.version == 5 else b""
        talk.send(packet(PUBLISH | 1, len(ONLINE).to_bytes(2) + ONLINE.encode() + inside + b"0"))
    return False


@pytest.mark.parametrize("qos", [0, 1])
def test_qos_that_the_broker_takes_is_kept(fake, qos):
    broker = fake(welcome=connack(maximum_qos=qos, receive_maximum=1), on_subscribe=keeps_online)
    assert f"cleared {ONLINE}\n" in clear(broker.port, SERIAL)
    wait_for(lambda: broker.published, "it has come")
    assert [each[:4] for each in broker.published] == [(ONLINE, b"", qos, True)]


def test_mosquitto_without_qos_has_it_taken_back_as_well(tmp_path):
    mosquitto = Mosquitto(tmp_path, lines="allow_anonymous true\nmax_qos 0\n").start()
    try:
        announce(mosquitto.port, ONLINE, "0", qos=0)
        assert f"cleared {ONLINE}\n" in clear(mosquitto.port, SERIAL)
        assert kept_at(mosquitto.port, qos=0) == []
    finally:
        mosquitto.stop()


def test_broker_without_wildcards_is_asked_for_none_and_that_is_said(fake):
    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        if any("+" in topic for topic in topics):
            talk.send(disconnect(162))
            talk.close()
        return False

    broker = fake(welcome=connack(wildcards=0), on_subscribe=on_subscribe)
    said = clear(broker.port)
    assert "it does not take wildcards: only inverters that are known here are looked for\n" in said


@pytest.mark.parametrize(
    ("reason", "said"), [(128, "Unspecified error"), (135, "Not authorized"), (151, "Quota exceeded")]
)
def test_subscription_that_is_refused_is_said_with_the_brokers_words(fake, reason, said):
    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        number = talk.pings + 1
        talk.pings += 1
        talk.send(
            packet(
                SUBACK, number.to_bytes(2) + properties(reason_string="no") + bytes([reason] * len(topics))
            )
        )
        return True

    broker = fake(on_subscribe=on_subscribe)
    assert f"it does not let us subscribe to {ONLINE}: {said} (it says: no)\n" in clear(broker.port, SERIAL)


def test_reason_that_nobody_knows_is_named_though_it_ends_the_connection(fake):
    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        talk.send(packet(SUBACK, b"\0\1\0" + bytes([199] * len(topics))))
        return True

    broker = fake(on_subscribe=on_subscribe)
    with pytest.raises(GoodWeError, match=r"connection: it does not let us subscribe to .*: reason 199"):
        clear(broker.port, SERIAL)


def test_goodbye_is_said_in_the_brokers_words_and_is_no_guess(fake):
    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        talk.send(disconnect(152, reason_string="maintenance"))
        talk.close()
        return True

    broker = fake(on_subscribe=on_subscribe)
    with pytest.raises(GoodWeError) as told:
        clear(broker.port)
    words = "its administrator has ended the connection (it says: maintenance)"
    assert str(told.value) == f"the broker closed the connection: {words}"


def test_end_without_a_word_may_be_another_program(fake):
    broker = fake(on_subscribe=lambda talk, topics: talk.close() or True)
    with pytest.raises(GoodWeError, match=r"closed the connection; is another program using the same"):
        clear(broker.port, protocol="3.1.1")


@pytest.mark.parametrize("reason", [128, 135, 144, 199])
def test_removal_that_is_refused_is_said(fake, reason):
    def on_publish(talk: Talk, publish: Publish) -> bool:
        talk.send(answer(PUBACK, publish.number, reason, reason_string="read only"))
        return True

    broker = fake(on_publish=on_publish, on_subscribe=keeps_online)
    with pytest.raises(GoodWeError, match=rf"refuses the removal of {ONLINE}: .*\(it says: read only\)"):
        clear(broker.port, SERIAL)


def test_shorter_keepalive_is_offered_to_a_broker_that_wants_it(fake):
    """mosquitto with max_keepalive answers "identifier rejected" to MQTT 3.1.1."""

    def on_connect(talk: Talk, connect) -> bool:
        if connect.keepalive > 15:
            talk.send(connack(2, version=4))
            talk.close()
            return True
        return False

    broker = fake(on_connect=on_connect, on_subscribe=keeps_online)
    assert f"cleared {ONLINE}\n" in clear(broker.port, SERIAL, protocol="3.1.1")


def test_refusal_has_the_brokers_own_words(fake):
    broker = fake(welcome=connack(135, reason_string="not from there"))
    with pytest.raises(GoodWeError, match=r"127\.0\.0\.1: it refuses us; .*\(it says: not from there\)"):
        clear(broker.port)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_broker_that_never_answers_the_subscription_is_not_taken_for_one_that_keeps_nothing(
    fake, monkeypatch, protocol
):
    monkeypatch.setattr(discovery, "PATIENCE", 0.3)
    broker = fake(on_subscribe=lambda talk, topics: True)
    with pytest.raises(GoodWeError, match=r"^MQTT 127\.0\.0\.1: it does not answer when it is asked"):
        clear(broker.port, protocol=protocol)
