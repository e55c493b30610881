"""The output [web]: its settings, what it listens to, a real server, and the metrics."""

import errno
import http.client
import logging
import os
import re
import socket
import threading
import time
from random import Random
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from goodwe import config
from goodwe.errors import ConfigError
from goodwe.events import Info, Offline, Online, Reading
from goodwe.loop import NEVER, Loop
from goodwe.outputs import Context
from goodwe.outputs import web as web_output
from goodwe.outputs.web.latest import Latest
from goodwe.outputs.web.metrics import exposition
from goodwe.outputs.web.output import WebOutput, own_names
from goodwe.outputs.web.server import LIMITS, Server, listening
from goodwe.outputs.web.settings import Address

from . import web
from .web import BARN, NOW, PROGRAM, ROOF, STATUS, VALUES, Page

# --- settings


def parsed(text):
    return config.parse(text, "/etc/goodwe.conf")[0]


def test_page_is_off_without_its_section():
    assert not hasattr(parsed(""), "web")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8765", Address("127.0.0.1", 8765)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("localhost:8765", Address("127.0.0.1", 8765)),
        ("[::]:8765", Address("::", 8765)),
        ("[fd00::1]:1", Address("fd00::1", 1)),
    ],
)
def test_addresses_to_listen_at(listen, address):
    settings = parsed(f"[web]\nlisten = {listen}\n").web
    assert settings.listen == address
    if not listen.startswith("localhost"):
        assert str(settings.listen) == listen


@pytest.mark.parametrize(
    "line",
    [
        "listen = 8765",
        "listen = :8765",
        "listen = 127.0.0.1",
        "listen = 127.0.0.1:0",
        "listen = 127.0.0.1:65536",
        "listen = 127.0.0.1:\u0668",
        "listen = raspberrypi:8765",
        "listen = http://127.0.0.1:8765",
        "names = http://solar.example",
        "names = solar:8765",
        "names = -x",
        "frame = javascript:alert(1)",
        "frame = http://a; script-src *",
        "metrics = perhaps",
        "port = 8765",
    ],
)
def test_wrong_settings_are_refused_with_their_line(line):
    with pytest.raises(ConfigError, match=r"^/etc/goodwe\.conf:2: "):
        parsed(f"[web]\n{line}\n")


def test_names_and_frames_are_taken_apart():
    settings = parsed("[web]\nnames = Solar.example, nas.\nframe = http://ha.local:8123  'self'\n").web
    assert settings.names == ("solar.example", "nas")
    assert settings.frame == "http://ha.local:8123 'self'"
    assert parsed("[web]\n").web.frame == "'none'"


@pytest.mark.parametrize(
    ("raw", "frame"),
    [
        ("'self'", "'self'"),
        ("'SELF'", "'self'"),
        ("'self' http://a", "'self' http://a"),
        ("http://a 'self'", "http://a 'self'"),
        ("'none'", "'none'"),
        ("'None'", "'none'"),
        ("", "'none'"),
        ("selfish", "selfish"),
    ],
)
def test_words_of_the_policy_have_their_quotes_and_are_shown_so(raw, frame):
    settings = parsed(f"[web]\nframe = {raw}\n")
    assert settings.web.frame == frame
    assert parsed(config.shown(settings)) == settings


@pytest.mark.parametrize("raw", ["self", "Self", '"self"', "\u2018self\u2019"])
def test_word_of_the_policy_is_that_word_without_its_quotes_too(raw):
    assert parsed(f"[web]\nframe = {raw}\n").web.frame == "'self'"
    assert parsed(f"[web]\nframe = http://a {raw}\n").web.frame == "http://a 'self'"


def test_nobody_is_nobody_without_quotes_too():
    for raw in ("none", '"None"'):
        assert parsed(f"[web]\nframe = {raw}\n").web.frame == "'none'"


@pytest.mark.parametrize("raw", ["none http://a", "'none' http://a", "'self' 'none'"])
def test_nobody_and_somebody_may_not_both_embed_the_page(raw):
    with pytest.raises(ConfigError, match=r"must be 'none' alone, or the origins without it$"):
        parsed(f"[web]\nframe = {raw}\n")


def test_origin_in_quotes_is_none():
    for raw in ("'http://a'", '"http://a"', "'a'", "'"):
        with pytest.raises(ConfigError, match="must be origins separated by blanks, without quotes, such as"):
            parsed(f"[web]\nframe = {raw}\n")


