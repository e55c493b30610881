"""Is the configuration what its owner means, and readable by who must read it."""

import os
import stat

from .checks import SERVICE_USER, WITH_SUDO, Check, Machine, Result, fail, ok, skip, warn


def configuration(machine: Machine) -> Result:
    settings, _, problem = machine.loaded
    if problem is not None and isinstance(problem.__cause__, PermissionError):
        return warn(f"{machine.config_path}: this user may not read it", WITH_SUDO)
    if settings is None:
        return fail(str(problem), f"sudo nano {machine.config_path}")
    if not machine.exists(machine.config_path):
        return ok(f"{machine.config_path} is not there: the defaults are in force")
    return ok(f"{machine.config_path} is right")


def configuration_warnings(machine: Machine) -> Result:
    settings, warnings, _ = machine.loaded
    if settings is None:
        return skip("the configuration cannot be read")
    if warnings:
        return warn("; ".join(warnings), f"sudo nano {machine.config_path}")
    return ok("nothing odd in it")


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
        return warn(f"everybody can read {', '.join(exposed)}", f"sudo chmod o-rwx {' '.join(exposed)}")
    return ok("no secret that others can read" if files else "there is no secret")


def configuration_of_the_service(machine: Machine) -> Result:
    """The unit runs as a user that must be able to read the file."""
    if not machine.has_user(SERVICE_USER) or not machine.unit_state:
        return skip("no unit of systemd that runs as goodwe")
    mode = _mode(machine, machine.config_path)
    if mode is None:
        return skip(f"{machine.config_path} is not there, or cannot be seen")
    owner = os.stat(machine.at(machine.config_path))
    in_group = machine.group(owner.st_gid) == SERVICE_USER and mode & stat.S_IRGRP
    if mode & stat.S_IROTH or in_group or machine.user(owner.st_uid) == SERVICE_USER:
        return ok(f"the user {SERVICE_USER} can read {machine.config_path}")
    return fail(
        f"the user {SERVICE_USER}, as which the unit runs, cannot read {machine.config_path}",
        f"sudo chown root:{SERVICE_USER} {machine.config_path} && sudo chmod 640 {machine.config_path}",
    )


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
