"""waitress in a thread of its own, on a socket of ours."""

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from waitress.server import create_server

from ...memory import trim
from .settings import Address

THREADS = 2
"""Few: each that computes may keep the readings from the processor for 5 ms."""
LIMITS: dict[str, Any] = {
    "threads": THREADS,
    "connection_limit": 100,
    "backlog": 64,
    "channel_timeout": 20,
    "cleanup_interval": 10,
    "max_request_header_size": 16_384,
    "max_request_body_size": 1024,
    "asyncore_loop_timeout": 30,
    "asyncore_use_poll": True,
    "clear_untrusted_proxy_headers": True,
    "ident": "",
}
"""Seconds, bytes, counts; as waitress names them. Nobody is told what serves the page."""
PULLED_WITHIN = 5.0


def listening(address: Address) -> socket.socket:
    """A socket that listens there. Raises OSError when that cannot be, now."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # [::] is for both
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address.host, address.port))
        made.listen(LIMITS["backlog"])
    except BaseException:  # whatever it is goes on; the descriptor would stay open
        made.close()
        raise
    return made


def _thrifty(application: Callable[..., Any]) -> Callable[..., Any]:
    """The same application, which first hands back what the page before has left: some 100 KiB."""

    def answer(environ: Any, start_response: Any) -> Any:
        trim()
        return application(environ, start_response)

    return answer


class Server:
    """Answers at a socket until it is closed."""

    def __init__(self, application: Callable[..., Any], at: socket.socket) -> None:
        """`application` is WSGI's; `at` listens, and is the server's from now on."""
        # What it says of queues and of clients that went away is nothing that anybody has to mend.
        logging.getLogger("waitress").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._pulled = threading.Event()
        """Set once `close` has written to the server's own pipe, which may be closed then."""
        self._server: Any = create_server(_thrifty(application), map=self._map, sockets=[at], **LIMITS)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more; the thread ends soon."""
        self._server.trigger.pull_trigger(self._end)
        self._pulled.set()

    @property
    def closed(self) -> bool:
        """True when its thread has ended, and the socket is free."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._server.run()
        self._server.task_dispatcher.shutdown(timeout=1)

    def _end(self) -> None:
        # A thread that was awake already comes here before the pipe is written to.
        self._pulled.wait(PULLED_WITHIN)
        for one in list(self._map.values()):
            one.close()