def test_settings_are_shown_as_they_are_written():
    shown = config.shown(parsed("[web]\nlisten = [::1]:80\nnames = a, b\nmetrics = on\n"))
    assert "listen = [::1]:80\nnames = a, b\n" in shown


@pytest.mark.parametrize(
    "name", ["localhost", "raspberrypi", "raspberrypi.local", "raspberrypi.lan", "raspberrypi.example.org"]
)
def test_own_names_of_a_machine(name):
    assert name in own_names("RaspberryPi.example.org.")


def test_machine_without_a_name_is_called_by_no_empty_one():
    assert "" not in own_names("")


# --- the output as a part of the loop


@pytest.fixture
def loop():
    loop = Loop(time.monotonic)
    yield loop
    loop.close()


def output(loop, text="[web]\nlisten = 127.0.0.1:8765\n", *, status=STATUS, **more):
    settings = parsed(text)
    actions = SimpleNamespace(status=lambda now: status)
    context = Context(loop, Random(1), lambda: NOW, actions, settings, 60.0)
    return WebOutput(settings.web, context, **more)


class Served:
    """A server that is none."""

    def __init__(self, application, at):
        self.application, self.at, self.closed = application, at, False

    def close(self):
        self.closed = True


def test_port_that_is_taken_is_said_once_and_tried_again(loop, caplog):
    troubles = [OSError(98, "Address already in use"), OSError(98, "Address already in use"), None]

    def listen(address):
        trouble = troubles.pop(0)
        if trouble:
            raise trouble
        return address

    caplog.set_level(logging.INFO)
    made = output(loop, listen=listen, serve=Served)
    made.tick(100.0)
    assert made.deadline == 110.0
    assert made.status(100.0) == {
        "state": "waiting",
        "listen": "127.0.0.1:8765",
        "why_not": "Address already in use",
    }
    made.tick(110.0)
    made.tick(120.0)
    assert made.deadline == NEVER
    assert made.status(120.0)["state"] == "listening"
    assert [record.message for record in caplog.records] == [
        "The page cannot be served at 127.0.0.1:8765 yet: Address already in use; trying again every 10 s",
        "The page is at http://127.0.0.1:8765/",
    ]


def test_port_that_becomes_free_is_taken(loop, caplog):
    caplog.set_level(logging.INFO)
    other = listening(Address("127.0.0.1", 0))
    port = other.getsockname()[1]
    made = output(loop, f"[web]\nlisten = 127.0.0.1:{port}\n")
    made.tick(0.0)
    assert made.status(0.0)["why_not"] == "Address already in use"
    other.close()
    made.tick(made.deadline)
    assert made.status(10.0)["state"] == "listening"
    assert ask(port, "/api")[0] == 200
    made.close()
    made._server._thread.join(5)


def test_address_of_an_interface_that_is_not_there_yet_is_said_and_waited_for(loop, caplog):
    made = output(loop, "[web]\nlisten = 192.0.2.1:8765\n")  # of a net that nobody has (RFC 5737)
    made.tick(0.0)
    assert made.status(0.0)["why_not"] == "Cannot assign requested address"
    assert made.deadline == 10.0
    assert "192.0.2.1:8765 yet: Cannot assign requested address; trying again every 10 s" in caplog.text
    made.close()


def test_port_that_is_for_root_is_told_with_the_remedy(loop, caplog):
    def listen(address):
        raise PermissionError(errno.EACCES, "Permission denied")

    output(loop, listen=listen).tick(100.0)
    assert "ports below 1024 are for root: choose another with listen in [web]" in caplog.text


def test_address_that_the_machine_has_not_got_yet_is_tried_again():
    with pytest.raises(OSError, match="assign"):
        listening(Address("192.0.2.1", 0))


def test_stop_ends_the_server_and_nothing_waits_for_it(loop):
    made = output(loop, listen=lambda address: address, serve=Served)
    made.tick(0.0)
    made.stop(1.0)
    assert made.closed
    assert made.stopped
    assert made._server.closed


def test_close_before_it_listens(loop):
    made = output(loop)
    made.close()
    assert made.closed


def turning(loop):
    ended = threading.Event()
    thread = threading.Thread(target=lambda: loop.run(ended.is_set), daemon=True)
    thread.start()

    def end():
        ended.set()
        loop.post(lambda: None)
        thread.join(5)

    return end


