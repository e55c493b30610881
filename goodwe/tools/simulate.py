"""`simulate`: an inverter that is not there, on a socket that behaves like its hidraw node (CONTRACT 8)."""

import argparse
import contextlib
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from random import Random
from typing import Protocol

from .. import program
from ..config import Config
from ..errors import GoodWeError
from ..loop import NEVER, Loop, Timer
from ..protocol import fields
from ..protocol.fields import Values
from ..protocol.scripts import SCRIPTS
from ..protocol.simulator import Day, Habits, Inverter, Port
from ..transport import STAND_IN
from . import fleet

SERIALS = {1: "15000SIM268W0001", 3: "1010KSIM268W0002"}
"""Invented ones, by phases: four characters of rated power, three of family, nine more."""
UNPLUGGED_FOR = 2.0
ACCEPT_PAUSE = 1.0
"""Seconds without a look at who wants to connect, after one that could not be let in."""


class ListenError(GoodWeError):
    """The socket cannot be had; the text says what to do."""


class Socket:
    """The node: a listening socket that is there while the cable is plugged in."""

    def __init__(self, path: str, plugged: Callable[[socket.socket], None]) -> None:
        """`path` is where to listen; `plugged` is called with each connection. Raises ListenError."""
        self.closed = False
        self.deadline = NEVER
        self._path = path
        self._plugged = plugged
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Be there. Raises ListenError."""
        if self._listener is not None:
            return
        _make_room(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            listener.bind(self._path)
        except OSError as error:
            listener.close()
            reason = f"cannot listen on {self._path}: {error.strerror or error}; choose another with --listen"
            raise ListenError(reason) from error
        listener.listen()
        self._listener = listener

    def close(self) -> None:
        """Be gone, the file too."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def poll_for(self) -> tuple[int, int] | None:
        if self._listener is None or self.deadline != NEVER:
            return None
        return self._listener.fileno(), select.POLLIN

    def ready(self, now: float) -> None:
        assert self._listener is not None  # only then it is polled
        try:
            connection, _ = self._listener.accept()
        except OSError:  # too many open files, or it gave up already: it goes on being readable
            self.deadline = now + ACCEPT_PAUSE
            return
        connection.setblocking(False)
        self._plugged(connection)

    def tick(self, now: float) -> None:
        self.deadline = NEVER


def _make_room(path: str) -> None:
    """Remove a socket that nobody listens on any more; nothing else."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        reason = f"cannot listen on {path}: {error.strerror}; choose another with --listen"
        raise ListenError(reason) from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} is there and is no socket; choose another with --listen")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _unlink(path)
            return
        except BlockingIOError:
            pass  # so many wait to be let in that it would block
        except OSError as error:  # also somebody's socket of another kind
            raise ListenError(
                f"cannot listen on {path}: {error.strerror}; choose another with --listen"
            ) from error
    raise ListenError(f"somebody listens on {path} already; stop it, or choose another with --listen")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise ListenError(f"cannot replace {path}: {error.strerror}; choose another with --listen") from error


class CablePort(Protocol):
    """The inverter's end of a cable, as `Port` of protocol/simulator.py is one."""

    @property
    def deadline(self) -> float:
        """When the next report is due; infinity without one."""

    def write(self, message: bytes, now: float) -> None:
        """Take one write() to the node."""

    def reports(self, now: float) -> list[bytes]:
        """The reports that are due; they are then gone."""

    def unplug(self) -> None:
        """Lose the reports that have not been sent."""


class Cable:
    """One connection of the program, from plugged in to pulled."""

    def __init__(self, connection: socket.socket, port: CablePort, is_awake: Callable[[float], bool]) -> None:
        """`connection` is the program's, `port` the inverter's end; asleep (`is_awake`) it hears nothing."""
        self.closed = False
        self._connection = connection
        self._port = port
        self._is_awake = is_awake

    @property
    def deadline(self) -> float:
        return self._port.deadline

    def poll_for(self) -> tuple[int, int] | None:
        return self._connection.fileno(), select.POLLIN

    def ready(self, now: float) -> None:
        try:
            message = self._connection.recv(4096)
        except OSError:
            message = b""
        if not message:
            self.pull()
        elif self._is_awake(now):
            self._port.write(message, now)

    def tick(self, now: float) -> None:
        for report in self._port.reports(now):
            try:
                self._connection.send(report)
            except OSError:  # nobody reads: what the kernel's queue cannot hold is dropped (PROTOCOL 2.6)
                return

    def pull(self) -> None:
        """The cable is out."""
        self._port.unplug()
        self._connection.close()
        self.closed = True


