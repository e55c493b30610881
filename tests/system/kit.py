"""The kit that scenarios are written with: a house with an inverter, a broker and the program. Runs in the guest."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

INSTALLED = Path("/opt/goodweusblogger")
PROGRAM = INSTALLED / "GoodWe.py"
CONFIG = Path("/etc/goodwe.conf")
LOG = Path("/var/log/goodwe.log")
STATE = Path("/var/lib/goodwe")
PIDFILE = Path("/var/run/goodwecomm.pid")
RUN = Path("/run/system-tests")
HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]

PATIENCE = 90.0
"""Seconds for what takes one or two on a real machine: an emulated processor is slow."""

SERIALS = ("15000SIM268W0001", "15000SIM268W0002")

ASKED, SEEN = "witness/asked", "witness/seen"
"""Topics by which a scenario waits for what Home Assistant shows on the host: the question, and the same once it is
seen, or why it is not."""
GONE, LIVE = "gone", "live"
"""Answers that can be waited for: no inverter is there; one is there, and feeds."""

OTHER_DEVICE = ("1209", "0001")
"""USB numbers of another maker's HID device: pid.codes gives them to nobody, so no other driver takes it."""


class Failed(AssertionError):
    """The scenario saw something that must not be."""


def check(condition: object, message: str) -> None:
    """Fail with the message unless the condition holds."""
    if not condition:
        raise Failed(message)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Poll until the condition holds; what it gave."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)
    return result


def sh(command: str, *, code: int | None = 0, seconds: float = PATIENCE) -> str:
    """Run a shell command; what it printed. Fails unless it exits with `code`."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=seconds)
    if code is not None:
        check(done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Message(NamedTuple):
    """One message at a subscriber."""

    at: float
    """Seconds, on time.monotonic()."""
    topic: str
    payload: str
    retained: bool


class Subscriber:
    """Everything below goodwe/, by mosquitto_sub."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._next = 0
        self._process = subprocess.Popen(
            ["mosquitto_sub", "-t", "goodwe/#", "-q", "1", "-F", "%j"], stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            topic, payload = message["topic"], str(message["payload"])
            self._messages.append(Message(time.monotonic(), topic, payload, bool(message["retain"])))

    def forget(self) -> None:
        """Wait no more for what came until now."""
        self._next = len(self._messages)

    def new(self) -> list[Message]:
        """All that came since the last forget()."""
        return self._messages[self._next :]

    def everything(self) -> Iterator[Message]:
        """All readings since it listens, of whichever inverter."""
        for message in self._messages:
            if message.topic.endswith("/data") and json.loads(message.payload)["isOnline"]:
                yield message

    def data(self, serial: str = SERIALS[0], seconds: float = PATIENCE) -> tuple[Message, dict[str, Any]]:
        """The first data that comes from that inverter since the last forget(), decoded too."""
        message = wait_for(lambda: next(self.readings(serial), None), f"data of {serial}", seconds)
        return message, json.loads(message.payload)

    def readings(self, serial: str = SERIALS[0]) -> Iterator[Message]:
        """All since the last forget(); not what is said for an inverter that is away."""
        for message in self.new():
            if message.topic == f"goodwe/{serial}/data" and json.loads(message.payload)["isOnline"]:
                yield message

    def resting(self, serial: str = SERIALS[0], seconds: float = PATIENCE) -> dict[str, Any]:
        """The first data since the last forget() that is said for an inverter that is away, decoded."""
        topic = f"goodwe/{serial}/data"

        def find() -> dict[str, Any] | None:
            found = (json.loads(message.payload) for message in self.new() if message.topic == topic)
            return next((data for data in found if not data["isOnline"]), None)

        data: dict[str, Any] = wait_for(find, f"data for {serial}, which is away", seconds)
        return data

    def online(self, value: str, serial: str = SERIALS[0], seconds: float = PATIENCE) -> Message:
        """The first message since the last forget() that says so."""
        topic = f"goodwe/{serial}/online"
        found: Message = wait_for(lambda: self._find(topic, value), f"{topic} {value}", seconds)
        return found

    def seen_online(self, value: str, serial: str = SERIALS[0]) -> bool:
        """True when a message since the last forget() says so."""
        return self._find(f"goodwe/{serial}/online", value) is not None

    def _find(self, topic: str, payload: str) -> Message | None:
        return next((m for m in self.new() if (m.topic, m.payload) == (topic, payload)), None)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Child:
    """A process beside the program: a simulator, or the USB device in front of it."""

    def __init__(self, *command: str | Path) -> None:
        self._process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)

    def next_line(self) -> str:
        """The line that it prints next, such as when it is up. Waits for it."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def freeze(self) -> None:
        """It does nothing any more, until thaw()."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ask it to end, and wait until it has."""
        self._process.terminate()
        self.thaw()
        self._process.wait(PATIENCE)


class Plugged(Child):
    """A virtual inverter whose cable is in. Freezing it gives a device that completes no transfer."""

    def __init__(self, socket: Path, *ids: str) -> None:
        super().__init__("python3", HERE / "virtual_usb.py", socket, *ids)
        check("plugged" in self.next_line(), "the virtual device is not plugged in")
        self.at = time.monotonic()

    def pull(self) -> float:
        """Pull the cable; when that was."""
        at = time.monotonic()
        self.end()
        return at


