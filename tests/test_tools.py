"""decode, simulate and demo, as functions; test_program has them as processes."""

import errno
import io
import json
import os
import random
import select
import socket
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from goodwe.config import parse
from goodwe.errors import GoodWeError
from goodwe.loop import Loop
from goodwe.outputs.mqtt.client import paho_client
from goodwe.outputs.mqtt.homeassistant import is_ours
from goodwe.protocol import fields
from goodwe.protocol.frame import KINDS, Frame, Splitter, frame
from goodwe.tools import decode, demo, discovery, fast_clock, fleet, simulate
from goodwe.transport.hidraw import wrap

from .broker import PATIENCE, Mosquitto, Subscriber, free_port, needs_amqtt, wait_for
from .captures import ALL, raw
from .mqtt import reading

# decode


def decoded(*arguments: str, source: str = "") -> tuple[int, list[dict], str]:
    out, err = io.StringIO(), io.StringIO()
    code = decode.main(list(arguments), source=io.StringIO(source), out=out, err=err)
    return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def test_decode_of_the_recorded_usb_reading():
    code, (found, summary), _ = decoded(raw("usb-running-66").hex())
    assert code == 0
    values = found.pop("values")
    assert found == {
        "name": "running_info", "offset": 4, "source": 17, "destination": 128,
        "control": 1, "function": 129, "length": 66,
    }  # fmt: skip
    expected = dict(ALL["usb-running-66"]["original_program_decodes"])
    del expected["timestamp"], expected["inverterType"]
    assert values == expected
    assert summary == {"frames": 1, "droppedBytes": 4, "checksumErrors": 0}


NAMES = {
    "off-line query": "off_line_query",
    "register request": "register_request",
    "allocate address": "allocate_register_address",
    "address confirm": "address_confirm",
    "remove register": "remove_register",
    "query running info": "query_running_info",
    "running info": "running_info",
    "ID info": "id_info",
    "remove_confirm": "remove_confirm",
    "query_id_info": "query_id_info",
    "query_setting_info": "query_setting_info",
    "setting_info": "setting_info",
}


@pytest.mark.parametrize("name", [name for name, capture in ALL.items() if capture["checksum_ok"]])
def test_decode_names_every_recorded_frame(name):
    code, (found, summary), _ = decoded(source=ALL[name]["hex"])
    assert code == 0
    assert found["name"] == NAMES.get(ALL[name]["kind"], "unknown")
    assert summary["frames"] == 1
    size = found["length"] + 9
    prefix = 3 if ALL[name]["hex"].startswith("cc99") else 0
    assert summary["droppedBytes"] == len(raw(name)) - size - prefix


def test_decode_of_a_log_takes_the_bytes_behind_the_arrows():
    log = (
        "2026-11-25 10:00:00,000 run(48) - INFO: Connected to MQTT 192.168.2.240\n"
        "2026-11-25 10:00:01,000 _send(215) - DEBUG: /dev/hidraw0 > aa55800b000200018c (remove_register 80>0b)\n"
        "2026-11-25 10:00:02,000 tell_losses(130) - INFO: /dev/hidraw0 -59.500 s < 00000000aa551180\n"
        "2026-11-25 10:00:02,000 tell_losses(130) - INFO: /dev/hidraw0 -59.490 s < 00810002110000\n"
    )
    code, (remove, confirm, summary), _ = decoded(source=log)
    assert (code, remove["name"], confirm["name"]) == (0, "remove_register", "address_confirm")
    assert summary == {"frames": 2, "droppedBytes": 6, "checksumErrors": 0}


def test_decode_of_bytes_that_are_no_text_says_what_it_wants():
    source = io.TextIOWrapper(io.BytesIO(b"\xaa\x55\xff"), encoding="utf-8")
    err = io.StringIO()
    assert decode.main([], source=source, out=io.StringIO(), err=err) == 1
    assert "not hexadecimal bytes" in err.getvalue()


def test_decode_of_allocation_and_request_gives_serial_and_address():
    _, (found, _), _ = decoded(raw("usb-ap-alloc-72").hex())
    assert found["values"] == {"serial": "14200DSU15600068", "address": 0x11}
    assert found["offset"] == 0
    _, (found, _), _ = decoded(raw("usb-register-request").hex())
    assert found["values"] == {"serial": "1006KDTU13500023"}


