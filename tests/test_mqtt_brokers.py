"""All that brokers say of themselves is obeyed and named, in the bytes of the specification."""

import time

import pytest

from goodwe.events import Found, Offline
from goodwe.outputs.mqtt import backoff
from goodwe.outputs.mqtt import connection as connection_module
from goodwe.outputs.mqtt.connection import ConnectionState

from .broker import let_pass, wait_for
from .fake_broker import (
    CONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    FakeBroker,
    Publish,
    Talk,
    answer,
    connack,
    disconnect,
    obliging,
    packet,
    parse_connect,
    parse_publish,
    properties,
)
from .mqtt import DATA, ONLINE, SERIAL, reading, serving

protocols = pytest.mark.parametrize("protocol", ["3.1.1", "5"])
CONFIG = f"homeassistant/device/goodwe_{SERIAL}/config"


@pytest.fixture
def fake():
    """Makes brokers from scripts."""
    brokers = []

    def start(script, **options) -> FakeBroker:
        brokers.append(FakeBroker(script, **options))
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """A hundred times less patience between two attempts."""
    monkeypatch.setattr(backoff, "PERIOD", 0.1)
    monkeypatch.setattr(backoff, "SOONEST", 0.02)
    monkeypatch.setattr(backoff, "FIRST_PAUSE", 0.1)


def status(running, serial: str = SERIAL) -> dict:
    """The status of the inverter's connection, asked in the loop's thread."""
    found: list[dict] = []
    connection = running.output.pool._by_serial[serial]
    running.loop.post(lambda: found.append(connection.status(time.monotonic())))
    wait_for(lambda: found, "the status")
    return found[0]


def count(caplog, words: str) -> int:
    return sum(words in message for message in caplog.messages)


# CONNACK of MQTT 5, property by property (3.2.2.3)


def test_receive_maximum_is_never_exceeded(run, fake):
    broker = fake(obliging(connack(receive_maximum=3), acknowledges=False))
    running = run(broker.port, protocol="5", qos=1)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(*(reading(pac=n) for n in range(20)))
    wait_for(lambda: len(broker.published) >= 3, "as many as are allowed")
    let_pass(0.3)  # a real socket on which nothing more may come
    assert len(broker.published) == 3
    talk = broker.talks[-1]
    for number in range(1, 60):
        talk.send(answer(PUBACK, number))
        allowed = 3 + number
        assert len(talk.published) <= allowed
    wait_for(lambda: len(broker.published) > 20, "the others follow the acknowledgements")


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [0, 1])
def test_maximum_qos_is_kept_and_said_once(run, fake, caplog, qos, maximum):
    refused = []

    def on_connect(talk: Talk, connect) -> bool:
        if connect.will_qos > maximum:  # as the specification wants it
            refused.append(connect.will_qos)
            talk.send(connack(155))
            talk.close()
            return True
        return False

    broker = fake(obliging(connack(maximum_qos=maximum), on_connect=on_connect))
    running = run(broker.port, protocol="5", qos=qos)
    running.tell(Found(SERIAL, 11), reading(), reading())
    wait_for(lambda: {DATA, ONLINE} <= broker.topics(), "data passes")
    assert {publish.qos for publish in broker.published} == {min(maximum, 1)} | (
        {1} if maximum and qos >= 1 else set()
    )
    if max(1, qos) > maximum:
        wait_for(lambda: count(caplog, f"it takes no QoS above {maximum}") == 1, "said once")


def test_broker_without_retained_messages_gets_none_and_that_is_said(run, fake, caplog):
    def on_connect(talk: Talk, connect) -> bool:
        if connect.will_retain:
            talk.send(connack(154, reason_string="we do not keep anything"))
            talk.close()
            return True
        return False

    broker = fake(obliging(connack(retain_available=0), on_connect=on_connect))
    running = run(broker.port, protocol="5", retain=True)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: {DATA, ONLINE} <= broker.topics(), "data passes")
    assert not any(publish.retain for publish in broker.published)
    assert count(caplog, "it keeps no retained messages") == 1
    assert status(running)["allowed"] == {"retain": False}


