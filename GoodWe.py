#!/usr/bin/env python3
"""GoodWe solar inverters on USB, to MQTT: GoodWe.py start|stop|restart|status|foreground, and tools."""

import importlib.util
import os
import sys
from typing import NoReturn

PACKAGES = {
    "paho": "paho-mqtt",
    "pyudev": "pyudev",
    "simplejson": "simplejson",
    "ioctl_opt": "ioctl-opt",
}
"""Import name to package."""


HERE = os.path.dirname(os.path.realpath(__file__))


def use_own_packages() -> None:
    """Go on in the .venv beside this file when the packages are not to be had otherwise."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this is where an older one is told so)
        sys.exit("GoodWe.py needs Python 3.11 or newer, this is " + sys.version.split()[0])
    missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if not missing:
        return
    own = os.path.join(HERE, ".venv", "bin", "python")
    if os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(HERE, ".venv")) and os.path.exists(own):
        os.execv(own, [own, os.path.realpath(__file__), *sys.argv[1:]])
    set_up = "  cd " + HERE + " && python3 -m venv .venv && .venv/bin/pip install -e ."
    if not os.path.exists(os.path.join(HERE, "setup.py")):  # not a checkout: pip has put it there
        set_up = "  " + sys.executable + " -m pip install " + " ".join(missing)
    sys.exit("GoodWe.py misses Python packages: " + ", ".join(missing) + ". Set them up with:\n" + set_up)


def installed() -> NoReturn:
    """Become this file as a script; the console script goodwe-logger, which pip makes, calls it.

    restartd finds the program by GoodWe.py in its command line (CONTRACT 4).
    """
    os.environ["GOODWE_CALLED_AS"] = "goodwe-logger"
    os.execv(sys.executable, [sys.executable, os.path.realpath(__file__), *sys.argv[1:]])


if __name__ == "__main__":
    sys.path.insert(0, HERE)  # also where Python was told not to (-P, -I): another `goodwe` may be installed
    use_own_packages()
    from goodwe.cli import main

    sys.exit(main())
