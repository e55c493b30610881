"""The configuration file: one row an option; from the rows the parsing, the defaults, the documents.

INI, read as configparser has it: keys of any case, `#` comments on lines of their own, no interpolation.
"""

import configparser
import logging
import stat
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..protocol.texts import LANGUAGES
from .file import Source, quoted, quoted_name, read
from .parsers import (
    COMMENT,
    FILE_NAME,
    QUOTES,
    OutOfReach,
    Secret,
    client_id,
    device,
    existing_file,
    has_empty_level,
    is_below,
    level,
    log_file,
    make_log_folder,
    one_of,
    own_file,
    password,
    password_file,
    poll_interval,
    read_password,
    servers,
    switch,
    text,
    topic,
    usb_id,
    web_path,
    whole,
)

__all__ = [
    "OPTIONS",
    "PATH",
    "Config",
    "HomeAssistantSettings",
    "InverterSettings",
    "MqttSettings",
    "Secret",
    "is_below",
    "load",
    "make_log_folder",
    "nearest",
    "parse",
    "sample",
    "shown",
    "table",
]

PATH = "/etc/goodwe.conf"


class InverterSettings(NamedTuple):
    """Section [inverter]."""

    loglevel: int
    pollinterval: int
    """Milliseconds between two running-info queries."""
    vendorid: int
    modelid: int
    logfile: str
    device: str
    plausibility: bool
    offlinevalues: str
    statefile: str
    identity: bool
    usbreset: bool


class MqttSettings(NamedTuple):
    """Section [mqtt]."""

    server: tuple[str, ...]
    port: int
    topic: str
    clientid: str
    username: str
    password: Secret
    qos: int
    retain: bool
    language: str
    keepalive: int
    """Seconds."""
    tls: bool
    cafile: str
    certfile: str
    keyfile: str
    passwordfile: str
    protocol: str
    transport: str
    websocketpath: str
    values: bool
    valuesqos: int
    valuesretain: bool
    valuesheartbeat: int
    """Seconds."""
    sum: bool
    backlog: str
    backlogsize: int
    """Megabytes."""
    backlogdays: int
    backlograte: int
    """Messages a second."""
    commands: bool
    commandtopic: str
    control: bool


class HomeAssistantSettings(NamedTuple):
    """Section [homeassistant]."""

    discovery: bool
    prefix: str


class Config(NamedTuple):
    """The whole file."""

    inverter: InverterSettings
    mqtt: MqttSettings
    homeassistant: HomeAssistantSettings


class Option(NamedTuple):
    """One key of the file."""

    section: str
    key: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


