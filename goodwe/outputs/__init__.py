"""Where readings go: what an output is, how it is found, and how one's trouble stays its own.

An output is a module of this package, a file or a folder, named like its section of the configuration:

    SECTIONS: tuple[type[Section], ...]       its sections; the first has the module's name
    make(settings, context) -> Output         settings of that first section; StartError ends the start
    READS: tuple[str, ...]                    what else of the configuration it is made of, if anything:
                                              another section by its name, an option as section.option
    READS_IF: dict[str, str]                  the same, where the option that stands before it is on
    NEEDS: tuple[str, ...]                    libraries of others that it cannot begin without, if any
    NEEDS_IF: dict[str, str]                  the same, where the option that stands before it is on

The module is imported only when its section is there, so it loads what it needs in `make`. A library
that may be missing belongs to an extra of the package with the output's name.
"""

import importlib
import importlib.util
import logging
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import StartError
from ..events import Ask, Happening
from ..guard import Guard, missing
from ..loop import Host

if TYPE_CHECKING:
    from ..config import Config, Section

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
        """True when everything has been said, so that the program may end."""
        return True

    def leave(self, now: float, config: "Config | None") -> Any:
        """Another of this name, made of `config`, takes over; without one, none. End as after `stop`.

        What the next one must know comes back, and is given to its `inherit`; None for nothing.
        """
        self.stop(now)

    def inherit(self, left: Any) -> None:
        """Take over from the one before, whose `leave` gave this."""

    def close(self) -> None:
        """It has failed: give back what it holds, without a word."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values for a person; `now` on the loop's clock."""
        return {}

    @property
    def dropped(self) -> list[dict[str, str]]:
        """Each optional `part` of its own that has failed, with its `error`."""
        return []


class Actions(Protocol):
    """Everything that the program can be told to do by somebody outside."""

    def poll(self, serial: str) -> bool:
        """Read this inverter soon; False if it is away."""

    def register(self, serial: str) -> bool:
        """Begin anew with this inverter; False if it is away."""

    @property
    def ask(self) -> Ask:
        """Put a question or an instruction to this inverter."""

    def status(self, now: float) -> dict[str, Any]:
        """How the app stands, by the keys of snapshot.py; `now` is on the loop's clock."""


@dataclass(frozen=True)
class Context:
    """The surroundings of an output, besides its settings."""

    loop: Host
    """Parts and steps given to it are the output's: one that raises drops the output alone."""
    random: Random
    wall_clock: Callable[[], float]
    """Seconds since 1970."""
    actions: Actions | None
    config: "Config"
    silence: float
    """The longest time in seconds between two events about an inverter, as long as the program lives."""
    clock_right: Callable[[], bool] = lambda: True
    """Tells whether `wall_clock` is known to be right."""


class _Departure(NamedTuple):
    """The place of an output that was let go."""

    legacy: Any
    """Left by it to the next one."""
    events: list[Happening]
    """The next one is to be told of these: how things stand, and what happened since."""


def _stopped(output: Output) -> bool:
    return output.stopped


def _close_late(output: Output) -> None:
    """Close one that has not found an end by itself."""
    if not output.stopped:
        output.close()


def _handle(event: Happening, output: Output) -> None:
    output.handle(event)


class Fanout:
    """Gives each event to every output. One that fails is logged in full, closed and dropped."""

    def __init__(self, loop: Host) -> None:
        """`loop` runs the outputs' parts."""
        self._guard: Guard[Output] = Guard(loop, "Output", self._lost_one)
        self._stopping = False
        self._left: dict[str, _Departure] = {}
        """Outputs that leave, for others that come in their place."""

    def add(self, name: str, make: Callable[[Host], Output]) -> None:
        """Add the output that `make` gives for its share of the loop; raises what `make` raises."""
        self._guard.add(name, make)

    def add_if_it_begins(self, name: str, make: Callable[[Host], Output]) -> None:
        """As `add`, but one that cannot be made is said and left out. Raises StartError if it says so."""
        self._guard.add_if_it_begins(name, make)

    def handle(self, event: Happening) -> None:
        """Give `event` to all. Raises RuntimeError when the last output has failed."""
        for left in self._left.values():
            left.events.append(event)
        for name in self.names:
            self._guard.ask_one(name, lambda output: output.handle(event))

    @property
    def names(self) -> list[str]:
        """The outputs that there are, without those that leave."""
        return [name for name in self._guard if name not in self._left]

    def leave(self, name: str, now: float, config: "Config | None", state: list[Happening]) -> None:
        """Let this output go, if it is there. `state` is what whoever takes its place has to be told first.

        `config` is the one that the next is made of, None if there is to be no next.
        """
        answer = self._guard.ask_one(name, lambda output: output.leave(now, config))
        self._left[name] = _Departure(answer.get(name), state)

    @property
    def leaving(self) -> bool:
        """True while one that was let go has something to say."""
        return not all(
            stopped for name in self._left for stopped in self._guard.ask_one(name, _stopped).values()
        )

    def take_place(self, name: str, make: Callable[[Host], Output] | None) -> None:
        """Put the output that `make` gives in the place of the one that was let go; without it, none.

        Raises what `make` raises: then the place is still free.
        """
        self._guard.ask_one(name, _close_late)
        self._guard.remove(name)
        if make is not None:
            self._guard.add(name, make)
        left = self._left.pop(name)
        self._guard.ask_one(name, lambda output: output.inherit(left.legacy))
        for event in left.events:
            self._guard.ask_one(name, partial(_handle, event))

    def stop(self, now: float) -> None:
        """Tell all that the program ends."""
        self._stopping = True
        self._guard.each(lambda output: output.stop(now))

    @property
    def stopped(self) -> bool:
        """True when every output has stopped."""
        return all(self._guard.ask(lambda output: output.stopped).values())

    @property
    def empty(self) -> bool:
        """True without any output."""
        return not len(self._guard)

    @property
    def dropped(self) -> list[dict[str, str]]:
        """Each `part` that is left out, an output or a part of one, with its `error`."""
        of_outputs = self._guard.ask(lambda output: output.dropped)
        parts = [
            {**one, "part": f"{name} {one['part']}"} for name, all_ in of_outputs.items() for one in all_
        ]
        return [*self._guard.dropped, *parts]

    def status(self, now: float) -> dict[str, Any]:
        """The state of each output by its name."""
        return self._guard.ask(lambda output: output.status(now))

    def _lost_one(self, error: Exception) -> None:
        if self.empty and not self._stopping and not self._left:
            # A program that reads for nobody looks healthy and is not; whoever watches it starts it again.
            raise RuntimeError("no output is left") from error


