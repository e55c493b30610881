"""Every row of the configuration; every mistake with file, line, key, value and what would be right."""

import contextlib
import errno
import logging
import os
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from random import Random

import pytest

from goodwe import config, outputs, program
from goodwe.errors import ConfigError
from goodwe.events import Offline
from goodwe.loop import Loop
from goodwe.outputs.mqtt.homeassistant import discovery_topic
from goodwe.outputs.web.settings import Address
from goodwe.protocol import fields

SHOWN = "(no file can be made there: it is the kernel that shows what is in that folder)"
PATH = "/etc/goodwe.conf"
ROOT = Path(__file__).parents[1]

# CONTRACT 3 and 6, copied by hand
DEFAULTS = {
    ("inverter", "loglevel"): logging.INFO,
    ("inverter", "pollinterval"): 2500,
    ("inverter", "plausibility"): True,
    ("inverter", "offlinevalues"): "zero",
    ("inverter", "statefile"): "/var/lib/goodwe/state.json",
    ("inverter", "identity"): True,
    ("inverter", "usbreset"): False,
    ("inverter", "vendorid"): 0x0084,
    ("inverter", "modelid"): 0x0041,
    ("inverter", "logfile"): "/var/log/goodwe.log",
    ("inverter", "device"): "",
    ("inverter", "user"): "",
    ("mqtt", "server"): ("localhost",),
    ("mqtt", "port"): 1883,
    ("mqtt", "topic"): "goodwe",
    ("mqtt", "clientid"): "goodwe-usb",
    ("mqtt", "username"): "",
    ("mqtt", "password"): "",
    ("mqtt", "qos"): 0,
    ("mqtt", "retain"): False,
    ("mqtt", "language"): "en",
    ("mqtt", "keepalive"): 60,
    ("mqtt", "tls"): False,
    ("mqtt", "cafile"): "",
    ("mqtt", "certfile"): "",
    ("mqtt", "keyfile"): "",
    ("mqtt", "passwordfile"): "",
    ("mqtt", "protocol"): "3.1.1",
    ("mqtt", "transport"): "tcp",
    ("mqtt", "websocketpath"): "/mqtt",
    ("mqtt", "values"): False,
    ("mqtt", "valuesqos"): 0,
    ("mqtt", "valuesretain"): False,
    ("mqtt", "valuesheartbeat"): 300,
    ("mqtt", "sum"): False,
    ("mqtt", "alarms"): False,
    ("mqtt", "backlog"): "",
    ("mqtt", "backlogsize"): 100,
    ("mqtt", "backlogdays"): 30,
    ("mqtt", "backlograte"): 20,
    ("history", "file"): "/var/lib/goodwe/history.db",
    ("mqtt", "commands"): False,
    ("mqtt", "commandtopic"): "goodwe-command",
    ("mqtt", "control"): False,
    ("homeassistant", "discovery"): True,
    ("homeassistant", "prefix"): "homeassistant",
    ("web", "listen"): Address("127.0.0.1", 8765),
    ("web", "names"): (),
    ("web", "frame"): "'none'",
    ("web", "metrics"): False,
}

# as it stands in the predecessor's documentation
OLD_FILE = """\
[inverter]
loglevel = DEBUG
pollinterval = 2500
vendorId = 0084
modelId = 0041
logfile = /var/log/goodwe.log

[mqtt]
server = 192.168.2.240
port = 1883
topic = goodwe
clientid = goodwe-usb
username = myuser
password = mypasswd
"""


def parse(content: str) -> config.Config:
    return config.parse(content, PATH)[0]


def setting(section: str, key: str, value: str):
    return getattr(getattr(parse(f"[{section}]\n{key} = {value}\n"), section), key.lower())


def values(section: config.Section) -> tuple:
    """Of its options, as they stand in the sample file."""
    return tuple(getattr(section, option.attribute) for option in section.options() if option.listed)


def mistake(content: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("section", "key"), DEFAULTS)
def test_default_is_the_contracts(section, key):
    assert getattr(getattr(parse(f"[{section}]\n"), section), key) == DEFAULTS[section, key]


def test_every_option_has_a_default_in_the_contract():
    rows = [(name, option) for name, kind in config.all_kinds().items() for option in kind.options()]
    assert {(name, option.attribute) for name, option in rows if option.listed} == set(DEFAULTS)


def test_old_file_means_what_it_meant():
    settings = parse(OLD_FILE)
    inverter, mqtt = values(settings.inverter), values(settings.mqtt)
    assert inverter[:6] == (10, 2500, 0x84, 0x41, "/var/log/goodwe.log", "")
    assert inverter[6:] == values(parse("").inverter)[6:], "what is new has its default"
    assert mqtt[:6] == (("192.168.2.240",), 1883, "goodwe", "goodwe-usb", "myuser", "mypasswd")
    assert mqtt[6:] == values(parse("").mqtt)[6:]


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("inverter", "loglevel", "debug", logging.DEBUG),
        ("inverter", "LOGLEVEL", "Warning", logging.WARNING),
        ("inverter", "pollinterval", "500", 500),
        ("inverter", "offlinevalues", "Keep", "keep"),
        ("inverter", "statefile", "", ""),
        ("inverter", "pollinterval", "86400000", 300_000),
        ("inverter", "vendorId", "0x00aB", 0xAB),
        ("inverter", "vendorid", "84", 0x84),
        ("inverter", "device", "/dev/hidraw3", "/dev/hidraw3"),
        ("inverter", "device", "unix:/run/inv.sock", "unix:/run/inv.sock"),
        ("mqtt", "server", "nas, 192.168.1.2,fe80::1", ("nas", "192.168.1.2", "fe80::1")),
        ("mqtt", "topic", "home/roof/goodwe", "home/roof/goodwe"),
        ("mqtt", "password", "p%a#s;s = word", "p%a#s;s = word"),
        ("mqtt", "password", "# first", "# first"),
        ("mqtt", "qos", "2", 2),
        ("mqtt", "retain", "On", True),
        ("mqtt", "retain", "no", False),
    ],
)
def test_value_is_understood(section, key, value, expected):
    assert setting(section, key, value) == expected


def test_empty_value_means_what_an_empty_default_means():
    assert parse("[mqtt]\nusername =\npassword =\n").mqtt.username == ""