OPTIONS = (
    Option(
        "inverter",
        "loglevel",
        "INFO",
        level,
        "How much is logged: DEBUG (each frame and report), INFO, WARNING, ERROR.",
    ),
    Option(
        "inverter",
        "pollinterval",
        "2500",
        poll_interval,
        "Milliseconds between two readings, at least 500; more than 300000 counts as that.",
    ),
    Option("inverter", "vendorId", "0084", usb_id, "USB vendor number of the inverter, hexadecimal."),
    Option("inverter", "modelId", "0041", usb_id, "USB product number of the inverter, hexadecimal."),
    Option(
        "inverter",
        "logfile",
        "/var/log/goodwe.log",
        log_file,
        "Where the daemon logs; in the foreground it is the terminal.",
    ),
    Option(
        "inverter",
        "device",
        "",
        device,
        "Empty: every inverter that is plugged in. /dev/hidrawN: only that node."
        " unix:/path: a simulated inverter's socket.",
    ),
    Option(
        "inverter",
        "plausibility",
        "on",
        switch,
        "on: publish only readings that can be true, and eDay 0 from midnight until the new day has begun."
        " off: whatever the inverter says, as the older program did.",
    ),
    Option(
        "inverter",
        "offlinevalues",
        "zero",
        one_of("zero", "keep"),
        "zero: when the inverter goes away, and every 5 minutes while it is, data with power, voltages,"
        " currents and frequencies 0, the totals as they stand, eDay 0 from midnight. keep: nothing.",
    ),
    Option(
        "inverter",
        "statefile",
        "/var/lib/goodwe/state.json",
        own_file("/var/lib/goodwe/state.json"),
        "Where the totals are kept over a restart; empty to forget them.",
    ),
    Option(
        "inverter",
        "identity",
        "on",
        switch,
        "Ask each inverter once for its model, firmware and grid limits, in a pause between two readings"
        " (with a pollinterval below 1000 there is none).",
    ),
    Option(
        "inverter",
        "usbreset",
        "off",
        switch,
        "Reset the USB port of an inverter that does not answer for long. Needs root, or a line of"
        " etc/99-goodwe.rules and one of etc/goodwe.service.",
    ),
    Option(
        "mqtt",
        "server",
        "localhost",
        servers,
        "Broker's host; several with the same port, separated by commas, are tried in turn.",
    ),
    Option("mqtt", "port", "1883", whole(1, 65535), "Broker's port; with TLS mostly 8883."),
    Option("mqtt", "topic", "goodwe", topic, "Topics begin with this; it may have several levels."),
    Option(
        "mqtt",
        "clientid",
        "goodwe-usb",
        client_id,
        "Name of our connection; no two programs may share it.",
    ),
    Option("mqtt", "username", "", text, "Login at the broker; empty for none."),
    Option("mqtt", "password", "", password, "Password of the login; taken as it stands, # and % included."),
    Option("mqtt", "qos", "0", whole(0, 2), "MQTT quality of service of data, 0 to 2."),
    Option("mqtt", "retain", "off", switch, "Whether the broker keeps the last data for later subscribers."),
    Option(
        "mqtt",
        "language",
        "en",
        one_of(*LANGUAGES),
        "Language of workModeText and errorText in data: en, nl, de, fr, es or pt.",
    ),
    Option(
        "mqtt",
        "keepalive",
        "60",
        whole(5, 65535),
        "Seconds; a dead connection is noticed within one and a half times as many.",
    ),
    Option("mqtt", "tls", "off", switch, "Encrypt and verify the connection, TLS 1.2 or newer."),
    Option("mqtt", "cafile", "", existing_file, "Certificates to trust, PEM; empty for the system's."),
    Option("mqtt", "certfile", "", existing_file, "Our own certificate, PEM, if the broker asks for one."),
    Option("mqtt", "keyfile", "", existing_file, "The key to certfile, PEM."),
    Option(
        "mqtt",
        "passwordfile",
        "",
        password_file,
        "File with the password, in place of password; a name without / is a credential of systemd.",
    ),
    Option("mqtt", "protocol", "3.1.1", one_of("3.1.1", "5"), "Version of MQTT: 3.1.1 or 5."),
    Option(
        "mqtt",
        "transport",
        "tcp",
        one_of("tcp", "websockets"),
        "tcp, or websockets where only those get through.",
    ),
    Option("mqtt", "websocketpath", "/mqtt", web_path, "Path of the broker's websockets."),
    Option(
        "mqtt",
        "values",
        "off",
        switch,
        "Publish each value on a topic of its own, too: <topic>/<serial>/<key>, a plain number, when it"
        " changes.",
    ),
    Option("mqtt", "valuesqos", "0", whole(0, 2), "MQTT quality of service of these."),
    Option("mqtt", "valuesretain", "off", switch, "Whether the broker keeps these for later subscribers."),
    Option(
        "mqtt",
        "valuesheartbeat",
        "300",
        whole(1, 86400),
        "Seconds after which a value that does not change is published again.",
    ),
    Option(
        "mqtt",
        "sum",
        "off",
        switch,
        "Publish power and energy of all inverters together on <topic>/sum/data; marked invalid while one"
        " of them is away.",
    ),
    Option(
        "mqtt",
        "backlog",
        "",
        own_file("/var/lib/goodwe/backlog.db"),
        "File for readings that no broker took, sent later on <topic>/<serial>/backlog;"
        " /var/lib/goodwe/backlog.db is a good place. Empty for none.",
    ),
    Option("mqtt", "backlogsize", "100", whole(1, 100_000), "Megabytes it may have; the oldest go first."),
    Option("mqtt", "backlogdays", "30", whole(1, 3650), "Days after which a reading in it is dropped."),
    Option("mqtt", "backlograte", "20", whole(1, 1000), "Readings of it that are sent in a second."),
    Option(
        "mqtt",
        "commands",
        "off",
        switch,
        "Obey what is published on <commandtopic>/<serial>/<command>: poll, register, discovery, loglevel.",
    ),
    Option("mqtt", "commandtopic", "goodwe-command", topic, "Topic of the commands, not below topic."),
    Option(
        "mqtt",
        "control",
        "off",
        switch,
        "With commands also limit (0 to 100 per cent of the power), start and stop. Not every inverter knows"
        " them.",
    ),
    Option(
        "homeassistant",
        "discovery",
        "on",
        switch,
        "Tell Home Assistant (Domoticz, openHAB) about the inverters, on retained topics below prefix.",
    ),
    Option("homeassistant", "prefix", "homeassistant", topic, "Where it listens for that."),
)

