"""The program as a person meets it: its name, the command that calls it, and its version."""

import os
import sys
from pathlib import Path

from . import __version__

HOME = Path(__file__).resolve().parents[1]
"""The folder with GoodWe.py in it: a checkout, goodwe_usb_logger of a Python, or Debian's."""
DEBIAN_HOME = "/usr/share/goodwe-usb-logger"
SCRIPT, COMMAND = "GoodWe.py", "goodwe-logger"
CALLED_AS = "GOODWE_CALLED_AS"
"""In the environment, where the command line has to have GoodWe.py in it (CONTRACT 4) and cannot tell."""
SUDO_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
GIT_WITHIN = 3.0
"""Seconds for git to say at which commit a checkout is."""


def name() -> str:
    """The name that the program was called by, for its help."""
    return COMMAND if os.environ.get(CALLED_AS) == COMMAND else SCRIPT


def executable() -> Path:
    """The file that runs the program from anywhere, also after an upgrade."""
    if os.fspath(HOME) == DEBIAN_HOME:
        return Path("/usr/sbin") / SCRIPT
    import sysconfig  # here, as subprocess below: the daemon needs neither

    command = Path(sysconfig.get_path("scripts")) / COMMAND
    return command if not is_checkout() and command.exists() else HOME / SCRIPT


def command() -> str:
    """The words that call it in a terminal, also behind sudo."""
    found = executable()
    if found.name == COMMAND and os.fspath(found.parent) not in SUDO_PATH:
        for folder in SUDO_PATH:  # pipx has a link in one of them, at best
            if (Path(folder) / COMMAND).resolve() == found.resolve():
                return COMMAND
    return found.name if os.fspath(found.parent) in SUDO_PATH else os.fspath(found)


def is_checkout() -> bool:
    """True in a checkout or an unpacked sdist, False for what pip or Debian has put somewhere."""
    return (HOME / "setup.py").exists()


def version() -> str:
    """The version, in a checkout with the commit behind it: 1.0.0 (v1.0.0-3-gabc1234)."""
    if not (HOME / ".git").exists():
        return __version__
    import subprocess

    describe = ["git", "-C", os.fspath(HOME), "describe", "--always", "--tags", "--dirty"]
    try:
        said = subprocess.run(describe, capture_output=True, text=True, timeout=GIT_WITHIN, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # no git, or a folder that git takes for another user's
        return __version__
    return f"{__version__} ({said.strip()})"


def python() -> Path:
    """The Python that runs it, links followed."""
    return Path(sys.executable).resolve()
