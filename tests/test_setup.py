"""setup: the three questions, what is tried, and what becomes of the configuration, to the byte."""

import grp
import io
import os
import pty
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodwe import config
from goodwe.config.edit import edited
from goodwe.errors import ConfigError, GoodWeError, InstallError
from goodwe.tools import setup
from goodwe.tools.doctor.checks import Machine
from goodwe.tools.install.system import System

from .broker import PATIENCE, Mosquitto, Subscriber, wait_for
from .test_program import GOODWE, ROOT, House, topic

SAMPLE = (ROOT / "etc/goodwe.conf").read_text("utf-8")
PASSWORDS = (
    *("secret", "'in quotes'", '"', "100%", "%(server)s", "#first", "a # comment", "; b", "a=b", ": c"),
    *("[mqtt]", "$HOME", "\\n", "pässwörd", "密码", "\N{BYTE ORDER MARK}x", "a\tb", "x" * 5000, "-p", "***"),
    *(" blank in front", "blank behind ", "\N{NO-BREAK SPACE}", "\x0cform feed", "in  between", "\x85"),
)


class Room:
    """A configuration in a folder, and no program that runs."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "goodwe.conf"
        self.folder = folder

    def put(self, text: str) -> None:
        self.config.write_bytes(text.encode())

    @property
    def text(self) -> str:
        return self.config.read_bytes().decode()

    @property
    def mqtt(self):
        return config.load(str(self.config), required=True)[0].mqtt

    def machine(self) -> Machine:
        def nobody(path):
            raise FileNotFoundError(path)

        return Machine(
            config_file=str(self.config), pidfile=str(self.folder / "goodwe.pid"), ask=nobody, environ={}
        )

    def __call__(self, *arguments: str, typed: str = "", test: bool = False) -> int:
        """Without a terminal; `typed` is on the standard input."""
        stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(typed.encode("utf-8", "surrogateescape")))
        try:
            return setup.main([*arguments, *([] if test else ["--no-test"])], self.machine())
        finally:
            sys.stdin = stdin


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


# --- lines of the file


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("[mqtt]\nserver = a\n", {"server": "nas"}, "[mqtt]\nserver = nas\n"),
        ("[mqtt]\n  Server:a  \n", {"server": "nas"}, "[mqtt]\n  Server = nas\n"),
        ("[mqtt]\n#server = localhost\n\n", {"server": "nas"}, "[mqtt]\n#server = localhost\nserver = nas\n\n"),
        ("[mqtt]\n; server = a\n#server = b", {"server": "c"}, "[mqtt]\n; server = a\n#server = b\nserver = c"),
        ("[mqtt]\ntopic = t\n", {"server": "nas"}, "[mqtt]\nserver = nas\ntopic = t\n"),
        ("[mqtt]\n  topic = t\n", {"server": "nas"}, "[mqtt]\n  server = nas\n  topic = t\n"),
        ("[mqtt]\n  topic = t\n#server = a\n qos = 1\n", {"server": "b"},
         "[mqtt]\n  topic = t\n#server = a\n  server = b\n qos = 1\n"),
        ("[mqtt]\r\nqos = 1\r\n", {"server": "nas"}, "[mqtt]\r\nserver = nas\r\nqos = 1\r\n"),
        ("\ufeff[mqtt]\r\nserver = a", {"server": "nas"}, "\ufeff[mqtt]\r\nserver = nas"),
        ("[mqtt]", {"server": "nas", "port": "1884"}, "[mqtt]\nserver = nas\nport = 1884"),
        ("", {"server": "nas"}, "[mqtt]\nserver = nas\n"),
        ("[inverter]", {"server": "nas"}, "[inverter]\n\n[mqtt]\nserver = nas\n"),
        ("[inverter]\r\n", {"server": "nas", "password": None}, "[inverter]\r\n\r\n[mqtt]\r\nserver = nas\r\n"),
        ("[mqtt]\npassword = x\n", {"password": None}, "[mqtt]\n#password = x\n"),
        ("[mqtt]\npassword = x\n", {"password": ""}, "[mqtt]\npassword =\n"),
        ("[mqtt]\npassword = a=b:c\n", {"password": "d = e"}, "[mqtt]\npassword = d = e\n"),
        ("[web]\n#server = x\n[mqtt]\n[homeassistant]\n#server = y\n", {"server": "nas"},
         "[web]\n#server = x\n[mqtt]\nserver = nas\n[homeassistant]\n#server = y\n"),
        ("#[mqtt]\n#server = x\n", {"server": "nas"}, "#[mqtt]\n#server = x\n\n[mqtt]\nserver = nas\n"),
        ("[mqtt]\rserver = a\r", {"server": "nas"}, "[mqtt]\rserver = nas\r"),
    ],
)  # fmt: skip
def test_only_these_lines_change(before, values, after):
    assert edited(before, "mqtt", values) == after


@given(st.lists(st.sampled_from([
    "[mqtt]", "[inverter]", "server = a", " server = b", "#server = c", "topic = t", "  qos = 1", "", "# x",
    "user = ", "\ufeff# y", "[homeassistant]", "  ", "; server: d",
]), max_size=9), st.sampled_from(["\n", "\r\n", "\r"]))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_whatever_form_a_file_has_it_is_changed_rightly_or_refused(tmp_path_factory, lines, end):
    room = Room(tmp_path_factory.mktemp("setup"))
    before = end.join(lines)
    room.put(before)
    try:
        present = config.load(str(room.config), required=True)[0]
        assert room("--server", "nas") == 0
    except GoodWeError:
        assert room.text == before
        return
    after = config.load(str(room.config), required=True)[0]
    assert after.mqtt.server == ("nas",)
    assert after.inverter == present.inverter
    kept = [line for line in before.splitlines() if "server" not in line or line[0] in "#;"]
    assert [line for line in room.text.splitlines() if "server = nas" not in line and line != "[mqtt]"] == [
        line for line in kept if line != "[mqtt]"
    ] or "" in room.text.splitlines()


def test_sample_keeps_every_line(room):
    room.put(SAMPLE)
    assert room("--server", "nas", "--username", "sun", "--password-stdin", typed="shine\n") == 0
    written = room.text.splitlines()
    assert [line for line in written if line not in SAMPLE.splitlines()] == [
        *("server = nas", "username = sun", "password = shine")
    ]
    assert written[written.index("server = nas") - 1] == "#server = localhost"
    assert [line for line in written if line in SAMPLE.splitlines()] == SAMPLE.splitlines()


def test_without_a_file_the_sample_is_written(room):
    assert room("--server", "nas") == 0
    assert room.text == SAMPLE.replace("#server = localhost\n", "#server = localhost\nserver = nas\n")
    assert stat.S_IMODE(room.config.stat().st_mode) == 0o640


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_is_read_back_as_it_was_given(room, password):
    room.put(SAMPLE)
    assert room("--username", "sun", "--password-stdin", typed=f"{password}\n") == 0
    assert str.__str__(room.mqtt.password) == password
    assert (room.mqtt.passwordfile != "") == (password != password.strip())
    assert room("--username", "sun", "--password-stdin", typed="another\r\n") == 0
    assert str.__str__(room.mqtt.password) == "another"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_may_be_a_password(tmp_path_factory, password):
    room = Room(tmp_path_factory.mktemp("setup"))
    room.put("[mqtt]\nserver = nas\n")
    assert room("--username", "sun", "--password-stdin", typed=password) == 0
    assert str.__str__(room.mqtt.password) == password


def test_empty_password_and_no_user(room):
    room.put("[mqtt]\nusername = sun\npassword = shine\n")
    assert room("--username", "sun", "--password-stdin", typed="\n") == 0
    assert (room.mqtt.username, str.__str__(room.mqtt.password)) == ("sun", "")
    room.put("[mqtt]\nusername = sun\npassword = shine\n")
    assert room("--username", "") == 0
    assert room.text == "[mqtt]\nusername =\npassword =\n"


def test_what_is_not_said_stays(room):
    before = "[mqtt]\nserver = a, b\nport = 1884\nusername = sun\npassword = shine\nqos = 1\n"
    room.put(before)
    assert room("--server", "nas") == 0
    assert room.text == before.replace("a, b", "nas")
    assert room("--server", "a,b", "--port", "8883") == 0
    assert (room.mqtt.server, room.mqtt.port, str.__str__(room.mqtt.password)) == (("a", "b"), 8883, "shine")


def test_what_is_there_already_is_not_written_again(room, capsys):
    room.put("[mqtt]\nserver = nas\n")
    before = room.config.stat()
    assert room("--server", "nas", "--port", "1883", "--username", "") == 0
    assert room.config.stat().st_ino == before.st_ino
    assert f"{room.config} says so already.\n" in capsys.readouterr().out


def test_password_file_of_the_configuration_gets_the_new_password(room):
    file = room.folder / "password"
    file.write_text("old\n")
    file.chmod(0o600)
    room.put(f"[mqtt]\nusername = sun\npasswordfile = {file}\n")
    before = room.text
    assert room("--password-stdin", typed="new\n") == 0
    assert (room.text, file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (before, "new\n", 0o600)
    assert room("--server", "nas") == 0
    assert file.read_text() == "new\n"


def test_credential_of_the_unit_makes_way_for_a_password(room):
    room.put("[mqtt]\nusername = sun\npasswordfile = mqtt-password\n")
    assert room("--password-stdin", typed="new") == 0
    assert room.text == "[mqtt]\npassword = new\nusername = sun\n#passwordfile = mqtt-password\n"


def test_file_for_a_password_with_blanks_is_closed_and_no_other_is_overwritten(room):
    room.put("[mqtt]\nusername = sun\n")
    room.config.chmod(0o644)
    assert room("--password-stdin", typed=" x ") == 0
    file = room.folder / "goodwe.password"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (" x \n", 0o640)
    room.put("[mqtt]\nusername = sun\n")
    with pytest.raises(ConfigError, match="is there already"):
        room("--password-stdin", typed=" y ")
    assert (room.text, file.read_text()) == ("[mqtt]\nusername = sun\n", " x \n")


@pytest.mark.parametrize(
    ("arguments", "typed", "told"),
    [
        (["--server", "mqtt://nas"], "", "server = mqtt://nas: must be a host name or address"),
        (["--server", "nas:1884"], "", "the port has its own key"),
        (["--server", ""], "", "must be a host name"),
        (["--port", "x"], "", "port = x: must be a whole number from 1 to 65535"),
        (["--username", "'sun'"], "", "must be the bare text"),
        (["--username", "sun # mine"], "", "must be alone on its line"),
        (["--username", "a\nport = 7"], "", "has a form in which nothing can be changed"),
        (["--password-stdin"], "a\nb\n", "several lines"),
        (["--password-stdin"], "x" * 65_536, "at most 65535 bytes long"),
        (["--password-stdin"], "\udcff", "not UTF-8"),
        (["--username", "m\udcfcller"], "", "username must be UTF-8 text"),
        (["--server", "nas\udcff"], "", "server must be UTF-8 text"),
    ],
)
def test_answer_that_cannot_be_one_is_told_and_nothing_is_written(room, arguments, typed, told):
    room.put("[mqtt]\nserver = a\nusername = u\n")
    before = room.text
    with pytest.raises(GoodWeError) as caught:
        room(*arguments, typed=typed)
    assert told in str(caught.value)
    assert room.text == before


def test_mistake_in_what_is_asked_for_is_mended_and_another_is_told(room):
    room.put("[mqtt]\nserver = mqtt://nas\nport = none\nqos = 1\n")
    assert room("--server", "nas") == 0
    assert room.text == "[mqtt]\n#server = mqtt://nas\nserver = nas\n#port = none\nqos = 1\n"
    room.put("[mqtt]\nserver = mqtt://nas\nqos = 7\n")
    with pytest.raises(ConfigError, match=r"goodwe.conf:3: qos = 7: must be"):
        room("--server", "nas")
    assert room.text == "[mqtt]\nserver = mqtt://nas\nqos = 7\n"


def test_link_stays_and_its_target_is_changed(room, tmp_path):
    target = tmp_path / "elsewhere" / "mine.conf"
    target.parent.mkdir()
    target.write_text("[mqtt]\n")
    room.config.symlink_to(target)
    assert room("--server", "nas") == 0
    assert room.config.is_symlink()
    assert target.read_text() == "[mqtt]\nserver = nas\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644])
def test_owner_and_rights_stay(room, mode):
    room.put("[mqtt]\n")
    group = grp.getgrall()[-1].gr_gid
    os.chown(room.config, 1234, group)
    room.config.chmod(mode)
    assert room("--server", "nas", "--username", "sun", "--password-stdin", typed="x") == 0
    found = room.config.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, group, mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_password_that_needs_a_file_is_for_the_user_of_the_service(room, monkeypatch):
    """Beside a configuration that everybody may read: its own group is root's."""
    group = grp.getgrall()[-1]
    monkeypatch.setattr(setup, "SERVICE_USER", group.gr_name)
    room.put("[mqtt]\n")
    os.chown(room.config, 0, 0)
    room.config.chmod(0o644)
    assert room("--username", "sun", "--password-stdin", typed=" x ") == 0
    found = os.stat(room.mqtt.passwordfile)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, group.gr_gid, 0o640)


