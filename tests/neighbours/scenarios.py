"""Scenarios beside each neighbour. A scenario returns its figures; a failed assertion is its failure."""

import json
import queue
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ..broker import Amqtt, Mosquitto, Subscriber, wait_for
from .home import Home, seconds_until
from .house import SERIAL, House
from .rabbit import Cluster

Figures = dict[str, float]
Server = Callable[[], AbstractContextManager[tuple[str, int]]]
"""Starts a broker and ends it: host and port."""

ENTITIES = {
    "binary_sensor": {"connection": "", "problem": ""},
    "sensor": {
        "energy_since_installation": "kWh", "energy_today": "kWh", "faults": "", "feeding_power": "W",
        "hours_of_feeding_since_installation": "h", "inverter_temperature": "°C",
        "phase_l1_current": "A", "phase_l1_frequency": "Hz", "phase_l1_voltage": "V",
        "pv_string_1_current": "A", "pv_string_1_voltage": "V",
        "pv_string_2_current": "A", "pv_string_2_voltage": "V", "work_mode": "",
    },
    "number": {"power_limit": "%"},
    "button": {"start": "", "stop": ""},
}  # fmt: skip
"""All that a person sees of a single-phase inverter with control: domain, entity, unit."""
UNAVAILABLE = "unavailable"
COMMANDS = "commands = on\ncontrol = on\n"
EXPIRES = 400.0
"""Seconds after which the values of a dead program are unavailable (`exp_aft`)."""


@contextmanager
def mosquitto() -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder)).start()
        try:
            yield "127.0.0.1", broker.port
        finally:
            broker.stop()


@contextmanager
def amqtt() -> Iterator[tuple[str, int]]:
    broker = Amqtt().start()
    try:
        yield "127.0.0.1", broker.port
    finally:
        broker.stop()


@contextmanager
def rabbitmq() -> Iterator[tuple[str, int]]:
    cluster = Cluster(1)
    try:
        yield cluster.start().servers, cluster.port
    finally:
        cluster.stop()


@contextmanager
def homes(broker: Server, protocol: str, mqtt: str = COMMANDS) -> Iterator[tuple[House, Home]]:
    """Inverter, program, broker and Home Assistant, all running."""
    with broker() as (host, port):
        house = House(host, port, mqtt=mqtt)
        home = Home(host, port, protocol=protocol)
        try:
            house.plug("--start", "12:00")
            house.start()
            home.start()
            yield house, home
        except BaseException:
            print(f"the program's log:\n{house.log}\nHome Assistant's:\n{home.log[-5000:]}", flush=True)
            raise
        finally:
            home.stop()
            house.stop()


def picture(home: Home) -> dict[str, str]:
    """Entity to unit, as Home Assistant has them."""
    prefix = f"goodwe_{SERIAL.lower()}_"
    return {
        entity.replace(prefix, ""): str(state["attributes"].get("unit_of_measurement", ""))
        for entity, state in home.states().items()
    }


def expected_picture() -> dict[str, str]:
    return {f"{domain}.{name}": unit for domain, names in ENTITIES.items() for name, unit in names.items()}


def shows_the_day(home: Home) -> bool:
    """Feeding, connected, nothing unavailable; buttons and the limit have no state before they are used."""
    states = {entity: state["state"] for entity, state in home.states().items()}
    values = [
        state for entity, state in states.items() if entity.partition(".")[0] in ("sensor", "binary_sensor")
    ]
    complete = len(states) == len(expected_picture()) and not {UNAVAILABLE, "unknown"} & set(values)
    return complete and float(home.state("_feeding_power")) > 0 and home.state("_connection") == "on"


def everything_is_shown(broker: Server, protocol: str) -> Figures:
    """Every entity with its unit; unplugged, replugged; restarts of Home Assistant by day and by night."""
    figures = {}
    with homes(broker, protocol) as (house, home):
        figures["all there"] = seconds_until(lambda: shows_the_day(home), "every entity has a value", 60.0)
        assert picture(home) == expected_picture(), picture(home)
        total = home.state("_energy_since_installation")
        house.unplug()
        figures["unplugged, off"] = seconds_until(
            lambda: home.state("_connection") == "off", "connectivity is off"
        )
        figures["power 0"] = seconds_until(lambda: float(home.state("_feeding_power")) == 0, "power is 0")
        assert home.state("_energy_since_installation") == total, "the totals stand"
        home.restart()
        figures["restarted by night"] = seconds_until(
            lambda: home.state("_feeding_power") == "0" and home.state("_connection") == "off",
            "the night is back",
        )
        assert home.state("_energy_since_installation") == total, "available, without an inverter"
        house.plug("--start", "12:05")
        figures["plugged in, on"] = seconds_until(lambda: shows_the_day(home), "the day is back", 60.0)
        home.restart()
        figures["restarted by day"] = seconds_until(lambda: shows_the_day(home), "the day is back", 60.0)
        limited(house, home)
        assert home.troubles == [], home.troubles
        assert "WARNING" not in house.log, house.log
    assert figures["unplugged, off"] < 1.0
    assert figures["power 0"] < 1.0
    return figures