def test_files_and_sockets_get_their_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the daemon works in /
    assert setting("inverter", "logfile", "mine.log") == str(tmp_path / "mine.log")
    assert setting("inverter", "device", "unix:inv.sock") == f"unix:{tmp_path}/inv.sock"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[mqtt]\n\nsever = nas\n", f"{PATH}:3: unknown key sever in [mqtt]; is server meant?"),
        ("[mqtt]\nxyzzy = 1\n", f"{PATH}:2: unknown key xyzzy in [mqtt]; known are server, port, "),
        ("[mqtt]\nvendorId = 1\n", f"{PATH}:2: unknown key vendorid in [mqtt]; "),
        ("# c\n[mqqt]\nport = 1\n", f"{PATH}:2: unknown section [mqqt]; is mqtt meant?"),
        ("[nothing]\n", f"{PATH}:1: unknown section [nothing]; known are inverter, mqtt"),
        ("[DEFAULT]\nport = 1\n", f"{PATH}:1: unknown section [DEFAULT]; "),
        ("[mqtt]\nport = 0\n", f"{PATH}:2: port = 0: must be a whole number from 1 to 65535"),
        ("[mqtt]\nport = 65536\n", f"{PATH}:2: port = 65536: must be a whole number from 1 to 65535"),
        ("[mqtt]\nport = 1" + "0" * 5000, f"{PATH}:2: port = 1"),
        (
            "[inverter]\nlogfile = /var/log/a\0b\n",
            f"{PATH}:2: logfile = /var/log/a\0b: must be text, not bytes of value 0",
        ),
        ("[mqtt]\npasswordfile = /a\0b\n", f"{PATH}:2: passwordfile = /a\0b: must be text, not bytes"),
        ("[mqtt]\nport: mqtt\n", f"{PATH}:2: port = mqtt: must be a whole number from 1 to 65535"),
        ("[mqtt]\nPort =\n", f"{PATH}:2: port = : must be a whole number from 1 to 65535"),
        ("[mqtt]\nPort\n", f"{PATH}:2: neither [section] nor key = value"),
        ("[mqtt]\nqos = 3\n", f"{PATH}:2: qos = 3: must be a whole number from 0 to 2"),
        ("[mqtt]\nretain = maybe\n", f"{PATH}:2: retain = maybe: must be on or off"),
        ("[mqtt]\nserver = a,,b\n", f"{PATH}:2: server = a,,b: must be a host name or address, "),
        ("[mqtt]\nserver = nas:1883\n", f"{PATH}:2: server = nas:1883: must be a host name or address, "),
        (
            "[mqtt]\nport = 1883 # usual\n",
            f"{PATH}:2: port = 1883 # ...: must be a whole number from 1 to 65535; a comment needs a line",
        ),
        ("[mqtt]\nserver = mqtt://nas\n", f"{PATH}:2: server = mqtt://nas: must be a host name"),
        ("[mqtt]\ntopic = a/#\n", f"{PATH}:2: topic = a/#: must be a topic without + and #"),
        ("[mqtt]\ntopic =\n", f"{PATH}:2: topic = : must be a topic"),
        ("[mqtt]\nport = 1\n  topic = x\n", f"{PATH}:2: port = 1: must be on one line; "),
        (
            "[inverter]\nofflinevalues = no\n",
            f"{PATH}:2: offlinevalues = no: must be zero or keep",
        ),
        (
            "[inverter]\npollinterval = 499\n",
            f"{PATH}:2: pollinterval = 499: must be a whole number, at least 500",
        ),
        ("[inverter]\npollinterval = 2,5\n", f"{PATH}:2: pollinterval = 2,5: must be a whole number"),
        ("[inverter]\npollinterval = 1_000\n", f"{PATH}:2: pollinterval = 1_000: must be a whole number"),
        (
            "[inverter]\nvendorId = 00G4\n",
            f"{PATH}:2: vendorId = 00G4: must be up to four hexadecimal digits",
        ),
        ("[inverter]\nmodelId = 12345\n", f"{PATH}:2: modelId = 12345: must be up to four"),
        ("[inverter]\nloglevel = LOUD\n", f"{PATH}:2: loglevel = LOUD: must be one of DEBUG, INFO,"),
        ("[inverter]\nloglevel = NOTSET\n", f"{PATH}:2: loglevel = NOTSET: must be one of"),
        ("[inverter]\nlogfile =\n", f"{PATH}:2: logfile = : must be the path of a file to log to"),
        ("[inverter]\ndevice = hidraw0\n", f"{PATH}:2: device = hidraw0: must be /dev/hidrawN, unix:/path"),
        ("[inverter]\ndevice = unix:\n", f"{PATH}:2: device = unix:: must be /dev/hidrawN, unix:/path"),
        (
            "[mqtt]\ntls = on\ncafile = /no/ca.pem\n",
            f"{PATH}:3: cafile = /no/ca.pem: must be the path of a file",
        ),
        ("[mqtt]\ntls = on\nkeyfile = /etc\n", f"{PATH}:3: keyfile = /etc: must be the path of a file"),
        ("port = 1\n", f"{PATH}:1: stands before the first section; begin with [inverter] or [mqtt]"),
        ("[mqtt]\nport = 1\nPORT = 2\n", f"{PATH}:3: port is there twice; delete one"),
        ("[mqtt]\n[mqtt]\n", f"{PATH}:2: section [mqtt] is there twice; join the two"),
        ("[mqtt]\nusername\n  password = x\n", f"{PATH}:2: neither [section] nor key = value"),
        ("[mqtt]\npassword hunter2\n", f"{PATH}:2: neither [section] nor key = value"),
        ("[mqtt]\n= 1\n", f"{PATH}:2: neither [section] nor key = value"),
    ],
)
def test_mistake_is_told_with_its_line_and_what_would_be_right(content, told):
    assert mistake(content).startswith(told)


@pytest.mark.parametrize("key", ["cafile", "certfile"])
def test_tls_file_without_tls_is_told(tmp_path, key):
    file = tmp_path / "x.pem"
    file.touch()
    both = f"keyfile = {file}\n" if key == "certfile" else ""
    assert "TLS is off; add tls = on" in mistake(f"[mqtt]\n{key} = {file}\n{both}")


@pytest.mark.parametrize(("key", "missing"), [("certfile", "keyfile"), ("keyfile", "certfile")])
def test_certificate_and_key_go_together(tmp_path, key, missing):
    file = tmp_path / "x.pem"
    file.touch()
    told = mistake(f"[mqtt]\ntls = on\n{key} = {file}\n")
    assert told == f"{PATH}:3: {key} is set; {missing} must be set too"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "[mqtt]\ncommands = on\ncommandtopic = goodwe/cmd\n",
            f"{PATH}:3: commandtopic = goodwe/cmd: must not be below topic = goodwe, whose readers take",
        ),
        ("[mqtt]\ncontrol = on\n", f"{PATH}:2: control is on, but commands are off; add commands = on"),
        ("[mqtt]\npassword = a\npasswordfile = /b\n", f"{PATH}:3: passwordfile is set, and so is password;"),
        (
            "[mqtt]\npasswordfile = /no/file\n",
            f"{PATH}:2: passwordfile = /no/file: must be a file that can be read (No such file",
        ),
        (
            "[mqtt]\npasswordfile = word\n",
            f"{PATH}:2: passwordfile = word: must be the path of a file, or in a",
        ),
        ("[mqtt]\nprotocol = 4\n", f"{PATH}:2: protocol = 4: must be 3.1.1 or 5"),
        ("[mqtt]\ntransport = udp\n", f"{PATH}:2: transport = udp: must be tcp or websockets"),
    ],
)
def test_keys_of_mqtt_that_do_not_fit_are_told(monkeypatch, content, told):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert mistake(content).startswith(told)


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("[::1]", ("::1",)),
        ("nas,[fe80::1%eth0]", ("nas", "fe80::1%eth0")),
        ("fe80::1%eth0", ("fe80::1%eth0",)),
        ("::ffff:192.168.1.2", ("::ffff:192.168.1.2",)),
        ("my_nas.fritz.box.", ("my_nas.fritz.box.",)),
        ("b\xfcro.local", ("b\xfcro.local",)),
        ("127.1", ("127.1",)),
        ("x" * 63 + ".de", ("x" * 63 + ".de",)),
    ],
)
def test_host_may_be_written_in_every_usual_way(value, hosts):
    assert setting("mqtt", "server", value) == hosts


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("mqtt://nas:1883", "(the port has its own key)"),
        ("mqtts://nas", "; tls = on encrypts"),
        ("ws://nas", "; transport = websockets takes websockets"),
        ("[::1]:1883", "(the port has its own key)"),
        ("[nas]", "(the port has its own key)"),
        ("fe80::1::2", "(the port has its own key)"),
        ("fe80::1%", "(the port has its own key)"),
        ("me@nas", "; the login has keys of its own, username and password"),
        ('"nas"', "; without the quotes"),
        ("\u201enas\u201c", "; without the quotes"),
        ("nas;", "(the port has its own key)"),
        ("nas..lan", "(the port has its own key)"),
        ("192.168.1.256", "(the port has its own key)"),
        ("x" * 64, "(the port has its own key)"),
        ("nas # the old one", "; a comment needs a line of its own"),
        ("", "(the port has its own key)"),
    ],
)
def test_server_that_is_no_host_is_told_what_it_is_instead(value, hint):
    told = mistake(f"[mqtt]\nserver = {value}\n")
    assert "must be a host name or address, or several separated by commas" in told
    assert told.endswith(hint)


