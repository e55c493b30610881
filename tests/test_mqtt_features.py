"""All that is switched on around the readings, on real brokers: discovery, values, sum, commands, backlog."""

import json
import queue
import re
import signal
import subprocess
import sys
import time

import pytest

from goodwe.config import parse
from goodwe.events import Answer, Found, Info, Offline, Reading, Remembered, Resting
from goodwe.history import archive, schema
from goodwe.history.recorder import Happened
from goodwe.outputs.mqtt import alarms, discovery
from goodwe.outputs.mqtt.client import MQTT5, paho_client
from goodwe.outputs.mqtt.payload import data_json
from goodwe.outputs.mqtt.store import Store
from goodwe.protocol import fields
from goodwe.protocol.simulator import Day

from .broker import PATIENCE, Amqtt, Mosquitto, Subscriber, free_port, needs_amqtt, wait_for
from .children import unmeasured
from .mqtt import DATA, ONLINE, OTHER, SERIAL, VALUES, feature, reading, serving
from .proxy import Proxy

CONFIG = f"homeassistant/device/goodwe_{SERIAL}/config"
ALARMS = f"goodwe/{SERIAL}/alarms"
BACKLOG = f"goodwe/{SERIAL}/backlog"
protocols = pytest.mark.parametrize("protocol", ["3.1.1", "5"])


def born(port):
    """A Home Assistant that has just started, and says so."""
    home = paho_client("home-assistant")
    home.connect("127.0.0.1", port)
    home.publish("homeassistant/status", "online")
    home.loop_write()
    return home


def resting(**values):
    return Resting(SERIAL, 11, 3, {**VALUES, "pac": 0, **values}, 1.7e9, 1.7e9 + 300.0)


@pytest.fixture(params=["mosquitto", pytest.param("amqtt", marks=needs_amqtt)])
def broker(request, tmp_path):
    broker = Mosquitto(tmp_path).start() if request.param == "mosquitto" else Amqtt().start()
    yield broker
    broker.stop()


# discovery


def test_announced_once_with_the_first_values_and_retained(run, broker):
    subscriber = Subscriber(broker.port)
    running = run(broker.port, {"discovery": True})
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(), reading(), reading())
    topics = [subscriber.next()[0] for _ in range(7)]
    assert topics == [CONFIG, *[DATA, ONLINE] * 3]
    late = Subscriber(broker.port, "homeassistant/#")
    assert late.next()[::2] == (CONFIG, True)
    late.close()
    subscriber.close()


def test_what_it_tells_about_itself_is_announced(run, mosquitto, subscriber):
    running = run(mosquitto.port, {"discovery": True})
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(), Info(SERIAL, "idInfo", {"modelName": "GW6000-DT"}))
    assert "mdl" not in json.loads(subscriber.until(CONFIG)[1])["dev"]
    assert json.loads(subscriber.until(CONFIG)[1])["dev"]["mdl"] == "GW6000-DT"
    running.tell(reading())
    assert json.loads(subscriber.until(DATA)[1])["idInfo"] == {"modelName": "GW6000-DT"}


def test_home_assistant_that_starts_gets_all_again(run, broker, monkeypatch):
    """After restarting Home Assistant all entities are dead until the bridge restarts."""
    monkeypatch.setattr(discovery, "BIRTH_DELAY", 0.2)
    monkeypatch.setattr(discovery, "REPEAT_AFTER", 0.2)
    running = run(broker.port, {"discovery": True})
    running.tell(Found(SERIAL, 11))
    serving(running)
    subscriber = Subscriber(broker.port)
    running.tell(reading(), Offline(SERIAL, 11, "unplugged"), resting())
    for _ in ("read", "away", "said again after the first announcement"):
        subscriber.until(DATA)
    home = born(broker.port)
    subscriber.until(CONFIG)
    # at night, when the next message would be minutes away
    again = json.loads(subscriber.until(DATA)[1])
    assert (again["isOnline"], again["runningInfo"]["eTotal"]) == (False, VALUES["eTotal"])
    subscriber.until(ONLINE, "0")
    home.publish("homeassistant/status", "offline")
    home.publish("homeassistant/status", "rubbish")
    home.loop_write()
    subscriber.until("homeassistant/status", "rubbish")
    subscriber.nothing(0.6)
    home.disconnect()
    subscriber.close()


