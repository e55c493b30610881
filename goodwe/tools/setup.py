"""`setup`: the broker's host, user and password are asked for, tried as the doctor does, and written down.

Every other line of the configuration stays as it is. The password is neither shown nor taken from the command
line.
"""

import argparse
import getpass
import grp
import os
import re
import stat
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from .. import config, program
from ..config import Config, Secret, parsers
from ..config.edit import edited
from ..config.source import Source, decoded, normalized
from ..errors import ConfigError, GoodWeError, InstallError
from ..writable import why_not_now
from . import doctor, reload
from .doctor import broker
from .doctor.checks import SERVICE_USER, Check, Grade, Machine
from .install.files import PASSWORD
from .install.system import System

if TYPE_CHECKING:
    from ..outputs.mqtt.settings import MqttSettings

SECTION = "mqtt"
KEYS = ("server", "port", "username", "password", "passwordfile")
"""Everything in that section that it sets."""
DONE, FAILED = 0, 1
"""Exit codes; 2 is for wrong arguments, and for a configuration that is wrong elsewhere."""
NOTHING = "-"
"""The answer of who wants no user or no password."""
TRIED = {"broker-name", "broker-port", "tls", "login", "takes"}
"""Checks of the doctor, and one of ours."""
CHECKS = (
    *(check for check in broker.CHECKS if check.name in TRIED),
    Check("publish", "Does it let the program publish?", broker.may_publish),
)
PASSWORD_FILE = os.path.basename(PASSWORD)
"""Beside the configuration, for a password that cannot stand in that."""


class SetupError(GoodWeError):
    """It cannot be done; the text says what to do."""


class SetupAnswers(NamedTuple):
    """The answers; None leaves a setting as it is."""

    server: str | None = None
    port: str | None = None
    username: str | None = None
    password: str | None = None


class File(NamedTuple):
    """The configuration file as it is, links followed."""

    path: str
    text: str
    """With its own line ends and byte order marks."""
    mode: int
    user: int
    group: int


class New(NamedTuple):
    """Everything that is to be written."""

    settings: Config
    """In force then; those that are tried."""
    text: str
    """Of the configuration."""
    passwordfile: str = ""
    """The file that the password goes to where it does not stand in the configuration."""


def main(arguments: list[str], machine: Machine) -> int:
    """Ask, try and write; gives the exit code. Raises ConfigError, SetupError, InstallError."""
    options, given = parse(arguments)
    file = _file_at(os.path.realpath(machine.config_path))
    asks = sys.stdin.isatty()
    if options.password_stdin and not asks:
        given = given._replace(password=_password_in(sys.stdin.buffer))
    answers = given
    if asks:
        _new(file, given)  # a wrong option could not be put right by any answer
    while True:
        try:
            answers = _asked(given, answers, _settings(file).mqtt) if asks else given
            new = _new(file, answers)
        except EOFError:
            raise SetupError("\nnothing was written") from None
        except UnicodeDecodeError:
            print("what was typed is not UTF-8 text", file=sys.stderr)
            continue
        except ConfigError as error:
            if not asks:
                raise
            print(re.sub(rf"^{re.escape(file.path)}(:\d+)?: ", "", str(error)), file=sys.stderr)
            continue
        if not options.test or _is_good(machine, new.settings):
            break
        if not asks:
            raise SetupError("nothing was written; --no-test writes what was not tried")
        print("Once more; Ctrl-C leaves everything as it was.")
    if (new.text, new.passwordfile) == (file.text, "") and os.path.exists(file.path):
        print(f"{file.path} says so already.")
    else:
        _write(file, new)
        print(f"{file.path} is written.")
    return _put_in_force(machine)


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} setup",
        description="Asks for the broker's host, user and password, tries them, and writes them into the"
        " configuration. What an option says is not asked for; without a terminal nothing is, and what no"
        " option says stays as it is.",
        epilog="exit code: 0 written; 1 the broker or the disk does not take it; 2 wrong arguments or"
        " configuration",
        allow_abbrev=False,  # --password would be one, with the password behind it
    )
    made.add_argument("--server", metavar="HOST", help="the broker's host; several separated by commas")
    made.add_argument("--port", metavar="PORT", help="the broker's port, which is never asked for")
    made.add_argument("--username", metavar="NAME", help="user at the broker; '' for none")
    made.add_argument(
        "--password-stdin", action="store_true", help="the password is the line on the standard input"
    )
    made.add_argument("--no-test", dest="test", action="store_false", help="write it without trying it")
    return made


