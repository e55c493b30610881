"""python3 -m tests.neighbours [--only NAME[,NAME]]: the program beside real neighbours, a line each with figures."""

import argparse
import os
import shutil
import sys
import time
import traceback

from ..children import none_left
from .home import NeighbourError, root
from .rabbit import PROGRAMS
from .scenarios import SCENARIOS

NEEDED = {"mmdebstrap": "mmdebstrap", "mosquitto": "mosquitto", "unshare": "util-linux"}
"""Program to the package that has it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.neighbours", description=__doc__)
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"some of {', '.join(SCENARIOS)}")
    parser.add_argument("--build", action="store_true", help="build what Home Assistant runs in, and end")
    options = parser.parse_args()
    try:
        _check_host()
        chosen = _chosen(options.only)
        if options.build:
            root()
            return 0
    except NeighbourError as error:
        print(f"neighbours: {error}", file=sys.stderr)
        return 2
    failed = sum(not _passes(name) for name in chosen)
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
    if only is None:
        return list(SCENARIOS)
    chosen = [name for name in SCENARIOS if any(name.startswith(wanted) for wanted in only.split(","))]
    if not chosen:
        raise NeighbourError(f"no scenario is called {only}; there are {', '.join(SCENARIOS)}")
    return chosen


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
