"""Tell systemd how we are: the sd_notify protocol, one datagram a message. Outside systemd, nothing."""

import contextlib
import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to the socket that systemd names in NOTIFY_SOCKET; without one it is silent."""

    def __init__(self, address: str, watchdog_interval: float | None) -> None:
        """`address` is the path of systemd's socket, with @ in front for an abstract one; empty for none.

        `watchdog_interval` is in seconds, None if systemd wants no signs of life.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = watchdog_interval
        """Seconds between two signs of life, half of what systemd allows; None if it wants none."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> "Notifier":
        """Made of the environment that systemd gave to this process, whose number is `pid`."""
        address = environ.get("NOTIFY_SOCKET", "")
        allowed = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        wanted = bool(address) and for_us and allowed.isdigit() and int(allowed) > 0
        return cls(address, int(allowed) / 2_000_000 if wanted else None)

    @property
    def is_heard(self) -> bool:
        """True under systemd, if it wants to be told how we are."""
        return bool(self._address)

    def ready(self) -> None:
        """We are up, or have read our configuration again."""
        self._send("READY=1")

    def reloading(self, monotonic: float) -> None:
        """We are about to read our configuration again; `ready` follows. Seconds on time.monotonic()."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic * 1_000_000:.0f}")

    def status(self, text: str) -> None:
        """Say how we are doing, in a line for a person."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """We are about to end."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """We are alive."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A systemd that does not listen is not our failure, and must not become one.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(message.encode(), self._address)
