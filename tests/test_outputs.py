"""One output's trouble is its own; the JSON is the predecessor's."""

import json
import math
import os
import re
import select
import sys
import time
from datetime import datetime
from random import Random
from types import SimpleNamespace

import pytest

from goodwe import app, config, outputs
from goodwe.errors import StartError
from goodwe.events import Offline, Reading, Resting
from goodwe.loop import Loop
from goodwe.outputs import Context, Fanout, Output, make_outputs
from goodwe.outputs.mqtt.payload import data_json, iso_time, milliseconds
from goodwe.protocol import fields, texts

from . import fakes
from .captures import GOLDEN_JSON, data

EVENT = Offline("15000DTU166W0157", 11, "no answer")


class Recorder(Output):
    """An output that keeps what it is told."""

    def __init__(self) -> None:
        self.events = []
        self.said_goodbye = False
        self.was_closed = False

    def handle(self, event):
        self.events.append(event)

    def stop(self, now):
        self.said_goodbye = True

    @property
    def stopped(self):
        return self.said_goodbye

    def close(self):
        self.was_closed = True


ENTRIES = ["handle", "stop", "stopped", "status", "dropped"]
PART_ENTRIES = ["closed", "deadline", "poll_for", "ready", "tick", "step"]


class Part:
    """A part that is always readable, and due whenever the loop turns."""

    def __init__(self):
        self.descriptor = os.eventfd(1)
        self.calls = []

    closed = False
    deadline = 0.0

    def poll_for(self):
        return self.descriptor, select.POLLIN

    def ready(self, now):
        self.calls.append("ready")

    def tick(self, now):
        self.calls.append("tick")


def fail(*_):
    raise ZeroDivisionError("a defect")


def broken(entry, kind):
    """An object whose `entry` raises."""
    attribute = property(fail) if entry in ("stopped", "dropped", "closed", "deadline") else fail
    return type(f"Broken{kind.__name__}", (kind,), {entry: attribute})()


class House:
    """A broken output beside a good one, on a real loop."""

    def __init__(self, bad):
        self.loop = Loop(time.monotonic)
        self.bad, self.good = bad, Recorder()
        self.fanout = Fanout(self.loop)
        self.fanout.add("bad", self._make)
        self.fanout.add("good", lambda host: self.good)

    def _make(self, host):
        self.host = host
        return self.bad

    def live(self):
        """Everything that happens to an output: events, turns, status, the end."""
        self.fanout.handle(EVENT)
        self.host.post(lambda: None)
        self.loop.turn()
        self.loop.post(lambda: None)
        self.loop.turn()
        self.fanout.handle(EVENT)
        states = self.fanout.status(0.0)
        assert "good" in states
        assert self.fanout.dropped is not None
        self.fanout.stop(0.0)
        assert self.fanout.stopped


def assert_one_was_dropped(house, caplog):
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "Output bad failed and is left out until the next start; all else goes on"
    assert record.exc_info[0] is ZeroDivisionError
    assert house.bad.was_closed
    assert house.good.events == [EVENT, EVENT]
    assert house.good.said_goodbye
    assert house.fanout.dropped == [{"part": "bad", "error": "ZeroDivisionError: a defect"}]
    assert len(house.loop._parts) == 0


@pytest.mark.parametrize("entry", ENTRIES)
def test_output_that_raises_is_told_in_full_closed_and_dropped(entry, caplog):
    house = House(broken(entry, Recorder))
    house.live()
    assert_one_was_dropped(house, caplog)
    if entry != "handle":
        assert house.bad.events == [EVENT, EVENT]


@pytest.mark.parametrize("entry", PART_ENTRIES)
def test_output_one_of_whose_parts_raises_is_dropped_with_all_of_them(entry, caplog):
    house = House(Recorder())
    other = Part()
    house.host.add(other)
    if entry == "step":
        house.host.post(fail)
    else:
        house.host.add(broken(entry, Part))
    house.live()
    assert_one_was_dropped(house, caplog)
    calls = list(other.calls)
    house.loop.post(lambda: None)
    house.loop.turn()
    assert other.calls == calls
    ran = []
    house.host.post(lambda: ran.append(1))
    house.loop.turn()
    assert ran == []


