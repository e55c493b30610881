"""Put the parts together; what running means."""

import logging
from collections.abc import Callable
from functools import partial
from random import Random

from .clock import clock_is_right
from .config import Config
from .device import (
    STAND_IN,
    Hidraw,
    Ids,
    Nodes,
    Scanner,
    StandIn,
    StandInDialer,
    Wire,
    open_node,
    udev_nodes,
)
from .ledger import Ledger
from .link import Link
from .loop import NEVER, Loop, Worker
from .outputs import Fanout, Output
from .session import Bus

log = logging.getLogger(__name__)

FAREWELL = 3.0
"""Seconds that the end may take: the last words to the broker, a write that is under way."""
RETRY_AFTER, RETRY_AT_MOST = 1.0, 30.0
"""Seconds before a node that failed is tried again; doubled each time."""


def outputs(config: Config, loop: Loop, random: Random) -> list[Output]:
    """The outputs that are switched on; what is off is not even imported."""
    from .outputs.mqtt import MqttOutput

    return [MqttOutput(config.mqtt, loop=loop, random=random)]


class App:
    """The running program: a link for each inverter that is plugged in, and the outputs."""

    def __init__(
        self,
        config: Config,
        loop: Loop,
        outputs: list[Output],
        *,
        wall_clock: Callable[[], float],
        clock_right: Callable[[], bool] = clock_is_right,
        find_nodes: Callable[[Ids, str], Nodes] = udev_nodes,
        open_node: Callable[[str, Ids], int] = open_node,
    ) -> None:
        """`wall_clock` gives seconds since 1970. Raises StartError when something needed is missing."""
        self.closed = False
        self.deadline = NEVER
        self._config = config
        self._loop = loop
        self._fanout = Fanout(outputs)
        self._ledger = Ledger(
            config.inverter.statefile,
            loop=loop,
            publish=self._fanout.handle,
            ask_again=self._ask_again,
            wall_clock=wall_clock,
            clock_right=clock_right,
            speak_for_absent=config.inverter.offlinevalues == "zero",
            poll_interval=config.inverter.pollinterval / 1000,
            believe_all=not config.inverter.plausibility,
        )
        self._wall_clock = wall_clock
        self._find_nodes = find_nodes
        self._open_node = open_node
        self._links: dict[str, Link] = {}
        self._closing: list[Link] = []
        self._troubles: dict[str, str] = {}
        """Name of a device to why it cannot be opened, as said in the log."""
        self._failures: dict[str, int] = {}
        self._stopping = False
        self._late = False
        self._finder = self._make_finder(config.inverter.device)
        loop.add(self._finder)
        loop.add(self._ledger)
        loop.add(self)
        self._ledger.begin()

    def run(self) -> None:
        """Until `stop()` was called and everything is closed, or the farewell took too long."""
        self._loop.run(until=self._finished)

    def stop(self) -> None:
        """Say goodbye to inverters and broker, then let `run()` return."""
        if self._stopping:
            return
        self._stopping = True
        now = self._loop.clock()
        self.deadline = now + FAREWELL
        self._finder.close()
        self._ledger.stop()
        for link in list(self._links.values()):
            link.stop("the program ends", gone=False)
        self._ledger.close()
        self._fanout.stop(now)

    # what the loop wants of a part

    def poll_for(self) -> tuple[int, int] | None:
        return None

    def ready(self, now: float) -> None:
        """Nothing to read here."""

    def tick(self, now: float) -> None:
        self.deadline = NEVER
        self._late = True

    # devices that come and go

    def _make_finder(self, device: str) -> Scanner | StandInDialer:
        if device.startswith(STAND_IN):
            return StandInDialer(device.removeprefix(STAND_IN), self._stand_in_plugged)
        ids = Ids(self._config.inverter.vendorid, self._config.inverter.modelid)
        nodes = self._find_nodes(ids, device)
        return Scanner(nodes, partial(self._node_plugged, ids), self._node_unplugged, device)

    def _node_plugged(self, ids: Ids, path: str) -> None:
        if path not in self._links:
            worker = Worker(self._loop.post, path)
            self._connect(Hidraw(path, lambda node: self._open_node(node, ids), worker))

    def _node_unplugged(self, path: str) -> None:
        self._failures.pop(path, None)
        self._troubles.pop(path, None)
        if path in self._links:
            self._links[path].stop("unplugged", gone=True)

    def _stand_in_plugged(self, path: str) -> None:
        self._connect(StandIn(path))

    def _connect(self, wire: Wire) -> None:
        link = Link(
            wire,
            Bus(self._config.inverter.pollinterval / 1000),
            publish=self._ledger.handle,
            clock=self._loop.clock,
            wall_clock=self._wall_clock,
            ended=self._ended,
        )
        self._links[wire.name] = link
        self._loop.add(link)
        link.open()

    def _ask_again(self, serial: str) -> None:
        for link in self._links.values():
            link.ask_again(serial)

    def _ended(self, link: Link, reason: str) -> None:
        self._links.pop(link.name, None)
        self._closing = [*(other for other in self._closing if not other.closed), link]
        if self._stopping:
            return
        if not link.was_open:
            self._cannot_open(link.name, reason)
        else:
            self._troubles.pop(link.name, None)
            self._failures.pop(link.name, None)
        now = self._loop.clock()
        if isinstance(self._finder, StandInDialer):
            self._finder.failed(now, was_open=link.was_open)
        else:
            failures = self._failures[link.name] = self._failures.get(link.name, 0) + 1
            self._finder.look_again(now + min(RETRY_AFTER * 2 ** (failures - 1), RETRY_AT_MOST))

    def _cannot_open(self, name: str, reason: str) -> None:
        """Say why, once for each reason: it is tried again until it works."""
        if reason and self._troubles.get(name) != reason:
            log.warning("%s", reason)
        elif not reason and name not in self._troubles:
            log.info("No inverter at %s yet; waiting for it", name)
        self._troubles[name] = reason

    def _finished(self) -> bool:
        if not self._stopping:
            return False
        gone = self._fanout.stopped and self._ledger.closed and all(link.closed for link in self._closing)
        return gone or self._late
