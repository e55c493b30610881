"""The configuration file: one row an option; from the rows the parsing, the defaults, the documents.

INI, read as configparser has it: keys of any case, `#` comments on lines of their own, no interpolation.
"""

import configparser
import logging
import os
import stat
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from ..errors import ConfigError
from ..protocol.texts import LANGUAGES

PATH = "/etc/goodwe.conf"


class Secret(str):
    """A text that shows itself only to who asks for it by name."""

    __slots__ = ()

    def __new__(cls, text: str = "") -> "Secret":
        return super().__new__(cls, str.__str__(text))

    def __repr__(self) -> str:
        return "'***'" if self else "''"

    def __str__(self) -> str:
        return "***" if self else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


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


# --- how a text becomes a value; a ValueError says what would be right


def text(raw: str) -> str:
    """Any text."""
    return raw


def full_path(raw: str) -> str:
    """A file, from here on with its full path: the daemon works in /."""
    return os.path.abspath(raw) if raw else raw


def level(raw: str) -> int:
    """A Python logging level by name."""
    found = logging.getLevelNamesMapping().get(raw.upper())
    if not found:
        raise ValueError("one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
    return found


def _number(raw: str) -> int:
    """A whole number; -1 for what is none. Not int(): that also takes 1_000 and digits of other scripts."""
    return int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 20 else -1


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number in a range."""

    def parse(raw: str) -> int:
        if lowest <= _number(raw) <= highest:
            return _number(raw)
        raise ValueError(f"a whole number from {lowest} to {highest}")

    return parse


def poll_interval(raw: str) -> int:
    """Milliseconds. After ten minutes without a query the inverter forgets its address (PROTOCOL 4)."""
    if _number(raw) >= 500:
        return min(_number(raw), 300_000)
    raise ValueError("a whole number, at least 500")


def usb_id(raw: str) -> int:
    """A USB number in hex, of any case, with or without 0x."""
    digits = raw.lower().removeprefix("0x")
    if 1 <= len(digits) <= 4 and all(digit in "0123456789abcdef" for digit in digits):
        return int(digits, 16)
    raise ValueError("up to four hexadecimal digits, such as 0084")


def switch(raw: str) -> bool:
    """on or off, in the words that configparser knows."""
    found = configparser.ConfigParser.BOOLEAN_STATES.get(raw.lower())
    if found is None:
        raise ValueError("on or off")
    return found


def servers(raw: str) -> tuple[str, ...]:
    """Host names or addresses, separated by commas."""
    hosts = tuple(host.strip() for host in raw.split(","))
    odd = any(character.isspace() or character == "/" for host in hosts for character in host)
    with_port = any(host.count(":") == 1 for host in hosts)  # an IPv6 address has more
    if not all(hosts) or odd or with_port:
        raise ValueError("a host name or address, or several separated by commas (the port has its own key)")
    return hosts


def topic(raw: str) -> str:
    """A topic to publish below."""
    if not raw or any(character in "+#" or not character.isprintable() for character in raw):
        raise ValueError("a topic without + and #")
    return raw


def is_below(topic: str, root: str) -> bool:
    """Whether a topic is `root` or below it."""
    return f"{topic}/".startswith(f"{root}/")


def device(raw: str) -> str:
    """Nothing, a node, or a stand-in's socket."""
    if raw and not raw.startswith("/") and (not raw.startswith("unix:") or raw == "unix:"):
        raise ValueError("/dev/hidrawN, unix:/path of a stand-in, or nothing to find the inverter")
    return "unix:" + full_path(raw[5:]) if raw.startswith("unix:") else raw


def one_of(*words: str) -> Callable[[str], str]:
    """One of some words, of any case."""

    def parse(raw: str) -> str:
        if raw.lower() in words:
            return raw.lower()
        raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")

    return parse


def log_file(raw: str) -> str:
    """Where to log."""
    if not raw:
        raise ValueError("the path of a file to log to")
    return full_path(raw)


def existing_file(raw: str) -> str:
    """A file that can be read."""
    if raw and not (os.path.isfile(raw) and os.access(raw, os.R_OK)):
        raise ValueError("the path of a file that can be read")
    return full_path(raw)


def password_file(raw: str) -> str:
    """A file, or the name of a credential that systemd gives to its unit."""
    if not raw or "/" in raw:
        return full_path(raw)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise ValueError("the path of a file, or in a unit of systemd the name of a credential")
    return os.path.join(folder, raw)


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
        full_path,
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
    Option("mqtt", "clientid", "goodwe-usb", text, "Name of our connection; no two programs may share it."),
    Option("mqtt", "username", "", text, "Login at the broker; empty for none."),
    Option("mqtt", "password", "", Secret, "Password of the login; taken as it stands, # and % included."),
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
    Option("mqtt", "websocketpath", "/mqtt", text, "Path of the broker's websockets."),
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
        full_path,
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

LEFT_OVER = {("inverter", "dev"), ("inverter", "debug")}
"""Keys of the oldest versions: accepted, without effect."""

SECTIONS = {"inverter": InverterSettings, "mqtt": MqttSettings, "homeassistant": HomeAssistantSettings}


def load(path: str, *, required: bool) -> tuple[Config, list[str]]:
    """The settings in the file at `path`, and warnings about it.

    A missing file means all defaults unless it is `required`. Raises ConfigError.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = file.read()
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file; leave --config out to run with the defaults") from None
        return parse("", path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    config, warnings = parse(content, path)
    if config.mqtt.password and not config.mqtt.passwordfile and mode & stat.S_IROTH:
        warnings.append(f"{path} has a password in it and can be read by everybody; chmod 640 it")
    return config, warnings


def parse(content: str, path: str) -> tuple[Config, list[str]]:
    """The settings in the text of a file, and warnings about it. Raises ConfigError."""
    # No default section: one named [DEFAULT] would silently give its keys to the others.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(content, path)
    except configparser.Error as error:
        raise ConfigError(_malformed(error, path)) from error
    given = [(section, key) for section in parser.sections() for key in _keys(parser, section)]
    warnings = [_known(content, path, section, key) for section, key in given]
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        raw = parser.get(option.section, option.key, fallback=option.default) or ""
        try:
            if "\0" in raw and option.parse is not Secret:
                raise ValueError("text, not bytes of value 0")
            if "\n" in raw:
                raise ValueError("on one line; is the next line indented by mistake?")
            values[option.section][option.key.lower()] = option.parse(raw)
        except ValueError as error:
            shown = "" if option.parse is Secret else " = " + raw.partition("\n")[0]
            comment = "; a comment needs a line of its own" if " #" in shown or " ;" in shown else ""
            _refuse(
                content, path, option.section, option.key, f"{option.key}{shown}: must be {error}{comment}"
            )
    config = Config(*(kind(**values[section]) for section, kind in SECTIONS.items()))
    _check_together(config, content, path)
    config, about_file = _with_password(config, content, path)
    config, about_prefix = _with_prefix_apart(config, path)
    about_password = _password_warning(config, path)
    return config, [text for text in (*warnings, about_file, about_password, about_prefix) if text]


def _password_warning(config: Config, path: str) -> str:
    """What is probably not meant so; it may be, and the older program took it as well."""
    password, file = config.mqtt.password, config.mqtt.passwordfile
    if file and not password:
        return f"{path}: the password is empty: there is nothing in {file}"
    if password and not config.mqtt.username:
        return f"{path}: a password is set, but username is not, so it is not used; add username"
    in_quotes = len(password) > 1 and password[0] == password[-1] and password[0] in "\"'"
    if not file and (in_quotes or " #" in password or " ;" in password):
        return f"{path}: quotes around a password, or a comment behind it, are taken as a part of it"
    return ""


def _with_password(config: Config, content: str, path: str) -> tuple[Config, str]:
    """The password out of its file, and a warning if others may read that one."""
    file = config.mqtt.passwordfile
    if not file:
        return config, ""
    try:
        with open(file, encoding="utf-8") as opened:
            password = Secret(opened.read().rstrip("\r\n"))
            mode = os.fstat(opened.fileno()).st_mode
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        text = f"passwordfile = {file}: must be a file that can be read ({why})"
        _refuse(content, path, "mqtt", "passwordfile", text)
    warning = f"{file} can be read by everybody; chmod 600 it" if mode & stat.S_IROTH else ""
    return config._replace(mqtt=config.mqtt._replace(password=password)), warning


def _with_prefix_apart(config: Config, path: str) -> tuple[Config, str]:
    """Without discovery if that would stand among the values, whose readers take everything for one."""
    home, topic = config.homeassistant, config.mqtt.topic
    if not home.discovery or not is_below(home.prefix, topic):
        return config, ""
    warning = (
        f"{path}: no discovery, since prefix = {home.prefix} is below topic = {topic}; change one of them"
    )
    return config._replace(homeassistant=home._replace(discovery=False)), warning


def _malformed(error: configparser.Error, path: str) -> str:
    """What is wrong with the form of the file; never the line itself, which may hold a password."""
    match error:
        case configparser.MissingSectionHeaderError(lineno=line):
            return f"{path}:{line}: stands before the first section; begin with [inverter] or [mqtt]"
        case configparser.DuplicateSectionError(lineno=line, section=section):
            return f"{path}:{line}: section [{section}] is there twice; join the two"
        case configparser.DuplicateOptionError(lineno=line, option=key):
            return f"{path}:{line}: {key} is there twice; delete one"
        case configparser.ParsingError(errors=[(line, _), *_]):
            return f"{path}:{line}: neither [section] nor key = value"
    return f"{path}: {type(error).__name__}"


def _keys(parser: configparser.ConfigParser, section: str) -> Iterable[str]:
    # A section that nobody knows is refused even when empty.
    return [*parser.options(section)] or [""]


def _known(content: str, path: str, section: str, key: str) -> str:
    """A warning about a key that has no effect, or nothing. Raises ConfigError for an unknown one."""
    if section not in SECTIONS:
        known = nearest(section, SECTIONS)
        _refuse(content, path, section, "", f"unknown section [{section}]; {known}")
    keys = [option.key for option in OPTIONS if option.section == section]
    if not key or key in (known.lower() for known in keys):
        return ""
    if (section, key) not in LEFT_OVER:
        _refuse(content, path, section, key, f"unknown key {key} in [{section}]; {nearest(key, keys)}")
    return f"{path}: {key} in [{section}] is of an old version and has no effect; it can be deleted"


def nearest(name: str, known: Iterable[str]) -> str:
    """Words for who wrote `name`: the known one that is meant, or all that are known."""
    import difflib  # here, since only a mistake needs it

    names = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return f"is {names[near[0]]} meant?" if near else f"known are {', '.join(names.values())}"


def _check_together(config: Config, content: str, path: str) -> None:
    """What single keys cannot show."""
    mqtt = config.mqtt
    if bool(mqtt.certfile) != bool(mqtt.keyfile):
        given, missing = ("certfile", "keyfile") if mqtt.certfile else ("keyfile", "certfile")
        _refuse(content, path, "mqtt", given, f"{given} is set; {missing} must be set too")
    files = [key for key in ("cafile", "certfile") if getattr(mqtt, key)]
    if files and not mqtt.tls:
        _refuse(content, path, "mqtt", files[0], f"{files[0]} is set, but TLS is off; add tls = on")
    if mqtt.password and mqtt.passwordfile:
        _refuse(content, path, "mqtt", "passwordfile", "passwordfile is set, and so is password; delete one")
    if mqtt.control and not mqtt.commands:
        _refuse(content, path, "mqtt", "control", "control is on, but commands are off; add commands = on")
    if mqtt.commands and is_below(mqtt.commandtopic, mqtt.topic):
        below = (
            f"commandtopic = {mqtt.commandtopic}: must not be below topic = {mqtt.topic}, whose readers take"
        )
        _refuse(content, path, "mqtt", "commandtopic", f"{below} everything for values")


def _refuse(content: str, path: str, section: str, key: str, message: str) -> NoReturn:
    line = _line_of(content, section, key)
    raise ConfigError(f"{path}:{line}: {message}" if line else f"{path}: {message}")


def _line_of(content: str, section: str, key: str) -> int:
    """Number of the line that sets the key (of the section's heading without one); 0 if none does."""
    current = ""
    for number, line in enumerate(content.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            current = stripped[1:-1]
            if current == section and not key:
                return number
        elif current == section and key and _key_of(stripped) == key.lower():
            return number
    return 0


def _key_of(line: str) -> str:
    return line.replace(":", "=").partition("=")[0].strip().lower()


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
    if option.parse is Secret:
        return "***" if value else ""
    if option.parse is level:
        return str(logging.getLevelName(value))
    if option.parse is usb_id:
        return f"{value:04x}"
    if option.parse is switch:
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