def parse(arguments: list[str]) -> tuple[argparse.Namespace, SetupAnswers]:
    """The options, and the answers in them. A wrong one ends the program with usage and exit code 2."""
    made = parser()
    options = made.parse_args(arguments)
    given = SetupAnswers(options.server, options.port, options.username and options.username.strip())
    if given == SetupAnswers() and not options.password_stdin and not sys.stdin.isatty():
        made.error("nobody can be asked here: add --server, --username and --password-stdin")
    return options, given


# --- asking


def _asked(given: SetupAnswers, last: SetupAnswers, present: "MqttSettings") -> SetupAnswers:
    """The answers to what was not given; the empty one is the `last` one, or what is in force."""
    server = given.server
    if server is None:
        server = _line("Host of the broker", last.server or ", ".join(present.server))
    username = given.username
    if username is None:
        before = present.username if last.username is None else last.username
        username = _line(f"User name at the broker, {NOTHING} for none", before)
    if not username:
        return SetupAnswers(server, given.port, "", "")
    password, hint = last.password, "as just typed"
    if password is None and username == present.username and (present.password or present.passwordfile):
        hint = "as it is"
    elif not password:
        password, hint = "", "none"
    typed = getpass.getpass(f"Password of {username}, {NOTHING} for none [{hint}]: ")
    return SetupAnswers(server, given.port, username, "" if typed == NOTHING else typed or password)


def _line(question: str, before: str) -> str:
    answer = input(f"{question} [{before or 'none'}]: ").strip() or before
    return "" if answer == NOTHING else answer


