"""`install` and `uninstall`: udev rule, unit, user, configuration and log rotation, said step by step.

Each step may be done again; a file that somebody has edited is never overwritten. Debian's package brings
these files by itself: there, `install` takes over from an earlier installation.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TextIO

from ... import program
from ...errors import InstallError
from .steps import INSTALL, TAKE_OVER, UNINSTALL, InstallStep, Plan, resume_restartd
from .system import System

WIDTH = 36
"""Columns of the name of a step."""


def main(
    verb: str,
    arguments: list[str],
    pidfile: str,
    *,
    uid: int | None = None,
    system: System | None = None,
    out: TextIO = sys.stdout,
) -> int:
    """Do the verb, `install` or `uninstall`; gives the exit code. Raises InstallError.

    `pidfile` is that of a daemon that the unit takes the place of, `uid` the caller's. `system` is the
    machine, where not given the one of the options.
    """
    options = parse(verb, arguments)
    uid = os.geteuid() if uid is None else uid
    as_root = uid == 0 or options.root != "/"
    system = system or System(root=options.root, dry=options.dry_run or not as_root)
    if not as_root and not options.dry_run:
        print("Nothing is changed without root. It would do this:", file=out)
    elif system.dry:
        print("Nothing is changed. It would do this:", file=out)
    steps = _steps(verb, system)
    if steps is TAKE_OVER:
        print("Debian's package has put everything in place; looking for an earlier installation.", file=out)
    plan = Plan(system, options.service, options.purge, pidfile)
    try:
        carry_out(steps, plan, out)
    finally:
        if steps is INSTALL:  # the package starts its unit later, and then restartd
            resume_restartd(system)
    for text in system.left:
        print(f"To do: {text}", file=out)
    if not as_root:
        print(f"To do it: sudo {' '.join([program.command(), verb, *_without_dry_run(arguments)])}", file=out)
    if not as_root and not options.dry_run:
        return 1
    return 1 if system.left else 0


def parser(verb: str = "install") -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    made = argparse.ArgumentParser(
        prog=f"{program.name()} {verb}",
        description=f"{__doc__.splitlines()[0]} A file that was edited is never overwritten.",
        epilog="exit code: 0 done; 1 something is left to do, or could not be done; 2 wrong arguments",
    )
    made.add_argument("--dry-run", action="store_true", help="say what it would do, and change nothing")
    made.add_argument("--root", default="/", metavar="DIR", help="the machine is in this folder")
    made.set_defaults(purge=False, service=True)
    if verb == "install":
        made.add_argument(
            "--no-service",
            dest="service",
            action="store_false",
            help="no unit of systemd: for `start`, and restartd",
        )
    else:
        made.add_argument("--purge", action="store_true", help="configuration, totals, log and user as well")
    return made


def parse(verb: str, arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    made = parser(verb)
    options = made.parse_args(arguments)
    options.root = os.path.abspath(options.root)
    if not os.path.isdir(options.root):
        made.error(f"{options.root} is no folder")
    return options


def carry_out(steps: Iterable[InstallStep], plan: Plan, out: TextIO) -> None:
    """Do one after the other, with a line for each. Raises InstallError at the first that cannot be done."""
    for step in steps:
        try:
            said = step.run(plan)
        except InstallError as error:
            raise InstallError(f"{step.name}: {error}. Then run this again") from error
        if said:
            print(f"{step.name:{WIDTH}} {said}", file=out, flush=True)


def _steps(verb: str, system: System) -> tuple[InstallStep, ...]:
    package = os.fspath(program.HOME) == program.DEBIAN_HOME
    if not package:
        if verb == "install" and system.exists(f"{program.DEBIAN_HOME}/{program.SCRIPT}"):
            raise InstallError(
                "Debian's package goodwe-usb-logger is installed and has all this; keep one of them:"
                " sudo apt-get purge goodwe-usb-logger"
            )
        return INSTALL if verb == "install" else UNINSTALL
    if verb == "uninstall":
        raise InstallError("this is Debian's package: sudo apt-get remove goodwe-usb-logger, or purge")
    return TAKE_OVER


def _without_dry_run(arguments: list[str]) -> list[str]:
    return [word for word in arguments if word != "--dry-run"]
