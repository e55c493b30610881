"""`bundle`: one file for a bug report, which says what is in it before it is written.

In it are the findings of the doctor, the status, configuration, log and unit without secrets, and the traffic
before the last losses; each is a row of `ENTRIES`. There is nothing else but a summary in front, for who has
nothing but this file. It needs no running program and no right configuration, and is done in less than a
minute whatever hangs.
"""

import argparse
import contextlib
import difflib
import gzip
import importlib.metadata
import io
import os
import platform
import re
import shutil
import socket
import stat
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

import simplejson

from .. import capture, program
from ..config.rules import secrets
from ..errors import GoodWeError
from . import captures, client, doctor, status
from .doctor.checks import Machine
from .install.files import FILES, RULE, UNIT
from .install.steps import shipped
from .masking import Masker, files_with_secrets, secrets_in

TIME_LEFT_AT = 38.0
"""Seconds after which no further entry is begun; the longest takes some six."""
LOSSES_WITHIN = 3.0
LOG_BYTES, ROTATED_BYTES = 400_000, 200_000
"""Of the end of the log, and of each rotated one."""
MOST_ROTATED = 2
JOURNAL_LINES = 2000
NO_ENTRIES = "-- No entries --"
ROTATED = re.compile(r"(?:\.\d{1,3}|-\d{8})(?:\.gz)?")
"""Behind the name of the log."""
MOST_CONFIGURATION = 1_000_000
"""Bytes."""
MODE = 0o600
STDOUT = "-"
SUMMARY = "summary.txt"
WELL = ("OK ", "SKIP ")
"""Begin the doctor's lines about what is well."""
TROUBLE = re.compile(r" - (?:WARNING|ERROR|CRITICAL): |systemd\[1\]: .*(?:[Ff]ail|[Ww]atchdog)")
"""Stands in the lines of log and journal that ask for a person."""
LAST_TROUBLES, LAST_LINES, LONGEST_LINE = 12, 5, 500
"""Lines of a log in the summary, and characters of each."""
PACKAGES = ("paho-mqtt", "pyudev", "simplejson", "ioctl-opt", "waitress", "prometheus-client", "amqtt")
DROP_INS = "/etc/systemd/system/goodwe.service.d/*.conf"


class BundleError(GoodWeError):
    """A bundle that cannot be written; the text says what to do."""


def nothing_of(text: str) -> str:
    return ""


def all_of(text: str) -> str:
    return text


class BundleFile(NamedTuple):
    """One file of the bundle."""

    name: str
    about: str
    text: str
    in_short: Callable[[str], str] = nothing_of
    """Gives the lines for the summary, of the text without secrets."""


class Gathered(NamedTuple):
    """All that goes into a bundle, and what could not."""

    files: list[BundleFile]
    left_out: list[tuple[str, str]]
    """Names of entries, and the reason."""
    serials: list[str]
    hosts: list[str]


class BundleEntry(NamedTuple):
    """A row of the table: something that goes into a bundle."""

    name: str
    gather: Callable[[Machine], Iterable[BundleFile]]
    """Raises OSError or ValueError where it cannot be had."""


# --- what goes in


def _doctor(machine: Machine) -> Iterator[BundleFile]:
    findings = list(doctor.examine(machine))
    lines = [*(doctor.told(finding, 0) for finding in findings), doctor.summary(findings)]
    yield BundleFile("doctor.txt", "what the doctor finds", "\n".join(lines) + "\n", _troubles)
    yield BundleFile("doctor.json", "the same for a program", _json(doctor.as_json(findings)))


