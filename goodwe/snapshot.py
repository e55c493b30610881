"""How the program stands at one moment (CONTRACT 9): one value, from which whoever asks is answered.

A JSON object. Ages and durations are seconds (`*_seconds`), moments are seconds since 1970 (`*_epoch`),
states are named as their Enum names them, in lower case. What does not apply is null, never left out.

    version     1; another number when a key changes its meaning, not when one is added
    taken_epoch when this was taken
    program     version, pid, uptime_seconds, configuration, configuration_seconds since it was read, warnings
                about it, cpu_seconds, wake_ups, memory_kilobytes
    finder      how inverters are looked for: state, what was found
    links       a list: one wire each, its state and the bus on it
    places      a list: where an inverter is or was plugged in, and why it cannot be opened
    losses      a list: the last inverters that went away, with the reason
    inverters   by serial: online, model, last_reading_seconds, values (the main ones, while it is online),
                today_kwh, total_kwh, refused by reason, held, what waits to be believed, who it is
    outputs     by section: each output that is on, its connections, its features
    dropped     a list: optional parts that failed and were closed, with the error
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import simplejson

VERSION = 1


class Snapshot(Mapping[str, Any]):
    """A JSON object that nobody can change. It can be handed to any thread."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """`values` is plain: dicts with texts for keys, lists, texts, numbers, booleans, None.

        Raises TypeError for anything else: a Secret is a text of its own kind, and never gets in here.
        """
        self._values = _frozen(values, "snapshot")

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def plain(self) -> dict[str, Any]:
        """A copy of dicts and lists, for whoever turns it into text."""
        return {key: _thawed(value) for key, value in self._values.items()}

    def json(self) -> str:
        """The object as JSON text on one line, keys sorted; numbers that JSON lacks are null."""
        return simplejson.dumps(self.plain(), sort_keys=True, ignore_nan=True)


def _frozen(value: Any, where: str) -> Any:
    """The same value without anything that can be changed. `where` names it in the error."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        wrong = [key for key in value if type(key) is not str]
        if wrong:
            raise TypeError(f"{where} has a key that is a {type(wrong[0]).__name__}")
        return MappingProxyType({key: _frozen(inner, f"{where}.{key}") for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return tuple(_frozen(inner, f"{where}[]") for inner in value)
    raise TypeError(f"{where} is a {type(value).__name__}, which cannot be in a snapshot")


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thawed(inner) for key, inner in value.items()}
    return [_thawed(inner) for inner in value] if isinstance(value, tuple) else value