DOMOTICZ = "domoticz"
LEFT_OVER = {("inverter", "dev"), ("inverter", "debug")}
"""Keys of the oldest versions: accepted, without effect."""

PATHS = (device, existing_file, log_file, password_file)

SECTIONS = {"inverter": InverterSettings, "mqtt": MqttSettings, "homeassistant": HomeAssistantSettings}


def load(path: str, *, required: bool, to_run: bool = True) -> tuple[Config, list[str]]:
    """The settings in the file at `path`, and warnings about it.

    A missing file means all defaults unless it is `required`. Without `to_run` nothing is to be started:
    a password that only the daemon can get at is a warning then. Raises ConfigError.
    """
    try:
        content, mode = read(path)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file; leave --config out to run with the defaults") from None
        return parse("", path, to_run=to_run)
    config, warnings = parse(content, path, to_run=to_run)
    if config.mqtt.password and not config.mqtt.passwordfile and mode & stat.S_IROTH:
        warnings.append(f"{path} has a password in it and can be read by everybody; chmod 640 it")
    return config, warnings


def parse(content: str, path: str, *, to_run: bool = True) -> tuple[Config, list[str]]:
    """The settings in the text of a file, and warnings about it, as `load` gives them. Raises ConfigError."""
    source = Source(content, path, (option.key.lower() for option in OPTIONS))
    parser = source.parsed()
    given = [(section, key) for section in parser.sections() for key in _keys(parser, section)]
    warnings = [_known(source, section, key) for section, key in given]
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        raw = parser.get(option.section, option.key, fallback=option.default) or ""
        try:
            if "\0" in raw and option.parse is not password:
                raise ValueError("text, not bytes of value 0")
            if "\n" in raw:
                raise ValueError("on one line; is the next line indented by mistake?")
            values[option.section][option.key.lower()] = option.parse(raw)
            if option.parse is not password:
                _stands_alone(raw)
        except ValueError as error:
            is_secret = option.parse is password
            hint = "" if is_secret else _hint(raw.partition("\n")[0])
            source.refuse(
                option.section, option.key, f"{option.key}{_quoted(option.parse, raw)}: must be {error}{hint}"
            )
    config = Config(*(kind(**values[section]) for section, kind in SECTIONS.items()))
    _check_together(config, source)
    config, about_file = _with_password(
        config, source, given=parser.get("mqtt", "passwordfile", fallback=""), to_run=to_run
    )
    config, about_prefix = _with_prefix_apart(config, path)
    about_password = _password_warning(config, path)
    about = (*warnings, about_file, about_password, about_prefix, *_topic_warnings(config, path))
    return config, [text for text in about if text]


def _quoted(parse: Callable[[str], Any], raw: str) -> str:
    """What stands behind the key, as far as a message may show it."""
    if parse is password:
        return ""
    if parse is password_file and not FILE_NAME.fullmatch(raw):
        return ""  # somebody may have put the password itself there
    return " = " + quoted(raw, is_path=parse in PATHS)


