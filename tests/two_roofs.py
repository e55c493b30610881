"""The program with two stand-ins in place of one: `python -m tests.two_roofs CONFIG SOCKET SOCKET`.

Two inverters on two wires need two nodes; a machine that tests run on has none, and `device` names one socket.
"""

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from goodwe.app import App, outputs
from goodwe.config import parse
from goodwe.loop import Loop, Timer
from goodwe.service import stop_on_signal
from goodwe.transport import Ids, Wire
from goodwe.transport.standin import StandInFinder


class Both(Timer):
    """Finds the stand-ins at all these paths."""

    def __init__(self, paths: list[str], plugged: Callable[[Wire], None]) -> None:
        self._finders = {f"unix:{path}": StandInFinder(path, plugged) for path in paths}

    @property
    def closed(self) -> bool:
        return all(finder.closed for finder in self._finders.values())

    @property
    def deadline(self) -> float:
        return min(finder.deadline for finder in self._finders.values())

    def tick(self, now: float) -> None:
        for finder in self._finders.values():
            if finder.deadline <= now:
                finder.tick(now)

    def ended(self, name: str, now: float, *, was_open: bool) -> None:
        self._finders[name].ended(name, now, was_open=was_open)

    def close(self) -> None:
        for finder in self._finders.values():
            finder.close()

    def status(self, now: float) -> dict[str, Any]:
        return {"devices": [finder.status(now) for finder in self._finders.values()]}


def main(path: str, *sockets: str) -> None:
    """Run by the configuration at that path until SIGTERM."""

    def find(
        device: str,
        ids: Ids,
        *,
        post: Callable[[Callable[[], None]], None],
        plugged: Callable[[Wire], None],
        unplugged: Callable[[str], None],
    ) -> Both:
        return Both(list(sockets), plugged)

    with open(path, encoding="utf-8") as file:
        config, _ = parse(file.read(), path)
    loop = Loop(time.monotonic)
    app = App(config, loop, partial(outputs, config, loop, Random()), wall_clock=time.time, find=find)
    stop_on_signal(loop, app.stop)
    app.run()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(*sys.argv[1:])
