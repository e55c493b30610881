"""Does it run, how was it started, and does it read the inverter."""

import os
import shlex
from collections import Counter
from itertools import pairwise
from typing import Any

from ... import config
from ...errors import StartError
from .checks import (
    RESTARTD,
    RESTARTD_LINE,
    SERVICE_USER,
    UNIT,
    WITH_SUDO,
    Check,
    Machine,
    Result,
    ShellCommand,
    fail,
    ok,
    skip,
    warn,
)

LATE = 30.0
"""Seconds without a reading of an inverter that is online, at the usual poll interval."""
LATE_ROUNDS = 3
"""Poll intervals that may pass without one, where the interval is long."""


def program(machine: Machine) -> Result:
    status = machine.status
    try:
        holder = machine.holder
    except StartError as error:
        return fail(str(error), "run with sudo")
    if status is not None:
        differs = _other_configuration(machine, status)
        if differs is not None:
            return differs
        return ok(f"it runs, pid {status['program']['pid']}, version {status['program']['version']}")
    if machine.may_not_ask and (holder.locked or machine.unit_state == "active"):
        return warn(
            "it runs, but this user may not ask it", f"{WITH_SUDO}, or as one in group {SERVICE_USER}"
        )
    if holder.locked:
        told = f"pid {holder.pid} holds {machine.pidfile} and does not answer"
        return fail(told, ShellCommand(machine.verb("restart")))
    if machine.unit_state == "active":
        return fail("the unit is active and does not answer", ShellCommand(machine.restart))
    if holder.exists and holder.pid is not None:
        told = f"it is dead, its pid file {machine.pidfile} remains"
        return fail(told, ShellCommand(machine.start))
    return warn("it does not run", ShellCommand(machine.start))


def unit(machine: Machine) -> Result:
    state = machine.unit_state
    if not state:
        return skip("no unit of systemd is installed")
    if machine.asked_of_unit("LoadState") == "masked":
        return fail("goodwe.service is masked: nothing may start it", ShellCommand(machine.start_of_unit))
    if state == "active":
        if machine.asked_of_unit("UnitFileState") == "disabled":
            return warn(
                "goodwe.service is active, and will not be after a boot",
                ShellCommand(machine.start_of_unit),
            )
        return ok("goodwe.service is active")
    if state in ("failed", "activating"):
        return fail(
            f"goodwe.service is {state}",
            ShellCommand(f"sudo systemctl restart {UNIT}  # why it is so: journalctl -u {UNIT} -n 20"),
        )
    if not machine.is_of_systemd and (machine.restartd_lines or machine.is_classic):
        return skip("goodwe.service is installed, and not what starts it")
    return warn(f"goodwe.service is {state}", ShellCommand(machine.start_of_unit))


def restartd(machine: Machine) -> Result:
    if machine.text(RESTARTD) is None:
        return skip("no restartd here")
    lines = machine.restartd_lines
    if not lines:
        return skip("restartd does not look after it")
    if len(lines) > 1:
        all_but_the_first = shlex.quote(f"0,/{RESTARTD_LINE}/!{{/{RESTARTD_LINE}/d}}")
        return warn(
            f"{RESTARTD} names it more than once",
            ShellCommand(
                f"sudo sed -i {all_but_the_first} {RESTARTD} && sudo systemctl restart restartd"
                f"  # or: sudo nano {RESTARTD}"
            ),
        )
    return ok("restartd starts it again")


def one_way(machine: Machine) -> Result:
    """Two programs push each other from the broker, and take each other's answers."""
    by_systemd = machine.unit_state in ("active", "activating")
    by_restartd = bool(machine.restartd_lines)
    found = _processes(machine)
    if by_systemd and by_restartd:
        take_out = f"sudo sed -i '/{RESTARTD_LINE}/d' {RESTARTD} && sudo systemctl restart restartd"
        return fail(
            "both systemd and restartd start it", ShellCommand(f"{take_out} && {machine.verb('stop')}")
        )
    if len(found) > 1:
        return fail(f"it runs {len(found)} times: pids {', '.join(found)}", machine.keep_one_of(found))
    return ok("it is started in one way")