class Simulator(Child):
    """An inverter that is not plugged in yet. Freezing it gives one that is silent with its node present."""

    def __init__(self, serial: str, *options: str) -> None:
        RUN.mkdir(exist_ok=True)
        self.socket = RUN / f"{serial}.sock"
        # Not as GoodWe.py: restartd would take it for the program.
        script = f"import sys; sys.path.insert(0, '{INSTALLED}'); from goodwe.cli import main; "
        start = ["-c", script + "sys.exit(main(sys.argv[1:]))", "simulate"]
        listen = ["--listen", f"unix:{self.socket}", "--serial", serial]
        super().__init__(INSTALLED / ".venv" / "bin" / "python", *start, *listen, *options)
        check(str(self.socket) in self.next_line(), f"the simulator of {serial} listens")


class House:
    """Plug, unplug, start, stop; and figures for the report."""

    def __init__(self, figure: Callable[[str, float | str], None]) -> None:
        self.figure = figure
        self._children: list[Child] = []
        self._subscribers: list[Subscriber] = []

    # inverters

    def simulate(self, *options: str, serial: str = SERIALS[0]) -> Simulator:
        """An inverter that is not plugged in yet."""
        simulator = Simulator(serial, *options)
        self._children.insert(0, simulator)
        return simulator

    def plug(self, simulator: Simulator, *ids: str) -> Plugged:
        """Put the cable of that inverter in; `ids` are other USB numbers than the inverter's."""
        plugged = Plugged(simulator.socket, *ids)
        self._children.insert(0, plugged)
        return plugged

    def inverter(self, *options: str, serial: str = SERIALS[0]) -> Plugged:
        """Simulate and plug in one breath."""
        return self.plug(self.simulate(*options, serial=serial))

    def nodes(self) -> list[Path]:
        """The hidraw nodes that there are."""
        return sorted(Path("/dev").glob("hidraw*"))

    # the program and its broker

    def configure(self, text: str) -> None:
        """Write the configuration file."""
        CONFIG.write_text(text)

    def goodwe(self, verb: str, code: int = 0) -> str:
        """Run a verb; what it printed."""
        return sh(f"{PROGRAM} {verb}", code=code)

    def pid(self) -> int:
        """Number of the daemon."""
        return int(PIDFILE.read_text())

    def log(self) -> str:
        """The daemon's log."""
        return LOG.read_text() if LOG.exists() else ""

    def broker(self, verb: str) -> None:
        """start, stop or restart mosquitto."""
        sh(f"systemctl {verb} mosquitto")
        if verb != "stop":
            wait_for(lambda: sh("mosquitto_pub -t probe -m 1", code=None) == "", "the broker answers")

    def subscriber(self) -> Subscriber:
        """A subscriber of everything, from now on."""
        self._subscribers.append(Subscriber())
        return self._subscribers[-1]

    def measure_plug(
        self, subscriber: Subscriber, plugged: Plugged, serial: str = SERIALS[0]
    ) -> dict[str, Any]:
        """Wait for the first data after plugging in, and note how long it took."""
        message, data = subscriber.data(serial)
        self.figure("plug to first data", message.at - plugged.at)
        subscriber.online("1", serial)
        return data

    def measure_broker(self, serial: str = SERIALS[0]) -> Subscriber:
        """Restart the broker, wait for data at a new subscriber, and note how long it took; that subscriber."""
        self.broker("restart")
        back = time.monotonic()
        subscriber = self.subscriber()
        self.figure("broker back to first data", subscriber.data(serial)[0].at - back)
        subscriber.online("1", serial)
        return subscriber

    def measure_pull(self, subscriber: Subscriber, plugged: Plugged, serial: str = SERIALS[0]) -> None:
        """Pull the cable, wait for online 0, and note how long it took."""
        subscriber.forget()
        at = plugged.pull()
        self.figure("unplug to online 0", subscriber.online("0", serial).at - at)

    def measure_all(self, subscriber: Subscriber, plugged: Plugged) -> dict[str, Any]:
        """A day of the only inverter in short: plugged in, its broker restarted, unplugged. Its first data."""
        data = self.measure_plug(subscriber, plugged)
        self.measure_pull(self.measure_broker(), plugged)
        return data

    # between scenarios

    def reset(self) -> None:
        """As it was before: nothing runs, nothing is plugged in, nothing is retained."""
        for subscriber in self._subscribers:
            subscriber.close()
        sh("systemctl stop goodwe restartd", code=None)
        sh(f"{PROGRAM} stop", code=None)
        for child in self._children:
            child.end()
        self._children, self._subscribers = [], []
        wait_for(lambda: not self.nodes(), "the nodes are gone")
        for file in (LOG, PIDFILE):
            file.unlink(missing_ok=True)
        for folder in (RUN, STATE):
            shutil.rmtree(folder, ignore_errors=True)
        sh("rm -rf /etc/systemd/system/goodwe.service.d; systemctl daemon-reload; systemctl reset-failed")
        sh("systemctl stop mosquitto; rm -f /var/lib/mosquitto/mosquitto.db")
        self.broker("start")
        shutil.copy(INSTALLED / "etc" / "goodwe.conf", CONFIG)
        sh("sed -i '/GoodWe\\.py/d' /etc/restartd.conf", code=None)  # Debian 13 has none


def stay() -> None:
    """Do nothing until a signal ends this process."""
    signal.pause()


def open_files(pid: int, *kinds: str) -> list[str]:
    """The files that a process has open whose names begin with one of `kinds`."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            targets.append(os.readlink(link))
    return [target for target in targets if target.startswith(kinds)]


def alive(pid: int) -> bool:
    """True while there is such a process."""
    return os.path.exists(f"/proc/{pid}")


def steps(heading: str, document: str = "etc/doc/install.md") -> Iterator[str]:
    """The shell blocks of one section of a document, in order."""
    text = (INSTALLED / document).read_text("utf-8")
    body = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for at, block in enumerate(body.split("```")):
        if at % 2:
            yield block.strip("\n")
