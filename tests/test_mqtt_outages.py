"""A broker that is back has the first value within 5 s, whatever the outage was like; a slow one gets its time.

Between program and broker stands what an outage leaves behind: peers that take a connection and say nothing, ever.
"""

import socket
import ssl
import time
from contextlib import ExitStack

import pytest

from goodwe.events import Found
from goodwe.outputs.mqtt import connection as connection_module
from goodwe.outputs.mqtt import probe as probe_module
from goodwe.outputs.mqtt.connection import ConnectionState

from .broker import free_port, let_pass, wait_for
from .fake_broker import FakeBroker, Talk, connack, obliging
from .mqtt import DATA, SERIAL, reading
from .proxy import Proxy
from .test_mqtt_kinds import authority, both, each_kind  # noqa: F401 (fixtures)

BACK_WITHIN = 5.0
"""Seconds."""
SLOW = 2.0
"""Seconds that a slow broker takes; five times as long as an impatient probe."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Probes five times as often; what an attempt and a probe may take stays what it is."""
    monkeypatch.setattr(connection_module, "PROBE_EVERY", 0.5)


@pytest.fixture
def impatient(monkeypatch):
    """Probes that give up after a fifth of their time."""
    monkeypatch.setattr(probe_module, "PROBE_WITHIN", 0.4)


@pytest.fixture
def fake():
    """Makes brokers from scripts."""
    with ExitStack() as stack:

        def start(script, **options) -> FakeBroker:
            broker = FakeBroker(script, **options)
            stack.callback(broker.close)
            return broker

        yield start


def own_connects(broker: FakeBroker) -> int:
    """Connections under our name; a probe has none."""
    return sum(talk.connect is not None and talk.connect.client_id != "" for talk in broker.talks)


@each_kind
def test_attempt_that_hangs_is_given_up_when_the_broker_is_back(run, both, kind):  # noqa: F811
    proxy = Proxy(both.port)
    proxy.holds_newcomers = True
    running = run(proxy.port, **both.changes)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: len(proxy.held) > 1, "an attempt and a probe hang")
    proxy.holds_newcomers = False
    back = time.monotonic()
    wait_for(lambda: f"'{DATA}'" in both.mosquitto.log, "the first value", BACK_WITHIN)
    assert time.monotonic() - back < BACK_WITHIN
    proxy.close()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("said", [b"", b"\x20", b"\x20\x02\x00"])
def test_peer_that_dies_within_its_welcome_is_not_there(run, fake, authority, said, tls):  # noqa: F811
    dies = [True]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")

    def script(talk: Talk) -> None:
        if dies[0]:
            talk.next()
            talk.send(said)
            let_pass(60.0)
        obliging()(talk)

    broker = fake(script, tls=context if tls else None)
    running = run(broker.port, tls=tls, cafile=str(authority / "ca.pem") if tls else "")
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: len(broker.talks) > 3, "an attempt, and probes that hear nothing")
    assert running.output.pool._first.state is ConnectionState.GREETING
    dies[0] = False
    wait_for(lambda: DATA in broker.topics(), "the first value", BACK_WITHIN)


def test_server_that_is_back_is_found_behind_silent_ones(run, fake):
    """Each of these would be waited for in turn, those that drop what comes and those that only listen."""
    port = free_port()
    silent = [f"127.0.0.{number}" for number in range(2, 6)]
    with ExitStack() as stack:
        for host in silent[:2]:
            stack.enter_context(socket.create_server((host, port)))
        for host in silent[2:]:  # its queue is full: the kernel drops what else comes
            listener = stack.enter_context(socket.create_server((host, port), backlog=0))
            stack.enter_context(socket.create_connection(listener.getsockname()))
        running = run(port, server=(*silent, "127.0.0.1"))
        running.tell(Found(SERIAL, 11), reading())
        connection = running.output.pool._first
        wait_for(lambda: connection.state is ConnectionState.GREETING, "an attempt hangs")
        broker = fake(obliging(), port=port)
        wait_for(lambda: DATA in broker.topics(), "the first value", BACK_WITHIN)


def test_broker_that_needs_long_to_answer_gets_the_time(run, fake, impatient):
    """A machine under load, or one that is slow at TLS: a probe hears nothing in time either."""

    def script(talk: Talk) -> None:
        let_pass(SLOW)
        obliging()(talk)

    broker = fake(script)
    running = run(broker.port)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: DATA in broker.topics(), "the first value")
    assert own_connects(broker) <= 2, "another one with the will, and none given up"


def test_broker_that_needs_long_for_a_login_gets_the_time(run, fake, impatient):
    """A probe logs in nowhere and is answered at once; that must not end one attempt after the other."""

    def slowly(talk: Talk) -> bytes:
        let_pass(SLOW)
        assert talk.connect is not None
        return connack(version=talk.connect.version)

    broker = fake(obliging(slowly))
    running = run(broker.port)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: DATA in broker.topics(), "the first value")