def test_password_that_everybody_can_read_is_told(room, capsys):
    room.put("[mqtt]\n")
    room.config.chmod(0o644)
    room("--username", "sun", "--password-stdin", typed="x")
    assert "has a password in it and can be read by everybody; chmod 640 it" in capsys.readouterr().err


def test_folder_that_cannot_be_written_to_is_told_before_anything_is_asked(room, monkeypatch):
    """As where /etc is read-only."""
    room.put("[mqtt]\n")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(
        setup.SetupError, match=r"goodwe.conf: cannot be written: permission denied; run this with"
    ):
        room("--server", "nas")
    monkeypatch.undo()
    room.config = room.folder / "nowhere" / "goodwe.conf"
    with pytest.raises(setup.SetupError, match="there is no folder"):
        room("--server", "nas")


def test_disk_that_is_full_leaves_both_files_as_they_were(room, monkeypatch):
    file = room.folder / "password"
    file.write_text("old\n")
    room.put(f"[mqtt]\nusername = sun\npasswordfile = {file}\n")
    before, write = room.text, System.write

    def full(self, path, *arguments, **options):
        if path == str(room.config):
            raise InstallError(f"{path}: no space is left")
        write(self, path, *arguments, **options)

    monkeypatch.setattr(System, "write", full)
    with pytest.raises(InstallError):
        room("--server", "nas", "--password-stdin", typed="new\n")
    assert (room.text, file.read_text()) == (before, "old\n")
    room.put("[mqtt]\nusername = sun\n")
    with pytest.raises(InstallError):
        room("--password-stdin", typed=" new ")
    assert {path.name for path in room.folder.iterdir()} == {"goodwe.conf", "password"}


