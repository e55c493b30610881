"""The steps of `install`, `uninstall` and of taking over for Debian's package: a row each."""

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ... import program
from ...errors import InstallError
from ...instance import known_daemon
from .files import (
    CONFIGURATION,
    FILES,
    LOGROTATE,
    PASSWORD,
    RULE,
    UNIT,
    USER,
    FileState,
    ShippedFile,
    judge,
    started_by,
    unit_for,
)
from .system import RECORD, System

STATE = "/var/lib/goodwe"
LOG = "/var/log/goodwe.log"
COMMENT = "GoodWeUSBLogger"
SERVICE = "goodwe.service"
RESTARTD_CONF = "/etc/restartd.conf"
HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
"""Folders that the unit does not see, by its ProtectHome= and PrivateTmp=."""
FOR_ALL = (
    "install it where every user can read it: sudo PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin"
    " pipx install goodwe-usb-logger, or the folder in /opt"
)


class Plan(NamedTuple):
    """The wishes of whoever calls."""

    system: System
    service: bool
    """True for the unit of systemd, False for `start` and restartd."""
    purge: bool
    """True if `uninstall` is to take configuration, totals and log as well."""
    pidfile: str


class InstallStep(NamedTuple):
    """One step; it may be done again at any time."""

    name: str
    """The beginning of the line that says what became of it."""
    run: Callable[[Plan], str]
    """Does it, and gives the rest of that line; empty where there is nothing to say. Raises InstallError."""


# --- looking


def shipped(file: ShippedFile) -> bytes:
    """The content of a file of etc/ for this machine's place of the program."""
    content = (program.HOME / "etc" / file.source).read_bytes()
    if file.target != UNIT:
        return content
    readme = os.fspath(program.HOME / "README.md")
    return unit_for(content.decode(), os.fspath(program.executable()), readme).encode()


def found(system: System, file: ShippedFile) -> FileState:
    """The state of that file at its place."""
    there, wanted = system.read(file.target), shipped(file)
    state = judge(file, there, wanted, system.known(file.target))
    if there is not None and there == (program.HOME / "etc" / file.source).read_bytes() != wanted:
        return FileState.OURS  # the unit as it is in etc/, copied by hand
    is_link = system.at(file.target).is_symlink()
    return FileState.EDITED if is_link and state is FileState.OURS else state


def has_systemd(system: System) -> bool:
    return any(system.exists(folder) for folder in FILES[UNIT].needs) and system.has_command("systemctl")


def systemd_runs(system: System) -> bool:
    return system.is_whole and system.exists("/run/systemd/system")


# --- steps of install


def check_place(plan: Plan) -> str:
    """The unit's user has to be able to read the program, and the Python that runs it."""
    executable = program.executable()
    if plan.service and plan.system.is_whole:
        for path in (executable, program.HOME / "goodwe", program.python()):
            if os.fspath(path).startswith(HIDDEN) or not readable_by_all(path):
                trouble = f"{path} cannot be read by the unit's user {USER}; {FOR_ALL}"
                if not plan.system.dry:
                    raise InstallError(trouble)
                plan.system.left.append(trouble)
                break
    return os.fspath(executable)


def readable_by_all(path: Path) -> bool:
    """True if every user can read it, and may pass each folder above."""
    path = path.resolve()
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    above = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    return above and path.stat().st_mode & wanted == wanted


def make_group(plan: Plan) -> str:
    system = plan.system
    if system.group(USER) is not None:
        return "is there already"
    system.command("groupadd", *_prefix(system), "--system", USER)
    system.note_made("group")
    # A rule from before names a group that udev did not find; that of Debian 13 reads only what changed.
    system.touch(RULE)
    return "made"


def make_user(plan: Plan) -> str:
    system = plan.system
    if (number := system.user(USER)) is not None:
        return f"is there already, as number {number}"
    options = ["--system", "--gid", USER, "--no-create-home", "--home-dir", "/nonexistent"]
    options += ["--shell", "/usr/sbin/nologin", "--comment", COMMENT]
    system.command("useradd", *_prefix(system), *options, USER)
    system.note_made("user")
    return "made"


