"""The messages that go out over which connection, in which order, and what a broken feature takes with it."""

import importlib
import json
import sys
import threading
import time
from random import Random

import pytest

from goodwe.events import Found, Info, Offline, Online, Remembered, Resting
from goodwe.loop import Loop
from goodwe.outputs import Context, mqtt
from goodwe.outputs.mqtt import features
from goodwe.outputs.mqtt.discovery import BIRTH_DELAY, REPEAT_AFTER
from goodwe.outputs.mqtt.message import Message, Received
from goodwe.outputs.mqtt.output import MOST_INVERTERS, MqttOutput

from .broker import wait_for
from .fakes import Clock
from .mqtt import DATA, ONLINE, OTHER, SERIAL, VALUES, config, reading, settings

BACKLOG = f"goodwe/{SERIAL}/backlog"
BIRTH = Received("homeassistant/status", b"online", False)


def serial(number):
    return f"15000DSN000W{number:04}"


def resting(of=SERIAL):
    return Resting(of, 11, 3, {**VALUES, "pac": 0}, 1.7e9, 1.7e9 + 300.0)


class Connection:
    """A connection whose broker is the test."""

    def __init__(self, client_id):
        self.client_id = client_id
        self.up = False
        self.full = False
        self.will = None
        self.published = []
        self.unacknowledged = []
        self.subscriptions = []
        self.closed = False
        self.parted = False
        self.reopened = 0

    @property
    def serving(self):
        return self.up

    def serve(self, will, connected):
        same, self.will, self.connected = will == self.will, will, connected
        if self.up and same:
            connected()
        elif self.up:
            self.reopened += 1
            self.up = False

    def listen(self, topics, received):
        self.subscriptions += topics
        self.received = received

    def publish(self, message, done=None):
        if not self.up or self.full:
            return False
        self.published.append(message)
        if message.qos and done is not None:
            self.unacknowledged.append(done)
        return True

    def connect(self):
        self.up = True
        self.connected()

    def lose(self):
        self.up = False
        self.tell(acknowledged=False)

    def tell(self, *, acknowledged):
        told, self.unacknowledged = self.unacknowledged, []
        for done in told:
            done(acknowledged)

    def stop(self, now):
        self.parted = True
        self.close()

    def close(self):
        self.up, self.closed = False, True
        self.tell(acknowledged=False)

    def status(self, now):
        return {"state": "connected" if self.up else "paused"}

    def take(self):
        """Published since, as topic and payload."""
        taken, self.published = self.published, []
        return [(message.topic, message.payload) for message in taken]

    def topics(self):
        return [topic for topic, _ in self.take()]


class House:
    """An MQTT output on a clock that jumps."""

    def __init__(self, *, actions=None, discovery=False, **changes):
        self.clock = Clock(1000.0)
        self.loop = Loop(self.clock)
        self.dialed = []
        own = settings(1883, **changes)
        whole = config(own, discovery=discovery)
        context = Context(self.loop, Random(1), time.time, actions, whole, 300.0)
        self.output = MqttOutput(own, context, features(own, context), self._dial)

    def _dial(self, client_id):
        self.dialed.append(Connection(client_id))
        return self.dialed[-1]

    def tell(self, *events):
        for event in events:
            self.output.handle(event)

    def turn(self):
        self.loop.post(lambda: None)
        self.loop.turn()

    def wait(self, seconds):
        """Let so much time pass; what is due meanwhile is done when it is."""
        end = self.clock.now + seconds
        while self.output.deadline <= end:
            self.clock.now = max(self.clock.now, self.output.deadline)
            self.output.tick(self.clock.now)
        self.clock.now = end

    def settle(self):
        """Until the backlog's thread has done what it was given."""
        backlog = self.output._features._kept["backlog"][1]._backlog

        def idle():
            self.turn()
            if backlog.deadline <= self.clock.now:
                backlog.tick(self.clock.now)
            return not backlog._jobs

        wait_for(idle, "the disk has it")


# who has a connection


def test_serial_that_only_registers_costs_nothing_however_many_there_are():
    before = threading.active_count()
    house = House(values=True, sum=True)
    for number in range(1000):
        house.tell(Found(serial(number), 11), Online(serial(number), 11), Offline(serial(number), 11, "x"))
    assert [connection.client_id for connection in house.dialed] == ["goodwe-usb"]
    assert house.output.inverters == {}
    assert house.output.status(0.0)["inverters"] == {}
    assert threading.active_count() == before