def test_home_assistant_that_starts_gets_no_old_reading_for_a_new_one(run, mosquitto, monkeypatch):
    """With offlinevalues = keep nothing is said of an inverter that is away."""
    monkeypatch.setattr(discovery, "BIRTH_DELAY", 0.0)
    monkeypatch.setattr(discovery, "REPEAT_AFTER", 0.2)
    running = run(mosquitto.port, {"discovery": True})
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(), Offline(SERIAL, 11, "unplugged"))
    subscriber = Subscriber(mosquitto.port)
    home = born(mosquitto.port)
    subscriber.until(CONFIG)
    subscriber.until(CONFIG)  # the retained one and the new one
    subscriber.nothing(0.6)
    home.disconnect()
    subscriber.close()


def test_inverter_that_is_only_remembered_is_announced(run, mosquitto, subscriber):
    running = run(mosquitto.port, {"discovery": True})
    running.tell(Remembered(SERIAL, 3))
    subscriber.until(CONFIG)
    subscriber.until(ONLINE, "0")


def test_broker_that_lost_its_memory_is_told_again(run, mosquitto):
    running = run(mosquitto.port, {"discovery": True})
    running.tell(Found(SERIAL, 11), reading())
    serving(running)
    mosquitto.stop()
    mosquitto.start()
    subscriber = Subscriber(mosquitto.port)
    subscriber.until(CONFIG)
    subscriber.close()


def test_new_connection_carries_the_live_value_before_it_tells_home_assistant_again(run, mosquitto):
    running = run(mosquitto.port, {"discovery": True})
    running.tell(Found(SERIAL, 11), reading())
    serving(running)
    mosquitto.stop()
    mosquitto.start()
    subscriber = Subscriber(mosquitto.port)
    assert [subscriber.next()[0] for _ in range(3)] == [DATA, ONLINE, CONFIG]
    subscriber.close()


def test_without_discovery_nothing_of_it_is_imported(mosquitto):
    program = (
        "import sys, time; from random import Random; from goodwe import config; from goodwe.loop import Loop\n"
        "from goodwe.app import App, outputs\n"
        "text = '[inverter]\\nstatefile =\\n[homeassistant]\\ndiscovery = off\\n'\n"
        f"text += '[mqtt]\\nserver = 127.0.0.1\\nport = {mosquitto.port}\\n'\n"
        "settings, _ = config.parse(text, 'test'); loop = Loop(time.monotonic)\n"
        "outputs(settings, loop, Random(), None)\n"
        "features = ('homeassistant', 'discovery', 'values', 'sums', 'backlog', 'store', 'commands', 'retained', 'alarms')\n"
        "print([name for name in features if f'goodwe.outputs.mqtt.{name}' in sys.modules], 'sqlite3' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=unmeasured())
    assert (done.stdout, done.stderr) == ("[] False\n", "")


# values and sum


def test_each_value_has_a_topic_of_its_own(run, mosquitto, subscriber):
    running = run(mosquitto.port, values=True)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(pac=1000))
    subscriber.until(f"goodwe/{SERIAL}/pac", "1000")
    subscriber.until(ONLINE, "1")
    running.tell(reading(pac=1005))
    running.tell(reading(pac=1200))
    seen = [message[0] for message in (subscriber.next() for _ in range(5))]
    assert seen == [DATA, ONLINE, DATA, f"goodwe/{SERIAL}/pac", ONLINE]


def test_values_arrive_with_qos_2_exactly_once(run, mosquitto):
    subscriber = Subscriber(mosquitto.port)
    running = run(mosquitto.port, values=True, valuesqos=2)
    running.tell(reading(pac=1000))
    messages = [subscriber.next() for _ in range(len(fields.RUNNING) + 2)]
    topics = [DATA, ONLINE, *(f"goodwe/{SERIAL}/{row.key}" for row in fields.RUNNING)]
    assert sorted(topic for topic, _, _ in messages) == sorted(topics)
    wait_for(lambda: mosquitto.log.count("Received PUBREL") == len(fields.RUNNING), "the second half")
    subscriber.nothing(0.3)
    subscriber.close()


