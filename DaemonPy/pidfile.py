"""A locked file with our number in it: whether we run, and as which process.

The lock is the truth and the number only tells whom to signal: the kernel drops a flock when its last
holder dies, however it dies, so neither a stale file nor a number that another process has by now can
deceive. A flock stays with its descriptor across both forks (a POSIX lock would not).
"""

import contextlib
import fcntl
import os
import select
import stat
import time
from typing import NamedTuple

LOOK_TAKES = 0.2
"""Seconds, with a lot to spare, that holder() may have the file locked."""
EMPTY_AFTER_BOOT = ("/run/", "/var/run/")
"""A folder that is missing below these was there before the machine was started; elsewhere it is a slip."""

NO_FILE = "it is there and is no file"
NO_FOLDER = "its directory does not exist"


class PidFileError(Exception):
    """The file cannot be used; the text says what to do."""


class AlreadyRunning(PidFileError):
    """Somebody holds the lock."""

    def __init__(self, pid: int | None) -> None:
        """`pid` is the number of the holder, None if it is not known."""
        super().__init__(f"already running, pid {'unknown' if pid is None else pid}")
        self.pid = pid


class Holder(NamedTuple):
    """The state of the file at one moment."""

    locked: bool
    """True while a process holds it."""
    pid: int | None
    """The number in it; None without a file or with something else in it."""
    exists: bool


class PidFile:
    """The file at `path`."""

    def __init__(self, path: str, empty_after_boot: tuple[str, ...] = EMPTY_AFTER_BOOT) -> None:
        """`path` is the file's; its folder is made if it is missing below one of `empty_after_boot`."""
        self.path = path
        self._makes_folder = path.startswith(empty_after_boot)
        self._descriptor = -1

    def why_unusable(self) -> str:
        """Why nobody can lock it, told by a look; empty where only a try can tell."""
        target = os.path.realpath(self.path)
        try:
            return "" if stat.S_ISREG(os.stat(target).st_mode) else NO_FILE
        except FileNotFoundError:
            there = self._makes_folder or os.path.isdir(os.path.dirname(target))
            return "" if there else NO_FOLDER
        except PermissionError:
            return ""
        except OSError as error:
            return str(error.strerror)

    def lock(self) -> None:
        """Make the file ours. Raises AlreadyRunning, or PidFileError when it cannot be written."""
        while True:
            descriptor = self._open(os.O_RDWR | os.O_CREAT)
            try:
                is_ours = _locked(descriptor)
            except OSError as error:  # a network's file system without locks
                os.close(descriptor)
                raise PidFileError(
                    f"cannot lock {self.path}: {error.strerror}; choose another with --pidfile"
                ) from error
            if not is_ours:
                pid = _number(descriptor)
                os.close(descriptor)
                raise AlreadyRunning(pid)
            # Between open and lock its holder may have ended and removed it: then we hold a lock on a
            # file that nobody else will ever see.
            if self._is_at_path(descriptor):
                self._descriptor = descriptor
                return
            os.close(descriptor)

    def write(self, pid: int) -> None:
        """Put the number into the locked file; 0 for none yet."""
        content = f"{pid}\n".encode() if pid else b""
        try:
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))
        except OSError as error:
            raise PidFileError(
                f"cannot write {self.path}: {error.strerror}; choose another with --pidfile"
            ) from error

    def keep(self, pid: int) -> None:
        """Make the file anew, with the number in it, if somebody has removed it; where that is possible."""
        held = self._descriptor
        if held < 0 or os.path.lexists(self.path):
            return
        with contextlib.suppress(PidFileError):  # who took the place meanwhile, or a folder that is not ours
            self.lock()
            os.close(held)
            self.write(pid)

    def release(self) -> None:
        """Remove the file while it is still ours, or empty it where that is not allowed."""
        if self._descriptor < 0:
            return
        try:
            if self._is_at_path(self._descriptor):  # else it was removed, and may be another one's by now
                os.unlink(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def let_go(self) -> None:
        """Close our descriptor; a process forked since keeps file and lock."""
        os.close(self._descriptor)
        self._descriptor = -1

    def holder(self) -> Holder:
        """Who runs, without disturbing him. Raises PidFileError when the file cannot be read."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return Holder(locked=False, pid=None, exists=False)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            locked = False
        except BlockingIOError:
            locked = True
        pid = _number(descriptor)
        os.close(descriptor)
        return Holder(locked, pid, exists=True)

    def remove_stale(self) -> bool:
        """Remove a file that nobody holds; whether there was one. Raises AlreadyRunning, PidFileError."""
        there = os.path.exists(self.path)
        if there:
            self.lock()
            self.release()
        return there

    def _open(self, flags: int) -> int:
        try:
            if flags & os.O_CREAT and self._makes_folder:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            # Not blocking: nobody may ever write to a pipe of this name.
            descriptor = os.open(self.path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            reason = f"{NO_FILE}; choose another with --pidfile"
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            reason = f"{NO_FOLDER}; choose another with --pidfile"
        except PermissionError:
            # Who only looks, looks for the program of this very file.
            other = ", or choose another with --pidfile" if flags & os.O_CREAT else ""
            reason = f"permission denied; run with sudo{other}"
        except OSError as error:
            reason = f"{error.strerror}; choose another with --pidfile"
        raise PidFileError(f"cannot open the pid file {self.path}: {reason}")

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False


def _locked(descriptor: int) -> bool:
    """Lock it; False if somebody holds it, and not only for the moment that a look takes."""
    end = time.monotonic() + LOOK_TAKES
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            select.select([], [], [], LOOK_TAKES / 20)
        else:
            return True


def is_family(pid: int) -> bool:
    """True for this process, and for one that it descends from."""
    at = os.getpid()
    while at not in (0, pid):
        at = _parent(at)
    return at == pid


def _parent(pid: int) -> int:
    """0 for none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name, in brackets, can be anything: what counts stands behind the last one.
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def has_words(pid: int, words: frozenset[str]) -> bool:
    """True if the command line of that process has each word as an argument or as the last part of one."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().decode(errors="replace").split("\0")
    except OSError:
        return False
    return words <= {os.path.basename(argument) for argument in arguments}


def _number(descriptor: int) -> int | None:
    try:
        content = os.pread(descriptor, 32, 0).strip()
    except OSError:  # a directory
        return None
    return int(content) if content.isdigit() and int(content) > 0 else None