def test_decode_of_several_frames_with_prefixes_counts_offsets_without_them():
    two = raw("usb-ap-offline").hex() + "00" + raw("usb-ap-query-0b").hex()
    _, (first, second, summary), _ = decoded(two)
    assert (first["offset"], second["offset"]) == (0, 10)
    assert summary == {"frames": 2, "droppedBytes": 1, "checksumErrors": 0}


def test_decode_of_id_and_setting_info():
    _, (found, _), _ = decoded(raw("udp-id-77-sbp-c").hex())
    assert found["values"]["modelName"] == "GW5000S-BP"
    setting = frame("setting_info", 0x0B, 0x80, bytes.fromhex("04b0003c07a80a55128e141e"))
    _, (found, _), _ = decoded(setting.encode().hex())
    assert found["values"]["tStart"] == 60


def test_decode_of_what_cannot_be_decoded_says_why():
    _, (found, _), _ = decoded(frame("running_info", 0x0B, 0x80, bytes(40)).encode().hex())
    assert "too short" in found["values"]["error"]
    _, (found, _), _ = decoded(frame("allocate_register_address", 0x80, 0x7F).encode().hex())
    assert "wrong length" in found["values"]["error"]
    _, (found, _), _ = decoded(Frame(0x7F, 0xC0, 3, 0x9D, b"\x06").encode().hex())
    assert (found["name"], found["values"]) == ("unknown", {"data": "06"})


@pytest.mark.parametrize("length", [0, 237, 238, 246, 247, 248, 254, 255])
@pytest.mark.parametrize("in_a_log", [False, True])
def test_decode_of_frames_of_every_length_that_a_header_can_promise(length, in_a_log):
    long = Frame(0x0B, 0x80, 3, 0x9D, bytes(range(length))).encode()
    behind = raw("usb-ap-offline").hex()  # CC 99 09 and a frame of nine bytes
    source = (
        f"x(1) - DEBUG: /dev/hidraw0 < {long.hex()}\nx(1) - DEBUG: /dev/hidraw0 > {behind} (off_line_query)\n"
    )
    code, (first, second, summary), _ = decoded(source=source) if in_a_log else decoded(long.hex(), behind)
    assert code == 0
    assert (first["length"], first["values"]) == (
        length,
        {"data": bytes(range(length)).hex()} if length else {},
    )
    assert (second["name"], second["offset"]) == ("off_line_query", len(long))
    assert summary == {"frames": 2, "droppedBytes": 0, "checksumErrors": 0}


def test_prefix_of_a_frame_that_is_too_long_for_one_is_dropped_bytes():
    long = Frame(0x0B, 0x80, 3, 0x9D, bytes(255)).encode()
    _, (found, summary), _ = decoded(f"cc9908{long.hex()}")
    assert (found["offset"], summary["droppedBytes"]) == (3, 3)


def any_bytes(chance: random.Random) -> bytes:
    """Frames of every kind and length, whole, cut, with the prefix, a wrong one, or rubbish before them."""
    found = b""
    for _ in range(chance.randrange(1, 4)):
        control, function = chance.choice([*KINDS.values(), (chance.randrange(256), chance.randrange(256))])
        data = chance.randbytes(chance.choice([0, 1, 17, 46, 66, 130, chance.randrange(256), 246, 247, 255]))
        addresses = chance.choice(
            [(0x80, 0x7F), (0x0B, 0x80), (chance.randrange(256), chance.randrange(256))]
        )
        whole = Frame(*addresses, control, function, data).encode()
        prefix = chance.choice([b"", b"\xcc\x99" + bytes([len(whole) & 0xFF]), chance.randbytes(5)])
        found += prefix + (whole if chance.random() < 0.9 else whole[: chance.randrange(len(whole))])
    return found


def test_decode_has_an_answer_to_whatever_it_is_given():
    chance = random.Random(1)
    for _ in range(1000):
        data = any_bytes(chance)
        code, (*frames, summary), err = decoded(data.hex())
        assert (code, err) == (0 if frames else 1, "")
        assert len(frames) == summary["frames"]
        assert 0 <= summary["droppedBytes"] <= len(data)


def test_decode_of_what_cannot_be_read_says_so():
    def read() -> str:
        raise OSError(errno.EIO, "Input/output error")

    err = io.StringIO()
    assert decode.main([], source=SimpleNamespace(read=read), out=io.StringIO(), err=err) == 1
    assert err.getvalue() == "decode: cannot read standard input: Input/output error\n"


def test_decode_without_a_standard_input_has_found_nothing():
    out = io.StringIO()
    assert decode.main([], source=None, out=out, err=io.StringIO()) == 1
    assert json.loads(out.getvalue())["frames"] == 0


