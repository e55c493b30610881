"""`discovery clear`: take back all that the broker keeps of inverters that are out of service.

That is what Home Assistant was told, `online`, and with options the values, the sum and the power limit.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TextIO

import simplejson

from .. import program
from ..config import Config
from ..errors import FieldError, GoodWeError
from ..outputs.mqtt import retained
from ..outputs.mqtt.advice import (
    BREACH,
    NO_ANSWER,
    NO_CONNECTION,
    not_subscribed,
    reason_of,
    why_ended,
    why_refused,
    why_unpublished,
    with_own_words,
)
from ..outputs.mqtt.attempt import Attempt
from ..outputs.mqtt.client import UNREADABLE, keepalive_seconds, paho_client
from ..outputs.mqtt.homeassistant import discovery_topic, is_ours, object_id
from ..outputs.mqtt.message import Message
from ..outputs.mqtt.terms import Terms
from ..protocol import fields
from ..readings import state

if TYPE_CHECKING:
    from ..outputs.mqtt.settings import MqttSettings

QUIET_FOR = 1.0
"""Seconds without a message after which a broker has given all that it keeps."""
PATIENCE = 10.0
AT_ONCE = 8
"""Topics of one subscription; some brokers take no more."""
STAYS = (
    "A program that runs announces its inverters again when it, the broker or Home Assistant restarts;"
    " discovery = off ends that."
)
SAID_AGAIN = "A program that runs says what is kept again with its next message: stop it first."


class ClearError(GoodWeError):
    """It cannot be done; the text says what to do."""


def main(arguments: list[str], settings: Config, *, out: TextIO = sys.stdout) -> int:
    """Remove what is kept of the serials given, or of all inverters. Raises ClearError, StartError."""
    options = parse(arguments)
    prefix = settings.homeassistant.prefix
    # Some brokers give what they keep only to who asks by the exact topic.
    known = list(state.load(settings.inverter.statefile))
    if options.serial:
        known = [spelled for serial in options.serial for spelled in _spellings(serial, known)]
    asked = [discovery_topic(prefix, serial) for serial in known]
    if not options.serial:
        asked.append(f"{prefix}/device/+/config")
    attempt = _connected(settings)
    announced = _announced(attempt, asked)
    if not options.serial:
        known += [serial for topic in announced if (serial := _serial(topic, announced[topic]))]
    topics = _kept_topics(settings, known)
    earlier = retained.load(retained.path_beside(settings.inverter.statefile))
    if options.serial:
        earlier = {topic for topic in earlier if any(retained.is_of(serial, topic) for serial in known)}
    else:
        topics.append(retained.sum_topic(settings.mqtt.topic))
    topics += sorted(earlier - {*topics, *announced})
    kept = _kept(attempt, topics)
    for line in _not_asked(attempt):
        print(line, file=out)
    for topic in (*sorted(announced), *kept):
        _publish(attempt, topic)
        print(f"cleared {topic}", file=out)
    attempt.client.disconnect()
    if not announced and not kept:
        told = [discovery_topic(prefix, serial) for serial in options.serial] or asked
        print(f"nothing of this program is announced on {', '.join(told)}", file=out)
    if announced and settings.homeassistant.discovery:
        print(STAYS, file=out)
    if kept:
        print(SAID_AGAIN, file=out)
    return 0


def parser() -> argparse.ArgumentParser:
    """The words and options that may stand behind the verb."""
    description = (
        "Take back what the broker keeps of inverters that are out of service: what Home Assistant was told,"
        " online, and the values, the sum and the power limit where those are kept."
    )
    made = argparse.ArgumentParser(prog=f"{program.name()} discovery", description=description)
    made.add_argument("clear", choices=["clear"])
    everything = "inverters; none: all that are announced or in the state file, and the sum"
    made.add_argument(
        "serial", nargs="*", default=[], type=_checked_serial, metavar="SERIAL", help=everything
    )
    return made


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    return parser().parse_args(arguments)


def _checked_serial(text: str) -> str:
    """A serial that can be part of a topic."""
    if not text.isprintable() or set(text) & set("+#/"):
        raise argparse.ArgumentTypeError(f"{text!r} is no serial")
    return text


def _spellings(serial: str, known: list[str]) -> Iterable[str]:
    """How the serial may stand in topics: a person leaves out the blanks at its end."""
    spelled = fields.known_serial(serial, known)
    return [spelled] if spelled in known else dict.fromkeys((serial, serial.ljust(fields.SERIAL_LENGTH)))


def _serial(topic: str, announcement: bytes) -> str:
    """Serial in an announcement of ours: as it says itself, else as its topic does; empty if neither."""
    try:
        return fields.decode_serial(str(simplejson.loads(announcement)["dev"]["sn"]).encode("ascii"))
    except (ValueError, KeyError, TypeError, FieldError):
        before, begin, serial = topic.split("/")[-2].partition(object_id(""))
        return serial if begin and not before else ""


def _kept_topics(settings: Config, serials: Iterable[str]) -> list[str]:
    """Where a broker may keep something of these inverters, whatever the options are today."""
    topic, commandtopic = settings.mqtt.topic, settings.mqtt.commandtopic
    topics = []
    for serial in dict.fromkeys(serials):
        topics.append(f"{topic}/{serial}/online")
        topics += retained.optional_topics(topic, commandtopic, serial)
    return topics


def _connected(settings: Config) -> Attempt:
    """A connection to the first server that takes it, on terms that it takes. Raises ClearError."""
    troubles = []
    for host in settings.mqtt.server:
        terms = Terms(keepalive_seconds(settings.mqtt))
        while True:
            attempt, trouble, reason = _tried(settings.mqtt, host, terms)
            if attempt is not None:
                return attempt
            if not terms.refused(reason):
                break
        troubles.append(f"MQTT {host}: {trouble}")
    raise ClearError("; ".join(troubles))


def _tried(mqtt: "MqttSettings", host: str, terms: Terms) -> tuple[Attempt | None, str, int]:
    """A connection to this server, or why there is none, and the reason in its CONNACK, 0 for none."""
    client_id = f"{mqtt.clientid}-discovery"
    attempt = Attempt(mqtt, host=host, client_id=client_id, asked=terms.asked, will=None)
    try:
        client = attempt.open(paho_client)
        if client.socket() is None:
            raise ConnectionAbortedError
        attempt.opened(client, time.monotonic())
        end = time.monotonic() + PATIENCE
        while attempt.connack is None and time.monotonic() < end and not _turned(attempt):
            pass
    except NO_CONNECTION as error:
        return None, reason_of(error), 0
    if attempt.connack is None:
        return None, NO_ANSWER if not attempt.is_gone else _why_closed(attempt), 0
    (reason, *_), properties = attempt.connack.reasons, attempt.connack.properties
    if reason:
        return None, why_refused(reason, properties)[1], reason
    attempt.welcomed(time.monotonic())
    return attempt, "", 0


def _turned(attempt: Attempt) -> bool:
    """Let a moment pass on the connection; True when it has ended."""
    try:
        return bool(attempt.client.loop(timeout=0.1))
    except UNREADABLE:
        return True


def _turn_until(attempt: Attempt, done: Callable[[], bool]) -> bool:
    """Until `done()`, or False when that takes too long. Raises ClearError at the end of the connection."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            return False
        if _turned(attempt):
            raise ClearError(_why_closed(attempt))
    return True


