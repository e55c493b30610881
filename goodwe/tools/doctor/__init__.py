"""`doctor`: what is wrong, and the command that mends it; in the order in which a person who helps would ask.

It starts nothing, changes nothing, and needs neither root nor a running program: one that runs is asked at
its control socket, not bypassed. Each check ends OK, WARN, FAIL or SKIP.
"""

import argparse
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

import simplejson

from ... import program
from . import broker, python, running, settings, system, usb
from .checks import Check, Grade, Machine, Result, ShellCommand, fail, skip

DEADLINE = 25.0
"""Seconds after which the checks that are left are skipped."""
CHECK_WITHIN = 12.0
"""Seconds for one of them: most take none, asking a broker has deadlines of its own."""
NARROW = 80
"""Columns below which a text goes on below its grade, not below its beginning."""
GROUPS: dict[str, Sequence[Check]] = {
    "python": python.CHECKS,
    "settings": settings.CHECKS,
    "machine": system.CHECKS,
    "usb": usb.CHECKS,
    "running": running.CHECKS,
    "broker": broker.CHECKS,
}
EXIT_CODES = {Grade.OK: 0, Grade.SKIP: 0, Grade.WARN: 1, Grade.FAIL: 2}
VERSION = 1
"""Version of the JSON: another number when a key changes its meaning, not when one is added."""


class Finding(NamedTuple):
    """A check and what it has found."""

    group: str
    check: Check
    result: Result


def examine(
    machine: Machine,
    only: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
    groups: Mapping[str, Sequence[Check]] = GROUPS,
) -> Iterator[Finding]:
    """The findings, one after the other. `only` has names of checks or groups; empty for all of them."""
    end = clock() + DEADLINE
    for group, checks in groups.items():
        for check in checks:
            if only and not {group, check.name} & set(only):
                continue
            left = end - clock()
            yield Finding(
                group,
                check,
                _run(check, machine, min(left, CHECK_WITHIN)) if left > 0 else skip("no time left"),
            )


def main(arguments: list[str], machine: Machine, *, out: TextIO | None = None) -> int:
    """Examine the machine and print what was found; 0 when all is well, 1 with warnings, 2 with failures."""
    options = parse(arguments)
    out = out or sys.stdout
    width = shutil.get_terminal_size().columns if out.isatty() else 0
    findings = []
    for finding in examine(machine, options.only):
        findings.append(finding)
        if not options.json and (options.all or options.only or finding.result.remedy):
            print(told(finding, width), file=out, flush=True)
    if options.json:
        print(simplejson.dumps(as_json(findings)), file=out)
    else:
        print(summary(findings), file=out)
    return max((EXIT_CODES[finding.result.grade] for finding in findings), default=0)


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    names = [*GROUPS, *(check.name for checks in GROUPS.values() for check in checks)]
    rows = "\n".join(f"  {check.name:16} {check.asks}" for checks in GROUPS.values() for check in checks)
    made = argparse.ArgumentParser(
        prog=f"{program.name()} doctor",
        description="What is wrong, and the command that mends it. Starts nothing and changes nothing.",
        epilog=f"checks:\n{rows}\n\ngroups: {', '.join(GROUPS)}\n\n"
        "A line behind $ is for the shell: copied as it stands, it mends. One behind -> is for hands.\n\n"
        "exit code: 0 all is well; 1 with warnings; 2 with failures, or wrong arguments",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    made.add_argument("--all", action="store_true", help="a line also for what is well")
    made.add_argument(
        "--only", action="append", default=[], metavar="NAME", choices=names, help="this check or group only"
    )
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings as a JSON object: version, and checks in their order."""
    checks = [
        {
            "group": group,
            "name": check.name,
            "state": result.grade.value,
            "text": result.text,
            "remedy": result.remedy,
            "command": isinstance(result.remedy, ShellCommand),
        }
        for group, check, result in findings
    ]
    return {"version": VERSION, "checks": checks}


def told(finding: Finding, width: int) -> str:
    """The finding in lines of at most `width` characters, 0 for any; a command is never broken into two."""
    result = finding.result
    begin = f"{result.grade.value:4}  {finding.check.name:14} "
    lines = [_wrapped(begin, " " * (6 if width < NARROW else len(begin)), result.text, width)]
    if isinstance(result.remedy, ShellCommand):
        lines.append(f"      $ {_harmless(result.remedy)}")
    elif result.remedy:
        lines.append(_wrapped("      -> ", " " * 9, result.remedy, width))
    return "\n".join(lines)


def _wrapped(begin: str, indent: str, text: str, width: int) -> str:
    line = f"{begin}{_harmless(text)}"
    if not width or len(line) <= width:
        return line
    return textwrap.fill(
        line, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _harmless(text: str) -> str:
    """The text without what a terminal obeys: a broker, a device or another process may have put it there."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _run(check: Check, machine: Machine, seconds: float) -> Result:
    """The finding of a check; one that takes longer than `seconds` is left to itself."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(_caught(check, machine)), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else fail(f"no answer within {seconds:.0f} s", "see the checks above")


def _caught(check: Check, machine: Machine) -> Result:
    try:
        return check.run(machine)
    except Exception as error:  # one check that is wrong must not hide the others
        return fail(f"the check itself failed: {type(error).__name__}: {error}", "please report it")


def summary(findings: Sequence[Finding]) -> str:
    """A line for each group, and one for all."""
    lines = []
    for group in dict.fromkeys(finding.group for finding in findings):
        grades = [finding.result.grade for finding in findings if finding.group == group]
        counts = [f"{grades.count(grade)} {grade.value}" for grade in Grade if grade in grades]
        lines.append(f"{group:14} {', '.join(counts)}")
    worst = max((EXIT_CODES[finding.result.grade] for finding in findings), default=0)
    lines.append(("All is well.", "It works, with warnings.", "It cannot work like that.")[worst])
    return "\n".join(lines)