@pytest.mark.parametrize("name", ["rs485-ap-alloc-bad", "udp-id-trunc-14", "udp-modbus-ms", "xs-id-64"])
def test_decode_without_a_frame_is_exit_1(name):
    code, (summary,), _ = decoded(raw(name).hex())
    assert code == 1
    assert summary["frames"] == 0
    assert summary["droppedBytes"] == len(raw(name))
    assert summary["checksumErrors"] == (1 if name == "rs485-ap-alloc-bad" else summary["checksumErrors"])


@pytest.mark.parametrize("text", ["", "AA5", "hello"])
def test_decode_of_no_bytes_is_exit_1(text):
    code, shown, err = decoded(text)
    assert code == 1
    assert "not hexadecimal" in err or shown == [{"frames": 0, "droppedBytes": 0, "checksumErrors": 0}]


# simulate


class Simulated:
    """A simulation on a loop in a thread, and a client on its socket."""

    def __init__(self, path, *options):
        self.path = str(path)
        self.loop = Loop(time.monotonic)
        self.simulation = simulate.Simulation(
            simulate.parse(["--listen", f"unix:{path}", "--delay", "0", "--report-interval", "0", *options]),
            self.loop,
        )
        self._stop = False
        self.thread = threading.Thread(target=lambda: self.loop.run(until=lambda: self._stop), daemon=True)
        self.thread.start()

    def connect(self):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        return client

    def end(self):
        def finish():
            self.simulation.stop()
            self._stop = True

        self.loop.post(finish)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def simulated(tmp_path):
    started = []

    def start(*options):
        started.append(Simulated(tmp_path / "inv.sock", *options))
        return started[-1]

    yield start
    for one in started:
        one.end()
        assert not os.path.exists(one.path), "the socket's file remains"


def ask(client, name, address, data=b""):
    client.send(wrap(frame(name, 0x80, address, data).encode()))


def hear(client) -> Frame:
    splitter = Splitter()
    while True:
        for packet in splitter.feed(client.recv(4096)):
            return packet.frame


def register(client) -> str:
    ask(client, "off_line_query", 0x7F)
    serial = hear(client).data
    ask(client, "allocate_register_address", 0x7F, serial + b"\x0b")
    assert hear(client).name == "address_confirm"
    return serial.decode()


def test_simulated_inverter_registers_and_answers(simulated):
    client = simulated().connect()
    assert register(client) == simulate.SERIALS[1]
    ask(client, "query_running_info", 0x0B)
    assert float(fields.decode_running(hear(client).data)["pac"]) > 1000
    client.close()


def test_client_may_go_and_come_back_but_two_at_once_may_not(simulated):
    running = simulated()
    first, second = running.connect(), running.connect()
    assert second.recv(10) == b""
    register(first)
    first.close()
    wait_for(lambda: not running.simulation._outlet.taken, "the first has gone")
    again = running.connect()
    ask(again, "query_running_info", 0x0B)
    assert hear(again).name == "running_info"
    again.close()


def test_restarted_inverter_has_forgotten_and_sends_zeros_once(simulated):
    client = simulated("--reboot", "0.5").connect()
    register(client)
    time.sleep(0.6)  # the simulation's clock is the real one
    register(client)
    ask(client, "query_running_info", 0x0B)
    assert not any(hear(client).data)
    ask(client, "query_running_info", 0x0B)
    assert any(hear(client).data)
    client.close()


def test_pulled_cable_comes_back_after_two_seconds(simulated):
    running = simulated("--replug", "0.5")
    client = running.connect()
    assert client.recv(10) == b""
    pulled = time.monotonic()
    assert not os.path.exists(running.path)
    wait_for(lambda: os.path.exists(running.path), "plugged in again")
    assert time.monotonic() - pulled > 1.5


def test_at_night_nobody_answers(simulated):
    client = simulated("--start", "23:00").connect()
    ask(client, "off_line_query", 0x7F)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(10)
    client.close()


def test_at_night_the_node_may_be_gone(tmp_path):
    running = Simulated(tmp_path / "inv.sock", "--start", "23:00", "--night", "gone")
    assert not os.path.exists(running.path)
    running.end()


def test_idle_simulation_waits_for_dusk_only(simulated):
    running = simulated()
    assert min(part.deadline for part in running.loop._parts) > time.monotonic() + 3600


def listen_error(path) -> str:
    with pytest.raises(simulate.ListenError) as caught:
        simulate.Socket(str(path), lambda connection: None)
    return str(caught.value)


