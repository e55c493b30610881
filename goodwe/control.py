"""The control socket (CONTRACT 9): whoever is let in asks, one JSON object a line, and gets one back.

    {"request": "status"}                  ->  {"ok": true, "status": {...}}      see snapshot.py
    {"request": "reload"}                  ->  {"ok": true, "reload": {...}}      see reload.py
    {"request": "losses"}                  ->  {"ok": true, "losses": [...]}      see capture.py
    {"request": "capture"}                 ->  {"ok": true, "capture": {...}}     and lines that follow
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
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import simplejson

from .errors import NOT_A_REQUEST
from .loop import Host
from .times import NEVER

log = logging.getLogger(__name__)

MOST_CLIENTS = 8
LONGEST_REQUEST = 4096
"""Bytes of a line."""
PATIENCE = 5.0
"""Seconds that a client may take between two requests, and for reading an answer."""
MODE = 0o660

MOST_FEEDS = 2
"""Clients that lines follow to, of those that may be there."""
MOST_QUEUED = 65_536
"""Bytes of lines that wait for a client to read them; what comes then is not taken."""
STALLED_FOR = 60.0
"""Seconds after which a client that has lines to read, and takes none, is sent away."""

Answers = Mapping[str, Callable[[], Any]]
"""Name of a request to what answers it: a JSON value, under that name in the reply; or a Later, or a Feed."""


class RequestError(ValueError):
    """A request that cannot be fulfilled; the text says why, and is the reply's."""


class Later(NamedTuple):
    """The answer to a request that takes some time."""

    begin: Callable[[Callable[[Any], None]], object]
    """Given what takes the answer once it is known: a JSON value, or a RequestError."""
    within: float
    """Seconds after which a client without an answer is sent away."""


class Feed(NamedTuple):
    """The answer to a request that lines follow, until the client goes."""

    head: Any
    """A JSON value, for the reply."""
    begin: Callable[[Callable[[str], bool]], Callable[[], None]]
    """Given what takes a line, and says whether it could: what ends it again."""


class ControlSocket:
    """A part of the loop: listens, and lets clients in."""

    def __init__(
        self, path: str, answers: Answers, *, loop: Host, listener: socket.socket | None = None
    ) -> None:
        """Listen on `path`; `loop` runs the clients; each of the `answers` is called in its thread.

        `listener` listens there already; without one it is made.

        A socket that nobody listens on any more is replaced. Raises OSError when another program listens
        there (EADDRINUSE), or when the socket cannot be made.
        """
        self.closed = False
        self.deadline = NEVER
        self._path = path
        self._answers = answers
        self._loop = loop
        self._clients: list[_ControlClient] = []
        self._listener = listener or listen(path)
        self._inode = os.stat(path).st_ino

    def poll_for(self) -> tuple[int, int] | None:
        return (self._listener.fileno(), select.POLLIN) if self.deadline == NEVER else None

    def ready(self, now: float) -> None:
        self._make_place()
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor left: the next turn tries anew
            self.deadline = now + PATIENCE
            return
        connection.setblocking(False)
        client = _ControlClient(connection, self._answers, clock=self._loop.clock, feeds=self._feeds)
        self._clients.append(client)
        self._loop.add(client)

    def tick(self, now: float) -> None:
        self.deadline = NEVER

    def renew(self) -> bool:
        """Listen anew if somebody has removed the socket; True if that was done."""
        if self.closed or os.path.lexists(self._path):
            return False
        try:
            listener = listen(self._path)
        except OSError:  # in a folder that is not ours, or not there
            return False
        self._listener.close()
        self._listener = listener
        self._inode = os.stat(self._path).st_ino
        return True

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

    def _feeds(self) -> int:
        return sum(client.is_fed for client in self._clients if not client.closed)

    def _make_place(self) -> None:
        """Send the client away that asked longest ago, when all places are taken: who comes will ask now.

        A client is answered within three turns of the loop after it came; only one that then stays, without
        asking or without reading, can be the one.
        """
        self._clients = [client for client in self._clients if not client.closed]
        if len(self._clients) >= MOST_CLIENTS:
            others = [client for client in self._clients if not client.is_fed]
            min(others, key=lambda client: client.deadline).close()