@pytest.mark.parametrize("wanted", [(-1, 1), ("x", 1), 7, (1,), (1, -1), (1, 1 << 20)])
def test_descriptor_that_poll_cannot_be_told_drops_the_output_alone(wanted, caplog):
    house = House(Recorder())
    part = Part()
    part.poll_for = lambda: wanted
    house.host.add(part)
    house.fanout.handle(EVENT)
    house.loop.post(lambda: None)
    house.loop.turn()
    assert house.bad.was_closed
    assert house.good.events == [EVENT]


def test_output_that_cannot_even_be_closed_is_dropped(caplog):
    bad = broken("handle", Recorder)
    bad.close = fail
    house = House(bad)
    house.fanout.handle(EVENT)
    assert house.good.events == [EVENT]
    assert caplog.messages[-1] == "Output bad could not be closed: a defect"


def test_program_without_any_output_left_ends_loudly():
    house = House(broken("handle", Recorder))
    house.good.handle = fail
    with pytest.raises(RuntimeError, match="no output is left"):
        house.fanout.handle(EVENT)


def test_last_output_that_fails_at_the_end_changes_nothing(caplog):
    house = House(broken("stop", Recorder))
    house.good.stop = fail
    house.fanout.stop(0.0)
    assert house.fanout.stopped
    assert len([record for record in caplog.records if record.exc_info]) == 2


def test_what_an_output_has_lost_is_told_with_its_name():
    class Lossy(Recorder):
        dropped = ({"part": "values", "error": "ValueError: x"},)

    fanout = fakes.fanout(Loop(time.monotonic), Lossy())
    assert fanout.dropped == [{"part": "Lossy values", "error": "ValueError: x"}]


def test_fanout_has_stopped_when_all_have():
    slow, quick = Recorder(), Recorder()
    fanout = fakes.fanout(Loop(time.monotonic), slow, quick)
    quick.said_goodbye = True
    assert not fanout.stopped
    fanout.stop(0.0)
    assert fanout.stopped


# the registry


class Toys:
    """A package folder with outputs of the test in it, and a configuration that switches them on."""

    def __init__(self, folder, monkeypatch, **modules):
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(outputs, "__path__", [*outputs.__path__, str(folder)])
        self._monkeypatch = monkeypatch
        self.config = SimpleNamespace(**{name: SimpleNamespace(enabled=True) for name in modules})

    def make(self):
        self.loop = Loop(time.monotonic)
        context = Context(self.loop, Random(1), time.time, None, self.config, 300.0)
        try:
            return make_outputs(self.config, context)
        finally:
            for name in vars(self.config):
                sys.modules.pop(f"goodwe.outputs.{name}", None)


TOY = """
from goodwe.outputs import Output

class Toy(Output):
    def __init__(self, context):
        self.told = context.config.told = []

    def handle(self, event):
        self.told.append(event)

def make(settings, context):
    return Toy(context)
"""


def test_new_output_is_one_file_and_gets_what_happens(tmp_path, monkeypatch):
    toys = Toys(tmp_path, monkeypatch, toy=TOY)
    fanout = toys.make()
    fanout.handle(EVENT)
    fanout.stop(0.0)
    assert toys.config.told == [EVENT]
    assert fanout.stopped


OUTSIDER = """
from dataclasses import dataclass
from goodwe.config import OutputSection, option
from goodwe.outputs import Output

@dataclass(frozen=True, kw_only=True)
class Settings(OutputSection):
    NAME = "paper"
    path: str = option("", str, "File to which each event is written.")

class Paper(Output):
    def __init__(self, settings, context):
        self.path = settings.path

    def handle(self, event):
        with open(self.path, "a") as file:
            print(event, file=file)

SECTIONS = (Settings,)
make = Paper
"""


