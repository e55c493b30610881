"""The states of a connection, with literal times: no broker, no waiting; paho's place is taken by a puppet."""

import logging
import socket
from random import Random
from types import SimpleNamespace

import paho.mqtt.client as paho
import pytest

from goodwe.loop import Loop
from goodwe.outputs.mqtt.attempt import Attempt
from goodwe.outputs.mqtt.client import CONNACK, DISCONNECT, PUBACK, Said, paho_client
from goodwe.outputs.mqtt.connection import Connection, ConnectionLog, ConnectionState
from goodwe.outputs.mqtt.message import Message, Will
from goodwe.outputs.mqtt.terms import Asked
from goodwe.times import NEVER

from .fakes import Clock
from .mqtt import settings

WILL = Will("goodwe/x/online", "0")


class Puppet:
    """A client of paho's whose broker says what the test says."""

    def __init__(self) -> None:
        self.trouble: OSError | None = None
        self.published: list[Message] = []
        self.on_packet = self.on_message = None
        self._ours, self.theirs = socket.socketpair()
        self._next: list = []
        self._open = True

    def hears(
        self, *said: Said, closes: bool = False, result: int = 0, trouble: OSError | None = None
    ) -> None:
        """The next loop_read() comes upon this."""
        self._next.append((said, closes, result, trouble))

    def socket(self) -> socket.socket | None:
        return self._ours if self._open else None

    def loop_read(self) -> int:
        said, closes, result, self.trouble = self._next.pop(0)
        for one in said:
            self.on_packet(one)
        if closes:
            self._open = False
        return result

    def loop_misc(self) -> int:
        if self._next:
            self._open = False
        return 0

    def publish(self, topic, payload, qos, retain):
        self.published.append(Message(topic, payload, qos, retain))
        return SimpleNamespace(rc=0, mid=len(self.published), is_published=lambda: False)

    def subscribe(self, topics):
        return 0, 1

    def want_write(self) -> bool:
        return False

    def connect(self, *arguments, **named) -> int:
        return 0

    def disconnect(self) -> None:
        self._open = False

    def will_set(self, *arguments, **named) -> None:
        pass


class House:
    """A connection on a clock that jumps."""

    def __init__(self, **changes) -> None:
        self.clock = Clock()
        self.clock.now = 1000.0
        self.loop = Loop(self.clock)
        self.puppets: list[Puppet] = []
        self.refusal: OSError | None = None
        self.probe_is_answered = False
        self.probes = 0
        self.connection = Connection(
            settings(1883, **{"server": ("nas",)} | changes),
            "me",
            loop=self.loop,
            random=Random(7),
            client_factory=self._puppet,
            connection_log=ConnectionLog(),
        )

    @property
    def puppet(self) -> Puppet:
        return self.puppets[-1]

    @property
    def status(self) -> dict:
        return self.connection.status(self.clock.now)

    def greet(self) -> None:
        """Begin the next attempt if none is under way, and go on as far as GREETING."""
        if self.connection.state is ConnectionState.PAUSED:
            self.clock.now = max(self.clock.now, self.connection.deadline)
            self.connection.tick(self.clock.now)
        while self.connection.state is ConnectionState.CONNECTING:
            self.loop.turn()
        assert self.connection.state is ConnectionState.GREETING

    def refuse(self, error: OSError) -> None:
        """The next attempt comes to no connection."""
        self.refusal = error
        self.clock.now = max(self.clock.now, self.connection.deadline)
        self.connection.tick(self.clock.now)
        while self.connection.state is ConnectionState.CONNECTING:
            self.loop.turn()
        assert self.connection.state is ConnectionState.PAUSED
        self.refusal = None

    def hear(self, *said: Said, **named) -> None:
        self.puppet.hears(*said, **named)
        self.connection.ready(self.clock.now)

    def connect(self) -> None:
        self.greet()
        self.hear(Said(CONNACK, 0, (0,), {}))
        assert self.connection.state is ConnectionState.CONNECTED

    def lose(self, after: float, **named) -> None:
        self.clock.now += after
        self.hear(closes=True, result=7, **named)
        assert self.connection.state is ConnectionState.PAUSED

    def probe(self) -> None:
        """Let time pass until the next probe has come back."""
        asked = self.probes
        self.clock.now = max(self.clock.now, self.connection.deadline)
        self.connection.tick(self.clock.now)
        while self.probes == asked or self.connection._probing:
            self.loop.turn()

    def _probe(self) -> Puppet:
        self.probes += 1
        puppet = Puppet()
        if self.probe_is_answered:
            puppet.hears(Said(CONNACK, 0, (1,), {}))
            puppet.theirs.send(b"1")
        return puppet

    def _puppet(self, name: str, **options) -> Puppet:
        if name == "":
            return self._probe()
        if self.refusal is not None:
            raise self.refusal
        self.puppets.append(Puppet())
        return self.puppet


