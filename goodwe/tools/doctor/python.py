"""Is the program itself whole: Python, packages, one installation."""

import importlib.metadata
import importlib.util
import sys

from .checks import Check, Machine, Result, fail, ok, warn

PACKAGES = {
    "paho": ("paho-mqtt", "python3-paho-mqtt"),
    "pyudev": ("pyudev", "python3-pyudev"),
    "simplejson": ("simplejson", "python3-simplejson"),
    "ioctl_opt": ("ioctl-opt", ""),
}
"""Import name to its name on the Python package index, and in Debian."""
OLDEST = (3, 11)
CLASSIC, DEBIAN = "/opt/goodweusblogger/GoodWe.py", "/usr/share/goodwe-usb-logger/GoodWe.py"
INSTALLED = {
    CLASSIC: "sudo rm -r /opt/goodweusblogger",
    DEBIAN: "sudo apt-get remove goodwe-usb-logger",
    "/usr/local/bin/goodwe-logger": "sudo pip uninstall goodwe-usb-logger",
}
"""Where an installation shows, and what takes it away."""


def python(machine: Machine) -> Result:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:  # GoodWe.py says so before; a copied module does not
        return fail(f"Python {version}", "install Python 3.11 or newer")
    return ok(f"Python {version} at {sys.executable}")


def packages(machine: Machine) -> Result:
    missing = [names for module, names in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        debian = [name for _, name in missing if name]
        remedy = f"sudo apt-get install {' '.join(debian)}" if len(debian) == len(missing) else ""
        pip = f"{sys.executable} -m pip install {' '.join(name for name, _ in missing)}"
        return fail(f"missing: {', '.join(name for name, _ in missing)}", remedy or pip)
    return ok(", ".join(f"{name} {_version(name)}" for name, _ in PACKAGES.values()))


def libudev(machine: Machine) -> Result:
    try:
        import pyudev

        pyudev.Context()
    except (ImportError, OSError) as error:
        return fail(f"libudev cannot be used ({error})", "sudo apt-get install libudev1")
    return ok("libudev can be asked")


def installations(machine: Machine) -> Result:
    found = [path for path in INSTALLED if machine.exists(path)]
    if len(found) < 2:
        return ok(found[0] if found else "runs from a folder of its own")
    return warn(
        f"installed {len(found)} times: {', '.join(found)}", f"keep one of them: {INSTALLED[found[-1]]}"
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # one pure file, as Debian's package brings it
        return "(unknown version)"


CHECKS = (
    Check("python-version", "Is Python new enough?", python),
    Check("packages", "Are the Python packages there?", packages),
    Check("libudev", "Can udev be asked?", libudev),
    Check("installations", "Is the program installed once?", installations),
)
