"""Is the broker there, does it let the program in, and does it take what the program has to say."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import simplejson

from ...config import Config
from ...errors import StartError
from .checks import Check, Machine, Result, fail, ok, skip, warn

if TYPE_CHECKING:
    from ...outputs.mqtt.settings import MqttSettings

WITHIN = 4.0
"""Seconds for each step: a name, a connection, an answer."""
SOON = 21
"""Days before its end in which a certificate is worth a warning."""
SMALLEST_PACKET = 16_384
"""Bytes that a broker should take: an announcement has some ten thousand."""


class Login(NamedTuple):
    """The outcome of logging in."""

    host: str
    """The server that answered; empty without one."""
    reason: int | None
    """Reason code of CONNACK; None without one."""
    trouble: str
    properties: Any
    """Of MQTT 5; None with another version."""
    kept: dict[str, bytes]
    """Announcements that the broker keeps, by topic."""


def name(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    unknown = []
    for host in settings.mqtt.server:
        found = _within(partial(socket.getaddrinfo, host, settings.mqtt.port, type=socket.SOCK_STREAM))
        if found is None:
            return fail(f"nobody answers what {host} is", "resolvectl status; or put its address into server")
        if isinstance(found, OSError):
            unknown.append(host)
    if len(unknown) == len(settings.mqtt.server):
        return fail(
            f"{', '.join(unknown)}: not known", f"getent hosts {unknown[0]}; or put its address into server"
        )
    if unknown:
        return warn(f"{', '.join(unknown)}: not known", f"getent hosts {unknown[0]}")
    return ok(", ".join(settings.mqtt.server))


def reachable(machine: Machine) -> Result:
    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    troubles = []
    port = settings.mqtt.port
    for host in settings.mqtt.server:
        try:
            socket.create_connection((host, port), WITHIN).close()
        except ConnectionRefusedError:
            troubles.append(f"nothing listens at {host}:{port}")
        except OSError as error:
            troubles.append(f"{host}:{port}: {error.strerror or error}")
    if not troubles:
        return ok(f"port {port} is open")
    local = settings.mqtt.server[0] in ("localhost", "127.0.0.1", "::1")
    remedy = (
        "sudo apt-get install mosquitto"
        if local
        else f"ping {settings.mqtt.server[0]}; is the broker running?"
    )
    told = "; ".join(troubles)
    return fail(told, remedy) if len(troubles) == len(settings.mqtt.server) else warn(told, remedy)


def tls(machine: Machine) -> Result:
    from ...outputs.mqtt.advice import reason_of

    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    mqtt = settings.mqtt
    if not mqtt.tls:
        return skip("TLS is off")
    troubles = []
    for host in mqtt.server:
        try:
            certificate = _certificate(mqtt, host)
            break
        except StartError as error:
            return fail(str(error), f"sudo nano {machine.config_path}")
        except OSError as error:
            troubles.append(reason_of(error))
    else:
        shows = f"openssl s_client -connect {mqtt.server[0]}:{mqtt.port} -showcerts </dev/null"
        return fail(troubles[0], shows)
    end = str(certificate.get("notAfter", ""))
    days = int((ssl.cert_time_to_seconds(end) - time.time()) // 86400) if end else SOON
    if days < SOON:
        return warn(f"the certificate of {host} ends in {days} days, {end}", "renew it at the broker")
    return ok(f"the certificate of {host} is good until {end}")


def login(machine: Machine) -> Result:
    from ...outputs.mqtt.advice import REFUSALS

    if machine.settings is None:
        return skip("the configuration cannot be read")
    connected = [each for each in _connections(machine) if each.get("connected_seconds") is not None]
    if connected:
        return ok(f"the program is connected to {connected[0]['server']}")
    if machine.password_is_out_of_reach:
        return skip("only the program can read the password")
    answer = _logged_in(machine)
    if answer.reason is None:
        return fail(answer.trouble, "see the checks above")
    if answer.reason:
        return fail(
            REFUSALS.get(answer.reason, f"it refuses us, reason {answer.reason}"),
            f"sudo nano {machine.config_path}",
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
    if settings is None:
        return skip("the configuration cannot be read")
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
    from ...outputs.mqtt.homeassistant import discovery_topic

    settings = machine.settings
    if settings is None:
        return skip("the configuration cannot be read")
    if not settings.homeassistant.discovery:
        return skip("discovery is off")
    serials = _serials(machine, settings)
    if not serials:
        return skip("no inverter is known yet")
    if machine.password_is_out_of_reach or _logged_in(machine).reason != 0:
        return skip("the broker does not let us look")
    kept = _logged_in(machine).kept
    prefix = settings.homeassistant.prefix
    missing = [serial for serial in serials if discovery_topic(prefix, serial) not in kept]
    if missing:
        return warn(
            f"Home Assistant was not told of {', '.join(missing)}",
            f"is prefix = {prefix} the one of its MQTT integration? Else restart the program",
        )
    return ok(f"Home Assistant was told of {len(serials)}")


# --- helpers


def _connections(machine: Machine) -> list[dict[str, Any]]:
    """The connections of the running program."""
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
        known = machine.remembered["login"] = _first_login(machine, machine.settings)
    return known


def _properties(machine: Machine) -> Any:
    """The broker's words about itself in CONNACK; None where nothing is known."""
    return None if machine.password_is_out_of_reach else _logged_in(machine).properties


