"""The ledger of all inverters: every reading passes here on its way out, and nothing else does.

Joins the checks of `plausibility` with clocks, file and outputs; and speaks for the inverters that are
away (`offlinevalues`): at once, again every five minutes, and after a restart of the program at night.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import FieldError
from ..events import (
    Answer,
    Ask,
    Happening,
    Info,
    Offline,
    Outcome,
    Reading,
    RefusedReading,
    Remembered,
    Resting,
)
from ..loop import NEVER, Loop, Timer, Worker
from ..protocol import fields
from ..protocol.bus import BY_ITSELF
from ..protocol.identity import Identity, IdentityQuestions
from ..recurrences import Begun, Recurrences
from ..tally import Tally
from . import state
from .clock import local_time
from .plausibility import Account, Held, Implausible, Moment, Plausibility, Trusted
from .state import Memory

log = logging.getLogger(__name__)

REPEAT_EVERY = 300.0
"""Seconds between two messages about an inverter that is away (CONTRACT 6)."""
SAVE_EVERY = 10.0
"""Seconds between two savings at the least. Energy has one decimal, so a sunny day makes some hundred."""
DOUBT_AFTER = 60.0
"""Seconds beyond the poll interval without a reading that can be believed: then it counts as away."""
FORGOTTEN_AFTER = 14 * 86400.0
"""Seconds after which an inverter that was not seen is not spoken for any more."""

MAIN_VALUES = ("pac", "vpv1", "vpv2", "vac1", "vac2", "vac3", "fac1", "temp", "workMode", "errorMessage")
"""They tell a person at a glance how an inverter does."""


class _Entry:
    """The entry of one inverter: what its readings are held against, who it is, and what was said of it."""

    def __init__(self, serial: str, memory: Memory, now: float) -> None:
        """`memory` is what is known of inverter `serial`; `now` is on the loop's clock."""
        self.plausibility = Plausibility(serial, memory.account, now=now)
        self.questions = IdentityQuestions(serial, memory.identity)
        self.online = False
        self.said_away = False
        """True from when it was said to be away until it is read again, though it may register in vain."""
        self.repeat = NEVER
        """When it is spoken for again; NEVER while it speaks for itself."""
        self.doubt = NEVER
        """When it counts as away if no good reading comes."""
        self.doubts = Recurrences()
        """How often it counted as away for want of such a reading."""
        self.followed = Tally()
        """How often a counter was believed because it stayed so, by reason."""
        self.latest: Reading | Resting | None = None
        """The last that was published of its values, while it is true."""
        self.held = False
        """True while its last reading waits for the next one to agree."""
        self.kept: tuple[object, ...] = ()
        """Total, today's and the days they are of, as given to be saved: what a power cut must not undo."""