@pytest.mark.parametrize("enabled", ["on", "off"])
def test_output_from_outside_brings_its_section_and_runs_in_the_program(tmp_path, monkeypatch, enabled):
    Toys(tmp_path, monkeypatch, paper=OUTSIDER)
    paper = tmp_path / "paper.txt"
    text = f"[paper]\npath = {paper}\nenabled = {enabled}\n[mqtt]\nenabled = off\n"
    settings, _ = config.parse(text, "test")
    fanout = app.outputs(settings, Loop(time.monotonic), Random(1), None)
    fanout.handle(EVENT)
    assert fanout.empty == (enabled == "off")
    assert paper.exists() == (enabled == "on")
    if enabled == "on":
        assert paper.read_text() == f"{EVENT}\n"
    sys.modules.pop("goodwe.outputs.paper")


def test_output_that_is_off_or_not_mentioned_is_not_even_imported(tmp_path, monkeypatch):
    toys = Toys(tmp_path, monkeypatch, toy=TOY, off="1 / 0", absent="1 / 0")
    toys.config.off.enabled = False
    del toys.config.absent
    assert toys.make().status(0.0) == {"toy": {}}


def test_library_that_is_missing_is_one_line_that_names_the_extra(tmp_path, monkeypatch, caplog):
    toys = Toys(tmp_path, monkeypatch, toy=TOY, net="import waitress_of_nobody.server\n")
    fanout = toys.make()
    (record,) = caplog.records
    why = "waitress_of_nobody is not installed; run pip install 'goodwe-usb-logger[net]'"
    assert (record.getMessage(), record.exc_info) == (f"Output net is left out: {why}", None)
    assert fanout.dropped == [{"part": "net", "error": why}]
    assert fanout.status(0.0) == {"toy": {}}


@pytest.mark.parametrize(
    "text",
    [
        "def make(settings, context): 1 / 0\n",
        "1 / 0\n",
        "import goodwe.no_such_module\n",
        "pass\n",
        "def make(settings, context):\n    context.loop.add(None)\n    1 / 0\n",
    ],
)
def test_output_that_cannot_begin_keeps_no_other_from_it(text, tmp_path, monkeypatch, caplog):
    toys = Toys(tmp_path, monkeypatch, bad=text, toy=TOY)
    fanout = toys.make()
    fanout.handle(EVENT)
    toys.loop.post(lambda: None)
    toys.loop.turn()
    assert toys.config.told == [EVENT]
    (record,) = caplog.records
    assert record.getMessage() == "Output bad is left out: it failed when it began"
    assert record.exc_info is not None
    assert [one["part"] for one in fanout.dropped] == ["bad"]


def test_output_that_says_why_it_cannot_start_ends_the_start(tmp_path, monkeypatch):
    text = "from goodwe.errors import StartError\ndef make(*_): raise StartError('no port')\n"
    with pytest.raises(StartError, match=r"^no port$"):
        Toys(tmp_path, monkeypatch, bad=text, toy=TOY).make()


def test_start_without_any_output_that_can_begin_is_refused(tmp_path, monkeypatch):
    with pytest.raises(StartError, match=r"no output can begin: ZeroDivisionError: division by zero"):
        Toys(tmp_path, monkeypatch, bad="1 / 0\n").make()


# the JSON


def reading(name: str, when: float = 0.0) -> Reading:
    payload = data(name)
    return Reading("1006KDTU13500023", 11, fields.phases(len(payload)), fields.decode_running(payload), when)


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_words_are_additional_and_change_no_line_of_the_others(language):
    plain = data_json(reading("usb-running-66")).splitlines()
    with_words = data_json(reading("usb-running-66"), language=language).splitlines()
    running = json.loads("\n".join(with_words))["runningInfo"]
    added = {key: running.pop(key) for key in ("workModeText", "errorText", "faultWords")}
    assert running == json.loads("\n".join(plain))["runningInfo"]
    assert added["workModeText"] == texts.work_mode(1, language)
    assert (added["errorText"], added["faultWords"]) == ([], [0] * 10)


