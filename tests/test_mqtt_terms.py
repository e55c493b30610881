"""The terms asked of a broker, what it allows, and what it says: bytes and words, no connection."""

import errno
import socket
import ssl
import struct
from random import Random

import paho.mqtt.client as mqtt
import pytest

from goodwe.errors import StartError
from goodwe.outputs.mqtt import connection
from goodwe.outputs.mqtt.advice import (
    GOODBYES,
    REFUSALS,
    quoted,
    why_ended,
    why_not,
    why_refused,
    with_own_words,
)
from goodwe.outputs.mqtt.backoff import Failure
from goodwe.outputs.mqtt.client import CONNACK, DISCONNECT, PUBACK, PUBREC, SUBACK, Said, said
from goodwe.outputs.mqtt.message import Message
from goodwe.outputs.mqtt.terms import Allowed, Asked, Terms, allowed, packet_size

from . import fake_broker

# what a packet says


@pytest.mark.parametrize("reason", [0, 1, 4, 128, 151, 200])
def test_reason_of_each_answer_is_read(reason):
    named = {"reason_string": "so"}
    words = {"ReasonString": "so"}
    assert said(0x20, fake_broker.connack(reason, **named)[2:], is_mqtt5=True) == Said(
        CONNACK, 0, (reason,), words
    )
    assert said(0x20, bytes([0, reason]), is_mqtt5=False) == Said(CONNACK, 0, (reason,), {})
    for kind in (PUBACK, PUBREC):
        body = fake_broker.answer(kind, 77, reason, **named)[2:]
        assert said(kind, body, is_mqtt5=True) == Said(kind, 77, (reason,), words)
        assert said(kind, body[:3], is_mqtt5=True) == Said(kind, 77, (reason,), {})
        assert said(kind, body[:2], is_mqtt5=True) == Said(kind, 77, (0,), {})
    assert said(0xE0, bytes([reason]), is_mqtt5=True) == Said(DISCONNECT, 0, (reason,), {})
    assert said(0xE0, fake_broker.disconnect(reason, **named)[2:], is_mqtt5=True) == Said(
        DISCONNECT, 0, (reason,), words
    )
    assert said(0xE0, b"", is_mqtt5=True) == Said(DISCONNECT, 0, (0,), {})
    suback = b"\0\x4d" + fake_broker.properties(**named) + bytes([0, reason])
    assert said(0x90, suback, is_mqtt5=True) == Said(SUBACK, 77, (0, reason), words)


@pytest.mark.parametrize("packet", [0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0, 0x30, 0x00])
def test_nothing_that_a_broker_sends_is_too_odd(packet):
    random = Random(packet)
    for _ in range(3000):
        body = random.randbytes(random.randrange(12))
        for mqtt5 in (True, False):
            said(packet, body, is_mqtt5=mqtt5)


# what it allows


def test_broker_that_says_nothing_allows_everything():
    assert allowed({}) == Allowed()
    assert Allowed().as_status() == {}
    assert Allowed().under_way == 20


@pytest.mark.parametrize(
    ("maximum", "under_way"), [(0, 1), (1, 1), (19, 19), (20, 20), (21, 20), (65_535, 20)]
)
def test_messages_under_way_are_as_many_as_it_takes(maximum, under_way):
    assert allowed({"ReceiveMaximum": maximum}).under_way == under_way


@pytest.mark.parametrize("length", [0, 1, 100, 120, 121, 122, 127, 128, 5000, 16_370, 16_384, 70_000])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_size_of_a_packet_is_counted_to_the_byte(length, qos, protocol):
    message = Message("goodwe/ä/data", "x" * length, qos)
    mqtt5 = protocol == mqtt.MQTTv5
    inside = 2 + len(message.topic.encode()) + length + 2 * (qos > 0) + mqtt5
    assert packet_size(message, mqtt5=mqtt5) == 1 + len(bytes(mqtt_length(inside))) + inside


def mqtt_length(count: int) -> bytearray:
    """The variable byte integer of MQTT (1.5.5)."""
    found = bytearray()
    while True:
        count, low = divmod(count, 128)
        found.append(low | (128 if count else 0))
        if not count:
            return found


# what is asked