TEXTS = [
    ("inverter", "logfile", "/var/log/goodwe.log"),
    ("inverter", "statefile", "/var/lib/goodwe/state.json"),
    ("inverter", "device", "/dev/hidraw0"),
    ("mqtt", "topic", "goodwe"),
    ("mqtt", "clientid", "goodwe-usb"),
    ("mqtt", "username", "me"),
    ("mqtt", "cafile", __file__),
    ("mqtt", "passwordfile", "/etc/goodwe.password"),
    ("mqtt", "websocketpath", "/mqtt"),
    ("mqtt", "backlog", "/var/lib/goodwe/backlog.db"),
    ("mqtt", "commandtopic", "goodwe-command"),
    ("homeassistant", "prefix", "homeassistant"),
    ("mqtt", "server", "nas"),
    ("mqtt", "port", "1883"),
    ("mqtt", "retain", "on"),
    ("inverter", "loglevel", "INFO"),
]


@pytest.mark.parametrize("behind", [" # mine", " ;mine", "\t# mine", " #"])
@pytest.mark.parametrize(("section", "key", "value"), TEXTS)
def test_comment_behind_a_value_never_becomes_a_part_of_it(section, key, value, behind):
    told = mistake(f"[{section}]\n{key} = {value}{behind}\n")
    assert told.startswith(f"{PATH}:2: {key} = {value}{behind[:2]} ...: must be ")
    assert told.endswith("; a comment needs a line of its own")


@pytest.mark.parametrize("value", ["# none", "; none", "#"])
def test_comment_in_place_of_a_value_is_none(value):
    assert mistake(f"[mqtt]\nusername = {value}\n").endswith("; a comment needs a line of its own")


@pytest.mark.parametrize("quote", ['""', "''", "\u201e\u201c", "\xab\xbb"])
@pytest.mark.parametrize(("section", "key", "value"), TEXTS)
def test_quotes_around_a_value_never_become_a_part_of_it(section, key, value, quote):
    told = mistake(f"[{section}]\n{key} = {quote[0]}{value}{quote[1]}\n")
    assert told.endswith("; without the quotes")


@pytest.mark.parametrize("value", ["a#b", "a;b", "it's", 'the "roof" one'])
def test_hints_stand_only_where_there_is_a_comment_or_a_quote(value):
    assert setting("mqtt", "clientid", value) == value
    assert "comment" not in mistake("[mqtt]\nport = 1883#x\n")
    assert "quotes" not in mistake("[mqtt]\nport = 18'83\n")


@pytest.mark.parametrize(
    ("section", "key", "told"),
    [
        ("mqtt", "backlog", "the path of a file, such as /var/lib/goodwe/backlog.db, or nothing for none"),
        (
            "inverter",
            "statefile",
            "the path of a file, such as /var/lib/goodwe/state.json, or nothing for none",
        ),
        ("inverter", "logfile", "the path of a file to log to; /dev/null is there for no log"),
        ("mqtt", "passwordfile", "the path of a file, or in a unit of systemd the name of a credential"),
        ("mqtt", "cafile", "the path of a file that can be read, or nothing for none"),
        ("mqtt", "certfile", "the path of a file that can be read, or nothing for none"),
        ("mqtt", "keyfile", "the path of a file that can be read, or nothing for none"),
        ("inverter", "device", "/dev/hidrawN, unix:/path of a stand-in, or nothing to find the inverter"),
    ],
)
@pytest.mark.parametrize(
    "word", ["on", "Off", "yes", "FALSE", "none", "0", "1", "Enable", "disable", "y", "default", "auto", "-"]
)
def test_switch_word_is_no_name_of_a_file(tmp_path, monkeypatch, section, key, told, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).touch()
    assert mistake(f"[{section}]\n{key} = {word}\n") == f"{PATH}:2: {key} = {word}: must be {told}"


