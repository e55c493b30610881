"""A connection to an MQTT broker that comes back for ever.

paho's own thread would wake up once a second (its loop() polls at that rate), so the client is driven by
our loop: its socket is polled, its keep-alive has a deadline. Only what blocks, finding the host, the
TCP and TLS handshakes, is done in a Worker.

    PAUSED -> CONNECTING -> GREETING -> CONNECTED -> PARTING -> CLOSED
       ^           |            |           |
       +-----------+------------+-----------+

PAUSED waits for the time of the next attempt, CONNECTING for the worker, GREETING for CONNACK, PARTING for
the last acknowledgements before DISCONNECT. While it waits in vain, probes ask whether anybody is there by
now: then the attempt is given up and another begun at once. One begun so is given all the time that a slow
broker may need. `stop` leads from each of the first three to CLOSED. Each attempt
has an Attempt of its own. Backoff says which server is next, and when; Terms what CONNECT asks of it;
Suspects which messages it does not take.
"""

import logging
import select
from collections import Counter
from collections.abc import Callable
from enum import Enum
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as mqtt

from ...loop import Host, Worker
from ...times import NEVER
from .advice import (
    ABOUT_A_MESSAGE,
    BREACH,
    BUSY,
    CLOSED_AT_ONCE,
    CONTESTED,
    NO_ANSWER,
    NO_CONNECTION,
    NONSENSE,
    SESSION_TAKEN_OVER,
    not_subscribed,
    quoted,
    why_ended,
    why_not,
    why_refused,
    why_unpublished,
    with_own_words,
)
from .attempt import Attempt
from .backoff import Backoff, Failure
from .client import keepalive_seconds
from .message import Message, Received, Will
from .probe import answers
from .suspects import Suspects, Treatment
from .terms import Terms

if TYPE_CHECKING:
    from .settings import MqttSettings

log = logging.getLogger(__name__)

PORT = 1883
CONNACK_WITHIN = 10.0
CONNECTING_WITHIN = 120.0
"""Seconds for name server, machine, TLS and websocket together, however slowly each of them goes on."""
PROBE_EVERY = 2.5
"""Seconds at most from one probe to the next, and from the beginning of a round to its first."""
QUIET = 1.0
"""Seconds after which what is sent should have arrived."""
STEADY_AFTER = 10.0
"""A connection that lasted so long counts as good."""
UNSTEADY_AFTER = 2
"""Connections in a row that were lost sooner: from then on the log waits until one is good."""
CONTESTED_AFTER = 3
"""Rounds in a row whose connection stood and was lost sooner: somebody else connects under our name."""
PEACE_AFTER = 300.0
"""A connection that lasted so long shows that nobody contests our name any more."""
GOODBYE_WITHIN = 2.0
MOST_UNACKNOWLEDGED = 100
LATE = 0.1
"""Seconds after its time that we look at a keep-alive, so that paho, with a clock of its own, agrees."""
NO_ECHO = "it does not answer any more"


class ConnectionState(Enum):
    """Where the connection is; the diagram above."""

    PAUSED = "paused"
    CONNECTING = "connecting"
    GREETING = "greeting"
    CONNECTED = "connected"
    PARTING = "parting"
    CLOSED = "closed"


class ConnectionLog:
    """The log of a broker: one line a change, however many connections see it."""

    def __init__(self) -> None:
        self._troubles: set[str] = set()
        """Told since the last connection, so that each is one line however often it comes."""
        self._told_connected = False

    def connected(self, where: str) -> None:
        """A connection stands; another one beside it, or the same with a will, is no change."""
        if not self._told_connected:
            log.info("Connected to MQTT %s", where)
            self._told_connected = True
            self._troubles.clear()

    def trouble(self, where: str, why: str) -> None:
        """A connection was lost, or not made."""
        self.once(where, f"{why}; trying again until it works")
        self._told_connected = False

    def once(self, where: str, why: str) -> None:
        """Something the reader should know, and does until the next connection."""
        text = f"MQTT {where}: {why}"
        if text not in self._troubles:
            log.warning("%s", text)
        self._troubles.add(text)