def _prefix(system: System) -> tuple[str, ...]:
    return () if system.is_whole else ("--prefix", os.path.abspath(system.root))


def place(file: ShippedFile) -> Callable[[Plan], str]:
    """A step that puts that file in place."""

    def run(plan: Plan) -> str:
        system = plan.system
        if file.needs and not any(system.exists(folder) for folder in file.needs):
            return f"left out: there is no {' or '.join(file.needs)}"
        return _placed(system, file)

    return run


def _placed(system: System, file: ShippedFile) -> str:
    wanted = shipped(file)
    state = found(system, file)
    if state in (FileState.MISSING, FileState.OURS):
        group = (system.group(file.group) or 0) if file.group != "root" else 0
        system.write(file.target, wanted, mode=file.mode, group=group)
        system.note_file(file.target, wanted)
        return "put there" if state is FileState.MISSING else "put there in place of an earlier version"
    if state is FileState.SAME:
        system.note_file(file.target, wanted)
        return "is there already"
    return _offered(system, file, wanted, foreign=state is FileState.FOREIGN)


def _offered(system: System, file: ShippedFile, wanted: bytes, *, foreign: bool) -> str:
    """Leave the file as it is; the new version lies beside it, once."""
    beside = f"{file.target}{file.beside}"
    whose = "another program's" if foreign else "was edited"
    if foreign:
        system.left.append(f"{file.target} is another program's; ours is {beside}: make one of both by hand")
    if system.was_offered(file.target, wanted):
        return f"{whose}: left as it is"
    system.write(beside, wanted, mode=file.mode)
    system.note_offer(file.target, wanted)
    return f"{whose}: left as it is, the new version is {beside}"


def guard_configuration(plan: Plan) -> str:
    """It may hold a password: for root and the unit's user alone."""
    system = plan.system
    path = system.at(CONFIGURATION)
    if path.is_symlink():
        return "is a link: see to it that root and the group goodwe alone can read its file"
    group = system.group(USER)
    if path.exists() and group is not None:
        state = path.stat()
        if (state.st_gid, stat.S_IMODE(state.st_mode)) == (group, 0o640):
            return "for root and the group goodwe alone"
        system.give(CONFIGURATION, 0, group, 0o640)
    return "now for root and the group goodwe alone"


def make_state_folder(plan: Plan) -> str:
    system = plan.system
    if not plan.service:
        return ""
    was_there = system.exists(STATE)
    user, group = system.user(USER), system.group(USER)
    if user is not None and group is not None:
        system.make_folder(STATE, user, group)
    return f"is there already, of the user {USER}" if was_there else f"made, of the user {USER}"


def apply_rule(plan: Plan) -> str:
    """For an inverter that is plugged in already."""
    system = plan.system
    if not system.is_whole or not system.exists("/run/udev/control"):
        return "left out: udev does not run here"
    system.command("udevadm", "control", "--reload")
    system.command("udevadm", "trigger", "--subsystem-match=hidraw", "--subsystem-match=usb")
    system.command("udevadm", "settle", "--timeout=10")
    return "the rule holds, also for what is plugged in already"


def stop_daemon(plan: Plan) -> str:
    """Two programs push each other from the broker, so one in the background ends before the unit starts."""
    if not plan.service or not plan.system.is_whole or (plan.system.left and not _unit_is_ours(plan.system)):
        return ""
    out = io.StringIO()
    daemon = known_daemon(plan.pidfile, out=out, err=out)
    if daemon.status() != 0:
        return ""
    if not plan.system.dry and daemon.stop() != 0:
        raise InstallError(out.getvalue().splitlines()[-1])
    return "the one in the background ends, its configuration stays"


