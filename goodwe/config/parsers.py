"""How the text of a setting becomes its value; a ValueError says what would be right, to follow "must be"."""

import codecs
import configparser
import logging
import os
import re
import shlex
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..paths import CONFIGURATION
from ..writable import (
    LONGEST_PATH,
    STANDARD_STREAMS,
    is_no_place_for_a_log,
    subsystem,
    why_never,
)

LONGEST_FIELD = 65_535
"""Bytes that a text in MQTT can have, as UTF-8."""
LONGEST_ENDING = len(".damaged-journal")
"""Bytes; of the files that we make beside those that have a name in the configuration."""
LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path that the kernel takes."""
ROOM = 100
"""Bytes that a topic and the client id leave for what is appended: a serial, a key, `/device/.../config`."""
MOST_SLASHES = 200
"""In a topic, with what is appended: at one more mosquitto ends the connection, or does not let us in."""
FILE_NAME = re.compile(r"[A-Za-z._/-]*|[01]|/.*", re.DOTALL)
"""The shape of the name of a password file; anything else may be the password itself."""
QUOTES = "\"'`\u201c\u201d\u201e\u201f\u2018\u2019\u201a\xab\xbb"
"""Also those that a word processor makes."""
COMMENT = re.compile(r"(?:^|\s)[#;]")
"""The place where people begin a comment behind a value; configparser takes it for a part of the value."""
NOT_A_PATH = {
    *("on", "off", "yes", "no", "true", "false", "none", "null", "0", "1", "enabled", "disabled"),
    *("enable", "disable", "y", "n", "auto", "default", "-", ":memory:"),
}
"""Words that mean a switch; nobody wants a file of that name."""
NOT_A_LOG = {*("syslog", "journal", "journald", "stdout", "stderr", "console", "terminal")}
"""Places that other programs log to by such a word."""


class Secret(str):
    """A text that shows itself only to who asks for it by name."""

    __slots__ = ()

    def __new__(cls, text: str = "") -> "Secret":
        return super().__new__(cls, str.__str__(text))

    def __repr__(self) -> str:
        return "'***'" if self else "''"

    def __str__(self) -> str:
        return "***" if self else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


# --- numbers and words


def level(raw: str) -> int:
    """A Python logging level by name."""
    found = logging.getLevelNamesMapping().get(raw.upper())
    if not found:
        raise ValueError("one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
    return found


def _number(raw: str) -> int:
    """A whole number; -1 for what is none. Not int(): that also takes 1_000 and digits of other scripts."""
    return int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 20 else -1


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number in a range."""

    def parse(raw: str) -> int:
        if lowest <= _number(raw) <= highest:
            return _number(raw)
        raise ValueError(f"a whole number from {lowest} to {highest}")

    return parse


def poll_interval(raw: str) -> int:
    """Milliseconds. After ten minutes without a query the inverter forgets its address (PROTOCOL 4)."""
    if _number(raw) >= 500:
        return min(_number(raw), 300_000)
    raise ValueError("a whole number, at least 500")


def usb_id(raw: str) -> int:
    """A USB number in hex, of any case, with or without 0x."""
    digits = raw.lower().removeprefix("0x")
    if 1 <= len(digits) <= 4 and all(digit in "0123456789abcdef" for digit in digits):
        return int(digits, 16)
    raise ValueError("up to four hexadecimal digits, such as 0084")


def switch(raw: str) -> bool:
    """on or off, in the words that configparser knows."""
    found = configparser.ConfigParser.BOOLEAN_STATES.get(raw.lower())
    if found is None:
        raise ValueError("on or off")
    return found


def one_of(*words: str) -> Callable[[str], str]:
    """One of some words, of any case."""

    def parse(raw: str) -> str:
        if raw.lower() in words:
            return raw.lower()
        raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")

    return parse


def user(raw: str) -> str:
    """The name of a user of this machine; empty for none."""
    import pwd  # here, since most programs never need it

    try:
        return pwd.getpwnam(raw).pw_name if raw else raw
    except KeyError:
        make = "sudo adduser --system --group --no-create-home goodwe"
        raise ValueError(f"the name of a user of this machine ({make} makes one)") from None


# --- texts that go to the broker


def _is_text(raw: str) -> bool:
    """True if MQTT takes it as text: no control characters, surrogates or non-characters."""
    return not any(
        character < " "
        or "\x7f" <= character <= "\x9f"
        or "\ud800" <= character <= "\udfff"
        or "\ufdd0" <= character <= "\ufdef"
        or ord(character) & 0xFFFE == 0xFFFE
        for character in raw
    )


