"""Which message makes a broker close the connection. Pure: times come in.

A broker that does not take a message, for its size, its topic, its QoS or because it is to be retained, may
only close the connection; brokers of MQTT 3.1.1 have no other word. It does so at once. So what was sent
within the last moment before such an end, or was not acknowledged, is suspected. From then on a topic that
has not yet passed is sent alone, so that nothing else can be to blame. If the connection ends again, that
topic is sent with less QoS, then not retained, and at last, after two more such ends, left out. The rest
passes. Since chance may have been to blame, what is left out is tried again after ten minutes, and each time
that it is not taken then after twice as long, up to a day.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ...times import NEVER
from .message import Message

PASSED_AFTER = 0.5
"""Seconds after which a broker that does not acknowledge would have closed."""
ANSWERED_AFTER = 5.0
"""The same for a message that a broker acknowledges, and has not."""
STRIKES = 2
"""Ends of the connection until a topic is left out."""
LEFT_OUT_FOR, LONGEST_LEFT_OUT = 600.0, 86400.0
"""Seconds, doubled from the first to the second; also for what is sent with less."""
CAREFUL_FOR = 60.0
"""Seconds without suspicion after which messages are no longer sent one by one."""
MOST_TOPICS = 2000
"""Topics that are remembered; there are fewer, as long as nothing is wrong."""
HIGHEST_QOS = 2


class Treatment(NamedTuple):
    """The treatment of the messages of a topic from now on."""

    topic: str
    qos: int
    """At most."""
    retain: bool
    left_out: bool


@dataclass
class _Topic:
    """Facts known of one topic, sizes in bytes."""

    passed: int = -1
    """Largest message that a broker took."""
    strikes: int = 0
    sent: int = -1
    """Size of the message that is on its way; -1 without one."""
    due: float = NEVER
    """When it has passed, if the connection still stands."""
    qos: int = 0
    retain: bool = False
    """How it was sent."""
    most_qos: int = HIGHEST_QOS
    may_retain: bool = True
    """How it may be sent."""
    left_out: bool = False
    until: float = NEVER
    """How long these last three hold."""
    term: float = LEFT_OUT_FOR
    """Seconds that they hold when they are next found out."""

    def passes(self) -> None:
        """The message on its way has been taken."""
        self.passed, self.strikes = max(self.passed, self.sent), 0
        self.sent, self.due = -1, NEVER
        if self.until == NEVER:
            self.term = LEFT_OUT_FOR

    def condemn(self, topic: str, now: float) -> Treatment | None:
        """The broker has closed the connection at it, and nothing else was on its way; None: once more."""
        if self.qos:
            self.most_qos = self.qos - 1
        elif self.retain:
            self.may_retain = False
        elif self.strikes + 1 < STRIKES:
            self.strikes += 1
            return None
        else:
            self.strikes, self.left_out = 0, True
        self.until = now + self.term
        return Treatment(topic, self.most_qos, self.may_retain, self.left_out)

    def expire(self, now: float) -> None:
        """The term is over: everything may be tried again."""
        if now >= self.until:
            self.most_qos, self.may_retain, self.left_out = HIGHEST_QOS, True, False
            self.until, self.term = NEVER, min(2 * self.term, LONGEST_LEFT_OUT)


class Suspects:
    """The topics of one connection; for as long as the program runs."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._careful_until = -NEVER

    def as_taken(self, message: Message, now: float) -> Message:
        """The message, with less QoS or not retained where the broker closed at more."""
        known = self._topics.get(message.topic)
        if known is None:
            return message
        known.expire(now)
        return message._replace(
            qos=min(message.qos, known.most_qos), retain=message.retain and known.may_retain
        )

    def leaves_out(self, topic: str, size: int, now: float) -> bool:
        """True when a message of this size is to be left out."""
        known = self._topics.get(topic)
        if known is None:
            return False
        known.expire(now)
        return known.left_out and size > known.passed

    def is_careful(self, now: float) -> bool:
        """True while topics that have not passed are sent one by one."""
        return now < self._careful_until

    def must_wait(self, topic: str, size: int, now: float) -> bool:
        """True when it has to be sent alone, and another one is on its way."""
        if not self.is_careful(now) or size <= self._topics.get(topic, _Topic()).passed:
            return False
        return any(known.sent > known.passed for known in self._topics.values())

    def sent(
        self, topic: str, size: int, now: float, *, qos: int = 0, retain: bool = False, answered: bool = False
    ) -> None:
        """It goes out now; `answered`: the broker is to acknowledge it."""
        if topic not in self._topics and len(self._topics) >= MOST_TOPICS:
            return
        known = self._topics.setdefault(topic, _Topic())
        known.sent = max(known.sent, size)
        known.qos, known.retain = qos, retain
        known.due = now + (ANSWERED_AFTER if answered else PASSED_AFTER)

    def acknowledged(self, topic: str) -> None:
        """The broker has answered, in whatever words: it goes on."""
        known = self._topics.get(topic)
        if known is not None and known.sent >= 0:
            known.passes()

    @property
    def deadline(self) -> float:
        """When `tick` may have something to find."""
        return min((known.due for known in self._topics.values()), default=NEVER)

    def tick(self, now: float) -> None:
        """Let each message pass that was sent long enough ago."""
        for known in self._topics.values():
            if now >= known.due:
                known.passes()

    def forget_sent(self) -> None:
        """The connection ended for a reason that has nothing to do with what was sent."""
        for known in self._topics.values():
            known.sent, known.due = -1, NEVER

    def lost(self, now: float) -> list[Treatment] | None:
        """The broker closed the connection, and something that was sent may be the cause.

        Gives None if there was nothing, else what follows from it, which may be nothing yet.
        """
        self.tick(now)
        under_way = {topic: known for topic, known in self._topics.items() if known.sent >= 0}
        news = {topic: known for topic, known in under_way.items() if known.sent > known.passed}
        suspected = news or under_way  # a broker may change its mind about what it took before
        verdicts = []
        if self.is_careful(now) and len(suspected) == 1:
            verdicts = [known.condemn(topic, now) for topic, known in suspected.items()]
        for known in suspected.values():
            known.passed = -1
        self.forget_sent()
        if not suspected:
            return None
        self._careful_until = now + CAREFUL_FOR
        return [verdict for verdict in verdicts if verdict is not None]

    def acquit(self) -> None:
        """Something else ends the connections: no message was to blame."""
        self._topics.clear()
        self._careful_until = -NEVER

    def left_out(self, now: float) -> list[str]:
        """The topics that are."""
        return sorted(topic for topic, known in self._topics.items() if known.left_out and now < known.until)
