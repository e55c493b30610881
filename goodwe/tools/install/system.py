"""The machine as `install` changes it: whole files, commands, and a record of what was put where."""

import contextlib
import errno
import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import simplejson

from ...errors import InstallError
from .files import hash_of

RECORD = "/var/lib/goodwe-usb-logger/installed.json"
"""For root alone to write, unlike the folder of the totals."""
COMMAND_WITHIN = 60.0
"""Seconds for useradd, systemctl and the like."""
REMEDIES = {
    errno.EROFS: "its file system is mounted read-only: sudo mount -o remount,rw /",
    errno.ENOSPC: "no space is left on its disk: sudo du -xh / | sort -h | tail",
    errno.EDQUOT: "no space is left for this user",
    errno.EACCES: "permission denied; run it with sudo",
    errno.EBUSY: "it is mounted by itself, as in a container: change it where it comes from",
    errno.EPERM: "it cannot be changed; run it with sudo, and see lsattr",
}


def run(words: list[str]) -> str:
    """The output of a command. Raises InstallError when it is missing, fails or takes too long."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=COMMAND_WITHIN, env={**os.environ, "PATH": path}
        )
    except FileNotFoundError as error:
        raise InstallError(f"{words[0]} is missing; it was to do: {' '.join(words)}") from error
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"not done after {COMMAND_WITHIN:.0f} s: {' '.join(words)}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise InstallError(f"{' '.join(words)}: {said[-1]}")
    return done.stdout


class System:
    """The machine below a root folder; where it is `dry`, everything is looked at and nothing changed."""

    def __init__(
        self,
        *,
        root: str = "/",
        dry: bool = False,
        run: Callable[[list[str]], str] = run,
        chown: Callable[[int, int, int], None] = os.chown,
    ) -> None:
        """`root` stands in front of each path, `run` gives a command's output and raises InstallError.

        `chown` is called with a file's descriptor and the numbers of user and group.
        """
        self.root = root
        self.dry = dry
        self.left: list[str] = []
        """Things that a person has to do about what was left as it is."""
        self.restartd_paused = False
        self._run = run
        self._chown = chown
        self.record = self._read_record()

    @property
    def is_whole(self) -> bool:
        """True for the machine itself, False for a folder with another one in it."""
        return self.root == "/"

    # --- looking

    def at(self, path: str) -> Path:
        """Where a path is, with the root in front."""
        return Path(self.root) / path.lstrip("/")

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.at(path))

    def read(self, path: str) -> bytes | None:
        """The content of a file, None without one. Raises InstallError."""
        try:
            return self.at(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _told(path, error) from error

    def has_command(self, name: str) -> bool:
        path = os.pathsep.join(str(self.at(folder)) for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"))
        return shutil.which(name, path=path) is not None

    def group(self, name: str) -> int | None:
        """The number of a group, None without it."""
        if self.is_whole:
            with contextlib.suppress(KeyError):
                return grp.getgrnam(name).gr_gid
            return None
        return self._number("/etc/group", name)

    def user(self, name: str) -> int | None:
        """The number of a user, None without one."""
        if self.is_whole:
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name).pw_uid
            return None
        return self._number("/etc/passwd", name)

    def _number(self, path: str, name: str) -> int | None:
        rows = (line.split(":") for line in (self.read(path) or b"").decode().splitlines())
        return next((int(row[2]) for row in rows if row[0] == name and len(row) > 2), None)

    # --- changing

    def command(self, *words: str) -> None:
        """Run it, unless dry. Raises InstallError."""
        if not self.dry:
            self._run(list(words))

    def asked(self, *words: str) -> str:
        """The output of a command that changes nothing; empty where it fails or is missing."""
        try:
            return self._run(list(words)).strip()
        except InstallError:
            return ""

    def write(self, path: str, content: bytes, *, mode: int = 0o644, user: int = 0, group: int = 0) -> None:
        """Put a file there, of root unless said otherwise, whole or not at all. Raises InstallError."""
        if self.dry:
            return
        target = self.at(path)
        temporary = target.with_name(f".{target.name}.goodwe-tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    self._chown(descriptor, user, group)
                    os.fchmod(descriptor, mode)
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _told(path, error) from error

    def give(self, path: str, user: int, group: int, mode: int) -> None:
        """Make a file or folder somebody's, with these rights; no link is followed. Raises InstallError."""
        if self.dry:
            return
        try:
            descriptor = os.open(self.at(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._chown(descriptor, user, group)
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _told(path, error) from error

    def make_folder(self, path: str, user: int, group: int) -> None:
        """A folder of that user, with all that is in it already; no link is followed. Raises InstallError."""
        if self.dry:
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self.at(path).mkdir(parents=True, exist_ok=True)
            for _, _, files, folder in os.fwalk(self.at(path)):
                self._chown(folder, user, group)
                for name in files:
                    with contextlib.suppress(FileNotFoundError):  # it is in use
                        descriptor = os.open(name, flags, dir_fd=folder)
                        self._chown(descriptor, user, group)
                        os.close(descriptor)
        except OSError as error:
            raise _told(path, error) from error

    def touch(self, path: str) -> None:
        """Make a file look changed, if there is one. Raises InstallError."""
        if self.dry or not self.exists(path):
            return
        try:
            os.utime(self.at(path), follow_symlinks=False)
        except OSError as error:
            raise _told(path, error) from error

    def rename(self, path: str, to: str) -> None:
        if self.dry:
            return
        try:
            os.replace(self.at(path), self.at(to))
        except OSError as error:
            raise _told(path, error) from error

    def remove(self, path: str) -> None:
        """Take a file or a folder with all that is in it away; it need not be there. Raises InstallError."""
        if self.dry:
            return
        target = self.at(path)
        try:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        except OSError as error:
            raise _told(path, error) from error

    # --- what was put where

    def known(self, path: str) -> tuple[str, ...]:
        """Hashes of what we have put there."""
        return tuple(filter(None, [self.record["files"].get(path)]))

    def note_file(self, path: str, content: bytes) -> None:
        """Write down that this content is ours."""
        self.record["files"][path] = hash_of(content)
        self.save()

    def note_offer(self, path: str, content: bytes) -> None:
        """Write down that this content lies beside the file."""
        self.record["offered"][path] = hash_of(content)
        self.save()

    def was_offered(self, path: str, content: bytes) -> bool:
        """True if this content lay beside the file before: whoever did not take it does not want it."""
        return bool(self.record["offered"].get(path) == hash_of(content))

    def forget(self, path: str) -> None:
        """It is not ours any more."""
        for part in ("files", "offered"):
            self.record[part].pop(path, None)
        self.save()

    def note_made(self, what: str) -> None:
        """Write down that we have made the user or the group."""
        self.record["made"] = sorted({*self.record["made"], what})
        self.save()

    def save(self) -> None:
        """Keep the record."""
        self.write(RECORD, (simplejson.dumps(self.record, indent=2, sort_keys=True) + "\n").encode())

    def _read_record(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"files": {}, "offered": {}, "made": []}
        try:
            found = simplejson.loads(self.read(RECORD) or b"{}")
            return {key: _like(found.get(key), value) for key, value in empty.items()}
        except (ValueError, AttributeError):  # damaged: then what is not as shipped counts as edited
            return empty


def _like(value: Any, default: Any) -> Any:
    """The value if it is of that kind."""
    return value if isinstance(value, type(default)) else default


def _told(path: str, error: OSError) -> InstallError:
    return InstallError(f"{path}: {REMEDIES.get(error.errno or 0, error.strerror or str(error))}")
