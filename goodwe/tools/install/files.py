"""The files that `install` puts in place, and how it tells what somebody has changed in one.

A file is as it was put there when its hash is the one that was written down then, or that of a version from
the time when people copied the files by hand. Anything else was edited: it is left as it is.
"""

import hashlib
import re
from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

USER = "goodwe"
"""The user and group of the unit, who may open the inverter."""
CLASSIC = "/opt/goodweusblogger/GoodWe.py"
"""The program in the unit as it is in etc/."""
UNIT = "/etc/systemd/system/goodwe.service"
CONFIGURATION = "/etc/goodwe.conf"
RULE = "/etc/udev/rules.d/99-goodwe.rules"
LOGROTATE = "/etc/logrotate.d/goodwe"
PASSWORD = "/etc/goodwe.password"
"""For a password that does not stand in the configuration: the unit's credential, or that of `setup`."""


class ShippedFile(NamedTuple):
    """One file of etc/, and its place."""

    source: str
    """Its name in etc/."""
    target: str
    needs: tuple[str, ...]
    """Folders of which one must be there: of those who read the file. None for a file that we read."""
    marks: tuple[str, ...]
    """Words of which one is in every version of the file, and in nobody else's of that name."""
    earlier: tuple[str, ...]
    """Hashes of versions that people copied by hand, the first 16 digits each."""
    mode: int = 0o644
    group: str = "root"
    beside: str = ".new"
    """This is added to its name for the new version, where the file there is not replaced."""


FILES = {
    CONFIGURATION: ShippedFile(
        source="goodwe.conf",
        target=CONFIGURATION,
        needs=(),
        marks=("[mqtt]", "[inverter]"),
        earlier=(
            "a6a18a47b6e4f0a7",
            "cc31b958e7977534",
            "b199eae08e5d388e",
            "5e0ff1b8d3f62761",
            "3bf2d4baecd41b43",
            "0da9b39a9415fb84",
            "0f56afeef9dd89eb",
            "bcf4004646332d9a",
        ),
        mode=0o640,
        group=USER,
    ),
    RULE: ShippedFile(
        source="99-goodwe.rules",
        target=RULE,
        needs=("/etc/udev", "/usr/lib/udev", "/lib/udev"),
        marks=("0084:0041", 'idVendor}=="0084"'),
        earlier=("d2da0ed9d87962c7", "5f860acd47522875"),
    ),
    UNIT: ShippedFile(
        source="goodwe.service",
        target=UNIT,
        needs=("/usr/lib/systemd/system", "/lib/systemd/system"),
        marks=("GoodWe.py", "goodwe-logger"),
        earlier=(
            "22b0e2d5afe0e4c7",
            "b2293485b45ccdb0",
            "50b4baf34edf7c28",
            "6fef1a3f154cd777",
            "99f4e70bd5172698",
            "bd8a8c12f28191cd",
        ),
    ),
    LOGROTATE: ShippedFile(
        source="goodwe.logrotate",
        target=LOGROTATE,
        needs=("/etc/logrotate.d",),
        marks=("/var/log/goodwe.log",),
        earlier=("ca6336e9c930193a", "11f2f65f055c6bfd"),
        beside=".new.disabled",  # one that ends in .new logrotate reads, and ends at the log's second entry
    ),
}
"""By target."""


class FileState(Enum):
    """The state of a file at its place."""

    MISSING = "missing"
    SAME = "same"
    """As we would write it."""
    OURS = "ours"
    """An earlier version, as it was put there."""
    EDITED = "edited"
    """Of this program, but changed by somebody."""
    FOREIGN = "foreign"
    """Another program's of the same name."""


def hash_of(content: bytes) -> str:
    """As it is written down."""
    return hashlib.sha256(content).hexdigest()


def judge(file: ShippedFile, there: bytes | None, wanted: bytes, known: Collection[str]) -> FileState:
    """Tell how the content that is there, None for no file, stands to the `wanted` one.

    `known` are hashes of versions that we have put there.
    """
    if there is None:
        return FileState.MISSING
    if there == wanted:
        return FileState.SAME
    found = hash_of(there)
    if found in known or found[:16] in file.earlier:
        return FileState.OURS
    text = there.decode("utf-8", "replace")
    return (
        FileState.EDITED
        if not text.strip() or any(mark in text for mark in file.marks)
        else FileState.FOREIGN
    )


def unit_for(text: str, executable: str, readme: str) -> str:
    """The unit for a program that lies elsewhere than in /opt/goodweusblogger."""
    text = re.sub(
        rf"(?m)^(Exec\w+=){re.escape(CLASSIC)}\b", lambda found: found[1] + quoted(executable), text
    )
    text = re.sub(r"(?m)^Documentation=.*$", lambda _: f"Documentation=file://{readme}", text)
    return re.sub(r"(?m)\A(#.*\n)+", "# GoodWeUSBLogger under systemd; `uninstall` takes it away.\n", text)


def started_by(unit: str) -> str:
    """The program that a unit starts; empty for none."""
    found = re.findall(r'(?m)^ExecStart=[-@:+!]*(?:"([^"]*)"|(\S+))', unit)
    return "".join(found[-1]).replace("%%", "%") if found else ""


def quoted(word: str) -> str:
    """A path as a unit has it: a per cent sign begins a specifier there, and a dollar sign a variable."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if re.search(r"[\s\"'\\]", word) else word
