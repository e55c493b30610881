"""The control socket (CONTRACT 9): whoever is let in asks, one JSON object a line, and gets one back.

    {"request": "status"}                  ->  {"ok": true, "status": {...}}      see snapshot.py
    anything else                          ->  {"ok": false, "error": "..."}

A Unix stream socket beside the pid file, or in the RuntimeDirectory of systemd; for its owner and group.
Clients are few, what they send is short, and who neither asks nor reads is sent away: nobody can hold the
readings up, or fill the memory.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping
from typing import Any

import simplejson

from .loop import Host
from .times import NEVER

log = logging.getLogger(__name__)

SYSTEMD_SOCKET = "/run/goodwe/control.sock"
"""Where the unit's program listens: RuntimeDirectory=goodwe."""
MOST_CLIENTS = 8
LONGEST_REQUEST = 4096
"""Bytes of a line."""
PATIENCE = 5.0
"""Seconds that a client may take between two requests, and for reading an answer."""
MODE = 0o660
QUEUE_FULL_FOR = 0.02
"""Seconds before another try to get a place in it."""

Answers = Mapping[str, Callable[[], Any]]
"""Name of a request to what answers it: a JSON value, under that name in the reply."""


def path_of(pidfile: str, environ: Mapping[str, str]) -> str:
    """Path of the socket of this process: in the RuntimeDirectory of its unit, else beside the pid file."""
    folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return os.path.join(folder, os.path.basename(SYSTEMD_SOCKET)) if folder else path_beside(pidfile)


def path_beside(pidfile: str) -> str:
    """Path of the socket of a program with that pid file."""
    return f"{os.path.splitext(pidfile)[0]}.sock"


class ControlSocket:
    """A part of the loop: listens, and lets clients in."""

    def __init__(self, path: str, answers: Answers, *, loop: Host) -> None:
        """Listen on `path`; `loop` runs the clients; each of the `answers` is called in its thread.

        A socket that nobody listens on any more is replaced. Raises OSError when another program listens
        there (EADDRINUSE), or when the socket cannot be made.
        """
        self.closed = False
        self.deadline = NEVER
        self._path = path
        self._answers = answers
        self._loop = loop
        self._clients: list[_ControlClient] = []
        self._listener = _listen(path)
        self._inode = os.stat(path).st_ino

    def poll_for(self) -> tuple[int, int] | None:
        # Who comes when all places are taken waits in the kernel's queue.
        return (self._listener.fileno(), select.POLLIN) if self._has_room() else None

    def ready(self, now: float) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor left: the next turn tries anew
            self.deadline = now + PATIENCE
            return
        connection.setblocking(False)
        client = _ControlClient(connection, self._answers, now)
        self._clients.append(client)
        self._loop.add(client)

    def tick(self, now: float) -> None:
        self.deadline = NEVER

    def close(self) -> None:
        """Let nobody in any more, send everybody away, and remove the file while it is ours."""
        if self.closed:
            return
        self.closed = True
        for client in self._clients:
            client.close()
        self._listener.close()
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    def status(self, now: float) -> dict[str, Any]:
        """Where it listens, and how many are there."""
        return {"path": self._path, "clients": sum(not client.closed for client in self._clients)}

    def _has_room(self) -> bool:
        self._clients = [client for client in self._clients if not client.closed]
        return len(self._clients) < MOST_CLIENTS and self.deadline == NEVER


class _ControlClient:
    """A part of the loop: one connection, one request at a time."""

    def __init__(self, connection: socket.socket, answers: Answers, now: float) -> None:
        """`connection` is its own from now on, non-blocking; `answers` by the names of the requests.

        `now` is on the loop's clock.
        """
        self.closed = False
        self.deadline = now + PATIENCE
        self._connection = connection
        self._answers = answers
        self._received = bytearray()
        self._to_send = b""

    def poll_for(self) -> tuple[int, int] | None:
        # While an answer is not taken, no further request is read.
        return self._connection.fileno(), select.POLLOUT if self._to_send else select.POLLIN

    def ready(self, now: float) -> None:
        try:
            if self._to_send:
                self._to_send = self._to_send[self._connection.send(self._to_send) :]
            elif not self._receive():
                self.close()
                return
            self._answer_next(now)
        except BlockingIOError:
            pass
        except OSError:  # whoever asked is gone
            self.close()

    def tick(self, now: float) -> None:
        self.close()

    def close(self) -> None:
        """Send the client away."""
        self.closed = True
        self._connection.close()

    def _receive(self) -> bool:
        """Take what has come; False at the end of it, or when it is too much."""
        chunk = self._connection.recv(LONGEST_REQUEST)
        self._received += chunk
        return bool(chunk) and (b"\n" in self._received or len(self._received) <= LONGEST_REQUEST)

    def _answer_next(self, now: float) -> None:
        """Answer the next request that is here whole, when the one before was answered."""
        if self._to_send or b"\n" not in self._received:
            return
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        self.deadline = now + PATIENCE
        self._to_send = simplejson.dumps(self._reply(line), ignore_nan=True).encode() + b"\n"

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = simplejson.loads(line.decode())
            name = request["request"]
            answer = self._answers[name]
        except (ValueError, TypeError, KeyError, RecursionError):
            known = ", ".join(f'{{"request": "{name}"}}' for name in self._answers)
            return {"ok": False, "error": f"not a request; known are {known}"}
        return {"ok": True, name: answer()}


def ask(path: str, request: str, *, within: float) -> Any:
    """The answer of the program that listens on `path`, to a request without arguments.

    Raises OSError when nobody listens (FileNotFoundError, ConnectionRefusedError), when asking is not
    allowed (PermissionError), or without an answer after `within` seconds (TimeoutError); ValueError for
    an answer that is none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within)
        _connect(connection, path, within)
        connection.sendall(simplejson.dumps({"request": request}).encode() + b"\n")
        with connection.makefile("rb") as file:
            line = file.readline()
    reply = simplejson.loads(line.decode())
    if not isinstance(reply, dict) or not reply.get("ok") or request not in reply:
        raise ValueError(f"{path} does not know {request}")
    return reply[request]


def _connect(connection: socket.socket, path: str, within: float) -> None:
    """Wait for a place in the queue; the kernel tells that it is full, but not when it no longer is."""
    end = time.monotonic() + within
    while True:
        try:
            connection.connect(path)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"{path} lets nobody in") from None
            select.select([], [], [], QUEUE_FULL_FOR)
        else:
            return


def _listen(path: str) -> socket.socket:
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listener.fileno(), MODE)  # what bind() makes has it from the start, less the umask
        listener.bind(path)
        os.chmod(path, MODE)
        listener.listen(MOST_CLIENTS)
    except BaseException:  # whatever it is goes on; the descriptor would stay open
        listener.close()
        raise
    return listener


def _make_room(path: str) -> None:
    """Remove a socket that nobody listens on; nothing else. Raises OSError."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "it is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # so many wait to be let in that it would block
    raise OSError(errno.EADDRINUSE, "another program listens there")