def test_stale_socket_is_replaced(tmp_path):
    path = tmp_path / "inv.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    simulate.Socket(str(path), lambda connection: None).close()


def test_socket_that_is_served_is_not_stolen(simulated, tmp_path):
    simulated()
    assert "somebody listens on" in listen_error(tmp_path / "inv.sock")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_socket_of_another_kind_is_not_stolen(tmp_path, kind):
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        assert "choose another with --listen" in listen_error(path)
    assert path.exists()


def test_program_that_cannot_be_let_in_waits_and_is_let_in_later(tmp_path):
    class Full:
        """A listener of a process with too many open files."""

        def accept(self):
            raise OSError(errno.EMFILE, "Too many open files")

    let_in = []
    part = simulate.Socket(str(tmp_path / "inv.sock"), let_in.append)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as program:
        program.connect(str(tmp_path / "inv.sock"))
        listener, part._listener = part._listener, Full()
        part.ready(10.0)
        assert (part.poll_for(), part.deadline) == (None, 11.0), "else it would be readable again and again"
        part._listener = listener
        part.tick(11.0)
        assert part.poll_for() == (listener.fileno(), select.POLLIN)
        part.ready(11.0)
    assert len(let_in) == 1
    let_in[0].close()
    part.close()


def test_file_that_is_no_socket_is_not_replaced(tmp_path):
    (tmp_path / "precious").write_text("data")
    assert "is no socket" in listen_error(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "data"


def test_socket_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").touch()
    assert "No such file or directory" in listen_error(tmp_path / "missing" / "inv.sock")
    assert "Not a directory" in listen_error(tmp_path / "file" / "inv.sock")
    assert "too long" in listen_error(tmp_path / ("x" * 120))


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--listen /tmp/x",
        "--listen unix:",
        "--listen unix:/x --serial short",
        "--listen unix:/x --length 45",
        "--listen unix:/x --length 256",
        "--listen unix:/x --length 66",
        "--listen unix:/x --phases 3 --length 46",
        "--listen unix:/x --lose 1.5",
        "--listen unix:/x --speed 0",
        "--listen unix:/x --delay -1",
        "--listen unix:/x --start 25:00",
        "--listen unix:/x --start noon",
        "--listen unix:/x --night long",
    ],
)
def test_wrong_option_is_usage_and_exit_2(options, capsys):
    with pytest.raises(SystemExit) as caught:
        simulate.parse(options.split())
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_main_says_what_is_wrong_with_the_socket(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(GoodWeError, match="is no socket"):
        simulate.main(["--listen", f"unix:{tmp_path}/precious"], lambda loop, stop: None, dict)


def test_main_runs_until_it_is_stopped(tmp_path, capsys):
    assert (
        simulate.main(["--listen", f"unix:{tmp_path}/inv.sock"], lambda loop, stop: loop.post(stop), dict)
        == 0
    )
    assert "listens on" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# demo


def test_line_of_data_has_what_everybody_asks_for():
    values = fields.decode_running(raw("usb-running-66")[11:77])
    payload = json.dumps({"runningInfo": values}).encode()
    shown = demo.line(SimpleNamespace(topic="goodwe/1006KDTU13500023/data", payload=payload))
    assert shown.endswith("data  38 W, 231.2 V, 49.97 Hz, 42.5 °C, today 21.2 kWh, total 9220.4 kWh")
    assert demo.line(SimpleNamespace(topic="goodwe/x/online", payload=b"1")).endswith("goodwe/x/online  1")


def test_child_that_dies_is_said_with_its_last_words(tmp_path):
    child = demo.Child("broker", ["sh", "-c", "echo no luck; exit 3"], tmp_path)
    child._process.wait(PATIENCE)
    with pytest.raises(demo.DemoError, match="the broker ended with exit code 3:\n  no luck"):
        child.check()
    child.end()


def test_child_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "END_WITHIN", 0.2)
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
    child = demo.Child("broker", command, tmp_path)
    wait_for(lambda: (tmp_path / "broker.log").read_text(), "it runs")
    child.end()
    assert child._process.returncode == -9


@needs_amqtt
def test_demo_with_the_embedded_broker(monkeypatch, capsys):
    monkeypatch.setattr(demo, "MOSQUITTO", ())
    said, line = [], demo.line

    def until_online(message):
        said.append(line(message))
        if "/online  1" in said[-1]:
            raise KeyboardInterrupt  # a person has seen enough
        return said[-1]

    monkeypatch.setattr(demo, "line", until_online)
    assert demo.main(["--seconds", "60"]) == 0
    assert "amqtt on 127.0.0.1:" in capsys.readouterr().out
    assert "/online  1" in said[-1]


