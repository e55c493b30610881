"""Measure the program as a process, on the stand-in socket and a real mosquitto: `[SECONDS]` for each figure.

Ten minutes with the default; most of it is waiting until the program has nothing more to find out.
"""

import contextlib
import datetime
import json
import os
import queue
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from io import TextIOWrapper
from pathlib import Path
from random import Random

from goodwe.history import madeup
from goodwe.protocol import fields
from goodwe.protocol.frame import Splitter
from goodwe.protocol.simulator import Day, Habits, Inverter, Port

from .. import in_step
from ..broker import Mosquitto, Subscriber, free_port, listens, wait_for
from ..captures import raw
from ..children import none_left

GOODWE = str(Path(__file__).parents[2] / "GoodWe.py")
NOON = 43200.0
SERIAL = "1010KSIM000W0001"
DATA = f"+/{SERIAL}/data"
OFF = "[homeassistant]\ndiscovery = off\n"
"""Nothing but `data` and `online`."""
ON = "values = on\nsum = on\ncommands = on\ncontrol = on\nvaluesretain = on\nbacklog = {folder}/backlog.sqlite\n"
KEPT = (
    "[homeassistant]\ndiscovery = off\n[history]\nfile = {folder}/kept.db\n"
    "[web]\nlisten = 127.0.0.1:{page}\nmetrics = on\n"
)
"""History, page and metrics, beside nothing but `data` and `online`."""
PAGES = (
    "/",
    "/day",
    "/month",
    "/year",
    "/years",
    "/events",
    "/health",
    "/chart/day.svg",
    "/metrics",
    "/api/now",
)
YEARS = 10
READER = "import sys, urllib.request\nwhile True: urllib.request.urlopen(sys.argv[1], timeout=60).read()"
READERS = 4
"""Clients that ask for the page of a year again and again."""
QUICK = Habits(leading_zeros=False, stale_tail=False, delay=0.0, report_interval=0.01)


class Roof:
    """An inverter that answers at once, one report each 10 ms; notes when an answer's last report went."""

    def __init__(self, path: Path) -> None:
        self.awake = True
        self.last_report: queue.Queue[float] = queue.Queue()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        day = Day(3)
        while True:
            connection, _ = self._listener.accept()
            port = Port(Inverter(SERIAL, length=66), lambda now: day.values(NOON), QUICK, Random(1))
            with contextlib.suppress(OSError):  # the program has ended
                self._answer(connection, port)

    def _answer(self, connection: socket.socket, port: Port) -> None:
        while message := connection.recv(4096):
            if not self.awake:
                continue
            port.write(message, 0.0)
            reports = port.reports(float("inf"))
            for report in reports:
                time.sleep(0.01)
                connection.send(report)
            if len(reports) > 5:
                self.last_report.put(time.monotonic())


class Usage:
    """The CPU and memory that a process has used so far, over all its threads."""

    def __init__(self, pid: int) -> None:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        self.cpu = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        self.wake_ups = sum(self._switches(task) for task in tasks)
        self.at = time.monotonic()

    @staticmethod
    def _switches(task: Path) -> int:
        lines = (task / "status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt")))


def measure(name: str, pid: int, seconds: float) -> None:
    before = Usage(pid)
    time.sleep(seconds)
    after = Usage(pid)
    span = after.at - before.at
    wake_ups = (after.wake_ups - before.wake_ups) / span
    cpu = (after.cpu - before.cpu) / span
    print(f"{name:24} {wake_ups:6.2f} wake-ups/s   {cpu * 1000:6.3f} ms CPU/s   {cpu * 60:6.4f} s CPU/min")


def start(
    folder: Path, port: int, device: Path, interval: int, more: str = "", page: int = 0
) -> subprocess.Popen[bytes]:
    """The program in the foreground; `more` follows the section [mqtt] of its configuration.

    With a `page` at that port its clock is known to be right: nothing is filed under a day that nobody knows.
    """
    settings = folder / "bench.conf"
    settings.write_text(
        f"[inverter]\ndevice = unix:{device}\npollinterval = {interval}\n"
        f"statefile = {folder / 'state.json'}\n"
        f"[mqtt]\nserver = 127.0.0.1\nport = {port}\n{more.format(folder=folder, page=page)}"
    )
    command = [
        *(in_step.COMMAND if page and in_step.can_be() else []),
        sys.executable,
        GOODWE,
        "--config",
        str(settings),
        "--pidfile",
        str(folder / "pid"),
        "foreground",
    ]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def end(program: subprocess.Popen[bytes]) -> None:
    program.send_signal(signal.SIGTERM)
    program.wait(30)


def next_reading(subscriber: Subscriber) -> None:
    """Wait for data that comes from the inverter; not what is said while it is away."""
    while not json.loads(subscriber.next()[1])["isOnline"]:
        pass


def first_data(folder: Path, broker: Mosquitto, roof: Path) -> None:
    times = []
    for _ in range(6):
        subscriber = Subscriber(broker.port, DATA)
        began = time.monotonic()
        program = start(folder, broker.port, roof, 2500)
        next_reading(subscriber)
        times.append(time.monotonic() - began)
        subscriber.close()
        end(program)
    first, *later = times
    print(f"process start to first data: {statistics.median(later):.2f} s (median of {len(later)}),")
    print(f"  {first:.2f} s for an inverter that was never seen before")