class _ControlClient:
    """A part of the loop: one connection, one request at a time; after one for a feed, its lines."""

    def __init__(
        self,
        connection: socket.socket,
        answers: Answers,
        *,
        clock: Callable[[], float],
        feeds: Callable[[], int],
    ) -> None:
        """`connection` is its own from now on, non-blocking; `answers` by the names of the requests.

        `clock` is the loop's; `feeds` counts the clients that lines follow to.
        """
        self.closed = False
        self.deadline = clock() + PATIENCE
        self._clock = clock
        self._connection = connection
        self._answers = answers
        self._received = bytearray()
        self._to_send = bytearray()
        self._pending = ""
        """Name of the request whose answer is not known yet; empty for none."""
        self._feeds = feeds
        self._end_feed: Callable[[], None] | None = None

    @property
    def is_fed(self) -> bool:
        """True once lines follow."""
        return self._end_feed is not None

    def poll_for(self) -> tuple[int, int] | None:
        # While an answer is not known or not taken, no further request is read.
        wanted = 0 if self._pending else select.POLLOUT if self._to_send else select.POLLIN
        return self._connection.fileno(), wanted

    def ready(self, now: float) -> None:
        if self._pending:  # nothing but a hang-up is told then
            self.close()
            return
        try:
            if self._to_send:
                del self._to_send[: self._connection.send(self._to_send)]
                if self.is_fed:
                    self.deadline = now + STALLED_FOR if self._to_send else NEVER
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
        self._pending = ""
        self._connection.close()
        end_feed, self._end_feed = self._end_feed, None
        if end_feed is not None:
            end_feed()

    def _receive(self) -> bool:
        """Take what has come; False at the end of it, when it is too much, or from who is fed."""
        chunk = self._connection.recv(LONGEST_REQUEST)
        if self.is_fed:
            return False
        self._received += chunk
        return bool(chunk) and (b"\n" in self._received or len(self._received) <= LONGEST_REQUEST)

    def _answer_next(self, now: float) -> None:
        """Answer the next request that is here whole, when the one before was answered."""
        if self._to_send or self._pending or b"\n" not in self._received:
            return
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        self.deadline = now + PATIENCE
        name, answer = self._asked(line)
        if isinstance(answer, Later):
            self.deadline = now + answer.within
            self._pending = name
            answer.begin(self._known)
        else:
            self._reply(name, answer)

    def _known(self, answer: Any) -> None:
        """The answer to the pending request."""
        name, self._pending = self._pending, ""
        if name:  # else the client was sent away meanwhile
            self.deadline = self._clock() + PATIENCE
            self._reply(name, answer)

    def _reply(self, name: str, answer: Any) -> None:
        refused = isinstance(answer, RequestError)
        reply = {"ok": False, "error": str(answer)} if refused else {"ok": True, name: answer}
        self._to_send += simplejson.dumps(reply, ignore_nan=True).encode() + b"\n"

    def _take(self, line: str) -> bool:
        """Queue a line of the feed for the client; False when too much waits already."""
        raw = line.encode() + b"\n"
        if self.closed or len(self._to_send) + len(raw) > MOST_QUEUED:
            return False
        if not self._to_send:
            self.deadline = self._clock() + STALLED_FOR
        self._to_send += raw
        return True

    def _fed(self, feed: Feed) -> Any:
        if self._feeds() >= MOST_FEEDS:
            raise RequestError(f"{MOST_FEEDS} are at it already; end one of them")
        self._end_feed = feed.begin(self._take)
        return feed.head

    def _asked(self, line: bytes) -> tuple[str, Any]:
        """Name of the request on that line, and its answer, which can be a RequestError or a Later."""
        try:
            request = simplejson.loads(line.decode())
            name = request["request"]
            answer = self._answers[name]
        except (ValueError, TypeError, KeyError, RecursionError):
            known = ", ".join(f'{{"request": "{name}"}}' for name in self._answers)
            return "", RequestError(f"{NOT_A_REQUEST}; known are {known}")
        try:
            value = answer()
            return name, self._fed(value) if isinstance(value, Feed) else value
        except RequestError as error:
            return name, error


def listen(path: str) -> socket.socket:
    """The socket that listens there for owner and group. Raises OSError as `ControlSocket` does."""
    remove_stale(path)
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


def remove_stale(path: str) -> None:
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
