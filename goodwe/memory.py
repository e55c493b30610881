"""Memory that a start or a page needs for a moment and the months do not: it goes back to the system."""

import contextlib
import ctypes
import gc

LIBRARY = ctypes.CDLL(None)
"""The C library of this process."""
M_ARENA_MAX = -8
"""The number of that parameter in glibc's malloc.h."""


def keep_one_heap() -> None:
    """Let all threads share one heap, before there is a second thread.

    glibc gives each its own, so that they need not wait for each other; Python lets one at a time run anyway.
    """
    with contextlib.suppress(AttributeError):  # a C library without it: musl has one heap only
        LIBRARY.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Hand back what is free: imports and parsing leave a heap with many holes."""
    gc.collect()
    trim()


def trim() -> None:
    """Hand back what is free already, which takes half a millisecond."""
    with contextlib.suppress(AttributeError):  # as above
        LIBRARY.malloc_trim(0)