# --- with a broker


def secured(folder: Path, acl: str = "topic readwrite #\n") -> Mosquitto:
    """A broker with the users sun (password shine) and blind (password night), who may not write."""
    passwords, rights = folder / "passwords", folder / "acl"
    passwords.touch(mode=0o600)
    for user, password in (("sun", "shine"), ("blind", "night"), ("odd", ' %#;=" ü ')):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, password], check=True, timeout=60)
    rights.write_text(f"user sun\n{acl}user odd\ntopic readwrite #\nuser blind\ntopic read #\n")
    lines = f"allow_anonymous false\npassword_file {passwords}\nacl_file {rights}\n"
    return Mosquitto(folder, lines=lines).start()


@pytest.fixture
def broker(tmp_path_factory):
    running = secured(tmp_path_factory.mktemp("broker"))
    yield running
    running.stop()


def local(broker: Mosquitto) -> str:
    return f"[mqtt]\nserver = 127.0.0.1\nport = {broker.port}\n"


@pytest.mark.parametrize(("user", "password"), [("sun", "shine"), ("odd", ' %#;=" ü ')])
def test_login_that_works_is_tried_and_written(room, broker, capsys, user, password):
    room.put(local(broker))
    assert room("--username", user, "--password-stdin", typed=password, test=True) == 0
    said = capsys.readouterr().out
    assert "OK    login          127.0.0.1 lets us in\n" in said
    assert "OK    publish        it lets us publish below goodwe\n" in said
    assert "goodwe.conf is written.\nTo start the program: " in said
    assert password not in said
    assert str.__str__(room.mqtt.password) == password