def test_first_reading_opens_the_connection_and_so_does_an_inverter_of_earlier():
    house = House()
    house.tell(reading(), Remembered(OTHER, 1))
    assert [connection.client_id for connection in house.dialed] == ["goodwe-usb", f"goodwe-usb-{OTHER}"]
    assert [connection.will.topic for connection in house.dialed] == [ONLINE, f"goodwe/{OTHER}/online"]
    house.tell(reading(), Found(SERIAL, 11), resting(), Offline(SERIAL, 11, "x"))
    assert len(house.dialed) == 2


def test_first_connection_has_the_will_of_the_first_that_is_online_when_its_reading_comes(tmp_path):
    house = House(backlog=str(tmp_path / "b.db"))
    connection = house.dialed[0]
    connection.up = True
    house.tell(Found(SERIAL, 11))
    assert connection.will is None
    house.tell(Online(SERIAL, 11))
    assert (connection.will.topic, connection.reopened) == (ONLINE, 1)
    connection.connect()
    assert connection.take() == [], "nothing was read yet"
    house.tell(reading())
    assert (connection.topics(), connection.reopened) == ([DATA, ONLINE], 1)
    house.tell(Online(SERIAL, 11), Online(OTHER, 11))
    assert (len(house.dialed), connection.reopened) == (1, 1)


def test_first_connection_is_for_the_first_that_is_read_whoever_was_online_before():
    house = House()
    connection = house.dialed[0]
    house.tell(*(Online(serial(number), 11) for number in range(100)))
    assert connection.will.topic == f"goodwe/{serial(0)}/online"
    connection.connect()
    house.tell(reading())
    assert (connection.will.topic, connection.reopened, len(house.dialed)) == (ONLINE, 1, 1)
    connection.connect()
    assert connection.topics() == [DATA, ONLINE]
    house.tell(reading(serial=serial(0)))
    assert house.dialed[1].client_id == f"goodwe-usb-{serial(0)}"


def test_what_it_tells_about_itself_before_its_first_reading_opens_none():
    house = House()
    house.tell(Info(SERIAL, "idInfo", {"modelName": "GW6000-DT"}))
    assert house.output.inverters == {}


def test_newcomer_beyond_the_most_takes_the_place_of_the_one_away_longest():
    house = House(values=True, sum=True, commands=True, discovery=True, actions=object())
    for number in range(MOST_INVERTERS):
        house.clock.now += 1
        house.tell(reading(serial=serial(number)))
        house.dialed[number].connect()
    for number in (7, 0, 5):
        house.clock.now += 1
        house.tell(Offline(serial(number), 11, "unplugged"))
    house.tell(resting(serial(7)), reading(serial=serial(900)))
    assert serial(7) not in house.output.inverters
    assert house.dialed[7].parted
    house.tell(reading(serial=serial(901)))
    assert serial(5) not in house.output.inverters
    assert serial(0) in house.output.inverters, "its connection has the commands to all"
    assert len(house.dialed) == MOST_INVERTERS + 2
    assert len(house.output.inverters) == MOST_INVERTERS
    house.dialed[0].take()
    house.tell(reading(serial=serial(1)))
    total = json.loads(next(text for topic, text in house.dialed[0].take() if topic == "goodwe/sum/data"))
    assert (total["inverters"], total["missing"]) == (MOST_INVERTERS, [serial(0)])
    house.output.stop(0.0)
    assert house.output.stopped


def test_newcomer_beyond_the_most_is_left_out_while_all_are_online(caplog):
    house = House()
    house.tell(*(reading(serial=serial(number)) for number in range(MOST_INVERTERS + 10)))
    house.tell(Remembered(serial(900), 1), Offline(serial(900), 11, "x"), Info(serial(900), "idInfo", {}))
    assert len(house.output.inverters) == len(house.dialed) == MOST_INVERTERS
    assert caplog.messages == [f"{serial(MOST_INVERTERS)} is inverter number 65; it is left out"]
    assert house.output.status(0.0)["turned_away"] == 11