def _fitting(raw: str, longest: int) -> str:
    if len(raw.encode()) > longest:
        raise ValueError(f"at most {longest} bytes long")
    return raw


def text(raw: str, *, longest: int = LONGEST_FIELD) -> str:
    """A text that MQTT can carry, of at most so many bytes."""
    if not _is_text(raw):
        raise ValueError("text without control characters")
    return _fitting(raw, longest)


def client_id(raw: str) -> str:
    """The name of a connection; that of a further inverter's has its serial behind it."""
    return text(raw, longest=LONGEST_FIELD - ROOM)


def password(raw: str) -> Secret:
    """The password of a login; any bytes, as long as they are text in the file."""
    if any("\ud800" <= character <= "\udfff" for character in raw):
        raise ValueError("UTF-8 text")
    return Secret(_fitting(raw, LONGEST_FIELD))


def topic(raw: str) -> str:
    """A topic to publish below, as `<topic>/<serial>/data`."""
    return _topic(raw, below=2)


def announcement_topic(raw: str) -> str:
    """A topic to publish below, as `<prefix>/device/<name>/config`."""
    return _topic(raw, below=3)


def _topic(raw: str, *, below: int) -> str:
    if not raw or any(character in "+#" or not character.isprintable() for character in raw):
        raise ValueError("a topic without + and #")
    if raw.count("/") + below > MOST_SLASHES:
        most = MOST_SLASHES - below
        raise ValueError(f"a topic with at most {most} slashes: at more levels brokers close the connection")
    return _fitting(raw, LONGEST_FIELD - ROOM)


def is_below(topic: str, root: str) -> bool:
    """True if a topic is `root` or below it."""
    return f"{topic}/".startswith(f"{root}/")


def has_empty_level(topic: str) -> bool:
    """True if a slash too many makes a level without a name; legal, and mostly not meant."""
    return "" in topic.split("/")


def web_path(raw: str) -> str:
    """The path of a URL."""
    if not raw.startswith("/") or not all("!" <= character <= "~" for character in raw) or len(raw) > 2000:
        raise ValueError("a path such as /mqtt, in ASCII without blanks")
    return raw


# --- hosts


def servers(raw: str) -> tuple[str, ...]:
    """Host names or addresses, separated by commas; an IPv6 address may stand in brackets."""
    hosts = tuple(_without_brackets(host.strip()) for host in raw.split(","))
    if all(map(_is_host, hosts)):
        return hosts
    told = "a host name or address, or several separated by commas (the port has its own key)"
    if "@" in raw:
        told += "; the login has keys of its own, username and password"
    scheme = raw.lower().partition("://")[0]
    if scheme in ("mqtts", "ssl", "tls", "wss"):
        told += "; tls = on encrypts"
    if scheme in ("ws", "wss"):
        told += "; transport = websockets takes websockets"
    raise ValueError(told)


def _without_brackets(host: str) -> str:
    bare = host[1:-1]
    return bare if host.startswith("[") and host.endswith("]") and ":" in bare else host


def _is_host(host: str) -> bool:
    """True if it has the form of a host; only the resolver knows more."""
    if ":" in host:
        address, percent, zone = host.partition("%")
        return _is_address(address) and (not percent or (zone.isprintable() and bool(zone.split())))
    labels = host.removesuffix(".").split(".")
    if all(label.isascii() and label.isdigit() for label in labels):
        try:
            socket.inet_aton(host)
        except OSError:
            return False
    fits = len(host) <= 253 and all(1 <= len(label) <= 63 for label in labels)
    return fits and all(letter.isalnum() or letter in "-_." for letter in host)


def _is_address(text: str) -> bool:
    """True if it is an IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


# --- files


FOLDER: ContextVar[str] = ContextVar("FOLDER", default="")
"""Where relative paths begin; empty for the working directory."""


@contextmanager
def relative_to(folder: str) -> Iterator[None]:
    """Read files with that in place of the working directory, which is / once the daemon runs."""
    token = FOLDER.set(folder)
    try:
        yield
    finally:
        FOLDER.reset(token)


def _path(raw: str, meant: str) -> str:
    """The full path: the daemon works in /. `meant` says what would be right."""
    if raw.lower() in NOT_A_PATH or raw[0] in QUOTES or not _is_text(raw):
        raise ValueError(meant)
    if raw.startswith(("~", "$", "file:")):
        raise ValueError(f"{meant}, from / on; ~, $ and file: are not replaced")
    if raw.endswith("/"):
        raise ValueError(f"{meant}, not a folder")
    return os.path.abspath(os.path.join(FOLDER.get(), raw))


def _mode(path: str, meant: str) -> int:
    """The mode of what is there; 0 for nothing, or where we may not look. Raises ValueError for no path."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, PermissionError):  # who starts it may know more
        return 0
    except OSError as error:
        raise ValueError(f"{meant} ({error.strerror})") from error


