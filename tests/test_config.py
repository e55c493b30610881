"""Every row of the configuration; every mistake with file, line, key, value and what would be right."""

import logging
from pathlib import Path

import pytest

from goodwe import config
from goodwe.errors import ConfigError

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
    ("mqtt", "backlog"): "",
    ("mqtt", "backlogsize"): 100,
    ("mqtt", "backlogdays"): 30,
    ("mqtt", "backlograte"): 20,
    ("mqtt", "commands"): False,
    ("mqtt", "commandtopic"): "goodwe-command",
    ("mqtt", "control"): False,
    ("homeassistant", "discovery"): True,
    ("homeassistant", "prefix"): "homeassistant",
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


def mistake(content: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("section", "key"), DEFAULTS)
def test_default_is_the_contracts(section, key):
    assert getattr(getattr(parse(""), section), key) == DEFAULTS[section, key]


def test_every_option_has_a_default_in_the_contract():
    assert {(option.section, option.key.lower()) for option in config.OPTIONS} == set(DEFAULTS)


def test_old_file_means_what_it_meant():
    settings = parse(OLD_FILE)
    assert settings.inverter[:6] == (10, 2500, 0x84, 0x41, "/var/log/goodwe.log", "")
    assert settings.inverter[6:] == parse("").inverter[6:], "what is new has its default"
    assert settings.mqtt[:6] == (("192.168.2.240",), 1883, "goodwe", "goodwe-usb", "myuser", "mypasswd")
    assert settings.mqtt[6:] == parse("").mqtt[6:]


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
            f"{PATH}:2: port = 1883 # usual: must be a whole number from 1 to 65535; a comment needs a line",
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


def test_shipped_file_is_the_rows_and_means_the_defaults():
    shipped = (ROOT / "etc" / "goodwe.conf").read_text("utf-8")
    assert shipped == config.sample(), "write it anew: python3 -m goodwe.tools.documents"
    assert parse(shipped) == parse("")
    uncommented = "\n".join(line.removeprefix("#") if "=" in line else line for line in shipped.splitlines())
    assert parse(uncommented) == parse("")


def test_readme_has_the_table_of_the_rows():
    assert config.table() in (ROOT / "README.md").read_text("utf-8"), (
        "write it anew: python3 -m goodwe.tools.documents"
    )