def _troubles(text: str) -> str:
    """The doctor's lines without those that say that something is well."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(WELL))


def _status(machine: Machine) -> Iterator[BundleFile]:
    if machine.status is None:
        raise ValueError("no program runs, or it does not answer this user")
    text = status.shown(machine.status, status.Style(status.UNLIMITED, colours=False))
    yield BundleFile("status.txt", "how the running program stands", f"{text}\n", all_of)
    yield BundleFile("status.json", "the same for a program", _json(machine.status))


def _configuration(machine: Machine) -> Iterator[BundleFile]:
    raw = _content(machine, machine.config_path, MOST_CONFIGURATION)
    about = f"{machine.config_path} without secrets"
    yield BundleFile("configuration.conf", about, _text(raw), _settings)


def _settings(text: str) -> str:
    """The lines of a configuration that are neither empty nor a comment."""
    lines = (line for line in text.splitlines(keepends=True) if line.strip())
    return "".join(line for line in lines if line.lstrip()[0] not in "#;")


def _log(machine: Machine) -> Iterator[BundleFile]:
    """The log and what was rotated away of it, or the journal of the unit."""
    path = machine.settings.inverter.logfile if machine.settings is not None else "/var/log/goodwe.log"
    found = False
    for each in [path, *_rotated(machine, path)]:
        try:
            raw = _end_of(machine, each, LOG_BYTES if each == path else ROTATED_BYTES)
        except FileNotFoundError:
            continue
        found = True
        about = f"the last lines of {each}"
        in_short = _last_troubles if each == path else nothing_of
        yield BundleFile(f"log/{os.path.basename(each)}", about, _text(raw), in_short)
    if machine.unit_state:
        command = ["journalctl", "-u", "goodwe", "-n", str(JOURNAL_LINES), "--no-pager", "-o", "short-iso"]
        journal = machine.run(command) or ""
        if not journal or NO_ENTRIES in journal[:100]:  # so some are told who may not read it
            why = "this user may not read it; run with sudo" if machine.uid else "nothing is in it"
            raise ValueError(f"the unit's journal: {why}")
        about = "the last lines of the unit's journal"
        yield BundleFile("log/journal.log", about, journal, _last_troubles)
    elif not found:
        raise ValueError(f"there is neither {path} nor a journal of the unit")


def _last_troubles(text: str) -> str:
    """The last warnings and errors of a log, and its very last lines, which tell what is now."""
    lines = text.splitlines()
    troubles = [number for number, line in enumerate(lines) if TROUBLE.search(line)]
    last = range(max(0, len(lines) - LAST_LINES), len(lines))
    numbers = sorted({*troubles[-LAST_TROUBLES:], *last})
    return "".join(f"{lines[number][:LONGEST_LINE]}\n" for number in numbers)


def _losses(machine: Machine) -> Iterator[BundleFile]:
    if machine.status is None:
        raise ValueError("no program runs, or it does not answer this user")
    losses = _asked(machine, "losses")
    if not losses:
        raise ValueError("no inverter was lost since the program started")
    for number, loss in enumerate(losses, 1):
        head = [
            f"# GoodWeUSBLogger capture, form {capture.VERSION}",
            captures.fact("program", machine.status["program"]["version"]),
            captures.fact("wire", loss["name"]),
            *_inverters(machine, loss["name"]),
            captures.fact("lost", f"{_when(loss['lost_epoch'])}, {loss['reason']}"),
        ]
        about = f"the minute before {loss['name']} was lost ({loss['reason']})"
        text = "\n".join([*head, *loss["traffic"], captures.fact(captures.ENDED, "with the loss")]) + "\n"
        yield BundleFile(f"losses/{number}.capture", about, text)


def _versions(machine: Machine) -> Iterator[BundleFile]:
    system = platform.uname()
    release = re.search(r'(?m)^PRETTY_NAME="?([^"\n]*)', machine.text("/etc/os-release") or "")
    lines = [
        f"program {program.version()}",
        f"python {platform.python_version()} at {sys.executable}",
        *(f"package {name} {version}" for name, version in _packages()),
        f"kernel {system.system} {system.release} {system.machine}",
        f"system {release[1] if release else 'unknown'}",
    ]
    yield BundleFile("versions.txt", "Python, packages, kernel", "\n".join(lines) + "\n", all_of)


def _installed(machine: Machine) -> Iterator[BundleFile]:
    """The unit and the rule as they are, and in how far they are not ours."""
    found = False
    for path in [UNIT, f"/lib{UNIT.removeprefix('/etc')}", RULE, f"/lib{RULE.removeprefix('/etc')}"]:
        text = machine.text(path)
        if text is None:
            continue
        found = True
        ours = shipped(FILES[UNIT if path.endswith(os.path.basename(UNIT)) else RULE]).decode().strip()
        difference = "\n".join(
            difflib.unified_diff(ours.split("\n"), text.split("\n"), "as we ship it", path, lineterm="")
        )
        name = f"installed{path}"
        yield BundleFile(name, "as it is installed", f"{text}\n")
        yield BundleFile(f"{name}.diff", "its differences to ours", f"{difference or 'none'}\n")
    for path in machine.paths(DROP_INS):
        yield BundleFile(f"installed{path}", "a drop-in of the unit", f"{machine.text(path) or ''}\n")
    if not found:
        raise ValueError("neither unit nor rule is installed")


ENTRIES = (
    BundleEntry("versions", _versions),
    BundleEntry("doctor", _doctor),
    BundleEntry("status", _status),
    BundleEntry("configuration", _configuration),
    BundleEntry("log", _log),
    BundleEntry("traffic before the last losses", _losses),
    BundleEntry("unit and rule", _installed),
)


def gathered(
    machine: Machine, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
) -> Gathered:
    """All of the entries that can be had, without a secret in them, and the summary in front.

    `clock` and `now` give seconds, the latter since 1970.
    """
    end = clock() + TIME_LEFT_AT
    masker = masker_for(machine)
    files: list[BundleFile] = []
    left_out: list[tuple[str, str]] = []
    for entry in ENTRIES:
        if clock() > end:
            left_out.append((entry.name, "no time left"))
            continue
        try:
            for file in entry.gather(machine):
                is_configuration = file.name.endswith(".conf") and not file.name.startswith("installed")
                masked = masker.configuration(file.text) if is_configuration else masker(file.text)
                name, about = masker.known(file.name), masker.known(file.about)
                files.append(BundleFile(name, about, masked, file.in_short))
        except PermissionError:
            left_out.append((entry.name, "this user may not read it; run with sudo"))
        except OSError as error:
            left_out.append((entry.name, masker(error.strerror or str(error))))
        except Exception as error:  # one that cannot be had must not cost the others
            told = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            left_out.append((entry.name, masker(told)))
    text = _summary(files, left_out, f"Made {_when(now())} by {'root' if not machine.uid else 'no root'}")
    files = [BundleFile(SUMMARY, "read this first: the shortest of all that follows", text), *files]
    return Gathered(files, left_out, _serials(machine, files), _hosts(machine))


def _summary(files: Sequence[BundleFile], left_out: Sequence[tuple[str, str]], made: str) -> str:
    """The text for who wants to know first what is wrong, and has nothing but the bundle."""
    parts = [made + "\n"]
    shown = [(file, file.in_short(file.text)) for file in files]
    parts += [f"{file.name}, {file.about}:\n{text}" for file, text in shown if text]
    if left_out:
        parts.append("left out:\n" + "".join(f"{name}: {why}\n" for name, why in left_out))
    return "\n".join(parts)


def masker_for(machine: Machine) -> Masker:
    """One that knows the secrets of this machine's configuration, whether that is right or not."""
    known: set[str] = set()
    text = ""
    with contextlib.suppress(OSError, ValueError):
        text = _text(_content(machine, machine.config_path, MOST_CONFIGURATION))
    known |= secrets_in(text)
    names: set[str] = set()
    for section in machine.settings.sections.values() if machine.settings is not None else ():
        for row in secrets(section):
            known.add("".join(getattr(section, row.option.attribute)))
        names.add(str(getattr(section, "username", "")))
    known |= {f"{name}:{password}" for name in names for password in known if name and password} | names
    files = set(files_with_secrets(text))
    files |= set(re.findall(r"(?m)^\s*LoadCredential\w*=[^:\s]+:(\S+)", machine.text(UNIT) or ""))
    for name in files:
        for path in [name] if "/" in name else machine.paths(f"/run/credentials/*/{name}"):
            try:
                known |= {_text(_content(machine, path, MOST_CONFIGURATION)).strip("\r\n")}
            except (OSError, ValueError):
                continue
    public = "\n".join(shipped(file).decode() for file in FILES.values())
    return Masker({each for each in known if each}, public)