# what a new connection carries first


def kept(count):
    start = float(int(time.time()))  # what is older than a month is dropped
    return [reading(start + n, pac=n) for n in range(count)]


def pac(text):
    return json.loads(text)["runningInfo"]["pac"]


def test_newest_goes_first_then_the_backlog_in_order_and_each_once(tmp_path):
    house = House(backlog=str(tmp_path / "b.db"))
    house.tell(*kept(5))
    house.settle()
    connection = house.dialed[0]
    connection.connect()
    assert [(topic, text if topic == ONLINE else pac(text)) for topic, text in connection.take()] == [
        (DATA, 4),
        (ONLINE, "1"),
    ]
    connection.tell(acknowledged=True)
    for _ in range(3):
        house.settle()
        house.clock.now += 1.0
    sent = connection.published
    assert [(message.topic, pac(message.payload), message.qos) for message in sent] == [
        (BACKLOG, n, 1) for n in range(4)
    ]


def test_newest_that_found_no_connection_is_in_the_file_already(tmp_path):
    house = House(backlog=str(tmp_path / "b.db"))
    house.tell(*kept(1))
    house.settle()
    again = House(backlog=str(tmp_path / "b.db"))  # as after a power cut
    again.tell(Remembered(SERIAL, 3))
    again.dialed[0].connect()
    assert again.dialed[0].topics() == [ONLINE]
    again.settle()
    again.settle()
    assert again.dialed[0].topics() == [BACKLOG]


@pytest.mark.parametrize("backlog", [True, False])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_newest_that_may_be_lost_is_said_again_first_and_once_it_is_acknowledged_no_more(
    tmp_path, backlog, qos
):
    house = House(backlog=str(tmp_path / "b.db") if backlog else "", qos=qos)
    connection = house.dialed[0]
    house.tell(reading(time.time(), pac=1))
    connection.connect()
    connection.tell(acknowledged=True)
    house.tell(reading(time.time(), pac=2))
    connection.lose()
    connection.take()
    connection.connect()
    (topic, text), online = connection.take()
    assert (topic, pac(text), online) == (DATA, 2, (ONLINE, "1"))
    connection.tell(acknowledged=True)
    connection.lose()
    connection.connect()
    assert connection.topics() == ([ONLINE] if qos or backlog else [DATA, ONLINE])


def test_newest_that_a_full_connection_did_not_take_goes_first_over_the_next():
    house = House()
    connection = house.dialed[0]
    house.tell(reading(pac=1))
    connection.connect()
    connection.full = True
    house.tell(reading(pac=2))
    connection.full = False
    connection.lose()
    connection.take()
    connection.connect()
    assert pac(connection.take()[0][1]) == 2


def test_what_is_said_of_an_absent_inverter_goes_first_too_and_an_old_reading_never():
    house = House(qos=0)
    connection = house.dialed[0]
    house.tell(reading(), Offline(SERIAL, 11, "unplugged"))
    connection.connect()
    assert connection.take() == [(ONLINE, "0")], "with offlinevalues = keep nothing else is true"
    house.tell(resting())
    connection.lose()
    connection.take()
    connection.connect()
    (topic, text), online = connection.take()
    assert (topic, json.loads(text)["isOnline"], online) == (DATA, False, (ONLINE, "0"))


def test_backlog_waits_for_the_live_values_of_other_inverters_but_not_for_ever(tmp_path):
    house = House(backlog=str(tmp_path / "b.db"))
    late = reading(time.time(), serial=OTHER)
    house.tell(*kept(3), late, late._replace(when=late.when + 1))
    house.settle()
    first, second = house.dialed
    first.connect()
    house.settle()
    first.tell(acknowledged=True)
    house.settle()
    assert first.topics() == [DATA, ONLINE]
    second.connect()
    house.settle()
    house.settle()
    assert second.topics() == [f"goodwe/{OTHER}/data", f"goodwe/{OTHER}/online", f"goodwe/{OTHER}/backlog"]
    assert first.topics() == [BACKLOG, BACKLOG]


