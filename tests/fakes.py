"""Stand-ins that obey the real interfaces: a clock, a part, nodes on a real pipe."""

import contextlib
import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from goodwe.loop import Host
from goodwe.outputs import Fanout


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _itself(output: Any, host: Host) -> Any:
    return output


def fanout(loop: Host, *outputs: Any) -> Fanout:
    """Of these outputs, by the names of their classes; those of further ones have a number behind them."""
    made = Fanout(loop)
    for number, output in enumerate(outputs):
        made.add(f"{type(output).__name__}{number or ''}", partial(_itself, output))
    return made


class Nodes:
    """Nodes that come and go as the test says; readable like a netlink socket."""

    def __init__(self, *paths: str) -> None:
        self.paths = set(paths)
        self._removed: set[str] = set()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK)

    def plug(self, path: str) -> None:
        self.paths.add(path)
        os.write(self._writer, b"!")

    def unplug(self, path: str) -> None:
        self.paths.discard(path)
        self._removed.add(path)
        os.write(self._writer, b"!")

    def replug(self, path: str) -> None:
        self.unplug(path)
        self.plug(path)

    def present(self) -> set[str]:
        return set(self.paths)

    def usb_node(self, path: str) -> str:
        return f"/dev/bus/usb/001/{path[-1]}"

    def fileno(self) -> int:
        return self._reader

    def removed(self) -> set[str]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        removed, self._removed = self._removed, set()
        return removed

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Wire:
    """A wire whose other end is the test."""

    name = "wire"
    capacity = 1
    has_envelope = True

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.to_read: list[bytes | OSError] = []
        self.open_error: Exception | None = None
        self.write_error: OSError | None = None
        self.late = False
        """True if open() answers only when the test calls `finish_open`."""
        self.is_closed = False
        self.resets = 0
        self.reset_error: Exception | None = None
        self.finish_open: Callable[[], None] = lambda: None

    def open(self, opened: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        error = self.open_error
        self.finish_open = opened if error is None else lambda: failed(error)
        if not self.late:
            self.finish_open()

    def fileno(self) -> int:
        return 99

    def read(self) -> bytes:
        if not self.to_read:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        report = self.to_read.pop(0)
        if isinstance(report, OSError):
            raise report
        return report

    def write(self, frame: bytes, failed: Callable[[OSError], None]) -> None:
        self.written.append(frame)
        if self.write_error is not None:
            failed(self.write_error)

    def reset(self, failed: Callable[[Exception], None]) -> None:
        self.resets += 1
        if self.reset_error is not None:
            failed(self.reset_error)

    def close(self, closed: Callable[[], None]) -> None:
        self.is_closed = True
        closed()

    def status(self, now: float) -> dict[str, Any]:
        return {"name": self.name}