@pytest.mark.parametrize(
    ("arguments", "typed", "told"),
    [
        (
            ["--username", "sun"],
            "wrong",
            "login          it refuses us; check username and password in [mqtt]",
        ),
        (["--username", "blind"], "night", "publish        it does not let us publish at goodwe/setup/test"),
        (["--server", "no-such-host.invalid"], "", "broker-name    no-such-host.invalid: not known"),
        (["--port", "1"], "", "broker-port    nothing listens at 127.0.0.1:1"),
    ],
)
def test_what_the_broker_does_not_take_is_told_in_the_doctors_words_and_not_written(
    room, broker, capsys, arguments, typed, told
):
    room.put(local(broker))
    before = room.text
    with pytest.raises(setup.SetupError, match="nothing was written; --no-test"):
        room(*arguments, "--password-stdin", typed=typed, test=True)
    assert f"FAIL  {told}" in capsys.readouterr().out
    assert room.text == before
    assert room(*arguments, "--password-stdin", typed=typed) == 0
    assert room.text != before


def test_nobody_hears_of_the_try(room, broker):
    """But for a message that is empty, not kept, and on no topic that is read."""
    room.put(local(broker))
    subscriber = Subscriber(broker.port, "goodwe/+/data", username="sun", password="shine")
    assert room("--username", "sun", "--password-stdin", typed="shine", test=True) == 0
    subscriber.nothing(0.3)
    subscriber.close()
    late = Subscriber(broker.port, username="sun", password="shine")
    late.nothing(0.3)
    late.close()