@pytest.mark.parametrize("over", [0, 1])
def test_largest_packet_is_counted_to_the_byte(run, fake, caplog, over):
    sizes = []
    plain = fake(obliging(on_publish=lambda talk, publish: sizes.append(size_of(publish))))
    running = run(plain.port, protocol="5")
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: ONLINE in plain.topics(), "measured")
    broker = fake(obliging(connack(maximum_packet_size=sizes[0] - over)))
    running = run(broker.port, protocol="5")
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: ONLINE in broker.topics(), "the rest passes")
    assert (DATA in broker.topics()) == (not over)
    assert count(caplog, f"{DATA} is too large for it; raise its limit to 16 kB") == over


def size_of(publish: Publish) -> int:
    """Bytes of the MQTT 5 packet it came in, without properties."""
    inside = 2 + len(publish.topic) + (2 if publish.qos else 0) + 1 + len(publish.payload)
    return inside + 1 + (1 if inside < 128 else 2 if inside < 16_384 else 3)


def test_server_keepalive_is_obeyed(run, fake):
    broker = fake(obliging(connack(server_keepalive=1)))
    running = run(broker.port, protocol="5", keepalive=60)
    running.tell(Found(SERIAL, 11))
    serving(running)
    wait_for(lambda: broker.talks[-1].pings >= 2, "pings in the rhythm that the broker wants", 5.0)
    assert status(running)["allowed"] == {"keepalive": 1}


@pytest.mark.parametrize("seconds", [0, 3600])
def test_server_that_minds_less_is_still_asked_as_often_as_configured(run, fake, seconds):
    broker = fake(obliging(connack(server_keepalive=seconds)))
    running = run(broker.port, protocol="5", keepalive=5)
    running.tell(Found(SERIAL, 11))
    serving(running)
    wait_for(lambda: broker.talks[-1].pings, "a dead connection is noticed as soon as ever", 8.0)


def test_client_id_that_the_broker_assigns_is_known(run, fake):
    broker = fake(obliging(connack(assigned_id="auto-4711")))
    running = run(broker.port, protocol="5", clientid="")
    running.tell(Found(SERIAL, 11))
    serving(running)
    assert status(running)["client_id"] == "auto-4711"


def test_wildcards_that_are_not_taken_are_not_asked_for(run, fake, caplog):
    asked: list[str] = []
    broker = fake(obliging(connack(wildcards=0), on_subscribe=lambda talk, topics: asked.extend(topics)))
    run(broker.port, {"discovery": True, "actions": object()}, protocol="5", commands=True).tell(
        Found(SERIAL, 11), reading()
    )
    wait_for(lambda: "homeassistant/status" in asked, "what has none")
    assert not any("+" in topic or "#" in topic for topic in asked)
    assert count(caplog, "it does not take wildcards, so nothing comes from goodwe-command/") >= 1


def test_all_properties_together_change_nothing_that_they_do_not_name(run, fake):
    everything = {
        "session_expiry": 0,
        "receive_maximum": 65_535,
        "maximum_qos": 1,
        "retain_available": 1,
        "maximum_packet_size": 268_435_455,
        "topic_alias_maximum": 10,
        "reason_string": "hello",
        "user_property": ("a", "b"),
        "wildcards": 1,
        "subscription_identifiers": 0,
        "shared": 0,
        "server_keepalive": 60,
        "response_information": "there",
    }
    broker = fake(obliging(connack(**everything)))
    running = run(broker.port, protocol="5")
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: {DATA, ONLINE} <= broker.topics(), "data passes")


# CONNACK: every reason that it can have


REASONS_OF_5 = [128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 140, 144, 149, 151, 153, 156, 157, 159]


@pytest.mark.parametrize("reason", REASONS_OF_5)
def test_every_refusal_of_mqtt_5_is_said_with_the_brokers_own_words(run, fake, caplog, reason):
    broker = fake(lambda talk: (talk.next(), talk.send(connack(reason, reason_string="because\nof rain"))))
    running = run(broker.port, protocol="5")
    wait_for(lambda: "(it says: because of rain)" in caplog.text, "said")
    assert "another program" not in caplog.text
    assert "No error" not in caplog.text
    assert f"reason {reason}" not in caplog.text, "in words"
    assert running.output.pool._first.status(time.monotonic())["why_not"]


