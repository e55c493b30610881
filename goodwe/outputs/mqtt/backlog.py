"""Readings that no broker took, sent when one does (CONTRACT 6).

    live       goes out with QoS 1; what is not acknowledged within two seconds goes into the file, too
    no link    into the file at once; the newest of an inverter goes out live all the same, when there is one
    link       out of the file, the oldest first, some at a time; each is deleted when it is acknowledged

So nothing is lost by an outage, a restart, or a kill -9 during one; what was under way when the link broke
comes again, with the same id. The file is only touched in a Worker: a full or slow disk holds nobody.
"""

import logging
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ...events import Reading
from ...loop import NEVER, Host, Timer, Worker
from .feature import Feature, Hub, PublishedInverter
from .message import Message
from .store import TRIM_EVERY, Kept, Store

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds in which a live reading is to be acknowledged; else it is kept as well."""
MOST_UNDER_WAY = 10
"""Readings of the file that wait for their acknowledgement; fewer than paho has, so that live ones pass."""
LIVE_FIRST_WITHIN = 5.0
"""Seconds after the first connection within which those of other inverters carry their live values first."""
RETRY_AFTER = 60.0
"""Seconds after which a disk that refused something is asked again."""
MOST_JOBS = 1000
"""For a disk that hangs; what comes then is lost, and that is said."""

SendKept = Callable[[Kept, Callable[[bool], None]], bool]
"""Publish a reading of the file; the callback gets whether it was acknowledged. False without a link."""


class Live:
    """A reading that was published and not acknowledged yet."""

    def __init__(self, serial: str, taken: float, data: str, due: float) -> None:
        """The reading of inverter `serial`, as the JSON `data`, `taken` in seconds since 1970.

        `due` is when it goes into the file, on the loop's clock.
        """
        self.serial = serial
        self.taken = taken
        self.data = data
        self.due = due
        """When it goes into the file; NEVER when it went."""
        self.number: int | None = None
        """Its number in the file, once it is there."""
        self.acknowledged: bool | None = None
        """None while nobody knows."""


class Backlog(Timer):
    """A part of the loop: what waits for a broker."""

    def __init__(
        self,
        store: Store,
        *,
        rate: float,
        send: SendKept,
        loop: Host,
        wall_clock: Callable[[], float],
        worker: Worker | None = None,
    ) -> None:
        """`store` keeps the readings, `worker` has the thread that uses it: one of its own if not given.

        `send` publishes a reading, at most `rate` of them a second; `loop` runs this. `wall_clock` gives
        seconds since 1970.
        """
        self.closed = False
        self._store = store
        self._rate = rate
        self._send = send
        self._clock = loop.clock
        self._wall_clock = wall_clock
        self._worker = worker or Worker(loop.post, "backlog")
        self._jobs = 0
        self._live: list[Live] = []
        self._under_way: set[int] = set()
        self._acknowledged: set[int] = set()
        """Numbers that are to be deleted; until they are, nothing is sent."""
        self._send_at = NEVER
        self._allowed_at = -NEVER
        """From when on the rate allows the next ones."""
        self._busy = False
        """True while the file is read, or acknowledged readings are deleted."""
        self._added = 0
        self._lost = 0
        """Readings that could not even be kept."""
        self._dropped = 0
        """Readings that were too many or too old."""
        self._sent_again = 0
        """Readings of the file that were acknowledged."""
        self._troubles: dict[str, str] = {}
        """Operation on the file to the reason why it failed the last time."""
        self._told_dropped = False
        self._stopping = False

    def take(self, serial: str, taken: float, data: str) -> Live:
        """A reading is published, or waits to be: `told` what becomes of it, or `keep` it until then."""
        live = Live(serial, taken, data, self._clock() + PATIENCE)
        self._live.append(live)
        return live

    def keep(self, live: Live) -> None:
        """Into the file with it, whatever becomes of it: that may take long, or be a power cut."""
        self._spill(live)

    def told(self, live: Live, acknowledged: bool) -> None:
        """It was acknowledged, or never will be; then it waits in the file like all others."""
        live.acknowledged = acknowledged
        if live.due < NEVER:
            self._live.remove(live)
            if not acknowledged:
                self._spill(live)
        elif live.number is not None:
            self._settle(live)
        elif not acknowledged:  # one of the file, as soon as it is there
            self._live.remove(live)

    def linked(self) -> None:
        """There is a link, and something to do with it: send what waits, as fast as the rate allows."""
        self._send_at = min(self._send_at, max(self._clock(), self._allowed_at))

    def stop(self) -> None:
        """The links are gone: keep what was not acknowledged, close the file; `closed` is then true."""
        self._stopping = True
        for live in list(self._live):
            self._spill(live)
        self._send_at = NEVER
        if self._acknowledged:
            self._delete_acknowledged()
        self._worker.do(self._store.close, self._stopped)
        self._worker.finish()

    def status(self, now: float) -> dict[str, Any]:
        """Plain values for a person; `kept` is null before the file was looked at."""
        return {
            "state": self._state,
            "kept": self._store.kept,
            "under_way": len(self._under_way),
            "unacknowledged": len(self._live),
            "added": self._added,
            "sent_again": self._sent_again,
            "dropped": self._dropped,
            "lost": self._lost,
            "troubles": dict(self._troubles),
        }

    @property
    def _state(self) -> str:
        if self.closed or self._stopping:
            return "closed" if self.closed else "stopping"
        if self._troubles:
            return "in trouble"
        if self._under_way or self._acknowledged:
            return "sending"
        return "waiting" if self._store.kept else "empty"

    # what the loop wants of a part

    @property
    def deadline(self) -> float:
        return min([NEVER if self._busy else self._send_at, *(live.due for live in self._live)])

    def tick(self, now: float) -> None:
        for live in list(self._live):
            if now >= live.due:
                self._spill(live)
        if now >= self._send_at and not self._busy:
            self._send_at = NEVER
            if self._acknowledged:
                self._delete_acknowledged()
            else:
                self._fetch()

    # live readings

    def _spill(self, live: Live) -> None:
        if live.due < NEVER:
            live.due = NEVER
            self._add(
                live.serial,
                live.taken,
                live.data,
                lambda number: self._spilled(live, number),
                lambda: self._not_spilled(live),
            )

    def _spilled(self, live: Live, number: int) -> None:
        live.number = number
        if live.acknowledged is not None:
            self._settle(live)

    def _not_spilled(self, live: Live) -> None:
        if live.acknowledged is None and not self._stopping:  # another try, should it still be so then
            live.due = self._clock() + RETRY_AFTER
            return
        if live in self._live:
            self._live.remove(live)
        if not live.acknowledged:
            self._lose()

    def _settle(self, live: Live) -> None:
        """It is in the file, and its fate is known."""
        assert live.number is not None
        if live in self._live:
            self._live.remove(live)
        if live.acknowledged:
            self._acknowledged.add(live.number)
        self.linked()  # to delete it, or to send it

    # out of the file

    def _fetch(self) -> None:
        count = MOST_UNDER_WAY - len(self._under_way)
        if count <= 0:
            return
        live = {entry.number for entry in self._live if entry.number is not None}
        besides = [*self._under_way, *live]
        self._busy = True
        self._do("read", lambda: self._store.next(count, besides), self._fetched, self._try_later)

    def _fetched(self, readings: list[Kept]) -> None:
        self._busy = False
        # What went into the file, or was acknowledged, since the question was put.
        known = {entry.number for entry in self._live} | self._under_way | self._acknowledged
        for kept in readings:
            if kept.number in known:
                continue
            self._under_way.add(kept.number)
            if not self._send(kept, partial(self._sent, kept.number)):
                self._under_way.discard(kept.number)
                self._try_later()  # linked() may come sooner
                return
        if readings:
            self._allowed_at = self._clock() + len(readings) / self._rate
            self.linked()

    def _try_later(self) -> None:
        self._busy = False
        self._send_at = max(self._clock(), self._allowed_at) + RETRY_AFTER

    def _sent(self, number: int, acknowledged: bool) -> None:
        self._under_way.discard(number)
        if acknowledged:
            self._sent_again += 1
            self._acknowledged.add(number)
            self.linked()

    def _delete_acknowledged(self) -> None:
        numbers = sorted(self._acknowledged)
        self._busy = True
        self._do(
            "delete", lambda: self._store.delete(numbers), lambda _: self._deleted(numbers), self._try_later
        )

    def _deleted(self, numbers: list[int]) -> None:
        self._busy = False
        self._acknowledged.difference_update(numbers)
        self.linked()

    # the file

    def _add(
        self, serial: str, taken: float, data: str, then: Callable[[int], None], failed: Callable[[], None]
    ) -> None:
        if self._jobs >= MOST_JOBS:
            failed()
            return
        self._do("add", lambda: self._store.add(serial, taken, data), then, failed)
        self._added += 1
        if self._added % TRIM_EVERY == 1:
            now = self._wall_clock()
            self._do("trim", lambda: self._store.trim(now), self._trimmed)

    def _trimmed(self, dropped: int) -> None:
        self._dropped += dropped
        if dropped and not self._told_dropped:
            log.warning("The backlog is full, or its oldest readings too old: %d are dropped now", dropped)
        self._told_dropped = dropped > 0

    def _lose(self) -> None:
        self._lost += 1
        if self._lost == 1:
            log.warning("A reading could not be kept in the backlog; later ones are counted")

    def _do(
        self,
        what: str,
        call: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the call in the thread; trouble with the disk is one line a change."""

        def done(outcome: Callable[[], T]) -> None:
            self._jobs -= 1
            try:
                result = outcome()
            except (sqlite3.Error, OSError) as error:
                if str(error) not in self._troubles.values():
                    log.warning("backlog in [mqtt]: %s; live values go on", error)
                self._troubles[what] = str(error)
                failed()
            else:
                self._troubles.pop(what, None)
                then(result)

        self._jobs += 1
        self._worker.do(call, done)

    def _stopped(self, outcome: Callable[[], None]) -> None:
        self.closed = True
        if self._lost:
            log.warning("%d readings could not be kept in the backlog", self._lost)