def test_alarms_are_announced_said_kept_and_taken_back(run, mosquitto, subscriber, tmp_path, monkeypatch):
    monkeypatch.setattr(alarms, "NEWS_AFTER", 0.2)
    path, state = str(tmp_path / "history.db"), str(tmp_path / "state.json")
    connection = archive.connected(path)
    inverter = archive.number_of(connection, SERIAL, 1_700_000_000.0)
    archive.put_event(
        connection, inverter, Happened(time.time() - 60, SERIAL, schema.FAULT_ON, 9, "utility loss")
    )
    connection.close()
    options = {"discovery": True, "statefile": state}
    running = run(mosquitto.port, {**options, "history": path}, alarms=True)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading())
    assert "faultBegan" not in json.loads(subscriber.until(CONFIG)[1])["cmps"], "nobody has looked yet"
    assert json.loads(subscriber.until(ALARMS)[1])["faults"][0]["code"] == 9
    running.tell(reading())
    components = json.loads(subscriber.until(CONFIG)[1])["cmps"]
    assert components["faultBegan"]["stat_t"] == ALARMS
    assert components["lowProduction"] == {"p": "binary_sensor"}, "there are no years, and no neighbours"
    late = Subscriber(mosquitto.port, ALARMS)
    assert late.next()[2] is True
    running.stop()
    running = run(mosquitto.port, options)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading())
    assert json.loads(subscriber.until(CONFIG)[1])["cmps"]["faultBegan"] == {"p": "sensor"}
    assert late.until(ALARMS, "")[1] == ""
    late.close()


def test_sum_of_all(run, mosquitto, subscriber):
    running = run(mosquitto.port, sum=True)
    running.tell(Found(SERIAL, 11), Found(OTHER, 11))
    serving(running)
    serving(running, OTHER)
    running.tell(reading(pac=1000), reading(serial=OTHER, pac=500))
    subscriber.until("goodwe/sum/data")
    total = json.loads(subscriber.until("goodwe/sum/data")[1])
    assert (total["pac"], total["isValid"]) == (1500, True)
    running.tell(Offline(OTHER, 11, "unplugged"))
    assert json.loads(subscriber.until("goodwe/sum/data")[1])["missing"] == [OTHER]
    subscriber.close()
    mosquitto.stop()
    running.tell(Offline(SERIAL, 11, "unplugged"))
    mosquitto.start()
    again = Subscriber(mosquitto.port)
    assert json.loads(again.until("goodwe/sum/data")[1])["missing"] == [SERIAL, OTHER]
    again.close()


# commands


class Actions:
    """The program behind the commands."""

    def __init__(self):
        self.done = queue.Queue()

    def poll(self, serial):
        self.done.put(("poll", serial))
        return True

    def register(self, serial):
        self.done.put(("register", serial))
        return True

    def ask(self, serial, question, data=b"", *, urgent=False, answered):
        self.done.put((question, serial, data))
        self.answered = answered
        return True


@protocols
def test_command_is_carried_out_and_replied_to(run, mosquitto, subscriber, protocol):
    actions = Actions()
    running = run(mosquitto.port, {"actions": actions}, commands=True, control=True, protocol=protocol)
    running.tell(Found(SERIAL, 11), reading())
    subscriber.until(ONLINE, "1")
    subscriber.until(f"goodwe-command/{SERIAL}/limit/state", "None")
    person = paho_client("person")
    person.connect("127.0.0.1", mosquitto.port)
    person.publish(f"goodwe-command/{SERIAL}/limit", '{"value": 50, "id": 7}')
    person.loop_write()
    assert actions.done.get(timeout=PATIENCE) == ("limit_power", SERIAL, b"\x32")
    running.loop.post(lambda: actions.answered(Answer(SERIAL, "limit_power", b"\x06")))
    subscriber.until(f"goodwe-command/{SERIAL}/limit/state", "50")
    reply = json.loads(subscriber.until(f"goodwe-command/{SERIAL}/reply")[1])
    assert reply == {"command": "limit", "id": 7, "ok": True, "value": 50}
    person.publish("goodwe-command/all/poll", "")
    person.loop_write()
    assert actions.done.get(timeout=PATIENCE) == ("poll", SERIAL)
    person.disconnect()