@pytest.fixture(autouse=True)
def no_delay_on_a_pair(monkeypatch):
    """TCP_NODELAY is for TCP."""
    monkeypatch.setattr("goodwe.outputs.mqtt.attempt.no_delay", lambda descriptor: None)


def test_states_are_logged_as_they_change(caplog):
    caplog.set_level(logging.DEBUG)
    house = House()
    house.connect()
    house.lose(1.0)
    house.connect()
    house.connection.stop(house.clock.now)
    changes = [message.rpartition(": ")[2] for message in caplog.messages if " -> " in message]
    ways = ["paused -> connecting", "connecting -> greeting", "greeting -> connected"]
    assert changes == [*ways, "connected -> paused", *ways, "connected -> parting", "parting -> closed"]


def test_status_says_how_things_stand():
    house = House()
    assert house.status["state"] == "paused"
    assert house.status["next_try_seconds"] == 0.0
    house.greet()
    assert (house.status["state"], house.status["connected_seconds"]) == ("greeting", None)
    house.hear(Said(CONNACK, 0, (0,), {"ReceiveMaximum": 5, "ServerKeepAlive": 20}))
    house.clock.now += 3.0
    house.connection.publish(Message("goodwe/x/data", "{}", 1))
    assert house.status == {
        "state": "connected",
        "server": "nas",
        "client_id": "me",
        "connected_seconds": 3.0,
        "why_not": "",
        "next_try_seconds": None,
        "unacknowledged": 1,
        "waiting": 0,
        "left_out": [],
        "refused": [],
        "allowed": {"receive_maximum": 5, "keepalive": 20},
        "counts": {},
    }
    house.hear(Said(PUBACK, 1, (135,), {}))
    assert house.status["refused"] == ["goodwe/x/data"]
    house.lose(60.0)
    lost = house.status
    assert (lost["state"], lost["why_not"], lost["counts"]["lost"]) == ("paused", "connection lost", 1)
    assert 0.0 < lost["next_try_seconds"] <= 4.0


def test_what_a_broker_does_not_allow_is_said_once_for_all_connections_to_it(caplog):
    house = House(protocol="5")
    welcome = Said(CONNACK, 0, (0,), {"RetainAvailable": 0})
    house.greet()
    house.hear(welcome)
    house.connection.serve(WILL, lambda: None)
    house.greet()
    house.hear(welcome)
    assert sum("it keeps no retained messages" in message for message in caplog.messages) == 1
    house.lose(60.0)
    house.greet()
    house.hear(welcome)
    assert sum("it keeps no retained messages" in message for message in caplog.messages) == 2


def test_contested_name_is_said_once_and_peace_after_five_minutes(caplog):
    caplog.set_level(logging.INFO)
    house = House()
    for _ in range(5):
        house.connect()
        house.lose(2.0)
    assert sum("another program connects as me" in message for message in caplog.messages) == 1
    assert 30.0 <= house.status["next_try_seconds"] <= 60.0
    house.connect()
    before = len(caplog.messages)
    house.clock.now += 299.0
    house.connection.tick(house.clock.now)
    assert len(caplog.messages) == before
    house.clock.now += 2.0
    house.connection.tick(house.clock.now)
    assert caplog.messages[before:] == ["Connected to MQTT nas"]