class _LiveReceipt:
    """Tells the backlog the fate of a reading; an error in that is the feature's own."""

    def __init__(self, backlog: Backlog, live: Live, call: Callable[[Callable[[], None]], None]) -> None:
        """`backlog` is told of `live`; `call` makes a call for the feature."""
        self._backlog = backlog
        self._live = live
        self._call = call

    def wait(self) -> None:
        self._call(lambda: self._backlog.keep(self._live))

    def told(self, acknowledged: bool) -> None:
        self._call(lambda: self._backlog.told(self._live, acknowledged))


class BacklogFeature(Feature):
    """Takes the readings on their way, and sends what waits behind the live values of all inverters."""

    def __init__(self, hub: Hub) -> None:
        """`hub` is what surrounds the feature."""
        settings, loop = hub.settings, hub.context.loop
        self._hub = hub
        self._clock = loop.clock
        self._backlog = Backlog(
            Store(
                settings.backlog,
                largest=settings.backlogsize * 1_000_000,
                oldest=settings.backlogdays * 86400.0,
            ),
            rate=settings.backlograte,
            send=self._send,
            loop=loop,
            wall_clock=hub.context.wall_clock,
        )
        loop.add(self._backlog)
        self._live_first_until = NEVER
        """When inverters whose connection does not stand yet are waited for no longer."""
        self._send_at = NEVER

    @property
    def deadline(self) -> float:
        return self._send_at

    @property
    def stopped(self) -> bool:
        return self._backlog.closed

    def take(self, reading: Reading, data: str) -> _LiveReceipt:
        live = self._backlog.take(reading.serial, reading.when, data)
        return _LiveReceipt(self._backlog, live, self._hub.context.loop.call)

    def caught_up(self, inverter: PublishedInverter) -> None:
        if self._hub.pool.standing == 1:  # the first of them
            self._live_first_until = self._clock() + LIVE_FIRST_WITHIN
        if self._may_send():
            self._backlog.linked()
        else:
            self._send_at = self._live_first_until

    def tick(self, now: float) -> None:
        self._send_at = NEVER
        self._backlog.linked()

    def stop(self, now: float) -> None:
        self._backlog.stop()

    def close(self) -> None:
        self._backlog.stop()

    def status(self, now: float) -> dict[str, Any]:
        return self._backlog.status(now)

    def _may_send(self) -> bool:
        return self._hub.pool.all_stand or self._clock() >= self._live_first_until

    def _send(self, kept: Kept, done: Callable[[bool], None]) -> bool:
        if not self._may_send():
            return False
        topic = f"{self._hub.settings.topic}/{kept.serial}/backlog"
        return self._hub.publish(kept.serial, Message(topic, kept.data, 1), done)


def make(hub: Hub) -> BacklogFeature:
    """The feature, of `backlog` in the section [mqtt]."""
    return BacklogFeature(hub)