def own_file(example: str, *, longest: int = LONGEST_PATH) -> Callable[[str], str]:
    """A file that we make, replace and delete; empty for none. `longest`: bytes of its path at most."""
    meant = f"the path of a file, such as {example}, or nothing for none"

    def parse(raw: str) -> str:
        if not raw:
            return raw
        path = _path(raw, meant)
        mode = _mode(path, meant)
        if mode and not stat.S_ISREG(mode):  # /dev/null would be replaced as well
            raise ValueError(f"{meant}, not a folder or a device")
        if why := why_never(path, ending=LONGEST_ENDING, longest=longest):
            raise ValueError(f"{meant} ({why})")
        return path

    OF_FILES.add(parse)
    WRITTEN.add(parse)
    return parse


def log_file(raw: str) -> str:
    """A file to log to, in a folder that is there or can be made."""
    meant = "the path of a file to log to"
    if not raw:
        raise ValueError(meant)
    if raw.lower() in NOT_A_LOG:
        raise ValueError(f"{meant}; in the foreground it logs to the terminal, in a unit to the journal")
    path = _path(raw, f"{meant}; /dev/null is there for no log")
    if path in STANDARD_STREAMS:
        return path
    target = os.path.realpath(path)
    mode, folder = _mode(target, meant), os.path.dirname(target)
    if mode and not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise ValueError(f"{meant}, not a folder, a pipe or a socket")
    if stat.S_ISCHR(mode):
        if is_no_place_for_a_log(os.stat(target).st_rdev):
            raise ValueError(f"{meant}; /dev/null is there for no log, this device takes none")
        return path
    if why := why_never(target):
        raise ValueError(f"{meant} ({why})")
    if not mode and _is_missing(folder) and not _can_be_made(folder):
        raise ValueError(f"{meant} in a folder that is there; make it: sudo mkdir -p {folder}")
    return path


def _is_missing(path: str) -> bool:
    """True if nothing is there; where we may not look, something may be."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _can_be_made(folder: str) -> bool:
    """True for folders as after a boot with the logs in memory; not for one of / itself: that is a slip."""
    above = folder
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return above != "/" and os.path.isdir(above)


def make_log_folder(path: str) -> None:
    """Make the folder of a log file, if it is missing where `log_file` allows that. Raises OSError."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder) and _can_be_made(folder):
        os.makedirs(folder, exist_ok=True)


def existing_file(raw: str) -> str:
    """A file that can be read; empty for none."""
    if not raw:
        return raw
    meant = "the path of a file that can be read"
    path = _path(raw, f"{meant}, or nothing for none")
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError:
        is_file, allowed = True, False
    except OSError:
        raise ValueError(meant) from None
    else:
        allowed = os.access(path, os.R_OK)
    if is_file and not allowed:
        raise OutOfReach(f"{meant} (Permission denied; run this with sudo, or chown and chmod 640)")
    if not is_file:
        raise ValueError(meant)
    return path


def password_file(raw: str) -> str:
    """A file, or the name of a credential that systemd gives to its unit: outside of it the name stays."""
    if not raw:
        return raw
    path = _path(raw, PASSWORD_FILE)
    if "/" in raw:
        return path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return os.path.join(folder, raw) if folder is not None else raw


PASSWORD_FILE = "the path of a file, or in a unit of systemd the name of a credential"


def wide_encoding(data: bytes) -> str:
    """Name of the encoding of several bytes a character that a text begins in; empty where none shows."""
    zeros = [byte == 0 for byte in data[:4]]
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if zeros in ([False, True, True, True], [True, True, True, False]):
        return "UTF-32"
    has_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "UTF-16" if has_mark or zeros[:2].count(True) == 1 else ""


class OutOfReach(ValueError):
    """The daemon may be able to read it; we are not."""


