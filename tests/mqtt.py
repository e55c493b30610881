"""Shared by the tests of MQTT: an output on a loop of its own, and readings for it."""

import threading
import time
from dataclasses import replace
from random import Random
from typing import Any

from goodwe.config import Config, parse
from goodwe.events import Happening, Reading
from goodwe.loop import Loop
from goodwe.outputs import Context
from goodwe.outputs.mqtt import make
from goodwe.outputs.mqtt.settings import MqttSettings
from goodwe.protocol import fields

from .broker import PATIENCE, wait_for
from .captures import data

SERIAL = "1006KDTU13500023"
OTHER = "53600DSN201W0051"
DATA, ONLINE = f"goodwe/{SERIAL}/data", f"goodwe/{SERIAL}/online"
VALUES = fields.decode_running(data("usb-running-66"))


def settings(port: int, **changes: Any) -> MqttSettings:
    return replace(parse("", "test")[0].mqtt, **{"server": ("127.0.0.1",), "port": port, **changes})


def reading(when: float = 1_700_000_000.0, serial: str = SERIAL, **values: Any) -> Reading:
    return Reading(serial, 11, 3, {**VALUES, **values}, when)


def config(
    mqtt: MqttSettings,
    *,
    discovery: bool = False,
    statefile: str = "",
    prefix: str = "homeassistant",
    history: str = "",
) -> Config:
    """Of a program with these settings of MQTT."""
    switch = "on" if discovery else "off"
    text = f"[inverter]\nstatefile = {statefile}\n"
    text += f"[homeassistant]\ndiscovery = {switch}\nprefix = {prefix}\n"
    text += f"[history]\nfile = {history}\n" if history else ""
    return parse(text, "test")[0].having(mqtt)


class Running:
    """An output on a loop of its own thread, as the program has it."""

    def __init__(
        self,
        mqtt: MqttSettings,
        *,
        discovery: bool = False,
        actions: Any = None,
        statefile: str = "",
        prefix: str = "homeassistant",
        history: str = "",
    ) -> None:
        """`actions` are what commands can do."""
        self.loop = Loop(time.monotonic)
        settings = config(mqtt, discovery=discovery, statefile=statefile, prefix=prefix, history=history)
        context = Context(self.loop, Random(1), time.time, actions, settings, 300.0)
        self.output = make(mqtt, context)
        self._stop = False
        self._thread = threading.Thread(target=lambda: self.loop.run(until=lambda: self._stop), daemon=True)
        self._thread.start()

    def tell(self, *events: Happening) -> float:
        """Hand the events over in the loop's thread; how long that took, in seconds."""
        done = threading.Event()
        took = []

        def step() -> None:
            began = time.monotonic()
            for event in events:
                self.output.handle(event)
            took.append(time.monotonic() - began)
            done.set()

        self.loop.post(step)
        assert done.wait(PATIENCE)
        return took[0]

    def stop(self) -> None:
        self.loop.post(lambda: self.output.stop(self.loop.clock()))
        wait_for(lambda: self.output.stopped, "the output stops")

    def end(self) -> None:
        """Give everything back: paho cannot select() a descriptor beyond 1023, and the tests are thousands."""

        def finish() -> None:
            self._stop = True
            self.output.close()

        self.loop.post(finish)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self.loop.close()


def serving(running: Running, serial: str = SERIAL) -> None:
    """Let the inverter have its connection, and wait until that has its will."""

    def connect() -> None:
        running.output.known(serial)

    running.loop.post(connect)
    wait_for(lambda: running.output.pool.of(serial) is not None, "connected with the will")


def feature(running: Running, name: str) -> Any:
    """A feature of the output, by its module."""
    return running.output._features._kept[name][1]