def readings(machine: Machine) -> Result:
    """The running program's inverters, as it knows them."""
    if machine.status is None:
        return skip("it does not run, or may not be asked")
    known: dict[str, dict[str, Any]] = machine.status.get("inverters", {})
    places = machine.status.get("places", [])
    troubles = [str(place["trouble"]) for place in places if place.get("trouble")]
    damage = _damage(places)
    if not known and troubles:
        return fail("; ".join(troubles), "see the checks above")
    if not known and damage:
        return fail(
            f"something answers, and no reading of it is whole: {damage}",
            "another USB cable, a short one, straight into the machine; it can be another device, too",
        )
    if not known:
        return warn(
            "it runs, and no inverter has given a reading yet",
            "see the checks above; some inverters answer only after the plug was pulled and put back",
        )
    away = [serial for serial, inverter in known.items() if not inverter.get("online")]
    if away:
        return warn(
            f"away: {', '.join(sorted(away))}", "at night that is right; by day, see the checks of USB"
        )
    interval = machine.settings.inverter.pollinterval / 1000 if machine.settings is not None else 0.0
    limit = max(LATE, LATE_ROUNDS * interval)
    late = [
        serial for serial, inverter in known.items() if (inverter.get("last_reading_seconds") or 0.0) > limit
    ]
    if late:
        return warn(
            f"no reading for long: {', '.join(sorted(late))}",
            f"let it write down what came: sudo kill -USR1 {machine.pid} and look into the log",
        )
    return ok(f"{len(known)} read")


def _damage(places: list[dict[str, Any]]) -> str:
    """How often what came over the wires was refused, by reason; empty for never."""
    counts = Counter[str]()
    for place in places:
        counts.update(place.get("refused") or {})
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))


def parts(machine: Machine) -> Result:
    """Optional parts of the running program that failed."""
    if machine.status is None:
        return skip("it does not run, or may not be asked")
    dropped = machine.status.get("dropped", [])
    if dropped:
        names = ", ".join(str(part.get("part")) for part in dropped)
        whys = [str(part.get("error", "")) for part in dropped]
        if all("is not installed" in why for why in whys):
            return fail(f"left out: {names}: {'; '.join(whys)}", "see the check extras")
        return fail(
            f"given up after a failure: {names}",
            f"report it with the log, then restart it: {machine.restart}",
        )
    waiting = [
        f"{name}: {trouble}"
        for name, output in sorted(machine.status.get("outputs", {}).items())
        if (trouble := output.get("trouble") or output.get("why_not"))
    ]
    if waiting:
        return warn(
            f"an output cannot work now, and tries again: {'; '.join(waiting)}",
            f"mend what it names, or set its section right: sudo nano {shlex.quote(machine.config_path)}",
        )
    return ok("all parts work")


def _other_configuration(machine: Machine, status: dict[str, Any]) -> Result | None:
    """The finding if the program runs with another file, or with this one as it was once."""
    path = machine.runs_with
    if not path:
        return None
    began = status["taken_epoch"] - status["program"]["configuration_seconds"]
    if os.path.realpath(path) != os.path.realpath(machine.config_path):
        remedy = f"sudo {shlex.join([machine.program, '--config', path, 'doctor'])}"
        return warn(f"it runs with {path}, not with {machine.config_path}", f"to look at that: {remedy}")
    try:
        changed = os.stat(machine.at(path)).st_mtime
    except OSError:  # removed meanwhile: the defaults would be next
        return None
    if changed <= began:
        return None
    return warn(f"{path} was changed after it had read it", ShellCommand(machine.restart))


def _processes(machine: Machine) -> list[str]:
    """Numbers of the processes that run as a daemon or in the foreground."""
    found = []
    for path in machine.paths("/proc/[0-9]*/cmdline"):
        words = (machine.text(path) or "").split("\0")
        # Not `sudo GoodWe.py foreground`, whose child is the program.
        is_python = os.path.basename(words[0]).startswith(("python", "GoodWe.py"))
        is_ours = is_python and any(word.endswith("GoodWe.py") for word in words)
        if is_ours and {"start", "restart", "foreground"} & set(words) and _is_alike(machine, words):
            found.append(path.split("/")[2])
    return sorted(found, key=int)


def _is_alike(machine: Machine, words: list[str]) -> bool:
    """False for a command line with a configuration that is surely another one, as for a second broker."""
    options = [word.partition("=") for word in words]
    given = [value for option, _, value in options if option == "--config" and value]
    given += [value for option, value in pairwise(words) if option == "--config"]
    other, ours = given[0] if given else config.PATH, machine.config_path
    if os.path.isabs(other):
        return os.path.realpath(other) == os.path.realpath(ours)
    return os.path.basename(other) == os.path.basename(ours)  # in which folder it was is not known


CHECKS = (
    Check("program", "Does it run?", program),
    Check("unit", "Is the unit of systemd well?", unit),
    Check("restartd", "Does restartd look after it?", restartd),
    Check("one-way", "Is it started in one way only?", one_way),
    Check("readings", "Does it read the inverter?", readings),
    Check("parts", "Did a part of it fail?", parts),
)