@pytest.mark.parametrize(
    ("section", "key"), [("mqtt", "backlog"), ("inverter", "statefile"), ("inverter", "logfile")]
)
def test_file_that_we_write_is_no_folder_and_no_shell_word(tmp_path, section, key):
    for value in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/new/"):
        assert "not a folder" in mistake(f"[{section}]\n{key} = {value}\n")
    for value in ("~/goodwe", "$HOME/goodwe", "file:///tmp/goodwe"):
        assert "are not replaced" in mistake(f"[{section}]\n{key} = {value}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[inverter]\nstatefile = {0}/x\n[mqtt]\nbacklog = {0}/x\n", "{1}:4: backlog and statefile are one"),
        ("[inverter]\nstatefile = {0}/x\nlogfile = {0}/x\n", "{1}:2: statefile and logfile are one"),
        (
            "[inverter]\nstatefile = {0}/x\nlogfile = {0}/x.lock\n",
            "{1}:2: the lock of statefile and logfile are one",
        ),
        ("[mqtt]\nbacklog = {0}/link/x\n[inverter]\nlogfile = {0}/x\n", "{1}:2: backlog and logfile are one"),
        ("[mqtt]\nbacklog = /etc/goodwe.conf\n", "{1}:2: backlog and this configuration are one"),
        ("[mqtt]\ntls = on\ncafile = {0}/pem\nbacklog = {0}/pem\n", "{1}:4: backlog and cafile are one"),
        ("[mqtt]\nbacklog = /var/lib/goodwe/state.json\n", "{1}:2: backlog and statefile are one"),
    ],
)
def test_file_that_we_write_has_one_name_only(tmp_path, text, told):
    """Each would set the other's file aside as damaged."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "pem").touch()
    assert mistake(text.format(tmp_path)) == f"{told.format(tmp_path, PATH)} file; name another"


def test_files_that_are_only_read_may_be_one(tmp_path):
    """A certificate and its key often are."""
    (tmp_path / "pem").touch()
    parse(f"[mqtt]\ntls = on\ncertfile = {tmp_path}/pem\nkeyfile = {tmp_path}/pem\n")


@pytest.mark.parametrize("key", ["cafile", "certfile", "keyfile"])
def test_file_that_this_user_may_not_read_is_told_with_what_helps(tmp_path, monkeypatch, key):
    (tmp_path / "pem").touch()
    text = f"[mqtt]\ntls = on\n{key} = {tmp_path}/pem\n"
    monkeypatch.setattr(config.parsers.os, "access", lambda *_: False)
    assert mistake(text).endswith(
        "can be read (Permission denied; run this with sudo, or chown and chmod 640)"
    )


@pytest.mark.parametrize("key", ["mqtt.backlog", "inverter.statefile"])
def test_device_is_no_file_to_be_replaced(key):
    section, _, key = key.partition(".")
    assert mistake(f"[{section}]\n{key} = /dev/null\n").endswith("not a folder or a device")
    assert setting("inverter", "logfile", "/dev/null") == "/dev/null"


@pytest.mark.parametrize("folder", ["goodwe", "roof/goodwe"])
def test_folder_of_the_log_is_made_where_some_of_it_is_there(tmp_path, folder):
    log = tmp_path / folder / "goodwe.log"
    assert setting("inverter", "logfile", str(log)) == str(log)
    assert not log.parent.exists(), "looking changes nothing"
    config.make_log_folder(str(log))
    assert log.parent.is_dir()
    config.make_log_folder(str(log))


@pytest.mark.parametrize("log", ["/no/such/goodwe.log", "/no/goodwe.log", "{}/file/goodwe.log", "{}/pipe"])
def test_log_that_could_not_be_opened_is_told(tmp_path, log):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    path = log.format(tmp_path)
    told = mistake(f"[inverter]\nlogfile = {path}\n")
    assert told.startswith(f"{PATH}:2: logfile = {path}: must be the path of a file to log to")
    if "/no/" in path:
        assert told.endswith(f"make it: sudo mkdir -p {os.path.dirname(path)}")
        config.make_log_folder(path)
        assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("/dev/ttyUSB0", "this is a serial port"),
        ("/dev/ttyACM7", "this is a serial port"),
        ("/dev/serial/by-id/usb-x", "this is a serial port"),
        ("/dev/usb/hiddev0", "hiddev is another way"),
        ("auto", "or nothing to find the inverter"),
        ("/dev/hidrawN", "one node with its number"),
        ("/dev/hidraw*", "one node with its number"),
        ("/dev/hidraw0, /dev/hidraw1", "one node with its number"),
        ("/dev/hidraw0 /dev/hidraw1", "one node with its number"),
        ("/dev/hidraw0; /dev/hidraw1", "one node with its number"),
        ("/dev/hidraw", "one node with its number"),
        ("/dev/serial0", "this is a serial port"),
        ("/dev/rfcomm0", "this is a serial port"),
        ("/dev", "is no hidraw node"),
        ("/etc/passwd", "is no hidraw node"),
        ("/dev/null", "is no hidraw node"),
        ("unix:/etc/passwd", "this one is no socket"),
        ("/dev/hidraw77/", "without a slash at the end"),
        ("/dev/hidraw77/.", "without a slash at the end"),
        ("unix:/tmp/inverter/", "not a folder"),
        ("/proc/hidraw0", SHOWN),
        ("unix:/sys/inverter", SHOWN),
        ("unix:off", "or nothing to find the inverter"),
    ],
)
def test_device_that_cannot_be_an_inverter_is_told_at_once(value, told):
    line = mistake(f"[inverter]\ndevice = {value}\n")
    assert line.startswith(
        f"{PATH}:2: device = {value}: must be /dev/hidrawN, unix:/path of a stand-in, or nothing"
    )
    assert told in line


@pytest.mark.parametrize(
    ("section", "key"),
    [("mqtt", "backlog"), ("inverter", "statefile"), ("inverter", "logfile"), ("inverter", "device")],
)
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd/x", "(Not a directory)"),
        ("/tmp/" + "x" * 256, "(File name too long)"),
        ("/tmp/no/such/" + "x" * 256, "(File name too long)"),
    ],
)
def test_path_that_can_never_be_is_told(section, key, path, why):
    assert mistake(f"[{section}]\n{key} = {path}\n").endswith(why)


@pytest.mark.parametrize(
    ("section", "key"), [("mqtt", "backlog"), ("inverter", "statefile"), ("inverter", "logfile")]
)
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/proc/x", SHOWN),
        ("/proc/new/x", SHOWN),
        ("/proc/version", SHOWN),
        ("/sys/x", SHOWN),
        ("/sys/kernel/x", SHOWN),
        ("/dev/pts/x", SHOWN),
        ("{}/to-proc", SHOWN),
        ("{}/loop", "(Too many levels of symbolic links)"),
        ("{}/new/" + "x" * 256, "(File name too long)"),
        ("{}/new/" + "x" * 256 + "/x", "(File name too long)"),
        ("{}" + 41 * ("/" + "x" * 100), "(File name too long)"),
    ],
)
def test_file_that_nobody_can_make_is_told_and_nothing_is_made(tmp_path, section, key, path, why):
    (tmp_path / "to-proc").symlink_to("/proc/x")
    (tmp_path / "loop").symlink_to("loop")
    assert mistake(f"[{section}]\n{key} = {path.format(tmp_path)}\n").endswith(why)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("section", "key", "length"), [("mqtt", "backlog", 484), ("inverter", "statefile", 4000)]
)
def test_file_has_room_for_what_is_made_beside_it(tmp_path, section, key, length):
    """SQLite takes no path of more than 504 bytes; what is damaged is set aside under a longer name."""
    fits = str(tmp_path / ("x" * 239))
    assert setting(section, key, fits) == fits
    assert mistake(f"[{section}]\n{key} = {fits}x\n").endswith("(File name too long)")
    folder = str(tmp_path)
    while len(folder) + 52 < length:
        folder += "/" + "x" * 50
    longest = folder + "/" + "x" * (length - len(folder) - 1)
    assert setting(section, key, longest) == longest
    if key == "backlog":
        assert mistake(f"[{section}]\n{key} = {longest}x\n").endswith("(File name too long)")


@pytest.mark.parametrize("device", ["/dev/tty", "/dev/kmsg", "/dev/uinput"])
def test_device_that_takes_no_log_is_told(device):
    if not os.path.exists(device):  # in a container; there is no way to tell then
        device = "/dev/tty"
    assert mistake(f"[inverter]\nlogfile = {device}\n").endswith("this device takes none")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/dev/stdout", "/dev/stderr", "/dev/fd/1"])
def test_device_that_takes_everything_may_be_the_log(device):
    assert setting("inverter", "logfile", device) == device


def test_socket_of_a_stand_in_has_a_path_that_the_kernel_takes():
    longest = "/tmp/" + "x" * 102
    assert setting("inverter", "device", f"unix:{longest}") == f"unix:{longest}"
    assert mistake(f"[inverter]\ndevice = unix:{longest}x\n").endswith("of at most 107 bytes")


def test_device_that_is_not_there_yet_may_come(tmp_path):
    assert setting("inverter", "device", "/dev/hidraw77") == "/dev/hidraw77"
    (tmp_path / "inverter").symlink_to("/dev/hidraw77")
    assert setting("inverter", "device", f"{tmp_path}/inverter") == f"{tmp_path}/inverter"


@pytest.mark.parametrize(
    ("section", "key", "most"),
    [("mqtt", "topic", 198), ("mqtt", "commandtopic", 198), ("homeassistant", "prefix", 197)],
)
def test_topic_has_no_more_levels_than_brokers_take_with_what_is_appended(section, key, most):
    longest = "a" + "/a" * most
    assert setting(section, key, longest) == longest
    told = mistake(f"[{section}]\n{key} = {longest}/a\n")
    assert told.startswith(f"{PATH}:2: {key} = a/a/")
    assert told.endswith(
        f"must be a topic with at most {most} slashes: at more levels brokers close the connection"
    )


@pytest.mark.parametrize("topic", ["/goodwe/", "goodwe/", "/goodwe", "home//goodwe", "/"])
def test_slash_too_many_in_a_topic_stays_and_is_a_warning(topic):
    settings, (warning,) = config.parse(f"[mqtt]\ntopic = {topic}\n", PATH)
    assert settings.mqtt.topic == topic, "an old file means what it meant"
    assert warning.startswith(f"{PATH}: topic = {topic} has a / too many")
    assert warning.endswith(
        " = home/goodwe is probably meant" if "home" in topic else " = goodwe is probably meant"
    )


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ("[homeassistant]\nprefix = homeassistant/\n", 1),
        ("[homeassistant]\nprefix = homeassistant/\ndiscovery = off\n", 0),
        ("[mqtt]\ncommandtopic = /c/\n", 0),
        ("[mqtt]\ncommandtopic = /c/\ncommands = on\n", 1),
    ],
)
def test_slash_too_many_is_told_of_topics_that_are_used(content, count):
    assert len(config.parse(content, PATH)[1]) == count


@pytest.mark.parametrize(
    ("key", "longest"),
    [
        ("clientid", 65435),
        ("topic", 65435),
        ("commandtopic", 65435),
        ("username", 65535),
        ("password", 65535),
    ],
)
def test_text_is_no_longer_than_a_field_of_mqtt(key, longest):
    assert len(setting("mqtt", key, "x" * longest)) == longest
    assert mistake(f"[mqtt]\n{key} = {'x' * (longest + 1)}\n").endswith(
        f"must be at most {longest} bytes long"
    )
    umlauts = "\xe4" * (longest // 2 + 1)
    assert "at most" in mistake(f"[mqtt]\n{key} = {umlauts}\n"), "bytes, not letters"


def test_every_topic_that_is_made_of_the_longest_fits():
    serial = "\u20ac" * 16
    keys = [row.key for row in fields.RUNNING] + ["backlog", "online", "limit/state", "discovery"]
    appended = [f"/{serial}/{key}" for key in keys] + [
        discovery_topic("", serial),
        f"-{serial}",
        "-discovery",
    ]
    assert max(len(text.encode()) for text in appended) <= 65535 - 65435


@pytest.mark.parametrize(
    "character", ["\x01", "\x1b", "\x7f", "\x85", "\ud800", "\ufffe", "\ufdd0", "\U0001ffff"]
)
@pytest.mark.parametrize("key", ["clientid", "username", "topic", "commandtopic"])
def test_text_that_mqtt_forbids_is_told(key, character):
    assert mistake(f"[mqtt]\n{key} = a{character}b\n").startswith(f"{PATH}:2: {key} = a")


@pytest.mark.parametrize("value", ["mqtt", "/m qtt", "/m\xe4", "", "/" + "x" * 2000])
def test_path_of_websockets_is_one(value):
    assert "must be a path such as /mqtt" in mistake(f"[mqtt]\nwebsocketpath = {value}\n")
    assert setting("mqtt", "websocketpath", "/" + "x" * 1999) == "/" + "x" * 1999


@pytest.mark.parametrize(
    ("section", "key", "lowest", "highest"),
    [
        ("mqtt", "port", 1, 65535),
        ("mqtt", "qos", 0, 2),
        ("mqtt", "valuesqos", 0, 2),
        ("mqtt", "keepalive", 5, 65535),
        ("mqtt", "valuesheartbeat", 1, 86400),
        ("mqtt", "backlogsize", 1, 100_000),
        ("mqtt", "backlogdays", 1, 3650),
        ("mqtt", "backlograte", 1, 1000),
    ],
)
def test_limits_of_numbers(section, key, lowest, highest):
    for value in (lowest, highest):
        assert setting(section, key, str(value)) == value
    for wrong in (str(lowest - 1), str(highest + 1), "-1", "", "1.0", "+1", "1e3", '"1"', "\u0661", "0x10"):
        told = mistake(f"[{section}]\n{key} = {wrong}\n")
        assert f": must be a whole number from {lowest} to {highest}" in told
        assert told.endswith("; without the quotes") == (wrong == '"1"')


def test_limits_of_the_interval_and_the_ids():
    for value, meant in (("500", 500), ("300000", 300_000), ("300001", 300_000), ("9" * 19, 300_000)):
        assert setting("inverter", "pollinterval", value) == meant
    for wrong in ("499", "9" * 20, "-500"):
        assert "must be a whole number, at least 500" in mistake(f"[inverter]\npollinterval = {wrong}\n")
    for value, meant in (("0", 0), ("ffff", 0xFFFF), ("0xFFFF", 0xFFFF)):
        assert setting("inverter", "vendorId", value) == meant
    for wrong in ("10000", "0x10000", "0x", "", "-1"):
        assert "must be up to four hexadecimal digits" in mistake(f"[inverter]\nvendorId = {wrong}\n")


def test_password_comes_out_of_its_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("p%a#s;s word\n")
    file.chmod(0o600)
    settings, warnings = config.parse(f"[mqtt]\nusername = me\npasswordfile = {file}\n", PATH)
    assert (settings.mqtt.password, warnings) == ("p%a#s;s word", [])
    assert "p%a" not in config.shown(settings)
    file.chmod(0o644)
    _, (warning,) = config.parse(f"[mqtt]\nusername = me\npasswordfile = {file}\n", PATH)
    assert warning == f"{file} can be read by everybody; chmod 600 it"
    file.write_bytes(b"\xef\xbb\xbfhunter2\r\n")
    assert parse(f"[mqtt]\npasswordfile = {file}\n").mqtt.password == "hunter2", "as Windows writes it"
    file.write_text("x" * 65535 + "\n")
    assert parse(f"[mqtt]\npasswordfile = {file}\n").mqtt.password == "x" * 65535
    file.write_text("x" * 65536)
    told = mistake(f"[mqtt]\npasswordfile = {file}\n")
    assert told.endswith("the password in it must be at most 65535 bytes long")
    file.write_bytes(b"\xff")
    assert mistake(f"[mqtt]\npasswordfile = {file}\n").endswith("(not UTF-8 text)")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("password = hunter2\n", "a password is set, but username is not"),
        ('username = me\npassword = "hunter2"\n', "quotes around a password, or a comment behind it"),
        ("username = me\npassword = hunter2 # mine\n", "quotes around a password, or a comment behind it"),
        ("username = me\npasswordfile = {empty}\n", "the password is empty: there is nothing in "),
    ],
)
def test_password_that_is_probably_not_meant_so_is_a_warning_without_it(tmp_path, content, told):
    (tmp_path / "empty").touch(0o600)
    _, (warning,) = config.parse("[mqtt]\n" + content.format(empty=tmp_path / "empty"), PATH)
    assert told in warning
    assert "hunter2" not in warning


def test_password_is_a_credential_of_systemd(tmp_path, monkeypatch):
    (tmp_path / "mqtt-password").write_text("hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert parse("[mqtt]\npasswordfile = mqtt-password\n").mqtt.password == "hunter2"


def test_discovery_never_stands_among_the_values():
    settings, (warning,) = config.parse("[mqtt]\ntopic = homeassistant\n", PATH)
    assert not settings.homeassistant.discovery
    assert "no discovery, since prefix = homeassistant is below topic = homeassistant" in warning


@pytest.mark.parametrize(
    "content", ["password = hunter2\n", "[mqtt]\n hunter2 = = [\n= hunter2\n", "[mqtt]\npassword hunter2\n"]
)
def test_no_message_about_a_malformed_file_shows_its_lines(content):
    assert "hunter2" not in mistake(content)


SECRETS = [
    "[mqtt]\nserver = mqtt://me:hunter2@host\n",
    "[mqtt]\nserver = me:hunter2@host\n",
    "[mqtt]\nserver = me:hunter2@host, me:hunter2@other\n",
    "[mqtt]\nserver = me:hun@ter2:hunter2@host\n",
    "[mqtt]\nserver = hunter2@host\n",
    "[mqtt]\nserver = me:hunter2\n",
    "[mqtt]\nserver = nas password=hunter2\n",
    "[mqtt]\nserver = nas # the password is hunter2\n",
    "[mqtt]\nport = 1883 # me:hunter2@nas\n",
    "[mqtt]\nport = 1883 ; pwd hunter2\n",
    "[mqtt]\nport = 1883 # hunter2\n",
    "[mqtt]\nserver = nas # me@hunter2\n",
    "[mqtt]\nusername = me ; hunter2\n",
    "[mqtt]\nusername = # me hunter2\n",
    "[mqtt]\ntopic = roof\t#hunter2\n",
    "[mqtt]\nclientid = x # login hunter2\n",
    "[mqtt]\ntopic = hunter2@goodwe/#\n",
    "[mqtt]\ntls = on\ncafile = /no/hunter2@x\n",
    "[inverter]\ndevice = hunter2@x\n",
    "[mqtt] password = hunter2]\n",
    "[mqtt] password = hunter2\n",
    "[mqtt] hunter2\n",
    "[mqtt password = hunter2]\n",
    "[password=hunter2]\n[password=hunter2]\n",
    "[mqtt]]hunter2]\n",
    "[hunter2]\n",
    "[mqtt]\npassword hunter2 = x\n",
    "[mqtt]\npassword hunter2: x\npassword hunter2: x\n",
    "[mqtt]\npasswordhunter = hunter2\n",
    "[mqtt]\npassword =\nhunter2==\n",
    "[mqtt]\npassword =\nhunter2==\nhunter2==\n",
    "[mqtt]\nusername = me\n  password = hunter2\n",
    "[mqtt]\npassword = a\n  hunter2\n",
    "[mqtt]\nuser@hunter2@x = 1\n",
    "[mqtt]\npasswordfile = hunter2\n",
    "[mqtt]\npasswordfile = hunter2/x\n",
    "[mqtt]\npasswordfile = p%a#s;hunter2\n",
    "[mqtt]\npasswordfile = a # hunter2\n",
    "[mqtt]\npassword = hunter2" + "x" * 65535 + "\n",
    "[mqtt]\npassword = hunter2\ud800\n",
    "hunter2\0\n",
    "[domoticz-hunter2]\n",
    "[mqtt]\ndomoticz-password hunter2 = 1\n",
]


@pytest.mark.parametrize("content", SECRETS)
def test_no_message_shows_what_may_be_a_secret(monkeypatch, content):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    told = mistake(content)
    assert "hunter" not in told
    assert told.startswith(f"{PATH}:"), "the line is named all the same"


@pytest.mark.parametrize(
    "content",
    ["topic = hunter2@goodwe/", "topic = hunter2@goodwe\n[homeassistant]\nprefix = hunter2@goodwe/x"],
)
def test_no_warning_shows_what_stands_before_an_at_sign(content):
    _, warnings = config.parse(f"[mqtt]\n{content}\n", PATH)
    assert warnings
    assert "hunter" not in "".join(warnings)


@pytest.mark.parametrize("word", ["on", "Off", "none", "FALSE", "null"])
@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("server", "enabled = off switches MQTT off"),
        ("username", "leave it empty for no login"),
        ("clientid", "leave it out for the usual one"),
        ("topic", "leave it out for the usual one"),
    ],
)
def test_switch_word_in_place_of_a_name_is_a_warning(key, word, advice):
    """There can be a host or a user of that name."""
    settings, warnings = config.parse(f"[mqtt]\n{key} = {word}\n", PATH)
    assert warnings == [f"{PATH}: {key} = {word} is taken for a name; {advice}"]
    assert getattr(settings.mqtt, key) in (word, (word,))


@pytest.mark.parametrize(
    ("section", "key", "advice"),
    [
        ("mqtt", "commandtopic", "commands is the switch, leave this out for the usual one"),
        ("homeassistant", "prefix", "discovery is the switch, leave this out for the usual one"),
        ("web", "names", "leave it empty for none"),
        ("web", "frame", "leave it empty for none"),
    ],
)
def test_switch_word_in_place_of_a_name_is_a_warning_in_every_section(section, key, advice):
    _, warnings = config.parse(f"[{section}]\n{key} = off\n", PATH)
    assert warnings == [f"{PATH}: {key} = off is taken for a name; {advice}"]


def test_no_switch_word_becomes_a_name_without_a_word():
    """A switch, refused or a warning: also in an option that comes later."""
    for name, kind in config.all_kinds().items():
        for option in kind.options():
            for word in ("on", "off"):
                with contextlib.suppress(ConfigError):
                    settings, warnings = config.parse(f"[{name}]\n{option.key} = {word}\n", PATH)
                    value = getattr(settings.sections[name], option.attribute)
                    told = any(f"{option.key} = {word} is taken for a name; " in one for one in warnings)
                    assert option.secret or isinstance(value, bool) or told, f"{option.key} = {word}"


def test_topic_of_the_brokers_own_is_a_warning():
    _, (warning,) = config.parse("[mqtt]\ntopic = $SYS/goodwe\n", PATH)
    assert (
        warning == f"{PATH}: topic = $SYS/goodwe: what begins with $ is the broker's own, and not for others"
    )


@pytest.mark.parametrize("word", ["syslog", "journal", "stdout", "STDERR", "console"])
def test_log_of_another_program_s_word_is_no_file(word):
    told = mistake(f"[inverter]\nlogfile = {word}\n")
    assert f"logfile = {word}: must be the path of a file to log to; in the foreground it logs to the" in told


@pytest.mark.parametrize("node", ["/dev/bus/usb/001/002", "/dev/input/event0", "/dev/disk/by-id/x"])
def test_device_of_another_kind_is_told_by_its_name(node):
    assert mistake(f"[inverter]\ndevice = {node}\n").endswith("; this is another kind of device")


def test_name_of_a_section_ends_at_its_first_bracket():
    assert parse("[mqtt] # the broker [at home]\nport = 1\n[inverter] ; x\n").mqtt.port == 1
    assert mistake("\n[mqtt] port = 1\n") == f"{PATH}:2: a section's [name] needs a line of its own"
    assert mistake("[mqtt]]\n") == f"{PATH}:1: a section's [name] needs a line of its own"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("# a\x0cb\x85c\u2028d\x0be\x1cf\n[mqtt]\nport = 0\n", 3),
        ("[mqtt]\n# \u2029\n\x0c\nport = 0\n", 4),
        ("[mqtt]\nusername = a\n\n# c\nport = 0\n", 5),
        ("[mqtt]\npassword = a\x85b\nport = 0\n", 3),
        ("[inverter]\nlogfile = a\n [mqtt]\n[mqtt]\nport = 0\n", 2),
        ("[homeassistant]\nprefix = a\n  [mqtt]\n  port = 0\n[mqtt]\nport = 0\n", 6),
        ("[inverter]\n[mqtt]\n  port = 0\n", 3),
        ("[inverter]\n  loglevel = INFO\n[mqtt] # x\nport : 0\n", 4),
    ],
)
def test_line_is_that_of_an_editor(content, line):
    assert mistake(content).startswith(f"{PATH}:{line}: ")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_is_the_same_with_the_ends_of_lines_of_every_system(tmp_path, end):
    file = tmp_path / "t.conf"
    file.write_bytes(end.join([b"# a\x0c", b"[mqtt]", b"", b"port = 0", b""]))
    with pytest.raises(ConfigError, match=rf"{file}:4: port = 0: "):
        config.load(str(file), required=True)
    file.write_bytes(end.join([b"# a\x0c", b"[mqtt]", b"", b"clientid = Zo\xeb", b""]))
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte \d+\) in line 4; save it as UTF-8"):
        config.load(str(file), required=True)


WIDE = {
    **dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be"), "UTF-16"),
    **dict.fromkeys(("utf-32", "utf-32-le", "utf-32-be"), "UTF-32"),
}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", WIDE)
def test_file_in_wide_characters_is_told(tmp_path, encoding, mark):
    file = tmp_path / "t.conf"
    file.write_text(f"{mark}[mqtt]\nserver = nas\n", encoding)
    with pytest.raises(ConfigError, match=f"in line 1: it is {WIDE[encoding]}; save it as UTF-8"):
        config.load(str(file), required=True)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", WIDE)
def test_password_in_wide_characters_is_told(tmp_path, encoding, mark):
    file = tmp_path / "password"
    file.write_text(f"{mark}hunter2\n", encoding)
    told = mistake(f"[mqtt]\nusername = me\npasswordfile = {file}\n")
    assert told.endswith(f"not UTF-8 text: it is {WIDE[encoding]}; save it as UTF-8)")


def test_marks_of_windows_inside_a_joined_file_are_no_text(tmp_path):
    file = tmp_path / "t.conf"
    file.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbf[inverter]\n\xef\xbb\xbf[mqtt]\nserver = nas\n")
    assert config.load(str(file), required=True)[0].mqtt.server == ("nas",)


def test_zeros_of_a_power_cut_are_told(tmp_path):
    file = tmp_path / "t.conf"
    file.write_bytes(bytes(512))
    with pytest.raises(ConfigError, match=r"t.conf:1: bytes of value 0, as after a power cut"):
        config.load(str(file), required=True)
    file.write_bytes(b"[mqtt]\n" + bytes(512))
    with pytest.raises(
        ConfigError, match=r"t.conf:2: bytes of value 0, as after a power cut; write the line anew"
    ):
        config.load(str(file), required=True)


def test_control_characters_reach_no_terminal():
    told = mistake("[mqtt]\nport = \x1b[31m\u20280\n")
    assert told.startswith(f"{PATH}:2: port = \\x1b[31m\\u20280: must be a whole number")


def test_long_value_is_shown_in_part():
    assert len(mistake("[mqtt]\nport = " + "1" * 70_000)) < 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[mqtt]\n[domoticz]\nidx = 1\n", f"{PATH}:2: [domoticz] is of another program; delete it: "),
        ("[Domoticz]\n", f"{PATH}:1: [domoticz] is of another program; delete it: "),
        ("[mqtt]\ndomoticz-topic = x\n", f"{PATH}:2: domoticz-topic is of another program; delete it: "),
        ("[inverter]\nDomoticz-Topic = x\n", f"{PATH}:2: domoticz-topic is of another program; delete it: "),
        ("[homeassistant]\ndomoticz_idx = x\n", f"{PATH}:2: domoticz_idx is of another program; delete it: "),
    ],
)
def test_settings_of_the_fork_for_domoticz_are_told_what_takes_their_place(content, told):
    line = mistake(content)
    assert line == f"{told}discovery in [homeassistant] takes its place, Domoticz reads that"


class Unreadable:
    """A path that the kernel lets nobody read, whoever runs the tests."""

    def __init__(self, monkeypatch):
        def refuse(*arguments, **options):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)


def test_file_that_we_may_not_read_is_told_with_a_remedy(tmp_path, monkeypatch):
    file = tmp_path / "t.conf"
    file.touch()
    Unreadable(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"t.conf: cannot be read: Permission denied; run this with sudo, or let"
    ):
        config.load(str(file), required=False)


def test_credential_outside_its_unit_ends_only_what_needs_it(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    content = "[mqtt]\nusername = me\npasswordfile = mqtt-password\n"
    how = "sudo systemd-run --pipe --wait -p LoadCredential=mqtt-password:/etc/goodwe.password $PWD/GoodWe.py VERB"
    assert mistake(content).endswith(how)
    settings, (warning,) = config.parse(content, PATH, to_run=False)
    assert warning.startswith(
        f"{PATH}: passwordfile = mqtt-password: the password is not known here; to run, "
    )
    assert warning.endswith(how)
    assert "passwordfile = mqtt-password\n" in config.shown(settings)


def test_unit_for_a_credential_reads_the_same_configuration(monkeypatch, tmp_path):
    """systemd-run begins in /."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    content = "[mqtt]\nusername = me\npasswordfile = mqtt-password\n"
    _, (warning,) = config.parse(content, "my house.conf", to_run=False)
    assert warning.endswith(f" $PWD/GoodWe.py --config '{tmp_path}/my house.conf' VERB")
    monkeypatch.setattr(program, "HOME", tmp_path)
    _, (warning,) = config.parse(content, PATH, to_run=False)
    assert "$PWD" not in warning, "what was installed lies somewhere else"