def _stands_alone(raw: str) -> None:
    """A comment or quotes would be a part of the file's name, of the client id, of the login."""
    if COMMENT.search(raw):
        raise ValueError("alone on its line")
    if len(raw) > 1 and raw[0] in QUOTES and raw[-1] in QUOTES:
        raise ValueError("the bare text")


def _hint(raw: str) -> str:
    """A likely reason why a value is none."""
    if COMMENT.search(raw):
        return "; a comment needs a line of its own"
    if raw and (raw[0] in QUOTES or raw[-1] in QUOTES):
        return "; without the quotes"
    return ""


def _topic_warnings(config: Config, path: str) -> Iterable[str]:
    """Slashes too many. The older program took them, so its topics stay what they were."""
    mqtt, home = config.mqtt, config.homeassistant
    topics = [
        ("topic", mqtt.topic, True),
        ("commandtopic", mqtt.commandtopic, mqtt.commands),
        ("prefix", home.prefix, home.discovery),
    ]
    for key, value, is_used in topics:
        if is_used and has_empty_level(value):
            better = "/".join(level for level in value.split("/") if level)
            yield (
                f"{path}: {key} = {quoted(value)} has a / too many, which makes a level without a name;"
                f" {key} = {quoted(better) or 'goodwe'} is probably meant"
            )


def _password_warning(config: Config, path: str) -> str:
    """What is probably not meant so; it may be, and the older program took it as well."""
    password, file = config.mqtt.password, config.mqtt.passwordfile
    if password and not config.mqtt.username:
        return f"{path}: a password is set, but username is not, so it is not used; add username"
    in_quotes = len(password) > 1 and password[0] == password[-1] and password[0] in "\"'"
    if not file and (in_quotes or " #" in password or " ;" in password):
        return f"{path}: quotes around a password, or a comment behind it, are taken as a part of it"
    return ""


def _with_password(config: Config, source: Source, *, given: str, to_run: bool) -> tuple[Config, str]:
    """The password out of its file, and a warning about that file, if there is one to be given."""
    file = config.mqtt.passwordfile
    if not file:
        return config, ""
    shown = "passwordfile" + _quoted(password_file, given)
    try:
        secret, mode = read_password(file)
    except OutOfReach as error:
        if to_run:
            source.refuse("mqtt", "passwordfile", f"{shown}: must be {error}")
        return config, f"{source.path}: {shown}: the password is not known here; to run, it must be {error}"
    except ValueError as error:
        source.refuse("mqtt", "passwordfile", f"{shown}: {error}")
    config = config._replace(mqtt=config.mqtt._replace(password=secret))
    if not secret:
        return config, f"{source.path}: the password is empty: there is nothing in {file}"
    if "\n" in secret:
        return config, f"{source.path}: {file} has several lines; all of them are taken for the password"
    return config, f"{file} can be read by everybody; chmod 600 it" if mode & stat.S_IROTH else ""


def _with_prefix_apart(config: Config, path: str) -> tuple[Config, str]:
    """Without discovery if that would stand among the values, whose readers take everything for one."""
    home, topic = config.homeassistant, config.mqtt.topic
    if not home.discovery or not is_below(home.prefix, topic):
        return config, ""
    warning = (
        f"{path}: no discovery, since prefix = {quoted(home.prefix)} is below topic = {quoted(topic)};"
        " change one of them"
    )
    return config._replace(homeassistant=home._replace(discovery=False)), warning


def _keys(parser: configparser.ConfigParser, section: str) -> Iterable[str]:
    # A section that nobody knows is refused even when empty.
    return [*parser.options(section)] or [""]