def _password_in(stream: BinaryIO) -> str:
    """The only line of a stream, without its end. Raises SetupError."""
    data = stream.read(parsers.LONGEST_FIELD + 3)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SetupError("the password on the standard input is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


# --- the settings, before they are written


def _file_at(path: str) -> File:
    """The file, or the sample in place of none. Raises ConfigError, SetupError."""
    folder = os.path.dirname(path)
    if why := why_not_now(path) or _why_no_file_in(folder):
        raise SetupError(f"{path}: cannot be written: {why}")
    try:
        with open(path, "rb") as opened:
            data, found = opened.read(), os.fstat(opened.fileno())
    except FileNotFoundError:
        return File(path, config.sample(), 0o640, os.geteuid(), _group())
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror}; run this with sudo") from error
    text = _without_mistakes(decoded(data, path), path)
    return File(path, text, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def _why_no_file_in(folder: str) -> str:
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied; run this with sudo"


def _group() -> int:
    """Number of the group that a new file is for, besides its owner."""
    try:
        return grp.getgrnam(SERVICE_USER).gr_gid if os.geteuid() == 0 else os.getegid()
    except KeyError:
        return 0


def _without_mistakes(text: str, path: str) -> str:
    """The text with wrong values of ours out of force. Raises ConfigError for any other mistake."""
    for _ in KEYS:
        try:
            config.parse(normalized(text), path, to_run=False)
            break
        except ConfigError as error:
            source = Source(normalized(text), path)
            wrong = [key for key in KEYS if error.line and source.line_of(SECTION, key) == error.line]
            if not wrong:
                raise
            text = edited(text, SECTION, {wrong[0]: None})
    return text


def _settings(file: File) -> Config:
    return config.parse(normalized(file.text), file.path, to_run=False)[0]


def _new(file: File, answers: SetupAnswers) -> New:
    """The settings with these answers, and how they are written down. Raises ConfigError for a bad answer."""
    present = _settings(file)
    now = {
        "server": ", ".join(present.mqtt.server),
        "port": str(present.mqtt.port),
        "username": present.mqtt.username,
    }
    values: dict[str, str | None] = {
        key: value for key in now if (value := getattr(answers, key)) is not None and value != now[key]
    }
    for key, value in values.items():
        if value and not _is_utf8(value):
            raise ConfigError(f"{key} must be UTF-8 text")
    password = "" if answers.username == "" else answers.password  # of no use without a user
    if password is None or (password == present.mqtt.password and not present.mqtt.passwordfile):
        new = file._replace(text=edited(file.text, SECTION, values))
        return New(_read_back(new, present, {*values}), new.text)
    out_of_force: dict[str, str | None] = {"password": None, "passwordfile": None}
    bare = _settings(file._replace(text=edited(file.text, SECTION, values | out_of_force)))
    settings = bare.having(replace(bare.mqtt, password=_password(password)))
    to = present.mqtt.passwordfile
    if password and to.startswith("/"):
        return New(settings, edited(file.text, SECTION, values), os.path.realpath(to))
    if password != password.strip():
        to = os.path.join(os.path.dirname(file.path), PASSWORD_FILE)
        if os.path.lexists(to):
            told = "begins or ends with a blank: it needs a file of its own, named by passwordfile"
            raise ConfigError(f"a password that {told}; {to} is there already")
        return New(settings, edited(file.text, SECTION, values | out_of_force | {"passwordfile": to}), to)
    new = file._replace(text=edited(file.text, SECTION, values | out_of_force | {"password": password}))
    if _read_back(new, present, {*values, *out_of_force}) != settings:
        raise _not_here(file.path)
    return New(settings, new.text)


def _is_utf8(text: str) -> bool:
    """False with bytes in it that were none, from the command line or a terminal."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _password(text: str) -> Secret:
    """Raises ConfigError for what cannot be one."""
    if "\n" in text or "\r" in text:
        raise ConfigError("a password of several lines needs a file of its own, named by passwordfile")
    try:
        return parsers.password(text)
    except ValueError as error:
        raise ConfigError(f"the password must be {error}") from error


def _read_back(file: File, present: Config, keys: set[str]) -> Config:
    """The settings that the parser finds in the new file.

    Raises SetupError where they differ from the `present` ones in more than these keys.
    """
    settings = config.parse(normalized(decoded(file.text.encode(), file.path)), file.path, to_run=False)[0]
    ours = {key: getattr(settings.mqtt, key) for key in keys}
    if present.having(replace(present.mqtt, **ours)) != settings:
        raise _not_here(file.path)
    return settings


def _not_here(path: str) -> SetupError:
    return SetupError(f"{path} has a form in which nothing can be changed here; change it by hand")


# --- trying them


def _is_good(machine: Machine, settings: Config) -> bool:
    """True if the broker takes them; says what came of each step."""
    for finding in doctor.examine(machine.trying(settings), groups={"broker": CHECKS}):
        result = finding.result
        if result.grade is not Grade.SKIP:
            print(doctor.told(finding._replace(result=result._replace(remedy="")), 0), flush=True)
        if result.grade is Grade.FAIL:
            return False
    return True


# --- writing them


def _write(file: File, new: New) -> None:
    """Put the new text in place of the old one, whole or not at all. Raises SetupError, InstallError."""
    system = System()
    before = system.read(new.passwordfile) if new.passwordfile else None
    present = _settings(file)
    try:
        if new.passwordfile:
            _write_password(system, file, new)
        found = _read_back(file._replace(text=new.text), present, {*KEYS})
        if replace(found.mqtt, passwordfile="") != replace(new.settings.mqtt, passwordfile=""):
            raise _not_here(file.path)
        system.write(file.path, new.text.encode(), mode=file.mode, user=file.user, group=file.group)
    except (GoodWeError, InstallError):
        if new.passwordfile and before is None:
            system.remove(new.passwordfile)
        elif new.passwordfile and before is not None:
            _write_password(system, file, new, before)
        raise


def _write_password(system: System, file: File, new: New, content: bytes | None = None) -> None:
    """With the rights of the file that is there, else those of the configuration, without everybody.

    Where everybody may read that one, the service's user has no other way to it: here he has his group.
    """
    path, mode, user, group = new.passwordfile, file.mode & ~stat.S_IRWXO, file.user, file.group or _group()
    if os.path.exists(path):
        found = os.stat(path)
        mode, user, group = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    if content is None:
        content = str.__str__(new.settings.mqtt.password).encode() + b"\n"
    system.write(path, content, mode=mode, user=user, group=group)


def _put_in_force(machine: Machine) -> int:
    """Have the running program read it; without one, or without the right to ask it, say what does that."""
    running = (machine.status or {}).get("program", {}).get("configuration", "")
    if running and os.path.realpath(running) == os.path.realpath(machine.config_path):
        return reload.main(machine.pidfile)
    for warning in config.load(machine.config_path, required=True, to_run=False)[1]:
        print(warning, file=sys.stderr)
    verb = "put it in force" if machine.may_not_ask else "start the program"
    print(f"To {verb}: {machine.verb('reload') if machine.may_not_ask else machine.start}")
    return DONE
