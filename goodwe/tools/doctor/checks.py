"""A check, its result, and the machine that it looks at."""

import contextlib
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import config, paths
from ...config import Config
from ...config.parsers import OutOfReach, read_password
from ...config.source import Source
from ...errors import ConfigError, StartError
from ...instance import holder_of
from ...program import HOME
from ...transport.wire import Ids
from ...users import name_of
from .. import client

if TYPE_CHECKING:
    from DaemonPy import Holder

COMMAND_WITHIN = 3.0
"""Seconds for another program to answer."""
ANSWER_WITHIN = 2.0
"""Seconds for the running program to answer at its control socket."""
SERVICE_USER = "goodwe"
UNIT = "goodwe"
UNIT_FILES = tuple(
    f"{folder}/systemd/system/{UNIT}.service" for folder in ("/etc", "/lib", "/usr/lib", "/run")
)
RESTARTD = "/etc/restartd.conf"
RESTARTD_LINE = r"^[^#]*GoodWe\.py"
"""A line that is no comment; for Python and for sed."""
WITH_SUDO = "run this with sudo"


class Grade(Enum):
    """How a check ended, from good to bad."""

    OK = "OK"
    SKIP = "SKIP"
    WARN = "WARN"
    FAIL = "FAIL"


class ShellCommand(str):
    """A remedy that is a line for the shell: copied as it stands, it mends; behind # is what else helps."""