def test_password_file_of_another_user_ends_only_what_needs_it(tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.write_text("hunter2")
    Unreadable(monkeypatch)
    content = f"[mqtt]\nusername = me\npasswordfile = {file}\n"
    assert mistake(content).startswith(
        f"{PATH}:3: passwordfile = {file}: must be a file that can be read (Perm"
    )
    _, (warning,) = config.parse(content, PATH, to_run=False)
    assert (
        "must be a file that can be read (Permission denied; sudo helps, or chown and chmod 600)" in warning
    )


@pytest.mark.parametrize(("name", "shown"), [("mqtt-password", "mqtt-password"), ("hunter2", "***")])
def test_credential_is_shown_unless_it_may_be_the_password(monkeypatch, name, shown):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    settings, _ = config.parse(f"[mqtt]\npasswordfile = {name}\n", PATH, to_run=False)
    assert f"passwordfile = {shown}\n" in config.shown(settings)


def test_password_of_several_lines_is_a_warning(tmp_path):
    (tmp_path / "p").write_text("a\nb\n")
    (tmp_path / "p").chmod(0o600)
    settings, (warning,) = config.parse(f"[mqtt]\nusername = me\npasswordfile = {tmp_path}/p\n", PATH)
    assert settings.mqtt.password == "a\nb"
    assert "has several lines; all of them are taken for the password" in warning


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False)])
def test_file_with_a_password_that_everybody_can_read_is_a_warning(tmp_path, mode, warned):
    file = tmp_path / "t.conf"
    file.write_text("[mqtt]\nusername = me\npassword = hunter2\n")
    file.chmod(mode)
    _, warnings = config.load(str(file), required=True)
    assert [("can be read by everybody; chmod 640 it" in text) for text in warnings] == [True] * warned


