"""`discovery clear`: take back all that the broker keeps of inverters that are out of service.

That is what Home Assistant was told, `online`, and with options the values, the sum and the power limit.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

import simplejson

from .. import program
from ..config import Config
from ..errors import FieldError, GoodWeError
from ..outputs.mqtt import retained
from ..outputs.mqtt.advice import REFUSALS, reason_of
from ..outputs.mqtt.client import new_client
from ..outputs.mqtt.homeassistant import discovery_topic, is_ours, object_id
from ..outputs.mqtt.tls import tls_for
from ..protocol import fields
from ..readings import state

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
    known = options.serial or list(state.load(settings.inverter.statefile))
    asked = [discovery_topic(prefix, serial) for serial in known]
    if not options.serial:
        asked.append(f"{prefix}/device/+/config")
    client = _connected(settings)
    announced = _announced(client, asked)
    if not options.serial:
        known += [serial for topic in announced if (serial := _serial(topic, announced[topic]))]
    topics = _kept_topics(settings, known)
    earlier = retained.load(retained.path_beside(settings.inverter.statefile))
    if options.serial:
        earlier = {topic for topic in earlier if any(retained.is_of(serial, topic) for serial in known)}
    else:
        topics.append(retained.sum_topic(settings.mqtt.topic))
    topics += sorted(earlier - {*topics, *announced})
    kept = _kept(client, topics)
    for topic in (*sorted(announced), *kept):
        _publish(client, topic)
        print(f"cleared {topic}", file=out)
    client.disconnect()
    if not announced and not kept:
        print(f"nothing of this program is announced on {', '.join(asked)}", file=out)
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


def _connected(settings: Config) -> Any:
    """A client with a connection to the first server that takes it."""
    mqtt = settings.mqtt
    troubles = []
    for host in mqtt.server:
        client = new_client(mqtt, f"{mqtt.clientid}-discovery", tls_for(mqtt, host))
        answers: list[int] = []
        client.on_connect = lambda c, u, f, reason, *_, a=answers: a.append(getattr(reason, "value", reason))
        try:
            client.connect(host, mqtt.port)
            end = time.monotonic() + PATIENCE
            while not answers and time.monotonic() < end and not client.loop(timeout=0.1):
                pass
        except (OSError, ValueError) as error:
            troubles.append(f"MQTT {host}: {reason_of(error)}")
            continue
        if answers == [0]:
            return client
        refusal = REFUSALS.get(answers[0], "it refuses us") if answers else "it does not answer"
        troubles.append(f"MQTT {host}: {refusal}")
    raise ClearError("; ".join(troubles))


def _announced(client: Any, asked: list[str]) -> dict[str, bytes]:
    """Our announcements that the broker keeps, of those that are asked for, by topic."""
    return {topic: payload for topic, payload in _retained(client, asked).items() if is_ours(payload)}


def _kept(client: Any, asked: list[str]) -> list[str]:
    """The topics on which the broker keeps anything, of those that are asked for."""
    kept = _retained(client, asked)
    return [topic for topic in asked if topic in kept]


def _retained(client: Any, asked: list[str]) -> dict[str, bytes]:
    """The messages that the broker keeps on these topics."""
    found: dict[str, bytes] = {}
    heard = [time.monotonic()]

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        if message.retain:  # else a program that runs has just said it
            heard.append(time.monotonic())
            found[message.topic] = message.payload

    client.on_message = on_message
    waiting: set[int] = set()
    client.on_subscribe = lambda client, userdata, number, *_: waiting.discard(number)
    waiting |= {client.subscribe([(topic, 1) for topic in topics])[1] for topics in _by(AT_ONCE, asked)}
    end = heard[0] + PATIENCE
    while time.monotonic() < (end if waiting else min(heard[-1] + QUIET_FOR, end)):
        if client.loop(timeout=0.1):
            raise ClearError("the broker closed the connection; is another program using the same clientid?")
    return found


def _by(count: int, topics: list[str]) -> Iterable[list[str]]:
    """The topics, so many at a time."""
    return (topics[begin : begin + count] for begin in range(0, len(topics), count))


def _publish(client: Any, topic: str) -> None:
    info = client.publish(topic, b"", qos=1, retain=True)
    end = time.monotonic() + PATIENCE
    failed = info.rc != 0
    while not failed and not info.is_published():
        failed = client.loop(timeout=0.1) != 0 or time.monotonic() > end
    if failed:
        raise ClearError(f"the broker did not take the removal of {topic}")
