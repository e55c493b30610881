"""`demo`: a simulated inverter, a broker, the real program between them, and what a subscriber sees.

With --web a page, too, with a made-up history and the day that goes on. Everything lives in a temporary
directory and on the loopback address, and ends with the demo.
"""

import argparse
import contextlib
import datetime
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import simplejson

from .. import program
from ..config.parsers import LONGEST_SOCKET
from ..errors import GoodWeError
from ..outputs.mqtt.client import paho_client
from ..protocol.simulator import Day
from .simulate import SERIALS, above_zero, time_of_day

PATIENCE = 20.0
"""Seconds in which broker and simulator must be there."""
END_WITHIN = 5.0
PAGE_PORT = 8765
"""The one that the page has on a real machine; where it is taken, another is chosen."""
MIDSUMMER = 6, 21
"""Month and day that the page's day is of: long, and with a year before it."""
FASTEST = 240.0
"""Simulated seconds in a second at which the history still sees the power between two readings."""
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
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": _python_path()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
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
    made.add_argument(
        "--web", action="store_true", help="with a page: this day as it goes on, and a year that is made up"
    )
    made.add_argument("--seconds", type=float, default=float("inf"), help="end by itself after so long")
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    made = parser()
    options = made.parse_args(arguments)
    if options.web and options.speed > FASTEST:
        made.error(f"with --web, --speed can be {FASTEST:g} at most")
    return options


def _checked_time(raw: str) -> str:
    """HH:MM as it stands, for the simulator."""
    time_of_day(raw)
    return raw


def _show(options: argparse.Namespace, folder: Path, children: contextlib.ExitStack) -> None:
    end = time.monotonic() + options.seconds
    roof = folder / "inverter.sock"
    if len(os.fsencode(roof)) > LONGEST_SOCKET:
        raise DemoError(f"the path of {folder} is too long for a socket; name a shorter one with TMPDIR")

    def start(name: str, command: list[str]) -> Child:
        child = Child(name, command, folder)
        children.callback(child.end)
        return child

    port = _free_port()
    page = _page(options, folder) if options.web else None
    kind, command = _broker(port, folder)
    broker = start("broker", command)
    _wait(lambda: _listens(port), broker)
    began = time.monotonic()
    simulator = start("simulator", _simulator(options, roof, page))
    _wait(roof.exists, simulator)
    settings = folder / "goodwe.conf"
    settings.write_text(
        f"[inverter]\ndevice = unix:{roof}\npollinterval = 1000\nstatefile = {folder / 'state.json'}\n"
        f"[mqtt]\nserver = 127.0.0.1\nport = {port}\n" + (page.sections if page else "")
    )
    print(f"Broker:    {kind} on 127.0.0.1:{port}")
    print(
        f"Inverter:  simulated, {options.phases}-phase, from {options.start}, {options.speed:g} times as fast"
    )
    if page is None:
        print("Program:   GoodWe.py foreground, as on a real machine")
    else:
        print(f"Program:   as on a real machine, but it has {page.date}, and as fast a clock")
    if not Day(options.phases).is_light(time_of_day(options.start)):
        print("It is night there: values come after sunrise, or with another --start.")
    logger = start("program", _program(settings, page, began, options.speed))
    if page is not None:
        _wait(lambda: _listens(page.port), logger)
        print(f"Page:      http://127.0.0.1:{page.port}/{page.why}")
    print("What a subscriber of goodwe/# sees; Ctrl-C ends it:", flush=True)
    _print_messages(port, [broker, simulator, logger], end)


def _simulator(options: argparse.Namespace, roof: Path, page: "_Page | None") -> list[str]:
    """Its command, to listen at `roof`."""
    simulate = ["simulate", "--listen", f"unix:{roof}", "--phases", str(options.phases)]
    simulate += ["--speed", str(options.speed), "--start", options.start]
    simulate += ["--total", str(page.total_kwh)] if page else []
    return [sys.executable, str(_entry()), *simulate]


def _program(settings: Path, page: "_Page | None", began: float, speed: float) -> list[str]:
    """Its command; with a page its clock goes as that of the simulator, which `began` then."""
    pidfile = str(settings.with_name("pid"))
    if page is None:
        files = ["--config", str(settings), "--pidfile", pidfile]
        return [sys.executable, str(_entry()), *files, "foreground"]
    clock = [str(page.epoch), str(began), str(speed)]
    return [sys.executable, "-m", f"{__package__}.fast_clock", str(settings), pidfile, *clock]


class _Page(NamedTuple):
    """The page of the demo."""

    port: int
    why: str
    """Behind its address, if there is something to say of it."""
    date: datetime.date
    """The day that goes on."""
    epoch: float
    """Seconds since 1970 of the moment of that day at which the inverter begins."""
    total_kwh: float
    """On the counter of the inverter when that day began."""
    sections: str
    """Of the configuration."""


def _page(options: argparse.Namespace, folder: Path) -> _Page:
    """Make its history. Raises DemoError where the page cannot be had."""
    if importlib.util.find_spec("waitress") is None:
        raise DemoError("the page needs waitress; install it: .venv/bin/pip install -e '.[demo]'")
    from . import demo_history  # here, as what is behind it: the demo without a page needs none of it

    port = _free_port(PAGE_PORT)
    why = "" if port == PAGE_PORT else f" (port {PAGE_PORT} is taken)"
    second = time_of_day(options.start)
    date = datetime.date(datetime.date.today().year, *MIDSUMMER)
    midnight = datetime.datetime(date.year, date.month, date.day).timestamp()
    file = folder / "history.db"
    total = demo_history.write(file, SERIALS[options.phases], options.phases, date, second)
    sections = f"[history]\nfile = {file}\n[web]\nlisten = 127.0.0.1:{port}\n"
    return _Page(port, why, date, midnight + second, total, sections)


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


def _python_path() -> str:
    """Where a child finds the package that this module is of, before all that it would find otherwise."""
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_entry().parent), *([before] if before else [])])


def _free_port(wanted: int = 0) -> int:
    """`wanted` if nobody has it, else another one that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a moment ago is free
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
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