def test_pages_ask_the_loop_and_its_state(loop, tmp_path):
    path = web.history(tmp_path / "history.db")
    made = output(loop, "[web]\nmetrics = on\n", listen=lambda address: address, serve=Served)
    made._site._sources.live.handle(Online(ROOF, 11))
    made.handle(Reading(ROOF, 11, 1, dict(VALUES), NOW - 1))
    end = turning(loop)
    page = Page(path)
    page.site = made._site
    assert "connected, 127.0.0.1:1883" in page.body("/")
    assert "1010C" in page.body("/health")
    assert f'goodwe_inverter_ac_power_watts{{serial="{ROOF}"}} 2351.0' in page.body("/metrics")
    end()


def test_loop_that_does_not_answer_is_said(loop, monkeypatch):
    monkeypatch.setattr("goodwe.outputs.web.output.PATIENCE", 0.01)
    page = Page(None)
    page.site = output(loop, listen=lambda address: address, serve=Served)._site
    assert page.ask("/health")[::2] == (503, "The program does not answer now.\n")


def test_section_makes_the_output(loop):
    settings = parsed("[web]\n")
    assert web_output.SECTIONS[0].NAME == "web"
    made = web_output.make(settings.web, Context(loop, Random(1), time.time, None, settings, 60.0))
    assert made._status() == {}
    made.close()


# --- a real server


def test_server_whose_thread_is_awake_already_closes_as_well(tmp_path, monkeypatch):
    server = Server(Page(web.history(tmp_path / "history.db")).site, listening(Address("127.0.0.1", 0)))
    pull = server._server.trigger._physical_pull

    def late():
        pull()  # an answer that has just become ready
        server._thread.join(0.3)  # meanwhile all may happen that can
        pull()

    monkeypatch.setattr(server._server.trigger, "_physical_pull", late)
    server.close()
    server._thread.join(5)
    assert server.closed


@pytest.fixture
def served(tmp_path):
    page = Page(web.history(tmp_path / "history.db"))
    at = listening(Address("127.0.0.1", 0))
    port = at.getsockname()[1]
    server = Server(page.site, at)
    yield port
    server.close()
    server._thread.join(5)
    assert server.closed


