"""The configuration is read again while the program runs; imported when somebody asks for that.

    idle       nobody has asked
       | request
    waiting    the last time was a moment ago
       | due
    reading    the file is read and checked, in a thread -- refused, or nothing has changed: idle
       |
    leaving    outputs whose settings changed say goodbye
       | they have
    idle       others are in their place, and whoever asked is told

A file that `start` would refuse is refused, and the settings in force stay. Everything that waits has a
deadline: the file can be on a network, or be no file any more.
"""

import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from .app import App
from .config import Config
from .config.changes import Changes, changes
from .config.rules import opening_to
from .control import RequestError
from .errors import ConfigError, GoodWeError, StartError
from .guard import missing
from .loop import NEVER, Host, Timer, Worker
from .outputs import Context, differs, maker, names, section_names
from .readings import state
from .readings.state import Memory

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two readings of the file, however often it is asked for."""
READ_WITHIN = 5.0
MOST_READINGS = 20
"""Times that the file is read anew because it was written to meanwhile; each takes a few milliseconds."""
LEFT_WITHIN = 3.0
"""Seconds that outputs have for their last words."""
WITHIN = 20.0
"""Seconds in which whoever asks is answered: once the reload that is under way has ended, and the next."""

Load = Callable[[], tuple[Config, list[str]]]
"""Gives the settings in the file and warnings about it. Raises GoodWeError."""


class Report(NamedTuple):
    """The outcome of a reload."""

    error: str = ""
    """Why something of it, or all, is as it was before; empty if all is in force."""
    is_bad: bool = False
    """True if the configuration is to blame, and nothing has changed."""
    changed: Sequence[str] = ()
    at_restart: Sequence[str] = ()
    warnings: Sequence[str] = ()

    def answer(self) -> dict[str, Any] | RequestError:
        """The same for the control socket: a refusal where the configuration is to blame."""
        return RequestError(self.error) if self.is_bad else self._asdict()


class Surroundings(Protocol):
    """The process around the program, as far as it has to follow."""

    def reopen_log(self) -> None:
        """Look at the path of the log again."""

    def follow(self, config: Config) -> None:
        """Log where this says. Raises StartError, and everything stays."""

    def in_force(self, config: Config, warnings: list[str]) -> None:
        """These are the settings now, and it was said what has changed."""

    def reloading(self) -> None:
        """Tell whoever watches the process that it begins."""

    def reloaded(self) -> None:
        """Tell him that it has ended, however it did."""


class ReloadState(Enum):
    """The state of a reloader; the diagram above."""

    IDLE = "idle"
    WAITING = "waiting"
    READING = "reading"
    LEAVING = "leaving"


class _Read(NamedTuple):
    """The file, read and checked."""

    config: Config
    warnings: list[str]
    memories: Mapping[str, Memory]
    """The contents of another state file."""


class Reloader(Timer):
    """A part of the loop: reads the configuration again when asked to, and has the program follow it."""

    def __init__(
        self,
        path: str,
        load: Load,
        *,
        app: App,
        around: Surroundings,
        context: Callable[[Config], Context],
        loop: Host,
        config: Config,
        warnings: list[str],
        was_there: bool,
        worker: Worker | None = None,
    ) -> None:
        """`load` reads the file at `path`, in `worker`; `was_there`: when `config` and `warnings` came of it.

        `app` is what follows, and so does the process `around` it. `context` gives the surroundings of the
        outputs that are made of a configuration; `loop` runs this.
        """
        self.closed = False
        self._path = path
        self._load = load
        self._app = app
        self._around = around
        self._context = context
        self._loop = loop
        self._config = config
        self._warnings = warnings
        self._was_there = was_there
        self._worker = worker or Worker(loop.post, "reload")
        self._state = ReloadState.IDLE
        self._due = NEVER
        """When the state has something to do at the latest."""
        self._allowed_at = -NEVER
        self._is_stuck = False
        """True while a reading that took too long has not ended."""
        self._asked: list[Callable[[Report], None]] = []
        """To be told of the next reload."""
        self._told: list[Callable[[Report], None]] = []
        """To be told of the one that is under way."""
        self._before = config
        self._outputs: list[str] = []
        """The outputs that leave."""
        self._report = Report()
        self._then: Callable[[], None] | None = None

    def request(self, who: str, told: Callable[[Report], None]) -> None:
        """Read the file again, soon; `told` is called with the outcome. `who` wants it is for the log."""
        self._around.reopen_log()
        if self._app.stopping:
            told(Report("the program ends"))
            return
        if not self._asked:
            log.info("%s", who)
        self._asked.append(told)
        if self._state is ReloadState.IDLE:
            self._enter(ReloadState.WAITING, max(self._loop.clock(), self._allowed_at))

    def end(self, then: Callable[[], None]) -> None:
        """The program is to end: call `then`, as soon as every output is in its place."""
        if self._state is ReloadState.LEAVING:
            self._then = then
            return
        then()
        if self._state is not ReloadState.IDLE:
            self._refuse("the program ends", is_bad=False)

    # what the loop wants of a part

    @property
    def deadline(self) -> float:
        left = self._state is ReloadState.LEAVING and not self._app.fanout.leaving
        return -NEVER if left else self._due

    def tick(self, now: float) -> None:
        match self._state:
            case ReloadState.WAITING:
                self._begin(now)
            case ReloadState.READING:
                self._is_stuck = True
                self._refuse(self._stuck_reason(), is_bad=True)
            case ReloadState.LEAVING:
                self._replace_outputs()

    # the states, in order

    def _enter(self, state: ReloadState, due: float) -> None:
        log.debug("Reloading is %s", state.value)
        self._state, self._due = state, due

    def _begin(self, now: float) -> None:
        """WAITING -> READING."""
        self._told, self._asked = self._asked, []
        self._allowed_at = now + EVERY
        self._around.reloading()
        if self._is_stuck:
            self._refuse(self._stuck_reason(), is_bad=True)
            return
        self._enter(ReloadState.READING, now + READ_WITHIN)
        self._worker.do(self._read, self._was_read)

    def _stuck_reason(self) -> str:
        return f"{self._path}: to read it takes longer than {READ_WITHIN:.0f} s"

    def _read(self) -> _Read:
        """Read and check the file once nobody writes to it; in the thread. Raises GoodWeError.

        Half of a file can be right, too: an editor empties it before it writes.
        """
        for _ in range(MOST_READINGS):
            before = _looks(self._path)
            try:
                found = self._read_now()
            except GoodWeError:
                if _looks(self._path) == before:
                    raise
            else:
                if _looks(self._path) == before:
                    return found
        raise ConfigError(f"{self._path}: it is written to all the while; ask again when that has ended")

    def _read_now(self) -> _Read:
        try:
            is_pipe = stat.S_ISFIFO(os.stat(self._path).st_mode)
        except FileNotFoundError:
            if self._was_there:
                raise ConfigError(f"{self._path}: it was there, and is no more") from None
        except OSError:
            pass  # to be said by who reads it
        else:
            if is_pipe:
                raise ConfigError(f"{self._path}: is a pipe, which can be read only once")
        try:
            config, warnings = self._load()
        except ConfigError as error:
            if isinstance(error.__cause__, PermissionError):
                raise ConfigError(_not_ours_to_read(self._path, str(error))) from error
            raise
        if _is_empty(self._path) and changes(self._config, config)[:2] != ([], []):
            raise ConfigError(f"{self._path}: it is empty; restart the program if the defaults are meant")
        path = config.inverter.statefile
        moved = path and path != self._config.inverter.statefile
        return _Read(config, warnings, state.load(path) if moved else {})

    def _was_read(self, outcome: Callable[[], _Read]) -> None:
        """READING -> LEAVING, or IDLE."""
        if self._is_stuck or self._state is not ReloadState.READING:
            self._is_stuck = False  # it was given up, and is free again
            return
        try:
            found = outcome()
        except GoodWeError as error:
            self._refuse(str(error), is_bad=True)
            return
        except Exception as error:  # a defect in reading is no reason to change anything, nor to end
            log.exception("%s cannot be read again", self._path)
            self._refuse(f"{type(error).__name__}: {error}; see the log", is_bad=True)
            return
        self._was_there = os.path.exists(self._path)
        self._apply(found)

    def _apply(self, found: _Read) -> None:
        what = changes(self._config, found.config)
        try:
            self._around.follow(what.config)
            try:
                self._app.change(what.config, found.memories)
            except StartError:
                self._around.follow(self._config)
                raise
        except StartError as error:
            self._refuse(str(error), is_bad=True)
            return
        self._tell(what, found.warnings)
        self._before, self._config, self._warnings = self._config, what.config, found.warnings
        self._around.in_force(self._config, self._warnings)
        self._report = Report(changed=what.lines, at_restart=what.at_restart, warnings=found.warnings)
        self._let_outputs_go()

    def _tell(self, what: Changes, warnings: list[str]) -> None:
        for line in what.lines:
            log.info("Configuration changed: %s", line)
        for line in what.at_restart:
            log.warning("Configuration changed, to be in force after a restart: %s", line)
        if not (what.lines or what.at_restart):
            log.info("Configuration %s read again: nothing has changed", self._path)
        for warning in warnings:
            if warning not in self._warnings:
                log.warning("%s", warning)

    def _let_outputs_go(self) -> None:
        """-> LEAVING."""
        now = self._loop.clock()
        old, new = self._context(self._before), self._context(self._config)
        self._outputs = []
        introduction = self._app.introduction()
        for name in names():
            was_on, is_on = (maker(name, context.config, context) is not None for context in (old, new))
            if (was_on or is_on) and differs(name, old, new):
                self._app.fanout.leave(name, now, self._config if is_on else None, list(introduction))
                self._outputs.append(name)
        self._enter(ReloadState.LEAVING, now + LEFT_WITHIN)

    def _replace_outputs(self) -> None:
        """LEAVING -> IDLE."""
        for name in self._outputs:
            why = self._put_in_place(name, self._config)
            if why:
                log.error("Output %s stays as it was: %s", name, why)
                self._report = self._report._replace(error=f"output {name} stays as it was: {why}")
                self._take_back(name)
        self._outputs = []
        self._end(self._report)
        if self._then is not None:
            self._then()

    def _put_in_place(self, name: str, config: Config | None) -> str:
        """Have the output of this configuration, or none; empty, or why it cannot be."""
        make = None if config is None else maker(name, config, self._context(config))
        try:
            self._app.fanout.take_place(name, make)
        except StartError as error:
            return str(error)
        except Exception as error:  # as at the start: one that cannot begin keeps no other from it
            why = missing(name, error)
            if not why:
                log.exception("Output %s failed when it began", name)
            return why or f"{type(error).__name__}: {error}"
        return ""

    def _take_back(self, name: str) -> None:
        """Have the output of before again, and its settings in force."""
        why = self._put_in_place(name, self._before)
        if why:
            log.error("Output %s is left out: %s", name, why)
            self._put_in_place(name, None)
        # With the next reload it is tried again.
        kept = dict(self._config.sections)
        for kind in section_names(name):
            kept.pop(kind, None)
            if kind in self._before.sections:
                kept[kind] = self._before.sections[kind]
        self._config = Config(kept)
        self._around.in_force(self._config, self._warnings)

    def _refuse(self, why: str, *, is_bad: bool) -> None:
        """Anything but LEAVING -> IDLE."""
        log.warning("The configuration stays as it was: %s", why)
        self._end(Report(why, is_bad))

    def _end(self, report: Report) -> None:
        told, self._told = self._told, []
        if self._app.stopping:
            told, self._asked = [*told, *self._asked], []
        self._enter(ReloadState.IDLE, NEVER)
        self._around.reloaded()
        for tell in told:
            tell(report)
        if self._asked:
            self._enter(ReloadState.WAITING, max(self._loop.clock(), self._allowed_at))


def _looks(path: str) -> tuple[int, ...]:
    """Another value whenever somebody has written to the file, or put another in its place."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_empty(path: str) -> bool:
    """True for a file without a byte in it, as a full disk leaves one behind."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and not found.st_size


def _not_ours_to_read(path: str, error: str) -> str:
    """A remedy for who may read it, about a program that may not."""
    from .users import name_of  # here, since only trouble needs it

    who = name_of(os.geteuid())
    return f"{error.partition(';')[0]}; the program runs as {who}: {opening_to(os.getegid(), path)}"