def _first_login(machine: Machine, settings: Config) -> Login:
    """At the first server that lets us in, as the program itself does; else what came of the first one."""
    serials = _serials(machine, settings)
    tried = []
    for host in settings.mqtt.server:
        tried.append(_log_in(settings, host, serials))
        if tried[-1].reason == 0:
            return tried[-1]
    return tried[0]


def _log_in(settings: Config, host: str, serials: list[str]) -> Login:
    from ...outputs.mqtt.advice import reason_of
    from ...outputs.mqtt.client import new_client
    from ...outputs.mqtt.homeassistant import discovery_topic
    from ...outputs.mqtt.tls import tls_for

    mqtt = settings.mqtt
    answers: list[Any] = []
    kept: dict[str, bytes] = {}
    try:
        client = new_client(mqtt, f"{mqtt.clientid}-doctor", tls_for(mqtt, host))
        client.on_connect = lambda *arguments: answers.append(arguments[3:])
        client.on_message = lambda client, userdata, message: kept.update({message.topic: message.payload})
        client.connect(host, mqtt.port)
        _turn(client, WITHIN, lambda: bool(answers))
        if not answers:
            return Login("", None, "it does not answer", None, {})
        code = getattr(answers[0][0], "value", answers[0][0])
        properties = answers[0][1] if mqtt.protocol == "5" and len(answers[0]) > 1 else None
        topics = [(discovery_topic(settings.homeassistant.prefix, serial), 0) for serial in serials]
        if code == 0 and topics:
            client.subscribe(topics)
            _turn(client, 1.0, lambda: len(kept) == len(topics))
        client.disconnect()
    except (OSError, ValueError) as error:
        return Login("", None, reason_of(error), None, {})
    except StartError as error:
        return Login("", None, str(error), None, {})
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


def _within(call: Callable[[], Any]) -> Any:
    """The result of the call, or the OSError that it raises; None when it takes too long."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except OSError as error:
            found.append(error)
        except UnicodeError as error:  # a name that cannot be one
            found.append(OSError(str(error)))

    thread = threading.Thread(target=run, daemon=True)  # a name server may take a minute
    thread.start()
    thread.join(WITHIN)
    return found[0] if found else None


CHECKS = (
    Check("broker-name", "Is the broker's name known?", name),
    Check("broker-port", "Does something listen there?", reachable),
    Check("tls", "Is its certificate good, and until when?", tls),
    Check("login", "Does it let the program in?", login),
    Check("takes", "Does it take what the program says?", takes),
    Check("client-id", "Does another program use our name?", client_id),
    Check("discovery", "Was Home Assistant told?", discovery),
)