class Ledger(Timer):
    """A part of the loop: checks each reading, keeps what is known, speaks for inverters that are away."""

    def __init__(
        self,
        path: str,
        *,
        loop: Loop,
        publish: Callable[[Happening], None],
        poll: Callable[[str], object] = lambda serial: None,
        ask: Ask | None = None,
        wall_clock: Callable[[], float],
        clock_right: Callable[[], bool],
        localtime: Callable[[float], time.struct_time] = local_time,
        worker: Worker | None = None,
        poll_interval: float = 2.5,
        speak_for_absent: bool = True,
        believe_all: bool = False,
    ) -> None:
        """`path` of the state; empty to keep it in memory only. `loop` runs this, `worker` writes the file.

        `publish` is told what passes. `poll` is called with the serial of an inverter whose next reading is
        wanted soon, `ask` with a serial and the name of a question about its identity; None to ask nothing.

        `wall_clock` gives seconds since 1970, `clock_right` tells whether that is known to be true, and
        `localtime` what it is in the machine's time zone. `poll_interval` is the time in seconds between two
        readings. `speak_for_absent`: an inverter that is away is published with nothing flowing.
        `believe_all`: no reading is refused.
        """
        self.closed = False
        self.tally = Tally()
        self._path = path
        self._clock = loop.clock
        self._publish = publish
        self._poll = poll
        self._ask = ask
        self._wall_clock = wall_clock
        self._clock_right = clock_right
        self._was_right = False
        self._doubt_after = poll_interval + DOUBT_AFTER
        self._localtime = localtime
        self._speak_for_absent = speak_for_absent
        self._believe_all = believe_all
        self._worker = worker or Worker(loop.post, "state")
        self._stopping = False
        self._cannot_save = ""
        self._save_at = NEVER
        self._saved_at = -NEVER
        memories = state.load(path) if path else {}
        self._inverters = {
            serial: _Entry(serial, memory, loop.clock()) for serial, memory in memories.items()
        }

    def begin(self) -> None:
        """Say of each inverter that is known from earlier that it is not here yet."""
        now = self._moment()
        for serial, inverter in self._inverters.items():
            self._remember(serial, inverter, now)

    def change(
        self,
        path: str,
        memories: Mapping[str, Memory],
        *,
        ask: Ask | None,
        poll_interval: float,
        speak_for_absent: bool,
        believe_all: bool,
    ) -> None:
        """Go on with other settings, see above. `memories` are those of the file at `path`, if it is another.

        An inverter that is known goes on as it is known here.
        """
        self._ask, self._believe_all = ask, believe_all
        self._doubt_after = poll_interval + DOUBT_AFTER
        now = self._moment()
        if speak_for_absent != self._speak_for_absent:
            self._speak_for_absent = speak_for_absent
            for inverter in self._inverters.values():
                if inverter.said_away:
                    self._speak_for(inverter, now)
        if path != self._path:
            self._move(path, memories, now)

    def introduction(self) -> list[Happening]:
        """How things stand, as events in the order for an output that begins now."""
        now = self._moment()
        known: list[Happening] = []
        last: list[Happening] = []
        for serial, inverter in self._inverters.items():
            account = inverter.plausibility.account
            if account is not None and not _forgotten(account, now):
                known += [
                    Remembered(serial, account.inverter_type),
                    *inverter.questions.identity.infos(serial),
                ]
                last += [] if inverter.latest is None else [inverter.latest]
        return known + last

    def handle(self, event: Happening) -> None:
        """Take what happened on a wire; publish it, or not."""
        match event:
            case Reading():
                self._check(event)
            case Offline(serial, address, reason):
                self._lost(serial, reason)
                self._away(serial, address, reason)
            case _:
                self._publish(event)

    def stop(self) -> None:
        """The program ends, the inverters do not: nobody is spoken for any more."""
        self._stopping = True

    def close(self) -> None:
        """After the last event: keep what is known; `closed` is true when that is done."""
        if self.tally.counts:
            log.info("Refused readings since the start: %s", self.tally)
        if self._path:
            self._save()
        self._worker.do(lambda: None, self._last_saved)
        self._worker.finish()

    # what the loop wants of a part

    @property
    def deadline(self) -> float:
        due = self._save_at
        for inverter in self._inverters.values():
            due = min(due, inverter.repeat, inverter.doubt)
        return due

    def tick(self, now: float) -> None:
        if now >= self._save_at:
            self._save_at, self._saved_at = NEVER, now
            self._save()
        for serial, inverter in self._inverters.items():
            if now >= inverter.doubt and inverter.plausibility.account is not None:
                self._doubted(serial, inverter.plausibility.account.address, inverter.doubts.begins(now))
            if now >= inverter.repeat:
                self._speak_for(inverter, self._moment())

    def status(self, now: float) -> dict[str, Any]:
        """Each inverter's state, by serial, as plain values; `now` is on the loop's clock."""
        at = self._moment()._replace(elapsed=now)
        return {serial: self._status(serial, inverter, at) for serial, inverter in self._inverters.items()}

    def _status(self, serial: str, inverter: _Entry, at: Moment) -> dict[str, Any]:
        identity = inverter.questions.identity
        counts = self.tally.counts.items()
        told = inverter.plausibility.status(at)
        if inverter.online and inverter.plausibility.account is not None:
            told["values"] = {key: inverter.plausibility.account.values[key] for key in MAIN_VALUES}
        return told | {
            "online": inverter.online,
            "held": inverter.held,
            "spoken_for": inverter.repeat != NEVER,
            "model": (identity.id_info or {}).get("modelName") or None,
            "firmware": (identity.id_info or {}).get("firmwareVersion") or None,
            "asked_who_it_is": not identity.shy,
            "refused": {
                key.removeprefix(f"{serial} "): n for key, n in counts if key.startswith(f"{serial} ")
            },
        }

    # readings

    def _check(self, reading: Reading) -> None:
        now = self._moment()
        inverter = self._inverters.get(reading.serial)
        if inverter is None:
            nothing = Memory(None, Identity())
            inverter = self._inverters[reading.serial] = _Entry(reading.serial, nothing, now.elapsed)
        plausibility = inverter.plausibility
        verdict = plausibility.take(reading, now) if self._believe_all else plausibility.check(reading, now)
        match verdict:
            case Trusted(trusted):
                self._log_believed(inverter, verdict, now.elapsed)
                inverter.latest = trusted
                inverter.online, inverter.said_away = True, False
                self._publish(trusted)
                self._keep(inverter, now)
                inverter.repeat, inverter.doubt = NEVER, now.elapsed + self._doubt_after
                if self._ask is not None:
                    power = fields.number(reading.values, "pac")
                    for question in inverter.questions.reading(power, now.elapsed):
                        if not self._ask(reading.serial, question, answered=self._told):
                            inverter.questions.not_put(question)
            case Implausible(reason, detail):
                self._refuse(reading.serial, reason, detail, now)
            case Held():
                log.debug("%s: first reading, held until the next one agrees", reading.serial)
                if not inverter.held:
                    self._poll(reading.serial)
        inverter.held = isinstance(verdict, Held)

    def _log_believed(self, inverter: _Entry, verdict: Trusted, now: float) -> None:
        serial, counted = verdict.reading.serial, inverter.doubts.reading(now)
        if counted:
            log.info("%s gives believable readings now, after it counted as away %d times", serial, counted)
        if verdict.news:
            told = inverter.followed.add(verdict.reason, now)
            log.log(logging.WARNING if told else logging.DEBUG, "%s: %s", serial, verdict.news)

    def _refuse(self, serial: str, reason: str, detail: str, now: Moment) -> None:
        self._publish(RefusedReading(serial, reason, detail))
        if self.tally.add(f"{serial} {reason}", now.elapsed):
            log.warning("%s: refused a reading, %s (%s); counted from now on", serial, reason, detail)

    # who they are

    def _told(self, outcome: Outcome) -> None:
        """Take the end of a question of ours."""
        inverter = self._inverters[outcome.serial]
        if isinstance(outcome, Answer):
            self._answered(inverter, outcome.question, outcome.data)
        else:
            log.info("%s does not answer %s", outcome.serial, outcome.question)
            inverter.questions.unanswered(outcome.question, self._clock())

    def _answered(self, inverter: _Entry, question: str, data: bytes) -> None:
        now = self._moment()
        try:
            info = inverter.questions.answer(question, data, now.elapsed)
        except FieldError as error:
            log.warning("%s answers %s with %s", inverter.questions.serial, question, error)
        else:
            self._tell(info, inverter)
            self._save_soon(now)

    def _tell(self, info: Info, inverter: _Entry) -> None:
        log.info("%s: %s %s", info.serial, info.kind, ", ".join(f"{k} {v}" for k, v in info.values.items()))
        inverter.plausibility.learn_model(str(info.values.get("modelName", "")))
        self._publish(info)

    def _lost(self, serial: str, reason: str) -> None:
        inverter = self._inverters.get(serial)
        if inverter is None:
            return
        inverter.plausibility.away()
        inverter.held = False
        by_itself = reason in BY_ITSELF and not self._stopping
        if inverter.questions.lost(self._clock(), by_itself=by_itself):
            log.info("%s went away each time it was asked who it is; it is never asked again", serial)

    # those that are away

    def _away(self, serial: str, address: int, reason: str) -> None:
        inverter = self._inverters.get(serial)
        if inverter is None or inverter.plausibility.account is None:
            return  # nothing was ever published of it
        now = self._moment()
        inverter.doubt = NEVER
        if not inverter.said_away:
            inverter.online, inverter.said_away, inverter.latest = False, True, None
            self._publish(Offline(serial, address, reason))
            self._speak_for(inverter, now)
        self._save_soon(now)

    def _doubted(self, serial: str, address: int, doubt: Begun) -> None:
        """No reading of it could be believed for a minute: it counts as away."""
        reason = "no believable reading"
        if doubt.counted_before:
            log.info("%s counted as away %d times more, until an hour ago", serial, doubt.counted_before)
        if doubt.first_counted:
            log.warning("%s has %s again and again; counted from now on", serial, reason)
        log.log(
            logging.INFO if doubt.told else logging.DEBUG,
            "Marking inverter @ address %d offline (%s)",
            address,
            reason,
        )
        self._away(serial, address, reason)

    def _remember(self, serial: str, inverter: _Entry, now: Moment) -> None:
        """Say of one that is known from earlier that it is not here yet."""
        account = inverter.plausibility.account
        if account is not None and not _forgotten(account, now):
            inverter.said_away = True
            self._publish(Remembered(serial, account.inverter_type))
            for info in inverter.questions.identity.infos(serial):
                self._tell(info, inverter)
            self._speak_for(inverter, now)

    def _speak_for(self, inverter: _Entry, now: Moment) -> None:
        """Publish the state of an inverter that is away, and note when to do so again."""
        inverter.repeat, inverter.latest = NEVER, None
        if not self._speak_for_absent or self._stopping:
            return
        resting, account = inverter.plausibility.resting(now), inverter.plausibility.account
        self._keep(inverter, now)
        if resting is not None and account is not None and not _forgotten(account, now):
            inverter.repeat = now.elapsed + min(REPEAT_EVERY, self._until_midnight(now))
            inverter.latest = resting
            self._publish(resting)

    def _moment(self) -> Moment:
        # Once right it stays so: the kernel calls a clock unsynchronised that has missed the net for hours.
        self._was_right = self._was_right or self._clock_right()
        elapsed, epoch = self._clock(), self._wall_clock()
        local = self._local(epoch)
        if local is None:
            return Moment(elapsed, epoch, "", 0, False)
        day = f"{local.tm_year:04}-{local.tm_mon:02}-{local.tm_mday:02}"
        return Moment(elapsed, epoch, day, local.tm_hour, self._was_right)

    def _until_midnight(self, now: Moment) -> float:
        """Seconds, a little more; today's energy is nothing then."""
        local = self._local(now.epoch)
        if local is None:
            return REPEAT_EVERY
        return 86400.0 - (local.tm_hour * 60 + local.tm_min) * 60 - local.tm_sec + 0.5

    def _local(self, epoch: float) -> time.struct_time | None:
        """Local time; None for a moment that this machine cannot show: its clock is no clock."""
        try:
            local = self._localtime(epoch)
        except (OverflowError, OSError, ValueError):
            return None
        return local if 1 <= local.tm_year <= 9999 else None

    # the file

    def _keep(self, inverter: _Entry, now: Moment) -> None:
        """Save if its energy has changed, or the day that it is of."""
        account = inverter.plausibility.account
        if account is not None:
            kept = account.values["eTotal"], account.shown, account.today, account.read_day, account.count_day
            if kept != inverter.kept:
                inverter.kept = kept
                self._save_soon(now)

    def _save_soon(self, now: Moment) -> None:
        if self._path and not self._stopping:
            self._save_at = min(self._save_at, max(now.elapsed, self._saved_at + SAVE_EVERY))

    def _move(self, path: str, memories: Mapping[str, Memory], now: Moment) -> None:
        """Keep what is known in another file from now on; who stands in that alone is known, too."""
        if self._path and self._save_at < NEVER:
            self._save()
        self._path, self._cannot_save, self._save_at = path, "", NEVER
        for serial, memory in memories.items():
            if serial not in self._inverters:
                entry = self._inverters[serial] = _Entry(serial, memory, now.elapsed)
                self._remember(serial, entry, now)
        if path:
            self._saved_at = now.elapsed
            self._save()

    def _save(self) -> None:
        memories = {
            serial: Memory(inverter.plausibility.account, inverter.questions.identity)
            for serial, inverter in self._inverters.items()
            if inverter.plausibility.account is not None
        }
        self._worker.do(partial(state.save, self._path, memories), self._saved)

    def _last_saved(self, outcome: Callable[[], None]) -> None:
        self.closed = True

    def _saved(self, outcome: Callable[[], None]) -> None:
        try:
            outcome()
        except OSError as error:
            if self._cannot_save != str(error):
                reason = state.remedy(self._path, error)
                log.warning("cannot save %s: %s; going on without", self._path, reason)
            self._cannot_save = str(error)
        else:
            self._cannot_save = ""


def _forgotten(account: Account, now: Moment) -> bool:
    """True if the inverter was seen so long ago that nothing is to be said of it any more."""
    dated = account.read_day != ""  # else no clock was right when it was seen
    return dated and now.clock_right and now.epoch - account.when > FORGOTTEN_AFTER