def test_backlog_is_sent_after_five_seconds_though_one_connection_cannot_be_made(tmp_path):
    house = House(backlog=str(tmp_path / "b.db"))
    house.tell(*kept(3), reading(time.time(), serial=OTHER))
    house.settle()
    house.dialed[0].connect()
    house.settle()
    house.dialed[0].take()
    house.wait(4.9)
    house.settle()
    assert house.dialed[0].topics() == []
    house.wait(0.2)
    house.settle()
    house.settle()
    assert house.dialed[0].topics() == [BACKLOG, BACKLOG]


# Home Assistant


def announced(house, connection):
    house.tell(reading(), Offline(SERIAL, 11, "unplugged"), resting())
    connection.connect()
    house.wait(10.0)
    connection.take()


def test_values_are_said_again_two_seconds_after_the_announcement_that_a_birth_brings():
    house = House(discovery=True)
    connection = house.dialed[0]
    assert "homeassistant/status" not in connection.subscriptions, "nobody to announce yet"
    announced(house, connection)
    assert "homeassistant/status" in connection.subscriptions
    connection.received(BIRTH)
    due = house.output.deadline
    assert house.clock.now <= due <= house.clock.now + BIRTH_DELAY
    house.wait(due - house.clock.now)
    assert connection.topics() == [f"homeassistant/device/goodwe_{SERIAL}/config"]
    assert house.output.deadline == due + REPEAT_AFTER == due + 2.0
    house.wait(1.999)
    assert connection.topics() == []
    house.wait(0.001)
    assert connection.topics() == [DATA, ONLINE]
    house.wait(3600.0)
    assert connection.topics() == []


def test_inverter_that_speaks_for_itself_is_not_repeated_and_a_second_birth_moves_nothing():
    house = House(discovery=True)
    connection = house.dialed[0]
    house.tell(reading())
    connection.connect()
    house.wait(10.0)
    connection.take()
    connection.received(BIRTH)
    due = house.output.deadline
    connection.received(BIRTH)
    assert house.output.deadline <= due
    house.wait(10.0)
    assert connection.topics() == [f"homeassistant/device/goodwe_{SERIAL}/config"]


def test_message_that_nothing_here_has_subscribed_to_is_counted():
    house = House(discovery=True, commands=True, actions=object())
    house.tell(reading())
    for topic in ("", "x", "goodwe/x/data", "homeassistant/statu", "goodwe-command/all"):
        house.dialed[0].received(Received(topic, b"", False))
    assert house.output.status(0.0)["unasked"] == 5


# a feature that is broken


TOY = """
from goodwe.outputs.mqtt.feature import Feature

made = []

class Receipt:
    def wait(self):
        pass

    def told(self, acknowledged):
        pass

class Part:
    closed = False
    deadline = 0.0

    def poll_for(self):
        return None

    def tick(self, now):
        pass

class Toy(Feature):
    was_closed = False
    deadline = 0.0

    def __init__(self, hub):
        self.hub = hub
        self.deadline = 0.0
        made.append(self)

    def close(self):
        self.was_closed = True

def make(hub):
    return Toy(hub)
"""
ENTRIES = ["subscriptions", "received", "renew", "prepare", "take", "published", "handle", "caught_up"]
ENTRIES += ["forget", "tick", "deadline", "stop", "stopped", "status", "posted", "answered", "part"]


def fail(*_):
    raise ZeroDivisionError("a defect")


