"""`status`: how the running program stands, asked at its control socket; the shape is that of snapshot.py."""

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

from .. import paths
from . import client

if TYPE_CHECKING:
    from argparse import ArgumentParser

UNLIMITED = 100_000
"""Characters of a line where there is no terminal."""
WITHIN = 2.0
"""Seconds for an answer."""
RUNNING, CANNOT_BE_ASKED = 0, 4
"""Exit codes; the others are the daemon's (CONTRACT 4)."""
NOWHERE = (None, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors for a path at which nobody can listen; None is that of one too long for a socket."""
EVERY = 2.0
"""Seconds between two looks of --watch."""
VERSION = 1
"""Of the snapshots that are understood here."""
BOLD, RED, PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"
HOME, END_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
"""Writing over what is there and clearing what is left of it does not flicker."""
HANGING, NARROW = "    ", 20
"""Before the second half of a line that is wrapped, unless there is hardly room for it."""
VALUES = (("pac", "W"), ("vac1", "V"), ("temp", "°C"))
"""Of the last reading, in a line, with their units."""

Plain = Mapping[str, Any]


class Looked(Protocol):
    """A daemon that can be looked at."""

    def status(self) -> int:
        """Print whether it runs; the exit code of CONTRACT 4."""


class StatusAnswer(NamedTuple):
    """The outcome of asking."""

    snapshot: dict[str, Any] | None
    """None without an answer."""
    trouble: str
    """Why there is none, where a program listens; empty where nobody does."""


class Options(NamedTuple):
    """How it is to be told."""

    long: bool = False
    json: bool = False
    watch: float | None = None
    """Seconds between two looks; None for a single one."""


class Style(NamedTuple):
    """How the lines may look."""

    width: int
    """Characters of a line; more of them go on in the next one."""
    colours: bool
    encoding: str = "utf-8"
    """Letters that it lacks are shown as escapes."""


def main(arguments: list[str], daemon: Looked, pidfile: str, *, out: TextIO | None = None) -> int:
    """Print how the program with that pid file stands, or whether it runs at all; the exit code."""
    options = parse(arguments)
    out = out or sys.stdout
    if options.watch is None:
        return _once(options, daemon, pidfile, out)
    while True:
        lines = _watched(pidfile, _style(out))
        if out.isatty() and not _is_dumb():
            out.write(_screen(lines, _size().lines))
        else:
            out.writelines(f"{line}\n" for line in lines)
        out.flush()
        time.sleep(options.watch)  # a person watches; Ctrl-C ends it


def parser() -> "ArgumentParser":
    """The words and options that may stand behind the verb."""
    import argparse

    from .. import program

    made = argparse.ArgumentParser(
        prog=f"{program.name()} status",
        description="How the running program stands: daemon, foreground or unit of systemd.",
        epilog="exit code: 0 running; 1 dead, its pid file remains; 3 not running; 4 there, but it cannot be"
        " asked. --pidfile stands before the verb.",
    )
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--long", action="store_true", help="all there is, also where the output is no terminal"
    )
    which.add_argument(
        "--json", action="store_true", help="one JSON object, as goodwe/snapshot.py describes it"
    )
    which.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=EVERY,
        metavar="SECONDS",
        help=f"renew it, every {EVERY:g} s without a number",
    )
    return made


def parse(arguments: list[str]) -> Options:
    """The options; a wrong one ends the program with usage and exit code 2."""
    if not arguments:  # as it is asked most; argparse would take a good part of the time for an answer
        return Options()
    given = parser().parse_args(arguments)
    return Options(given.long, given.json, given.watch)


def asked(pidfile: str, ask: Callable[[str], Any] | None = None) -> StatusAnswer:
    """The answer of the program with that pid file, or of systemd's; `ask` asks at one socket."""
    ask = ask or (lambda path: client.ask(path, "status", within=WITHIN))
    trouble = ""
    for path in dict.fromkeys((paths.socket_beside(pidfile), paths.SYSTEMD_SOCKET)):
        try:
            snapshot = ask(path)
            if not client.is_snapshot(snapshot):
                raise ValueError(client.ANOTHER)
            return StatusAnswer(snapshot, "")
        except (FileNotFoundError, ConnectionRefusedError):
            continue
        except PermissionError:
            trouble = trouble or f"you may not ask it at {path}; run with sudo, or as a user in group goodwe"
        except TimeoutError:
            trouble = trouble or f"it does not answer at {path}; look into its log, then restart it"
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NOWHERE:
                continue
            trouble = trouble or f"no answer at {path}: {error}"
    return StatusAnswer(None, trouble)


def shown(snapshot: Plain, style: Style) -> str:
    """The snapshot for a person, in lines; of another version's, that it is one."""
    try:
        lines = list(_lines(snapshot))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        lines = []
    if not lines or snapshot.get("version") != VERSION:
        lines = [_first(snapshot), "! it is another version; restart it, then it can be asked"]
    return "\n".join(_styled(line, style) for line in lines)


# --- the lines


def _lines(snapshot: Plain) -> Iterable[str]:
    """Raises KeyError, TypeError and the like for what is no snapshot."""
    yield from _program(snapshot)
    for serial, inverter in sorted(snapshot.get("inverters", {}).items()):
        yield from _inverter(serial, inverter)
    yield from _devices(snapshot)
    for loss in snapshot.get("losses", []):
        yield f"  lost {duration(loss['lost_seconds'])} ago at {loss['name']}: {loss['reason']}"
    for name, output in sorted(snapshot.get("outputs", {}).items()):
        yield from _output(name, output)
    for part in snapshot.get("dropped", []):
        yield f"! {part['part']} failed and is left out: {part['error']}"


def _first(snapshot: Plain) -> str:
    return f"GoodWe is running, pid {snapshot['program']['pid']}"


def _program(snapshot: Plain) -> Iterable[str]:
    program = snapshot["program"]
    yield _first(snapshot)
    yield (
        f"  version {program['version']}, for {duration(program['uptime_seconds'])},"
        f" {program['memory_kilobytes'] / 1024:.0f} MB, {program['cpu_seconds']:.1f} s of CPU,"
        f" {program['wake_ups']} wake-ups"
    )
    yield f"  configuration {program['configuration']}"
    for warning in program["warnings"]:
        yield f"! {warning}"


def _inverter(serial: str, inverter: Plain) -> Iterable[str]:
    model = f" {inverter['model']}" if inverter.get("model") else ""
    age = inverter.get("last_reading_seconds")
    seen = f", read {duration(age)} ago" if age is not None else ""
    yield f"inverter {serial}{model}: {'online' if inverter.get('online') else 'away'}{seen}"
    values = inverter.get("values") or {}
    told = [f"{values[key]} {unit}" for key, unit in VALUES if key in values]
    told += [f"today {inverter['today_kwh']} kWh"] if inverter.get("today_kwh") is not None else []
    told += [f"total {inverter['total_kwh']} kWh"] if inverter.get("total_kwh") is not None else []
    if told:
        yield f"  {', '.join(told)}"
    waiting = inverter.get("waits_to_be_believed")
    if waiting:
        since = duration(waiting["since_seconds"])
        yield f"! a reading waits to be believed for {since}: {waiting['reason']}"
    if inverter.get("refused"):
        yield f"! refused: {_counts(inverter['refused'])}"


def _devices(snapshot: Plain) -> Iterable[str]:
    """Why there is no inverter, and what cannot be opened, beside those that can."""
    links = snapshot.get("links", [])
    opened = {link["name"] for link in links if link.get("state") == "open"}
    shut = [place for place in snapshot.get("places", []) if place.get("name") not in opened]
    troubles = [place["trouble"] for place in shut if place.get("trouble")]
    if not snapshot.get("inverters"):
        if links:
            names = ", ".join(link["name"] for link in links)
            yield f"inverter: none has given a reading yet; asking at {names}"
        else:
            yield f"inverter: {'none can be opened' if troubles else 'none is plugged in'}"
    for trouble in troubles:
        yield f"! {trouble}"
    for place in snapshot.get("places", []):
        if place.get("refused"):
            yield f"! refused at {place['name']}: {_counts(place['refused'])}"


def _output(name: str, output: Plain) -> Iterable[str]:
    connections = output.get("connections", {})
    if not connections:
        why = f" ({output['why_not']})" if output.get("why_not") else ""
        yield f"{'! ' if why else ''}output {name}: {output.get('state', 'on')}{why}"
    for serial, connection in connections.items():
        yield _broker(f"{connection['server']}{f' for {serial}' if serial else ''}", connection)
    backlog = output.get("features", {}).get("backlog")
    if backlog:
        yield f"  backlog: {backlog['kept'] if backlog['kept'] is not None else '?'} readings wait"
    for part in output.get("dropped", []):
        yield f"! {part['part']} failed and is left out: {part['error']}"


def _broker(name: str, connection: Plain) -> str:
    if connection["connected_seconds"] is not None:
        return f"broker {name}: connected for {duration(connection['connected_seconds'])}"
    why = f" ({connection['why_not']})" if connection["why_not"] else ""
    next_try = connection["next_try_seconds"]
    again = f"; next try in {duration(next_try)}" if next_try is not None else ""
    return f"! broker {name}: {connection['state']}{why}{again}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units: 3 d 4 h, 12 min 5 s, 0.4 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute} min"
    return f"{minutes} min {second} s" if minutes else f"{second} s"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))