def test_memory_of_each_page_is_handed_back_with_the_next(served, monkeypatch):
    trimmed = []
    monkeypatch.setattr("goodwe.outputs.web.server.trim", lambda: trimmed.append(True))
    for count in (1, 2):
        assert b" 200 OK" in talk(served, b"GET /years HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert len(trimmed) == count


def talk(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while True:
            try:
                more = connection.recv(65_536)
            except ConnectionResetError:
                break
            if not more:
                break
            answer += more
    return answer


def ask(port, address="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", address, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_server_answers_and_does_not_say_what_it_is(served):
    status, headers, body = ask(served)
    assert status == 200
    assert b"<!doctype html>" in body
    assert "Server" not in headers
    assert "waitress" not in str(headers).lower()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n", 413),
        (b"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET /static/../../../etc/passwd HTTP/1.0\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /%00 HTTP/1.0\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
def test_server_refuses_what_is_wrong_and_goes_on(served, request_, status):
    answer = talk(served, request_)
    assert re.match(rb"HTTP/1\.[01] (\d+)", answer)[1] == str(status).encode()
    assert b"Traceback" not in answer
    assert b"python" not in answer.lower()
    assert ask(served)[0] == 200


def test_old_request_without_a_version_gets_no_page_of_a_foreign_name(served):
    assert b"<!doctype" not in talk(served, b"GET /\r\n\r\n")
    assert ask(served)[0] == 200


def test_reader_that_never_reads_holds_nobody_up(served):
    slow = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", served), timeout=10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(b"GET /api/day HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        slow.append(connection)
    began = time.monotonic()
    assert ask(served)[0] == 200
    assert time.monotonic() - began < 10
    for connection in slow:
        connection.close()


def test_a_thousand_connections_are_bounded(served):
    before = len(os.listdir("/proc/self/fd"))
    connections = []
    for _ in range(LIMITS["connection_limit"] + 50):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", served))
        connections.append(connection)
    ours = len(connections)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        theirs = len(os.listdir("/proc/self/fd")) - before - ours
        assert theirs <= LIMITS["connection_limit"]
        if theirs >= LIMITS["connection_limit"] - 5:
            break
        time.sleep(0.05)  # a real server is the subject
    for connection in connections:
        connection.close()
    assert ask(served)[0] == 200


def test_socket_is_free_again_after_the_end(tmp_path):
    at = listening(Address("127.0.0.1", 0))
    address = Address("127.0.0.1", at.getsockname()[1])
    server = Server(Page(None).site, at)
    assert ask(address.port, "/api")[0] == 200
    server.close()
    server._thread.join(5)
    assert server.closed
    listening(address).close()


def test_both_families_at_once(tmp_path):
    try:
        at = listening(Address("::", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = Server(Page(None).site, at)
    assert ask(at.getsockname()[1], "/api")[0] == 200
    server.close()
    server._thread.join(5)


# --- metrics


def families(inverters, fresh=(ROOF, BARN), status=STATUS):
    text = exposition(inverters, frozenset(fresh), status, PROGRAM).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def inverters():
    live = Latest(lambda: NOW)
    for serial, phases in ((ROOF, 1), (BARN, 3)):
        live.handle(Online(serial, 11))
        live.handle(Reading(serial, 11, phases, {**VALUES, "errorMessage": [17]}, NOW))
    live.handle(Info(ROOF, "settingInfo", {}))
    return live.inverters


def test_metrics_are_in_base_units(inverters):
    found = families(inverters)
    roof = ("serial", ROOF)
    assert found["goodwe_inverter_ac_power_watts", roof] == 2351
    assert found["goodwe_inverter_ac_voltage_volts", ("phase", "1"), roof] == 229.3
    assert ("goodwe_inverter_ac_voltage_volts", ("phase", "2"), roof) not in found
    assert found["goodwe_inverter_ac_voltage_volts", ("phase", "3"), ("serial", BARN)] == 231.1
    assert found["goodwe_inverter_dc_voltage_volts", roof, ("string", "2")] == 289.8
    assert found["goodwe_inverter_energy_joules_total", roof] == pytest.approx(4368.4 * 3.6e6)
    assert found["goodwe_inverter_temperature_celsius", roof] == 38.5
    assert found["goodwe_inverter_up", roof] == 1
    assert found["goodwe_readings_total", roof] == 1
    assert found["goodwe_inverter_reconnects_total", roof] == 0
    assert found["goodwe_inverter_last_reading_timestamp_seconds", roof] == NOW
    assert found["goodwe_inverter_faults_info", ("fault", "grid voltage out of range"), roof] == 1
    assert found["goodwe_readings_refused_total", ("reason", "power impossible"), roof] == 2
    assert found["goodwe_frames_refused_total", ("reason", "checksum")] == 4
    assert found["goodwe_frames_refused_total", ("reason", "noise")] == 3
    assert found["goodwe_mqtt_connected", roof] == 1
    assert found["goodwe_mqtt_connected", ("serial", BARN)] == 0
    assert found["goodwe_mqtt_backlog_messages",] == 12
    assert found["goodwe_build_info", ("version", "1.2.3")] == 1


def test_what_is_stale_is_absent_and_its_total_stays(inverters):
    found = families(inverters, fresh=(BARN,))
    roof = ("serial", ROOF)
    assert ("goodwe_inverter_ac_power_watts", roof) not in found
    assert ("goodwe_inverter_faults_info", ("fault", "grid voltage out of range"), roof) not in found
    assert found["goodwe_inverter_up", roof] == 0
    assert found["goodwe_inverter_energy_joules_total", roof] > 0


def test_metrics_without_broker_inverter_or_backlog():
    assert families({}, (), {})["goodwe_build_info", ("version", "1.2.3")] == 1


def test_labels_are_escaped(inverters):
    assert (
        'serial="1010KDTU18<b>&02"' in exposition(inverters, frozenset(inverters), STATUS, PROGRAM).decode()
    )


def test_inverter_that_left_is_not_fresh(loop):
    made = output(loop, "[web]\nmetrics = on\n", listen=lambda address: address, serve=Served)
    for event in (
        Online(ROOF, 11),
        Reading(ROOF, 11, 1, dict(VALUES), NOW - 10),
        Offline(ROOF, 11, "unplugged"),
    ):
        made.handle(event)
    end = turning(loop)
    page = Page(None)
    page.site = made._site
    assert f'goodwe_inverter_up{{serial="{ROOF}"}} 0.0' in page.body("/metrics")
    end()
