"""A stand-in for an inverter: a Unix socket that behaves like its hidraw node (CONTRACT 8)."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from ..errors import DeviceError
from ..loop import NEVER, Timer
from .hidraw import READ_SIZE, wrap
from .wire import Ids, Wire


class StandIn:
    """A wire to the socket at a path, one message a report."""

    capacity = 1
    has_envelope = True

    def __init__(self, path: str) -> None:
        """`path` is that of the socket, which may not be there yet."""
        self.name = f"unix:{path}"
        self._path = path
        self._socket: socket.socket | None = None

    def open(self, opened: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            self._socket.connect(self._path)
        except OSError as error:
            failed(self._explained(error))
        else:
            opened()

    def fileno(self) -> int:
        return self._connection().fileno()

    def read(self) -> bytes:
        report = self._connection().recv(READ_SIZE)
        if not report:
            raise OSError(errno.EIO, "the stand-in closed the connection")
        return report

    def write(self, frame: bytes, failed: Callable[[OSError], None]) -> None:
        try:
            self._connection().send(wrap(frame))
        except OSError as error:
            failed(error)

    def reset(self, failed: Callable[[Exception], None]) -> None:
        """A socket has no port; closing it is all that can be done."""

    def close(self, closed: Callable[[], None]) -> None:
        if self._socket is not None:
            self._socket.close()
        closed()

    def status(self, now: float) -> dict[str, Any]:
        return {"name": self.name, "capacity": self.capacity, "has_envelope": self.has_envelope}

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._socket

    def _explained(self, error: OSError) -> Exception:
        """A DeviceError that says what a person can do; the error itself where that is to wait."""
        if isinstance(error, PermissionError):
            return DeviceError(
                f"cannot open {self.name}: permission denied. Its user must be given the right to write to"
                " the socket and to enter its folder: chmod, or listen as the user that this runs as"
            )
        if error.errno == errno.EPROTOTYPE:
            return DeviceError(f"{self._path} is a socket of another kind; a stand-in's is SOCK_SEQPACKET")
        if error.errno == errno.ECONNREFUSED and not _is_socket(self._path):
            return DeviceError(f"{self._path} is there and is no socket; check device in [inverter]")
        return error


def _is_socket(path: str) -> bool:
    """True also if it cannot be seen."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True


class StandInFinder(Timer):
    """Calls for the stand-in, again and again while it is not connected: after 1 s, later after 30 s."""

    OFTEN, SELDOM = 1.0, 30.0
    OFTEN_FOR = 120.0

    def __init__(self, path: str, plugged: Callable[[Wire], None]) -> None:
        """`path` is the socket's; `plugged` is called with a wire to be tried."""
        self.closed = False
        self.deadline = -NEVER
        self._path = path
        self._plugged = plugged
        self._since = NEVER

    def tick(self, now: float) -> None:
        self.deadline = NEVER
        self._plugged(StandIn(self._path))

    def ended(self, name: str, now: float, *, was_open: bool) -> None:
        if was_open or self._since == NEVER:
            self._since = now
        self.deadline = now + (self.OFTEN if now - self._since < self.OFTEN_FOR else self.SELDOM)

    def close(self) -> None:
        self.closed = True

    def status(self, now: float) -> dict[str, Any]:
        in_use = self.deadline == NEVER
        return {
            "state": "closed" if self.closed else "in_use" if in_use else "calling",
            "device": f"unix:{self._path}",
            "next_look_seconds": None if in_use else max(0.0, self.deadline - now),
        }


def find(
    device: str,
    ids: Ids,
    *,
    post: Callable[[Callable[[], None]], None],
    plugged: Callable[[Wire], None],
    unplugged: Callable[[str], None],
) -> StandInFinder:
    """The finder of the stand-in that `device` names, as `Find` has it; a socket has no USB numbers."""
    return StandInFinder(device.removeprefix("unix:"), plugged)
