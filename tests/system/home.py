"""The host's side of the scenario home_assistant: what a real Home Assistant at the guest's broker shows."""

import threading
import time
from typing import Any

import paho.mqtt.client as mqtt

from ..broker import free_port
from ..neighbours.home import Home, root
from .kit import ASKED, GONE, LIVE, SEEN

LOOKS_FOR = 300.0
LOOK_EVERY = 1.0
"""Seconds; each look costs the machine that emulates the guest something."""


class Witness:
    """Answers the guest by what Home Assistant shows on its pages."""

    def __init__(self) -> None:
        root()  # it may have to be built, and the guest would wait for it in vain
        self.port = free_port()
        """Where the guest's broker is reached."""
        self._ended = threading.Event()
        self._questions: list[str] = []
        self._asked = threading.Condition()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(ASKED)
        self._client.on_message = self._hear
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._home: Home | None = None

    def start(self) -> None:
        """Look from now on; the guest is up."""
        self._client.reconnect_delay_set(1, 5)
        self._client.connect_async("127.0.0.1", self.port)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Nobody asks any more."""
        with self._asked:
            self._ended.set()
            self._asked.notify()
        if self._thread.ident is not None:
            self._thread.join(LOOKS_FOR)
        self._client.disconnect()
        self._client.loop_stop()
        if self._home is not None:
            self._home.stop()

    def _hear(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        with self._asked:
            self._questions.append(message.payload.decode())
            self._asked.notify()

    def _run(self) -> None:
        while True:
            with self._asked:
                self._asked.wait_for(lambda: self._questions or self._ended.is_set())
                if self._ended.is_set():
                    return
                question = self._questions.pop(0)
            try:
                self._look_for(question.split()[0])
            except Exception as error:  # whatever it is, the guest must not wait, and its report has it
                answer = f"{question}: {type(error).__name__}: {'; '.join(str(error).splitlines())}"
            else:
                answer = question
            # Kept: the guest may ask before it listens.
            self._client.publish(SEEN, answer, qos=1, retain=True)

    def _look_for(self, wanted: str) -> None:
        if self._home is None:
            self._home = Home("127.0.0.1", self.port, protocol="5")
            self._home.start()
        end = time.monotonic() + LOOKS_FOR
        while (shown := self._shows()) != wanted:
            if time.monotonic() > end:
                raise AssertionError(f"it shows {shown or 'neither'} after {LOOKS_FOR:.0f} s")
            if self._ended.wait(LOOK_EVERY):
                return

    def _shows(self) -> str:
        assert self._home is not None
        try:
            states = {key: state["state"] for key, state in self._home.states().items()}
        except OSError:  # it is busy
            return ""
        if not any(key.endswith("_connection") and state == "on" for key, state in states.items()):
            return GONE
        power = next((state for key, state in states.items() if key.endswith("_feeding_power")), "")
        return LIVE if power.replace(".", "", 1).isdigit() and float(power) > 0 else ""