def test_reason_that_the_specification_does_not_know_is_named(run, fake, caplog):
    broker = fake(lambda talk: (talk.next(), talk.send(connack(200))))
    run(broker.port, protocol="5")
    wait_for(lambda: "it refuses us with reason 200" in caplog.text, "said")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "it does not speak this version of MQTT; change protocol in [mqtt]"),
        (2, "it refuses our client id; change clientid in [mqtt], or set a smaller keepalive"),
        (3, "it says that it is not available"),
        (4, "it refuses the login; check username and password in [mqtt]"),
        (5, "it refuses us; check username and password in [mqtt] and what the broker allows"),
        (77, "it refuses us with reason 77"),
    ],
)
def test_every_refusal_of_3_1_1_is_said(run, fake, caplog, code, said):
    broker = fake(lambda talk: (talk.next(), talk.send(connack(code, version=4))))
    run(broker.port)
    wait_for(lambda: said in caplog.text, "said")


@pytest.mark.parametrize("reason", [156, 157])
def test_other_server_that_the_broker_refers_to_is_named(run, fake, caplog, reason):
    broker = fake(
        lambda talk: (talk.next(), talk.send(connack(reason, server_reference="nas2.example:1884")))
    )
    run(broker.port, protocol="5")
    wait_for(lambda: "(the other server is nas2.example:1884)" in caplog.text, "said")
    assert "change server in [mqtt]" in caplog.text


def test_broker_of_3_1_1_that_wants_shorter_keepalives_gets_them(run, fake):
    """mosquitto with max_keepalive answers "identifier rejected" to MQTT 3.1.1."""

    def on_connect(talk: Talk, connect) -> bool:
        if connect.keepalive > 15:
            talk.send(connack(2, version=4))
            talk.close()
            return True
        return False

    broker = fake(obliging(on_connect=on_connect))
    running = run(broker.port, keepalive=60)
    running.tell(Found(SERIAL, 11))
    serving(running)
    assert [talk.connect.keepalive for talk in broker.talks if talk.connect][:3] == [40, 20, 10]


@pytest.mark.parametrize("refused", ["qos", "retain"])
def test_broker_of_3_1_1_that_closes_at_such_a_will_gets_another(run, fake, refused):
    def on_connect(talk: Talk, connect) -> bool:
        closes = connect.will_qos > 0 if refused == "qos" else connect.will_retain
        if closes:
            talk.close()
        return closes

    broker = fake(obliging(on_connect=on_connect))
    running = run(broker.port)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: {DATA, ONLINE} <= broker.topics(), "data passes")
    assert all((publish.qos if refused == "qos" else publish.retain) == 0 for publish in broker.published)


def test_broker_that_was_away_for_a_while_gets_the_whole_will(run, fake):
    """Something in front of it took connections and closed them meanwhile."""

    def on_connect(talk: Talk, connect) -> bool:
        if talk.number < 4:
            talk.close()
        return talk.number < 4

    broker = fake(obliging(on_connect=on_connect))
    running = run(broker.port)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: ONLINE in broker.topics(), "served")
    serving(running)
    connect = broker.talks[-1].connect
    assert (connect.will_qos, connect.will_retain) == (1, True)


# DISCONNECT of MQTT 5 (3.14.2.1)

REASONS_OF_DISCONNECT = {
    4: "publishes the will",
    128: "look into its log",
    129: "does not understand",
    130: "break the protocol",
    131: "a reason of its own",
    135: "check what the broker allows",
    137: "busy",
    139: "it shuts down",
    141: "did not hear from us",
    143: "subscribe",
    144: "our topics",
    147: "at once",
    148: "aliases",
    149: "too large",
    150: "more messages than it allows",
    151: "quota",
    152: "administrator",
    153: "form of our messages",
    154: "retained",
    155: "qos",
    156: "another server",
    157: "moved",
    158: "shared",
    159: "no more connections",
    160: "as long as it allows",
    161: "identifiers",
    162: "wildcards",
    201: "reason 201",
}


@pytest.mark.parametrize("reason", REASONS_OF_DISCONNECT)
@pytest.mark.parametrize("with_words", [True, False])
def test_reason_of_each_goodbye_is_said_and_none_is_guessed(run, fake, caplog, reason, with_words):
    """However often, and however soon after the connection: the broker says why."""
    named = {"reason_string": "the weather"} if with_words else {}

    def script(talk: Talk) -> None:
        talk.next()
        talk.send(connack() + disconnect(reason, **named))

    broker = fake(script)
    run(broker.port, protocol="5")
    wait_for(lambda: len(broker.talks) > 4, "again and again")
    assert f"connection lost ({'' if reason != 201 else 'it gives '}" in caplog.text
    assert REASONS_OF_DISCONNECT[reason] in caplog.text
    assert ("it says: the weather" in caplog.text) == with_words
    assert "another program" not in caplog.text
    assert "No error" not in caplog.text
    assert count(caplog, "connection lost") <= 3, "one line a change"


