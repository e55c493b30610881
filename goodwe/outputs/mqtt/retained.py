"""Takes back, once, what a broker keeps of ours and is not to keep any more.

That is because an option is off again, or because a topic has another name now: `online` as well then.

The topics stand in a file beside the state, one a line: to ask the broker at each start what it keeps would
need the right to read there. Taking back is an empty retained message, which also reaches whoever listens
then; so it is sent for these topics only, and no more once the broker has acknowledged it.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from ...loop import Worker
from ...protocol import fields
from ...readings.state import remedy
from .feature import ALL, Feature, Hub, PublishedInverter
from .message import ALARM_ENTITIES, KEPT_TOPICS, Message, alarms_topic

if TYPE_CHECKING:
    from .settings import MqttSettings

log = logging.getLogger(__name__)

ANNOUNCED = "config"
"""Last level of the topic on which Home Assistant is told of an inverter."""

Publish = Callable[[Message, Callable[[bool], None]], bool]
"""Hand a message to the broker; the callback gets whether it was acknowledged. False if it cannot be now."""


def path_beside(statefile: str) -> str:
    """The file that belongs to this file of the state; empty for none."""
    return f"{statefile}{KEPT_TOPICS}" if statefile else ""


def optional_topics(topic: str, commandtopic: str, serial: str, phases: int = 3) -> list[str]:
    """Where a broker may keep something of an inverter by an option; `online` it always keeps."""
    values = [f"{topic}/{serial}/{row.key}" for row in fields.sent_rows(fields.RUNNING, phases)]
    own = f"{topic}/{serial}"
    return [f"{own}/data", *values, alarms_topic(own), f"{commandtopic}/{serial}/limit/state"]


def sum_topic(topic: str) -> str:
    """Where the sum of all inverters stands."""
    return f"{topic}/sum/data"


def announcement_topic(prefix: str, serial: str) -> str:
    """Where Home Assistant is told of an inverter."""
    from .homeassistant import discovery_topic  # here, since only discovery needs it

    return discovery_topic(prefix, serial)


def is_of(serial: str, topic: str) -> bool:
    """True for a topic of this inverter, whatever its other levels were called then."""
    levels = topic.split("/")
    return serial in levels or topic == announcement_topic("/".join(levels[:-3]), serial)


def is_kept(settings: "MqttSettings", topic: str, prefix: str = "") -> bool:
    """True when a broker is to keep what is said there, as the options are now.

    `prefix` is that of the announcements; empty when there are none.
    """
    above, _, leaf = topic.rpartition("/")
    if leaf == ANNOUNCED:
        return bool(prefix) and topic.startswith(f"{prefix}/device/")
    if leaf == "state":
        is_ours = topic.startswith(f"{settings.commandtopic}/")
        return is_ours and settings.commands and settings.control
    if above.rpartition("/")[0] != settings.topic:  # it has another name now
        return False
    if leaf == "online":
        return True
    if topic == alarms_topic(above):
        return settings.alarms
    if leaf != "data":
        return settings.values and settings.valuesretain
    return settings.retain and (settings.sum or topic != sum_topic(settings.topic))


class Retained:
    """The topics of the file: those that are to be kept, and those that are to be taken back."""

    def __init__(
        self, path: str, settings: "MqttSettings", *, prefix: str = "", publish: Publish, worker: Worker
    ) -> None:
        """`path` is the file's; by `settings`, and the `prefix` as in `is_kept`, it is known what is kept.

        `publish` sends on any connection; the file is written in `worker`.
        """
        self._path = path
        self._settings = settings
        self._prefix = prefix
        self._publish = publish
        self._worker = worker
        self._topics = load(path)
        self._stale = {topic for topic in self._topics if not is_kept(settings, topic, prefix)}
        self._once_kept = frozenset(self._stale)
        self._under_way: set[str] = set()
        self._noted: set[str] = set()
        """Serials whose topics are in the file."""
        self._jobs = 0
        self._trouble = ""
        if self._stale:
            log.info("The broker is told to keep no longer what stands on %d topics", len(self._stale))

    @property
    def left(self) -> int:
        """How many topics are still to be taken back."""
        return len(self._stale)

    def was_kept(self, topic: str) -> bool:
        """True for a topic that is, or was in this run, to be taken back."""
        return topic in self._once_kept

    @property
    def saved(self) -> bool:
        """True when the file is as it should be, or cannot be."""
        return not self._jobs

    def note(self, serial: str, phases: int) -> None:
        """Note that what is kept of this inverter is about to be published."""
        if serial in self._noted:
            return
        self._noted.add(serial)
        settings = self._settings
        topics = optional_topics(settings.topic, settings.commandtopic, serial, phases)
        topics += [f"{settings.topic}/{serial}/online", sum_topic(settings.topic)]
        if self._prefix:
            topics.append(announcement_topic(self._prefix, serial))
        kept = {topic for topic in topics if is_kept(settings, topic, self._prefix)}
        if not kept <= self._topics:
            self._topics |= kept
            self._save()

    def take_back(self) -> None:
        """There is a connection: send what is due."""
        for topic in sorted(self._stale):
            if topic in self._under_way or topic not in self._stale:  # it may be told meanwhile
                continue
            self._under_way.add(topic)
            if not self._publish(Message(topic, "", 1, retain=True), partial(self._told, topic)):
                self._under_way.discard(topic)
                return

    def _told(self, topic: str, acknowledged: bool) -> None:
        self._under_way.discard(topic)
        if not acknowledged:  # with the next connection
            return
        self._stale.discard(topic)
        self._topics.discard(topic)
        self.take_back()  # those that found no room before
        if not self._under_way:
            self._save()

    def _save(self) -> None:
        self._jobs += 1
        self._worker.do(partial(_save, self._path, sorted(self._topics)), self._saved)

    def _saved(self, outcome: Callable[[], None]) -> None:
        self._jobs -= 1
        try:
            outcome()
        except OSError as error:
            if self._trouble != str(error):
                log.warning("cannot save %s: %s; going on without", self._path, remedy(self._path, error))
            self._trouble = str(error)
        else:
            self._trouble = ""


def load(path: str) -> set[str]:
    """The topics of the file; those lines of a damaged one that cannot be one of ours are left out."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except OSError:
        return set()
    return {line for line in lines if _can_be_ours(line)}