def test_password_is_never_shown():
    settings = parse("[mqtt]\nusername = me\npassword = hunter2\n")
    assert f"{settings.mqtt.password} %s" % settings.mqtt.password == "*** ***"
    assert str(config.Secret("")) == ""
    assert config.Secret(settings.mqtt.password) == "hunter2"
    assert settings.mqtt.password == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in config.shown(settings)
    assert "password = ***" in config.shown(settings)
    assert repr(config.Secret("")) == "''"


def test_keys_of_the_oldest_versions_are_accepted_with_a_warning():
    _, warnings = config.parse("[inverter]\ndev = 1\nDebug = 0\n", PATH)
    assert len(warnings) == 2
    assert all("has no effect" in warning for warning in warnings)
    assert mistake("[mqtt]\ndev = 1\n")


def test_missing_file_means_the_defaults_unless_it_was_asked_for(tmp_path):
    missing = str(tmp_path / "goodwe.conf")
    assert config.load(missing, required=False)[0] == parse("")
    with pytest.raises(ConfigError, match="no such file; leave --config out"):
        config.load(missing, required=True)


def test_file_is_read_with_or_without_the_mark_that_windows_puts_in_front(tmp_path):
    file = tmp_path / "goodwe.conf"
    file.write_bytes(b"\xef\xbb\xbf[mqtt]\r\nserver = nas\r\n")
    assert config.load(str(file), required=True)[0].mqtt.server == ("nas",)


