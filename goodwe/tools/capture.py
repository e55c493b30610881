"""`capture`: writes what goes over the wires to a file, from the running program, or else by talking itself.

One who only listened would hear nothing: an inverter speaks when it is asked. So where no program runs, this
asks like one, with the same bus, and publishes nothing. A program that runs is asked at its control socket:
its node is not opened a second time.
"""

import argparse
import contextlib
import errno
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import simplejson

from .. import paths, program
from ..capture import MISSED, CaptureFeed, facts
from ..config import Config
from ..errors import FieldError, GoodWeError
from ..events import Answer, Happening, Online, Outcome, Reading
from ..instance import holder_of
from ..link import Link
from ..loop import NEVER, Loop, Timer
from ..place import Place
from ..protocol import fields
from ..protocol.bus import Bus
from ..service import stop_on_signal
from ..traffic import Tap
from ..transport import Find, Ids, Wire, find
from . import captures, client
from .captures import ENDED

SECONDS, MEGABYTES = 600.0, 16.0
"""An hour of one inverter has some 1.5 MB."""
WITHIN = 2.0
"""Seconds for an answer of the running program."""
FAREWELL = 3.0
"""Seconds for closing the nodes."""
NOWHERE = (None, errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors for a path at which nobody listens; None is that of one too long for a socket."""
STDOUT = "-"
LONGEST = 1_000_000
"""Bytes without the end of a line, from whatever listens where the program should."""
STEADY = 3
"""Readings after which the inverter is asked who it is (PROTOCOL 9.10)."""


class CaptureError(GoodWeError):
    """A capture that cannot begin, or go on; the text says what to do."""


class CaptureWriter:
    """The file: whole lines, until it is as large as it may be."""

    def __init__(self, path: str, most: float) -> None:
        """`path` is that of a new file, - for the standard output; `most` bytes it may have.

        Raises CaptureError.
        """
        self.path = path
        self.lines = 0
        """Lines of traffic in it."""
        self.missed = 0
        """Lines that the running program dropped."""
        self.is_full = False
        self._most = most
        self._size = 0
        self._failed = False
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = 1 if path == STDOUT else os.open(path, flags, 0o644)
        except FileExistsError:
            raise CaptureError(f"{path} is there already; name another file") from None
        except OSError as error:
            raise CaptureError(f"cannot write {path}: {error.strerror}; name another file") from error

    def take(self, line: str) -> bool:
        """Write a line of traffic; False when it has no room any more. Raises CaptureError."""
        if not self.is_full and self._write(f"{line}\n"):
            self.lines += 1
            found = line.partition(" ! ")[2]
            if found.endswith(MISSED):
                self.missed += int(found.partition(" ")[0])
            return True
        self.is_full = True
        return False

    def fact(self, text: str) -> None:
        """Write lines with facts, also where the traffic has no room any more. Raises CaptureError."""
        self._most += len(text.encode())
        if not self._failed:
            self._write(text)

    def close(self) -> None:
        """Give it back."""
        if self._descriptor > 1:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Leave no file behind in which there is nothing."""
        if self.path != STDOUT:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _write(self, text: str) -> bool:
        raw = text.encode()
        if self._size + len(raw) > self._most:
            return False
        try:
            done = 0
            while done < len(raw):
                done += os.write(self._descriptor, raw[done:])
        except BrokenPipeError:
            self.is_full = self._failed = True
            raise CaptureError(f"whoever read it is gone; {self.lines} lines were written") from None
        except OSError as error:
            self.is_full = self._failed = True
            if self.path != STDOUT:
                with contextlib.suppress(OSError):  # not half a line, where a file can be cut
                    os.ftruncate(self._descriptor, self._size)
            raise CaptureError(
                f"cannot write {self.path}: {error.strerror}; {self.lines} lines are in it"
            ) from error
        self._size += len(raw)
        return True


class RunningSource(Timer):
    """A part of the loop: the lines that the running program gives."""

    def __init__(self, connection: socket.socket, rest: bytes, writer: CaptureWriter) -> None:
        """`connection` is its own from now on; `rest` has come of the lines, `writer` takes them."""
        self.closed = False
        self.deadline = NEVER
        self.trouble = ""
        self._connection = connection
        self._received = bytearray(rest)
        self._writer = writer
        connection.setblocking(False)
        self._pass_on()

    def poll_for(self) -> tuple[int, int] | None:
        return self._connection.fileno(), select.POLLIN

    def ready(self, now: float) -> None:
        try:
            chunk = self._connection.recv(client.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._received += chunk
        self._pass_on()
        if not chunk or len(self._received) > LONGEST:
            self.closed = True

    def tick(self, now: float) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Ask for no more."""
        self.closed = True
        self._connection.close()

    def _pass_on(self) -> None:
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        for line in lines:
            self._writer.take(line.decode("utf-8", "replace"))


class DeviceSource(Timer):
    """A part of the loop: the inverters themselves, asked for their readings as the program would."""

    def __init__(self, config: Config, loop: Loop, writer: CaptureWriter, *, find: Find = find) -> None:
        """`config` says where they are, `loop` runs them, `writer` takes what goes over their wires.

        `find` makes what finds the wires. Raises StartError.
        """
        self.closed = False
        self.deadline = NEVER
        self.trouble = ""
        """Why a wire could not be opened, if none could."""
        self._config = config
        self._loop = loop
        self._writer = writer
        self._tap = Tap()
        self._tap.listeners.append(CaptureFeed(writer.take, time.time() - loop.clock()))
        self._links: dict[str, Link] = {}
        self._places: dict[str, Place] = {}
        self._readings: dict[str, int] = {}
        """Since it is online, by serial."""
        self._models: dict[str, str] = {}
        """By serial."""
        inverter = config.inverter
        ids = Ids(inverter.vendorid, inverter.modelid)
        self._finder = find(
            inverter.device, ids, post=loop.post, plugged=self._plugged, unplugged=self._unplugged
        )
        loop.add(self._finder)

    def tick(self, now: float) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Take the addresses back, and close the wires."""
        self._finder.close()
        links = list(self._links.values())
        for link in links:
            link.stop("the capture ends", gone=False)
        end = CaptureEnd(self._loop.clock() + FAREWELL)
        self._loop.add(end)
        self._loop.run(until=lambda: end.closed or all(link.closed for link in links))
        self.closed = True

    def _plugged(self, wire: Wire) -> None:
        self._writer.fact(f"{captures.fact('wire', wire.name)}\n")
        link = Link(
            wire,
            Bus(self._config.inverter.pollinterval / 1000, capacity=wire.capacity),
            place=self._places.setdefault(wire.name, Place(reset_allowed=False)),
            publish=partial(self._happened, wire.name),
            clock=self._loop.clock,
            wall_clock=time.time,
            lost=lambda reason, traffic: None,
            ended=self._ended,
            tap=self._tap,
        )
        self._links[wire.name] = link
        self._loop.add(link)
        link.open()

    def _unplugged(self, name: str) -> None:
        if name in self._links:
            self._links[name].stop("unplugged", gone=True)

    def _ended(self, link: Link, reason: str) -> None:
        self._links.pop(link.name, None)
        if not link.was_open and not any(other.was_open for other in self._links.values()):
            self.trouble = reason
        self._finder.ended(link.name, self._loop.clock(), was_open=link.was_open)

    def _happened(self, wire: str, event: Happening) -> None:
        match event:
            case Online(serial):
                self._readings[serial] = 0
                self._writer.fact(f"{captures.inverter(serial, self._models.get(serial), wire)}\n")
            case Reading(serial):
                self._readings[serial] = self._readings.get(serial, 0) + 1
                if self._readings[serial] == STEADY and self._may_ask(serial):
                    for question in ("query_id_info", "query_setting_info"):
                        self._links[wire].ask(serial, question, answered=partial(self._told, wire))

    def _may_ask(self, serial: str) -> bool:
        """False for an inverter that is not to be asked who it is: that did it harm (PROTOCOL 5.6)."""
        inverter = self._config.inverter
        return inverter.identity and not _is_shy(inverter.statefile, serial)

    def _told(self, wire: str, outcome: Outcome) -> None:
        if isinstance(outcome, Answer) and outcome.question == "query_id_info":
            with contextlib.suppress(FieldError):
                model = self._models[outcome.serial] = str(fields.decode_id(outcome.data)["modelName"])
                self._writer.fact(f"{captures.inverter(outcome.serial, model, wire)}\n")


class CaptureEnd(Timer):
    """A part of the loop that closes itself at a time."""

    def __init__(self, when: float) -> None:
        """`when` is on the loop's clock."""
        self.closed = False
        self.deadline = when

    def tick(self, now: float) -> None:
        self.closed = True


LineSource = RunningSource | DeviceSource


def main(
    arguments: list[str],
    pidfile: str,
    load_settings: Callable[[], Config],
    *,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> int:
    """Capture until the limits are reached or a signal comes; 0 if there was any traffic. Raises GoodWeError.

    `load_settings` gives the configuration, where no program runs with that pid file; `say` tells a person.
    """
    options = parse(arguments)
    writer = CaptureWriter(options.file, options.megabytes * 1_000_000)
    loop = Loop(time.monotonic)
    try:
        source: LineSource
        if (asked := running(pidfile)) is not None:
            told, connection, rest = asked
            writer.fact(captures.head(told))
            source, where = RunningSource(connection, rest, writer), "the running program"
        else:
            writer.fact(captures.head(facts(time.time(), {"links": [], "inverters": {}})))
            source = DeviceSource(load_settings(), loop, writer)
            where = "the inverter itself, no program runs"
        say(f"Capturing from {where}, to {options.file}, for {options.seconds:g} s; Ctrl-C ends it.")
        why = _run(loop, source, writer, options.seconds)
        writer.fact(f"{captures.fact(ENDED, f'{why}, {writer.lines} lines')}\n")
    except BaseException:  # whatever it is goes on; a file with nothing in it only puzzles
        if not writer.lines:
            writer.remove()
        raise
    finally:
        writer.close()
        loop.close()
    command = program.command()
    if not writer.lines:
        writer.remove()
        raise CaptureError(source.trouble or f"{why}: nothing went over a wire; {command} doctor says why")
    missed = f", {writer.missed} were missed" if writer.missed else ""
    say(f"{writer.lines} lines{missed} ({why}). {command} decode --summary {options.file} counts them.")
    return 0


def _run(loop: Loop, source: LineSource, writer: CaptureWriter, seconds: float) -> str:
    """Let it run; returns why it ended. Raises CaptureError."""
    stopped: list[bool] = []
    stop_on_signal(loop, lambda: stopped.append(True))
    end = CaptureEnd(loop.clock() + seconds)
    loop.add(source)
    loop.add(end)
    try:
        loop.run(
            until=lambda: bool(stopped or source.trouble) or source.closed or end.closed or writer.is_full
        )
        if stopped:
            return "interrupted"
        if writer.is_full:
            return "as large as it may be"
        if source.trouble:
            return "the device could not be opened"
        return "the program ended" if source.closed else f"after {seconds:g} s"
    finally:
        source.close()


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} capture",
        description="Write what goes over the wire to a file: from the running program, or, where none runs,"
        " by asking the inverter as it would.",
        epilog="exit code: 0; 1 nothing was captured, or it could not be written; 2 wrong arguments or"
        " configuration. --config and --pidfile stand before the verb.",
    )
    made.add_argument("file", metavar="FILE", help="a new file; - for the standard output")
    made.add_argument(
        "--seconds", type=_seconds, default=SECONDS, help=f"how long at most, {SECONDS:g} by default"
    )
    made.add_argument(
        "--megabytes", type=_megabytes, default=MEGABYTES, help=f"how large at most, {MEGABYTES:g} by default"
    )
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def running(pidfile: str) -> tuple[dict[str, Any], socket.socket, bytes] | None:
    """The facts, the connection and the first lines from the program with that pid file, or systemd's.

    None where none runs. Raises CaptureError for one that cannot be asked, StartError.
    """
    trouble = ""
    for path in dict.fromkeys((paths.socket_beside(pidfile), paths.SYSTEMD_SOCKET)):
        try:
            told, connection, rest = client.follow(path, "capture", within=WITHIN)
        except PermissionError:
            trouble = f"you may not ask it at {path}; run with sudo, or as a user in group goodwe"
        except TimeoutError:
            trouble = f"it does not answer at {path}; look into its log, then restart it"
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) or error.errno not in NOWHERE:
                trouble = f"no capture from {path}: {error}"
        else:
            if _are_facts(told):
                return told, connection, rest
            connection.close()
            trouble = f"another program listens at {path}"
    if not trouble and (holder := holder_of(pidfile)).locked:
        trouble = f"it runs, pid {holder.pid}, and cannot be asked; restart it, then it can"
    if trouble:
        raise CaptureError(f"GoodWe: {trouble}")
    return None


def _is_shy(statefile: str, serial: str) -> bool:
    """True if the program has learnt never to ask it, and where that may not be read."""
    try:  # not by readings.state: that sets a damaged file aside
        with open(statefile, encoding="ascii") as file:
            return bool(simplejson.load(file)["inverters"][serial]["identity"]["shy"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return False
    except OSError:
        return True


def _are_facts(told: Any) -> bool:
    """True for the facts of a capture as goodwe/capture.py describes them."""
    try:
        captures.head(told)
    except (TypeError, KeyError, ValueError, OverflowError, OSError, AttributeError):
        return False
    return True


def _seconds(text: str) -> float:
    return _number(text, 1.0, 31 * 86400.0)


def _megabytes(text: str) -> float:
    return _number(text, 0.001, 10_000.0)


def _number(text: str, lowest: float, highest: float) -> float:
    number = float(text)
    if not lowest <= number <= highest:
        raise argparse.ArgumentTypeError(f"must be from {lowest:g} to {highest:g}")
    return number
