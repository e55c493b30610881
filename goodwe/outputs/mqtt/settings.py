"""Sections [mqtt] and [homeassistant] of the configuration."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config import parsers
from ...config.options import Complaint, OutputSection, Section, option
from ...config.parsers import Secret, has_empty_level, is_below, one_of, switch, whole
from ...config.source import quoted
from ...protocol.texts import LANGUAGES

if TYPE_CHECKING:
    from ...config import Config


LONGEST_DATABASE = 500
"""Bytes of a path that SQLite takes, with some to spare."""


@dataclass(frozen=True, kw_only=True)
class MqttSettings(OutputSection):
    """Section [mqtt]."""

    NAME = "mqtt"

    server: tuple[str, ...] = option(
        "localhost",
        parsers.servers,
        "Broker's host; several with the same port, separated by commas, are tried in turn.",
        no_switch="enabled = off switches MQTT off",
    )
    port: int = option("1883", whole(1, 65535), "Broker's port; with TLS mostly 8883.")
    topic: str = option(
        "goodwe",
        parsers.topic,
        "Topics begin with this; it may have several levels.",
        no_switch="leave it out for the usual one",
    )
    clientid: str = option(
        "goodwe-usb",
        parsers.client_id,
        "Name of our connection; no two programs may share it.",
        no_switch="leave it out for the usual one",
    )
    username: str = option(
        "", parsers.text, "Login at the broker; empty for none.", no_switch="leave it empty for no login"
    )
    password: Secret = option(  # noqa: RUF009 (it makes a field)
        "", parsers.password, "Password of the login; taken as it stands, # and % included.", secret=True
    )
    qos: int = option("0", whole(0, 2), "MQTT quality of service of data, 0 to 2.")
    retain: bool = option("off", switch, "Whether the broker keeps the last data for later subscribers.")
    language: str = option(
        "en",
        one_of(*LANGUAGES),
        "Language of workModeText and errorText in data: en, nl, de, fr, es or pt.",
    )
    keepalive: int = option(
        "60",
        whole(5, 65535),
        "Seconds; a dead connection is noticed within one and a half times as many.",
    )
    tls: bool = option("off", switch, "Encrypt and verify the connection, TLS 1.2 or newer.")
    cafile: str = option("", parsers.existing_file, "Certificates to trust, PEM; empty for the system's.")
    certfile: str = option("", parsers.existing_file, "Our own certificate, PEM, if the broker asks for one.")
    keyfile: str = option("", parsers.existing_file, "The key to certfile, PEM.")
    passwordfile: str = option(
        "",
        parsers.password_file,
        "File with the password, in place of password; a name without / is a credential of systemd.",
    )
    protocol: str = option("3.1.1", one_of("3.1.1", "5"), "Version of MQTT: 3.1.1 or 5.")
    transport: str = option(
        "tcp", one_of("tcp", "websockets"), "tcp, or websockets where only those get through."
    )
    websocketpath: str = option("/mqtt", parsers.web_path, "Path of the broker's websockets.")
    values: bool = option(
        "off",
        switch,
        "Publish each value on a topic of its own, too: <topic>/<serial>/<key>, a plain number, when it"
        " changes.",
    )
    valuesqos: int = option("0", whole(0, 2), "MQTT quality of service of these.")
    valuesretain: bool = option("off", switch, "Whether the broker keeps these for later subscribers.")
    valuesheartbeat: int = option(
        "300", whole(1, 86400), "Seconds after which a value that does not change is published again."
    )
    sum: bool = option(
        "off",
        switch,
        "Publish power and energy of all inverters together on <topic>/sum/data; marked invalid while one"
        " of them is away.",
    )
    alarms: bool = option(
        "off",
        switch,
        "Publish on <topic>/<serial>/alarms, out of the history, faults with their times, and a day on which"
        " too little is made; Home Assistant is told of them.",
    )
    backlog: str = option(
        "",
        parsers.own_file("/var/lib/goodwe/backlog.db", longest=LONGEST_DATABASE),
        "File for readings that no broker took, sent later on <topic>/<serial>/backlog;"
        " /var/lib/goodwe/backlog.db is a good place. Empty for none.",
    )
    backlogsize: int = option("100", whole(1, 100_000), "Megabytes it may have; the oldest go first.")
    backlogdays: int = option("30", whole(1, 3650), "Days after which a reading in it is dropped.")
    backlograte: int = option("20", whole(1, 1000), "Readings of it that are sent in a second.")
    commands: bool = option(
        "off",
        switch,
        "Obey what is published on <commandtopic>/<serial>/<command>: poll, register, discovery, loglevel.",
    )
    commandtopic: str = option(
        "goodwe-command",
        parsers.topic,
        "Topic of the commands, not below topic.",
        no_switch="commands is the switch, leave this out for the usual one",
    )
    control: bool = option(
        "off",
        switch,
        "With commands also limit (0 to 100 per cent of the power), start and stop. Not every inverter knows"
        " them.",
    )

    def check(self, config: "Config") -> Iterator[Complaint]:
        if self.control and not self.commands:
            yield Complaint("control", "control is on, but commands are off; add commands = on")
        if self.enabled and self.alarms and not _has_history(config):
            yield Complaint("alarms", "alarms come out of the history; add a section [history]")
        yield from _slashes("topic", self.topic)
        if self.topic.startswith("$"):
            why = f"topic = {quoted(self.topic)}: what begins with $ is the broker's own, and not for others"
            yield Complaint("topic", why, is_warning=True)
        if self.commands:
            yield from _slashes("commandtopic", self.commandtopic)
            if is_below(self.commandtopic, self.topic):
                why = f"must not be below topic = {quoted(self.topic)}"
                yield Complaint(
                    "commandtopic", f"{why}, whose readers take everything for values", with_value=True
                )


@dataclass(frozen=True, kw_only=True)
class HomeAssistantSettings(Section):
    """Section [homeassistant]."""

    NAME = "homeassistant"

    discovery: bool = option(
        "on",
        switch,
        "Tell Home Assistant (Domoticz, openHAB) about the inverters, on retained topics below prefix.",
    )
    prefix: str = option(
        "homeassistant",
        parsers.announcement_topic,
        "Where it listens for that.",
        no_switch="discovery is the switch, leave this out for the usual one",
    )

    def check(self, config: "Config") -> Iterator[Complaint]:
        if not self.discovery:
            return
        yield from _slashes("prefix", self.prefix)
        root = config.mqtt.topic
        if is_below(self.prefix, root):  # whose readers take everything for values
            both = f"prefix = {quoted(self.prefix)} is below topic = {quoted(root)}"
            why = f"no discovery, since {both}; change one of them"
            yield Complaint("prefix", why, is_warning=True, instead={"discovery": False})


def _has_history(config: "Config") -> bool:
    return bool(getattr(config.sections.get("history"), "enabled", False))


def _slashes(key: str, topic: str) -> Iterator[Complaint]:
    """Slashes too many in a topic. The older program took them, so its topics stay what they were."""
    if has_empty_level(topic):
        better = "/".join(level for level in topic.split("/") if level) or "goodwe"
        why = f"{key} = {quoted(topic)} has a / too many, which makes a level without a name"
        yield Complaint(key, f"{why}; {key} = {quoted(better)} is probably meant", is_warning=True)
