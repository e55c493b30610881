"""Messages that a broker keeps because of an option, and is told to keep no longer when it is off."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from goodwe.config import parse
from goodwe.events import Resting
from goodwe.outputs.mqtt.retained import Retained, is_kept, load, optional_topics, path_beside

from .broker import Subscriber, wait_for
from .mqtt import ONLINE, feature, reading
from .test_tools import kept_at

SERIAL, OTHER = "1006KDTU13500023", "53600DSN201W0051"
ALARMS = f"goodwe/{SERIAL}/alarms"
DATA, PAC = f"goodwe/{SERIAL}/data", f"goodwe/{SERIAL}/pac"
LIMIT = f"goodwe-command/{SERIAL}/limit/state"
ANNOUNCED = f"homeassistant/device/goodwe_{SERIAL}/config"
SUM = "goodwe/sum/data"


def options(*lines: str):
    return parse("[history]\n[mqtt]\n" + "\n".join(lines), "test")[0].mqtt


EVERYTHING = (
    *("retain = on", "sum = on", "values = on", "valuesretain = on", "alarms = on"),
    *("commands = on", "control = on"),
)


class Broker:
    """Keeps what it is told to, and acknowledges when the test says so."""

    def __init__(self, *, room: int = 100) -> None:
        self.got: list[str] = []
        self.room = room
        self._waiting: list = []

    def publish(self, message, done) -> bool:
        if len(self._waiting) >= self.room:
            return False
        assert (message.payload, message.qos, message.retain) == ("", 1, True)
        self.got.append(message.topic)
        self._waiting.append(done)
        return True

    def answer(self, acknowledged: bool = True) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(acknowledged)


def at_once(call, then) -> None:
    """A worker that does it now."""
    try:
        call()
    except OSError as error:
        then(lambda error=error: raise_(error))
    else:
        then(lambda: None)


def raise_(error):
    raise error


@pytest.fixture
def path(tmp_path):
    return path_beside(str(tmp_path / "deep" / "state.json"))


def begin(path, broker, *lines, do=at_once, prefix="") -> Retained:
    worker = SimpleNamespace(do=do)
    return Retained(path, options(*lines), prefix=prefix, publish=broker.publish, worker=worker)


def test_without_options_online_is_noted_and_nothing_taken_back(path):
    broker = Broker()
    retained = begin(path, broker)
    retained.note(SERIAL, 3)
    retained.take_back()
    assert (broker.got, retained.left, load(path)) == ([], 0, {ONLINE})


@pytest.mark.parametrize(
    ("lines", "prefix", "taken_back"),
    [
        (["topic = roof"], "homeassistant", {ONLINE}),
        (["topic = goodwe/roof"], "homeassistant", {ONLINE}),
        (["topic = goodwe/"], "homeassistant", {ONLINE}),
        ([], "ha", {ANNOUNCED}),
        ([], "homeassistant/device", {ANNOUNCED}),
        ([], "", {ANNOUNCED}),
        (["topic = roof"], "", {ONLINE, ANNOUNCED}),
        ([], "homeassistant", set()),
    ],
)
def test_what_stands_under_an_earlier_name_is_taken_back_once(path, lines, prefix, taken_back):
    begin(path, Broker(), prefix="homeassistant").note(SERIAL, 3)
    assert load(path) == {ONLINE, ANNOUNCED}
    broker = Broker()
    retained = begin(path, broker, *lines, prefix=prefix)
    retained.take_back()
    assert set(broker.got) == taken_back
    broker.answer()
    again = Broker()
    begin(path, again, *lines, prefix=prefix).take_back()
    assert again.got == []


def test_names_of_two_moves_ago_are_not_forgotten_while_no_broker_is_there(path):
    begin(path, Broker()).note(SERIAL, 3)
    begin(path, Broker(), "topic = roof").note(SERIAL, 3)
    broker = Broker()
    begin(path, broker, "topic = barn").take_back()
    assert broker.got == [ONLINE, f"roof/{SERIAL}/online"]


def test_name_that_is_in_force_again_is_not_taken_back(path):
    begin(path, Broker()).note(SERIAL, 3)
    begin(path, Broker(), "topic = roof").note(SERIAL, 3)
    broker = Broker()
    begin(path, broker).take_back()
    assert broker.got == [f"roof/{SERIAL}/online"]


def test_options_that_are_off_again_are_taken_back_once(path):
    begin(path, Broker(), *EVERYTHING).note(SERIAL, 3)
    assert load(path) == {*optional_topics("goodwe", "goodwe-command", SERIAL), SUM, ONLINE}
    broker = Broker()
    retained = begin(path, broker)
    retained.take_back()
    assert {DATA, PAC, LIMIT, SUM, ALARMS} <= set(broker.got)
    assert f"goodwe/{SERIAL}/online" not in broker.got
    assert Path(path).exists(), "nobody has acknowledged it"
    broker.answer()
    assert (retained.left, load(path)) == (0, {ONLINE})
    assert retained.was_kept(ALARMS), "Home Assistant is to be told"
    again = Broker()
    begin(path, again).take_back()
    assert again.got == []


@pytest.mark.parametrize(
    ("lines", "topics"),
    [
        (["alarms = on"], {DATA, SUM, PAC}),
        (["values = on", "valuesretain = on"], {DATA, SUM, ALARMS}),
        (["retain = on", "sum = on"], {PAC, ALARMS}),
        (["retain = on"], {SUM, PAC, ALARMS}),
        (["sum = on", "values = on"], {DATA, SUM, PAC, ALARMS}),
        (["valuesretain = on"], {DATA, SUM, PAC, ALARMS}),
        (list(EVERYTHING), set()),
        ([*EVERYTHING, "topic = roof"], {DATA, SUM, PAC, ALARMS}),
        ([*EVERYTHING, "commandtopic = orders"], {LIMIT}),
        ([*EVERYTHING[:-1], "control = off"], {LIMIT}),
    ],
)
def test_only_what_is_not_to_be_kept_any_more_is_taken_back(path, lines, topics):
    begin(path, Broker(), *EVERYTHING).note(SERIAL, 3)
    broker = Broker()
    begin(path, broker, *lines).take_back()
    assert (
        set(broker.got) & {DATA, SUM, PAC, ALARMS, *([LIMIT] if "commands = on" in lines else [])} == topics
    )


def test_lost_connection_and_little_room_take_it_back_later(path):
    begin(path, Broker(), *EVERYTHING).note(SERIAL, 3)
    broker = Broker(room=3)
    retained = begin(path, broker)
    retained.take_back()
    retained.take_back()  # another inverter's connection
    assert len(broker.got) == 3
    broker.answer(acknowledged=False)
    assert len(broker.got) == 3, "there is no connection"
    retained.take_back()
    while retained.left:
        broker.answer()
    assert broker.got[3:] == sorted({*optional_topics("goodwe", "goodwe-command", SERIAL), SUM})
    assert load(path) == {ONLINE}


def test_what_was_acknowledged_before_a_crash_is_not_taken_back_again(path):
    begin(path, Broker(), *EVERYTHING).note(SERIAL, 3)
    broker = Broker(room=3)
    retained = begin(path, broker)
    retained.take_back()
    broker.room = 0
    broker.answer()
    broker = Broker()
    begin(path, broker).take_back()
    assert len(broker.got) == len(optional_topics("goodwe", "goodwe-command", SERIAL)) + 1 - 3


def test_broker_that_answers_at_once_is_told_each_once(path):
    begin(path, Broker(), *EVERYTHING).note(SERIAL, 3)
    got = []

    def publish(message, done) -> bool:
        got.append(message.topic)
        done(True)
        return True

    retained = Retained(path, options(), publish=publish, worker=SimpleNamespace(do=at_once))
    retained.take_back()
    assert (len(got), len(set(got)), retained.left) == (len(got), len(got), 0)


def test_inverters_of_earlier_starts_stay_in_the_file(path):
    begin(path, Broker(), "retain = on").note(SERIAL, 3)
    retained = begin(path, Broker(), "retain = on")
    retained.note(OTHER, 1)
    retained.note(OTHER, 1)
    both = {f"goodwe/{OTHER}/data", f"goodwe/{OTHER}/online"}
    assert load(path) == {DATA, ONLINE, *both}


def test_disk_is_written_to_once_for_an_inverter_not_at_each_reading(path, caplog):
    caplog.set_level("INFO")
    writes = []

    def do(call, then) -> None:
        writes.append(call)
        at_once(call, then)

    retained = begin(path, Broker(), "retain = on", do=do)
    for _ in range(3):
        retained.note(SERIAL, 3)
    assert len(writes) == 1
    begin(path, Broker(), "retain = on", do=do).note(SERIAL, 3)
    assert len(writes) == 1, "it stands there from the start before"
    assert caplog.messages == []
    broker = Broker()
    begin(path, broker, do=do).take_back()
    assert caplog.messages == ["The broker is told to keep no longer what stands on 1 topics"]
    broker.answer()
    assert len(writes) == 2


def test_damaged_file_takes_back_nothing_of_others(path):
    begin(path, Broker(), "retain = on").note(SERIAL, 3)
    with open(path, "ab") as file:
        file.write(
            b"other/things\n#\ngoodwe/+/data\ngoodwe//data\n\xff/x/data\na/b/c/state\nhomeassistant/status\n"
            b"homeassistant/device/other/config\ndevice/goodwe_x/config\nx//online\n"
        )
    broker = Broker()
    begin(path, broker).take_back()
    assert broker.got == [DATA]


def test_disk_that_takes_nothing_is_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    retained = begin(str(tmp_path / "file" / "state.retained"), Broker(), "retain = on")
    retained.note(SERIAL, 3)
    retained.note(OTHER, 1)
    assert sum("cannot save" in message for message in caplog.messages) == 1
    assert retained.saved


def test_single_phase_inverter_has_no_topics_of_other_phases(path):
    begin(path, Broker(), *EVERYTHING).note(OTHER, 1)
    assert f"goodwe/{OTHER}/vac1" in load(path)
    assert f"goodwe/{OTHER}/vac2" not in load(path)


def test_no_statefile_no_file():
    assert path_beside("") == ""
    assert is_kept(options("retain = on"), DATA)


# at a real broker


def test_option_that_is_off_again_leaves_no_old_reading_to_newcomers(run, mosquitto, tmp_path):
    statefile = str(tmp_path / "state.json")
    beside = {"options": {"statefile": statefile}}
    on = run(mosquitto.port, retain=True, sum=True, values=True, valuesretain=True, **beside)
    on.tell(reading(pac=4711))
    listener = Subscriber(mosquitto.port)
    listener.until(SUM)
    listener.close()
    on.stop()
    assert {DATA, PAC, SUM} <= set(kept_at(mosquitto.port))
    listener = Subscriber(mosquitto.port)
    off = run(mosquitto.port, sum=True, values=True, **beside)
    off.tell(reading(pac=4712))
    listener.until(ONLINE, "1")
    assert set(kept_at(mosquitto.port)) == {ONLINE}
    empty = [topic for topic, payload, _ in listener.seen if not payload]
    assert (empty.count(DATA), empty.count(PAC), empty.count(SUM)) == (1, 1, 1)
    said = [payload for topic, payload, retained in listener.seen if topic == DATA and not retained]
    assert said[0] == "" != said[1], "taken back before anything new is said"
    listener.close()
    off.stop()
    assert load(str(tmp_path / "state.json.retained")) == {ONLINE}
    later = Subscriber(mosquitto.port)
    again = run(mosquitto.port, sum=True, values=True, **beside)
    again.tell(reading(pac=4713))
    later.until(ONLINE, "1")
    assert all(payload for _, payload, _ in later.seen), "no empty message but that once"
    later.close()


def test_earlier_topic_and_prefix_keep_nothing_once_others_are_in_force(run, mosquitto, tmp_path):
    beside = {"statefile": str(tmp_path / "state.json"), "discovery": True}
    first = run(mosquitto.port, retain=True, options=beside)
    first.tell(reading())
    listener = Subscriber(mosquitto.port)
    listener.until_all({(ONLINE, "1")})
    wait_for(lambda: ANNOUNCED in kept_at(mosquitto.port), "announced")
    listener.close()
    first.stop()
    second = run(mosquitto.port, retain=True, topic="roof", options={**beside, "prefix": "ha"})
    second.tell(reading())
    names = [
        ANNOUNCED.replace("homeassistant", "ha"),
        DATA.replace("goodwe/", "roof/"),
        f"roof/{SERIAL}/online",
    ]
    wait_for(lambda: sorted(kept_at(mosquitto.port)) == sorted(names), "only what is in force is kept")
    second.stop()


def test_inverter_that_is_away_is_taken_back_with_the_connection_of_another(run, mosquitto, tmp_path):
    beside = {"options": {"statefile": str(tmp_path / "state.json")}}
    on = run(mosquitto.port, retain=True, **beside)
    other = reading()._replace(serial=OTHER)
    on.tell(reading(), other)
    listener = Subscriber(mosquitto.port)
    listener.until_all({(ONLINE, "1"), (f"goodwe/{OTHER}/online", "1")})
    listener.close()
    on.stop()
    assert {DATA, f"goodwe/{OTHER}/data"} <= set(kept_at(mosquitto.port))
    off = run(mosquitto.port, **beside)
    last = reading()
    off.tell(Resting(*last[:4], when=last.when, said=last.when + 60.0))
    listener = Subscriber(mosquitto.port)
    listener.until(ONLINE, "0")
    off.stop()
    listener.close()
    assert set(kept_at(mosquitto.port)) == {ONLINE, f"goodwe/{OTHER}/online"}


def test_without_a_state_file_nothing_is_remembered(run, mosquitto, tmp_path):
    on = run(mosquitto.port, retain=True)
    with pytest.raises(KeyError):
        feature(on, "retained")
