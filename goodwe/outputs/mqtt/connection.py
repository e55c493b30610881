"""A connection to an MQTT broker that comes back for ever.

paho's own thread would wake up once a second (its loop() polls at that rate), so the client is driven by
our loop: its socket is polled, its keep-alive has a deadline. Only what blocks, finding the host, the
TCP and TLS handshakes, is done in a Worker. Each attempt has a new client: nothing of an old one, and no
thread that is late, can disturb it.
"""

import logging
import select
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as mqtt

from ...loop import NEVER, Host, Worker
from .client import (
    CLOSED_AT_ONCE,
    GOODBYES,
    LOST,
    NOT_ALLOWED,
    OVERHEAD,
    REFUSALS,
    SESSION_TAKEN_OVER,
    WEBSOCKETS,
    connect_properties,
    keepalive_seconds,
    new_client,
    no_delay,
    pending,
    publish_properties,
    reason_of,
)
from .message import Message, Received

if TYPE_CHECKING:
    import ssl

    from ...config import MqttSettings

log = logging.getLogger(__name__)

PORT = 1883
CONNACK_WITHIN = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before all servers are tried again; doubled each time, less up to half by chance."""
STEADY_AFTER = 10.0
"""A connection that lasted so long counts as good: the next pause is the first again."""
CONTESTED_AFTER = 3
"""Rounds in a row whose connection stood and was lost sooner: somebody else connects under our name."""
PEACE_AFTER = 300.0
"""A connection that lasted so long shows that nobody contests our name any more."""
GOODBYE_WITHIN = 2.0
MOST_UNACKNOWLEDGED = 100
CONTESTED = (
    "another program connects as {client_id}: is this one running twice? Else change clientid in [mqtt];"
    " one try a minute until it is gone"
)
READS_AT_ONCE = 16
"""Packets that one frame of a websocket may hold; paho has read the whole frame then."""


class Will(NamedTuple):
    """What the broker publishes, retained, with QoS 1, when we are gone without a word."""

    topic: str
    payload: str


class Diary:
    """What the log says about a broker: one line a change, however many connections see it."""

    def __init__(self) -> None:
        self._troubles: set[str] = set()
        """Those told since the last connection, so that each is one line however often it comes."""
        self._told_connected = False

    def connected(self, where: str) -> None:
        """A connection stands."""
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


class Connection:
    """A part of the loop that keeps one connection."""

    def __init__(
        self,
        settings: "MqttSettings",
        client_id: str,
        *,
        loop: Host,
        random: Random,
        tls: "ssl.SSLContext | None",
        client_factory: Callable[..., Any],
        diary: Diary,
    ) -> None:
        self.closed = False
        self.deadline = -NEVER
        self._settings = settings
        self._client_id = client_id
        self._clock = loop.clock
        self._random = random
        self._tls = tls
        self._client_factory = client_factory
        self._worker = Worker(loop.post, f"mqtt {client_id}")
        self._keepalive = keepalive_seconds(settings)
        self._step: Callable[[float], None] = self._begin
        """What is to be done at the deadline: the state we are in."""
        self._client: Any = None
        """The client of this attempt, once its handshakes are made."""
        self._server = 0
        self._pause = FIRST_PAUSE
        self._will: Will | None = None
        self._connected: Callable[[], None] | None = None
        self._attempt_will: Will | None = None
        self._connack: int | None = None
        self._is_connected = False
        self._since = 0.0
        self._last_in = self._last_out = 0.0
        self._unacknowledged: list[tuple[Any, Callable[[bool], None] | None]] = []
        """Messages with a QoS above 0, and who wants to know what became of them."""
        self._state = ""
        """The state of the inverter that was published last in this connection."""
        self._subscriptions: list[str] = []
        self._received: Callable[[Received], None] = lambda message: None
        self._arrived: list[Received] = []
        self._largest = NEVER
        """Bytes of the largest packet that the broker takes, where it has said so."""
        self._goodbye: int | None = None
        """Reason of the broker's DISCONNECT."""
        self._quickly_lost = 0
        self._after_pause = True
        """Whether this attempt is the first of a round over all servers."""
        self._diary = diary
        self._stopping = False
        self._goodbye_said = False

    def serve(self, will: Will, connected: Callable[[], None]) -> None:
        """From now on with this will; `connected` is called after each connection that has it."""
        self._will = will
        self._connected = connected
        if self._is_connected:
            self._reopen(self._clock())

    def listen(self, topics: list[str], received: Callable[[Received], None]) -> None:
        """From now on, in each connection, subscribe to these topics too; `received` gets what comes."""
        self._received = received
        self._subscriptions += topics
        if self._is_connected:
            self._subscribe(topics)

    @property
    def serving(self) -> bool:
        """Whether there is a connection, with the will that was asked for."""
        return self._is_connected and self._attempt_will == self._will

    def publish(self, message: Message, done: Callable[[bool], None] | None = None) -> bool:
        """Hand a message to the broker without waiting; False if it could not even be queued.

        `done` is called once, with QoS 1 and 2: True when the broker has acknowledged, False when the
        connection was lost before. It is not called when this returns False. A message that is larger than
        the broker has said that it takes is dropped, and that is said.
        """
        if self._client is None or self._is_full_for(message):
            return False
        if len(message.payload) + len(message.topic) + OVERHEAD > self._largest:
            self._diary.once(self._where(), f"{message.topic} is too large for it; raise its limit to 16 kB")
            if done is not None:
                done(True)
            return True
        info = self._client.publish(*message[:4], **publish_properties(self._settings, message))
        now = self._last_out = self._clock()
        taken = bool(info.rc == mqtt.MQTT_ERR_SUCCESS)
        if message.qos and taken:
            self._unacknowledged.append((info, done))
        if taken and self._is_state(message):
            self._state = message.payload
        if self._client.socket() is None:
            self._lost(now, mqtt.error_string(info.rc))
        return taken

    def _is_full_for(self, message: Message) -> bool:
        """Too many wait for their acknowledgement; an inverter that comes or goes always finds room."""
        if not message.qos or len(self._unacknowledged) < MOST_UNACKNOWLEDGED:
            return False
        return not self._is_state(message) or message.payload == self._state

    def _is_state(self, message: Message) -> bool:
        """Whether it says what the will would: that the inverter is there, or not."""
        return self._will is not None and message.topic == self._will.topic

    def stop(self, now: float) -> None:
        """Say goodbye once the broker has acknowledged everything; `closed` is then true."""
        self._stopping = True
        if not self._is_connected:
            self._close()
            return
        self._step = self._give_up
        self.deadline = now + GOODBYE_WITHIN
        self._say_goodbye(now)

    # what the loop wants of a part

    def poll_for(self) -> tuple[int, int] | None:
        if self._client is None:
            return None
        writing = select.POLLOUT if self._client.want_write() else 0
        return self._client.socket().fileno(), select.POLLIN | writing

    def ready(self, now: float) -> None:
        result = self._transfer()
        self._last_in = now
        self._tell_acknowledged()
        self._hand_over()
        if self._client is None:  # given up by who was told
            return
        if self._client.socket() is None:
            self._lost(now, mqtt.error_string(result))
        elif self._connack == 0 and not self._is_connected:
            self._succeeded(now)
        elif self._is_connected and not self._stopping:
            self.deadline = self._keepalive_deadline()
        if self._stopping and not self.closed:
            self._say_goodbye(now)

    def tick(self, now: float) -> None:
        self.deadline = NEVER
        self._step(now)

    # the states, in order

    def _begin(self, now: float) -> None:
        """Nothing -> connecting."""
        host = self._settings.server[self._server]
        client = new_client(self._settings, self._client_id, self._tls, self._client_factory)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        self._attempt_will = self._will
        self._connack = self._goodbye = None
        self._state = ""
        self._largest = NEVER
        self._arrived.clear()
        port, keepalive, properties = self._settings.port, self._keepalive, connect_properties(self._settings)
        self._worker.do(
            lambda: client.connect(host, port, keepalive, **properties),
            lambda outcome: self._connected_to(client, outcome),
        )

    def _connected_to(self, client: Any, outcome: Callable[[], Any]) -> None:
        """Connecting -> waiting for CONNACK."""
        if self.closed:
            return
        now = self._clock()
        try:
            outcome()
            if client.socket() is None:  # gone while CONNECT was written; paho raises nothing then
                self._failed(now, CLOSED_AT_ONCE)
                return
            # `online` follows `data` at once; Nagle's algorithm would hold it until the broker acknowledges.
            no_delay(client.socket().fileno())
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            self._quickly_lost = self._quickly_lost if len(self._settings.server) > 1 else 0
            self._failed(now, reason_of(error))
            return
        self._client = client
        self._last_in = self._last_out = now
        self._step = self._no_connack
        self.deadline = now + CONNACK_WITHIN

    # paho's callbacks only take notes; they are acted upon when paho has returned

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, *more: Any) -> None:
        self._connack = getattr(reason, "value", reason)
        self._largest = getattr(more[0], "MaximumPacketSize", NEVER) if more else NEVER

    def _on_disconnect(self, client: Any, userdata: Any, *arguments: Any) -> None:
        reason = arguments[1] if len(arguments) > 2 else arguments[0]  # paho 2 puts flags in front
        self._goodbye = getattr(reason, "value", reason)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        properties = getattr(message, "properties", None)
        self._arrived.append(
            Received(
                message.topic,
                message.payload,
                bool(message.retain),
                getattr(properties, "ResponseTopic", ""),
                getattr(properties, "CorrelationData", b""),
            )
        )

    def _on_subscribe(self, client: Any, userdata: Any, number: Any, reasons: Any, *_: Any) -> None:
        if any(getattr(reason, "value", reason) >= NOT_ALLOWED for reason in reasons):
            topics = ", ".join(self._subscriptions)
            self._diary.once(self._where(), f"it does not let us subscribe to {topics}")

    def _on_publish(self, client: Any, userdata: Any, number: Any, *arguments: Any) -> None:
        if arguments and getattr(arguments[0], "value", 0) >= NOT_ALLOWED:  # told with MQTT 5 only
            self._diary.once(self._where(), f"it refuses what we publish: {arguments[0]}")

    def _no_connack(self, now: float) -> None:
        self._drop()
        self._failed(now, "it accepts connections but does not answer; is it an MQTT broker?")

    def _succeeded(self, now: float) -> None:
        """Waiting for CONNACK -> connected."""
        self._is_connected = True
        self._since = now
        self._step = self._keep_alive
        self.deadline = self._keepalive_deadline()
        if self._attempt_will != self._will:
            self._reopen(now)
            return
        if self._quickly_lost < CONTESTED_AFTER:
            self._diary.connected(self._where())
        self._subscribe(self._subscriptions)
        if self._is_connected and self._connected is not None:
            self._connected()

    def _keepalive_deadline(self) -> float:
        # A little late, so that paho, with a clock of its own, agrees that it is time.
        return min(self._last_in, self._last_out) + self._keepalive + 0.1

    def _keep_alive(self, now: float) -> None:
        """Connected -> connected, or lost when the broker did not answer the last ping."""
        result = self._client.loop_misc()
        if self._client.socket() is None:
            self._lost(now, mqtt.error_string(result))
            return
        if self._quickly_lost >= CONTESTED_AFTER and now - self._since >= PEACE_AFTER:
            self._quickly_lost = 0
            self._diary.connected(self._where())
        # After a ping its answer is due a keep-alive later; when paho saw no need for one, ask it again.
        self.deadline = now + self._keepalive + 0.1

    def _lost(self, now: float, why: str) -> None:
        """Connected or waiting for CONNACK -> pause."""
        self._client = None
        was_connected, self._is_connected = self._is_connected, False
        self._tell_unacknowledged()
        if self._stopping:
            self._close()
            return
        if not was_connected:
            self._quickly_lost = 0
            self._failed(now, CLOSED_AT_ONCE if self._connack is None else REFUSALS.get(self._connack, why))
            return
        self._failed(now, self._why_lost(now - self._since, why))

    def _why_lost(self, lasted: float, why: str) -> str:
        """Why a connection that lasted so many seconds is gone; sets the pause that follows."""
        if self._goodbye == SESSION_TAKEN_OVER:
            self._quickly_lost = CONTESTED_AFTER
        elif lasted >= PEACE_AFTER:
            self._quickly_lost = 0
        elif lasted < STEADY_AFTER:
            # A cluster that has lost a node may drop us from its others as well, one right after the other.
            self._quickly_lost += self._after_pause
        if self._quickly_lost >= CONTESTED_AFTER:
            self._pause = LONGEST_PAUSE
            return CONTESTED.format(client_id=self._client_id)
        if lasted >= STEADY_AFTER:
            self._quickly_lost = 0
            self._pause = FIRST_PAUSE
        details = GOODBYES.get(self._goodbye or 0, "" if why == LOST else why)
        return f"connection lost ({details})" if details else "connection lost"

    def _failed(self, now: float, why: str) -> None:
        """Anything -> the next server, after the last of them a pause."""
        self._diary.trouble(self._where(), why)
        self._step = self._begin
        self._server = (self._server + 1) % len(self._settings.server)
        self._after_pause = not self._server
        if self._server:
            self.deadline = now
            return
        self.deadline = now + self._pause * (0.5 + self._random.random() / 2)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _reopen(self, now: float) -> None:
        """Connected -> nothing, on purpose: the same again with another will."""
        self._client.disconnect()
        self._drop()
        self._is_connected = False
        self._tell_unacknowledged()
        self._step = self._begin
        self.deadline = now

    def _say_goodbye(self, now: float) -> None:
        """DISCONNECT, once nothing is on its way; the broker then forgets the will."""
        if not self._goodbye_said and not self._unacknowledged:
            self._goodbye_said = True
            self._client.disconnect()
            if self._client.socket() is None:
                self._close()

    def _give_up(self, now: float) -> None:
        """The broker did not acknowledge in time: without DISCONNECT, so that it publishes the will."""
        self._drop()
        self._close()

    # the client

    def _transfer(self) -> int:
        """Read what is there and write what is waiting; paho's result code."""
        result = self._client.loop_read()
        # TLS reads whole records: what is in the buffer does not make the socket readable again.
        while result == mqtt.MQTT_ERR_SUCCESS and pending(self._client.socket()):
            result = self._client.loop_read()
        if self._settings.transport == WEBSOCKETS:  # and paho whole frames
            for _ in range(READS_AT_ONCE):
                result = result or self._client.loop_read()
        if self._client.socket() is not None and self._client.want_write():
            result = self._client.loop_write()
        return int(result)

    def _subscribe(self, topics: list[str]) -> None:
        if topics:
            # QoS 0: RabbitMQ keeps a queue for more on one node, and drops us everywhere when that node dies.
            result, _ = self._client.subscribe([(topic, 0) for topic in topics])
            now = self._last_out = self._clock()
            if self._client.socket() is None:
                self._lost(now, mqtt.error_string(result))

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        for message in arrived:
            self._received(message)

    def _tell_acknowledged(self) -> None:
        known, self._unacknowledged = self._unacknowledged, []
        for info, tell in known:
            if not info.is_published():
                self._unacknowledged.append((info, tell))
            elif tell is not None:
                tell(True)

    def _tell_unacknowledged(self) -> None:
        """Those of a connection that is gone are never acknowledged."""
        lost, self._unacknowledged = self._unacknowledged, []
        for info, tell in lost:
            if tell is not None:
                tell(info.is_published())

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None and client.socket() is not None:
            client.socket().close()

    def _close(self) -> None:
        self._drop()
        self._is_connected = False
        self._tell_unacknowledged()
        self.closed = True
        self._worker.finish()

    def _where(self) -> str:
        host = self._settings.server[self._server]
        return host if self._settings.port == PORT else f"{host}:{self._settings.port}"