def _in_a_unit(credential: str, configuration: str) -> str:
    """The command that runs a verb where the credential is: a unit of its own, which begins in /."""
    from .. import program  # here, since only a mistake needs it

    name = credential if FILE_NAME.fullmatch(credential) else "NAME"
    called = f"$PWD/{program.SCRIPT}" if program.is_checkout() else str(program.executable())
    file = shlex.quote(os.path.abspath(configuration))
    option = "" if configuration == CONFIGURATION else f" --config {file}"
    load = f"-p LoadCredential={name}:/etc/goodwe.password"
    return f"sudo systemd-run --pipe --wait {load} {called}{option} VERB"


def read_password(file: str, *, configuration: str = CONFIGURATION) -> tuple[Secret, int]:
    """The password in a file that `password_file` has given, and the mode of the file.

    `configuration` is the path of the file that names it, for advice.

    Raises ValueError, as OutOfReach where another user or the unit of systemd may have it.
    """
    if "/" not in file:
        raise OutOfReach(f"must be {PASSWORD_FILE}; elsewhere: {_in_a_unit(file, configuration)}")
    meant = "a file that can be read"
    try:
        with open(file, "rb") as opened:
            data, mode = opened.read(LONGEST_FIELD + 8), os.fstat(opened.fileno()).st_mode
    except PermissionError as error:
        raise OutOfReach(f"must be {meant} ({error.strerror}; sudo helps, or chown and chmod 600)") from error
    except OSError as error:
        raise ValueError(f"must be {meant} ({error.strerror})") from error
    if len(data) > LONGEST_FIELD + len("\ufeff\r\n".encode()):
        raise ValueError(f"the password in it must be at most {LONGEST_FIELD} bytes long")
    if found := wide_encoding(data):
        raise ValueError(f"must be {meant} (not UTF-8 text: it is {found}; save it as UTF-8)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"must be {meant} (not UTF-8 text)") from error
    try:
        return password(text.rstrip("\r\n")), mode
    except ValueError as error:
        raise ValueError(f"the password in it must be {error}") from error


def device(raw: str) -> str:
    """Nothing, a node, or a stand-in's socket."""
    if not raw:
        return raw
    meant = "/dev/hidrawN, unix:/path of a stand-in, or nothing to find the inverter"
    if raw.startswith("unix:") and raw != "unix:":
        path = _path(raw[5:], meant)
        if len(os.fsencode(path)) > LONGEST_SOCKET:
            raise ValueError(f"{meant}, of at most {LONGEST_SOCKET} bytes")
        mode = _mode(path, meant)
        if mode and not stat.S_ISSOCK(mode):
            raise ValueError(f"{meant}; this one is no socket")
        if why := why_never(path):
            raise ValueError(f"{meant} ({why})")
        return f"unix:{path}"
    if not raw.startswith("/") or not _is_text(raw):
        raise ValueError(meant)
    name = os.path.basename(raw)
    several = any(character in "*?[,; \t" for character in raw)
    if name in ("hidrawN", "hidraw") or COMMENT.search(raw) or several:
        raise ValueError(f"{meant}: one node with its number, or nothing for all of them")
    if name.startswith(("tty", "serial", "rfcomm")) or raw.startswith("/dev/serial/"):
        raise ValueError(f"{meant}; this is a serial port, and the inverter's USB port is none")
    if name.startswith("hiddev"):
        raise ValueError(f"{meant}; hiddev is another way to such devices")
    if raw.startswith(("/dev/bus/", "/dev/input/", "/dev/disk/", "/dev/net/")):
        raise ValueError(f"{meant}; this is another kind of device")
    mode = _mode(raw, meant)
    if not mode and name in ("", ".", ".."):  # once the node is there, nothing is at such a path
        raise ValueError(f"{meant}, without a slash at the end")
    if mode and not (stat.S_ISCHR(mode) and _may_be_hidraw(raw)):
        raise ValueError(f"{meant}; this is there, and is no hidraw node")
    if why := why_never(raw):
        raise ValueError(f"{meant} ({why})")
    return raw


def _may_be_hidraw(node: str) -> bool:
    """True if the kernel says so, or says nothing: a container may not have its tree."""
    try:
        number = os.stat(node).st_rdev
    except OSError:
        return True
    return subsystem(number) in ("hidraw", "")


WRITTEN: set[Callable[[str], str]] = {log_file}
"""The parsers of names of files that we write."""
OWN_QUOTES: set[Callable[[str], object]] = set()
"""The parsers of values in which quotes have a meaning."""
OF_FILES: set[Callable[[str], str]] = {log_file, existing_file, password_file}
"""The parsers of values that are the name of a file."""
