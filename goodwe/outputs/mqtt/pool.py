"""The connections to the broker: one for each inverter, since MQTT has one will for each connection.

The one that is opened at the start, before any inverter is known, becomes the first inverter's: closed,
and opened again with the will that takes its `online` to 0 when we die.
"""

from collections.abc import Callable
from typing import Any

from .connection import Connection
from .message import Message, Received, Will


class Pool:
    """Connections by serial."""

    def __init__(
        self, dial: Callable[[str], Connection], client_id: str, received: Callable[[Received], None]
    ) -> None:
        """`dial` makes a connection, which opens itself, of a client id; `received` gets what comes.

        `client_id` is the first connection's; those of further inverters have their serial added.
        """
        self._dial = dial
        self._client_id = client_id
        self._received = received
        self._by_serial: dict[str, Connection] = {}
        self._first = dial(client_id)
        self._is_first_free = True
        self._is_expected = False
        """True once the first connection has a will, though nobody has it yet."""
        self._leaving: list[Connection] = []

    def listen(self, topics: list[str]) -> None:
        """Subscribe to these on the first connection, which is never released."""
        self._first.listen(topics, self._received)

    def expect(self, will: Will) -> None:
        """An inverter is there that may be read soon: the first connection gets its will in time.

        Only once: it may never be read, and a device may claim to be many.
        """
        if self._is_first_free and not self._is_expected:
            self._is_expected = True
            self._first.serve(will, lambda: None)

    def open(self, serial: str, will: Will, topics: list[str], connected: Callable[[], None]) -> None:
        """The connection of a new inverter; `connected` is called each time when it stands with its will."""
        if self._is_first_free:
            connection, self._is_first_free = self._first, False
        else:
            connection = self._dial(f"{self._client_id}-{serial}")
        connection.listen(topics, self._received)
        connection.serve(will, connected)
        self._by_serial[serial] = connection

    def release(self, serial: str, now: float) -> None:
        """Say goodbye to the broker for an inverter that needs no connection any more."""
        connection = self._by_serial.pop(serial)
        connection.stop(now)
        self._leaving = [*(other for other in self._leaving if not other.closed), connection]

    def is_first(self, serial: str) -> bool:
        """True for the inverter with the connection that is never released."""
        return self._by_serial.get(serial) is self._first

    def of(self, serial: str) -> Connection | None:
        """The inverter's own connection, if it stands."""
        connection = self._by_serial.get(serial)
        return connection if connection is not None and connection.serving else None

    def any(self) -> Connection | None:
        """One that stands."""
        return next((connection for connection in self._all() if connection.serving), None)

    @property
    def standing(self) -> int:
        """How many inverters' connections stand."""
        return sum(connection.serving for connection in self._by_serial.values())

    @property
    def all_stand(self) -> bool:
        """True when every message about an inverter goes out at once."""
        return self.standing == len(self._by_serial)

    def publish(self, serial: str, message: Message, done: Callable[[bool], None] | None = None) -> bool:
        """On the inverter's own connection; False without one. `done` as in Connection.publish."""
        connection = self.of(serial)
        return connection is not None and connection.publish(message, done)

    def publish_any(self, serial: str, message: Message, done: Callable[[bool], None] | None = None) -> bool:
        """On the inverter's own connection, or else on any; False if none stands."""
        connection = self.of(serial) or self.any()
        return connection is not None and connection.publish(message, done)

    def stop(self, now: float) -> None:
        """Say goodbye to the broker; `closed` is true when that is done."""
        for connection in self._all():
            connection.stop(now)

    @property
    def closed(self) -> bool:
        """True when all connections are gone."""
        return all(connection.closed for connection in self._all())

    def close(self) -> None:
        """Without goodbye: the broker publishes the wills."""
        for connection in self._all():
            connection.close()

    def status(self, now: float) -> dict[str, Any]:
        """Each inverter's connection by its serial; before there is one, the first by no serial."""
        connections = {"": self._first} if self._is_first_free else self._by_serial
        return {serial: connection.status(now) for serial, connection in connections.items()}

    def _all(self) -> list[Connection]:
        first = [self._first] if self._is_first_free else []
        return [*first, *self._by_serial.values(), *self._leaving]