class _Parcel(NamedTuple):
    """A message, or a subscription, on its way to the broker."""

    topic: str
    size: int
    """Bytes."""
    message: Message | None
    """None for a subscription."""
    done: Callable[[bool], None] | None


class Connection:
    """A part of the loop that keeps one connection."""

    def __init__(
        self,
        settings: "MqttSettings",
        client_id: str,
        *,
        loop: Host,
        random: Random,
        client_factory: Callable[..., Any],
        connection_log: ConnectionLog,
    ) -> None:
        """To the servers of `settings`, as `client_id`. `loop` is the one that this is a part of.

        `client_factory` makes paho's client, `random` spreads the pauses.

        `connection_log` is shared by all connections to the same broker.
        """
        self.state = ConnectionState.PAUSED
        self._settings = settings
        self._client_id = client_id
        self._clock = loop.clock
        self._post = loop.post
        self._random = random
        self._client_factory = client_factory
        self._log = connection_log
        self._worker = self._new_worker()
        self._backoff = Backoff(len(settings.server), random)
        self._terms = [Terms(keepalive_seconds(settings)) for _ in settings.server]
        self._suspects = Suspects()
        self._attempt: Attempt | None = None
        """None while paused, and when closed."""
        self._due = -NEVER
        """When the state has something to do."""
        self._probe_at = NEVER
        """When to ask whether anybody is there, while the state is one that hangs."""
        self._probing: set[int] = set()
        """Servers that are being asked."""
        self._good_at = NEVER
        """When the connection has lasted long enough to be told of."""
        self._will: Will | None = None
        self._connected: Callable[[], None] | None = None
        self._subscriptions: list[str] = []
        self._received: Callable[[Received], None] = lambda message: None
        self._waiting: list[_Parcel] = []
        """Parcels that must go alone, and those that have to follow them."""
        self._unsteady = 0
        """Connections in a row that did not last."""
        self._quickly_lost = 0
        """The same, where nothing but another program with our name explains it."""
        self._quickly_lost_at = 0
        """The server of the last of these."""
        self._goodbye_said = False
        self._why_not = ""
        self._counts: Counter[str] = Counter()
        self._refused: set[str] = set()
        """Topics that the broker answered with a reason against them."""

    def serve(self, will: Will, connected: Callable[[], None]) -> None:
        """From now on with this will; `connected` is called after each connection that has it.

        If there is one already, it is called at once.
        """
        self._will = will
        self._connected = connected
        if self.serving:
            connected()
        elif self.state is ConnectionState.CONNECTED:
            self._reopen(self._clock())

    def listen(self, topics: list[str], received: Callable[[Received], None]) -> None:
        """From now on, in each connection, subscribe to these topics too; `received` gets what comes."""
        self._received = received
        self._subscriptions += topics
        if self.state is ConnectionState.CONNECTED:
            self._subscribe(topics, self._clock())

    @property
    def serving(self) -> bool:
        """True while there is a connection, with the will that was asked for."""
        return self._stands and self._attempt is not None and self._attempt.will == self._will

    def publish(self, message: Message, done: Callable[[bool], None] | None = None) -> bool:
        """Hand a message to the broker without waiting; False if it could not even be queued.

        `done` is called once, with QoS 1 and 2: True when the broker has acknowledged, False when the
        connection was lost before. It is not called when this returns False. A message that the broker is
        known not to take is dropped, and that is said; it goes with less QoS, or not retained, if that helps.
        """
        attempt = self._attempt
        if attempt is None or attempt.is_gone or not self._stands or self._is_full_for(message):
            return False
        now = self._clock()
        done = done if message.qos else None
        message = self._suspects.as_taken(attempt.as_allowed(message), now)
        parcel = _Parcel(message.topic, attempt.size(message), message, done)
        if self._is_refused(parcel, now):
            if done is not None:
                done(True)
            return True
        if self._is_online(message):
            attempt.online = message.payload
        return self._send(parcel, now)

    def stop(self, now: float) -> None:
        """Say goodbye once the broker has acknowledged everything; `closed` is then true."""
        if self.state is ConnectionState.PARTING:
            return
        if self.state is not ConnectionState.CONNECTED:
            self._close()
            return
        self._enter(ConnectionState.PARTING)
        self._due = now + GOODBYE_WITHIN
        self._say_goodbye()

    def status(self, now: float) -> dict[str, Any]:
        """How things stand, in plain values; the shape is that of the snapshot."""
        attempt, stands = self._attempt, self._stands
        return {
            "state": self.state.value,
            "server": self._where(),
            "client_id": (attempt.allowed.client_id if attempt is not None else "") or self._client_id,
            "connected_seconds": now - attempt.since if attempt is not None and stands else None,
            "why_not": "" if stands else self._why_not,
            "next_try_seconds": max(0.0, self._due - now) if self.state is ConnectionState.PAUSED else None,
            "unacknowledged": len(attempt.unacknowledged) if attempt is not None else 0,
            "waiting": len(self._waiting),
            "left_out": self._suspects.left_out(now),
            "refused": sorted(self._refused),
            "allowed": attempt.allowed.as_status() if attempt is not None else {},
            "counts": dict(self._counts),
        }

    def close(self) -> None:
        """Without goodbye: the broker publishes the will."""
        if not self.closed:
            self._close()

    # what the loop wants of a part

    @property
    def closed(self) -> bool:
        return self.state is ConnectionState.CLOSED

    @property
    def deadline(self) -> float:
        waiting = self._suspects.deadline if self._waiting else NEVER
        probe = self._probe_at if self._probe_at < NEVER and self._may_hang else NEVER
        return min(self._due, self._good_at, waiting, probe)

    def poll_for(self) -> tuple[int, int] | None:
        if self._attempt is None or self._attempt.is_gone:
            return None
        client = self._attempt.client
        return client.socket().fileno(), select.POLLIN | (select.POLLOUT if client.want_write() else 0)

    def ready(self, now: float) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        result = attempt.transfer()
        attempt.last_in = now
        self._act_on_notes(attempt)
        if self._attempt is not attempt:  # given up by who was told
            return
        if attempt.is_gone:
            self._lost(now, result)
        elif self.state is ConnectionState.GREETING and attempt.connack is not None:
            self._succeeded(now)
        elif self.state is ConnectionState.CONNECTED:
            self._due = self._keepalive_due(attempt)
            self._send_waiting(now)
        elif self.state is ConnectionState.PARTING:
            self._send_waiting(now)
            self._say_goodbye()

    def tick(self, now: float) -> None:
        if self._may_hang and now >= self._probe_at:
            self._probe(now)
        match self.state:
            case ConnectionState.PAUSED:
                self._begin(now)
            case ConnectionState.CONNECTING | ConnectionState.GREETING if now >= self._due:
                self._no_answer(now)
            case ConnectionState.PARTING:
                self._part_later(now)
            case ConnectionState.CONNECTED:
                self._tick_connected(now)

    # the states, in order

    def _enter(self, state: ConnectionState) -> None:
        """The one place where the state changes."""
        log.debug("MQTT %s, %s: %s -> %s", self._where(), self._client_id, self.state.value, state.value)
        self.state = state
        self._due = self._good_at = NEVER

    def _pause(self, until: float) -> None:
        self._attempt = None
        self._enter(ConnectionState.PAUSED)
        self._due = until

    def _begin(self, now: float) -> None:
        """PAUSED -> CONNECTING."""
        self._enter(ConnectionState.CONNECTING)
        self._due = now + CONNECTING_WITHIN
        if self._backoff.is_first_of_round:
            self._probe_at = now + self._until_probe()
        self._backoff.began(now)
        server = self._backoff.server
        attempt = self._attempt = Attempt(
            self._settings,
            host=self._settings.server[server],
            client_id=self._client_id,
            asked=self._terms[server].asked,
            will=self._will,
        )
        attempt.began = now
        self._worker.do(
            lambda: attempt.open(self._client_factory), lambda outcome: self._opened(attempt, outcome)
        )

    def _opened(self, attempt: Attempt, outcome: Callable[[], Any]) -> None:
        """CONNECTING -> GREETING."""
        now = self._clock()
        try:
            client = outcome()
            if client.socket() is None:  # gone while CONNECT was written; paho raises nothing then
                raise ConnectionAbortedError
            attempt.opened(client, now)
        except NO_CONNECTION as error:
            if self._attempt is attempt:
                self._explain_losses()
                self._failed(now, *self._why_not_from(error))
            return
        if self._attempt is not attempt:  # stopped or given up meanwhile
            attempt.drop()
            return
        self._enter(ConnectionState.GREETING)
        self._due = now + CONNACK_WITHIN

    def _why_not_from(self, error: Exception) -> tuple[Failure, str]:
        return why_not(error, has_certificate=bool(self._settings.certfile))

    def _no_answer(self, now: float) -> None:
        """CONNECTING, GREETING -> PAUSED."""
        self._give_up()
        self._explain_losses()
        self._failed(now, Failure.AWAY, NO_ANSWER)

    def _give_up(self) -> None:
        """Nothing that comes of this attempt is wanted any more."""
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        attempt.drop()
        if self.state is ConnectionState.CONNECTING:  # its thread may hang for long
            self._worker.finish()
            self._worker = self._new_worker()

    def _probe(self, now: float) -> None:
        """Ask the servers whether anybody is there; one that a connection stands with, only that one."""
        self._probe_at = now + self._until_probe()
        asked = [self._backoff.server] if self._stands else self._backoff.may_be_asked(now)
        for server in set(asked) - self._probing:
            self._probing.add(server)
            host = self._settings.server[server]
            worker = Worker(self._post, f"mqtt probe {host}")
            worker.do(
                partial(answers, self._settings, host, self._client_factory, self._clock),
                partial(self._probed, server, now),
            )
            worker.finish()

    def _probed(self, server: int, began: float, outcome: Callable[[], bool]) -> None:
        """CONNECTING, GREETING, CONNECTED -> CONNECTING, at a server that answers by now."""
        self._probing.discard(server)
        try:
            is_there = outcome()
        except NO_CONNECTION:
            is_there = False
        attempt = self._attempt
        if not is_there or attempt is None or not self._may_hang or self._probe_at == NEVER:
            return
        is_ours = server == self._backoff.server
        if is_ours and attempt.began > began:  # it has begun since, and waits for the same
            return
        if self._stands:
            if not is_ours or not attempt.stands_still:
                return
            self._counts["lost"] += 1
            self._suspects.forget_sent()
            self._forget(attempt)
        self._explain_losses()
        self._give_up()
        self._backoff.turn_to(server)
        self._begin(self._clock())
        self._probe_at = NEVER  # a login may take longer than a probe

    def _until_probe(self) -> float:
        return self._random.uniform(0.8, 1.0) * PROBE_EVERY

    def _new_worker(self) -> Worker:
        return Worker(self._post, f"mqtt {self._client_id}")

    def _succeeded(self, now: float) -> None:
        """GREETING -> CONNECTED."""
        attempt = self._attempt
        assert attempt is not None
        attempt.welcomed(now)
        self._enter(ConnectionState.CONNECTED)
        self._probe_at = NEVER
        if not self._terms[self._backoff.server].accepted() or attempt.will != self._will:
            self._reopen(now)
            return
        self._due = self._keepalive_due(attempt)
        self._refused.clear()
        self._good_at = now + self._good_after()
        if self._good_at <= now:
            self._tell_connected()
        self._tell_less(attempt)
        self._subscribe(self._subscriptions, now)
        if self.state is ConnectionState.CONNECTED and self._connected is not None:
            self._connected()

    def _tick_connected(self, now: float) -> None:
        """CONNECTED -> CONNECTED, or lost when the broker did not answer the last ping."""
        attempt = self._attempt
        assert attempt is not None
        if now >= self._good_at:
            self._tell_connected()
        if now >= self._due:
            attempt.client.loop_misc()
            # After a ping its answer is due a keep-alive later; when paho saw no need for one, ask it again.
            self._due = now + attempt.keepalive + LATE
        if attempt.is_gone:
            self._lost(now, mqtt.MQTT_ERR_KEEPALIVE)
        else:
            self._send_waiting(now)

    def _lost(self, now: float, result: int) -> None:
        """Anything but PAUSED -> PAUSED, or CLOSED when we were about to go; `result` is paho's."""
        attempt, state = self._attempt, self.state
        assert attempt is not None
        self._forget(attempt)
        if state is ConnectionState.PARTING:
            self._close()
        elif state is ConnectionState.GREETING:
            self._not_welcomed(now, attempt, result)
        else:
            failure, why = self._why_lost(now, attempt, result)
            self._counts["lost"] += 1
            self._failed(now, failure, why)

    def _not_welcomed(self, now: float, attempt: Attempt, result: int) -> None:
        """GREETING -> PAUSED: refused, or closed without CONNACK."""
        terms = self._terms[self._backoff.server]
        trouble = attempt.trouble
        self._explain_losses()
        if attempt.connack is not None and attempt.connack.reasons[0]:
            (reason, *_), properties = attempt.connack.reasons, attempt.connack.properties
            failure, why = why_refused(reason, properties)
            if not terms.refused(reason):
                self._failed(now, failure, why)
            else:  # for less, at once
                if reason < 128:  # it may as well be the client id
                    self._log.trouble(self._where(), why)
                self._pause(now)
        elif attempt.breach:
            self._failed(now, Failure.AWAY, BREACH.format(packet=attempt.breach))
        elif attempt.goodbye is not None:  # not before CONNACK, says the specification; brokers do
            self._failed(now, *why_refused(attempt.goodbye.reasons[0], attempt.goodbye.properties))
        elif trouble is not None and not isinstance(trouble, ConnectionError):  # a TLS alert
            self._failed(now, *self._why_not_from(trouble))
        elif result == mqtt.MQTT_ERR_PROTOCOL:
            self._failed(now, Failure.AWAY, NONSENSE)
        else:
            if attempt.will is not None:
                terms.silent()
            self._failed(now, Failure.AWAY, CLOSED_AT_ONCE)

    def _why_lost(self, now: float, attempt: Attempt, result: int) -> tuple[Failure, str]:
        """Why a connection that stood is gone; finds out whether a message of ours is to blame."""
        lasted = now - attempt.since
        reason, properties = 0, {}
        if attempt.goodbye is not None:
            reason, properties = attempt.goodbye.reasons[0], attempt.goodbye.properties
        verdicts = self._judge(now, attempt, result, reason)
        steady = lasted >= STEADY_AFTER
        self._unsteady = 0 if steady else self._unsteady + 1
        if steady:
            self._backoff.lasted()
        is_explained = verdicts is not None or reason != 0 or not self._was_closed(attempt, result)
        self._count_quickly_lost(lasted, is_explained=is_explained)
        if reason == SESSION_TAKEN_OVER:
            self._quickly_lost = CONTESTED_AFTER
        if self._quickly_lost >= CONTESTED_AFTER:
            self._suspects.acquit()
            return Failure.CONTESTED, with_own_words(CONTESTED.format(client_id=self._client_id), properties)
        self._tell_verdicts(verdicts or [])
        details = why_ended(reason, properties) or self._own_details(attempt, result)
        failure = Failure.BUSY if reason in BUSY else Failure.LOST if steady else Failure.DROPPED
        return failure, f"connection lost ({details})" if details else "connection lost"

    def _judge(self, now: float, attempt: Attempt, result: int, reason: int) -> list[Treatment] | None:
        """The verdicts on our messages from the end of the connection; None where they are not its cause."""
        if reason in ABOUT_A_MESSAGE or (reason == 0 and self._was_closed(attempt, result)):
            return self._suspects.lost(now)
        self._suspects.forget_sent()
        return None

    def _was_closed(self, attempt: Attempt, result: int) -> bool:
        """True when the broker closed the connection, or reset it; not the network, nor we."""
        if result in (mqtt.MQTT_ERR_KEEPALIVE, mqtt.MQTT_ERR_PROTOCOL):
            return False
        return attempt.trouble is None or isinstance(attempt.trouble, ConnectionError)

    def _count_quickly_lost(self, lasted: float, *, is_explained: bool) -> None:
        if lasted >= STEADY_AFTER and (lasted >= PEACE_AFTER or self._quickly_lost < CONTESTED_AFTER):
            self._quickly_lost = 0
        elif lasted < STEADY_AFTER and not is_explained:
            # A cluster that has lost a node may drop us from its others as well, one right after the other.
            self._quickly_lost += self._backoff.is_first_of_round
            self._quickly_lost_at = self._backoff.server

    def _explain_losses(self) -> None:
        """The server itself was away, or did not want us: no other program has to be the cause."""
        if self._quickly_lost_at == self._backoff.server:
            self._quickly_lost = 0

    def _failed(self, now: float, failure: Failure, why: str) -> None:
        """Anything -> PAUSED, until the next attempt."""
        self._log.trouble(self._where(), why)
        self._why_not = why
        self._pause(self._backoff.failed(failure, now))

    def _reopen(self, now: float) -> None:
        """CONNECTED -> PAUSED, on purpose and for no time: the same again with another will."""
        attempt = self._attempt
        assert attempt is not None
        attempt.client.disconnect()
        attempt.drop()
        self._suspects.forget_sent()
        self._forget(attempt)
        self._pause(now)

    def _say_goodbye(self) -> None:
        """PARTING -> CLOSED: DISCONNECT, once nothing is on its way; the broker then forgets the will."""
        attempt = self._attempt
        if attempt is None or self._goodbye_said or attempt.unacknowledged or self._waiting:
            return
        self._goodbye_said = True
        attempt.client.disconnect()
        if attempt.is_gone:
            self._close()

    def _part_later(self, now: float) -> None:
        """PARTING -> CLOSED when it lasts too long, without DISCONNECT: the broker publishes the will."""
        if now >= self._due:
            self._close()
        else:
            self._send_waiting(now)
            self._say_goodbye()

    def _close(self) -> None:
        """Anything -> CLOSED."""
        attempt, self._attempt = self._attempt, None
        self._enter(ConnectionState.CLOSED)
        if attempt is not None:
            attempt.drop()
            self._forget(attempt)
        self._worker.finish()

    # what goes out

    def _is_refused(self, parcel: _Parcel, now: float) -> bool:
        """True when the broker does not take it, as far as is known."""
        assert self._attempt is not None
        if parcel.size > self._attempt.allowed.largest:
            self._counts["too large"] += 1
            self._log.once(self._where(), f"{parcel.topic} is too large for it; raise its limit to 16 kB")
            return True
        if self._suspects.leaves_out(parcel.topic, parcel.size, now):
            self._counts["left out"] += 1
            return True
        return False

    def _send(self, parcel: _Parcel, now: float) -> bool:
        """Send it, or put it behind what waits; False if paho did not take it."""
        if self._waiting or self._suspects.must_wait(parcel.topic, parcel.size, now):
            self._waiting.append(parcel)
            return True
        return self._send_now(parcel, now)

    def _send_now(self, parcel: _Parcel, now: float) -> bool:
        attempt, message = self._attempt, parcel.message
        assert attempt is not None
        self._look_whether_it_hangs(attempt, now)
        if message is None:
            self._suspects.sent(parcel.topic, parcel.size, now, answered=True)
            attempt.subscribe([parcel.topic], now)
            taken = True
        else:
            qos, retain = message.qos, message.retain
            self._suspects.sent(parcel.topic, parcel.size, now, qos=qos, retain=retain, answered=qos > 0)
            taken = attempt.publish(message, parcel.done if message.qos else None, now)
            if taken and not message.qos and parcel.done is not None:
                parcel.done(True)
        if attempt.is_gone:
            self._lost(now, mqtt.MQTT_ERR_CONN_LOST)
        return taken

    def _look_whether_it_hangs(self, attempt: Attempt, now: float) -> None:
        """Probe as long as nothing arrives of what was sent: the network may be back long before the kernel
        tries again.
        """
        if now - attempt.last_out < QUIET:
            return
        if not attempt.stands_still:
            self._probe_at = NEVER
        elif self._probe_at == NEVER:
            self._probe_at = now

    def _send_waiting(self, now: float) -> None:
        """Send what waits, as far as it may go."""
        if self._waiting:
            self._suspects.tick(now)
        while self._waiting and self._stands:
            parcel = self._waiting[0]
            if self._suspects.must_wait(parcel.topic, parcel.size, now):
                return
            del self._waiting[0]
            if not self._send_now(parcel, now) and parcel.done is not None:
                parcel.done(False)

    def _subscribe(self, topics: list[str], now: float) -> None:
        attempt = self._attempt
        assert attempt is not None
        parcels = [_Parcel(topic, attempt.size(Message(topic, "")), None, None) for topic in topics]
        wanted = [parcel for parcel in parcels if self._may_subscribe(parcel, now)]
        fits = sum(parcel.size for parcel in wanted) <= attempt.allowed.largest
        if wanted and fits and not self._suspects.is_careful(now):
            for parcel in wanted:
                self._suspects.sent(parcel.topic, parcel.size, now, answered=True)
            attempt.subscribe([parcel.topic for parcel in wanted], now)
            if attempt.is_gone:
                self._lost(now, mqtt.MQTT_ERR_CONN_LOST)
            return
        for parcel in wanted:
            if self.state is ConnectionState.CONNECTED:
                self._send(parcel, now)

    def _may_subscribe(self, parcel: _Parcel, now: float) -> bool:
        assert self._attempt is not None
        if not self._attempt.allowed.wildcards and any(character in parcel.topic for character in "+#"):
            self._log.once(self._where(), f"it does not take wildcards, so nothing comes from {parcel.topic}")
            return False
        return not self._is_refused(parcel, now)

    def _is_full_for(self, message: Message) -> bool:
        """Too many wait for their acknowledgement; an inverter that comes or goes always finds room."""
        assert self._attempt is not None
        under_way = len(self._attempt.unacknowledged) if message.qos else 0
        if under_way + len(self._waiting) < MOST_UNACKNOWLEDGED:
            return False
        return not self._is_online(message) or message.payload == self._attempt.online

    def _is_online(self, message: Message) -> bool:
        """True for the topic of the will: the message says that the inverter is there, or is not."""
        return self._will is not None and message.topic == self._will.topic

    # what comes in

    def _act_on_notes(self, attempt: Attempt) -> None:
        """Act on everything that paho has told meanwhile."""
        acknowledged, attempt.acknowledged = attempt.acknowledged, []
        for topic in acknowledged:
            self._suspects.acknowledged(topic)
        refusals, attempt.refusals = attempt.refusals, []
        for topic, reason, properties, is_subscription in refusals:
            self._refused.add(topic)
            self._counts["refused"] += 1
            if is_subscription:
                text = not_subscribed(topic, reason, properties, mqtt5=attempt.is_mqtt5)
            else:
                text = with_own_words(f"it refuses what we publish: {why_unpublished(reason)}", properties)
            self._log.once(self._where(), text)
        attempt.tell_acknowledged()
        self._hand_over(attempt)

    def _hand_over(self, attempt: Attempt) -> None:
        """Hand messages that were asked for to whoever asked; count what a broker sends besides."""
        arrived, attempt.arrived = attempt.arrived, []
        unreadable, attempt.unreadable = attempt.unreadable, 0
        if unreadable:
            self._counts["foreign"] += unreadable
        for message in arrived:
            if any(mqtt.topic_matches_sub(asked, message.topic) for asked in self._subscriptions):
                self._received(message)
            else:
                self._tell_foreign(message.topic)
                self._counts["foreign"] += 1

    def _forget(self, attempt: Attempt) -> None:
        """Tell everybody whose message was under way in a connection that is gone."""
        waiting, self._waiting = self._waiting, []
        attempt.tell_lost()
        for parcel in waiting:
            if parcel.done is not None:
                parcel.done(False)

    # what is told

    def _good_after(self) -> float:
        """Seconds that this connection has to last before the log has a word of it."""
        if self._quickly_lost >= CONTESTED_AFTER:
            return PEACE_AFTER
        return STEADY_AFTER if self._unsteady >= UNSTEADY_AFTER else 0.0

    def _tell_connected(self) -> None:
        self._good_at = NEVER
        if self._unsteady >= UNSTEADY_AFTER or self._quickly_lost >= CONTESTED_AFTER:
            self._unsteady = self._quickly_lost = 0
        self._why_not = ""
        self._log.connected(self._where())

    def _tell_less(self, attempt: Attempt) -> None:
        """Where the broker allows less than we would send."""
        wanted = Message("", "", qos=max(1, self._settings.qos), retain=True)
        taken = attempt.as_allowed(wanted)
        if taken.qos < wanted.qos:
            text = f"it takes no QoS above {taken.qos}; what has more is sent with that"
            self._log.once(self._where(), text)
        if not taken.retain:
            text = "it keeps no retained messages; who comes later waits for the next online"
            self._log.once(self._where(), text)

    def _tell_verdicts(self, verdicts: list[Treatment]) -> None:
        for topic, qos, retain, left_out in verdicts:
            if left_out:
                what = "it is left out and only now and then tried again; check what the broker allows"
            else:
                what = f"it is sent with QoS {qos}" if retain else "it is sent without retain"
            self._log.once(self._where(), f"it closes the connection at {topic}; {what}")

    def _tell_foreign(self, topic: str) -> None:
        """Once: whoever sends such things sends many."""
        if not self._counts["foreign"]:
            text = f"it sends what we did not ask for, such as {quoted(topic)}; that is dropped"
            self._log.once(self._where(), text)

    def _own_details(self, attempt: Attempt, result: int) -> str:
        """The cause as we have seen it, of a broker that gave no reason."""
        if result == mqtt.MQTT_ERR_KEEPALIVE:
            return NO_ECHO
        if attempt.breach:
            return BREACH.format(packet=attempt.breach)
        if result == mqtt.MQTT_ERR_PROTOCOL:
            return "what it says is not MQTT"
        if attempt.trouble is not None and not isinstance(attempt.trouble, ConnectionError):
            return str(attempt.trouble.strerror or attempt.trouble)
        return ""

    @property
    def _may_hang(self) -> bool:
        """True in the states in which a probe may tell more than our socket."""
        return self.state in (
            ConnectionState.CONNECTING,
            ConnectionState.GREETING,
            ConnectionState.CONNECTED,
        )

    @property
    def _stands(self) -> bool:
        return self.state in (ConnectionState.CONNECTED, ConnectionState.PARTING)

    def _keepalive_due(self, attempt: Attempt) -> float:
        return min(attempt.last_in, attempt.last_out) + attempt.keepalive + LATE

    def _where(self) -> str:
        host = self._settings.server[self._backoff.server]
        return host if self._settings.port == PORT else f"{host}:{self._settings.port}"