def test_session_that_another_took_over_is_contested_and_asked_seldom(run, fake, caplog):
    def script(talk: Talk) -> None:
        talk.next()
        talk.send(connack() + disconnect(142, reason_string="session taken over"))

    broker = fake(script)
    running = run(broker.port, protocol="5")
    wait_for(lambda: "another program connects as goodwe-usb" in caplog.text, "said")
    assert "it says: session taken over" in caplog.text
    connection = running.output.pool._first
    assert 20.0 < connection.status(time.monotonic())["next_try_seconds"] <= 60.0


def test_connection_that_ends_again_and_again_without_a_word_is_contested(run, fake, caplog):
    """Nothing of ours was on its way: what is left is another program with our name."""

    def script(talk: Talk) -> None:
        talk.next()
        talk.send(connack(version=4))
        let_pass(0.05)

    broker = fake(script)
    run(broker.port)
    wait_for(lambda: "another program connects as goodwe-usb" in caplog.text, "said")
    assert len(broker.talks) == connection_module.CONTESTED_AFTER


# one message that the broker does not take, and says so by closing


def closes_at(*topics: str, above_qos: int = -1, retained_only: bool = False, reason: int = 0):
    def on_publish(talk: Talk, publish: Publish) -> bool:
        if not publish.topic.startswith(topics) or publish.qos <= above_qos:
            return False
        if retained_only and not publish.retain:
            return False
        if reason:
            talk.send(disconnect(reason))
        talk.close()
        return True

    return on_publish


def feed(running, until, seconds: float = 20.0) -> None:
    """Readings as an inverter gives them, only faster, until the condition holds."""
    end = time.monotonic() + seconds
    while not until():
        running.tell(reading(pac=int(time.monotonic() * 10) % 1000))
        assert time.monotonic() < end, "not in time"
        let_pass(0.05)


@pytest.mark.parametrize(("protocol", "reason"), [("3.1.1", 0), ("5", 0), ("5", 149), ("5", 144)])
@pytest.mark.parametrize("topic", ["homeassistant/", DATA, ONLINE])
def test_topic_at_which_the_broker_closes_is_left_out_and_the_rest_passes(
    run, fake, caplog, protocol, reason, topic
):
    broker = fake(obliging(on_publish=closes_at(topic, reason=reason)))
    running = run(broker.port, {"discovery": True}, protocol=protocol)
    running.tell(Found(SERIAL, 11))
    feed(running, lambda: "it is left out and only now and then tried again" in caplog.text)
    left_out = next(name for name in (CONFIG, DATA, ONLINE) if name.startswith(topic))
    assert (
        count(
            caplog,
            f"it closes the connection at {left_out}; it is left out and only now and then tried again",
        )
        == 1
    )
    serving(running)
    rest = {CONFIG, DATA, ONLINE} - {left_out}
    feed(running, lambda: rest <= {publish.topic for publish in broker.talks[-1].published})
    connections = len(broker.talks)
    for _ in range(10):
        running.tell(reading())
        let_pass(0.02)
    assert len(broker.talks) == connections, "the connection stands"
    assert status(running)["left_out"] == [left_out]
    assert "another program" not in caplog.text


@pytest.mark.parametrize(("qos", "taken"), [(2, 1), (2, 0), (1, 0)])
def test_broker_of_3_1_1_without_that_qos_gets_data_with_less(run, fake, caplog, qos, taken):
    broker = fake(obliging(on_publish=closes_at(DATA, above_qos=taken)))
    running = run(broker.port, qos=qos)
    running.tell(Found(SERIAL, 11))
    feed(running, lambda: any(p.topic == DATA and p.qos == taken for p in broker.published))
    serving(running)
    connections = len(broker.talks)
    for _ in range(10):
        running.tell(reading())
        let_pass(0.02)
    assert len(broker.talks) == connections, "the connection stands"
    assert f"it closes the connection at {DATA}; it is sent with QoS {taken}" in caplog.text