def test_mqtt_5_asks_and_gets_its_answer_with_its_own_mark(run, mosquitto):
    import paho.mqtt.client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    running = run(mosquitto.port, {"actions": Actions()}, commands=True, protocol=MQTT5)
    running.tell(Found(SERIAL, 11), reading())
    serving(running)
    asker = paho_client("asker", protocol=paho.MQTTv5)
    answers, ready = queue.Queue(), queue.Queue()
    asker.on_message = lambda client, _, message: answers.put(message)
    asker.on_subscribe = lambda *_: ready.put(True)
    asker.on_connect = lambda client, *_: client.subscribe("my/answers")
    asker.connect("127.0.0.1", mosquitto.port)
    asker.loop_start()
    ready.get(timeout=PATIENCE)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "my/answers", b"mark 1"
    asker.publish(f"goodwe-command/{SERIAL}/poll", "", properties=properties)
    message = answers.get(timeout=PATIENCE)
    assert json.loads(message.payload) == {"command": "poll", "ok": True}
    assert message.properties.CorrelationData == b"mark 1"
    asker.disconnect()
    asker.loop_stop()


@protocols
def test_megabyte_and_a_storm_of_commands_disturb_no_reading(run, mosquitto, subscriber, protocol):
    running = run(mosquitto.port, {"actions": Actions()}, commands=True, protocol=protocol)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading())
    subscriber.until(ONLINE, "1")
    person = paho_client("person")
    person.connect("127.0.0.1", mosquitto.port)
    person.loop_start()
    person.publish(f"goodwe-command/{SERIAL}/poll", b"x" * 1_000_000, qos=1).wait_for_publish(PATIENCE)
    for _ in range(1000):
        person.publish(f"goodwe-command/{SERIAL}/poll", b"")
    slowest = max(running.tell(reading()) for _ in range(20))
    assert slowest < 0.2
    subscriber.until(DATA)
    assert running.output.pool.of(SERIAL) is not None
    person.disconnect()
    person.loop_stop()


@protocols
@pytest.mark.parametrize("longest", ["levels", "bytes"])
def test_longest_topics_that_the_configuration_takes_are_taken_by_a_broker(run, tmp_path, protocol, longest):
    """With all that is appended to them: serials, keys, commands, replies."""
    mosquitto = Mosquitto(tmp_path).start()
    if longest == "levels":
        topic, commandtopic, prefix = "a" + "/a" * 198, "b" + "/b" * 198, "c" + "/c" * 197
    else:
        topic, commandtopic, prefix = "a" * 65_435, "b" * 65_435, "c" * 65_435
    text = f"[mqtt]\ntopic = {topic}\ncommandtopic = {commandtopic}\n[homeassistant]\nprefix = {prefix}\n"
    checked = parse(text, "test")[0]
    assert (checked.mqtt.topic, checked.sections["homeassistant"].prefix) == (topic, prefix)
    subscriber = Subscriber(mosquitto.port)
    switched_on = {"values": True, "sum": True, "commands": True, "backlog": str(tmp_path / "backlog.db")}
    topics = {"topic": topic, "commandtopic": commandtopic}
    running = run(
        mosquitto.port,
        {"discovery": True, "prefix": prefix, "actions": Actions()},
        protocol=protocol,
        **topics,
        **switched_on,
    )
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading())
    wanted = {f"{topic}/{SERIAL}/data", f"{topic}/{SERIAL}/line1VFault", f"{topic}/sum/data"}
    wanted |= {f"{topic}/{SERIAL}/online", f"{prefix}/device/goodwe_{SERIAL}/config"}
    while wanted:
        wanted.discard(subscriber.next()[0])
    asking = paho_client("asking")
    asking.connect("127.0.0.1", mosquitto.port)
    asking.publish(f"{commandtopic}/{SERIAL}/nonsense", "{}")
    asking.loop_write()
    subscriber.until(f"{commandtopic}/{SERIAL}/reply")
    assert running.output.pool.of(SERIAL).status(0.0)["counts"] == {}
    asking.disconnect()
    subscriber.close()
    mosquitto.stop()


# backlog


NOW = float(int(time.time()))
"""Readings that are older than a month are dropped."""


def kept(count, start=NOW):
    return [reading(start + n, pac=n) for n in range(count)]


def expected(readings):
    return [data_json(one, language="en", infos={}, with_id=True) for one in readings]


def newest_first(payloads):
    """As they come over a new connection: what is true now, then what was."""
    return [payloads[-1], *payloads[:-1]]


def collect(subscriber, count, topics=(BACKLOG,)):
    """Payloads of the next so many messages on these topics."""
    taken = []
    while len(taken) < count:
        topic, payload, _ = subscriber.next()
        if topic in topics:
            taken.append(payload)
    return taken