def test_contest_puts_no_blame_on_what_was_just_on_its_way():
    """Who takes our name at once always hits the same message; when there is peace, it goes out again."""
    house, message = House(), Message("goodwe/x/data", "{}", 0)
    for _ in range(4):
        house.connect()
        assert house.connection.publish(message)
        house.lose(0.1)
    assert house.status["left_out"] == [message.topic]
    for _ in range(4):
        house.connect()
        house.lose(0.1)
    assert "another program connects as me" in house.status["why_not"]
    house.connect()
    assert house.connection.publish(message)
    assert (house.puppet.published, house.status["left_out"]) == ([message], [])


def test_broker_that_is_restarted_again_and_again_is_no_contest():
    """Nothing listens between its lives; that never happens where only another program has our name."""
    house = House()
    for _ in range(5):
        house.connect()
        house.lose(2.0)
        assert (house.status["why_not"], house.status["next_try_seconds"] <= 4.0) == ("connection lost", True)
        house.refuse(ConnectionRefusedError(111, "Connection refused"))


def test_server_that_is_dead_beside_a_contested_one_explains_nothing():
    house = House(server=("nas", "dead"))
    for _ in range(2):
        house.connect()
        house.lose(2.0)
        house.refuse(ConnectionRefusedError(111, "Connection refused"))
    house.connect()
    house.lose(2.0)
    assert "another program connects as me" in house.status["why_not"]


def test_broker_that_gets_messages_too_fast_is_left_in_peace_for_longer():
    house = House(protocol="5")
    pauses = []
    for _ in range(3):
        house.connect()
        house.hear(Said(DISCONNECT, 0, (150,), {}), closes=True)
        pauses.append(house.status["next_try_seconds"])
    assert pauses[2] > 5.0
    assert "it gets more messages than it allows" in house.status["why_not"]


def test_contested_name_that_is_lost_in_peace_is_contested_no_more(caplog):
    house = House()
    for _ in range(3):
        house.connect()
        house.lose(2.0)
    house.connect()
    house.lose(400.0)
    assert house.status["why_not"] == "connection lost"
    assert house.status["next_try_seconds"] <= 4.0


def test_connections_that_do_not_last_are_no_line_each(caplog):
    caplog.set_level(logging.INFO)
    house = House()
    for _ in range(50):
        house.connect()
        house.clock.now += 1.0
        house.hear(Said(DISCONNECT, 0, (151,), {}), closes=True)
    assert len(caplog.messages) <= 5
    house.connect()
    house.clock.now += 10.1
    house.connection.tick(house.clock.now)
    assert caplog.messages[-1] == "Connected to MQTT nas", "once it lasted"


def test_network_that_fails_under_a_message_blames_no_message(caplog):
    house = House()
    for _ in range(6):
        house.connect()
        house.connection.publish(Message("goodwe/x/data", "{}"))
        house.lose(0.1, trouble=OSError(113, "No route to host"))
    assert house.status["left_out"] == []
    assert house.status["why_not"] == "connection lost (No route to host)"
    assert "another program" not in caplog.text


def test_tls_alert_after_the_handshake_is_said(caplog):
    import ssl

    house = House()
    house.greet()
    alert = ssl.SSLError(1, "alert")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    house.hear(closes=True, result=7, trouble=alert)
    assert "set certfile and keyfile in [mqtt]" in caplog.text


@pytest.fixture
def hasty_probes(monkeypatch):
    monkeypatch.setattr("goodwe.outputs.mqtt.probe.PROBE_WITHIN", 0.01)


def test_attempt_that_hangs_is_given_up_once_a_probe_is_answered(hasty_probes):
    house = House()
    house.greet()
    began, hanging = house.clock.now, house.puppet
    for number in range(1, 4):
        house.probe()
        assert house.clock.now - began <= 2.5 * number
        assert house.connection.state is ConnectionState.GREETING
    house.probe_is_answered = True
    house.probe()
    assert house.connection.state is ConnectionState.CONNECTING, "at once"
    assert hanging.socket() is None or hanging.socket().fileno() < 0
    house.connect()
    assert (house.status["counts"], house.status["connected_seconds"]) == ({}, 0.0)


