"""python3 -m tests.neighbours [--only NAME[,NAME]]: the program beside real neighbours, a line each with figures."""

import argparse
import os
import shutil
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from ..children import none_left
from .home import NeighbourError, root
from .rabbit import PROGRAMS
from .scenarios import SCENARIOS, s20_program_that_was_killed

NEEDED = {"mmdebstrap": "mmdebstrap", "mosquitto": "mosquitto", "unshare": "util-linux"}
"""Program to the package that has it."""
AT_A_TIME = 2
LONGEST = s20_program_that_was_killed.__name__
"""It waits seven minutes for values to expire, in which nothing happens: it begins first, the others pass beside it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.neighbours", description=__doc__)
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"some of {', '.join(SCENARIOS)}")
    parser.add_argument("--build", action="store_true", help="build what Home Assistant runs in, and end")
    options = parser.parse_args()
    try:
        _check_host()
        chosen = _chosen(options.only)
        root()  # one builds it, before two scenarios want it
        if options.build:
            return 0
    except NeighbourError as error:
        print(f"neighbours: {error}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        failed = sum(not passed for passed in pool.map(_passes, chosen))
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _passes(name: str) -> bool:
    began = time.monotonic()
    try:
        figures = SCENARIOS[name]()
    except Exception as error:  # whatever it is, the others are to be seen as well
        traceback.print_exc()
        print(f"FAIL {name} ({time.monotonic() - began:.0f} s): {str(error)[:2000]}", flush=True)
        return False
    told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in figures.items())
    print(f"PASS {name} ({time.monotonic() - began:.0f} s): {told}", flush=True)
    return True


def _chosen(only: str | None) -> list[str]:
    """The names of the scenarios that are wanted, in the order in which they begin."""
    wanted = tuple(only.split(",")) if only else ""
    chosen = [name for name in SCENARIOS if name.startswith(wanted)]
    if not chosen:
        raise NeighbourError(f"no scenario is called {only}; there are {', '.join(SCENARIOS)}")
    return sorted(chosen, key=lambda name: name != LONGEST)


def _check_host() -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for program, package in NEEDED.items() if not shutil.which(program, path=path)]
    if not (PROGRAMS / "rabbitmq-server").exists():
        missing.append("rabbitmq-server")
    if missing:
        raise NeighbourError(f"apt-get install --no-install-recommends {' '.join(missing)}")
    if os.getuid():
        raise NeighbourError("a Debian in a folder needs root; run it with sudo")


if __name__ == "__main__":
    with none_left():
        sys.exit(main())
