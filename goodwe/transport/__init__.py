"""Which transport a `device` of the configuration means.

A new transport is a file with a `Wire` and a `Finder`, and a row in `TRANSPORTS`.
"""

from collections.abc import Callable

from .wire import Finder, Ids, Make, Wire

__all__ = ["STAND_IN", "TRANSPORTS", "Finder", "Ids", "Make", "Wire", "find"]

STAND_IN = "unix:"
"""Begins a `device` that is a stand-in's socket and not a node (CONTRACT 8)."""


def find(
    device: str,
    ids: Ids,
    *,
    post: Callable[[Callable[[], None]], None],
    plugged: Callable[[Wire], None],
    unplugged: Callable[[str], None],
) -> Finder:
    """The finder for `device`, by the way that begins; arguments and errors as in `Make`."""
    beginning = max((known for known in TRANSPORTS if device.startswith(known)), key=len)
    return TRANSPORTS[beginning](device, ids, post=post, plugged=plugged, unplugged=unplugged)


def _stand_in(
    device: str,
    ids: Ids,
    *,
    post: Callable[[Callable[[], None]], None],
    plugged: Callable[[Wire], None],
    unplugged: Callable[[str], None],
) -> Finder:
    from .standin import StandInFinder

    return StandInFinder(device.removeprefix(STAND_IN), plugged)


def _hidraw(
    device: str,
    ids: Ids,
    *,
    post: Callable[[Callable[[], None]], None],
    plugged: Callable[[Wire], None],
    unplugged: Callable[[str], None],
) -> Finder:
    from .hidraw import NodeFinder, NodeOpener
    from .udev import udev_nodes

    return NodeFinder(
        udev_nodes(ids, device),
        NodeOpener(ids),
        post=post,
        plugged=plugged,
        unplugged=unplugged,
        only=device,
    )


TRANSPORTS: dict[str, Make] = {STAND_IN: _stand_in, "": _hidraw}
"""The beginning of a `device`, and what is made for it; the longest that fits counts.

Each imports its files when it is wanted, and not before.
"""