@protocols
def test_outage_arrives_exactly_once_byte_for_byte(run, tmp_path, protocol):
    port = free_port()
    running = run(port, backlog=str(tmp_path / "b.db"), backlograte=1000, protocol=protocol)
    readings = kept(200)
    running.tell(Found(SERIAL, 11), *readings)
    mosquitto = Mosquitto(tmp_path, port=port).start()
    subscriber = Subscriber(port)
    assert subscriber.next()[:2] == (DATA, expected(readings)[-1])
    assert subscriber.next()[:2] == (ONLINE, "1")
    assert collect(subscriber, 199) == expected(readings)[:-1]
    running.tell(reading(NOW + 1000))
    subscriber.until(DATA)
    subscriber.until(ONLINE, "1")
    subscriber.nothing(0.5)
    subscriber.close()
    mosquitto.stop()


def test_backlog_goes_out_with_qos_1_and_nobody_keeps_it(run, tmp_path):
    port = free_port()
    running = run(port, backlog=str(tmp_path / "b.db"), backlograte=1000)
    running.tell(Found(SERIAL, 11), *kept(5))
    mosquitto = Mosquitto(tmp_path, port=port).start()
    subscriber = Subscriber(port)
    collect(subscriber, 4)
    sent = re.findall(rf"Received PUBLISH from \S+ \(d0, q(\d), r(\d), m\d+, '{BACKLOG}'", mosquitto.log)
    assert set(sent) == {("1", "0")}
    subscriber.close()
    mosquitto.stop()


def test_live_values_come_first_while_a_backlog_is_sent(run, tmp_path):
    port = free_port()
    running = run(port, backlog=str(tmp_path / "b.db"), backlograte=50)
    running.tell(Found(SERIAL, 11), *kept(300))
    mosquitto = Mosquitto(tmp_path, port=port).start()
    subscriber = Subscriber(port)
    collect(subscriber, 20)
    sent = time.monotonic()
    running.tell(reading(NOW + 1000, pac=4711))
    assert json.loads(subscriber.until(DATA)[1])["runningInfo"]["pac"] == 4711
    assert time.monotonic() - sent < 1.0
    subscriber.close()
    mosquitto.stop()


def test_readings_of_a_link_that_looks_alive_are_not_lost(run, mosquitto, subscriber, tmp_path):
    """Between the moment when packets vanish and the one when it is noticed."""
    proxy = Proxy(mosquitto.port)
    running = run(proxy.port, backlog=str(tmp_path / "b.db"), keepalive=5)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(NOW - 1))
    wait_for(lambda: not feature(running, "backlog")._backlog._live, "acknowledged")
    subscriber.until(ONLINE, "1")
    proxy.stall()
    readings = kept(5)
    running.tell(*readings)
    wait_for(lambda: running.output.pool.of(SERIAL) is None, "the loss is noticed")
    proxy.cut()
    proxy.flow()
    assert collect(subscriber, 5, (DATA, BACKLOG)) == newest_first(expected(readings))
    subscriber.nothing(0.5)
    proxy.close()


def test_what_is_said_of_an_absent_inverter_is_no_reading_and_has_no_id(run, mosquitto, subscriber, tmp_path):
    running = run(mosquitto.port, backlog=str(tmp_path / "b.db"))
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(NOW), Offline(SERIAL, 11, "unplugged"), resting())
    assert json.loads(subscriber.until(DATA)[1])["id"] == f"{SERIAL}-{int(NOW) * 1000}"
    assert "id" not in json.loads(subscriber.until(DATA)[1])


def test_acknowledgements_that_are_lost_bring_the_same_id_again(run, mosquitto, subscriber, tmp_path):
    proxy = Proxy(mosquitto.port)
    running = run(proxy.port, backlog=str(tmp_path / "b.db"), keepalive=5)
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading(NOW - 1))
    wait_for(lambda: not feature(running, "backlog")._backlog._live, "acknowledged")
    subscriber.until(ONLINE, "1")
    proxy.stalled_down = True
    readings = kept(5)
    running.tell(*readings)
    live = collect(subscriber, 5, (DATA,))
    proxy.cut()
    proxy.flow()
    again = collect(subscriber, 5, (DATA, BACKLOG))
    assert live == expected(readings)
    assert again == newest_first(live)
    assert [json.loads(text)["id"] for text in live] == [f"{SERIAL}-{int(NOW + n) * 1000}" for n in range(5)]
    proxy.close()