class Toys(House):
    """A house with a feature of the test between two others."""

    def __init__(self, toy):
        self.toy = toy
        self.clock = Clock(1000.0)
        self.loop = Loop(self.clock)
        self.dialed = []
        own = settings(1883, values=True, sum=True, qos=1)
        context = Context(self.loop, Random(1), time.time, None, config(own), 300.0)
        self.output = MqttOutput(own, context, ["values", "toy", "sums"], self._dial)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(mqtt, "__path__", [*mqtt.__path__, str(tmp_path)])
    yield importlib.import_module("goodwe.outputs.mqtt.toy")
    del sys.modules["goodwe.outputs.mqtt.toy"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_feature_that_raises_is_dropped_and_data_and_online_go_on(toy, entry, caplog):
    if entry in ("stopped", "deadline"):
        setattr(toy.Toy, entry, property(fail, lambda self, value: None))
    elif entry not in ("posted", "answered", "part"):
        setattr(toy.Toy, entry, fail)
    house = Toys(toy)
    (made,) = toy.made
    if entry == "posted":
        made.hub.context.loop.post(fail)
    if entry == "part":
        part = toy.Part()
        part.tick = fail
        made.hub.context.loop.add(part)
    connection = house.dialed[0]
    house.tell(reading(pac=1))
    connection.connect()
    if entry == "answered":
        made.hub.publish(SERIAL, Message("x", "", 1), fail)
    connection.tell(acknowledged=True)
    connection.received(Received("x", b"", False))
    for _ in range(2):
        house.turn()
    house.tell(*(reading(serial=serial(n)) for n in range(MOST_INVERTERS - 1)))
    house.tell(Offline(serial(5), 11, "x"), reading(serial=serial(99)))
    house.output.status(0.0)
    connection.take()
    house.tell(reading(pac=2000))
    topics = connection.topics()
    assert (topics[0], topics[1], topics[2]) == (DATA, f"goodwe/{SERIAL}/pac", ONLINE)
    assert topics[-1] == "goodwe/sum/data"
    house.output.stop(house.clock.now)
    assert (ONLINE, "0") in connection.take()
    house.turn()
    house.turn()
    assert house.output.stopped
    assert house.output.closed
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "MQTT's toy failed and is left out until the next start; all else goes on"
    assert record.exc_info[0] is ZeroDivisionError
    assert made.was_closed
    assert house.output.dropped == [{"part": "toy", "error": "ZeroDivisionError: a defect"}]
    assert set(house.output.status(0.0)["features"]) == {"values", "sums"}


def test_feature_that_cannot_begin_is_left_out(toy, caplog):
    toy.make = fail
    house = Toys(toy)
    house.tell(reading())
    house.dialed[0].connect()
    assert house.dialed[0].topics()[0] == DATA
    assert caplog.messages == ["MQTT's toy is left out: it failed when it began"]


@pytest.mark.parametrize("method", ["take", "keep", "told", "linked", "stop"])
def test_broken_backlog_takes_no_reading_with_it(tmp_path, method, caplog):
    house = House(backlog=str(tmp_path / "b.db"))
    backlog = house.output._features._kept["backlog"][1]._backlog
    setattr(backlog, method, fail)
    connection = house.dialed[0]
    house.tell(reading(pac=1))
    connection.connect()
    connection.tell(acknowledged=True)
    house.tell(reading(pac=2))
    connection.lose()
    connection.take()
    connection.connect()
    house.tell(reading(pac=3))
    assert [pac(text) for topic, text in connection.take() if topic == DATA] == [2, 3]
    house.output.stop(0.0)
    assert connection.take() == [(ONLINE, "0")]
    house.turn()
    house.turn()
    wait_for(lambda: (house.turn(), house.output.stopped)[1], "stopped")
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_broken_output_is_closed_without_goodbye_so_that_the_will_speaks():
    house = House()
    house.tell(reading(), reading(serial=OTHER))
    house.dialed[0].connect()
    house.dialed[0].take()
    house.output.close()
    assert all(connection.closed and not connection.parted for connection in house.dialed)
    assert house.dialed[0].take() == []


# status


def test_status_is_plain_and_tells_of_inverters_connections_and_features(tmp_path):
    house = House(
        backlog=str(tmp_path / "b.db"), values=True, commands=True, discovery=True, actions=object()
    )
    status = house.output.status(house.clock.now)
    assert (status["state"], status["inverters"]) == ("running", {})
    assert status["connections"] == {"": {"state": "paused"}}
    house.tell(reading())
    house.clock.now += 5.0
    status = house.output.status(house.clock.now)
    json.dumps(status)
    assert status["inverters"] == {SERIAL: {"online": True, "since_seconds": 5.0, "is_waiting": True}}
    assert status["connections"] == {SERIAL: {"state": "paused"}}
    assert set(status["features"]) == {"discovery", "values", "commands", "backlog"}
    house.dialed[0].connect()
    house.dialed[0].tell(acknowledged=True)
    status = house.output.status(house.clock.now)
    assert not status["inverters"][SERIAL]["is_waiting"]
    assert status["features"]["discovery"] == {"announced": [SERIAL]}
    house.output.stop(0.0)
    assert house.output.status(0.0)["state"] == "stopping"