class Result(NamedTuple):
    """The finding of a check, in a line each."""

    grade: Grade
    text: str
    remedy: str = ""
    """The thing to do: a ShellCommand to copy, or words where no command does it."""


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
    """Its folder below /sys/bus/usb/devices, without the root in front."""
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
        options: Sequence[str] = (),
        root: str = "/",
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
        run: Callable[[list[str]], str | None] | None = None,
        ask: Callable[[str], Any] | None = None,
    ) -> None:
        """`config_file` is None for the default path, `pidfile` the path of the daemon's pid file.

        `program` is the command that starts this one, and `options` are what it was given before its verb.
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
        self._ask = ask or (lambda path: client.ask(path, "status", within=ANSWER_WITHIN))
        self._root = root
        # A name without a folder is found by the shell.
        self.program = os.path.abspath(program) if os.sep in program else program
        self.options = options
        self._locked_out: list[str] = []
        """Sockets that this user may not ask at."""
        self.remembered: dict[str, object] = {}
        """For checks that share one look."""

    def trying(self, settings: Config) -> "Machine":
        """The same machine as if these were its settings, and no program ran with others."""

        def nobody(path: str) -> Any:
            raise FileNotFoundError(path)

        other = Machine(
            config_file=self.config_file,
            pidfile=self.pidfile,
            program=self.program,
            options=self.options,
            root=self._root,
            environ=self.environ,
            uid=self.uid,
            run=self.run,
            ask=nobody,
        )
        other.loaded = settings, [], None
        return other

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
            error.args = tuple(str(text).replace(path, self.config_path) for text in error.args)
            return None, [], error
        warnings = [text.replace(path, self.config_path) for text in warnings]
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
    def container(self) -> str:
        """The kind of container that this is; empty for a machine."""
        kind = self.text("/run/systemd/container")
        if kind is None and self.exists("/.dockerenv"):
            kind = "docker"
        if kind is None and self.exists("/run/.containerenv"):
            kind = "podman"
        return kind or ""

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
        return list(dict.fromkeys((paths.socket_beside(self.pidfile), paths.SYSTEMD_SOCKET)))

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
                if client.is_snapshot(answer):
                    snapshot: dict[str, Any] = answer
                    return snapshot
        return None

    @property
    def runs_with(self) -> str:
        """Path of the configuration that the running program has read; empty if none runs, or tells."""
        program = self.status["program"] if self.status is not None else {}
        return program["configuration"] if program.get("configuration_seconds") is not None else ""

    @property
    def may_not_ask(self) -> bool:
        """True if a program may run, but not for this user to ask."""
        return self.status is None and bool(self._locked_out)

    @cached_property
    def unit_file(self) -> str:
        """Path of the unit that is installed; empty without one, or without systemd."""
        if not self.exists("/run/systemd/system"):
            return ""
        # One that is masked leads to nowhere, and is there all the same.
        return next((path for path in UNIT_FILES if os.path.lexists(self.at(path))), "")

    @cached_property
    def unit_state(self) -> str:
        """Of goodwe.service, as systemd has it; empty where there is no systemd or no such unit."""
        return self.asked_of_unit("ActiveState")

    def asked_of_unit(self, name: str, unit: str = UNIT) -> str:
        """A property of a unit, as systemd has it; empty where it does not know or ours is not there."""
        if unit == UNIT and not self.unit_file:
            return ""
        return (self.run(["systemctl", "show", "-P", name, unit]) or "").strip()

    @cached_property
    def is_of_systemd(self) -> bool:
        """True where systemd is to run the program, whether it does so now or not."""
        return self.unit_state not in ("", "inactive") or self.asked_of_unit("UnitFileState") == "enabled"

    @property
    def holder(self) -> "Holder":
        """The daemon's pid file, and who has it. Raises StartError when that cannot be read."""
        return holder_of(self.at(self.pidfile))

    @cached_property
    def is_classic(self) -> bool:
        """True where a daemon has a pid file, or had one when it died, and no unit is to run it."""
        try:
            holder = self.holder
        except StartError:
            return False
        return holder.locked or (not self.is_of_systemd and holder.exists and holder.pid is not None)

    @cached_property
    def restartd_lines(self) -> list[str]:
        """The lines by which restartd looks after it."""
        lines = (self.text(RESTARTD) or "").splitlines()
        return [line for line in lines if re.match(RESTARTD_LINE, line)]

    # --- remedies

    def own_file(self, name: str) -> str:
        """Path of a file that comes with the program, as the shell takes it."""
        return shlex.quote(os.fspath(HOME / name))

    def verb(self, verb: str) -> str:
        """The command that does so with the program, its configuration and its pid file."""
        return f"sudo {shlex.join([self.program, *self.options, verb])}"

    @property
    def start(self) -> str:
        """The command that starts it when it does not run, in the way in which it is started here."""
        return self.verb("start") if self._is_no_unit else self.start_of_unit

    @property
    def restart(self) -> str:
        """The command that starts it anew, whoever runs it; one that does not run as well."""
        if self.is_of_systemd:
            return f"sudo systemctl restart {UNIT}"
        return self.verb("restart") if self._is_no_unit else self.start_of_unit

    @property
    def _is_no_unit(self) -> bool:
        return not self.unit_file or self.is_classic or bool(self.restartd_lines)

    @cached_property
    def start_of_unit(self) -> str:
        """The command that starts the unit, now and at each boot, also one that is masked."""
        steps = [f"sudo systemctl enable --now {UNIT}"]
        if self.asked_of_unit("LoadState") == "masked":
            there = any(os.path.isfile(self.at(path)) for path in UNIT_FILES)  # not /dev/null
            steps = [f"sudo systemctl unmask {UNIT}", *(steps if there else [self.verb("install")])]
        return " && ".join(steps)

    @property
    def pid(self) -> str:
        """Number of the process that answers; empty without one."""
        return str(self.status["program"]["pid"]) if self.status is not None else ""

    def keep_one_of(self, pids: Sequence[str]) -> ShellCommand:
        """The command that ends all of these processes but one: the unit's, since that would come back."""
        known = (self.asked_of_unit("MainPID"), self.pid, self.text(self.pidfile) or "")
        kept = next((pid for pid in known if pid in pids), pids[0])
        kill = f"kill {' '.join(pid for pid in pids if pid != kept)}"
        # A small system has none but the shell's own.
        return ShellCommand(f"sudo {kill}" if shutil.which("kill") else f"sudo sh -c '{kill}'")

    def outside(self, command: str) -> str:
        """A remedy for what a container shares with its machine: a command, there in words."""
        if self.container:
            return f"on the machine that this container runs on: {command}"
        return ShellCommand(command)

    def edit(self, script: str, *, by_hand: str = "") -> ShellCommand:
        """The command that changes the configuration by a script of sed, and has the program read it.

        `by_hand` is what else could be done there, in words.
        """
        file = shlex.quote(self.config_path)
        told = f"  # or: sudo nano {file}{', ' if by_hand else ''}{by_hand}"
        return ShellCommand(f"sudo sed -i {shlex.quote(script)} {file} && {self.restart}{told}")

    def setting(self, section: str, key: str, value: str, *, by_hand: str = "") -> ShellCommand | None:
        """The command that gives a key of the file another value; None for one that it does not set."""
        line = Source(self.text_of_config, self.config_path).line_of(section, key)
        return self.edit(f"{line}s|[=:].*|= {value}|", by_hand=by_hand) if line else None

    @property
    def text_of_config(self) -> str:
        """The file as it stands, with the empty lines; nothing where it cannot be read."""
        try:
            with open(self.at(self.config_path), encoding="utf-8-sig", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

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
        return name_of(number)


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
