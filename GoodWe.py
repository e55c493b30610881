#!/usr/bin/env python3
"""GoodWe solar inverters on USB, to MQTT: GoodWe.py start|stop|restart|status|foreground, and tools."""

import importlib.util
import os
import sys

PACKAGES = {
    "paho": "paho-mqtt",
    "pyudev": "pyudev",
    "simplejson": "simplejson",
    "ioctl_opt": "ioctl-opt",
}
"""Import name to package."""


def use_own_packages() -> None:
    """Go on in the .venv beside this file when the packages are not to be had otherwise."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this is where an older one is told so)
        sys.exit("GoodWe.py needs Python 3.11 or newer, this is " + sys.version.split()[0])
    missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if not missing:
        return
    here = os.path.dirname(os.path.realpath(__file__))
    own = os.path.join(here, ".venv", "bin", "python")
    if os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(here, ".venv")) and os.path.exists(own):
        os.execv(own, [own, os.path.realpath(__file__), *sys.argv[1:]])
    sys.exit(
        "GoodWe.py misses Python packages: " + ", ".join(missing) + ". Set them up with:\n"
        "  cd " + here + " && python3 -m venv .venv && .venv/bin/pip install -e ."
    )


if __name__ == "__main__":
    use_own_packages()
    from goodwe.cli import main

    sys.exit(main())
