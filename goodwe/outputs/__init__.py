"""Where readings go: what an output is, how it is found, and how one's trouble stays its own.

An output is a module of this package, a file or a folder, named like its section of the configuration:

    SECTIONS: tuple[type[Section], ...]       its sections; the first has the module's name
    make(settings, context) -> Output         settings of that first section; StartError ends the start

The module is imported only when its section is there, so it loads what it needs in `make`. A library
that may be missing belongs to an extra of the package with the output's name.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import StartError
from ..events import Happening
from ..loop import Group, Host

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)


class Output:
    """A consumer of readings. Only `handle` must be there; a failure in any of them drops the output."""

    def handle(self, event: Happening) -> None:
        """Take the event, at once; whatever has to wait, waits elsewhere."""
        raise NotImplementedError

    def stop(self, now: float) -> None:
        """The program ends: say goodbye. Called after the last Offline."""

    @property
    def stopped(self) -> bool:
        """Whether everything has been said, so that the program may end."""
        return True

    def close(self) -> None:
        """It has failed: give back what it holds, without a word."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values for a person; `now` on the loop's clock."""
        return {}


class Actions(Protocol):
    """What the program can do for whoever commands it."""

    def poll(self, serial: str) -> bool:
        """Read this inverter soon; False if it is away."""

    def register(self, serial: str) -> bool:
        """Begin anew with this inverter; False if it is away."""

    def instruct(self, serial: str, instruction: str, data: bytes) -> bool:
        """Send it; an Answer or Unanswered follows. False, and nothing follows, if it is away."""


@dataclass(frozen=True)
class Context:
    """What an output is made with, besides its settings."""

    loop: Host
    """Whatever is added or posted here is the output's: what it raises drops the output alone."""
    random: Random
    wall_clock: Callable[[], float]
    """Seconds since 1970."""
    actions: Actions | None
    config: "Config"
    silence: float
    """The longest time in seconds between two events about an inverter, as long as the program lives."""


class _Member:
    """An output that is on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.output: Output | None = None
        self.group: Group | None = None


class Fanout:
    """Gives each event to every output. One that fails is logged in full, closed and dropped."""

    def __init__(self, loop: Host) -> None:
        """`loop` runs the outputs' parts."""
        self._loop = loop
        self._members: list[_Member] = []
        self.dropped: list[dict[str, str]] = []
        """Each `part` that is left out, with its `error`."""
        self._stopping = False

    def add(self, name: str, make: Callable[[Host], Output]) -> None:
        """Add the output that `make` gives for its share of the loop; raises what `make` raises."""
        member = _Member(name)
        member.group = Group(self._loop, partial(self._drop, member))
        try:
            member.output = make(member.group)
        except BaseException:
            member.group.close()
            raise
        self._members.append(member)

    def handle(self, event: Happening) -> None:
        """Give `event` to all. Raises RuntimeError when the last output has failed."""
        for member in list(self._members):
            self._run(member, lambda output: output.handle(event))

    def stop(self, now: float) -> None:
        """Tell all that the program ends."""
        self._stopping = True
        for member in list(self._members):
            self._run(member, lambda output: output.stop(now))

    @property
    def stopped(self) -> bool:
        """Whether all have said what they had to say."""
        waiting: list[str] = []
        for member in list(self._members):
            self._run(member, lambda output: None if output.stopped else waiting.append(member.name))  # noqa: B023 (called at once)
        return not waiting

    @property
    def empty(self) -> bool:
        """Whether there is nobody to give anything to."""
        return not self._members

    def status(self, now: float) -> dict[str, Any]:
        """The state of each output by its name."""
        states: dict[str, Any] = {}
        for member in list(self._members):
            self._run(member, lambda output: states.update({member.name: output.status(now)}))  # noqa: B023
        return states

    def _run(self, member: _Member, step: Callable[[Output], None]) -> None:
        group, output = member.group, member.output
        if group is not None and output is not None:
            group.run(lambda: step(output))

    def _drop(self, member: _Member, error: Exception) -> None:
        log.error(
            "Output %s failed and is left out until the next start; the others go on",
            member.name,
            exc_info=error,
        )
        self.dropped.append({"part": member.name, "error": f"{type(error).__name__}: {error}"})
        self._members = [other for other in self._members if other is not member]
        try:
            if member.output is not None:
                member.output.close()
        except Exception as second:  # said in full above; this is what follows from it
            log.error("Output %s could not be closed: %s", member.name, second)
        if not self._members and not self._stopping:
            # A program that reads for nobody looks healthy and is not; whoever watches it starts it again.
            raise RuntimeError("no output is left") from error


# --- the registry: nothing is imported that is not asked for


def names() -> list[str]:
    """The outputs that there are, by the names of their sections."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of an output. Raises ImportError."""
    return importlib.import_module(f"{__name__}.{name}")


def make_outputs(config: "Config", context: Context) -> Fanout:
    """Those that are on in `config`. Raises StartError when one says so, or when none is left."""
    fanout = Fanout(context.loop)
    for name in names():
        settings = getattr(config, name, None)
        if settings is None or not getattr(settings, "enabled", True):
            continue
        try:
            make = load(name).make
            fanout.add(name, lambda host: make(settings, replace(context, loop=host)))  # noqa: B023 (called at once)
        except StartError:
            raise
        except Exception as error:  # one output that cannot begin keeps no other from it
            fanout.dropped.append({"part": name, "error": _left_out(name, error)})
    if fanout.dropped and fanout.empty:
        raise StartError(f"no output can begin: {'; '.join(one['error'] for one in fanout.dropped)}")
    return fanout


def _left_out(name: str, error: Exception) -> str:
    """Log why an output could not be made, and return it in a few words."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("goodwe"):
        why = f"{error.name} is not installed; run pip install 'goodwe-usb-logger[{name}]'"
        log.error("[%s] is left out: %s", name, why)
        return why
    log.error("[%s] is left out: it failed when it began", name, exc_info=error)
    return f"{type(error).__name__}: {error}"