def _can_be_ours(topic: str) -> bool:
    levels = topic.split("/")
    leaves = {"data", "online", "alarms", *(row.key for row in fields.RUNNING)}
    if not topic.isprintable() or set(topic) & set("+#\ufffd") or "" in levels[-3:]:
        return False
    is_announcement = levels[-3::2] == ["device", ANNOUNCED] and levels[-2].startswith("goodwe_")
    is_longer = levels[-2:] == ["limit", "state"] or is_announcement
    return len(levels) > 2 and (levels[-1] in leaves or (len(levels) > 3 and is_longer))


def _save(path: str, topics: Iterable[str]) -> None:
    """Replace the file; without topics there is none. Raises OSError."""
    text = "".join(f"{topic}\n" for topic in topics)
    if not text:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


class TakingBack(Feature):
    """Takes back at the first connection, before anything is said; notes what is published to be kept."""

    def __init__(self, hub: Hub) -> None:
        """`hub` is what surrounds the feature."""
        self._worker = Worker(hub.context.loop.post, "retained")
        announced = hub.context.config.homeassistant
        self._retained = Retained(
            path_beside(hub.context.config.inverter.statefile),
            hub.settings,
            prefix=announced.prefix if announced.discovery else "",
            publish=lambda message, done: hub.publish(ALL, message, done),
            worker=self._worker,
        )

    @property
    def stopped(self) -> bool:
        return self._retained.saved

    def renew(self, inverter: PublishedInverter) -> None:
        self._retained.take_back()

    def prepare(self, inverter: PublishedInverter) -> None:
        if self._retained.was_kept(alarms_topic(inverter.topic)):
            inverter.alarms = dict.fromkeys(ALARM_ENTITIES, False)
        if inverter.phases:
            self._retained.note(inverter.serial, inverter.phases)

    def stop(self, now: float) -> None:
        self._worker.finish()

    def status(self, now: float) -> dict[str, Any]:
        return {"left": self._retained.left}


def make(hub: Hub) -> TakingBack:
    """The feature; on wherever the program remembers something."""
    return TakingBack(hub)
