"""A check, its result, and the machine that it looks at."""

import contextlib
import glob
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

from ... import config, control
from ...config import Config
from ...config.parsers import OutOfReach, read_password
from ...errors import ConfigError
from ...transport.wire import Ids

COMMAND_WITHIN = 3.0
"""Seconds for another program to answer."""
ANSWER_WITHIN = 2.0
"""Seconds for the running program to answer at its control socket."""
SERVICE_USER = "goodwe"
WITH_SUDO = "run this with sudo"


class Grade(Enum):
    """How a check ended, from good to bad."""

    OK = "OK"
    SKIP = "SKIP"
    WARN = "WARN"
    FAIL = "FAIL"


class Result(NamedTuple):
    """The finding of a check, in a line each."""

    grade: Grade
    text: str
    remedy: str = ""
    """The thing to do; a command to copy where there is one."""


def ok(text: str) -> Result:
    return Result(Grade.OK, text)


def skip(text: str) -> Result:
    """It does not apply here, or could not be looked at; `text` says why."""
    return Result(Grade.SKIP, text)


def warn(text: str, remedy: str) -> Result:
    return Result(Grade.WARN, text, remedy)


def fail(text: str, remedy: str) -> Result:
    return Result(Grade.FAIL, text, remedy)


class UsbDevice(NamedTuple):
    """A device on the USB bus, as the kernel shows it."""

    folder: str
    """Its folder below /sys/bus/usb/devices, with the root in front."""
    ids: str
    """vendor:product, four hexadecimal digits each."""
    product: str


class Node(NamedTuple):
    """A hidraw node, as the kernel shows it."""

    path: str
    """As a person types it, without the root in front."""
    ids: Ids