def test_demo_without_any_broker_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo, "MOSQUITTO", ())
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GoodWeError, match=r"sudo apt-get install mosquitto, or.*pip install -e .\.\[demo\]"):
        demo.main([])


def test_demo_without_what_the_page_needs_names_the_extra(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        GoodWeError, match=r"^the page needs waitress; install it: .*pip install -e .\.\[demo\].$"
    ):
        demo.main(["--web"])


def test_demo_takes_another_port_where_the_one_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert demo._free_port(port) not in (0, port)
    assert demo._free_port(port) == port


def test_demo_with_a_page_goes_only_as_fast_as_the_history_can_see(capsys):
    with pytest.raises(SystemExit, match="2"):
        demo.parse(["--web", "--speed", "241"])
    assert "with --web, --speed can be 240 at most" in capsys.readouterr().err
    assert demo.parse(["--speed", "1000"]).speed == 1000


def test_fast_clock_goes_as_fast_as_it_is_told():
    now = [100.0]
    clock, is_right = fast_clock.fast(5000.0, 90.0, 60.0, lambda: now[0])
    assert (clock(), is_right()) == (5600.0, True)
    now[0] += 2
    assert clock() == 5720.0


def test_demo_whose_child_never_comes_gives_up(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PATIENCE", 0.2)
    child = demo.Child("broker", ["sleep", "60"], tmp_path)
    with pytest.raises(demo.DemoError, match="is not there after"):
        demo._wait(lambda: False, child)
    child.end()


# fleet and discovery


def test_fleet_counts_what_arrives(mosquitto):
    settings = replace(parse("", "test")[0].mqtt, server=("127.0.0.1",), port=mosquitto.port)
    said = []
    loop = Loop(time.monotonic)
    count = fleet.run(
        20, settings, interval=0.5, seconds=2.0, loop=loop, stopped=lambda: False, say=said.append
    )
    assert said[:2] == [
        f"20 loggers connect to 127.0.0.1:{mosquitto.port} ...",
        "20 are connected after that; each sends a reading every 0.5 s",
    ]
    assert 70 <= count.sent <= 90
    assert (count.lost, count.arrived) == (0, count.sent)
    assert "'fleet/site7/15000SIM00000007/data'" in mosquitto.log
    wait_for(lambda: mosquitto.log.count("Received DISCONNECT") >= 20, "every site says goodbye")


def test_fleet_leaves_alone_what_is_real(mosquitto, tmp_path):
    backlog = tmp_path / "backlog.db"
    kept = "retain = on\nsum = on\nvalues = on\nvaluesretain = on\n"
    settings = parse(f"[mqtt]\nbacklog = {backlog}\n{kept}", "test")[0].mqtt
    settings = replace(settings, server=("127.0.0.1",), port=mosquitto.port)
    loop = Loop(time.monotonic)
    for _ in range(2):  # the second finds what the first has left at the broker
        count = fleet.run(
            2, settings, interval=0.2, seconds=0.5, loop=loop, stopped=lambda: False, say=lambda text: None
        )
        assert (count.lost, count.arrived) == (0, count.sent)
    assert not backlog.exists()
    assert all(topic.endswith("/online") for topic in kept_at(mosquitto.port))


def test_fleet_that_is_stopped_ends_at_once(mosquitto):
    settings = replace(parse("", "test")[0].mqtt, server=("127.0.0.1",), port=mosquitto.port)
    began = time.monotonic()
    loop = Loop(time.monotonic)
    fleet.run(3, settings, interval=0.1, seconds=60.0, loop=loop, stopped=lambda: True, say=lambda text: None)
    assert time.monotonic() - began < 5.0


def test_fleet_without_a_broker_says_what_to_check():
    settings = replace(parse("", "test")[0].mqtt, server=("127.0.0.1",), port=free_port())
    with pytest.raises(GoodWeError, match="nothing listens there; is the broker running"):
        fleet.run(1, settings, interval=1.0, seconds=1.0, loop=Loop(time.monotonic), stopped=bool, say=print)


def test_fleet_that_is_larger_than_the_system_allows_is_told(monkeypatch):
    monkeypatch.setattr(fleet.resource, "getrlimit", lambda which: (1024, 4096))
    with pytest.raises(
        GoodWeError, match=r"allows 4096 open files, 5100 are needed; raise it with ulimit -n"
    ):
        fleet._allow_files(5100)
    raised = []
    monkeypatch.setattr(fleet.resource, "setrlimit", lambda which, limits: raised.append(limits))
    fleet._allow_files(2000)
    fleet._allow_files(100)
    assert raised == [(2000, 4096)]


@pytest.mark.parametrize("arguments", [[], ["--listen", "unix:x", "--fleet", "3"], ["--fleet", "0"]])
def test_simulate_is_one_inverter_or_a_fleet(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        simulate.parse(arguments)
    assert ended.value.code == 2
    assert "--fleet" in capsys.readouterr().err


SERIAL, OTHER = "1006KDTU13500023", "53600DSN201W0051"


def announce(port: int, topic: str, payload: str, qos: int = 1) -> None:
    client = paho_client("announcer")
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=qos, retain=True).wait_for_publish(PATIENCE)
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def announced(mosquitto, tmp_path):
    """Two of ours and one of somebody else's; a configuration for this broker."""
    ours = '{"o": {"name": "GoodWeUSBLogger"}}'
    for serial in (SERIAL, OTHER):
        announce(mosquitto.port, f"homeassistant/device/goodwe_{serial}/config", ours)
    announce(mosquitto.port, "homeassistant/device/other/config", '{"o": {"name": "other"}}')
    return parse(
        f"[inverter]\nstatefile = {tmp_path / 'state.json'}\n"
        f"[mqtt]\nserver = 127.0.0.2, 127.0.0.1\nport = {mosquitto.port}\n",
        "test",
    )[0]


def test_discovery_clear_takes_back_ours_and_nothing_else(announced, mosquitto):
    out = io.StringIO()
    assert discovery.main(["clear"], announced, out=out) == 0
    assert out.getvalue().splitlines() == [
        f"cleared homeassistant/device/goodwe_{SERIAL}/config",
        f"cleared homeassistant/device/goodwe_{OTHER}/config",
        discovery.STAYS,
    ]
    subscriber = Subscriber(mosquitto.port)
    assert subscriber.next()[0] == "homeassistant/device/other/config"
    subscriber.nothing(0.2)
    subscriber.close()
    again = io.StringIO()
    discovery.main(["clear"], announced, out=again)
    assert again.getvalue() == "nothing of this program is announced on homeassistant/device/+/config\n"


def test_discovery_clear_of_one_inverter(announced, mosquitto):
    discovery.main(["clear", OTHER], announced, out=io.StringIO())
    subscriber = Subscriber(mosquitto.port)
    assert {subscriber.next()[0] for _ in range(2)} == {
        f"homeassistant/device/goodwe_{SERIAL}/config",
        "homeassistant/device/other/config",
    }
    subscriber.nothing(0.2)
    subscriber.close()


def test_discovery_clear_knows_the_inverters_of_the_state_file(announced, mosquitto, monkeypatch):
    """RabbitMQ gives nothing that it keeps to who asks for all."""
    asked = []
    monkeypatch.setattr(discovery, "_announced", lambda client, topics: asked.extend(topics) or set())
    monkeypatch.setattr(discovery.state, "load", lambda path: {SERIAL: None})
    discovery.main(["clear"], announced, out=io.StringIO())
    assert asked == [f"homeassistant/device/goodwe_{SERIAL}/config", "homeassistant/device/+/config"]


def test_discovery_clear_of_a_serial_that_is_none_says_so(announced):
    out = io.StringIO()
    discovery.main(["clear", "NOBODY"], announced, out=out)
    assert (
        out.getvalue()
        == "nothing of this program is announced on homeassistant/device/goodwe_NOBODY/config\n"
    )


OF_OTHERS = (
    "goodwe/other/online",
    "goodwe/15000DTU166W0157/online",
    f"goodwe/{SERIAL}/note",
    f"goodwe/{SERIAL}/data/history",
    f"house/{SERIAL}/online",
    f"goodwe-command/{SERIAL}/limit",
    f"goodwe-command/{SERIAL}/stop",
    "homeassistant/status",
)


def left_behind(serial: str) -> list[str]:
    """Everything that a broker keeps of an inverter when every option is on."""
    return [
        f"goodwe/{serial}/online",
        f"goodwe/{serial}/data",
        f"goodwe/{serial}/pac",
        f"goodwe/{serial}/eTotal",
        f"goodwe/{serial}/alarms",
        f"goodwe-command/{serial}/limit/state",
    ]


def kept_at(port: int, qos: int = 1) -> list[str]:
    """The topics on which the broker keeps anything."""
    subscriber = Subscriber(port)
    announce(port, "last", "1", qos)
    subscriber.until("last")
    kept = [topic for topic, _, retained in subscriber.seen if retained]
    subscriber.close()
    announce(port, "last", "", qos)
    return sorted({*kept} - {"last"})


def test_discovery_clear_takes_back_all_that_is_kept_of_ours_and_nothing_of_others(announced, mosquitto):
    for topic in (*left_behind(SERIAL), *left_behind(OTHER), "goodwe/sum/data", *OF_OTHERS):
        announce(mosquitto.port, topic, "0")
    out = io.StringIO()
    assert discovery.main(["clear"], announced, out=out) == 0
    said = out.getvalue().splitlines()
    assert said[:2] == [f"cleared homeassistant/device/goodwe_{serial}/config" for serial in (SERIAL, OTHER)]
    assert sorted(said[2:-2]) == sorted(
        f"cleared {topic}" for topic in (*left_behind(SERIAL), *left_behind(OTHER), "goodwe/sum/data")
    )
    assert said[-2:] == [discovery.STAYS, discovery.SAID_AGAIN]
    assert kept_at(mosquitto.port) == sorted([*OF_OTHERS, "homeassistant/device/other/config"])


def test_discovery_clear_of_one_inverter_leaves_what_is_kept_of_the_other_and_the_sum(announced, mosquitto):
    for topic in (*left_behind(SERIAL), *left_behind(OTHER), "goodwe/sum/data"):
        announce(mosquitto.port, topic, "0")
    discovery.main(["clear", OTHER], announced, out=io.StringIO())
    assert kept_at(mosquitto.port) == sorted(
        [
            *left_behind(SERIAL),
            "goodwe/sum/data",
            f"homeassistant/device/goodwe_{SERIAL}/config",
            "homeassistant/device/other/config",
        ]
    )


def test_discovery_clear_without_announcements_knows_the_state_file_and_the_arguments(
    mosquitto, monkeypatch, tmp_path
):
    monkeypatch.setattr(discovery.state, "load", lambda path: {SERIAL: None})
    settings = parse(
        f"[inverter]\nstatefile = {tmp_path / 'state.json'}\n"
        f"[mqtt]\nserver = 127.0.0.1\nport = {mosquitto.port}\ntopic = roof/east\ncommandtopic = orders\n",
        "test",
    )[0]
    known = [f"roof/east/{SERIAL}/online", f"orders/{SERIAL}/limit/state"]
    given = [f"roof/east/{OTHER}/online", f"orders/{OTHER}/limit/state"]
    for topic in (*known, *given, f"goodwe/{SERIAL}/online"):
        announce(mosquitto.port, topic, "0")
    out = io.StringIO()
    discovery.main(["clear", OTHER], settings, out=out)
    assert out.getvalue().splitlines() == [*(f"cleared {topic}" for topic in given), discovery.SAID_AGAIN]
    out = io.StringIO()
    discovery.main(["clear"], settings, out=out)
    assert out.getvalue().splitlines() == [*(f"cleared {topic}" for topic in known), discovery.SAID_AGAIN]
    assert kept_at(mosquitto.port) == [f"goodwe/{SERIAL}/online"]


@pytest.mark.parametrize("serials", [[], [SERIAL]])
def test_discovery_clear_takes_back_what_stands_under_earlier_names(announced, mosquitto, tmp_path, serials):
    here = [f"roof/{SERIAL}/online", f"roof/{SERIAL}/data", f"ha/device/goodwe_{SERIAL}/config"]
    there = [f"roof/{OTHER}/online"]
    (tmp_path / "state.json.retained").write_text("\n".join([*here, *there]) + "\n")
    for topic in (*here, *there):
        announce(mosquitto.port, topic, "0")
    out = io.StringIO()
    discovery.main(["clear", *serials], announced, out=out)
    for topic in here:
        assert f"cleared {topic}\n" in out.getvalue()
    assert set(kept_at(mosquitto.port)) & {*here, *there} == (set(there) if serials else set())


def test_discovery_clear_names_what_it_knows_from_two_places_once(announced, mosquitto, monkeypatch):
    monkeypatch.setattr(discovery.retained, "load", lambda path: {"goodwe/sum/data", f"roof/{SERIAL}/data"})
    for topic in ("goodwe/sum/data", f"roof/{SERIAL}/data"):
        announce(mosquitto.port, topic, "0")
    out = io.StringIO()
    discovery.main(["clear"], announced, out=out)
    for topic in ("goodwe/sum/data", f"roof/{SERIAL}/data"):
        assert out.getvalue().splitlines().count(f"cleared {topic}") == 1


@pytest.mark.parametrize("known", [{}, {"AB C 12         ": None}])
def test_discovery_clear_finds_a_serial_that_an_inverter_fills_up_with_blanks(
    announced, mosquitto, monkeypatch, known
):
    monkeypatch.setattr(discovery.state, "load", lambda path: known)
    kept = ["homeassistant/device/goodwe_AB_C_12_________/config", "goodwe/AB C 12         /online"]
    for topic in kept:
        announce(mosquitto.port, topic, '{"o": {"name": "GoodWeUSBLogger"}}')
    out = io.StringIO()
    discovery.main(["clear", "AB C 12"], announced, out=out)
    assert out.getvalue().splitlines()[:2] == [f"cleared {topic}" for topic in kept]


def test_discovery_clear_does_not_take_what_a_program_says_just_now_for_kept(announced, mosquitto, run):
    running = run(mosquitto.port)
    stop = threading.Event()

    def speak() -> None:
        while not stop.wait(0.1):
            running.tell(reading())

    speaker = threading.Thread(target=speak)
    speaker.start()
    out = io.StringIO()
    began = time.monotonic()
    discovery.main(["clear", SERIAL], announced, out=out)
    stop.set()
    speaker.join(PATIENCE)
    assert f"cleared goodwe/{SERIAL}/data" not in out.getvalue()
    assert time.monotonic() - began < discovery.PATIENCE, "it waits for what is kept, not for silence"


@pytest.mark.parametrize(
    ("announcement", "serial"),
    [
        (b'{"dev": {"sn": "1006KDTU135 0023"}}', "1006KDTU135 0023"),
        (b'{"dev": {"sn": "+"}}', "1006KDTU135_0023"),
        (b'{"dev": 7}', "1006KDTU135_0023"),
        (b"\xff", "1006KDTU135_0023"),
    ],
)
def test_announcement_says_of_which_inverter_it_is(announcement, serial):
    assert discovery._serial("homeassistant/device/goodwe_1006KDTU135_0023/config", announcement) == serial
    assert discovery._serial("homeassistant/device/other/config", b"{}") == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: clear\n"),
        (["clean"], "argument clear: invalid choice: 'clean'"),
        (["clear", "#"], "argument SERIAL: '#' is no serial\n"),
        (["clear", "a/b"], "argument SERIAL: 'a/b' is no serial\n"),
    ],
)
def test_discovery_says_what_it_wants(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        discovery.parse(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_discovery_help_says_what_is_taken_back_and_that_the_serial_may_be_left_out(capsys):
    with pytest.raises(SystemExit):
        discovery.parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "usage: GoodWe.py discovery [-h] {clear} [SERIAL ...]" in said
    assert "what Home Assistant was told, online, and the values, the sum and the power limit" in said


@pytest.mark.parametrize(
    ("payload", "ours"),
    [
        (b'{"o": {"name": "GoodWeUSBLogger"}}', True),
        (b"[" * 200_000, False),
        (b"[]", False),
        (b"\xff", False),
    ],
)
def test_announcement_is_known_as_ours_whatever_others_send(payload, ours):
    assert is_ours(payload) == ours


def test_discovery_clear_that_cannot_be_written_says_so():
    attempt = SimpleNamespace(as_allowed=lambda message: message, publish=lambda *arguments: False)
    with pytest.raises(GoodWeError, match="did not take the removal of a/b"):
        discovery._publish(attempt, "a/b")


def test_discovery_clear_without_a_broker_says_what_to_check():
    settings = parse(f"[mqtt]\nserver = 127.0.0.1\nport = {free_port()}\n", "test")[0]
    with pytest.raises(GoodWeError, match=r"MQTT 127.0.0.1: nothing listens there; is the broker running"):
        discovery.main(["clear"], settings, out=io.StringIO())


def test_discovery_clear_at_a_broker_that_refuses_the_login(tmp_path):
    mosquitto = Mosquitto(tmp_path, lines="allow_anonymous false\n").start()
    settings = parse(f"[mqtt]\nserver = 127.0.0.1\nport = {mosquitto.port}\n", "test")[0]
    with pytest.raises(GoodWeError, match=r"it refuses us; check username and password"):
        discovery.main(["clear"], settings, out=io.StringIO())
    mosquitto.stop()