class Outlet:
    """A socket and the one cable that is in it."""

    def __init__(self, path: str, port: CablePort, is_awake: Callable[[float], bool], loop: Loop) -> None:
        """`path` is where to listen; `port`, `is_awake` as of a Cable; `loop` runs it. Raises ListenError."""
        self._port = port
        self._is_awake = is_awake
        self._loop = loop
        self._cable: Cable | None = None
        self._socket = Socket(path, self._plugged)
        loop.add(self._socket)

    @property
    def taken(self) -> bool:
        """True while a cable is in it."""
        return self._cable is not None and not self._cable.closed

    def open(self) -> None:
        """Let the cable be plugged in."""
        self._socket.open()

    def pull(self) -> None:
        """The cable is out, and the socket's file is gone."""
        self._socket.close()
        if self._cable is not None:
            self._cable.pull()

    def _plugged(self, connection: socket.socket) -> None:
        if self.taken:
            connection.close()  # a cable has one end; whoever was first keeps it
            return
        self._cable = Cable(connection, self._port, self._is_awake)
        self._loop.add(self._cable)


class Simulation(Timer):
    """One inverter on one roof: joins day, inverter, port and socket, and plays what happens to them."""

    def __init__(self, options: argparse.Namespace, loop: Loop) -> None:
        """`options` are those of `parse`, `loop` runs it. Raises ListenError."""
        self.closed = False
        self._options = options
        self._began = loop.clock()
        self._day = Day(options.phases, seed=options.seed, total_before=options.total)
        self._script = SCRIPTS[options.script].play
        self._inverter = Inverter(options.serial, length=options.length)
        self._port = Port(self._inverter, self._measure, _habits(options), Random(options.seed))
        self._booted = True
        self._replug = self._began + options.replug if options.replug else NEVER
        self._plug_in_again = NEVER
        self._reboot = self._began + options.reboot if options.reboot else NEVER
        self._outlet = Outlet(options.listen, self._port, self._is_awake, loop)
        loop.add(self)
        self.tick(self._began)

    @property
    def deadline(self) -> float:
        return min(self._replug, self._plug_in_again, self._reboot, self._sun_deadline)

    def tick(self, now: float) -> None:
        """Play what is due: cable out, cable in, restart, dusk, dawn."""
        if now >= self._replug:
            self._replug = now + UNPLUGGED_FOR + self._options.replug
            self._plug_in_again = now + UNPLUGGED_FOR
            self._outlet.pull()
        if now >= self._plug_in_again:
            self._plug_in_again = NEVER
        if now >= self._reboot:
            self._reboot = now + self._options.reboot
            self._inverter.forget()
            self._booted = False
        awake = self._is_awake(now)
        if not awake:
            self._inverter.forget()
        if not awake and self._options.night == "gone":
            self._outlet.pull()
        elif self._plug_in_again == NEVER:
            self._outlet.open()
        self._sun_deadline = self._next_dusk_or_dawn(now)

    def stop(self) -> None:
        """The end: the cable is out and the socket's file is gone."""
        self._outlet.pull()

    def _time(self, now: float) -> float:
        """Simulated seconds since midnight of day 0."""
        return float(self._options.start + (now - self._began) * self._options.speed)

    def _is_awake(self, now: float) -> bool:
        return self._day.is_light(self._time(now))

    def _measure(self, now: float) -> Values:
        if not self._booted:
            self._booted = True
            return {}  # all zero with a right checksum, as booting ones send (PROTOCOL 5.4)
        time = self._time(now)
        return self._script(self._day, time, self._day.values(time))

    def _next_dusk_or_dawn(self, now: float) -> float:
        time = self._time(now)
        midnight = time // 86400 * 86400
        sun = self._day.sunrise, self._day.sunset
        change = min(at for at in (*sun, sun[0] + 86400) if at > time - midnight)
        # A little later, so that rounding cannot put it before the change.
        return float(now + (midnight + change - time) / self._options.speed + 0.001)


def _habits(options: argparse.Namespace) -> Habits:
    return Habits(
        leading_zeros=not options.plain,
        stale_tail=not options.plain,
        lose=options.lose,
        corrupt=options.corrupt,
        garbage=options.garbage,
        delay=options.delay,
        report_interval=options.report_interval,
    )


