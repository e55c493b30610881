"""Readings and availability on a real mosquitto; the back-off on a clock that jumps."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import replace
from random import Random

import paho.mqtt.client as paho
import pytest

from goodwe.errors import StartError
from goodwe.events import Found, Offline, Online
from goodwe.loop import Loop
from goodwe.outputs.mqtt import connection as broker_module
from goodwe.outputs.mqtt.client import paho_client
from goodwe.outputs.mqtt.connection import Connection, ConnectionLog, ConnectionState
from goodwe.outputs.mqtt.message import Will
from goodwe.outputs.mqtt.tls import tls_context

from .authority import CA
from .broker import PATIENCE, Mosquitto, Subscriber, free_port, let_pass, wait_for
from .fakes import Clock
from .mqtt import DATA, ONLINE, OTHER, SERIAL, reading, serving, settings


def test_reading_is_data_then_online(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), Online(SERIAL, 11))
    serving(running)
    running.tell(reading())
    topic, payload, retained = subscriber.next()
    assert (topic, retained) == (DATA, False)
    assert json.loads(payload)["runningInfo"]["pac"] == 38
    assert subscriber.next()[:2] == (ONLINE, "1")


def test_nothing_is_published_before_the_first_reading(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(Online(SERIAL, 11), Offline(SERIAL, 11, "no answer"))
    running.stop()
    subscriber.nothing(0.3)


def test_online_is_retained_and_data_is_not(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    late = Subscriber(mosquitto.port)
    assert late.next() == (ONLINE, "1", True)
    late.nothing(0.2)
    late.close()


def test_data_is_retained_with_qos_when_configured(run, mosquitto, subscriber):
    running = run(mosquitto.port, qos=1, retain=True)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    late = Subscriber(mosquitto.port, DATA)
    assert late.next()[::2] == (DATA, True)
    late.close()
    assert f"'{DATA}', ... (1" in mosquitto.log or "q1, r1" in mosquitto.log


def test_offline_is_said_at_once_and_kept(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    running.tell(Offline(SERIAL, 11, "unplugged"))
    assert subscriber.next()[:2] == (ONLINE, "0")
    late = Subscriber(mosquitto.port)
    assert late.next() == (ONLINE, "0", True)
    late.close()


def test_clean_stop_says_offline_and_goodbye(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    running.stop()
    assert subscriber.next()[:2] == (ONLINE, "0")
    subscriber.nothing(0.3)
    wait_for(lambda: "Received DISCONNECT from goodwe-usb" in mosquitto.log, "DISCONNECT")


PROGRAM = """
import sys, time
from random import Random
from goodwe.events import Found, Reading
from goodwe.loop import Loop
from goodwe.outputs import Context
from goodwe.outputs.mqtt import make
from goodwe.config import parse
loop = Loop(time.monotonic)
off = "[inverter]\\nstatefile =\\n[homeassistant]\\ndiscovery = off\\n"
config = parse(f"{off}[mqtt]\\nserver = 127.0.0.1\\nport = {sys.argv[1]}\\n", "test")[0]
output = make(config.mqtt, Context(loop, Random(1), time.time, None, config, 300.0))
for serial in sys.argv[2:]:
    output.handle(Found(serial, 11))
    output.handle(Reading(serial, 11, 1, {"pac": 1, "workMode": 1, "errorMessage": []}, 1.7e9))
