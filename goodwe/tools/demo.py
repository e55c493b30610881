"""`demo`: a simulated inverter, a broker, the real program between them, and what a subscriber sees.

Everything lives in a temporary directory and on the loopback address, and ends with the demo.
"""

import argparse
import contextlib
import importlib.util
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import simplejson

from .. import program
from ..errors import GoodWeError
from ..outputs.mqtt.client import paho_client
from ..protocol.simulator import Day
from .simulate import above_zero, time_of_day

PATIENCE = 20.0
"""Seconds in which broker and simulator must be there."""
END_WITHIN = 5.0
MOSQUITTO = (
    "/usr/sbin/mosquitto",
    "/usr/bin/mosquitto",
    "/usr/local/sbin/mosquitto",
    "/opt/homebrew/sbin/mosquitto",
)


class DemoError(GoodWeError):
    """The demo cannot go on; the text says what to do."""


class Child:
    """One of the demo's processes, with its output in a file."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        """Run `command` in `folder`, with its output in a file there that is called like `name`."""
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        """Raises DemoError with its last words if it has ended."""
        code = self._process.poll()
        if code is not None:
            words = self._log.read_text(errors="replace").splitlines()[-5:]
            raise DemoError("\n  ".join([f"the {self.name} ended with exit code {code}:", *words]))

    def end(self) -> None:
        """Ask it to end, wait, kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(arguments: list[str]) -> int:
    """Run until Ctrl-C, SIGTERM or --seconds are over. Raises DemoError."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="goodwe-demo-") as folder, contextlib.ExitStack() as children:
        try:
            _show(options, Path(folder), children)
        except KeyboardInterrupt:
            print("\nThe demo ends.")
    return 0


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(prog=f"{program.name()} demo", description=__doc__)
    made.add_argument("--phases", type=int, choices=(1, 3), default=1, help="of the inverter")
    made.add_argument("--speed", type=above_zero, default=60.0, help="simulated seconds in a second")
    made.add_argument(
        "--start", type=_checked_time, default="10:00", metavar="HH:MM", help="simulated time of day"
    )
    made.add_argument("--seconds", type=float, default=float("inf"), help="end by itself after so long")
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def _checked_time(raw: str) -> str:
    """HH:MM as it stands, for the simulator."""
    time_of_day(raw)
    return raw


def _show(options: argparse.Namespace, folder: Path, children: contextlib.ExitStack) -> None:
    end = time.monotonic() + options.seconds

    def start(name: str, command: list[str]) -> Child:
        child = Child(name, command, folder)
        children.callback(child.end)
        return child

    port = _free_port()
    program = [sys.executable, str(_entry())]
    kind, command = _broker(port, folder)
    broker = start("broker", command)
    _wait(lambda: _listens(port), broker)
    roof = folder / "inverter.sock"
    simulate = ["simulate", "--listen", f"unix:{roof}", "--phases", str(options.phases)]
    simulate += ["--speed", str(options.speed), "--start", options.start]
    simulator = start("simulator", [*program, *simulate])
    _wait(roof.exists, simulator)
    settings = folder / "goodwe.conf"
    settings.write_text(
        f"[inverter]\ndevice = unix:{roof}\npollinterval = 1000\nstatefile = {folder / 'state.json'}\n"
        f"[mqtt]\nserver = 127.0.0.1\nport = {port}\n"
    )
    print(f"Broker:    {kind} on 127.0.0.1:{port}")
    print(
        f"Inverter:  simulated, {options.phases}-phase, from {options.start}, {options.speed:g} times as fast"
    )
    print("Program:   GoodWe.py foreground, as on a real machine")
    if not Day(options.phases).is_light(time_of_day(options.start)):
        print("It is night there: values come after sunrise, or with another --start.")
    print("What a subscriber of goodwe/# sees; Ctrl-C ends it:", flush=True)
    files = ["--config", str(settings), "--pidfile", str(folder / "pid")]
    logger = start("program", [*program, *files, "foreground"])
    _print_messages(port, [broker, simulator, logger], end)


def _print_messages(port: int, watched: list[Child], end: float) -> None:
    client = paho_client("goodwe-demo")
    client.on_connect = lambda client, *_: client.subscribe("goodwe/#")
    client.on_message = lambda client, _, message: print(line(message), flush=True)
    client.connect("127.0.0.1", port)
    while time.monotonic() < end:
        if client.loop(timeout=0.2):
            raise DemoError("the connection to the broker was lost")
        for child in watched:
            child.check()


def line(message: Any) -> str:
    """One MQTT message as a line; of `data` the values that everybody asks for."""
    text = message.payload.decode(errors="replace")
    if message.topic.endswith("/data"):
        values = simplejson.loads(text)["runningInfo"]
        text = "{pac} W, {vac1} V, {fac1} Hz, {temp} °C, today {eDay} kWh, total {eTotal} kWh".format(
            **values
        )
    return f"{time.strftime('%H:%M:%S')}  {message.topic}  {text}"


def _broker(port: int, folder: Path) -> tuple[str, list[str]]:
    """Its name and command: mosquitto if the machine has it, else the one of the demo extra."""
    for path in MOSQUITTO:
        if Path(path).exists():
            settings = folder / "mosquitto.conf"
            settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
            return "mosquitto", [path, "-c", str(settings)]
    if importlib.util.find_spec("amqtt") is None:
        raise DemoError(
            "there is no broker; install one: sudo apt-get install mosquitto, or, on a 64-bit PC or ARM: "
            ".venv/bin/pip install -e '.[demo]'"
        )
    return "amqtt", [sys.executable, str(Path(__file__).with_name("embedded_broker.py")), str(port)]


def _entry() -> Path:
    """GoodWe.py: beside the package in a checkout and in an installation alike."""
    return Path(__file__).resolve().parents[2] / "GoodWe.py"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(is_there: Callable[[], bool], child: Child) -> None:
    end = time.monotonic() + PATIENCE
    while not is_there():
        child.check()
        if time.monotonic() > end:
            raise DemoError(f"the {child.name} is not there after {PATIENCE:.0f} s")
        time.sleep(0.05)  # a process that is starting gives nothing to wait for