def test_fault_words_are_what_the_inverter_sent():
    message = json.loads(data_json(reading("xs-running-60"), language="en"))
    words = message["runningInfo"]["faultWords"]
    assert [words[0], words[2], words[3], words[6]] == [0x141F, 0x0195, 0x0140, 0x0EDD]  # PROTOCOL 5.3


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_every_code_has_a_text_of_its_own_in_every_language(language):
    errors = [texts.error(bit, language) for bit in fields.ERROR_BITS]
    modes = [texts.work_mode(number, language) for number in fields.WORK_MODES]
    assert all(errors + modes)
    assert len(set(errors)) == len(errors)
    assert len(set(modes)) == len(modes)


def test_code_that_nobody_knows_keeps_its_number():
    assert texts.work_mode(7, "de") == "7"
    assert texts.error(26, "pt") == "bit 26"


def test_json_of_the_recorded_reading_is_byte_for_byte_the_predecessors():
    golden = json.loads(GOLDEN_JSON)
    moment = time.strptime(golden["runningInfo"]["timestamp"], "%Y%m%d%H%M%S")
    assert data_json(reading("usb-running-66", golden["lastSeen"] / 1000), lambda when: moment) == GOLDEN_JSON


def test_what_is_added_collides_with_no_key_of_the_predecessor():
    plain = json.loads(data_json(reading("usb-running-66", 1.7e9), time.gmtime))
    message = shown(reading("usb-running-66", 1.7e9))
    assert message.keys() - plain.keys() == {"time"}
    assert {key: message[key] for key in plain.keys() - {"runningInfo"}} == {
        key: plain[key] for key in plain.keys() - {"runningInfo"}
    }


@pytest.mark.parametrize("name", ["usb-running-66", "xs-running-60", "rs485-running-130"])
def test_json_has_every_key_and_type_for_every_kind_of_inverter(name):
    golden = json.loads(GOLDEN_JSON)
    message = json.loads(data_json(reading(name, 1_700_000_000.0)))
    for expected, got in ((golden, message), (golden["runningInfo"], message["runningInfo"])):
        assert {key: type(value) for key, value in got.items()} == {k: type(v) for k, v in expected.items()}


def resting(when: float, said: float) -> Resting:
    serial, address, phases, values, *_ = reading("usb-running-66")
    return Resting(serial, address, phases, values, when, said)


def shown(said: Reading | Resting, localtime=time.gmtime) -> dict:
    return json.loads(data_json(said, localtime, language="en"))


def test_time_is_the_moment_that_the_message_speaks_of():
    message = shown(reading("usb-running-66", 1_700_000_000.9))
    assert message["time"] == "2023-11-14T22:13:20.900+00:00"
    away = shown(resting(1_700_000_000.9, 1_700_000_300.25))
    assert away["time"] == "2023-11-14T22:18:20.250+00:00"
    assert (away["lastSeen"], away["runningInfo"]["timestamp"]) == (1_700_000_000_900, "20231114221320")


def test_cable_pulled_in_the_millisecond_of_a_reading_does_not_take_its_place():
    assert shown(resting(1_700_000_000.9001, 1_700_000_000.9003))["time"] == "2023-11-14T22:13:20.901+00:00"


def test_time_and_last_seen_are_one_moment_to_the_millisecond():
    for when in (1_700_000_000.0006, 1_700_000_000.9999, 1_764_106_813.123, 0.0):
        message = shown(reading("usb-running-66", when))
        assert datetime.fromisoformat(message["time"]).timestamp() * 1000 == message["lastSeen"]


@pytest.mark.parametrize(
    ("place", "when", "expected"),
    [
        ("Europe/Amsterdam", 1_761_438_599.5, "2025-10-26T02:29:59.500+02:00"),
        ("Europe/Amsterdam", 1_761_442_199.5, "2025-10-26T02:29:59.500+01:00"),  # an hour later
        ("America/St_Johns", 1_764_106_813.123, "2025-11-25T18:10:13.123-03:30"),
        ("Asia/Kathmandu", 1_764_106_813.123, "2025-11-26T03:25:13.123+05:45"),
        ("Africa/Monrovia", 86_400.0, "1970-01-02T00:00:00.000+00:00"),  # it was -00:44:30 then
    ],
)
def test_time_has_the_zone_of_the_house_also_after_a_change(place, when, expected, zone):
    zone("Pacific/Auckland")
    zone(place)
    assert shown(reading("usb-running-66", when), time.localtime)["time"] == expected