loop.run(until=lambda: False)
"""


def test_after_kill_9_every_inverter_is_offline(mosquitto, subscriber):
    serials = [SERIAL, OTHER, "15000DTU166W0157"]
    command = [sys.executable, "-c", PROGRAM, str(mosquitto.port), *serials]
    program = subprocess.Popen(command)
    subscriber.until_all({(f"goodwe/{serial}/online", "1") for serial in serials})
    os.kill(program.pid, signal.SIGKILL)
    program.wait(PATIENCE)
    gone = {subscriber.next()[:2] for _ in serials}
    assert gone == {(f"goodwe/{serial}/online", "0") for serial in serials}
    late = Subscriber(mosquitto.port)
    assert {late.next() for _ in serials} == {(f"goodwe/{serial}/online", "0", True) for serial in serials}
    late.close()


def test_several_inverters_have_a_client_each(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), Found(OTHER, 11), reading(), reading(serial=OTHER))
    subscriber.until_all({(ONLINE, "1"), (f"goodwe/{OTHER}/online", "1")})
    assert f"as goodwe-usb-{OTHER} " in mosquitto.log
    running.tell(Offline(OTHER, 11, "unplugged"))
    subscriber.until(f"goodwe/{OTHER}/online", "0")
    running.tell(reading())
    assert subscriber.next()[0] == DATA


def test_connection_is_opened_again_with_the_will_without_a_word_in_the_log(run, mosquitto, caplog):
    caplog.set_level("INFO")
    running = run(mosquitto.port)
    wait_for(lambda: "Connected to MQTT 127.0.0.1" in caplog.text, "connected")
    running.tell(Found(SERIAL, 11))
    serving(running)
    assert caplog.text.count("Connected to MQTT") == 1
    assert "WARNING" not in caplog.text
    assert "Will message specified" in mosquitto.log


def test_broker_that_is_absent_at_first_gets_the_newest_reading_and_the_state(run, tmp_path, caplog):
    port = free_port()
    running = run(port)
    running.tell(Found(SERIAL, 11))
    for n in range(5):
        assert running.tell(reading(1_700_000_000.0 + n, pac=n)) < 0.2
    wait_for(lambda: "nothing listens there" in caplog.text, "the refusal is logged")
    assert f"127.0.0.1:{port}" in caplog.text
    mosquitto = Mosquitto(tmp_path, port=port).start()
    subscriber = Subscriber(port)
    try:
        messages = [subscriber.next()]
        if messages[0][0] == DATA:
            assert json.loads(messages[0][1])["runningInfo"]["pac"] == 4, "the newest and no other"
            messages.append(subscriber.next())
        assert messages[-1][:2] == (ONLINE, "1")
    finally:
        subscriber.close()
        mosquitto.stop()
    assert sum("nothing listens" in message for message in caplog.messages) == 1, "one line a change"


def test_change_is_one_line_however_many_inverters_there_are(run, mosquitto, caplog):
    caplog.set_level("INFO")
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading(), Found(OTHER, 11), reading(serial=OTHER))
    serving(running, SERIAL)
    serving(running, OTHER)
    mosquitto.stop()
    wait_for(lambda: "nothing listens there" in caplog.text, "the loss is noticed")
    mosquitto.start()
    serving(running, SERIAL)
    serving(running, OTHER)
    told = [message.partition("; ")[0] for message in caplog.messages if "MQTT" in message]
    assert told.count("Connected to MQTT 127.0.0.1:" + str(mosquitto.port)) == 2
    assert len(told) == len(set(told)) + 1


def test_broker_that_restarts_gets_the_state_again(run, mosquitto, caplog):
    caplog.set_level("INFO")
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    serving(running)
    mosquitto.stop()
    wait_for(lambda: "connection lost" in caplog.text, "the loss is noticed")
    running.tell(Offline(SERIAL, 11, "no answer"))
    mosquitto.start()
    subscriber = Subscriber(mosquitto.port)
    subscriber.until(ONLINE, "0")
    subscriber.close()
    assert caplog.text.count("connection lost") == 1


def test_frozen_broker_holds_nobody_and_is_noticed(run, mosquitto, caplog):
    running = run(mosquitto.port, keepalive=5)
    running.tell(Found(SERIAL, 11), reading())
    serving(running)
    mosquitto.freeze()
    frozen = time.monotonic()
    slowest = 0.0
    while "connection lost" not in caplog.text:
        assert time.monotonic() - frozen < 7.5, "one and a half keep-alives"
        slowest = max(slowest, running.tell(reading()))
        let_pass(0.01)  # a hundred times as often as a real one, and the garbage collector keeps up
    assert slowest < 0.2
    mosquitto.thaw()
    subscriber = Subscriber(mosquitto.port)
    serving(running)
    running.tell(reading())
    subscriber.until(DATA)
    subscriber.close()


def test_listener_that_never_answers_is_given_up(run, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = run(listener.getsockname()[1])
        running.tell(Found(SERIAL, 11))
        assert running.tell(reading()) < 0.2
        connection = running.output.pool._first
        wait_for(lambda: connection.state is ConnectionState.GREETING, "connected")
        assert connection.deadline - time.monotonic() < broker_module.CONNACK_WITHIN + 0.1
        running.loop.post(lambda: connection.tick(time.monotonic()))
        wait_for(lambda: "accepts connections but does not answer" in caplog.text, "given up")


def test_listener_that_closes_at_once_is_one_line(run, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        run(listener.getsockname()[1])
        for _ in range(3):
            listener.accept()[0].close()
    wait_for(lambda: "closed the connection without an answer" in caplog.text, "the reason is logged")
    assert len([m for m in caplog.messages if "closed the connection" in m]) == 1


def test_listener_that_resets_at_once_is_no_defect(run, caplog):
    linger = struct.pack("ii", 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        running = run(listener.getsockname()[1])
        for _ in range(3):
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
    wait_for(lambda: "trying again until it works" in caplog.text, "the reason is logged")
    running.tell()


def test_connect_that_could_not_be_written_is_a_failed_attempt(caplog):
    class Reset(Refusing):
        """paho reports it by a result, not by an exception, and has closed its socket."""

        def connect(self, host, port, keepalive):
            return 7

        def socket(self):
            return None

    at = At([REFUSED])
    at.connection._client_factory = lambda name: Reset([])
    assert len(at.pauses(3)) == 3
    assert "closed the connection without an answer" in caplog.text


def test_what_an_earlier_connection_lost_delays_no_goodbye(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    subscriber.close()
    mosquitto.freeze()
    running.tell(reading())
    mosquitto.stop()
    mosquitto.start()
    serving(running)
    again = Subscriber(mosquitto.port)
    running.tell(reading())
    again.until(ONLINE, "1")
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < broker_module.GOODBYE_WITHIN / 2
    again.close()


def password_file(tmp_path) -> str:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "me", "hunter2"], check=True, timeout=30)
    return f"password_file {file}\n"


def test_login_is_used(run, tmp_path):
    mosquitto = Mosquitto(tmp_path, lines=password_file(tmp_path)).start()
    subscriber = Subscriber(mosquitto.port, username="me", password="hunter2")
    running = run(mosquitto.port, username="me", password="hunter2")
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    subscriber.close()
    mosquitto.stop()


def test_refused_login_says_what_to_check_and_never_the_password(run, tmp_path, caplog):
    caplog.set_level("DEBUG")
    mosquitto = Mosquitto(tmp_path, lines=password_file(tmp_path)).start()
    run(mosquitto.port, username="me", password="wrong-secret")
    wait_for(lambda: "check username and password in [mqtt]" in caplog.text, "the reason is logged")
    assert "wrong-secret" not in caplog.text
    mosquitto.stop()


def test_servers_are_tried_in_turn(run, mosquitto, caplog):
    caplog.set_level("INFO")
    running = run(mosquitto.port, server=("127.0.0.2", "no-such-host.invalid", "127.0.0.1"))
    wait_for(lambda: "Connected to MQTT 127.0.0.1" in caplog.text, "the third is reached", 60)
    assert "127.0.0.2" in caplog.text
    assert "no-such-host.invalid" in caplog.text
    running.tell(Found(SERIAL, 11))
    serving(running)


def test_idle_connection_is_kept_alive(run, mosquitto):
    running = run(mosquitto.port, keepalive=5)
    running.tell(Found(SERIAL, 11))
    serving(running)
    wait_for(lambda: "Received PINGREQ" in mosquitto.log, "a ping")
    assert running.output.pool.of(SERIAL) is not None


def test_nothing_piles_up_while_the_broker_is_away(run):
    running = run(free_port())
    running.tell(Found(SERIAL, 11))
    for n in range(1000):
        running.tell(reading(pac=n))
    inverter = running.output.inverters[SERIAL]
    assert inverter.newest.values["pac"] == 999
    assert running.output.pool.any() is None
    assert running.output.pool.status(0.0)[SERIAL]["unacknowledged"] == 0
    running.stop()


def test_stop_without_an_acknowledgement_leaves_the_will_to_the_broker(run, mosquitto, subscriber):
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    subscriber.close()
    mosquitto.freeze()
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < broker_module.GOODBYE_WITHIN + 1.0
    mosquitto.thaw()
    late = Subscriber(mosquitto.port)
    late.until(ONLINE, "0")
    late.close()


# TLS


@pytest.fixture(scope="module")
def authority():
    return CA()


def tls_broker(tmp_path, authority, name="127.0.0.1", more="", days=30) -> Mosquitto:
    certificate = authority.issue_cert(name, days)
    files = {
        "cert": certificate.cert_pem,
        "key": certificate.private_key_pem,
        "ca": authority.cert_pem,
    }
    for kind, blob in files.items():
        blob.write_to_path(str(tmp_path / f"{kind}.pem"))
    lines = f"allow_anonymous true\ncertfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem\n"
    return Mosquitto(tmp_path, lines=lines + f"cafile {tmp_path}/ca.pem\n" + more).start()


def test_tls_with_an_own_authority_and_client_certificate(run, tmp_path, authority, caplog):
    caplog.set_level("INFO")
    mosquitto = tls_broker(tmp_path, authority, more="require_certificate true\n")
    client = authority.issue_cert("logger")
    client.private_key_and_cert_pem.write_to_path(str(tmp_path / "client.pem"))
    own = {"certfile": str(tmp_path / "client.pem"), "keyfile": str(tmp_path / "client.pem")}
    running = run(mosquitto.port, tls=True, cafile=str(tmp_path / "ca.pem"), **own)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading())
    wait_for(lambda: f"'{DATA}'" in mosquitto.log and f"'{ONLINE}'" in mosquitto.log, "published over TLS")
    running.stop()
    wait_for(lambda: mosquitto.log.count("Received DISCONNECT") >= 1, "goodbye over TLS")
    mosquitto.stop()


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("another authority", "self-signed certificate in certificate chain; check cafile in [mqtt]"),
        (
            "another host",
            "its certificate is for another name: IP address mismatch, certificate is not valid",
        ),
        (
            "expired",
            "its certificate is not trusted: certificate has expired; renew it, or set this machine's",
        ),
    ],
)
def test_certificate_that_is_not_trusted_is_refused_and_said(run, tmp_path, authority, caplog, case, said):
    name = "elsewhere.example" if case == "another host" else "127.0.0.1"
    mosquitto = tls_broker(tmp_path, authority, name, days=-1 if case == "expired" else 30)
    trusted = CA() if case == "another authority" else authority
    trusted.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    run(mosquitto.port, tls=True, cafile=str(tmp_path / "trusted.pem"))
    wait_for(lambda: "its certificate" in caplog.text, "refused")
    assert said in caplog.text
    mosquitto.stop()


def test_tls_to_a_port_without_it_is_said(run, mosquitto, caplog):
    run(mosquitto.port, tls=True)
    wait_for(lambda: "127.0.0.1" in caplog.text, "refused")
    assert "TLS" in caplog.text or "closed" in caplog.text or "reset" in caplog.text


def test_tls_file_that_is_none_stops_the_start(tmp_path):
    (tmp_path / "ca.pem").write_text("rubbish")
    with pytest.raises(StartError, match=f"cafile = {tmp_path}/ca.pem: must have certificates in it"):
        tls_context(str(tmp_path / "ca.pem"), "", "")
    with pytest.raises(StartError, match=r"keyfile = .*: must be a certificate and its key"):
        tls_context("", str(tmp_path / "ca.pem"), str(tmp_path / "ca.pem"))


def test_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path, authority):
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_pem.write_to_path(str(tmp_path / "cert.pem"))
    certificate.encrypted_key("hunter2").write_to_path(tmp_path / "key.pem")
    with pytest.raises(StartError, match=r"keyfile has a passphrase"):
        tls_context("", str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


# the pauses, with literal times


class Refusing:
    """A client whose broker is not there."""

    def __init__(self, errors):
        self.errors = errors

    def __getattr__(self, name):
        assert name in ("username_pw_set", "will_set", "tls_set_context")
        return lambda *arguments, **named: None

    def connect(self, host, port, keepalive):
        raise self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]


class At:
    """A connection on a clock that jumps; what its worker finds comes back through the real loop."""

    def __init__(self, errors, servers=("nas",)):
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.tried = []
        mqtt = replace(settings(1883), server=servers)
        self.connection = Connection(
            mqtt,
            "me",
            loop=self.loop,
            random=Random(7),
            client_factory=lambda name: Refusing(errors),
            connection_log=ConnectionLog(),
        )

    def pauses(self, count):
        pauses = []
        for _ in range(count):
            self.connection.tick(self.clock.now)
            while self.connection.state is ConnectionState.CONNECTING:
                self.loop.turn()
            pauses.append(self.connection.deadline - self.clock.now)
            self.clock.now = self.connection.deadline
        return pauses


REFUSED = ConnectionRefusedError(111, "Connection refused")


def test_machine_without_a_broker_is_asked_within_four_seconds_for_ever():
    first, second, *pauses = At([REFUSED]).pauses(100)
    assert 0.5 <= first <= 1.0 <= second <= 2.0, "what just starts is soon there"
    assert all(2.0 <= pause <= 4.0 for pause in pauses)
    assert len(set(pauses)) == 98, "spread by chance"


def test_there_is_no_pause_between_servers():
    pauses = At([REFUSED], ("a", "b", "c")).pauses(6)
    assert [pause == 0 for pause in pauses] == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (REFUSED, "nothing listens there; is the broker running"),
        (socket.gaierror(-2, "Name or service not known"), "its name is not known; check server in [mqtt]"),
        (TimeoutError("timed out"), "no answer; is the machine on"),
        (OSError(113, "No route to host"), "No route to host; is the machine on, is server in [mqtt] right?"),
        (OSError("odd"), "odd"),
        (UnicodeError("label too long"), "not a host name (label too long); check server"),
    ],
)
def test_reason_is_said_once_with_what_to_check(error, said, caplog):
    At([error]).pauses(5)
    (line,) = caplog.messages
    assert line.startswith(f"MQTT nas: {said}")


def test_new_reason_is_a_new_line(caplog):
    At([REFUSED, TimeoutError("x"), REFUSED, TimeoutError("x")]).pauses(4)
    assert len(caplog.messages) == 2


def test_unexpected_defect_is_not_swallowed():
    at = At([ZeroDivisionError("a defect")])
    at.connection.tick(0.0)
    with pytest.raises(ZeroDivisionError):
        at.loop.turn()


def test_connection_that_is_made_after_the_stop_is_dropped(run, mosquitto):
    loop = Loop(time.monotonic)
    connection = Connection(
        settings(mosquitto.port),
        "me",
        loop=loop,
        random=Random(1),
        client_factory=paho_client,
        connection_log=ConnectionLog(),
    )
    connection.serve(Will("a", "0"), lambda: None)
    connection.tick(0.0)
    connection.stop(0.0)
    assert connection.closed
    loop.turn()
    assert connection.poll_for() is None


def test_client_is_made_for_the_paho_that_is_installed():
    assert isinstance(paho_client("me"), paho.Client)
