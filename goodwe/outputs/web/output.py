"""The output that serves the page: keeps what was said of each inverter, listens as soon as that can be."""

import errno
import logging
import queue
import resource
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ... import __version__
from ...events import Happening
from ...loop import NEVER, Timer
from .. import Context, Output
from . import data
from .latest import Latest
from .server import Server, listening
from .settings import WebSettings
from .site import Sources, WebSite

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY = 10.0
"""Seconds between two tries to listen: a port that is taken, an address that the machine has not got yet."""
PATIENCE = 2.0
"""Seconds that a page waits for the loop."""
FOR_ROOT = "; ports below 1024 are for root: choose another with listen in [web]"
OWN_DOMAINS = ("local", "lan", "home", "home.arpa", "internal", "localdomain")
"""Domains that nobody on the internet can have: a name of this machine in one of them is ours."""


def own_names(hostname: str) -> set[str]:
    """The names by which a machine of that name is called in its house."""
    name = hostname.lower().rstrip(".")
    short = name.partition(".")[0]
    return {"localhost", name, short, *(f"{short}.{domain}" for domain in OWN_DOMAINS)} - {""}


class WebOutput(Output, Timer):
    """The page. A part of the loop until it listens."""

    def __init__(
        self,
        settings: WebSettings,
        context: Context,
        *,
        listen: Callable[..., socket.socket] = listening,
        serve: Callable[..., Server] = Server,
    ) -> None:
        """`settings` of its section; `context` as every output gets it.

        `listen` makes the socket and `serve` answers at it.
        """
        self.closed = False
        self.deadline = context.loop.clock()
        self._settings = settings
        self._context = context
        self._listen = listen
        self._serve = serve
        self._server: Server | None = None
        self._trouble = ""
        self._began = context.loop.clock()
        self._start = context.wall_clock()
        self._fresh = max(data.FRESH, 3 * context.config.inverter.pollinterval / 1000)
        self._latest = Latest(context.wall_clock)
        config = context.config
        self._site = WebSite(
            Sources(
                live=self._latest,
                wall_clock=context.wall_clock,
                history=self._history(),
                status=lambda: self._ask(self._status),
                program=self._program,
                metrics=self._metrics() if settings.metrics else None,
                fresh=self._fresh,
            ),
            hosts=lambda: own_names(socket.gethostname()) | set(settings.names),
            frame=settings.frame,
            language=config.mqtt.language,
        )
        context.loop.add(self)

    def handle(self, event: Happening) -> None:
        self._latest.handle(event)

    def stop(self, now: float) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        if self._server is not None:
            self._server.close()

    def status(self, now: float) -> dict[str, Any]:
        """JsonObject values: where it listens, or why not."""
        state = "listening" if self._server is not None else "waiting"
        return {"state": state, "listen": str(self._settings.listen), "why_not": self._trouble or None}

    # what the loop wants of a part

    def tick(self, now: float) -> None:
        try:
            at = self._listen(self._settings.listen)
        except OSError as error:
            self.deadline = now + RETRY
            self._say(f"{error.strerror or error}{FOR_ROOT if error.errno == errno.EACCES else ''}")
            return
        self.deadline = NEVER
        self._server = self._serve(self._site, at)
        self._trouble = ""
        log.info("The page is at http://%s/", self._settings.listen)

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning(
                "The page cannot be served at %s yet: %s; trying again every %d s",
                self._settings.listen,
                trouble,
                RETRY,
            )
        self._trouble = trouble

    # what the pages ask

    def _history(self) -> Callable[[], Any] | None:
        settings = getattr(self._context.config, "history", None)
        if settings is None or not settings.enabled:
            return None
        from ...history.queries import Reader

        return lambda: Reader(settings.file)

    def _metrics(self) -> Callable[[], bytes]:
        from .metrics import exposition

        def text() -> bytes:
            inverters, at = self._latest.inverters, self._context.wall_clock()
            fresh = frozenset(
                serial for serial, seen in inverters.items() if seen.online and at - seen.when < self._fresh
            )
            return exposition(inverters, fresh, self._ask(self._status), self._program())

        return text

    def _status(self) -> Mapping[str, Any]:
        actions = self._context.actions
        return actions.status(self._context.loop.clock()) if actions is not None else {}

    def _program(self) -> Mapping[str, Any]:
        return {
            "version": __version__,
            "uptime_seconds": self._context.loop.clock() - self._began,
            "start_epoch": self._start,
            "memory_kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer of the loop's thread. Raises TimeoutError when it takes too long."""
        answers: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._context.loop.post(lambda: answers.put(question()))
        try:
            return answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise TimeoutError("The program does not answer now.") from None