def test_broker_of_3_1_1_that_closes_at_retained_messages_gets_them_without(run, fake, caplog):
    broker = fake(obliging(on_publish=closes_at(ONLINE, retained_only=True)))
    running = run(broker.port)
    running.tell(Found(SERIAL, 11))
    feed(running, lambda: any(p.topic == ONLINE and not p.retain for p in broker.published))
    assert f"it closes the connection at {ONLINE}; it is sent without retain" in caplog.text


@protocols
def test_subscription_at_which_the_broker_closes_is_left_out(run, fake, caplog, protocol):
    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        if not any(topic.startswith("goodwe-command/all") for topic in topics):
            return False
        talk.close()
        return True

    broker = fake(obliging(on_subscribe=on_subscribe))
    running = run(broker.port, {"discovery": True, "actions": object()}, protocol=protocol, commands=True)
    running.tell(Found(SERIAL, 11))
    feed(running, lambda: "goodwe-command/all/+; it is left out" in caplog.text)
    feed(running, lambda: {DATA, ONLINE, CONFIG} <= {p.topic for p in broker.talks[-1].published})
    assert "another program" not in caplog.text


# what is refused without closing


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("reason", [128, 131, 135, 144, 151, 153, 199])
def test_message_that_is_answered_with_a_reason_is_named_and_does_not_stay(run, fake, caplog, qos, reason):
    def on_publish(talk: Talk, publish: Publish) -> bool:
        if publish.topic != DATA:
            return False
        kind = PUBACK if publish.qos == 1 else PUBREC
        talk.send(answer(kind, publish.number, reason, reason_string="not here"))
        return True

    broker = fake(obliging(on_publish=on_publish))
    running = run(broker.port, protocol="5", qos=qos)
    running.tell(Found(SERIAL, 11), *(reading(pac=n) for n in range(30)))
    wait_for(lambda: "it refuses what we publish: " in caplog.text, "said")
    assert "(it says: not here)" in caplog.text
    assert count(caplog, "it refuses what we publish") == 1
    wait_for(lambda: status(running)["unacknowledged"] == 0, "none waits for ever")
    assert status(running)["refused"] == [DATA]
    running.tell(*(reading(pac=n) for n in range(30)))
    wait_for(lambda: sum(publish.topic == DATA for publish in broker.published) > 20, "and more are sent")


@pytest.mark.parametrize(("kind", "reason"), [(PUBACK, 16), (PUBREC, 16), (PUBCOMP, 146)])
def test_message_that_is_taken_with_a_reason_is_not_refused(run, fake, caplog, kind, reason):
    """No matching subscribers; and a number that the broker has forgotten, of a message that it has taken."""

    def script(talk: Talk) -> None:
        while (got := talk.next()) is not None:
            if got.kind == CONNECT:
                talk.connect = parse_connect(got.body)
                talk.send(connack())
            elif got.kind == PUBLISH:
                publish = parse_publish(got, 5)
                talk.published.append(publish)
                first = PUBACK if publish.qos == 1 else PUBREC
                talk.send(answer(first, publish.number, reason if first == kind else None))
            elif got.kind == PUBREL:
                talk.send(answer(PUBCOMP, int.from_bytes(got.body[:2]), reason if kind == PUBCOMP else None))

    broker = fake(script)
    running = run(broker.port, protocol="5", qos=1 if kind == PUBACK else 2)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(*(reading(pac=n) for n in range(5)))
    wait_for(lambda: sum(each.topic == DATA for each in broker.published) == 5, "all have come")
    wait_for(lambda: status(running)["unacknowledged"] == 0, "none waits for ever")
    assert status(running)["refused"] == []
    assert "refuses" not in caplog.text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (128, "Unspecified error"),
        (131, "Implementation specific error"),
        (135, "Not authorized"),
        (143, "Topic Filter invalid"),
        (145, "Packet identifier in use"),
        (151, "Quota exceeded"),
        (158, "Shared Subscriptions not supported"),
        (161, "Subscription Identifiers not supported"),
        (162, "Wildcard Subscriptions not supported"),
        (199, "reason 199"),
    ],
)
def test_subscriptions_are_told_apart(run, fake, caplog, reason, said):
    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        reasons = bytes(reason if "all" in topic else 0 for topic in topics)
        body = (1).to_bytes(2) + properties(reason_string="read only") + reasons
        talk.send(packet(SUBACK, body))
        return True

    broker = fake(obliging(on_subscribe=on_subscribe))
    run(broker.port, {"actions": object()}, protocol="5", commands=True)
    wait_for(lambda: "it does not let us subscribe to goodwe-command/all/" in caplog.text, "said")
    assert f"goodwe-command/all/+: {said} (it says: read only)" in caplog.text