def main(
    arguments: list[str],
    stop_on_signal: Callable[[Loop, Callable[[], None]], None],
    load_settings: Callable[[], Config],
) -> int:
    """Simulate until a signal comes; `stop_on_signal` adds to a loop what calls back when one does.

    `load_settings` gives the configuration, which a fleet connects by. Raises GoodWeError.
    """
    options = parse(arguments)
    loop = Loop(time.monotonic)
    stopped: list[bool] = []
    stop_on_signal(loop, lambda: stopped.append(True))
    if options.fleet:
        count = fleet.run(
            options.fleet,
            load_settings().mqtt,
            interval=options.interval,
            seconds=options.seconds,
            loop=loop,
            stopped=lambda: bool(stopped),
            say=lambda text: print(text, flush=True),
        )
        print(f"In {count.seconds:.0f} s: {count}, {count.lost} lost")
        return 1 if count.lost or not count.sent else 0
    simulation = Simulation(options, loop)
    where = options.listen
    print(f"Simulated inverter {options.serial} listens on {where}; press Ctrl-C to end it.", flush=True)
    loop.run(until=lambda: bool(stopped))
    simulation.stop()
    return 0


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} simulate",
        description="An inverter that is not there, on a socket that behaves like its hidraw node; or, with"
        " --fleet, programs by the hundred, to see whether a broker is up to them.",
    )
    made.add_argument("--listen", type=listen_path, metavar="unix:PATH", help="the socket")
    made.add_argument("--fleet", type=_count, metavar="N", help="loggers, at the broker of the configuration")
    made.add_argument("--interval", type=above_zero, default=2.5, help="of a fleet: seconds between readings")
    made.add_argument("--seconds", type=above_zero, default=float("inf"), help="of a fleet: how long")
    made.add_argument("--serial", type=_serial, help="16 characters")
    made.add_argument("--phases", type=int, choices=(1, 3), default=1, help="of the inverter")
    made.add_argument("--length", type=int, metavar="N", help="bytes of a reading")
    made.add_argument(
        "--script",
        choices=SCRIPTS,
        default="healthy",
        metavar="NAME",
        help="what it does to its values: " + "; ".join(f"{name} ({s.says})" for name, s in SCRIPTS.items()),
    )
    made.add_argument("--seed", type=int, default=1, help="for the weather and the faults")
    made.add_argument("--speed", type=above_zero, default=1.0, help="simulated seconds in a second")
    made.add_argument("--start", type=time_of_day, default=12 * 3600, metavar="HH:MM", help="simulated time")
    made.add_argument(
        "--total", type=_kilowatt_hours, default=4360.0, metavar="KWH", help="on its counter at midnight"
    )
    made.add_argument(
        "--night", choices=("silent", "gone"), default="silent", help="what it does without sun"
    )
    made.add_argument(
        "--lose", type=_probability, default=0.0, metavar="P", help="lost queries and answers, 0..1"
    )
    made.add_argument(
        "--corrupt", type=_probability, default=0.0, metavar="P", help="answers with a wrong byte"
    )
    made.add_argument(
        "--garbage", type=_probability, default=0.0, metavar="P", help="rubbish before an answer"
    )
    made.add_argument("--delay", type=_seconds, default=0.05, help="seconds before an answer begins")
    made.add_argument("--report-interval", type=_seconds, default=0.01, help="seconds between two reports")
    made.add_argument("--replug", type=_seconds, default=0.0, help="pull the cable every so many seconds")
    made.add_argument(
        "--reboot", type=_seconds, default=0.0, help="restart the inverter every so many seconds"
    )
    made.add_argument("--plain", action="store_true", help="no leading zeros, no stale bytes behind a frame")
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    made = parser()
    options = made.parse_args(arguments)
    if bool(options.listen) == bool(options.fleet):
        made.error("either --listen unix:PATH or --fleet N")
    options.serial = options.serial or SERIALS[options.phases]
    if options.length is None:
        options.length = fields.THREE_PHASE_LENGTH if options.phases == 3 else fields.SINGLE_PHASE_LENGTH
    if not fields.SINGLE_PHASE_LENGTH <= options.length <= 255:
        made.error(f"--length must be from {fields.SINGLE_PHASE_LENGTH} to 255")
    if (options.length == fields.THREE_PHASE_LENGTH) != (options.phases == 3):
        made.error(f"--length {fields.THREE_PHASE_LENGTH} goes with --phases 3, and only that does")
    return options


def listen_path(text: str) -> str:
    """The path in unix:PATH, absolute."""
    if not text.startswith(STAND_IN) or text == STAND_IN:
        raise argparse.ArgumentTypeError("must be unix: and the path of the socket")
    return os.path.abspath(text.removeprefix(STAND_IN))


def _count(text: str) -> int:
    return int(_number(text, 1, 10_000))


def _serial(text: str) -> str:
    if len(text) != fields.SERIAL_LENGTH or not text.isascii():
        raise argparse.ArgumentTypeError(f"must have {fields.SERIAL_LENGTH} ASCII characters")
    return text


def _number(text: str, lowest: float, highest: float) -> float:
    number = float(text)
    if not lowest <= number <= highest:
        raise argparse.ArgumentTypeError(f"must be from {lowest:g} to {highest:g}")
    return number


def _probability(text: str) -> float:
    return _number(text, 0.0, 1.0)


def _kilowatt_hours(text: str) -> float:
    return _number(text, 0.0, 10_000_000.0)


def _seconds(text: str) -> float:
    return _number(text, 0.0, 86400.0)


def above_zero(text: str) -> float:
    return _number(text, 0.001, 100_000.0)


def time_of_day(text: str) -> int:
    hours, _, minutes = text.partition(":")
    if not (hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise argparse.ArgumentTypeError("must be HH:MM, such as 06:30")
    return int(hours) * 3600 + int(minutes) * 60