def _known(source: Source, section: str, key: str) -> str:
    """A warning about a key that has no effect, or nothing. Raises ConfigError for an unknown one."""
    keys = [option.key for option in OPTIONS if option.section == section]
    if section in SECTIONS and (not key or key in (known.lower() for known in keys)):
        return ""
    if section.lower().startswith(DOMOTICZ) or key.startswith(DOMOTICZ):
        source.refuse(section, key if section in SECTIONS else "", _of_the_fork(section, key))
    if section not in SECTIONS:
        shown = f" [{quoted_name(section)}]" if quoted_name(section) else ""
        source.refuse(section, "", f"unknown section{shown}; {nearest(section, SECTIONS)}")
    if (section, key) not in LEFT_OVER:
        shown = f" {quoted_name(key)}" if quoted_name(key) else ""
        source.refuse(section, key, f"unknown key{shown} in [{section}]; {nearest(key, keys)}")
    return f"{source.path}: {key} in [{section}] is of an old version and has no effect; it can be deleted"


def _of_the_fork(section: str, key: str) -> str:
    """What to do with settings of a fork that published for Domoticz on a topic of its own."""
    name = f"[{DOMOTICZ}]" if section not in SECTIONS else quoted_name(key) or DOMOTICZ
    instead = "discovery in [homeassistant] takes its place, Domoticz reads that"
    return f"{name} is of another program; delete it: {instead}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Words for who wrote `name`: the known one that is meant, or all that are known."""
    import difflib  # here, since only a mistake needs it

    names = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return f"is {names[near[0]]} meant?" if near else f"known are {', '.join(names.values())}"


def _check_together(config: Config, source: Source) -> None:
    """What single keys cannot show."""
    mqtt = config.mqtt
    if bool(mqtt.certfile) != bool(mqtt.keyfile):
        given, missing = ("certfile", "keyfile") if mqtt.certfile else ("keyfile", "certfile")
        source.refuse("mqtt", given, f"{given} is set; {missing} must be set too")
    files = [key for key in ("cafile", "certfile") if getattr(mqtt, key)]
    if files and not mqtt.tls:
        source.refuse("mqtt", files[0], f"{files[0]} is set, but TLS is off; add tls = on")
    if mqtt.password and mqtt.passwordfile:
        source.refuse("mqtt", "passwordfile", "passwordfile is set, and so is password; delete one")
    if mqtt.control and not mqtt.commands:
        source.refuse("mqtt", "control", "control is on, but commands are off; add commands = on")
    if mqtt.commands and is_below(mqtt.commandtopic, mqtt.topic):
        below = (
            f"commandtopic = {quoted(mqtt.commandtopic)}: must not be below topic = {quoted(mqtt.topic)},"
            " whose readers take"
        )
        source.refuse("mqtt", "commandtopic", f"{below} everything for values")


# --- the documents made of the rows

_ABOUT = """\
# Configuration of GoodWeUSBLogger. Everything is optional; what stands here behind # is the default.
# A comment has its own line; a value is taken as it stands.
"""


def sample() -> str:
    """The commented file etc/goodwe.conf: all defaults."""
    lines = [_ABOUT]
    for section in SECTIONS:
        lines.append(f"[{section}]")
        for option in OPTIONS:
            if option.section == section:
                lines += [f"# {option.meaning}", f"#{option.key} = {option.default}".rstrip(), ""]
    return "\n".join(lines).rstrip() + "\n"


def table() -> str:
    """The table of the README, in Markdown."""
    rows = ["| section | key | default | meaning |", "|---|---|---|---|"]
    rows += [f"| {o.section} | {o.key} | {o.default or '(empty)'} | {o.meaning} |" for o in OPTIONS]
    return "\n".join(rows) + "\n"


def shown(config: Config) -> str:
    """What is in force, one `key = value` a line, without the password."""
    lines = []
    for section, settings in zip(SECTIONS, config, strict=True):
        lines.append(f"[{section}]")
        for option in OPTIONS:
            if option.section == section:
                value = _shown(option, getattr(settings, option.key.lower()))
                lines.append(f"{option.key} = {value}".rstrip())
    return "\n".join(lines) + "\n"


def _shown(option: Option, value: Any) -> str:
    if option.parse is password:
        return "***" if value else ""
    if option.parse is password_file and not _quoted(password_file, value):
        return "***"
    if option.parse is level:
        return str(logging.getLevelName(value))
    if option.parse is usb_id:
        return f"{value:04x}"
    if option.parse is switch:
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