# rubbish, and what comes unasked


@pytest.mark.parametrize(
    ("packets", "named"),
    [("f002 1800", "an AUTH"), ("1000", "a CONNECT"), ("8200", "a SUBSCRIBE"), ("a200", "an UNSUBSCRIBE")],
)
def test_packet_that_is_not_for_us_is_named(run, fake, caplog, packets, named):
    def on_publish(talk: Talk, publish: Publish) -> bool:
        talk.send(bytes.fromhex(packets))
        return True

    broker = fake(obliging(on_publish=on_publish))
    running = run(broker.port, protocol="5")
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: f"it breaks the protocol, by {named}; look into its log" in caplog.text, "said")
    assert "it closes the connection at" not in caplog.text, "no message is to blame"


RUBBISH = [
    "f0ff ffff ff7f",
    "2000",
    "2001 00",
    "2003 0000 05",
    "2005 0000 02 1300",
    "2006 0000 03 ff00 00",
    "4000",
    "9000",
    "9001 00",
    "3002 0005",
    "3000",
    "5003 0001 ff",
    "e002 8b05",
    "3002 0000",
    "3003 0000 00",
    "d001 00",
    "0000",
    "20ff ffff ffff",
    "485454502f312e3120343030",
]


@protocols
@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("welcome", [True, False])
def test_rubbish_of_a_broker_ends_a_connection_and_nothing_else(run, fake, protocol, rubbish, welcome):
    def script(talk: Talk) -> None:
        talk.next()
        if talk.number < 2:
            talk.send(
                (connack(version=5 if protocol == "5" else 4) if welcome else b"") + bytes.fromhex(rubbish)
            )
            let_pass(0.05)
        else:
            talk.send(connack(version=5 if protocol == "5" else 4))
            obliging()(talk)

    broker = fake(script)
    running = run(broker.port, protocol=protocol)
    connection = running.output.pool._first
    wait_for(lambda: len(broker.talks) > 2 and connection.state is ConnectionState.CONNECTED, "it comes back")
    running.tell()


@protocols
@pytest.mark.parametrize("reason", [0, 5])
@pytest.mark.parametrize("during", ["subscription", "data", "nothing"])
def test_second_welcome_breaks_the_protocol_and_no_message_is_to_blame(
    run, fake, protocol, caplog, reason, during
):
    version = 5 if protocol == "5" else 4
    again = connack(reason, version=version)
    ends = [during]

    def once(talk: Talk, when: str, before: bytes = b"") -> bool:
        # The first connection is given up for one with the will, whatever is said in it.
        if ends == [when] and talk.connect is not None and talk.connect.has_will:
            ends.clear()
            talk.send(before + again)
            return True
        return False

    broker = fake(
        obliging(
            on_connect=lambda talk, _: once(talk, "nothing", connack(version=version)),
            on_publish=lambda talk, _: once(talk, "data"),
            on_subscribe=lambda talk, _: once(talk, "subscription"),
        )
    )
    running = run(broker.port, {"actions": object()}, protocol=protocol, commands=True, qos=1)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: DATA in broker.topics() and ONLINE in broker.topics(), "it comes back")
    wait_for(lambda: not ends and "second CONNACK" in caplog.text, "and had to")
    running.tell(reading(1_700_000_003.0))
    wait_for(lambda: sum(one.topic == DATA for one in broker.talks[-1].published) > 0, "all is well")
    assert "it breaks the protocol, by a second CONNACK; look into its log" in caplog.text
    assert count(caplog, "it closes the connection at") == 0
    assert status(running)["left_out"] == []


def message(topic: bytes, payload: bytes = b"1", version: int = 4) -> bytes:
    return packet(0x30, len(topic).to_bytes(2) + topic + (b"\0" if version == 5 else b"") + payload)


