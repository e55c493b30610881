"""Is the broker there, does it let the program in, and does it take what the program has to say."""

import contextlib
import os
import re
import shlex
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import simplejson

from ...config import Config
from ...errors import StartError
from .checks import Check, Machine, Result, ShellCommand, fail, ok, skip, warn

if TYPE_CHECKING:
    from ...outputs.mqtt.settings import MqttSettings

WITHIN = 4.0
"""Seconds for each step: a name, a connection, an answer."""
NO_ANSWER = "it does not answer"
SILENT_INSIDE = "it lets us in, and does not answer when it is asked what it keeps"
SOON = 21
"""Days before its end in which a certificate is worth a warning."""
DAY = 86_400.0
LOCAL = ("localhost", "127.0.0.1", "::1")
USUAL_PORTS = {False: (1883,), True: (8883, 8884)}
"""Ports at which brokers listen, without TLS and with it."""
LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""
MOSQUITTO_UNITS = ("/lib/systemd/system/mosquitto.service", "/etc/systemd/system/mosquitto.service")
MOSQUITTO_FILES = ("/etc/mosquitto/mosquitto.conf", "/etc/mosquitto/conf.d/*.conf")
LISTENER = re.compile(r"^\s*(?:listener|port)\s+(\d{1,5})\b", re.MULTILINE)
REFUSED_LOGIN = (4, 5, 134, 135)
"""Reasons of a CONNACK."""
PASSWORD_FILE = re.compile(r"^\s*password_file\s+(\S.*?)\s*$", re.MULTILINE)
SMALLEST_PACKET = 16_384
"""Bytes that a broker should take: an announcement has some ten thousand."""


class Login(NamedTuple):
    """The outcome of logging in."""

    host: str
    """The server."""
    reason: int | None
    """Reason code of CONNACK; None without one."""
    trouble: str
    properties: Any
    """Of MQTT 5; None with another version."""
    kept: dict[str, bytes]
    """The retained payloads that we have looked for and found, by topic."""