def test_file_that_cannot_be_read_is_told(tmp_path):
    file = tmp_path / "goodwe.conf"
    file.write_bytes(b"[mqtt]\nusername = Zo\xeb\n")
    with pytest.raises(ConfigError, match=r"goodwe.conf: not UTF-8 text \(byte 20\)"):
        config.load(str(file), required=True)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(str(tmp_path), required=True)


def test_shown_settings_are_a_file_with_the_same_meaning():
    settings = parse("[mqtt]\nserver = a, b\nretain = on\n[inverter]\nvendorId = ABC\nloglevel = DEBUG\n")
    assert parse(config.shown(settings)) == settings


def test_every_section_is_shown_as_a_file_with_the_same_meaning():
    for text in ("", *(f"[{name}]\n" for name in config.all_kinds())):
        settings = parse(text)
        assert parse(config.shown(settings)) == settings


def test_shipped_file_is_the_rows_and_means_the_defaults():
    shipped = (ROOT / "etc" / "goodwe.conf").read_text("utf-8")
    assert shipped == config.sample(), "write it anew: python3 -m goodwe.tools.documents"
    assert parse(shipped) == parse("")
    uncommented = "\n".join(line.removeprefix("#") if "=" in line else line for line in shipped.splitlines())
    always = uncommented.partition("\n#[")[0]
    assert parse(always) == parse("")
    others = parse(uncommented.replace("\n#[", "\n[")).sections
    for name in others.keys() - parse("").sections.keys():
        assert others[name] == parse(f"[{name}]\n").sections[name]