def _why_closed(attempt: Attempt) -> str:
    """Why the connection has ended, in the broker's words if it had any."""
    why = ""
    if attempt.goodbye is not None:
        why = why_ended(attempt.goodbye.reasons[0], attempt.goodbye.properties)
    elif attempt.breach:
        why = BREACH.format(packet=attempt.breach)
    elif attempt.refusals:
        why = "; ".join(_not_asked(attempt))
    ended = "the broker closed the connection"
    return f"{ended}: {why}" if why else f"{ended}; is another program using the same clientid?"


def _announced(attempt: Attempt, asked: list[str]) -> dict[str, bytes]:
    """Our announcements that the broker keeps, of those that are asked for, by topic."""
    return {topic: payload for topic, payload in _retained(attempt, asked).items() if is_ours(payload)}


def _kept(attempt: Attempt, asked: list[str]) -> list[str]:
    """The topics on which the broker keeps anything, of those that are asked for."""
    kept = _retained(attempt, asked)
    return [topic for topic in asked if topic in kept]


def _retained(attempt: Attempt, asked: list[str]) -> dict[str, bytes]:
    """The messages that the broker keeps on these topics. Raises ClearError."""
    if not attempt.allowed.wildcards:
        asked = [topic for topic in asked if "+" not in topic]
    answered = len(attempt.acknowledged) + len(asked)
    for topics in _by(AT_ONCE, asked):
        attempt.subscribe(topics, time.monotonic())
    if not _turn_until(attempt, lambda: len(attempt.acknowledged) >= answered):
        # Nothing came, but not because nothing is kept.
        raise ClearError(f"MQTT {attempt.host}: it does not answer when it is asked what it keeps")
    end, heard, count = time.monotonic() + PATIENCE, time.monotonic(), 0
    while time.monotonic() < min(heard + QUIET_FOR, end):
        if _turned(attempt):
            raise ClearError(_why_closed(attempt))
        kept = [message for message in attempt.arrived if message.retained]  # else it has just been said
        if len(kept) > count:
            heard, count = time.monotonic(), len(kept)
    found = {message.topic: message.payload for message in attempt.arrived if message.retained}
    attempt.arrived = []
    return found


def _not_asked(attempt: Attempt) -> Iterable[str]:
    """Where the broker does not let us look, a line each."""
    if not attempt.allowed.wildcards:
        yield "it does not take wildcards: only inverters that are known here are looked for"
    for topic, reason, properties, _ in attempt.refusals:
        yield not_subscribed(topic, reason, properties, mqtt5=attempt.is_mqtt5)


def _by(count: int, topics: list[str]) -> Iterable[list[str]]:
    """The topics, so many at a time."""
    return (topics[begin : begin + count] for begin in range(0, len(topics), count))


def _publish(attempt: Attempt, topic: str) -> None:
    attempt.refusals = []
    message = attempt.as_allowed(Message(topic, "", 1, retain=True))
    taken = attempt.publish(message, None, time.monotonic()) and _turn_until(
        attempt, lambda: not attempt.client.want_write() and _is_acknowledged(attempt)
    )
    attempt.unacknowledged = []
    for refusal in attempt.refusals:
        why = why_unpublished(refusal.reason)
        raise ClearError(
            with_own_words(f"the broker refuses the removal of {topic}: {why}", refusal.properties)
        )
    if not taken:
        raise ClearError(f"the broker did not take the removal of {topic}")


def _is_acknowledged(attempt: Attempt) -> bool:
    return all(waiting.info.is_published() for waiting in attempt.unacknowledged)
