"""The difference between two configurations, in lines for a person; of a secret only that it has changed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from .documents import shown_value
from .options import Config, Option, Section

EMPTY = "(empty)"


class Changes(NamedTuple):
    """Everything that is not as it was."""

    lines: list[str]
    """Without those that take a restart."""
    at_restart: list[str]
    """Changes that only another process can follow."""
    config: Config
    """The new one, with the old values of what takes a restart: so it is in force."""


def changes(old: Config, new: Config) -> Changes:
    """The difference, in the order of the sections and their options."""
    lines: list[str] = []
    at_restart: list[str] = []
    kept = dict(new.sections)
    for name in dict.fromkeys((*old.sections, *new.sections)):
        before, after = old.sections.get(name), new.sections.get(name)
        if before is None:
            lines.append(f"section [{name}] is new")
        if after is None:
            lines.append(f"section [{name}] is gone")
            continue
        for option, line in _changed(name, before, after):
            (at_restart if option.takes_restart else lines).append(line)
        if isinstance(before, type(after)):
            held = {o.attribute: getattr(before, o.attribute) for o in after.options() if o.takes_restart}
            kept[name] = replace(after, **held)
    return Changes(lines, at_restart, Config(kept))


def _is_default(option: Option, value: Any) -> bool:
    """True for the value that the option has without a line in the file, however that is written."""
    try:
        return bool(value == option.parse(option.default))
    except ValueError:  # here it would be refused: what is in force was chosen
        return False


def _changed(name: str, before: Section | None, after: Section) -> Iterator[tuple[Option, str]]:
    """Yield each option that has another value, and its line; of a new section what is no default."""
    for option in after.options():
        was, value = getattr(before, option.attribute, None), getattr(after, option.attribute)
        shown = shown_value(option, value)
        if was is None:
            if not _is_default(option, value):
                yield option, f"[{name}] {option.key} = {shown}"
        elif was != value:
            before_it = shown_value(option, was)
            if option.secret or "***" in (shown, before_it):
                yield option, f"[{name}] {option.key} has changed"
            else:
                yield option, f"[{name}] {option.key} = {shown or EMPTY}, was {before_it or EMPTY}"