def test_attempt_that_a_probe_has_led_to_gets_all_the_time(hasty_probes):
    """A login may take longer than a probe, which has none."""
    house = House()
    house.greet()
    house.probe_is_answered = True
    house.probe()
    house.greet()
    assert (house.probes, house.connection.deadline) == (1, house.clock.now + 10.0)
    house.clock.now += 10.0
    house.connection.tick(house.clock.now)
    assert "accepts connections but does not answer" in house.status["why_not"]
    house.greet()
    house.probe()
    assert house.probes == 2, "the next one as any other"


def test_answer_to_a_probe_that_is_older_than_the_attempt_ends_nothing(hasty_probes):
    house = House()
    house.greet()
    house.connection._probed(0, house.clock.now - 0.1, lambda: True)
    assert house.connection.state is ConnectionState.GREETING


@pytest.mark.parametrize("state", ["paused", "connected", "closed"])
def test_late_answer_to_a_probe_ends_nothing(state, hasty_probes):
    house = House()
    house.greet()
    if state == "paused":
        house.hear(closes=True, result=7)
    elif state == "connected":
        house.hear(Said(CONNACK, 0, (0,), {}))
    else:
        house.connection.stop(house.clock.now)
    house.connection._probed(0, house.clock.now, lambda: True)
    assert house.connection.state.value == state


def test_attempt_that_goes_on_for_ever_without_coming_to_an_end_is_given_up(caplog):
    """A websocket's handshake that comes byte by byte runs into no limit of a single step."""
    house = House()
    house.connection.tick(house.clock.now)
    first = house.connection._attempt
    house.connection._probe_at = NEVER
    assert house.connection.deadline == house.clock.now + 120.0
    house.clock.now += 120.0
    house.connection.tick(house.clock.now)
    assert house.connection.state is ConnectionState.PAUSED
    assert "does not answer" in caplog.text
    house.greet()
    assert house.connection._attempt is not first
    assert not first.is_wanted, "its CONNECT would end the connection of the one that took its place"


def test_connect_of_an_attempt_that_was_given_up_is_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        attempt = Attempt(settings(port), host="127.0.0.1", client_id="me", asked=Asked(40), will=None)
        attempt.drop()
        with pytest.raises(ConnectionAbortedError):
            attempt.open(paho_client)
        connection, _ = listener.accept()
        connection.settimeout(10.0)
        assert connection.recv(1) == b""
        connection.close()


def test_connection_that_stands_still_is_made_anew_once_a_probe_is_answered(hasty_probes):
    """The network is back, and the kernel, which has tried in vain, waits for up to two minutes."""
    house, told = House(), []
    house.connect()
    assert house.connection.deadline > house.clock.now + 9.0, "nothing is probed while all is well"
    assert house.connection.publish(Message("goodwe/x/data", "1", 1), told.append)
    house.puppet.socket().send(b"never read")
    house.clock.now += 2.5
    assert house.connection.publish(Message("goodwe/x/data", "2", 1), told.append)
    house.probe()
    assert (house.probes, house.connection.state) == (1, ConnectionState.CONNECTED)
    house.probe_is_answered = True
    house.probe()
    assert (told, house.connection.state) == ([False, False], ConnectionState.CONNECTING)
    assert house.status["counts"] == {"lost": 1}
    house.connect()


def test_connection_that_goes_on_is_probed_no_more(hasty_probes):
    house = House()
    house.connect()
    assert house.connection.publish(Message("goodwe/x/data", "1"))
    house.puppet.socket().send(b"late")
    house.clock.now += 2.5
    assert house.connection.publish(Message("goodwe/x/data", "2"))
    house.probe()
    house.puppet.theirs.recv(100)
    house.probe_is_answered = True
    house.probe()
    assert house.connection.state is ConnectionState.CONNECTED
    house.clock.now += 1.0
    assert house.connection.publish(Message("goodwe/x/data", "3"))
    assert house.connection.deadline > house.clock.now + 9.0


def test_ping_without_an_echo_is_a_loss(caplog):
    house = House(keepalive=60)
    house.connect()
    house.puppet.hears()
    house.clock.now += 41.0
    house.connection.tick(house.clock.now)
    assert house.connection.state is ConnectionState.PAUSED
    assert "connection lost (it does not answer any more)" in caplog.text