def no_time_after_2038(when):
    if not -(2**31) <= when < 2**31:
        raise OverflowError("timestamp out of range for platform time_t")
    return time.gmtime(when)


@pytest.mark.parametrize("localtime", [time.localtime, time.gmtime, no_time_after_2038])
@pytest.mark.parametrize(
    "when",
    [-0.5, -1e9, -1e12, -1e300, 2.0**31 - 1, 2.0**31, 2.0**32, 2.0**62, 1e300, math.inf, -math.inf, math.nan],
)
def test_absurd_clock_ends_nothing(when, localtime):
    for said in (reading("usb-running-66", when), resting(when, when), resting(1.7e9, when)):
        message = shown(said, localtime)
        assert datetime.fromisoformat(message["time"]).utcoffset() is not None
        assert re.fullmatch(r"\d{14}", message["runningInfo"]["timestamp"])


def test_time_that_is_none_is_1970():
    assert milliseconds(math.nan) == 0


def test_time_beyond_what_the_system_knows_is_that_of_greenwich():
    assert iso_time(milliseconds(2.0**31), no_time_after_2038) == "2038-01-19T03:14:08.000+00:00"
    message = shown(reading("usb-running-66", 2.0**31), no_time_after_2038)
    assert message["runningInfo"]["timestamp"] == "20380119031408"


def test_timestamp_is_the_time_of_the_house():
    message = json.loads(data_json(reading("usb-running-66", 1_700_000_000.9), time.gmtime))
    assert message["runningInfo"]["timestamp"] == "20231114221320"
    assert message["lastSeen"] == 1_700_000_000_900


# a reload makes an output anew when something changed of what it is made of


class Noting:
    """A section that notes which of its options are looked at."""

    def __init__(self, name, section, noted):
        self._name, self._section, self._noted = name, section, noted

    def __getattr__(self, key):
        self._noted.add(f"{self._name}.{key}")
        return getattr(self._section, key)


@pytest.mark.parametrize("name", outputs.names())
def test_output_says_all_of_the_configuration_that_it_is_made_of(name, tmp_path):
    settings = config.parse(
        f"[inverter]\nstatefile = {tmp_path}/s.json\n[mqtt]\nvalues = on\nsum = on\ncommands = on\nretain = on\n"
        f"backlog = {tmp_path}/backlog\n[homeassistant]\ndiscovery = on\n[history]\nfile = {tmp_path}/h.db\n"
        "[web]\nlisten = 127.0.0.1:8765\nmetrics = on\n",
        "t.conf",
    )[0]
    noted = set()
    seen = {each: Noting(each, section, noted) for each, section in settings.sections.items()}
    loop = Loop(time.monotonic)
    actions = SimpleNamespace(status=lambda now: {})
    context = Context(loop, Random(1), lambda: 0.0, actions, config.Config(seen), 60.0)
    made = outputs.load(name).make(settings.sections[name], context)
    made.stop(0.0)
    made.close()
    loop.close()
    said = outputs.reads(name)
    assert {what for what in noted if what not in said and what.partition(".")[0] not in said} == set()
    foreign = [what for what in said if "." in what]
    assert set(foreign) <= noted, "nothing is made anew for what it does not look at"


def test_mqtt_is_made_anew_with_another_history_where_that_has_alarms():
    def context(text):
        return Context(None, Random(1), lambda: 0.0, None, config.parse(text, "t.conf")[0], 60.0)

    before, after = ("[history]\nfile = /tmp/a.db\n[mqtt]\n", "[history]\nfile = /tmp/b.db\n[mqtt]\n")
    assert not outputs.differs("mqtt", context(before), context(after))
    assert outputs.differs("mqtt", context(f"{before}alarms = on\n"), context(f"{after}alarms = on\n"))
    assert not outputs.differs("mqtt", context(f"{before}alarms = on\n"), context(f"{before}alarms = on\n"))