def latency(name: str, broker: Mosquitto, roof: Roof, seconds: float) -> float:
    """From the last report of an answer to its message, of a program that reads each 500 ms; the longest, in ms."""
    arrivals: list[float] = []
    subscriber = Subscriber(broker.port, DATA)
    next_reading(subscriber)
    wait_for(lambda: roof.last_report.qsize(), "a reading")
    while roof.last_report.qsize():
        roof.last_report.get()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sent = roof.last_report.get(timeout=10)
        next_reading(subscriber)
        arrivals.append((time.monotonic() - sent) * 1000)
    subscriber.close()
    arrivals.sort()
    median, worst = statistics.median(arrivals), arrivals[int(len(arrivals) * 0.99)]
    print(
        f"last report to data at a subscriber{name}: median {median:.2f} ms, p99 {worst:.2f} ms,"
        f" at most {arrivals[-1]:.2f} ms, {len(arrivals)} readings"
    )
    return arrivals[-1]


def ask(page: int, path: str) -> float:
    """Ask for a page; the milliseconds until all of it is there."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{page}{path}", timeout=30) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


def page_and_history(folder: Path, broker: Mosquitto, path: Path, roof: Roof, seconds: float) -> None:
    """The cost of [history] and [web]: memory, a year of ten, and the readings while several look at it."""
    today, page = datetime.date.today(), free_port()
    kept = str(folder / "kept.db")
    madeup.write(kept, [madeup.MadeUpRoof(SERIAL)], until=today, days=YEARS * 365)
    size = Path(kept).stat().st_size / 1e6 / YEARS
    print(f"history: {size:.1f} MB a year and inverter (single-phase, {YEARS} years)")
    print(
        f"clock: {'known to be right' if in_step.can_be() else 'not known to be right, nothing is written'}"
    )
    subscriber = Subscriber(broker.port, DATA)
    program = start(folder, broker.port, path, 2500, KEPT, page)
    next_reading(subscriber)
    time.sleep(90)  # until the first events are written
    memory(", history, page and metrics on, nobody looks", program.pid)
    for one in PAGES:
        ask(page, one)
    memory(", and every page was looked at", program.pid)
    subscriber.close()
    end(program)
    program = start(folder, broker.port, path, 500, KEPT, page)
    wait_for(lambda: listens(page), "the page is served")
    times = sorted(ask(page, f"/year?date={today - datetime.timedelta(400)}") for _ in range(20))
    print(f"page of a year out of {YEARS}: median {times[10]:.1f} ms, at most {times[-1]:.1f} ms; ", end="")
    times = sorted(ask(page, "/years") for _ in range(20))
    print(f"of all years {times[10]:.1f} and {times[-1]:.1f} ms")
    calm = latency(", nobody looks", broker, roof, seconds)
    # Processes of their own, and patient ones: whoever looks sits at another machine.
    addresses = [
        f"http://127.0.0.1:{page}/year?date={today - datetime.timedelta(400 * n)}" for n in range(READERS)
    ]
    readers = [subprocess.Popen(["nice", "-n", "19", sys.executable, "-c", READER, one]) for one in addresses]
    busy = latency(f", {READERS} look", broker, roof, seconds)
    for reader in readers:
        reader.terminate()
        reader.wait()
    memory(", after they looked", program.pid)
    print(f"the longest is {busy - calm:+.2f} ms longer while they look")
    end(program)


def memory(name: str, pid: int) -> None:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    print(f"resident memory{name}: {sizes['Rss']:.1f} MiB, of which {own:.1f} are its own")


def memories(folder: Path, broker: Mosquitto, path: Path) -> None:
    for name, more in ((", all options off", OFF), (", those of MQTT on", ON)):
        subscriber = Subscriber(broker.port, DATA)
        program = start(folder, broker.port, path, 2500, more)
        next_reading(subscriber)
        time.sleep(20)  # until it was asked who it is
        memory(name, program.pid)
        subscriber.close()
        end(program)


def frames() -> None:
    stream = raw("usb-running-66")[4:]
    rates = []
    for _ in range(5):
        splitter = Splitter()
        began = time.perf_counter()
        for _ in range(20_000):
            for packet in splitter.feed(stream):
                fields.decode_running(packet.frame.data)
        rates.append(20_000 / (time.perf_counter() - began))
    print(
        f"three-phase readings split and decoded: {statistics.median(rates):,.0f}/s, at best {max(rates):,.0f}/s"
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each figure when it is known, also in a pipe
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {load}")
    frames()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder).start()
        path = folder / "inv.sock"
        program = start(folder, broker.port, folder / "nobody.sock", 2500)
        time.sleep(125)  # after two minutes the stand-in is called every 30 s only
        measure("no device", program.pid, seconds)
        end(program)
        roof = Roof(path)
        first_data(folder, broker, path)
        program = start(folder, broker.port, path, 500)
        latency("", broker, roof, seconds)
        end(program)
        page_and_history(folder, broker, path, roof, seconds)
        program = start(folder, broker.port, path, 2500)
        subscriber = Subscriber(broker.port, DATA)
        next_reading(subscriber)
        time.sleep(20)  # until it was asked who it is
        measure("daylight, every 2500 ms", program.pid, seconds)
        memory("", program.pid)
        roof.awake = False
        time.sleep(150)  # until the search has become slow
        measure("silent at night", program.pid, seconds)
        subscriber.close()
        end(program)
        roof.awake = True
        memories(folder, broker, path)
        broker.stop()


if __name__ == "__main__":
    with none_left():
        main()