def test_terms_go_down_with_what_was_refused():
    terms = Terms(40)
    assert terms.asked == Asked(40, 1, True)
    assert terms.refused(155)
    assert terms.refused(154)
    assert terms.asked == Asked(40, 0, False)
    assert terms.accepted()
    assert terms.asked == Asked(40, 0, False), "and stay there"
    assert not terms.refused(155), "there is nothing less"
    assert terms.asked == Asked(40)


def test_keepalive_goes_down_to_its_least_and_then_the_name_is_to_blame():
    terms = Terms(40)
    asked = [terms.asked.keepalive]
    while terms.refused(2):
        asked.append(terms.asked.keepalive)
    assert asked == [40, 20, 10, 5]
    assert terms.asked.keepalive == 40


@pytest.mark.parametrize("reason", [1, 3, 4, 5, 128, 133, 134, 135])
def test_other_refusals_change_nothing(reason):
    terms = Terms(40)
    assert not terms.refused(reason)
    assert terms.asked == Asked(40)


def test_silence_is_believed_only_when_it_comes_again():
    terms = Terms(40)
    terms.silent()
    assert terms.asked.will_qos == 0
    assert not terms.accepted(), "ask for more once more"
    assert terms.asked == Asked(40)
    terms.silent()
    assert terms.accepted() is True or terms.asked.will_qos == 0
    assert terms.asked == Asked(40, 0, True)


def test_silence_of_a_broker_that_was_away_leaves_nothing():
    terms = Terms(40)
    terms.silent()
    assert not terms.accepted()
    assert terms.accepted()
    assert terms.asked == Asked(40)


def test_silence_for_ever_tries_everything_in_turn():
    terms, seen = Terms(40), set()
    for _ in range(6):
        seen.add(terms.asked)
        terms.silent()
    assert seen == {Asked(40, 1, True), Asked(40, 0, True), Asked(40, 0, False)}


# what is said


def test_every_reason_of_the_specification_has_words():
    """MQTT 5: 3.2.2.2 and 3.14.2.1, what a server can send; 0 is success, 142 is contested."""
    connack = {128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 140, 144, 149, 151, 153, 154, 155, 156}
    connack |= {157, 159}
    disconnect = {128, 129, 130, 131, 135, 137, 139, 141, 143, 144, 147, 148, 149, 150, 151, 152, 153, 154}
    disconnect |= {155, 156, 157, 158, 159, 160, 161, 162}
    assert connack | {1, 2, 3, 4, 5} == set(REFUSALS)
    assert disconnect - set(GOODBYES) == set()


@pytest.mark.parametrize(
    ("reason", "failure"),
    [(3, Failure.AWAY), (136, Failure.AWAY), (137, Failure.BUSY), (159, Failure.BUSY), (151, Failure.BUSY)]
    + [(reason, Failure.REFUSED) for reason in (1, 2, 4, 5, 132, 133, 134, 135, 138, 156, 157, 200)],
)
def test_refusal_decides_how_often_is_asked(reason, failure):
    assert why_refused(reason, {})[0] is failure


def test_broker_s_own_words_stand_beside_the_advice():
    words = {"ReasonString": "quota\r\nof\tthe\x1b[31m day", "ServerReference": "other:1883"}
    assert with_own_words("advice", words) == (
        "advice (the other server is other:1883; it says: quota of the [31m day)"
    )
    assert with_own_words("", {"ReasonString": "rain"}) == "it says: rain"
    assert why_ended(0, {}) == ""
    assert len(quoted("x" * 70_000)) == 203


