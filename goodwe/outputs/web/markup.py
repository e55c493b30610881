"""HTML that cannot be broken out of: whatever is no Html itself is escaped when it becomes part of one."""

from html import escape
from typing import Any

EMPTY = frozenset({"br", "img", "input", "link", "meta", "base"})
"""Elements without an end."""


class Html(str):
    """A text that is markup already."""

    __slots__ = ()


def join(*parts: object) -> Html:
    """The parts one after the other; None and False are nothing."""
    return Html("".join(_html(part) for part in parts if part is not None and part is not False))


def tag(name: str, /, *children: object, **attributes: Any) -> Html:
    """An element. `class_` is class, `data_x` is data-x; an attribute of None or False is left out."""
    said = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in EMPTY:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(*children)}</{name}>")


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _html(part: object) -> str:
    return str.__str__(part) if isinstance(part, Html) else escape(str(part))