def limited(house: House, home: Home) -> None:
    """The power limit as a person sets it: accepted, shown, obeyed."""
    prefix = f"goodwe_{SERIAL.lower()}_"
    assert home.state("_power_limit") == "unknown", "nobody knows it before"
    home.call("number", "set_value", entity_id=f"number.{prefix}power_limit", value=10)
    wait_for(lambda: home.state("_power_limit") in ("10", "10.0"), "the limit is shown", 15.0)
    wait_for(lambda: 0 < float(home.state("_feeding_power")) <= 500, "it is obeyed", 15.0)
    time.sleep(2.1)  # a real program: one instruction every two seconds
    home.call("button", "press", entity_id=f"button.{prefix}stop")
    wait_for(lambda: float(home.state("_feeding_power")) == 0, "it stops", 15.0)
    time.sleep(2.1)
    home.call("button", "press", entity_id=f"button.{prefix}start")
    wait_for(lambda: float(home.state("_feeding_power")) > 0, "it starts", 15.0)


def s10_home_assistant_and_mosquitto() -> Figures:
    return everything_is_shown(mosquitto, "5")


def s11_home_assistant_and_amqtt() -> Figures:
    return everything_is_shown(amqtt, "3.1.1")


def s12_home_assistant_and_rabbitmq() -> Figures:
    return everything_is_shown(rabbitmq, "3.1.1")


def s13_alarms() -> Figures:
    """Alarms out of a history of three years: known, shown as they are, and taken back when they are off."""
    figures = {}
    with mosquitto() as (host, port):
        house = House(host, port, mqtt="alarms = on\n", history=True)
        home = Home(host, port, protocol="5")
        try:
            house.plug("--start", "12:00")
            house.make_up_years()
            house.start()
            home.start()
            figures["a fault's times"] = seconds_until(
                lambda: "T" in home.state("_last_fault_ended"), "both times are known", 180.0
            )
            began, ended = home.state("_last_fault_began"), home.state("_last_fault_ended")
            assert began < ended, (began, ended)
            (low,) = [state for name, state in home.states().items() if name.endswith("_production_too_low")]
            assert low["state"] in ("off", "unknown"), (
                low
            )  # it depends on the hour whether it can be told yet
            assert low["attributes"]["device_class"] == "problem", low
            assert "faults" in low["attributes"], low
            assert home.troubles == [], home.troubles
        finally:
            home.stop()
            house.stop()
    return figures


def s20_program_that_was_killed() -> Figures:
    """kill -9: the connection is off at once, the values are unavailable when they are too old."""
    figures = {}
    with homes(mosquitto, "5") as (house, home):
        wait_for(lambda: shows_the_day(home), "every entity has a value", 60.0)
        house.kill()
        figures["connection off"] = seconds_until(
            lambda: home.state("_connection") == "off", "off by the will"
        )
        figures["values unavailable"] = seconds_until(
            lambda: home.state("_feeding_power") == UNAVAILABLE, "they expire", EXPIRES + 30.0
        )
        assert home.state("_energy_today") == UNAVAILABLE
        house.start()
        figures["started again"] = seconds_until(lambda: shows_the_day(home), "all is back", 60.0)
        assert home.troubles == [], home.troubles
    assert figures["values unavailable"] > EXPIRES - 30.0
    return figures


def s30_rabbitmq_node_that_is_killed() -> Figures:
    """Three nodes, all in `server`: one dies without a word, the readings go through another."""
    figures = {}
    cluster = Cluster(3)
    house = House(cluster.servers, cluster.port, inverter="pollinterval = 500\n")
    try:
        cluster.start()
        house.plug("--start", "12:00")
        house.start()
        online, data = f"goodwe/{SERIAL}/online", f"goodwe/{SERIAL}/data"
        survivor = Subscriber(cluster.port, host=cluster.nodes[2].host)
        survivor.until(data, seconds=60)
        survivor.until(online, "1")
        cluster.nodes[0].kill()
        killed = time.time()
        while json.loads(survivor.until(data, seconds=60)[1])["lastSeen"] < killed * 1000:
            pass
        figures["readings again"] = time.time() - killed
        survivor.until(online, "1")
        # What is kept stands on the node it was published to, and is given to who asks by the exact topic.
        for topic, expected in ((online, "1"), (f"homeassistant/device/goodwe_{SERIAL}/config", None)):
            kept = [_kept(node.host, cluster.port, topic) for node in cluster.nodes[1:]]
            assert any(text == expected if expected else text for text in kept), f"{topic}: {kept}"
        survivor.close()
    except BaseException:
        print(f"the program's log:\n{house.log}\nthe nodes':\n{cluster.log}", flush=True)
        raise
    finally:
        house.stop()
        cluster.stop()
    assert figures["readings again"] < 10.0
    return figures


def _kept(host: str, port: int, topic: str) -> str:
    """The message that a node gives to a late subscriber; empty for none."""
    late = Subscriber(port, topic, host=host)
    try:
        return late.next(3.0)[1]
    except queue.Empty:
        return ""
    finally:
        late.close()


SCENARIOS = {
    name: function for name, function in globals().items() if name[:1] == "s" and name[1:3].isdigit()
}