def pause_restartd(plan: Plan) -> str:
    """It starts the program again wherever it sees none, as between the end of one and the unit's start."""
    system = plan.system
    text = (system.read(RESTARTD_CONF) or b"").decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if "GoodWe.py" in line and not line.lstrip().startswith("#")]
    if not plan.service or not lines:
        return ""
    remedy = f"sudo sed -i '/GoodWe.py/d' {RESTARTD_CONF} && sudo systemctl restart restartd"
    system.left.append(f"restartd would start a second one while the unit is down: {remedy}")
    if systemd_runs(system) and system.asked("systemctl", "is-active", "restartd.service") == "active":
        system.command("systemctl", "stop", "restartd.service")
        system.restartd_paused = True
    return f"{RESTARTD_CONF} has a line of ours"


def resume_restartd(system: System) -> None:
    """Let it go on. Raises InstallError."""
    if system.restartd_paused:
        system.restartd_paused = False
        system.command("systemctl", "start", "restartd.service")


def start_unit(plan: Plan) -> str:
    system = plan.system
    if not plan.service:
        return "left out: start it with " + f"sudo {program.command()} start"
    if not has_systemd(system):
        return f"left out: no systemd here; start it with sudo {program.command()} start"
    if not _unit_is_ours(system):
        return "left out: it would start another program"
    if system.at(UNIT).is_symlink() and os.readlink(system.at(UNIT)) == os.devnull:
        system.left.append("the unit is masked: sudo systemctl unmask goodwe")
        return "left out: it is masked"
    if not system.is_whole:
        system.command("systemctl", f"--root={os.path.abspath(system.root)}", "enable", SERVICE)
        return "enabled"
    if not systemd_runs(system):
        system.command("systemctl", "enable", SERVICE)
        return "enabled; systemd does not run here"
    system.command("systemctl", "daemon-reload")
    system.command("systemctl", "enable", SERVICE)
    system.command("systemctl", "restart", SERVICE)
    return "enabled and started"


def _unit_is_ours(system: System) -> bool:
    """True if the unit there starts this program; one that starts another of ours is told."""
    text = system.read(UNIT)
    if text is None or system.at(UNIT).is_symlink():
        return True
    starts, ours = started_by(text.decode("utf-8", "replace")), os.fspath(program.executable())
    if not any(mark in starts for mark in FILES[UNIT].marks):
        return system.dry and found(system, FILES[UNIT]) is FileState.OURS
    if starts != ours and found(system, FILES[UNIT]) is FileState.EDITED:
        told = f"{UNIT} starts {starts}, not {ours}: change it, or take what is beside it"
        if told not in system.left:
            system.left.append(told)
    return True


# --- steps of uninstall


def stop_unit(plan: Plan) -> str:
    system = plan.system
    if not has_systemd(system) or not system.exists(UNIT) or not _unit_is_ours(system):
        return ""
    if systemd_runs(system):
        system.command("systemctl", "disable", "--now", SERVICE)
        return "stopped and disabled"
    where = [] if system.is_whole else [f"--root={os.path.abspath(system.root)}"]
    system.command("systemctl", *where, "disable", SERVICE)
    return "disabled"


def take_away(file: ShippedFile) -> Callable[[Plan], str]:
    """A step that takes that file away; one that was edited keeps its content under another name."""

    def run(plan: Plan) -> str:
        system = plan.system
        state = found(system, file)
        for leftover in (f"{file.target}{file.beside}",):
            if system.was_offered(file.target, system.read(leftover) or b""):
                system.remove(leftover)
        if state is FileState.FOREIGN:
            return "another program's: left as it is"
        if state is FileState.MISSING:
            return ""
        if file.target == CONFIGURATION and not plan.purge:
            return f"stays; sudo {program.command()} uninstall --purge takes it away"
        if state is FileState.EDITED and not plan.purge:
            system.rename(file.target, f"{file.target}.old")
            system.forget(file.target)
            return f"was edited: it is {file.target}.old now"
        system.remove(file.target)
        system.forget(file.target)
        return "taken away"

    return run