# --- how it is asked and printed


def _once(options: Options, daemon: Looked, pidfile: str, out: TextIO) -> int:
    answer = asked(pidfile)
    if answer.snapshot is not None:
        if options.json:
            text = json.dumps(answer.snapshot, sort_keys=True)
        elif options.long or out.isatty():
            text = shown(answer.snapshot, _style(out))
        else:  # programs read this line
            text = _first(answer.snapshot)
        print(text, file=out)
        return RUNNING
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        code = daemon.status()  # no line for a person among the JSON
    trouble = answer.trouble
    if code == RUNNING and not trouble and (options.json or options.long):
        trouble = f"nothing listens at {paths.socket_beside(pidfile)}; restart it, then it can be asked"
    if trouble:
        print(f"GoodWe: {trouble}", file=sys.stderr)
        return code if code == RUNNING and not options.json else CANNOT_BE_ASKED
    return code


def _watched(pidfile: str, style: Style) -> list[str]:
    answer = asked(pidfile)
    if answer.snapshot is None:
        return _styled(f"! {answer.trouble or 'GoodWe is not running'}", style).split("\n")
    now = _styled(f"  {time.strftime('%H:%M:%S')}, Ctrl-C ends it", style)
    return f"{shown(answer.snapshot, style)}\n{now}".split("\n")


