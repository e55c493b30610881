"""Which transport a `device` of the configuration means.

A new transport is a file with a `Wire`, a `Finder` and a function `find`, and a row in `TRANSPORTS`. If the
file has a function `device` as well, that parses the option: text in, text out, or a ValueError that says
what would be right, to follow "must be".
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from .wire import Find, Finder, Ids, Wire

__all__ = ["STAND_IN", "TRANSPORTS", "Find", "Finder", "Ids", "Wire", "find", "module_for"]

STAND_IN = "unix:"
"""Begins a `device` that is a stand-in's socket and not a node (CONTRACT 8)."""

TRANSPORTS = {
    STAND_IN: f"{__name__}.standin",
    "": f"{__name__}.udev",
}
"""The beginning of a `device`, and the module whose `find` is for it; the longest that fits counts."""


def module_for(device: str) -> ModuleType:
    """The module of the transport that `device` is for."""
    beginning = max((known for known in TRANSPORTS if device.startswith(known)), key=len)
    return import_module(TRANSPORTS[beginning])


def find(
    device: str,
    ids: Ids,
    *,
    post: Callable[[Callable[[], None]], None],
    plugged: Callable[[Wire], None],
    unplugged: Callable[[str], None],
) -> Finder:
    """The finder for `device`; arguments and errors as in `Find`. Only its transport is imported."""
    found: Find = module_for(device).find
    return found(device, ids, post=post, plugged=plugged, unplugged=unplugged)