def test_message_that_waits_is_told_lost_with_its_connection():
    house, told = House(), []
    house.connection.serve(WILL, lambda: None)
    house.connect()
    house.connection.publish(Message("goodwe/x/bad", "1"))
    house.lose(0.1)
    house.connect()
    house.connection.publish(Message("goodwe/x/bad", "1"))
    assert house.connection.publish(Message("goodwe/x/new", "1", 1), told.append)
    assert house.connection.publish(Message("goodwe/x/other", "1", 0), told.append)
    assert house.status["waiting"] == 2
    assert house.connection.deadline <= house.clock.now + 0.5, "then it has its turn"
    house.lose(0.1)
    assert told == [False], "only of what would have been acknowledged"


def test_message_that_waits_goes_when_the_one_before_has_passed():
    house = House()
    house.connect()
    house.connection.publish(Message("goodwe/x/a", "1"))
    house.lose(0.1)
    house.connect()
    for topic in ("a", "b", "c"):
        assert house.connection.publish(Message(f"goodwe/x/{topic}", "1"))
    sent = []
    while house.status["waiting"]:
        sent.append(len(house.puppet.published))
        house.clock.now = house.connection.deadline
        house.connection.tick(house.clock.now)
    assert [*sent, len(house.puppet.published)] == [1, 2, 3]
    assert house.connection.deadline > house.clock.now + 10.0, "nobody wakes up for what has passed"


def test_goodbye_waits_for_what_waits_and_not_for_ever():
    house = House()
    house.connect()
    house.connection.publish(Message("goodwe/x/a", "1", 1))
    house.connection.stop(house.clock.now)
    house.connection.stop(house.clock.now)
    assert house.connection.state is ConnectionState.PARTING
    assert house.connection.deadline == house.clock.now + 2.0
    house.clock.now += 2.0
    house.connection.tick(house.clock.now)
    assert house.connection.closed
    assert house.connection.deadline == NEVER


def test_connection_that_is_lost_while_it_says_goodbye_is_closed():
    house = House()
    house.connect()
    house.connection.publish(Message("goodwe/x/a", "1", 1))
    house.connection.stop(house.clock.now)
    house.hear(closes=True, result=7)
    assert house.connection.closed


@pytest.mark.parametrize("state", ["paused", "greeting", "connected"])
def test_close_is_without_a_word_in_each_state(state):
    house = House()
    if state != "paused":
        house.greet()
    if state == "connected":
        house.hear(Said(CONNACK, 0, (0,), {}))
    house.connection.close()
    house.connection.close()
    assert house.connection.closed
    assert house.connection.poll_for() is None
    house.connection.ready(house.clock.now)
    house.connection.tick(house.clock.now)


def test_what_paho_stumbles_over_ends_the_attempt_and_nothing_else():
    attempt = Attempt(settings(1883), host="nas", client_id="me", asked=Asked(40), will=None)
    puppet = Puppet()
    attempt.client = puppet
    puppet.loop_read = lambda: [][1]  # as with paho 1 and a reason that it does not know
    assert attempt.transfer() == paho.MQTT_ERR_PROTOCOL
    assert attempt.is_gone


def test_goodbye_in_place_of_a_welcome_is_a_refusal(caplog):
    """Not before CONNACK, says the specification; some brokers do."""
    house = House(protocol="5")
    house.greet()
    house.hear(Said(DISCONNECT, 0, (137,), {"ReasonString": "at noon"}), closes=True)
    assert "it says that it is busy (it says: at noon)" in caplog.text


def test_second_welcome_in_one_reading_with_the_first_is_told_as_well(caplog):
    """A websocket hands over both at a time."""
    house = House()
    house.greet()
    house.puppet.breach = "a second CONNACK"
    house.hear(Said(CONNACK, 0, (0,), {}), closes=True, result=2)
    assert "it breaks the protocol, by a second CONNACK" in caplog.text


def test_foreign_messages_that_come_all_at_once_are_one_line(caplog):
    """TLS and websockets hand over many at a time."""
    house = House()
    house.connect()
    for number in range(50):
        message = SimpleNamespace(topic=f"junk/{number}", payload=b"", retain=False)
        house.puppet.on_message(None, None, message)
    house.hear()
    assert sum("did not ask for, such as junk/" in message for message in caplog.messages) == 1
    assert house.status["counts"]["foreign"] == 50
