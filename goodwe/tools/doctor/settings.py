"""Is the configuration what its owner means, and readable by who must read it."""

import os
import re
import shlex
import stat

from ... import config
from ...config.source import Source
from ...errors import ConfigError
from .checks import SERVICE_USER, UNIT, WITH_SUDO, Check, Machine, Result, ShellCommand, fail, ok, skip, warn


def configuration(machine: Machine) -> Result:
    _, _, problem = machine.loaded
    if problem is not None and isinstance(problem.__cause__, PermissionError):
        return warn(f"{machine.config_path}: this user may not read it", WITH_SUDO)
    if problem is not None:
        return fail(str(problem), _right(machine, problem))
    if not machine.exists(machine.config_path):
        return ok(f"{machine.config_path} is not there: the defaults are in force")
    return ok(f"{machine.config_path} is right")


def configuration_warnings(machine: Machine) -> Result:
    settings, warnings, _ = machine.loaded
    if settings is None:
        return skip("the configuration cannot be read")
    warnings = [text for text in warnings if config.SEEN_BY_ALL not in text]  # that is the next question
    if not warnings:
        return ok("nothing odd in it")
    source = Source(machine.text_of_config, machine.config_path)
    left_over = sorted(line for line in (source.line_of(*key) for key in config.LEFT_OVER) if line)
    if len(left_over) == len(warnings):
        return warn("; ".join(warnings), machine.edit(";".join(f"{line}s/^/#/" for line in left_over)))
    nano = f"sudo nano {shlex.quote(machine.config_path)}"
    return warn("; ".join(warnings), f"change it: {nano}; then {machine.restart}")


def secrets(machine: Machine) -> Result:
    """Files with a password that others can read."""
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    mqtt = settings.mqtt
    files = [mqtt.passwordfile or machine.config_path] if mqtt.password else []
    files += [mqtt.keyfile] if mqtt.keyfile else []
    exposed = [path for path in files if (_mode(machine, path) or 0) & stat.S_IROTH]
    if exposed:
        close = (
            _for_the_unit_alone(exposed) if _has_user(machine) else f"sudo chmod o-rwx {shlex.join(exposed)}"
        )
        return warn(f"everybody can read {', '.join(exposed)}", ShellCommand(close))
    return ok("no secret that others can read" if files else "there is no secret")


def configuration_of_the_service(machine: Machine) -> Result:
    """The unit runs as a user that must be there, and able to read the file."""
    if not machine.unit_state:
        return skip("no unit of systemd")
    if not _has_user(machine):
        add = f"sudo adduser --system --group --no-create-home {SERVICE_USER}"
        unit = machine.text(machine.unit_file) or ""
        if not re.search(rf"^User={SERVICE_USER}$", unit, re.MULTILINE):
            return skip(f"the unit does not run as {SERVICE_USER}")
        return fail(
            f"there is no user {SERVICE_USER}, as which the unit runs",
            ShellCommand(f"{add} && sudo systemctl restart {UNIT}"),
        )
    if _mode(machine, machine.config_path) is None:
        return skip(f"{machine.config_path} is not there, or cannot be seen")
    files = [machine.config_path, *_files_of_the_broker(machine)]
    closed = [path for path in files if not _is_open_to_the_unit(machine, path)]
    if not closed:
        return ok(f"the user {SERVICE_USER} can read {machine.config_path}")
    if not machine.is_of_systemd:
        return skip("systemd does not run it")
    return fail(
        f"the user {SERVICE_USER}, as which the unit runs, cannot read {', '.join(closed)}",
        ShellCommand(f"{_for_the_unit_alone(closed)} && sudo systemctl restart {UNIT}"),
    )


def _files_of_the_broker(machine: Machine) -> list[str]:
    """The files that the program reads again at each connection; a credential comes from systemd."""
    if machine.settings is None:
        return []
    mqtt = machine.settings.mqtt
    named = (mqtt.passwordfile, mqtt.cafile, mqtt.certfile, mqtt.keyfile)
    return [path for path in named if path.startswith("/")]


def _is_open_to_the_unit(machine: Machine, path: str) -> bool:
    """True if the unit's user can read it by its mode; also where it cannot be seen."""
    mode = _mode(machine, path)
    if mode is None:
        return True
    found = os.stat(machine.at(path))
    in_group = machine.group(found.st_gid) == SERVICE_USER and mode & stat.S_IRGRP
    return bool(mode & stat.S_IROTH or in_group or machine.user(found.st_uid) == SERVICE_USER)


def _right(machine: Machine, problem: ConfigError) -> str:
    """The remedy for a mistake in the file."""
    nano = (
        f"sudo nano {'+' + str(problem.line) + ' ' if problem.line else ''}{shlex.quote(machine.config_path)}"
    )
    if problem.meant is not None:
        typed, meant = problem.meant
        return machine.edit(f"{problem.line}s/{re.escape(typed)}/{meant}/I")
    if problem.droppable and problem.line:
        return machine.edit(f"{problem.line}s/^/#/", by_hand="and write there what is right")
    return f"write there what is right: {nano}; then {machine.restart}"


def _has_user(machine: Machine) -> bool:
    return machine.has_user(SERVICE_USER)


def _for_the_unit_alone(files: list[str]) -> str:
    """The command that lets root and the unit's user read these files, and nobody else."""
    names = shlex.join(files)
    return f"sudo chown root:{SERVICE_USER} {names} && sudo chmod 640 {names}"


def _mode(machine: Machine, path: str) -> int | None:
    try:
        return os.stat(machine.at(path)).st_mode
    except OSError:
        return None


CHECKS = (
    Check("configuration", "Is the configuration right?", configuration),
    Check("warnings", "Is something in it probably not meant so?", configuration_warnings),
    Check("secrets", "Can others read a secret?", secrets),
    Check("service-user", "Can the unit's user read it?", configuration_of_the_service),
)
