"""Optional parts of the program: each has a share of the loop, and one that fails is dropped alone."""

import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, Protocol, TypeVar

from .errors import StartError
from .loop import Group, Host

log = logging.getLogger(__name__)


class Closable(Protocol):
    """Anything that a guard can keep."""

    def close(self) -> None:
        """It has failed: give back what it holds, without a word."""


T = TypeVar("T", bound=Closable)
V = TypeVar("V")


class Guard(Generic[T]):
    """Optional things by name. What one of them raises is logged in full, it is closed and dropped."""

    def __init__(self, host: Host, what: str, dropped: Callable[[Exception], None] = lambda error: None):
        """`host` runs their parts; `what` they are is said in the log; `dropped` is called after a loss."""
        self.dropped: list[dict[str, str]] = []
        """Each `part` that is left out, with its `error`."""
        self._host = host
        self._what = what
        self._after = dropped
        self._kept: dict[str, tuple[Group, T]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, name: str, make: Callable[[Host], T]) -> None:
        """Keep what `make` gives for its share of the loop; raises what `make` raises."""
        group = Group(self._host, partial(self._failed, name))
        try:
            self._kept[name] = group, make(group)
        except BaseException:  # whatever it is goes on; its parts would run without it
            group.close()
            raise

    def add_if_it_begins(self, name: str, make: Callable[[Host], T]) -> None:
        """As `add`, but one that cannot be made is said and left out. Raises StartError if it says so."""
        try:
            self.add(name, make)
        except StartError:
            raise
        except Exception as error:  # one that cannot begin keeps no other from it
            why = missing(name, error)
            if why:
                log.error("%s %s is left out: %s", self._what, name, why)
                self.dropped.append({"part": name, "error": why})
            else:
                log.error("%s %s is left out: it failed when it began", self._what, name, exc_info=error)
                self._note(name, error)

    def remove(self, name: str) -> None:
        """Keep it no longer, nor what is said of one that was dropped; its parts do not run any more."""
        self.dropped = [one for one in self.dropped if one["part"] != name]
        group, _ = self._kept.pop(name, (None, None))
        if group is not None:
            group.close()

    def _note(self, name: str, error: Exception) -> None:
        self.dropped.append({"part": name, "error": f"{type(error).__name__}: {error}"})

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._kept))

    def each(self, call: Callable[[T], object]) -> None:
        """Call it for each, in the order in which they were added."""
        self.ask(call)

    def ask(self, question: Callable[[T], V]) -> dict[str, V]:
        """The answer of each by its name; of one that fails, none."""
        answers: dict[str, V] = {}
        for name in list(self._kept):
            self._ask(name, question, answers)
        return answers

    def ask_one(self, name: str, question: Callable[[T], V]) -> dict[str, V]:
        """The answer of one, by its name; nothing if it is not kept, or fails."""
        answers: dict[str, V] = {}
        self._ask(name, question, answers)
        return answers

    def _ask(self, name: str, question: Callable[[T], V], answers: dict[str, V]) -> None:
        if name in self._kept:  # still, after what the one before it has done
            group, thing = self._kept[name]
            if not group.closed:
                try:
                    answers[name] = question(thing)
                except Exception as error:  # as in Group.call; in one piece, since each turn of the loop asks
                    group.fail(error)

    def _failed(self, name: str, error: Exception) -> None:
        log.error(
            "%s %s failed and is left out until the next start; all else goes on",
            self._what,
            name,
            exc_info=error,
        )
        self._note(name, error)
        _, thing = self._kept.pop(name)
        try:
            thing.close()
        except Exception as second:  # said in full above; this is what follows from it
            log.error("%s %s could not be closed: %s", self._what, name, second)
        self._after(error)


def missing(name: str, error: Exception) -> str:
    """How to get the library of somebody else that the part `name` lacks; empty for any other error."""
    library = str(error.name).partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    is_ours = library == __name__.partition(".")[0] or library in sys.stdlib_module_names
    return (
        ""
        if is_ours or not library
        else f"{library} is not installed; run pip install 'goodwe-usb-logger[{name}]'"
    )