# --- as a process


def command(room: Room, *arguments: str) -> list[str]:
    where = ["--config", str(room.config), "--pidfile", str(room.folder / "goodwe.pid")]
    return [sys.executable, GOODWE, *where, "setup", *arguments]


def test_without_a_terminal_and_without_options_nothing_is_written(room):
    room.put("[mqtt]\n")
    done = subprocess.run(
        command(room), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "nobody can be asked here: add --server, --username and --password-stdin" in done.stderr
    assert room.text == "[mqtt]\n"


def test_password_is_no_option(room):
    room.put("[mqtt]\n")
    done = subprocess.run(
        command(room, "--password", "shine"), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert room.text == "[mqtt]\n"


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, room: Room, *arguments: str) -> None:
        self.seen = ""
        self._ours, theirs = pty.openpty()
        words = ["setsid", "--ctty", *command(room, *arguments)]
        self._process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)

    def until(self, text: str) -> None:
        wait_for(lambda: text in self.seen or self._read(), f"{text!r} in {self.seen!r}")
        assert text in self.seen, self.seen
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode("utf-8", "surrogateescape"))

    def wait(self) -> int:
        wait_for(self._read, "its end", 60.0)
        os.close(self._ours)
        return self._process.wait(PATIENCE)

    def _read(self) -> bool:
        """Take what it has said; True when it has ended."""
        if not select.select([self._ours], [], [], 0.0)[0]:
            return False
        try:
            self.seen += os.read(self._ours, 4096).decode(errors="replace")
        except OSError:
            return True
        return False


