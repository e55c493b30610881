"""The control socket from outside (CONTRACT 9): ask the running program, and follow what comes behind."""

import json
import select
import socket
import time
from typing import Any

from ..errors import NOT_A_REQUEST

QUEUE_FULL_FOR = 0.02
"""Seconds before another try to get a place in it."""
CHUNK = 65_536
"""Bytes that are read at once."""
LONGEST = 16 * 1024 * 1024
"""Bytes of an answer."""
ANOTHER = "another program listens there"


class RequestRefused(ValueError):
    """The program has understood the request, and says why it does not fulfil it."""


def ask(path: str, request: str, *, within: float) -> Any:
    """The answer of the program that listens on `path`, to a request without arguments.

    Raises OSError when nobody listens (FileNotFoundError, ConnectionRefusedError), when asking is not
    allowed (PermissionError), or without an answer after `within` seconds (TimeoutError); ValueError for
    an answer that is none, as RequestRefused for a refusal. Anything may listen there.
    """
    answer, connection, _ = follow(path, request, within=within)
    connection.close()
    return answer


def is_snapshot(answer: Any) -> bool:
    """True for the answer of a program of ours to `status`, whatever its version."""
    program = answer.get("program") if isinstance(answer, dict) else None
    return isinstance(program, dict) and isinstance(program.get("pid"), int)


def follow(path: str, request: str, *, within: float) -> tuple[Any, socket.socket, bytes]:
    """The answer to a request that lines follow: its head, the connection, and what came of the lines.

    The connection has a timeout of `within` seconds. Errors as in `ask`.
    """
    end = time.monotonic() + within
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(within)
        _connect(connection, path, end)
        connection.sendall(json.dumps({"request": request}).encode() + b"\n")
        line, rest = _first_line(connection, end)
        return _answer_in(line, path, request), connection, rest
    except BaseException:  # whatever it is goes on; the descriptor would stay open
        connection.close()
        raise


def _first_line(connection: socket.socket, end: float) -> tuple[bytes, bytes]:
    """The first line of what comes until `end` on the clock, and what came behind it."""
    received = bytearray()
    while b"\n" not in received:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        connection.settimeout(left)
        chunk = connection.recv(CHUNK)
        if not chunk:
            break
        received += chunk
        if len(received) > LONGEST:
            raise ValueError(ANOTHER)
    line, _, rest = bytes(received).partition(b"\n")
    return line, rest


def _answer_in(line: bytes, path: str, request: str) -> Any:
    """The answer to that request in a reply. Raises ValueError for a refusal, and for no reply at all."""
    if not line:
        raise ValueError("it hung up; ask again")
    try:
        reply = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise ValueError(ANOTHER) from None
    if not isinstance(reply, dict) or not reply.get("ok") or request not in reply:
        error = reply.get("error") if isinstance(reply, dict) else None
        known = isinstance(error, str) and not error.startswith(NOT_A_REQUEST)
        raise RequestRefused(error) if known else ValueError(f"{path} does not know {request}")
    return reply[request]


def _connect(connection: socket.socket, path: str, end: float) -> None:
    """Wait for a place in the queue; the kernel tells that it is full, but not when it no longer is."""
    while True:
        try:
            connection.connect(path)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"{path} lets nobody in") from None
            select.select([], [], [], QUEUE_FULL_FOR)
        else:
            return