def reload(plan: Plan) -> str:
    system = plan.system
    if system.is_whole and system.exists("/run/udev/control"):
        system.command("udevadm", "control", "--reload")
        system.command("udevadm", "trigger", "--subsystem-match=hidraw", "--subsystem-match=usb")
    if systemd_runs(system):
        system.command("systemctl", "daemon-reload")
    return ""


def take_data(plan: Plan) -> str:
    system = plan.system
    if not plan.purge:
        return "stay" if system.exists(STATE) else ""
    logs = sorted(system.at("/var/log").glob("goodwe.log*"))
    for path in (STATE, PASSWORD, *(f"/var/log/{log.name}" for log in logs)):
        system.remove(path)
    return "taken away"


def take_user(plan: Plan) -> str:
    system = plan.system
    if system.user(USER) is None and system.group(USER) is None:
        return ""
    if not plan.purge:
        return "stays, for what stays is its own"
    if not system.record["made"]:
        return "stays: it was there before"
    if "user" in system.record["made"] and system.user(USER) is not None:
        system.command("userdel", *_prefix(system), USER)
    if "group" in system.record["made"] and (system.dry or system.group(USER) is not None):
        system.command("groupdel", *_prefix(system), USER)
    return "taken away"


def take_record(plan: Plan) -> str:
    system = plan.system
    if plan.purge:
        system.remove(os.path.dirname(RECORD))
    return ""


# --- steps of Debian's package, which brings its own files


def set_aside(file: ShippedFile) -> Callable[[Plan], str]:
    """A step that makes way for the package's own file, of which one in /etc would take the place."""

    def run(plan: Plan) -> str:
        system = plan.system
        state = found(system, file)
        masked = system.at(file.target).is_symlink()
        if state is FileState.MISSING or masked:
            return ""
        if state is FileState.FOREIGN:
            system.left.append(f"{file.target} is another program's, and takes the place of the package's")
            return "another program's: left as it is"
        if state is not FileState.EDITED:
            system.remove(file.target)
            system.forget(file.target)
            return "taken away: the package has its own"
        if file.target == RULE:
            return "was edited: left as it is, in place of the package's"
        system.rename(file.target, f"{file.target}.old")
        system.forget(file.target)
        system.left.append(f"what was changed in {file.target}.old: put it into `systemctl edit goodwe`")
        return f"was edited: it is {file.target}.old now"

    return run


# --- the tables

INSTALL = (
    InstallStep("program", check_place),
    InstallStep(f"group {USER}", make_group),
    InstallStep(f"user {USER}", make_user),
    InstallStep(CONFIGURATION, place(FILES[CONFIGURATION])),
    InstallStep(f"{CONFIGURATION}, rights", guard_configuration),
    InstallStep(STATE, make_state_folder),
    InstallStep(RULE, place(FILES[RULE])),
    InstallStep(LOGROTATE, place(FILES[LOGROTATE])),
    InstallStep("udev", apply_rule),
    InstallStep(UNIT, lambda plan: place(FILES[UNIT])(plan) if plan.service else "left out"),
    InstallStep("restartd", pause_restartd),
    InstallStep("daemon", stop_daemon),
    InstallStep("unit", start_unit),
)
UNINSTALL = (
    InstallStep("unit", stop_unit),
    InstallStep("daemon", stop_daemon),
    InstallStep(UNIT, take_away(FILES[UNIT])),
    InstallStep(RULE, take_away(FILES[RULE])),
    InstallStep(LOGROTATE, take_away(FILES[LOGROTATE])),
    InstallStep("udev", reload),
    InstallStep(CONFIGURATION, take_away(FILES[CONFIGURATION])),
    InstallStep("totals and log", take_data),
    InstallStep(f"user {USER}", take_user),
    InstallStep(RECORD, take_record),
)
TAKE_OVER = (
    InstallStep(UNIT, set_aside(FILES[UNIT])),
    InstallStep(RULE, set_aside(FILES[RULE])),
    InstallStep("restartd", pause_restartd),
    InstallStep("daemon", stop_daemon),
)
