"""Is the program itself whole: Python, packages, one installation."""

import ast
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ... import outputs, program
from ...config import DEFAULT_OUTPUT
from .checks import Check, Machine, Result, ShellCommand, fail, ok, skip, warn

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
    "/usr/local/bin/goodwe-logger": "sudo python3 -m pip uninstall --break-system-packages goodwe-usb-logger",
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
        pip = f"sudo {sys.executable} -m pip install {' '.join(name for name, _ in missing)}"
        return fail(f"missing: {', '.join(name for name, _ in missing)}", ShellCommand(remedy or pip))
    return ok(", ".join(f"{name} {_version(name)}" for name, _ in PACKAGES.values()))


def libudev(machine: Machine) -> Result:
    try:
        import pyudev

        pyudev.Context()
    except (ImportError, OSError) as error:
        return fail(f"libudev cannot be used ({error})", ShellCommand("sudo apt-get install libudev1"))
    return ok("libudev can be asked")


def installations(machine: Machine) -> Result:
    found = [path for path in INSTALLED if machine.exists(path)]
    if len(found) < 2:
        return ok(found[0] if found else "runs from a folder of its own")
    this = (os.fspath(program.HOME / program.SCRIPT), os.fspath(program.executable()))
    others = [path for path in found if path not in this]
    return warn(
        f"installed {len(found)} times: {', '.join(found)}",
        ShellCommand(f"{INSTALLED[others[-1]]}  # one is enough, whichever of them"),
    )


def extras(machine: Machine) -> Result:
    """Libraries that the outputs import that are on, and that nobody has installed."""
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    # What the one that is always there needs is in PACKAGES.
    asked_for = [name for name in outputs.names() if name in settings.sections and name != DEFAULT_OUTPUT]
    on = [name for name in asked_for if getattr(settings.sections[name], "enabled", True)]
    lacking = {name: sorted(_lacking(name)) for name in on}
    lacking = {name: modules for name, modules in lacking.items() if modules}
    if not lacking:
        return ok("the outputs that are on have what they need")
    told = "; ".join(f"[{name}] needs {', '.join(modules)}" for name, modules in lacking.items())
    return fail(f"{told}: not installed", ShellCommand(f"{_installs(lacking)} && {machine.restart}"))


def _lacking(output: str) -> Iterator[str]:
    """The libraries of others that an output imports somewhere, and that are not there."""
    package = importlib.util.find_spec(f"{outputs.__name__}.{output}")
    assert package is not None  # it is in the list of those that there are
    assert package.origin is not None
    path = Path(package.origin)
    files = path.parent.rglob("*.py") if package.submodule_search_locations else [path]
    for name in {name for file in files for name in _imported(ast.parse(file.read_bytes()))}:
        if name not in sys.stdlib_module_names and importlib.util.find_spec(name) is None:
            yield name


def _imported(tree: ast.AST) -> Iterator[str]:
    """Names of the top packages that code cannot do without; relative imports are our own."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]
        elif not isinstance(node, ast.Try):  # what it does there, it can do without
            yield from _imported(node)


def _installs(lacking: dict[str, list[str]]) -> str:
    """The command that brings them: from Debian where its Python runs this, else into our own environment."""
    if sys.prefix == sys.base_prefix:
        names = sorted({name for modules in lacking.values() for name in modules})
        return f"sudo apt-get install {' '.join('python3-' + name.replace('_', '-') for name in names)}"
    return f"sudo {sys.executable} -m pip install 'goodwe-usb-logger[{','.join(lacking)}]'"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # one pure file, as Debian's package brings it
        return "(unknown version)"


CHECKS = (
    Check("python-version", "Is Python new enough?", python),
    Check("packages", "Are the Python packages there?", packages),
    Check("extras", "Has each output what it needs?", extras),
    Check("libudev", "Can udev be asked?", libudev),
    Check("installations", "Is the program installed once?", installations),
)