# --- the registry: nothing is imported that is not asked for


def names() -> list[str]:
    """The outputs that there are, by the names of their sections."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of an output. Raises ImportError."""
    return importlib.import_module(f"{__name__}.{name}")


def sections(name: str) -> tuple[type["Section"], ...]:
    """The sections of an output, its own first. Raises ImportError, AttributeError."""
    kinds: tuple[type[Section], ...] = load(name).SECTIONS
    return kinds


def make_outputs(config: "Config", context: Context) -> Fanout:
    """All outputs that are on in `config`. Raises StartError when one says so, or when none is left."""
    fanout = Fanout(context.loop)
    for name in names():
        make = maker(name, config, context)
        if make is not None:
            fanout.add_if_it_begins(name, make)
    if fanout.dropped and fanout.empty:
        raise StartError(f"no output can begin: {'; '.join(one['error'] for one in fanout.dropped)}")
    return fanout


def maker(name: str, config: "Config", context: Context) -> Callable[[Host], Output] | None:
    """The function that makes this output for its share of the loop; None where `config` has it off."""
    return partial(_make, name, getattr(config, name), context) if _is_on(name, config) else None


def that_cannot_begin(config: "Config") -> tuple[dict[str, str], bool]:
    """Why outputs that are on in `config` cannot begin, by their names, and whether that leaves none.

    As far as it shows without making them.
    """
    on = [name for name in names() if _is_on(name, config)]
    whys = {name: why for name in on if (why := _why_not(name, config))}
    return whys, bool(whys) and len(whys) == len(on)


def _why_not(name: str, config: "Config") -> str:
    try:
        module = load(name)
    except Exception as error:  # `make` meets the same error, and says it in full
        return missing(name, error) or f"{type(error).__name__}: {error}"
    depends: dict[str, str] = getattr(module, "NEEDS_IF", {})
    more = [library for option, library in depends.items() if _value(option, config)]
    needs = [*getattr(module, "NEEDS", ()), *more]
    lacking = (library for library in needs if importlib.util.find_spec(library) is None)
    return next((missing(name, ModuleNotFoundError(name=library)) for library in lacking), "")


def _is_on(name: str, config: "Config") -> bool:
    settings = getattr(config, name, None)
    return settings is not None and getattr(settings, "enabled", True)


def differs(name: str, old: Context, new: Context) -> bool:
    """True if this output, which one of the two at least has on, is another by what it is made of."""
    return old.silence != new.silence or any(
        _value(what, old.config) != _value(what, new.config) for what in reads(name, old.config, new.config)
    )


def reads(name: str, *configs: "Config") -> list[str]:
    """All of the configuration that an output is made of by one of these: sections, or section.option."""
    try:
        module = load(name)
    except Exception:  # `make` meets the same error, and says it in full
        return section_names(name)
    depends: dict[str, str] = getattr(module, "READS_IF", {})
    more = [what for option, what in depends.items() if any(_value(option, config) for config in configs)]
    return [*section_names(name), *getattr(module, "READS", ()), *more]


def _value(what: str, config: "Config") -> Any:
    """The section, or the section.option; None where there is none."""
    section, _, key = what.partition(".")
    found = config.sections.get(section)
    return getattr(found, key, None) if key else found


def section_names(name: str) -> list[str]:
    """The names of the sections of an output; its own alone where it cannot be imported."""
    try:
        return [kind.NAME for kind in sections(name)]
    except Exception:  # `make` meets the same error, and says it in full
        return [name]


def _make(name: str, settings: Any, context: Context, loop: Host) -> Output:
    output: Output = load(name).make(settings, replace(context, loop=loop))
    return output
