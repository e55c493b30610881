"""The same on each kind of connection: MQTT 3.1.1 and 5, plain, TLS and websockets, and on bad networks."""

import contextlib
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from goodwe.events import Found, Offline
from goodwe.outputs.mqtt import backoff
from goodwe.outputs.mqtt import connection as broker_module
from goodwe.outputs.mqtt.client import paho_client
from goodwe.outputs.mqtt.connection import ConnectionState

from .authority import CA
from .broker import PATIENCE, Mosquitto, Subscriber, free_port, let_pass, wait_for
from .mqtt import DATA, ONLINE, OTHER, SERIAL, feature, reading, serving
from .proxy import Proxy

KINDS = [
    {"protocol": protocol, "transport": transport, "tls": tls}
    for protocol in ("3.1.1", "5")
    for transport in ("tcp", "websockets")
    for tls in (False, True)
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
protocols = pytest.mark.parametrize("protocol", ["3.1.1", "5"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_pem.write_to_path(str(folder / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return folder


class Both:
    """A broker with a listener of the kind, and a plain one for whoever looks on."""

    def __init__(self, folder, kind, authority):
        self.port = free_port()
        lines = "allow_anonymous true\n"
        lines += f"listener {self.port} 127.0.0.1\n"
        if kind["transport"] == "websockets":
            lines += "protocol websockets\n"
        if kind["tls"]:
            lines += f"certfile {authority}/cert.pem\nkeyfile {authority}/key.pem\n"
        self.mosquitto = Mosquitto(folder, lines=lines).start()
        self.changes = {**kind, "cafile": f"{authority}/ca.pem" if kind["tls"] else ""}


@pytest.fixture
def both(tmp_path, kind, authority):
    both = Both(tmp_path, kind, authority)
    yield both
    both.mosquitto.stop()


@each_kind
def test_reading_state_restart_and_goodbye(run, both, caplog):
    caplog.set_level("INFO")
    running = run(both.port, **both.changes)
    running.tell(Found(SERIAL, 11))
    serving(running)
    subscriber = Subscriber(both.mosquitto.port)
    running.tell(reading())
    topic, payload, _ = subscriber.next()
    assert (topic, json.loads(payload)["runningInfo"]["pac"]) == (DATA, 38)
    assert subscriber.next()[:2] == (ONLINE, "1")
    subscriber.close()
    both.mosquitto.stop()
    wait_for(lambda: "connection lost" in caplog.text, "the loss is noticed")
    running.tell(Offline(SERIAL, 11, "no answer"))
    both.mosquitto.start()
    late = Subscriber(both.mosquitto.port)
    late.until(ONLINE, "0")
    running.tell(reading())
    late.until(ONLINE, "1")
    running.stop()
    late.until(ONLINE, "0")
    late.close()
    wait_for(lambda: "Received DISCONNECT from goodwe-usb" in both.mosquitto.log, "goodbye")


@each_kind
def test_many_acknowledgements_at_once_are_all_seen(run, both, tmp_path):
    running = run(both.port, qos=1, backlog=str(tmp_path / "backlog.db"), **both.changes)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(*(reading(1.7e9 + n, pac=n) for n in range(50)))
    wait_for(lambda: not running.output.pool._first._attempt.unacknowledged, "every acknowledgement")
    assert feature(running, "backlog")._backlog._live == []
    running.stop()


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
text = off + "[mqtt]\\nserver = 127.0.0.1\\nport = %s\\nprotocol = %s\\n" % tuple(sys.argv[1:3])
config = parse(text, "test")[0]
output = make(config.mqtt, Context(loop, Random(1), time.time, None, config, 300.0))
for serial in sys.argv[3:]:
    output.handle(Found(serial, 11))
    output.handle(Reading(serial, 11, 1, {"pac": 1, "workMode": 1, "errorMessage": []}, 1.7e9))
loop.run(until=lambda: False)
"""


@protocols
def test_sixteen_inverters_are_offline_after_kill_9(mosquitto, subscriber, protocol):
    serials = [f"15000DTU166W{n:04}" for n in range(16)]
    command = [sys.executable, "-c", PROGRAM, str(mosquitto.port), protocol, *serials]
    program = subprocess.Popen(command)
    subscriber.until_all({(f"goodwe/{serial}/online", "1") for serial in serials})
    os.kill(program.pid, signal.SIGKILL)
    program.wait(PATIENCE)
    subscriber.until_all({(f"goodwe/{serial}/online", "0") for serial in serials})


@protocols
@pytest.mark.parametrize("persistence", [True, False])
def test_online_is_right_after_a_broker_restart_with_and_without_memory(run, tmp_path, protocol, persistence):
    lines = "allow_anonymous true\n"
    if persistence:
        (tmp_path / "store").mkdir()
        lines += f"persistence true\npersistence_location {tmp_path}/store/\nautosave_on_changes true\n"
        lines += "autosave_interval 1\n"
    mosquitto = Mosquitto(tmp_path, lines=lines).start()
    running = run(mosquitto.port, protocol=protocol)
    running.tell(Found(SERIAL, 11), Found(OTHER, 11), reading(), reading(serial=OTHER))
    subscriber = Subscriber(mosquitto.port)
    subscriber.until_all({(ONLINE, "1"), (f"goodwe/{OTHER}/online", "1")})
    subscriber.close()
    mosquitto.stop()
    running.tell(Offline(OTHER, 11, "unplugged"))
    mosquitto.start()
    late = Subscriber(mosquitto.port)
    late.until_all({(ONLINE, "1"), (f"goodwe/{OTHER}/online", "0")})
    late.close()
    mosquitto.stop()


# networks


@pytest.fixture
def proxy(mosquitto):
    proxy = Proxy(mosquitto.port)
    yield proxy
    proxy.close()


@protocols
def test_network_cut_and_back(run, mosquitto, subscriber, proxy, protocol):
    running = run(proxy.port, protocol=protocol)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    proxy.cut()
    subscriber.until(ONLINE, "0")  # the will: the broker lost us
    subscriber.until(ONLINE, "1")  # and here we are again


@protocols
def test_half_open_link_is_found_within_one_and_a_half_keep_alives(run, subscriber, proxy, protocol, caplog):
    running = run(proxy.port, protocol=protocol, keepalive=5)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    proxy.stall()
    stalled = time.monotonic()
    while "connection lost" not in caplog.text:
        assert time.monotonic() - stalled < 7.5
        assert running.tell(reading()) < 0.2
        let_pass(0.01)  # a hundred times as often as a real one, and the garbage collector keeps up
    proxy.flow()
    subscriber.until(ONLINE, "1")


def test_half_closed_link_is_found_at_once(run, subscriber, proxy, caplog):
    running = run(proxy.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    proxy.half_close()
    wait_for(lambda: "connection lost" in caplog.text, "found", 2.0)
    subscriber.until(ONLINE, "1")


# two programs with one name


@protocols
def test_two_programs_with_one_client_id_are_recognised_and_calm_down(
    run, mosquitto, caplog, protocol, monkeypatch
):
    monkeypatch.setattr(backoff, "PERIOD", 0.5)
    monkeypatch.setattr(backoff, "SOONEST", 0.05)
    first, second = run(mosquitto.port, protocol=protocol), run(mosquitto.port, protocol=protocol)
    wait_for(lambda: "another program connects as goodwe-usb" in caplog.text, "recognised")
    for running in (first, second):
        connection = running.output.pool._first
        wait_for(
            lambda c=connection: (
                (c.status(time.monotonic())["next_try_seconds"] or 0.0) > 20.0
                or c.state is ConnectionState.CONNECTED
            ),
            "a long pause, or in peace",
        )
    connects = mosquitto.log.count("as goodwe-usb ")
    let_pass(2.0)
    assert mosquitto.log.count("as goodwe-usb ") <= connects + 1, "no storm"
    assert sum("another program" in message for message in caplog.messages) <= 2, "one line each"


def test_cluster_that_drops_us_from_each_node_in_turn_is_no_second_program(run, caplog):
    """As RabbitMQ does when a node has died: the others let us in and drop us at once."""
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    port = free_port()
    listeners = [socket.create_server((host, port)) for host in hosts]
    taken = queue.Queue()

    def serve(listener):
        with contextlib.suppress(OSError):  # the listener is closed, or the program has gone
            while True:
                connection, _ = listener.accept()
                connection.recv(4096)
                connection.sendall(bytes.fromhex("20020000"))
                taken.put(connection)
                if taken.qsize() < 4:
                    connection.close()

    for listener in listeners:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    running = run(port, server=hosts)
    wait_for(lambda: taken.qsize() == 4, "the fourth connection, a pause later", 5.0)
    assert "another program" not in caplog.text
    connection = running.output.pool._first
    wait_for(lambda: connection.state is ConnectionState.CONNECTED, "it stands")
    for listener in listeners:
        listener.close()


# brokers that refuse


def acl(tmp_path, *allowed):
    file = tmp_path / "acl"
    file.write_text("".join(f"topic {line}\n" for line in allowed))
    file.chmod(0o700)
    return f"allow_anonymous true\nacl_file {file}\n"


def test_topic_that_the_broker_refuses_is_said_with_mqtt_5(run, tmp_path, caplog):
    mosquitto = Mosquitto(tmp_path, lines=acl(tmp_path, "readwrite other/#")).start()
    running = run(mosquitto.port, protocol="5", qos=1)
    running.tell(Found(SERIAL, 11), reading())
    wait_for(lambda: f"'{DATA}'" in mosquitto.log, "it was published")
    wait_for(lambda: "it refuses what we publish: Not authorized" in caplog.text, "said")
    running.tell(reading(), reading())
    assert sum("refuses what we publish" in message for message in caplog.messages) == 1
    mosquitto.stop()


def test_subscription_that_the_broker_refuses_is_said(run, caplog):
    """mosquitto grants every subscription, so this broker is a few bytes of MQTT 3.1.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        run(listener.getsockname()[1], {"actions": object()}, commands=True)
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        assert connection.recv(4096)[0] == 0x10
        connection.sendall(bytes.fromhex("20020000"))
        subscribe = connection.recv(4096)
        assert subscribe[0] == 0x82
        connection.sendall(bytes.fromhex("9006") + subscribe[2:4] + b"\x80\x80\x80\x80")
        wait_for(lambda: "it does not let us subscribe to goodwe-command/all/+" in caplog.text, "said")
        connection.close()


@pytest.mark.parametrize("found", [True, False])
def test_broker_that_resets_right_after_its_welcome_is_one_that_is_lost(run, caplog, found):
    """The write of SUBSCRIBE fails, or that of the announcement, or of the first values."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        running = run(listener.getsockname()[1], {"discovery": True, "actions": object()}, commands=True)
        if found:
            running.tell(Found(SERIAL, 11), reading())
        for _ in range(2):
            connection, _ = listener.accept()
            connection.settimeout(PATIENCE)
            connection.recv(4096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(bytes.fromhex("20020000"))
            connection.close()
    wait_for(lambda: "connection lost" in caplog.text, "said")
    running.tell(reading())


@pytest.mark.parametrize("backlog", [True, False])
def test_link_that_is_lost_by_the_announcement_loses_no_reading(
    run, mosquitto, subscriber, tmp_path, backlog
):
    running = run(mosquitto.port, {"discovery": True}, backlog=str(tmp_path / "b.db") if backlog else "")
    running.tell(Found(SERIAL, 11))
    serving(running)
    connection = running.output.pool.of(SERIAL)
    running.loop.post(lambda: connection._attempt.client.socket().shutdown(socket.SHUT_WR))
    running.tell(reading(time.time(), pac=4711))
    assert json.loads(subscriber.until(DATA)[1])["runningInfo"]["pac"] == 4711
    subscriber.until(ONLINE, "1")
    subscriber.nothing(0.5)


def test_online_finds_room_however_much_waits_for_its_acknowledgement(run, mosquitto):
    running = run(mosquitto.port)
    running.tell(reading())
    serving(running)
    mosquitto.freeze()
    running.tell(*(reading(pac=n) for n in range(broker_module.MOST_UNACKNOWLEDGED + 30)))
    running.tell(Offline(SERIAL, 11, "unplugged"))
    mosquitto.thaw()
    subscriber = Subscriber(mosquitto.port)
    subscriber.until(ONLINE, "0")
    subscriber.close()


def test_what_is_not_acknowledged_does_not_pile_up(run, mosquitto):
    running = run(mosquitto.port, qos=1, values=True, valuesqos=1)
    running.tell(reading())
    serving(running)
    mosquitto.freeze()
    running.tell(*(reading(pac=n) for n in range(2 * broker_module.MOST_UNACKNOWLEDGED)))
    connection, sizes = running.output.pool.of(SERIAL), []
    running.loop.post(lambda: sizes.append(len(connection._attempt.unacknowledged)))
    wait_for(lambda: sizes, "counted, where it is changed")
    (waiting,) = sizes
    early = 30  # of the first reading, acknowledged meanwhile
    assert broker_module.MOST_UNACKNOWLEDGED - early <= waiting <= broker_module.MOST_UNACKNOWLEDGED
    mosquitto.thaw()


def test_message_that_is_too_large_is_dropped_and_said_with_mqtt_5(run, tmp_path, caplog):
    mosquitto = Mosquitto(tmp_path, lines="allow_anonymous true\nmax_packet_size 1000\n").start()
    subscriber = Subscriber(mosquitto.port)
    running = run(mosquitto.port, protocol="5")
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    assert f"{DATA} is too large for it; raise its limit to 16 kB" in caplog.text
    running.tell(reading())
    subscriber.until(ONLINE, "1")
    assert sum("too large" in message for message in caplog.messages) == 1
    subscriber.close()
    mosquitto.stop()


def test_message_that_is_too_large_for_a_broker_of_3_1_1_is_no_storm(run, tmp_path, caplog):
    mosquitto = Mosquitto(tmp_path, lines="allow_anonymous true\nmessage_size_limit 500\n").start()
    running = run(mosquitto.port, qos=1)
    running.tell(Found(SERIAL, 11), reading())
    let_pass(2.0)
    assert mosquitto.log.count("as goodwe-usb ") <= 4
    mosquitto.stop()


def test_client_id_that_the_broker_refuses_is_said(run, tmp_path, caplog):
    mosquitto = Mosquitto(tmp_path, lines="allow_anonymous true\nclientid_prefixes other-\n").start()
    run(mosquitto.port)
    wait_for(lambda: "it refuses us; check username and password" in caplog.text, "said")
    mosquitto.stop()


@pytest.mark.parametrize(
    ("protocol", "connack", "said"),
    [
        (
            "5",
            "20020001",
            "it does not speak this version of MQTT; change protocol",
        ),  # a broker of 3.1.1 only
        ("3.1.1", "20020002", "it refuses our client id; change clientid"),
        ("5", "2003008500", "it refuses our client id; change clientid"),
        ("3.1.1", "20020003", "it says that it is not available"),
    ],
)
def test_what_the_broker_refuses_is_said(run, caplog, protocol, connack, said):
    """In the bytes of the specification, for mosquitto has one refusal for all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        run(listener.getsockname()[1], protocol=protocol)
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(bytes.fromhex(connack))
        connection.close()
        wait_for(lambda: said in caplog.text, "said")


# rubbish


def test_retained_rubbish_on_our_topics_is_replaced(run, mosquitto, subscriber):
    rubbish = paho_client("rubbish")
    rubbish.connect("127.0.0.1", mosquitto.port)
    for topic in (ONLINE, DATA):
        rubbish.publish(topic, b"\xff{rubbish", qos=0, retain=True)
    rubbish.disconnect()
    running = run(mosquitto.port)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    late = Subscriber(mosquitto.port, ONLINE)
    assert late.next()[:2] == (ONLINE, "1")
    late.close()