OTHER_NAME = ssl.SSLCertVerificationError(1, "certificate verify failed")
OTHER_NAME.verify_code, OTHER_NAME.verify_message = 62, "Hostname mismatch"
UNKNOWN_AUTHORITY = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNKNOWN_AUTHORITY.verify_code, UNKNOWN_AUTHORITY.verify_message = 20, "unable to get local issuer certificate"
EXPIRED = ssl.SSLCertVerificationError(1, "certificate verify failed")
EXPIRED.verify_code, EXPIRED.verify_message = 10, "certificate has expired"
FUTURE = ssl.SSLCertVerificationError(1, "certificate verify failed")
FUTURE.verify_code, FUTURE.verify_message = 9, "certificate is not yet valid"
REVOKED = ssl.SSLCertVerificationError(1, "certificate verify failed")
REVOKED.verify_code, REVOKED.verify_message = 23, "certificate revoked"


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] alert")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "failure", "said"),
    [
        (
            OTHER_NAME,
            Failure.TLS,
            "its certificate is for another name: Hostname mismatch; check server in [mqtt]",
        ),
        (UNKNOWN_AUTHORITY, Failure.TLS, "local issuer certificate; check cafile in [mqtt]"),
        (EXPIRED, Failure.TLS, "certificate has expired; renew it, or set this machine's clock"),
        (FUTURE, Failure.TLS, "not yet valid; is the clock of this machine right?"),
        (REVOKED, Failure.TLS, "certificate revoked; the broker needs a new one"),
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Failure.TLS, "set certfile and keyfile in [mqtt]"),
        (alert("SSLV3_ALERT_HANDSHAKE_FAILURE"), Failure.TLS, "set certfile and keyfile in [mqtt]"),
        (alert("TLSV1_ALERT_PROTOCOL_VERSION"), Failure.TLS, "it does not speak TLS 1.2 or newer"),
        (
            alert("WRONG_VERSION_NUMBER"),
            Failure.TLS,
            "no TLS connection (WRONG_VERSION_NUMBER); check port and tls",
        ),
        (ssl.SSLEOFError(8, "EOF occurred"), Failure.AWAY, "it closed the connection without an answer"),
        (ConnectionAbortedError(), Failure.AWAY, "it closed the connection without an answer"),
        (socket.gaierror(socket.EAI_AGAIN, "again"), Failure.NAME, "the name server does not answer"),
        (
            socket.gaierror(socket.EAI_NONAME, "none"),
            Failure.NAME,
            "its name is not known; check server in [mqtt]",
        ),
        (
            socket.gaierror(socket.EAI_NODATA, "none"),
            Failure.NAME,
            "its name is not known; check server in [mqtt]",
        ),
        (socket.gaierror(socket.EAI_FAIL, "failed"), Failure.NAME, "its name cannot be looked up (failed)"),
        (ConnectionRefusedError(111, "no"), Failure.AWAY, "nothing listens there"),
        (TimeoutError("timed out"), Failure.AWAY, "no answer; is the machine on"),
        (OSError(113, "No route to host"), Failure.AWAY, "No route to host; is the machine on"),
        (OSError(errno.EMFILE, "Too many open files"), Failure.AWAY, "Too many open files; this program has"),
        (
            OSError(errno.ENFILE, "Too many open files in system"),
            Failure.AWAY,
            "this machine has as many as it",
        ),
        (
            OSError(errno.ENOMEM, "Cannot allocate"),
            Failure.AWAY,
            "this machine has no memory or threads left",
        ),
        (OSError(errno.EAGAIN, "cannot start a thread"), Failure.AWAY, "no memory or threads left for it"),
        (OSError(errno.ENETUNREACH, "unreachable"), Failure.AWAY, "has this machine a network that leads"),
        (OSError(errno.ENETDOWN, "down"), Failure.AWAY, "has this machine a network that leads there?"),
        (OSError(errno.EADDRNOTAVAIL, "no address"), Failure.AWAY, "has this machine a network that leads"),
        (PermissionError(errno.EPERM, "not permitted"), Failure.AWAY, "look at its firewall"),
        (
            OSError(errno.EINVAL, "Invalid"),
            Failure.AWAY,
            "Invalid; are server, port and tls in [mqtt] right?",
        ),
        (StartError("passwordfile = x: No such file"), Failure.AWAY, "passwordfile = x: No such file"),
        (struct.error("too long"), Failure.REFUSED, "has more than 65535 bytes"),
        (mqtt.WebsocketConnectionError("404"), Failure.AWAY, "no websocket (404); check transport"),
    ],
)
def test_advice_fits_the_cause(error, failure, said):
    found, text = why_not(error)
    assert found is failure
    assert said in text


@pytest.mark.parametrize(
    "reason", ["TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED"]
)
def test_certificate_of_ours_that_is_not_accepted_is_told_from_one_that_is_missing(reason):
    _, text = why_not(alert(reason), has_certificate=True)
    assert text == f"it does not accept our certificate ({reason}); check certfile and keyfile in [mqtt]"


def test_diagram_of_the_connection_has_the_states_and_no_other():
    diagram = [line for line in str(connection.__doc__).splitlines() if line.startswith("    ")]
    words = {word for line in diagram for word in line.split() if word.isalpha()}
    assert words == {state.name for state in connection.ConnectionState}