def _screen(lines: list[str], rows: int) -> str:
    """The lines over the last ones, as far as there is room, the last one always; the last row stays free."""
    room = max(1, rows - 1)
    kept = lines if len(lines) <= room else [*lines[: room - 1], lines[-1]]
    return HOME + "".join(f"{line}{END_OF_LINE}\n" for line in kept) + REST_OF_SCREEN


def _style(out: TextIO) -> Style:
    colours = out.isatty() and not os.environ.get("NO_COLOR") and not _is_dumb()
    return Style(_size().columns if out.isatty() else UNLIMITED, colours, out.encoding or "utf-8")


def _is_dumb() -> bool:
    """True for a terminal that obeys no escape sequence."""
    return os.environ.get("TERM") == "dumb"


def _size() -> os.terminal_size:
    from shutil import get_terminal_size  # here, since only a terminal has one

    return get_terminal_size()


def _styled(line: str, style: Style) -> str:
    """Wrapped to the width; trouble, which begins with !, in red, and what is not indented in bold."""
    # A broker or an inverter may have put it there; a terminal obeys some of it.
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    line = line.encode(style.encoding, "backslashreplace").decode(style.encoding)
    if len(line) > style.width:
        from textwrap import wrap

        hanging = HANGING if style.width >= NARROW else ""
        line = "\n".join(wrap(line, style.width, subsequent_indent=hanging))
    if not style.colours or line.startswith(" "):
        return line
    colour = RED if line.startswith("!") else BOLD
    return "\n".join(f"{colour}{part}{PLAIN}" for part in line.split("\n"))


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise ArgumentTypeError("must be from 0.1 to 3600")
    return seconds