def test_three_questions_and_again_what_was_wrong(room, broker):
    room.put(f"# mine\n[mqtt]\nport = {broker.port}\n")
    terminal = Terminal(room)
    terminal.until("Host of the broker [localhost]: ")
    terminal.type("mqtt://127.0.0.1\n")
    terminal.until("User name at the broker, - for none [none]: ")
    terminal.type("sun\n")
    terminal.until("Password of sun, - for none [none]: ")
    terminal.type("wrong\n")
    terminal.until("must be a host name or address")
    terminal.until("Host of the broker")
    terminal.type("127.0.0.1\n")
    terminal.until("User name at the broker, - for none [sun]: ")
    terminal.type("\n")
    terminal.until("Password of sun, - for none [as just typed]: ")
    terminal.type("\n")
    terminal.until("FAIL  login")
    terminal.until("Once more; Ctrl-C leaves everything as it was.")
    assert room.text == f"# mine\n[mqtt]\nport = {broker.port}\n"
    terminal.until("Host of the broker [127.0.0.1]: ")
    terminal.type("\n")
    terminal.until("[sun]: ")
    terminal.type("\n")
    terminal.until("[as just typed]: ")
    terminal.type("shine\n")
    assert terminal.wait() == 0
    assert "shine" not in terminal.seen
    assert "OK    login" in terminal.seen
    assert room.text == (
        f"# mine\n[mqtt]\nserver = 127.0.0.1\nusername = sun\npassword = shine\nport = {broker.port}\n"
    )


def test_wrong_option_is_told_before_anything_is_asked(room):
    """No answer could put it right: it would be asked for ever."""
    room.put("[mqtt]\n")
    terminal = Terminal(room, "--port", "x")
    terminal.until("port = x: must be a whole number")
    assert terminal.wait() == 2
    assert "Host of the broker" not in terminal.seen
    assert room.text == "[mqtt]\n"


def test_bytes_that_are_no_text_are_asked_for_again(room):
    """A terminal in Latin-1."""
    room.put("[mqtt]\n")
    terminal = Terminal(room, "--username", "")
    terminal.until("Host of the broker [localhost]: ")
    terminal.type("n\udce4s\n")
    terminal.until("UTF-8 text")
    terminal.until("Host of the broker")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.seen
    assert room.text == "[mqtt]\n"


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 1)])
def test_who_goes_away_leaves_all_as_it_was(room, key, code):
    room.put("[mqtt]\n")
    terminal = Terminal(room)
    terminal.until("Host of the broker [localhost]: ")
    terminal.type("nas\n")
    terminal.until("User name")
    terminal.type(key)
    assert terminal.wait() == code
    assert "Traceback" not in terminal.seen
    assert room.text == "[mqtt]\n"


def test_present_values_stay_by_enter(room, broker):
    before = f"{local(broker)}username = sun\npassword = shine\n"
    room.put(before)
    terminal = Terminal(room)
    for question in ("[127.0.0.1]: ", "[sun]: ", "[as it is]: "):
        terminal.until(question)
        terminal.type("\n")
    assert terminal.wait() == 0
    assert "says so already" in terminal.seen
    assert room.text == before


def test_running_program_reads_it_at_once(tmp_path, broker):
    house = House(tmp_path, broker.port)
    house.config.write_text(house.config.read_text().replace("[mqtt]\n", "[mqtt]\nusername = sun\n"))
    house.config.chmod(0o640)
    house.simulate()
    house("start")
    try:
        where = ["--config", str(house.config), "--pidfile", str(house.pidfile)]
        done = subprocess.run(
            [sys.executable, GOODWE, *where, "setup", "--username", "sun", "--password-stdin"],
            input="shine\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "[mqtt] password has changed\n" in done.stdout
        subscriber = Subscriber(broker.port, username="sun", password="shine")
        subscriber.until(topic("online"), "1")
        subscriber.close()
        assert "shine" not in house.log.read_text()
    finally:
        house("stop")
        house.end()