def name(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None or not settings.mqtt.enabled:
        return skip(_why_not(settings))
    hosts, port = settings.mqtt.server, settings.mqtt.port
    found = _each(hosts, lambda host: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    answers = dict(zip(hosts, found, strict=True))
    silent = [host for host, answer in answers.items() if answer is None]
    unknown = [host for host, answer in answers.items() if isinstance(answer, OSError)]
    if not silent and not unknown:
        return ok(", ".join(hosts))
    look = f"resolvectl query {silent[0]}" if silent else f"getent hosts {unknown[0]}"
    if silent and not unknown:
        told = f"nobody answers what {', '.join(silent)} is"
    else:
        told = f"{', '.join(unknown + silent)}: not known"
    if len(silent) + len(unknown) < len(hosts):
        return warn(told, f"ask for it: {look}; or take it out of server")
    words = f"{look}; or put its address into server"
    here = None
    if _listens_here(machine, port):  # that one is probably meant
        here = machine.setting("mqtt", "server", "localhost", by_hand=words)
    return fail(told, here or f"ask for it: {words}")


def reachable(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None or not settings.mqtt.enabled:
        return skip(_why_not(settings))
    hosts, port = settings.mqtt.server, settings.mqtt.port
    troubles = {}
    unreachable = []
    for host, error in zip(hosts, _each(hosts, partial(_knock, port=port)), strict=True):
        if isinstance(error, ConnectionRefusedError):
            troubles[host] = f"nothing listens at {host}:{port}"
        elif isinstance(error, OSError):
            troubles[host] = f"{host}:{port}: {error.strerror or error}"
            unreachable.append(host)
        elif error is None:
            troubles[host] = f"{host}:{port}: no answer within {WITHIN:.0f} s"
    machine.remembered["closed"] = [*troubles]
    if not troubles:
        return ok(f"port {port} is open")
    host, told = next(iter(troubles)), "; ".join(troubles.values())
    is_down_here = host in LOCAL and host not in unreachable
    remedy = _local_broker(machine, settings) if is_down_here else f"ping {host}; is the broker running?"
    return fail(told, remedy) if len(troubles) == len(hosts) else warn(told, remedy)


def tls(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None or not settings.mqtt.enabled:
        return skip(_why_not(settings))
    mqtt = settings.mqtt
    if not mqtt.tls:
        return skip("TLS is off")
    answers = _each(mqtt.server, partial(_certificate, mqtt))
    for host, certificate in zip(mqtt.server, answers, strict=True):
        if isinstance(certificate, StartError):
            return fail(str(certificate), f"set it right: sudo nano {machine.config_path}")
        if isinstance(certificate, dict):
            return _until(host, str(certificate.get("notAfter", "")))
    from ...outputs.mqtt.advice import reason_of  # here, as below: it takes long to load on a small machine

    trouble = answers[0]
    shows = f"openssl s_client -connect {mqtt.server[0]}:{mqtt.port} -showcerts </dev/null"
    return fail(
        reason_of(trouble) if isinstance(trouble, OSError) else f"it says nothing within {WITHIN:.0f} s",
        f"look at it: {shows}",
    )


def _until(host: str, end: str) -> Result:
    """The certificate of this server is good until `end`, as OpenSSL writes it."""
    days = int((ssl.cert_time_to_seconds(end) - time.time()) // DAY) if end else SOON
    if days >= SOON:
        return ok(f"the certificate of {host} is good until {end}")
    left = "less than a day" if days < 1 else "1 day" if days == 1 else f"{days} days"
    return warn(f"the certificate of {host} ends in {left}, {end}", "renew it at the broker")


def login(machine: Machine) -> Result:
    if machine.settings is None or not machine.settings.mqtt.enabled:
        return skip(_why_not(machine.settings))
    connected = [each for each in _connections(machine) if each.get("connected_seconds") is not None]
    if connected:
        return ok(f"the program is connected to {connected[0]['server']}")
    if machine.password_is_out_of_reach:
        return skip("only the program can read the password")
    answer = _logged_in(machine)
    if answer.reason is None:
        return fail(answer.trouble, "see the checks above")
    if answer.reason:
        from ...outputs.mqtt.advice import REFUSALS

        return fail(
            REFUSALS.get(answer.reason, f"it refuses us, reason {answer.reason}"),
            _let_in(machine, machine.settings, answer.host, answer.reason),
        )
    return ok(f"{answer.host} lets us in")


def takes(machine: Machine) -> Result:
    """A broker's limits, which only MQTT 5 lets it tell; and what it has refused to the running program."""
    refused = sorted({topic for each in _connections(machine) for topic in each.get("refused", [])})
    if refused:
        return fail(
            f"it refuses {', '.join(refused)}", "give this login the right to write there, at the broker"
        )
    left_out = sorted({str(text) for each in _connections(machine) for text in each.get("left_out", [])})
    if left_out:
        return fail(
            f"it does not take {', '.join(left_out)}", "raise the broker's largest packet, and its rights"
        )
    settings = machine.settings
    if settings is None or not settings.mqtt.enabled:
        return skip(_why_not(settings))
    withheld = _withheld(machine, settings)
    if withheld is not None:
        return withheld
    if settings.mqtt.protocol != "5":
        return skip("the broker can say only with protocol = 5 what it allows")
    properties = _properties(machine)
    if properties is None:
        return skip("the broker does not let us look")
    if getattr(properties, "RetainAvailable", 1) == 0:
        return fail("it keeps no retained messages, and online needs that", "allow them at the broker")
    largest = getattr(properties, "MaximumPacketSize", SMALLEST_PACKET)
    if largest < SMALLEST_PACKET:
        return warn(f"it takes packets of {largest} bytes at most", "raise its largest packet to 16 kB")
    return ok("it takes what we have to say")


def _withheld(machine: Machine, settings: Config) -> Result | None:
    """The finding if the broker gives nothing back of what the running program has published retained.

    With MQTT 3.1.1 it drops without a word what it does not allow.
    """
    if machine.password_is_out_of_reach or not _is_connected(machine):
        return None
    inverters = (machine.status or {}).get("inverters", {})
    topics = [_online_topic(settings, serial) for serial, each in sorted(inverters.items()) if each["online"]]
    if not topics or _logged_in(machine).reason != 0:
        return None
    kept = _logged_in(machine).kept
    missing = [topic for topic in topics if topic not in kept]
    if not missing:
        return ok("it takes and keeps what we publish")
    told = f"it does not give back {', '.join(missing)}: it does not let us publish there, or keep, or read"
    remedy = "give this login the right to write and read there, at the broker; retained messages, too"
    return warn(told, remedy) if kept else fail(told, remedy)


def may_publish(machine: Machine) -> Result:
    """Publish an empty message that nobody keeps. For who sets it up: the doctor itself changes nothing.

    It speaks MQTT 5: with 3.1.1 a broker drops without a word what it does not allow.
    """
    from ...outputs.mqtt.advice import why_unpublished
    from ...outputs.mqtt.client import PUBACK, REFUSED_FROM, Said

    settings = machine.settings
    if settings is None or not settings.mqtt.enabled:
        return skip(_why_not(settings))
    if machine.password_is_out_of_reach or _logged_in(machine).reason != 0:
        return skip("the broker does not let us look")
    topic, said = f"{settings.mqtt.topic}/setup/test", list[Said]()
    # It has let us in a moment ago, but with the version of the file.
    with contextlib.suppress(OSError, ValueError, StartError):
        _publish(replace(settings.mqtt, protocol="5"), _logged_in(machine).host, topic, said.append)
    reasons = [each.reasons[0] for each in said if each.packet == PUBACK]
    if not reasons:
        return skip("the broker does not say what it lets us publish")
    if reasons[0] < REFUSED_FROM:
        return ok(f"it lets us publish below {settings.mqtt.topic}")
    why = why_unpublished(reasons[0])
    return fail(
        f"it does not let us publish at {topic} ({why})",
        f"give this login the right to write below {settings.mqtt.topic}, at the broker",
    )


def _publish(mqtt: "MqttSettings", host: str, topic: str, heard: Callable[[Any], None]) -> None:
    """Publish nothing there, and call `heard` with each answer. Raises OSError, ValueError, StartError."""
    from ...outputs.mqtt.client import CONNACK, PUBACK, keepalive_seconds, new_client, set_patience
    from ...outputs.mqtt.tls import tls_for

    answers: dict[int, Any] = {}

    def hear(said: Any) -> None:
        answers[said.packet] = said
        heard(said)

    client = new_client(mqtt, f"{mqtt.clientid}-setup", tls_for(mqtt, host))
    client.on_packet = hear
    set_patience(client, len(mqtt.server))
    client.connect(host, mqtt.port, keepalive_seconds(mqtt))
    _turn(client, WITHIN, lambda: CONNACK in answers)
    welcome = answers.get(CONNACK)
    if welcome is not None and not welcome.reasons[0] and welcome.properties.get("MaximumQoS", 2):
        client.publish(topic, b"", qos=1)
        _turn(client, WITHIN, lambda: PUBACK in answers)
    client.disconnect()


def client_id(machine: Machine) -> Result:
    contested = [
        each for each in _connections(machine) if "another program connects" in each.get("why_not", "")
    ]
    if contested:
        return fail(
            f"another program connects as {contested[0]['client_id']}",
            "change clientid in [mqtt], or stop the other one",
        )
    if not _connections(machine):
        return skip("only the running program notices that")
    return ok("nobody else uses our client id")


def discovery(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None or not settings.mqtt.enabled:
        return skip(_why_not(settings))
    if not settings.homeassistant.discovery:
        return skip("discovery is off")
    serials = _serials(machine, settings)
    if not serials:
        return skip("no inverter is known yet")
    if machine.password_is_out_of_reach or _logged_in(machine).reason != 0:
        return skip("the broker does not let us look")
    from ...outputs.mqtt.homeassistant import discovery_topic

    kept = _logged_in(machine).kept
    prefix = settings.homeassistant.prefix
    missing = [serial for serial in serials if discovery_topic(prefix, serial) not in kept]
    if missing:
        return warn(
            f"Home Assistant was not told of {', '.join(missing)}",
            f"is prefix = {prefix} the one of its MQTT integration? Else: {machine.restart}",
        )
    return ok(f"Home Assistant was told of {len(serials)}")


# --- helpers


def _why_not(settings: Config | None) -> str:
    """Why there is nothing to be asked of a broker."""
    return "the configuration cannot be read" if settings is None else "[mqtt] is off"


def _is_connected(machine: Machine) -> bool:
    return any(each.get("connected_seconds") is not None for each in _connections(machine))


def _online_topic(settings: Config, serial: str) -> str:
    return f"{settings.mqtt.topic}/{serial}/online"


def _listens_here(machine: Machine, port: int) -> bool:
    """Tell whether a program on this machine listens at that port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (machine.text(table) or "").splitlines()[1:]:
            _, address, _, state = line.split()[:4]
            if state == LISTENING and int(address.rpartition(":")[2], 16) == port:
                return True
    return False


def _mosquitto(machine: Machine) -> str:
    """The configuration of mosquitto, as far as it can be read here."""
    paths = [path for pattern in MOSQUITTO_FILES for path in machine.paths(pattern)]
    return "\n".join(machine.text(path) or "" for path in paths)


def _local_broker(machine: Machine, settings: Config) -> str:
    """The remedy for a broker on this machine that does not listen where it should."""
    ports = (*USUAL_PORTS[settings.mqtt.tls], *map(int, LISTENER.findall(_mosquitto(machine))))
    other = next((port for port in ports if _listens_here(machine, port)), None)
    right = machine.setting("mqtt", "port", str(other)) if other is not None else None
    if right is not None:
        return right
    if not any(machine.exists(path) for path in MOSQUITTO_UNITS):
        return ShellCommand("sudo apt-get install mosquitto")
    if not machine.exists("/run/systemd/system"):
        return ShellCommand("sudo service mosquitto restart")
    masked = machine.asked_of_unit("LoadState", "mosquitto") == "masked"
    steps = ["sudo systemctl unmask mosquitto"] if masked else []
    if machine.asked_of_unit("UnitFileState", "mosquitto") != "enabled":
        steps.append("sudo systemctl enable mosquitto")
    steps.append("sudo systemctl restart mosquitto")
    return ShellCommand(f"{' && '.join(steps)}  # why it is down: sudo journalctl -u mosquitto -n 20")


def _let_in(machine: Machine, settings: Config, host: str, reason: int) -> str:
    """The remedy for a broker that refuses the login."""
    file, user = PASSWORD_FILE.search(_mosquitto(machine)), settings.mqtt.username
    nano = f"sudo nano {shlex.quote(machine.config_path)}"
    if host in LOCAL and reason in REFUSED_LOGIN and file and user:
        give = f"sudo mosquitto_passwd {shlex.quote(file[1])} {shlex.quote(user)}"
        told = f"type the password of [mqtt] there, or set the right one: {nano}"
        return ShellCommand(f"{give} && sudo systemctl restart mosquitto && {machine.restart}  # {told}")
    return f"set username and password in [mqtt] right: {nano}; then {machine.restart}"


def _connections(machine: Machine) -> list[dict[str, Any]]:
    """The connections of the running program; none of one that runs with another configuration."""
    path = machine.runs_with
    if path and os.path.realpath(path) != os.path.realpath(machine.config_path):
        return []
    outputs = (machine.status or {}).get("outputs", {})
    return list(outputs.get("mqtt", {}).get("connections", {}).values())


def _serials(machine: Machine, settings: Config) -> list[str]:
    """The inverters that the running program knows, or knew when it ran."""
    if machine.status is not None:
        return sorted(machine.status.get("inverters", {}))
    try:  # not by readings.state: that sets a damaged file aside
        return sorted(simplejson.loads(machine.text(settings.inverter.statefile) or "")["inverters"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _logged_in(machine: Machine) -> Login:
    """Log in once, beside the running program, and look at what the broker keeps; then as remembered."""
    known = machine.remembered.get("login")
    if not isinstance(known, Login):
        assert machine.settings is not None  # by who asks
        # For the next checks, should this one be given up: they would only wait for as long.
        machine.remembered["login"] = Login(machine.settings.mqtt.server[0], None, NO_ANSWER, None, {})
        known = machine.remembered["login"] = _first_login(machine, machine.settings)
    return known


def _properties(machine: Machine) -> Any:
    """The broker's words about itself in CONNACK; None where nothing is known."""
    return None if machine.password_is_out_of_reach else _logged_in(machine).properties


def _first_login(machine: Machine, settings: Config) -> Login:
    """At the first server that lets us in, as the program itself does; else what came of the first one."""
    serials = _serials(machine, settings)
    closed = machine.remembered.get("closed", [])  # where that was looked at
    assert isinstance(closed, list)
    hosts = [host for host in settings.mqtt.server if host not in closed]
    tried = []
    for host in hosts or settings.mqtt.server[:1]:
        tried.append(_log_in(settings, host, serials))
        if tried[-1].reason == 0:
            return tried[-1]
    return tried[0]


def _log_in(settings: Config, host: str, serials: list[str]) -> Login:
    from ...outputs.mqtt.advice import reason_of
    from ...outputs.mqtt.client import keepalive_seconds, new_client, set_patience
    from ...outputs.mqtt.homeassistant import discovery_topic
    from ...outputs.mqtt.tls import tls_for

    mqtt = settings.mqtt
    answers: list[Any] = []
    subscribed: list[bool] = []
    kept: dict[str, bytes] = {}
    try:
        client = new_client(mqtt, f"{mqtt.clientid}-doctor", tls_for(mqtt, host))
        client.on_connect = lambda *arguments: answers.append(arguments[3:])
        client.on_message = lambda client, userdata, message: kept.update({message.topic: message.payload})
        set_patience(client, len(mqtt.server))
        client.connect(host, mqtt.port, keepalive_seconds(mqtt))
        _turn(client, WITHIN, lambda: bool(answers))
        if not answers:
            return Login(host, None, NO_ANSWER, None, {})
        code = getattr(answers[0][0], "value", answers[0][0])
        properties = answers[0][1] if mqtt.protocol == "5" and len(answers[0]) > 1 else None
        prefix = settings.homeassistant.prefix
        topics = [discovery_topic(prefix, serial) for serial in serials]
        topics += [_online_topic(settings, serial) for serial in serials]
        if code == 0 and topics:
            client.on_subscribe = lambda *arguments: subscribed.append(True)
            client.subscribe([(topic, 0) for topic in topics])
            _turn(client, WITHIN, lambda: bool(subscribed))
            if not subscribed and client.socket() is not None:
                return Login(host, None, SILENT_INSIDE, None, {})  # what it keeps is not known
            _turn(client, 1.0, lambda: len(kept) == len(topics))
        client.disconnect()
    except (OSError, ValueError) as error:
        return Login(host, None, reason_of(error), None, {})
    except StartError as error:
        return Login(host, None, str(error), None, {})
    return Login(host, code, "", properties, kept)


def _certificate(mqtt: "MqttSettings", host: str) -> dict[str, Any]:
    """The certificate of a server that we trust. Raises OSError, StartError."""
    from ...outputs.mqtt.tls import tls_for

    context = tls_for(mqtt, host)
    assert context is not None  # TLS is on
    with (
        socket.create_connection((host, mqtt.port), WITHIN) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return wrapped.getpeercert() or {}


def _turn(client: Any, seconds: float, until: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end and not client.loop(timeout=0.1):
        pass


def _knock(host: str, *, port: int) -> bool:
    """True when a connection was taken. Raises OSError."""
    socket.create_connection((host, port), WITHIN).close()
    return True


def _each(hosts: Sequence[str], call: Callable[[str], Any]) -> list[Any]:
    """The result of the call for each host, all at once, or the error; None where it takes too long."""
    found: dict[str, Any] = {}

    def run(host: str) -> None:
        try:
            found[host] = call(host)
        except (OSError, StartError) as error:
            found[host] = error
        except UnicodeError as error:  # a name that cannot be one
            found[host] = OSError(str(error))

    # A name server may take a minute, and nothing can end it.
    threads = [threading.Thread(target=run, args=(host,), daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    end = time.monotonic() + WITHIN
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [found.get(host) for host in hosts]


CHECKS = (
    Check("broker-name", "Is the broker's name known?", name),
    Check("broker-port", "Does something listen there?", reachable),
    Check("tls", "Is its certificate good, and until when?", tls),
    Check("login", "Does it let the program in?", login),
    Check("takes", "Does it take what the program says?", takes),
    Check("client-id", "Does another program use our name?", client_id),
    Check("discovery", "Was Home Assistant told?", discovery),
)
