"""A real mosquitto on a free port, and real subscribers; started and ended by the tests."""

import contextlib
import platform
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goodwe.outputs.mqtt.client import paho_client
from goodwe.tools import embedded_broker

PATIENCE = 15.0

needs_amqtt = pytest.mark.skipif(
    sys.maxsize < 2**32 or platform.machine() not in ("x86_64", "aarch64", "arm64"),
    reason="setup.py leaves amqtt out here: what it needs would have to be compiled",
)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Poll until the condition holds; for other processes, which give nothing to wait on."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return result


def let_pass(seconds: float) -> None:
    """Let other processes, and sockets, go on for so long."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end, "time passes", seconds + 1)


LOWEST_PORT = 10_000
OUTGOING_PORTS = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
"""The first of those that the kernel gives to outgoing connections, which come and go in every test beside."""


def free_port() -> int:
    """A port that nobody has, and that no connection takes before the one who asked for it listens there."""
    while True:
        port = random.randrange(LOWEST_PORT, max(OUTGOING_PORTS, 2 * LOWEST_PORT))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    """The broker of Debian's package mosquitto."""

    def __init__(self, folder: Path, *, lines: str = "allow_anonymous true\n", port: int = 0) -> None:
        found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert found, "the tests need a broker: apt-get install mosquitto"
        self._command = found
        self._folder = folder
        self.port = port or free_port()
        self._settings = folder / f"mosquitto-{self.port}.conf"
        self._settings.write_text(f"user root\nlistener {self.port} 127.0.0.1\n{lines}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Mosquitto":
        log = (self._folder / f"mosquitto-{self.port}.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._command, "-v", "-c", str(self._settings)], stdout=log, stderr=log
            )
        try:
            wait_for(lambda: listens(self.port), "mosquitto listens")
        except BaseException:  # no fixture has it yet that would end it
            self.stop()
            raise
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        return (self._folder / f"mosquitto-{self.port}.log").read_text()


class Amqtt:
    """The broker of the demo extra, as a process."""

    def __init__(self) -> None:
        self.port = free_port()

    def start(self) -> "Amqtt":
        self._process = subprocess.Popen(
            [sys.executable, embedded_broker.__file__, str(self.port)], stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: listens(self.port), "amqtt listens")
        except BaseException:  # no fixture has it yet that would end it
            self.stop()
            raise
        return self

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


class Subscriber:
    """Everything below a topic, in the order in which it came: (topic, payload, retained)."""

    def __init__(self, port: int, topic: str = "#", *, host: str = "127.0.0.1", **login: str) -> None:
        self._queue: queue.Queue[tuple[str, str, bool]] = queue.Queue()
        self.seen: list[tuple[str, str, bool]] = []
        self._client = paho_client(f"subscriber-{time.monotonic_ns()}")
        if login:
            self._client.username_pw_set(login["username"], login["password"])
        ready: queue.Queue[bool] = queue.Queue()
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: ready.put(True)
        self._client.on_message = lambda client, _, message: self._queue.put(
            (message.topic, message.payload.decode(errors="replace"), bool(message.retain))
        )
        self._client.connect(host, port)
        self._client.loop_start()
        ready.get(timeout=PATIENCE)

    def next(self, seconds: float = PATIENCE) -> tuple[str, str, bool]:
        message = self._queue.get(timeout=seconds)
        self.seen.append(message)
        return message

    def until(
        self, topic: str, payload: str | None = None, seconds: float = PATIENCE
    ) -> tuple[str, str, bool]:
        """The next message with this topic (and payload); those before it are in `seen`."""
        end = time.monotonic() + seconds
        while True:
            message = self.next(max(0.0, end - time.monotonic()))
            if message[0] == topic and payload in (None, message[1]):
                return message

    def until_all(self, expected: set[tuple[str, str]]) -> None:
        """Until each of these (topic, payload) has come, in whatever order."""
        missing = set(expected)
        while missing:
            missing.discard(self.next()[:2])

    def rest(self) -> Iterator[tuple[str, str, bool]]:
        """All that has come by now and was not taken."""
        while not self._queue.empty():
            yield self.next(0.0)

    def nothing(self, seconds: float) -> None:
        """Nothing comes for so long."""
        with contextlib.suppress(queue.Empty):
            raise AssertionError(f"unexpected {self._queue.get(timeout=seconds)}")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
