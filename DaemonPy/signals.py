"""Signals as something that a loop can poll.

A flag that is set in a handler does not end a poll(): Python goes on sleeping (PEP 475). A byte on a
socket does, so the interpreter writes one for each signal, and the handlers do nothing.
"""

import signal
import socket
from collections.abc import Iterable
from types import FrameType


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Being there is enough: without a Python handler no byte is written."""


class Wakeup:
    """Takes the given signals; only in the main thread."""

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        """`signals` do nothing from now on but make this readable."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # A full socket loses nothing: whoever filled it will be answered anyway.
        self._previous_descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, _do_nothing) for number in signals}

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """The signals that came since, in order; never waits."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in self._previous]

    def close(self) -> None:
        """Put back what was there before."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(self._previous_descriptor)
        self._reader.close()
        self._writer.close()