@protocols
@pytest.mark.parametrize("topic", [b"a", b"a/b", b"goodwe/x/y/z", b"\xff\xfe/all/x", b"$SYS/x", b"a\0b"])
def test_topic_that_nobody_asked_for_is_dropped_and_counted(run, fake, protocol, topic):
    version = 5 if protocol == "5" else 4

    def on_subscribe(talk: Talk, topics: list[str]) -> bool:
        for _ in range(3):
            talk.send(message(topic, version=version))
        return False

    class Deaf:
        """Nothing of it may be called."""

    broker = fake(obliging(on_subscribe=on_subscribe))
    running = run(broker.port, {"actions": Deaf()}, protocol=protocol, commands=True)
    running.tell(Found(SERIAL, 11))
    serving(running)
    wait_for(lambda: status(running)["counts"].get("foreign", 0) >= 3, "counted")
    running.tell(reading())
    wait_for(lambda: ONLINE in broker.topics(), "and the program goes on")


# resets and halves at each boundary of the connection phase


def conversation(version: int) -> list[tuple[str, bytes]]:
    """All that a broker says until the first data is acknowledged, byte by byte where a byte can be the last."""
    welcome = connack(version=version)
    suback = packet(SUBACK, b"\0\1" + (b"\0" if version == 5 else b"") + b"\0" * 5)
    return [
        ("welcome", welcome),
        ("suback", suback),
        ("puback", answer(PUBACK, 2)),
        ("pingresp", packet(0xD0)),
    ]


@protocols
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("cut", range(19))
def test_connection_that_ends_after_any_byte_is_made_again(run, fake, tmp_path, protocol, ending, cut):
    said = b"".join(data for _, data in conversation(5 if protocol == "5" else 4))

    def script(talk: Talk) -> None:
        if talk.number < 2:
            talk.next()
            talk.send(said[:cut])
            (talk.reset if ending == "reset" else talk.close)()
        else:
            obliging()(talk)

    broker = fake(script)
    running = run(broker.port, {"discovery": True, "actions": object()}, protocol=protocol, commands=True)
    running.tell(Found(SERIAL, 11), reading(pac=4711))
    wait_for(lambda: {CONFIG, ONLINE} <= broker.topics(), "served")
    running.tell(reading())
    wait_for(lambda: DATA in broker.topics(), "data passes")
    running.tell(Offline(SERIAL, 11, "unplugged"))
    wait_for(lambda: broker.published[-1][:2] == (ONLINE, b"0"), "the state is right")


@pytest.mark.parametrize("after", range(1, 7))
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_connection_that_ends_after_any_packet_of_ours_is_made_again(run, fake, after, ending):
    """CONNECT, SUBSCRIBE, discovery, data, online, and whatever follows: read, then reset without an answer."""

    def script(talk: Talk) -> None:
        if talk.number:
            obliging()(talk)
            return
        talk.next()
        talk.send(connack(version=4))
        for _ in range(after - 1):
            talk.next()
        (talk.reset if ending == "reset" else talk.close)()

    broker = fake(script)
    running = run(broker.port, {"discovery": True, "actions": object()}, commands=True)
    running.tell(Found(SERIAL, 11))
    feed(running, lambda: len(broker.talks) > 1 and {CONFIG, ONLINE, DATA} <= broker.topics())


def test_packets_in_pieces_are_put_together(run, fake):
    def script(talk: Talk) -> None:
        talk.next()
        for byte in connack(server_keepalive=30, reason_string="slowly"):
            talk.send(bytes([byte]))
            let_pass(0.005)
        while (got := talk.next()) is not None:
            if got.kind == 0x30 and got.flags & 6:
                length = int.from_bytes(got.body[:2])
                for byte in answer(PUBACK, int.from_bytes(got.body[2 + length : 4 + length])):
                    talk.send(bytes([byte]))
                    let_pass(0.005)

    broker = fake(script)
    running = run(broker.port, protocol="5", qos=1)
    running.tell(Found(SERIAL, 11), reading())
    serving(running)
    wait_for(lambda: status(running)["unacknowledged"] == 0, "acknowledged")
    assert status(running)["allowed"] == {"keepalive": 30}


def test_qos_2_goes_all_its_way(run, fake):
    broker = fake(obliging())
    running = run(broker.port, protocol="5", qos=2)
    running.tell(Found(SERIAL, 11), *(reading(pac=n) for n in range(40)))
    wait_for(lambda: sum(publish.qos == 2 for publish in broker.published) >= 1, "sent")
    wait_for(lambda: status(running)["unacknowledged"] == 0, "PUBCOMP came")
    assert PUBCOMP