# --- serials and hosts, for who does not want them in it


def anonymous(found: Gathered) -> Gathered:
    """The same with other serials, hosts and users; each has the same one everywhere."""
    serials = {each: f"{each[:8]}X{number:07}" for number, each in enumerate(found.serials, 1)}
    hosts = {each: f"host-{number}" for number, each in enumerate(found.hosts, 1)}
    users: dict[str, str] = {}

    def replaced(text: str) -> str:
        for each, other in serials.items():
            text = text.replace(each, other)
        for each, other in sorted(hosts.items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"(?<![\w.-]){re.escape(each)}(?![\w-])", other, text)
        text = ADDRESS.sub(lambda one: hosts.setdefault(one[0], f"host-{len(hosts) + 1}"), text)
        return HOME.sub(lambda one: f"{one[1]}{users.setdefault(one[2], f'user-{len(users) + 1}')}", text)

    files = []
    for name, about, text, *_ in found.files:
        text = captures.with_serials(text, serials) if "<" in text else text
        files.append(BundleFile(replaced(name), replaced(about), replaced(text)))
    left_out = [(name, replaced(why)) for name, why in found.left_out]
    return Gathered(files, left_out, list(serials.values()), list(hosts.values()))


ADDRESS = re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
HOME = re.compile(r"(/home/)([^/\s\"']+)")
SERIAL = re.compile(r"\b[0-9]{4,5}[A-Z]{3,4}[0-9A-Z]{8}\b")
LOCAL = ("localhost", "127.0.0.1", "::1", "")


