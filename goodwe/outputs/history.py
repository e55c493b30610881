"""The history: what is read goes into a file, for ever (goodwe/history/HISTORY.md). Off without its section.

Every five minutes the slots that have ended are written in one transaction, in a thread of their own: a disk
that is slow or full holds no reading up. What it does not take waits, as much as there is room for. While
the time of day is not known to be right, all of it waits: nothing is filed under a day that nobody knows.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..config import parsers
from ..config.options import Complaint, Config, OutputSection, option
from ..errors import HistoryError
from ..events import Happening, Info, Instructed, Offline, Reading, RefusedReading, Resting
from ..loop import Timer, Worker
from ..times import NEVER
from . import Context, Output

if TYPE_CHECKING:
    from ..history.recorder import Batch, Recorder

log = logging.getLogger(__name__)

AFTER = 5.0
"""Seconds after the end of a slot: the next reading tells how its last seconds were."""
NEWS_WITHIN = 60.0
"""Seconds in which an event is written."""
RETRY_AFTER = 60.0
"""Seconds after which a disk that refused something is asked again."""


@dataclass(frozen=True, kw_only=True)
class HistorySettings(OutputSection):
    """Section [history]."""

    NAME = "history"

    file: str = option(
        "/var/lib/goodwe/history.db",
        parsers.own_file("/var/lib/goodwe/history.db"),
        "File that keeps what was made and what happened, for ever, some 7 MB a year and inverter.",
    )

    def check(self, config: Config) -> Iterator[Complaint]:
        if self.enabled and not self.file:
            yield Complaint("file", "file is empty; name one, or delete the section [history]")


SECTIONS = (HistorySettings,)
READS = ("inverter.plausibility", "inverter.pollinterval")


class Written(Protocol):
    """The file, as a thread uses it."""

    def write(self, batch: "Batch") -> None:
        """Put it all into the file, or nothing of it. Raises HistoryError."""

    def close(self) -> None:
        """Give the file back."""


class HistoryOutput(Timer, Output):
    """A part of the loop: takes what happens, and has it written."""

    def __init__(
        self, archive: Written, recorder: "Recorder", context: Context, worker: Worker | None = None
    ) -> None:
        """`archive` is the file, `recorder` makes slots of readings; `context` is what surrounds an output.

        `worker` has the thread that writes: one of its own if not given.
        """
        self.closed = False
        self._archive = archive
        self._recorder = recorder
        self._clock = context.loop.clock
        self._wall_clock = context.wall_clock
        self._clock_right = context.clock_right
        self._worker = worker or Worker(context.loop.post, "history")
        self._dated = False
        """True once the time of day was known to be right; it stays so."""
        self._due = NEVER
        self._writing = False
        self._stopping = False
        self._trouble = ""
        self._told_lost = False
        self._written_at: float | None = None
        self._event("started", None, f"version {__version__}")
        context.loop.add(self)

    def handle(self, event: Happening) -> None:
        match event:
            case Reading():
                self._recorder.reading(event, self._moment(event.when))
            case Resting() if self._is_dated():
                self._recorder.resting(event)
            case Offline(serial, _, reason):
                self._recorder.away(serial, reason, self._moment())
            case Info(serial, "idInfo", values):
                self._recorder.info(serial, values)
            case RefusedReading(serial, reason, detail):
                self._recorder.refused(serial, reason, detail, self._moment())
            case Instructed(serial, per_cent, text):
                self._event("limit", per_cent, text, serial)
        self._plan()

    def stop(self, now: float) -> None:
        self._stopping = True
        self._event("stopped", None, "")
        if self._dated:
            self._write(NEVER)
        self._worker.do(self._archive.close, self._stopped)
        self._worker.finish()
        self._due = NEVER

    @property
    def stopped(self) -> bool:
        return self.closed

    def close(self) -> None:
        self._stopping = True
        self._worker.do(self._archive.close, self._stopped)
        self._worker.finish()

    def status(self, now: float) -> dict[str, Any]:
        return {
            "state": self._state,
            "trouble": self._trouble or None,
            "written_seconds": None if self._written_at is None else now - self._written_at,
            "clock_right": self._dated,
            "waiting": self._recorder.waiting,
            "lost": self._recorder.lost,
        }

    @property
    def _state(self) -> str:
        if self.closed or self._stopping:
            return "closed" if self.closed else "stopping"
        if self._trouble:
            return "in trouble"
        return "running" if self._dated else "waiting for the clock"

    # what the loop wants of a part

    @property
    def deadline(self) -> float:
        return NEVER if self._writing else self._due

    def tick(self, now: float) -> None:
        self._due = NEVER
        moment = self._moment()
        if self._is_dated():
            self._write(moment)
        else:
            self._recorder.close(moment)
        self._tell_lost()
        self._plan()

    # time

    def _is_dated(self) -> bool:
        if not self._dated and self._clock_right():
            self._dated = True
            self._recorder.date_from(self._wall_clock() - self._clock())
        return self._dated

    def _moment(self, when: float = 0.0) -> float:
        """Now, or `when`, on the line of time that the recorder is on."""
        return (when or self._wall_clock()) if self._is_dated() else self._clock()

    def _plan(self) -> None:
        """Note when to write next, if there is anything."""
        if self._stopping or not self._recorder.waits:
            return
        now = self._clock()
        self._due = min(self._due, now + self._recorder.until_slot_ends(self._moment()) + AFTER)
        if self._recorder.news and self._dated and not self._trouble:
            self._due = min(self._due, now + NEWS_WITHIN)

    # the file

    def _event(self, kind: str, code: int | None, text: str, serial: str = "") -> None:
        self._recorder.happened(kind, code, text, serial, self._moment())
        self._plan()

    def _write(self, until: float) -> None:
        batch = self._recorder.take(until)
        if batch is not None:
            self._writing = True
            self._worker.do(partial(self._archive.write, batch), partial(self._done, batch))

    def _done(self, batch: "Batch", outcome: Callable[[], None]) -> None:
        self._writing = False
        try:
            outcome()
        except HistoryError as error:
            self._recorder.give_back(batch)
            if self._trouble != str(error):
                log.warning("history: %s; readings go on", error)
            self._trouble = str(error)
            self._due = self._clock() + RETRY_AFTER
        else:
            if self._trouble:
                log.info("history: written again")
            self._trouble, self._written_at = "", self._clock()
            self._plan()

    def _tell_lost(self) -> None:
        if self._recorder.lost and not self._told_lost:
            self._told_lost = True
            log.warning(
                "history: the oldest of what waits is dropped from now on; energy stays in the counters"
            )

    def _stopped(self, outcome: Callable[[], None]) -> None:
        self.closed = True


def make(settings: HistorySettings, context: Context) -> HistoryOutput:
    """The output of the section [history]."""
    from ..history.archive import Archive  # here, since what is off must not load SQLite
    from ..history.recorder import Recorder

    inverter = context.config.inverter
    archive = Archive(settings.file, highest=inverter.plausibility)
    return HistoryOutput(archive, Recorder(3 * inverter.pollinterval / 1000), context)