class Machine:
    """The machine, as far as checks look at it; tests give one of files."""

    def __init__(
        self,
        *,
        config_file: str | None,
        pidfile: str,
        program: str = sys.argv[0],
        root: str = "/",
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
        run: Callable[[list[str]], str | None] | None = None,
        ask: Callable[[str], Any] | None = None,
    ) -> None:
        """`config_file` is None for the default path, `pidfile` the path of the daemon's pid file.

        `program` is the path that starts this one.
        `root` stands in front of each path that is read.

        `environ` and `uid` are those of the process, where not given. `run` gives what a command prints, None
        where it is missing, fails or takes too long; `ask` what the program that listens on a control socket
        answers to `status`, raising OSError or ValueError.
        """
        # What stands on the command line may be relative; `root` goes in front of what is not.
        self.config_file = os.path.abspath(config_file) if config_file is not None else None
        self.pidfile = os.path.abspath(pidfile)
        self.environ = os.environ if environ is None else environ
        self.uid = os.geteuid() if uid is None else uid
        self.run = run or output_of
        self._ask = ask or (lambda path: control.ask(path, "status", within=ANSWER_WITHIN))
        self._root = root
        self.program = os.path.abspath(program)
        self._locked_out: list[str] = []
        """Sockets that this user may not ask at."""
        self.remembered: dict[str, object] = {}
        """For checks that share one look."""

    # --- files

    def at(self, path: str) -> str:
        """A path of this machine, to be opened."""
        return os.path.join(self._root, path.lstrip("/"))

    def text(self, path: str) -> str | None:
        """The content of a file, stripped; None where it cannot be read."""
        try:
            with open(self.at(path), encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return os.path.exists(self.at(path))

    def paths(self, pattern: str) -> list[str]:
        """The paths that a pattern with * fits, without the root in front, sorted."""
        root = self._root.rstrip("/")
        return sorted(path.removeprefix(root) for path in glob.glob(self.at(pattern)))

    # --- the configuration

    @property
    def config_path(self) -> str:
        return self.config_file or config.PATH

    @cached_property
    def loaded(self) -> tuple[Config | None, list[str], ConfigError | None]:
        """The settings, warnings about them, and why there are none."""
        path, required = self.at(self.config_path), self.config_file is not None
        try:
            settings, warnings = config.load(path, required=required, to_run=False)
        except ConfigError as error:
            return None, [], error
        # That is so for everybody but the program itself, and no mistake.
        return settings, [text for text in warnings if config.OUT_OF_REACH not in text], None

    @cached_property
    def password_is_out_of_reach(self) -> bool:
        """True if only the program itself can read the password, as a credential of its unit."""
        mqtt = self.settings.mqtt if self.settings is not None else None
        if mqtt is None or not mqtt.passwordfile:
            return False
        try:
            read_password(mqtt.passwordfile)
        except OutOfReach:
            return True
        except ValueError:
            pass
        return False

    @property
    def settings(self) -> Config | None:
        """None when the configuration is wrong."""
        return self.loaded[0]

    @property
    def ids(self) -> Ids:
        """USB numbers of the inverter that is looked for."""
        if self.settings is None:
            return Ids(0x0084, 0x0041)
        return Ids(self.settings.inverter.vendorid, self.settings.inverter.modelid)

    # --- what the kernel shows

    @cached_property
    def usb(self) -> list[UsbDevice]:
        devices = []
        for file in self.paths("/sys/bus/usb/devices/*/idVendor"):
            folder = os.path.dirname(file)
            ids = f"{self.text(file)}:{self.text(f'{folder}/idProduct')}"
            devices.append(UsbDevice(folder, ids, self.text(f"{folder}/product") or ""))
        return devices

    @property
    def inverters(self) -> list[UsbDevice]:
        """The devices on the USB bus."""
        return [device for device in self.usb if device.ids == str(self.ids)]

    @cached_property
    def nodes(self) -> list[Node]:
        """The inverters' hidraw nodes."""
        found = []
        for file in self.paths("/sys/class/hidraw/*/device/uevent"):
            facts = dict(line.partition("=")[::2] for line in (self.text(file) or "").splitlines())
            with contextlib.suppress(ValueError):
                _, vendor, product = (int(number, 16) for number in facts.get("HID_ID", "").split(":"))
                found.append(Node(f"/dev/{file.split('/')[4]}", Ids(vendor, product)))
        return [node for node in found if node.ids == self.ids]

    # --- the running program

    @property
    def sockets(self) -> list[str]:
        """Where a running program may listen: beside the pid file, or where systemd has it."""
        return list(dict.fromkeys((control.path_beside(self.pidfile), control.SYSTEMD_SOCKET)))

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """The answer of the running program; None without one."""
        for path in self.sockets:
            try:
                answer = self._ask(self.at(path))
            except PermissionError:
                self._locked_out.append(path)
            except (OSError, ValueError):
                continue
            else:
                if isinstance(answer, dict):
                    return answer
        return None

    @property
    def may_not_ask(self) -> bool:
        """True if a program may run, but not for this user to ask."""
        return self.status is None and bool(self._locked_out)

    @cached_property
    def unit_state(self) -> str:
        """Of goodwe.service, as systemd has it; empty where there is no systemd or no such unit."""
        if not self.exists("/run/systemd/system"):
            return ""
        if not self.paths("/etc/systemd/system/goodwe.service") and not self.paths(
            "/lib/systemd/system/goodwe.service"
        ):
            return ""
        return (self.run(["systemctl", "show", "-P", "ActiveState", "goodwe.service"]) or "").strip()

    def has_user(self, name: str) -> bool:
        lines = (self.text("/etc/passwd") or "").splitlines()
        return any(line.startswith(f"{name}:") for line in lines)

    def group(self, number: int) -> str:
        """Name of a group; its number where it has none."""
        for line in (self.text("/etc/group") or "").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2] == str(number):
                return fields[0]
        return str(number)

    def user(self, number: int) -> str:
        """Name of a user; its number where it has none."""
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            return str(number)


class Check(NamedTuple):
    """A row of the doctor's table."""

    name: str
    asks: str
    """The question that it answers."""
    run: Callable[[Machine], Result]


def output_of(command: list[str]) -> str | None:
    """The output of a command; None where it is missing, fails, or takes longer than a few seconds."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