PROGRAM = """
import sys, time
from random import Random
from goodwe.events import Reading, Remembered
from goodwe.loop import Loop
from goodwe.outputs import Context
from goodwe.outputs.mqtt import make
from goodwe.config import parse
port, path, count, start = sys.argv[1:]
text = f"[mqtt]\\nserver = 127.0.0.1\\nport = {port}\\nbacklog = {path}\\nbacklograte = 40\\n"
text += "[inverter]\\nstatefile =\\n[homeassistant]\\ndiscovery = off\\n"
loop = Loop(time.monotonic)
config = parse(text, "test")[0]
output = make(config.mqtt, Context(loop, Random(1), time.time, None, config, 300.0))
serial = "1006KDTU13500023"
output.handle(Remembered(serial, 3))
for n in range(int(count)):
    values = {"pac": n, "workMode": 1, "errorMessage": []}
    output.handle(Reading(serial, 11, 3, values, float(start) + n))
output._features._kept["backlog"][1]._backlog._do("count", lambda: None, lambda _: print("kept", flush=True))
loop.run(until=lambda: False)
"""


def test_nothing_is_lost_by_kill_9_before_and_while_it_is_sent(tmp_path):
    port, path = free_port(), str(tmp_path / "b.db")

    def program(count, start=0.0):
        command = [sys.executable, "-c", PROGRAM, str(port), path, str(count), str(start)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    first = program(100, NOW)
    assert first.stdout.readline() == "kept\n"
    first.kill()
    first.wait(PATIENCE)
    mosquitto = Mosquitto(tmp_path, port=port).start()
    subscriber = Subscriber(port)
    second = program(0)
    powers = [json.loads(text)["runningInfo"]["pac"] for text in collect(subscriber, 30)]
    second.send_signal(signal.SIGKILL)
    second.wait(PATIENCE)
    third = program(0)
    while powers[-1] != 99:
        powers += [json.loads(text)["runningInfo"]["pac"] for text in collect(subscriber, 1)]
    third.kill()
    third.wait(PATIENCE)
    subscriber.close()
    mosquitto.stop()
    assert set(powers) == set(range(100)), "each at least once"
    assert len(powers) <= 100 + 2 * 20, "what was under way, and no more, comes twice"


def test_fourteen_days_replay_byte_for_byte(run, tmp_path):
    """A reading a minute of two simulated weeks, in daylight, while no broker is there."""
    day, port = Day(3), free_port()
    nothing = dict.fromkeys(VALUES, 0.0)
    readings = [
        Reading(SERIAL, 11, 3, {**nothing, **day.values(minute * 60.0)}, NOW - 14 * 86400 + minute * 60.0)
        for minute in range(14 * 24 * 60)
        if day.is_light(minute * 60.0)
    ]
    running = run(port, backlog=str(tmp_path / "b.db"), backlograte=1000)
    running.tell(Found(SERIAL, 11))
    for start in range(0, len(readings), 200):
        running.tell(*readings[start : start + 200])
        wait_for(lambda: not feature(running, "backlog")._backlog._jobs, "the disk has them")
    mosquitto = Mosquitto(tmp_path, port=port, lines="allow_anonymous true\nmax_queued_messages 0\n").start()
    subscriber = Subscriber(port)
    replayed = collect(subscriber, len(readings), (DATA, BACKLOG))
    assert replayed == newest_first(expected(readings))
    assert len(replayed) == 14 * 14 * 60
    subscriber.close()
    mosquitto.stop()


def test_backlog_of_an_inverter_that_is_gone_is_sent_all_the_same(run, tmp_path):
    port, path = free_port(), str(tmp_path / "b.db")
    running = run(port, backlog=path)
    running.tell(Found(OTHER, 11), reading(NOW, serial=OTHER))
    wait_for(lambda: not feature(running, "backlog")._backlog._jobs, "kept")
    running.stop()
    mosquitto = Mosquitto(tmp_path, port=port).start()
    subscriber = Subscriber(port)
    again = run(port, backlog=path)
    serving(again)
    subscriber.until(f"goodwe/{OTHER}/backlog")
    subscriber.close()
    mosquitto.stop()


def test_stop_waits_for_the_disk(run, tmp_path):
    running = run(free_port(), backlog=str(tmp_path / "b.db"))
    running.tell(Found(SERIAL, 11), *kept(50))
    running.stop()
    assert Store(str(tmp_path / "b.db"), largest=10**9, oldest=1e9).count() == 50
