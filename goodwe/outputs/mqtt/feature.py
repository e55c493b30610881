"""The interface of everything that can be switched on around the readings; each has a file of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...events import Happening, Reading, Resting
from ...protocol.fields import Values
from ...times import NEVER
from .. import Context
from .message import Message, Received

if TYPE_CHECKING:
    from .pool import Pool
    from .settings import MqttSettings

ALL = "all"
"""In place of a serial: every inverter, or the program itself."""


class Receipt(Protocol):
    """Given by a feature that wants to know the fate of a reading."""

    def wait(self) -> None:
        """There is no connection for it now; it is still the first to go."""

    def told(self, acknowledged: bool) -> None:
        """A broker has acknowledged it, or has not; it is not published again."""


@dataclass
class PublishedInverter:
    """Everything that is to be published about one inverter."""

    serial: str
    topic: str
    """The one above all of its own."""
    online: bool | None = None
    """None before the first event about it: until then nothing is published."""
    phases: int = 0
    """0 until it is known."""
    infos: dict[str, Values] = field(default_factory=dict)
    """Its answers about itself, by published name."""
    alarms: dict[str, bool] = field(default_factory=dict)
    """Entities of Home Assistant for alarms: True for one that there is, False for one to be taken back."""
    newest: Reading | Resting | None = None
    """Its last message that is still true: the first thing that a new connection carries."""
    has_arrived: bool = False
    """True once a broker has acknowledged the newest; then no other connection needs it."""
    is_introduced: bool = False
    """True once a connection has carried how it stands."""
    receipt: "Receipt | None" = None
    """Of the newest, while it waits for a connection."""
    since: float = 0.0
    """When it came or went, on the loop's clock."""


class Feature:
    """Something around the readings. A method that it does not need, it does not define.

    Times are seconds on the loop's clock. A feature that raises is dropped; the readings go on.
    """

    @property
    def deadline(self) -> float:
        """When `tick` is to be called."""
        return NEVER

    @property
    def stopped(self) -> bool:
        """True when nothing is left to be done after `stop`."""
        return True

    def subscriptions(self, serial: str) -> list[str]:
        """Topics that the connection of this inverter subscribes to; for `all`, one connection does."""
        return []

    def received(self, message: Received, now: float) -> bool:
        """Somebody has published something; True if it was for this feature."""
        return False

    def renew(self, inverter: PublishedInverter) -> None:
        """Subscribers may know nothing of it: a new connection, or a Home Assistant that starts."""

    def prepare(self, inverter: PublishedInverter) -> None:
        """Something is said of it, or it has told more about itself; maybe more than once."""

    def take(self, reading: Reading, data: str) -> "Receipt | None":
        """A reading is on its way to a broker, as this text; a receipt is told its fate."""
        return None

    def published(self, inverter: PublishedInverter, reading: Reading | Resting) -> None:
        """Its data have just gone out; whether it is online follows."""

    def handle(self, event: Happening) -> None:
        """This happened; `data` and `online` have been said, or wait for a connection."""

    def caught_up(self, inverter: PublishedInverter) -> None:
        """A new connection has carried the live values: all else may follow."""

    def forget(self, inverter: PublishedInverter) -> None:
        """It has been away for long and gives its place to another."""

    def tick(self, now: float) -> None:
        """The deadline has passed."""

    def stop(self, now: float) -> None:
        """The connections are gone, and the program ends."""

    def close(self) -> None:
        """It has failed: give back what it holds, without a word."""

    def status(self, now: float) -> dict[str, Any]:
        """Plain values for a person."""
        return {}


@dataclass(frozen=True)
class Hub:
    """The surroundings of a feature."""

    settings: "MqttSettings"
    context: Context
    """Its loop is the feature's own share."""
    pool: "Pool"
    inverters: Mapping[str, PublishedInverter]
    tell_anew: Callable[[PublishedInverter], None]
    """Subscribers may know nothing of the inverter: `renew` and `prepare` all features."""
    say_again: Callable[[PublishedInverter], None]
    """Publish once more the message about an inverter that is away."""

    def publish(self, serial: str, message: Message, done: Callable[[bool], None] | None = None) -> bool:
        """On the inverter's own connection, or else on any, as Connection.publish does; False if none stands.

        What `done` raises is the feature's own.
        """
        call = self.context.loop.call
        guarded = None if done is None else lambda acknowledged: call(lambda: done(acknowledged))
        return self.pool.publish_any(serial, message, guarded)
