"""Why no file can be written at a path, whoever tries; told from what is there, without making anything.

Rights are left out: who starts the program may have others than who checks its configuration.
"""

import errno
import os

LONGEST_PATH = 4095
"""Bytes that the kernel takes."""
LONGEST_NAME = 255
"""Bytes that nearly every file system takes, where this one cannot be asked."""
SHOWN_BY_THE_KERNEL = {
    *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs"),
    *("fusectl", "nsfs", "nfsd", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs"),
    *("sysfs", "tracefs"),
}
"""File systems in which nobody can make a file, or none that keeps what is written to it."""
STANDARD_STREAMS = {"/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2"}
"""Each process has its own behind these names; a daemon's lead nowhere."""
SINKS = {(1, 3), (1, 5), (1, 7)}
"""Numbers of /dev/null, zero and full."""
OWN_TERMINAL = (5, 0)
"""Number of /dev/tty: no daemon has one."""


def why_never(path: str, *, ending: int = 0, longest: int = LONGEST_PATH) -> str:
    """The reason, as the kernel would give it; empty where nothing is known that speaks against a file.

    `path` is absolute; up to `ending` bytes are appended for files beside it. Whoever writes it takes a path
    of at most `longest` bytes, these included.
    """
    target = os.path.realpath(path)
    try:
        folder = _lowest_that_exists(target)
        longest_name = os.statvfs(folder).f_namemax or LONGEST_NAME
        is_shown = _kind_of_file_system(folder) in SHOWN_BY_THE_KERNEL
    except OSError as error:
        return "" if isinstance(error, PermissionError) else str(error.strerror)
    names = [os.fsencode(name) for name in target.split("/")]
    names[-1] += bytes(ending)
    if max(map(len, names)) > longest_name or len(b"/".join(names)) > longest:
        return os.strerror(errno.ENAMETOOLONG)
    return "no file can be made there: it is the kernel that shows what is in that folder" if is_shown else ""


def why_not_now(path: str) -> str:
    """The reason of this moment and place, such as a file system that is read-only; empty for none."""
    try:
        flags = os.statvfs(_lowest_that_exists(os.path.realpath(path))).f_flag
    except OSError:
        return ""
    return os.strerror(errno.EROFS) if flags & os.ST_RDONLY else ""


def _lowest_that_exists(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _kind_of_file_system(path: str) -> str:
    """Its name, such as ext4; empty if the kernel does not tell."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                before, _, behind = line.partition(" - ")
                if before.split()[2] == device:
                    return behind.split()[0]
    except (OSError, IndexError):
        pass
    return ""


def is_no_place_for_a_log(device: int) -> bool:
    """True for the number of a character device that takes no log of a daemon, or takes harm from it."""
    numbers = os.major(device), os.minor(device)
    return numbers == OWN_TERMINAL or (numbers not in SINKS and subsystem(device) not in ("tty", ""))


def subsystem(device: int) -> str:
    """The kind of a device by its number, such as hidraw; empty where the kernel does not tell."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        return os.path.basename(os.readlink(f"/sys/dev/char/{number}/subsystem"))
    except OSError:
        return ""