def test_documents_have_the_table_of_the_rows():
    assert config.table() in (ROOT / "etc" / "doc" / "configuration.md").read_text("utf-8"), (
        "write it anew: python3 -m goodwe.tools.documents"
    )


# a section of another output


TOY = '''
from dataclasses import dataclass
from goodwe.config import OutputSection, Section, option
from goodwe.config import parsers

@dataclass(frozen=True, kw_only=True)
class ToySettings(OutputSection):
    """Section [toy]."""

    NAME = "toy"

    roomnumber: int = option("7", parsers.whole(1, 9), "Where it stands.", name="roomNumber")
    apikey: parsers.Secret = option("", parsers.password, "What lets us in.", secret=True)
    apikeyfile: str = option("", parsers.password_file, "File with it.")
    tls: bool = option("off", parsers.switch, "Encrypt.")
    cafile: str = option("", parsers.existing_file, "Whom to trust.")

@dataclass(frozen=True, kw_only=True)
class ShelfSettings(Section):
    """Section [shelf]."""

    NAME = "shelf"

    boards: int = option("1", parsers.whole(1, 9), "How many.")

SECTIONS = (ToySettings, ShelfSettings)
'''


@pytest.fixture
def output(tmp_path, monkeypatch):
    """Puts an output of this text beside the others."""
    monkeypatch.setattr(outputs, "__path__", [*outputs.__path__, str(tmp_path)])
    added = []

    def add(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        added.append(f"goodwe.outputs.{name}")

    yield add
    for name in added:
        sys.modules.pop(name, None)


def test_section_of_an_output_is_there_when_the_file_has_it(output):
    output("toy", TOY)
    assert not hasattr(parse(""), "toy")
    settings, warnings = config.parse("[toy]\nroomNumber = 8\n[shelf]\n", PATH)
    assert (settings.toy.roomnumber, settings.toy.enabled, settings.shelf.boards, warnings) == (
        8,
        True,
        1,
        [],
    )
    assert "[toy]\nroomNumber = 8\napikey =\n" in config.shown(settings)
    assert parse("[shelf]\nboards = 2\n").shelf.boards == 2
    assert (
        mistake("[toy]\nroomNumber = 10\n")
        == f"{PATH}:2: roomNumber = 10: must be a whole number from 1 to 9"
    )
    assert (
        mistake("[toy]\nromNumber = 1\n") == f"{PATH}:2: unknown key romnumber in [toy]; is roomNumber meant?"
    )
    assert mistake("[toi]\n") == f"{PATH}:1: unknown section [toi]; is toy meant?"


def test_documents_have_every_section_of_every_output(output):
    output("toy", TOY)
    assert "#cafile =\n\n#[shelf]\n# How many.\n#boards = 1\n" in config.sample()
    assert "| toy | roomNumber | 7 | Where it stands. |\n" in config.table()
    assert "enabled" not in config.sample() + config.table()


def test_secrets_and_tls_of_any_section_have_their_rules(output, tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    output("toy", TOY)
    file = tmp_path / "key"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    settings, warnings = config.parse(f"[toy]\napikeyfile = {file}\n", PATH)
    assert (settings.toy.apikey, warnings) == ("hunter2", [])
    assert "hunter2" not in config.shown(settings) + repr(settings)
    both = mistake(f"[toy]\napikey = hunter2\napikeyfile = {file}\n")
    assert both == f"{PATH}:3: apikeyfile is set, and so is apikey; delete one"
    assert "must be at most 65535 bytes long" in mistake("[toy]\napikey = hunter2" + "x" * 65535)
    assert mistake(f"[toy]\ncafile = {file}\n") == f"{PATH}:2: cafile is set, but TLS is off; add tls = on"
    _, (warning,) = config.parse("[toy]\napikeyfile = name\n", PATH, to_run=False)
    assert "apikeyfile = name: the apikey is not known here" in warning
    _, (warning,) = config.parse('[toy]\napikey = "hunter2"\n', PATH)
    assert warning == f"{PATH}: quotes around a apikey, or a comment behind it, are taken as a part of it"
    written = tmp_path / "t.conf"
    written.write_text("[toy]\napikey = hunter2\n")
    written.chmod(0o644)
    assert "has a password in it" in "".join(config.load(str(written), required=True)[1])


def test_any_output_is_switched_off_in_its_section(output):
    output("toy", TOY)
    settings, warnings = config.parse("[toy]\nenabled = off\n", PATH)
    assert (settings.toy.enabled, settings.mqtt.enabled, warnings) == (False, True, [])
    assert "[toy]\nenabled = off\n" in config.shown(settings)
    assert parse(config.shown(settings)) == settings
    settings, (warning,) = config.parse("[mqtt]\nenabled = off\n", PATH)
    assert not settings.mqtt.enabled
    assert warning == f"{PATH}: every output is off; readings go nowhere"
    assert mistake("[mqtt]\nenabled = maybe\n") == f"{PATH}:2: enabled = maybe: must be on or off"
    assert mistake("[inverter]\nenabled = off\n").startswith(f"{PATH}:2: unknown key enabled in [inverter]; ")


@pytest.mark.parametrize("text", ["import nothing_like_this\n", "1 / 0\n", "pass\n"])
def test_output_that_cannot_be_loaded_is_left_out_and_said(output, text):
    output("bad", text)
    settings, (warning,) = config.parse("[bad]\nany = thing\n[mqtt]\nport = 1\n", PATH)
    assert settings.mqtt.port == 1
    assert hasattr(settings, "bad"), "for the registry, which says it in full"
    assert warning.startswith(f"{PATH}: [bad] is left out: ")
    if "nothing_like_this" in text:
        assert warning.endswith(
            "nothing_like_this is not installed; run pip install 'goodwe-usb-logger[bad]'"
        )
    assert config.shown(settings).endswith("[bad]\n")
    assert mistake("[nothing]\n").startswith(f"{PATH}:1: unknown section [nothing]; known are inverter, mqtt")


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        parse("").mqtt.port = 1
    with pytest.raises(AttributeError, match=r"no section \[web\]"):
        _ = parse("").web


MADE = (
    TOY
    + """
from goodwe.outputs import Output

class Toy(Output):
    def __init__(self, settings):
        self.settings, self.told = settings, []

    def handle(self, event):
        self.told.append(event)

    def status(self, now):
        return {"boards": self.settings.roomnumber, "told": len(self.told)}

def make(settings, context):
    return Toy(settings)
"""
)


def test_output_runs_by_what_its_section_says_and_nothing_else_is_loaded(output, monkeypatch, caplog):
    output("toy", MADE)
    output("bad", "import nothing_like_this\n")
    monkeypatch.delitem(sys.modules, "goodwe.outputs.mqtt.output", raising=False)
    settings, _ = config.parse("[toy]\nroomNumber = 3\n[mqtt]\nenabled = off\n[bad]\n", PATH)
    context = outputs.Context(Loop(lambda: 0.0), Random(1), lambda: 0.0, None, settings, 300.0)
    fanout = outputs.make_outputs(settings, context)
    fanout.handle(Offline("1006KDTU13500023", 11, "unplugged"))
    assert fanout.status(0.0) == {"toy": {"boards": 3, "told": 1}}
    assert [one["part"] for one in fanout.dropped] == ["bad"]
    assert "nothing_like_this is not installed" in caplog.text
    assert "goodwe.outputs.mqtt.output" not in sys.modules
