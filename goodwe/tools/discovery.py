"""`discovery clear`: take back what Home Assistant was told, for inverters that are out of service."""

import argparse
import sys
import time
from typing import Any, TextIO

from ..config import Config
from ..errors import GoodWeError
from ..outputs.mqtt.advice import REFUSALS, reason_of
from ..outputs.mqtt.client import new_client
from ..outputs.mqtt.homeassistant import discovery_topic, is_ours
from ..outputs.mqtt.tls import tls_for
from ..readings import state

QUIET_FOR = 1.0
"""Seconds without a message after which a broker has given all that it keeps."""
PATIENCE = 10.0
STAYS = (
    "A program that runs announces its inverters again when it, the broker or Home Assistant restarts;"
    " discovery = off ends that."
)


class ClearError(GoodWeError):
    """It cannot be done; the text says what to do."""


def main(arguments: list[str], settings: Config, *, out: TextIO = sys.stdout) -> int:
    """Remove the announcements of the serials given, or of all inverters. Raises ClearError, StartError."""
    options = parse(arguments)
    prefix = settings.homeassistant.prefix
    # Some brokers give what they keep only to who asks by the exact topic.
    known = options.serial or state.load(settings.inverter.statefile)
    asked = [discovery_topic(prefix, serial) for serial in known]
    if not options.serial:
        asked.append(f"{prefix}/device/+/config")
    client = _connected(settings)
    topics = sorted(_announced(client, asked))
    for topic in topics:
        _publish(client, topic)
        print(f"cleared {topic}", file=out)
    client.disconnect()
    if not topics:
        print(f"nothing of this program is announced on {', '.join(asked)}", file=out)
    elif settings.homeassistant.discovery:
        print(STAYS, file=out)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program with usage and exit code 2."""
    parser = argparse.ArgumentParser(prog="GoodWe.py discovery", description=__doc__)
    parser.add_argument("clear", choices=["clear"])
    parser.add_argument("serial", nargs="*", metavar="SERIAL", help="inverters; none: all that are announced")
    return parser.parse_args(arguments)


def _connected(settings: Config) -> Any:
    """A client with a connection to the first server that takes it."""
    mqtt = settings.mqtt
    tls = tls_for(mqtt)
    troubles = []
    for host in mqtt.server:
        client = new_client(mqtt, f"{mqtt.clientid}-discovery", tls)
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


def _announced(client: Any, asked: list[str]) -> set[str]:
    """Topics of our announcements that the broker keeps, of those that are asked for."""
    found: set[str] = set()
    heard = [time.monotonic()]

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        heard.append(time.monotonic())
        if is_ours(message.payload):
            found.add(message.topic)

    client.on_message = on_message
    client.subscribe([(topic, 1) for topic in asked])
    end = heard[0] + PATIENCE
    while time.monotonic() < min(heard[-1] + QUIET_FOR, end):
        if client.loop(timeout=0.1):
            raise ClearError("the broker closed the connection; is another program using the same clientid?")
    return found


def _publish(client: Any, topic: str) -> None:
    info = client.publish(topic, b"", qos=1, retain=True)
    end = time.monotonic() + PATIENCE
    failed = info.rc != 0
    while not failed and not info.is_published():
        failed = client.loop(timeout=0.1) != 0 or time.monotonic() > end
    if failed:
        raise ClearError(f"the broker did not take the removal of {topic}")