def _serials(machine: Machine, files: Sequence[BundleFile]) -> list[str]:
    """All that the program knows, and whatever else looks like one."""
    known = list((machine.status or {}).get("inverters", {}))
    seen = {found for file in files for found in SERIAL.findall(file.text) if len(found) == 16}
    return [*known, *sorted(seen - set(known))]


def _hosts(machine: Machine) -> list[str]:
    servers = machine.settings.mqtt.server if machine.settings is not None else ()
    names = [*servers, socket.gethostname()]
    return [name for name in dict.fromkeys(names) if name.lower() not in LOCAL]


# --- files of this machine


def _content(machine: Machine, path: str, most: int, *, end: bool = False) -> bytes:
    """At most so many bytes of a regular file, of its beginning or its end. Raises OSError, ValueError."""
    descriptor = os.open(machine.at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no regular file")
        if end:
            file.seek(max(0, os.fstat(descriptor).st_size - most))
        return file.read(most)


def _end_of(machine: Machine, path: str, most: int) -> bytes:
    """The last whole lines of a log, also of one that was compressed. Raises OSError, ValueError."""
    if stat.S_ISLNK(os.lstat(machine.at(path)).st_mode):
        raise ValueError(f"{path} is a link; it may lead anywhere")
    raw = _content(machine, path, most * 10, end=not path.endswith(".gz"))
    if path.endswith(".gz"):
        try:
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(most * 100)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is damaged") from error
    if len(raw) <= most:
        return raw
    return raw[-most:].partition(b"\n")[2]


def _rotated(machine: Machine, path: str) -> list[str]:
    """The newest of the rotated logs."""
    found = [each for each in machine.paths(f"{path}*") if ROTATED.fullmatch(each.removeprefix(path))]
    found.sort(key=lambda each: os.lstat(machine.at(each)).st_mtime, reverse=True)
    return found[:MOST_ROTATED]


def _text(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # an editor of Windows
        return raw.decode("utf-16", "replace")
    return raw.decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\0", "\\0")


def _json(value: Any) -> str:
    return simplejson.dumps(value, sort_keys=True, indent=1, ignore_nan=True) + "\n"


def _asked(machine: Machine, request: str) -> Any:
    """The answer of the program whose status was had. Raises OSError, ValueError."""
    for path in machine.sockets:
        try:
            return client.ask(machine.at(path), request, within=LOSSES_WITHIN)
        except (FileNotFoundError, ConnectionRefusedError):
            continue
    raise ValueError("it does not answer any more")


def _inverters(machine: Machine, wire: str) -> list[str]:
    known = machine.status or {}
    links = [link for link in known.get("links", []) if link["name"] == wire]
    serials = [serial for link in links for serial in link["bus"]["inverters"]] or list(
        known.get("inverters", {})
    )
    models = {serial: known["inverters"].get(serial, {}).get("model") for serial in serials}
    return [captures.inverter(serial, model, wire) for serial, model in models.items()]


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _when(epoch: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(epoch))


# --- the verb


def main(
    arguments: list[str],
    machine: Machine,
    *,
    out: TextIO | None = None,
    ask: Callable[[str], str] | None = None,
    now: Callable[[], float] = time.time,
) -> int:
    """Gather, show what was found, and write it when a person says yes; 0 then, 1 when not.

    `machine` is looked at, `out` is told, `ask` puts a question to a person; `now` is seconds since 1970.
    Raises BundleError.
    """
    options = parse(arguments)
    out = out or sys.stderr
    if ask is None and sys.stdin is not None and sys.stdin.isatty() and options.file != STDOUT:
        ask = _asked_there
    if not options.yes and ask is None:
        raise BundleError("nobody can be asked here whether what is in it may leave the house; add --yes")
    print("Looking at everything; this takes some seconds.", file=out, flush=True)
    found = gathered(machine, now=now)
    if options.anonymous:
        found = anonymous(found)
    path = options.file or _name(found, now())
    width = shutil.get_terminal_size().columns if out.isatty() else 10_000
    print(listing(found, path, width, is_anonymous=options.anonymous), file=out, flush=True)
    if not options.yes and ask is not None and ask("Write it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was written.", file=out)
        return 1
    _write(path, archive(found.files, path, now()))
    if path != STDOUT:
        print(f"Written to {path}. Look into it before you send it: tar -xzf {path}", file=out)
    return 0


def parser() -> argparse.ArgumentParser:
    """For the options."""
    parser = argparse.ArgumentParser(
        prog=f"{program.name()} bundle",
        description="One file for a bug report: what the doctor finds, status, configuration and log without"
        " secrets, the traffic before the last losses. Says what is in it before it writes it.",
        epilog="exit code: 0; 1 nothing was written; 2 wrong arguments. --config and --pidfile stand before"
        " the verb.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="a new file, .tar.gz; named by date and serial without; - for the standard output",
    )
    parser.add_argument("--yes", action="store_true", help="write it without a question")
    parser.add_argument(
        "--anonymous", action="store_true", help="with other serials, hosts and users, the same everywhere"
    )
    return parser


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def listing(found: Gathered, path: str, width: int, *, is_anonymous: bool) -> str:
    """All that is in it, for a person, in lines of at most `width` characters."""
    column = max(len(file.name) for file in found.files)
    lines = [f"In {'the bundle' if path == STDOUT else path} will be:"]
    for name, about, text, *_ in found.files:
        size = f"{max(1, round(len(text.encode()) / 1000))} kB"
        lines += (
            [f"  {name:{column}} {size:>7}  {about}"]
            if width > column + 40
            else [f"  {name} {size}", f"    {about}"]
        )
    lines += [f"  left out: {name}: {why}" for name, why in found.left_out]
    if is_anonymous:
        lines.append("Serials, hosts and users have other names in it, passwords and logins none.")
    else:
        whose = [*(f"inverter {each}" for each in found.serials), *(f"host {each}" for each in found.hosts)]
        named = ", ".join(whose) or "none that is known"
        lines.append(f"It names inverters, hosts and users of this machine ({named});")
        lines.append("--anonymous gives them other names. Passwords and logins are masked.")
    return "\n".join(cut for line in lines for cut in _cut(_shown(line), width))


def archive(files: Sequence[BundleFile], path: str, epoch: float) -> bytes:
    """The bytes of the .tar.gz, its files in a folder of its name."""
    folder = os.path.basename(path).removesuffix(".tar.gz") if path != STDOUT else "goodwe-bundle"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, _, text, *_ in files:
            content = text.encode("utf-8", "backslashreplace")
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(content), MODE, int(epoch)
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def _name(found: Gathered, epoch: float) -> str:
    """By date and serial; of several inverters the first."""
    serials = [re.sub(r"[^\w-]", "_", each) for each in found.serials[:1]]
    return "-".join(["goodwe-bundle", time.strftime("%Y-%m-%d", time.localtime(epoch)), *serials]) + ".tar.gz"


def _write(path: str, content: bytes) -> None:
    if path == STDOUT:
        done = 0
        while done < len(content):
            done += os.write(1, content[done:])
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError:
        raise BundleError(f"{path} is there already; name another file") from None
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}; name another file") from error
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        os.unlink(path)
        raise BundleError(f"cannot write {path}: {error.strerror}; name another file") from error


def _asked_there(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _shown(line: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _cut(line: str, width: int) -> Iterator[str]:
    """The line in pieces of the width; what follows the first is indented."""
    while len(line) > width:
        at = line.rfind(" ", 8, width + 1)
        at = at if at > 0 else width
        yield line[:at].rstrip()
        line = f"    {line[at:].lstrip()}"
    yield line
