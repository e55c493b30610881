"""`bundle`: all that it has in it, all that it has not, and what it says before it writes."""

import base64
import gzip
import io
import json
import os
import pty
import re
import socket
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from goodwe.config import sample
from goodwe.protocol.frame import Splitter, frame
from goodwe.tools import bundle, captures, decode
from goodwe.tools.bundle import BundleError, Gathered, anonymous, gathered, listing
from goodwe.tools.doctor.checks import Machine
from goodwe.tools.masking import MASK, Masker, files_with_secrets, secrets_in

from .broker import free_port, wait_for
from .test_capture import Terminal
from .test_program import GOODWE, SERIAL, House

GOLDEN = Path(__file__).parent / "golden"
CANARY = "Cänary%57#\"x'y"
"""A password with all that is escaped anywhere."""
LOGIN = "canary-login"
FORMS = [
    CANARY.encode(), json.dumps(CANARY)[1:-1].encode(), quote(CANARY).encode(), quote(CANARY, safe="").encode(),
    base64.b64encode(CANARY.encode()).rstrip(b"="), CANARY.encode().hex().encode(), repr(CANARY)[1:-1].encode(),
    base64.b64encode(f"{LOGIN}:{CANARY}".encode()).rstrip(b"="), LOGIN.encode(),
]  # fmt: skip


class Place:
    """A machine of files, with nothing of a real one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = None
        self.journal_told = ...
        """Said in place of it; ... for nothing else."""
        self.asked = []
        self.status = None
        for folder in ("etc", "var/log", "var/lib", "run", "proc", "sys", "dev"):
            (root / folder).mkdir(parents=True)

    def write(self, path, content):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content)
        return file

    def machine(self, **options):
        return Machine(
            config_file=None,
            pidfile="/run/goodwe.pid",
            program=GOODWE,
            root=str(self.root),
            run=self._run,
            ask=self._ask,
            **options,
        )

    def _run(self, command):
        if command[0] == "journalctl":
            return self.journal if self.journal_told is ... else self.journal_told
        return "active\n" if self.journal else None

    def _ask(self, path):
        if self.status is None:
            raise FileNotFoundError(path)
        return self.status

    def files(self, **options):
        found = gathered(self.machine(**options))
        return {file.name: file.text for file in found.files}, dict(found.left_out)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "root")


def unpacked(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def assert_no_canary(files, *canaries):
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        for canary in canaries or FORMS:
            assert canary not in content, f"{canary!r} is in {name}"


# secrets


CONFIGURATION = f"""\
# my broker is nas, the password was {CANARY} until May
; {LOGIN} is the login
# {CANARY}
# mqtt://{LOGIN}:{quote(CANARY)}@nas:1883
[inverter]
pollinterval = 2500
#password = {CANARY}

[mqtt]
# Broker's host; several with the same port, separated by commas, are tried in turn.
server = nas
username = {LOGIN}
password = {CANARY}
topic = home/solar
"""


def test_canary_is_in_no_byte_of_a_bundle_whatever_it_stands_in(place, tmp_path):
    place.write("etc/goodwe.conf", CONFIGURATION)
    log = (
        f"2026-11-25 10:00:00,000 run(48) - INFO: Connected to MQTT nas as {LOGIN}\n"
        f"2026-11-25 10:00:00,000 run(48) - DEBUG: mqtt://{LOGIN}:{quote(CANARY)}@nas, {json.dumps({'password': CANARY})}\n"
        f"Traceback: Settings(password={CANARY!r}, username='{LOGIN}')\n"
        f"Authorization: Basic {base64.b64encode(f'{LOGIN}:{CANARY}'.encode()).decode()}\n"
        f"password={CANARY}\n{CANARY}\n"
    )
    place.write("var/log/goodwe.log", log * 20)
    place.write("var/log/goodwe.log.1", log)
    place.write("var/log/goodwe.log-20261124.gz", gzip.compress(log.encode()))
    place.write(
        "etc/systemd/system/goodwe.service", f"[Service]\nEnvironment=PASSWORD={CANARY}\nUser=goodwe\n"
    )
    place.write(
        "etc/systemd/system/goodwe.service.d/own.conf",
        f"[Service]\nExecStartPre=curl http://{LOGIN}:{CANARY}@nas/\n",
    )
    (place.root / "run/systemd/system").mkdir(parents=True)
    place.journal = log
    place.status = {
        "version": 1,
        "program": {
            "version": "1.0.0",
            "pid": 1,
            "configuration": CANARY,
            "warnings": [f"password {CANARY}"],
        },
        "inverters": {},
    }
    path = tmp_path / "b.tar.gz"
    out = io.StringIO()
    assert bundle.main([str(path), "--yes"], place.machine(), out=out) == 0
    files = unpacked(path.read_bytes())
    names = {name.removeprefix("b/") for name in files}
    assert names >= {
        "doctor.json", "status.json", "configuration.conf", "log/goodwe.log", "log/goodwe.log.1",
        "log/goodwe.log-20261124.gz", "log/journal.log", "versions.txt",
        "installed/etc/systemd/system/goodwe.service", "installed/etc/systemd/system/goodwe.service.diff",
        "installed/etc/systemd/system/goodwe.service.d/own.conf",
    }  # fmt: skip
    assert_no_canary(files)
    assert_no_canary({"listing": out.getvalue()})
    assert b"User=goodwe" in files["b/installed/etc/systemd/system/goodwe.service"], (
        "no secret, and worth to know"
    )
    text = files["b/configuration.conf"].decode()
    assert text.splitlines()[-5:] == [
        "# Broker's host; several with the same port, separated by commas, are tried in turn.",
        "server = nas", f"username = {MASK}", f"password = {MASK}", "topic = home/solar",
    ]  # fmt: skip
    assert text.startswith(f"# my broker is nas, the pass {MASK}\n")


@pytest.mark.parametrize(
    "settings",
    [
        "[mqtt]\nsever = {}\n",
        "[mqtt]\npasword = {}\n",
        "[mqtt]\nserver = nas\n  {}\n",
        "[mqtt]\npassword: {}\n",
        "[mqtt]\n{}\n",
        "{}\n",
        "[{}]\n",
        "[mqtt] {}\n",
        "[mqtt]\nserver = me:{}@nas\n",
        "[mqtt]\npasswordfile = {}\n",
        "[mqtt]\npassword =\n {}\n",
        "[mqtt]\nPASSWORD\t=\t{}   \n",
        "[other]\ntoken = {}\nwebhook = https://x/{}\n",
        "[mqtt]\nserver = nas # {}\n",
        "[mqtt]\npassword = a\npassword = {}\n",
        "[mqtt]\r\npassword = {}\r\n",
        "\ufeff[mqtt]\npassword = {}\n",
        "# Passwort: {}\n# Kennwort {}\n# login {}\n# x@{} and {}@nas\n",
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n-----END RSA PRIVATE KEY-----\n",
    ],
)
@pytest.mark.parametrize("canary", ["Canary57x", "canary%57 # x"])
def test_canary_in_a_broken_or_strange_configuration(settings, canary, place):
    if "nas # {}" in settings:
        canary = canary.partition(" ")[0]
    text = settings.replace("{}", canary)
    place.write("etc/goodwe.conf", text)
    place.write("var/log/goodwe.log", "x(1) - INFO: started\n")
    files, _ = place.files()
    assert_no_canary(files, canary.encode())


def test_configuration_that_is_no_text_is_masked_all_the_same(place):
    place.write("etc/goodwe.conf", "[mqtt]\npassword = Canary57x\n".encode("utf-16"))
    files, _ = place.files()
    assert f"password = {MASK}" in files["configuration.conf"]
    assert_no_canary(files, b"Canary57x", "Canary57x".encode("utf-16-le"))
    place.write("etc/goodwe.conf", b"[mqtt]\npassword = \xff\xfeCanary57x\n\0\0")
    files, _ = place.files()
    assert_no_canary(files, b"Canary57x")


def test_secrets_in_files_of_their_own_are_known(place):
    file = place.write("etc/mqtt.password", "FileCanary!\n")
    credential = place.write("run/credentials/goodwe.service/mqtt-password", "CredentialCanary!\n")
    loaded = place.write("etc/loaded.password", "LoadedCanary!\n")
    key = place.write("etc/key.pem", "-----BEGIN PRIVATE KEY-----\nKeyCanary\n-----END PRIVATE KEY-----\n")
    place.write("etc/systemd/system/goodwe.service", "[Service]\nLoadCredential=x:/etc/loaded.password\n")
    place.write(
        "etc/goodwe.conf",
        "[mqtt]\nusername = me\npasswordfile = /etc/mqtt.password\n[other]\npasswordfile = mqtt-password\nkeyfile = /etc/key.pem\n",
    )
    place.write("var/log/goodwe.log", "\n".join(each.read_text() for each in (file, credential, loaded, key)))
    files, _ = place.files()
    assert_no_canary(files, b"FileCanary!", b"CredentialCanary!", b"LoadedCanary!", b"KeyCanary")
    assert "passwordfile = /etc/mqtt.password" in files["configuration.conf"], "where it is, is no secret"


def test_what_everybody_has_is_no_secret_wherever_else_it_stands():
    """A login called goodwe would else take the topic, the unit and each path away."""
    masker = Masker(["goodwe", "ab"], public="User=goodwe\n")
    assert masker("goodwe.service at /opt/goodwe, cab ab") == f"goodwe.service at /opt/goodwe, cab {MASK}"
    assert masker.configuration("[mqtt]\nusername = goodwe") == f"[mqtt]\nusername = {MASK}"


def test_sample_file_is_kept_whole():
    assert Masker([]).configuration(sample()) == sample()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("the broker refuses the login: bad user name or password", None),
        ("passwordfile = /etc/x: must be a file", None),
        ('{"username": null, "password": ""}', None),
        ("mqtts://me:secret@nas:8883/x", f"mqtts://{MASK}@nas:8883/x"),
        ("token=abc, next", f"token={MASK}, next"),
        ("{'password': 'a b', 'x': 1}", f"{{'password': {MASK}, 'x': 1}}"),
        ("-----BEGIN EC PRIVATE KEY-----\nMIG", MASK),
    ],
)
def test_what_is_masked_in_a_log(text, masked):
    assert Masker([])(text) == (masked or text)


def test_secrets_of_a_text():
    assert secrets_in("[mqtt]\npassword = 'x y'\n#token: z\n# amqp://a:b%20c@d\n") == {
        "'x y'", "x y", "z", "a", "b%20c", "b c",
    }  # fmt: skip
    assert files_with_secrets("passwordfile = /a\n# keyfile = /b\nlogfile = /c\n") == ["/a", "/b"]


@pytest.mark.parametrize("mark", ["\f", "\x85", "\u2028"])
def test_secret_goes_on_to_the_end_of_its_line(mark):
    """It does for the configuration; what stood behind such a character was not masked."""
    text = f"[mqtt]\rpassword = summer{mark}winter\r\n#token: z"
    assert secrets_in(text) == {f"summer{mark}winter", "summer", "z"}
    assert Masker(secrets_in(text))(f"summer and winter, summer{mark}winter") == f"{MASK} and {MASK}, {MASK}"
    assert files_with_secrets(f"passwordfile = a{mark}b\rkeyfile=c") == [f"a{mark}b", "c"]


# what is in it


def test_bundle_needs_nothing_to_be_there(place):
    files, left_out = place.files()
    assert set(files) == {"summary.txt", "versions.txt", "doctor.txt", "doctor.json"}
    assert left_out == {
        "status": "no program runs, or it does not answer this user",
        "configuration": "No such file or directory",
        "log": "there is neither /var/log/goodwe.log nor a journal of the unit",
        "traffic before the last losses": "no program runs, or it does not answer this user",
        "unit and rule": "neither unit nor rule is installed",
    }
    assert re.match(r"program 1\.\S+.*\npython 3\.\d+\.\d+ at ", files["versions.txt"])
    assert "\nkernel Linux " in files["versions.txt"]
    assert json.loads(files["doctor.json"])["checks"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_left_out(place):
    place.write("etc/goodwe.conf", "[mqtt]\n").chmod(0)
    _, left_out = place.files()
    assert left_out["configuration"] == "this user may not read it; run with sudo"


def test_one_entry_that_fails_costs_no_other(place, monkeypatch):
    def broken(machine):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(bundle, "ENTRIES", (bundle.BundleEntry("broken", broken), *bundle.ENTRIES))
    files, left_out = place.files()
    assert left_out["broken"] == "ZeroDivisionError: a defect"
    assert "versions.txt" in files


def test_nothing_is_begun_when_no_time_is_left(place):
    times = iter([0.0, 1.0, *[bundle.TIME_LEFT_AT + 1] * 20])
    found = gathered(place.machine(), clock=lambda: next(times))
    assert [file.name for file in found.files] == ["summary.txt", "versions.txt"]
    assert {why for _, why in found.left_out} == {"no time left"}


def test_only_the_end_of_a_long_log_in_whole_lines(place, monkeypatch):
    monkeypatch.setattr(bundle, "LOG_BYTES", 1000)
    place.write("var/log/goodwe.log", "".join(f"line {n}\n" for n in range(5000)))
    files, _ = place.files()
    kept = files["log/goodwe.log"]
    assert len(kept) <= 1000
    assert kept.endswith("line 4998\nline 4999\n")
    assert re.match(r"line \d{4}\n", kept)


LOG = "".join(
    f"2026-11-26 0{n}:00:00,000 tell(1) - {level}: {text}\n"
    for n, (level, text) in enumerate(
        [("INFO", "started"), ("WARNING", "broker nas: password = Canary57"), *[("INFO", "well")] * 6]
    )
)


def test_summary_stands_in_front_and_names_what_is_wrong(place):
    place.status = json.loads((GOLDEN / "status.json").read_text())
    place.write("etc/goodwe.conf", "# mine\n[mqtt]\n\nserver = nowhere.invalid\npassword = Canary57\n")
    place.write("var/log/goodwe.log", LOG)
    found = gathered(place.machine(uid=0), now=lambda: 1_795_662_000.0)
    name, about, text, _ = found.files[0]
    assert (name, about) == ("summary.txt", "read this first: the shortest of all that follows")
    made, versions, doctor, status, configuration, log, left_out = text.split("\n\n")
    assert re.fullmatch(r"Made 2026-11-\d\dT\d\d:00:00[+-]\d{4} by root", made)
    assert versions.startswith("versions.txt, Python, packages, kernel:\nprogram 1.")
    assert doctor.startswith("doctor.txt, what the doctor finds:\n")
    assert re.search(r"^FAIL  broker-name +nowhere\.invalid: not known$", doctor, re.MULTILINE)
    assert not re.search("^(OK|SKIP) ", doctor, re.MULTILINE)
    assert doctor.endswith("\nIt cannot work like that.")
    assert (
        status
        == "status.txt, how the running program stands:\n" + (GOLDEN / "status-long.txt").read_text().strip()
    )
    assert configuration.splitlines()[1:] == ["[mqtt]", "server = nowhere.invalid", "password = ***"]
    assert log.splitlines()[1:] == [
        "2026-11-26 01:00:00,000 tell(1) - WARNING: broker nas: password = ***",
        *(f"2026-11-26 0{n}:00:00,000 tell(1) - INFO: well" for n in range(3, 8)),
    ]
    assert left_out.splitlines()[0] == "left out:"
    assert "unit and rule: neither unit nor rule is installed" in left_out
    assert_no_canary({"summary.txt": text}, b"Canary57")
    assert SERIAL not in anonymous(found).files[0].text


@pytest.mark.parametrize("journal", [None, "-- No entries --\n"])
def test_journal_that_this_user_may_not_read_is_left_out_and_said(place, journal):
    place.journal = "a line\n"
    place.write("run/systemd/system/here", "")
    place.write("etc/systemd/system/goodwe.service", "[Service]\n")
    place.write("var/log/goodwe.log", "an older log\n")
    files, left_out = place.files(uid=1000)
    assert files["log/journal.log"] == "a line\n"
    place.journal_told = journal
    files, left_out = place.files(uid=1000)
    assert left_out["log"] == "the unit's journal: this user may not read it; run with sudo"
    assert "log/goodwe.log" in files
    assert "log/journal.log" not in files


def test_newest_rotated_logs_only_and_nothing_that_only_begins_so(place):
    place.write("var/log/goodwe.log", "now\n")
    for age, name in enumerate(("1", "2.gz", "3.gz", "password", "1.bak")):
        file = place.write(
            f"var/log/goodwe.log.{name}", gzip.compress(b"x\n") if name.endswith("gz") else "x\n"
        )
        os.utime(file, (1000 - age, 1000 - age))
    files, _ = place.files()
    assert {name for name in files if name.startswith("log/")} == {
        "log/goodwe.log", "log/goodwe.log.1", "log/goodwe.log.2.gz",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["link", "fifo", "damaged"])
def test_log_that_is_none_is_left_out_and_nobody_waits_for_it(kind, place):
    path = place.root / ("var/log/goodwe.log.1.gz" if kind == "damaged" else "var/log/goodwe.log")
    if kind == "link":
        path.symlink_to(place.write("etc/shadow", "root:CANARY\n"))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\x1f\x8b\x08rubbish")
    files, left_out = place.files()
    assert re.search("is a link|is no regular file|is damaged", left_out["log"])
    assert_no_canary(files, b"CANARY")


def test_differences_of_unit_and_rule_to_ours(place):
    rule = Path(GOODWE).with_name("etc") / "99-goodwe.rules"
    place.write("etc/udev/rules.d/99-goodwe.rules", rule.read_text())
    place.write("etc/systemd/system/goodwe.service", "[Service]\nUser=pi\n")
    files, _ = place.files()
    assert files["installed/etc/udev/rules.d/99-goodwe.rules.diff"] == "none\n"
    assert "\n-User=goodwe\n" in files["installed/etc/systemd/system/goodwe.service.diff"]


# who is named


def test_anonymous_has_other_serials_and_hosts_the_same_everywhere(place):
    place.write("etc/goodwe.conf", "[mqtt]\nserver = nas.example, 192.168.2.240\n")
    request = frame("register_request", 0x7F, 0x80, SERIAL.encode()).encode()
    reports = [request[at : at + 8].hex() for at in range(0, len(request), 8)]
    lines = [f"({n}.5) /dev/hidraw0 < {report}" for n, report in enumerate(reports)]
    log = (
        f"New inverter found with serial id: {SERIAL}. At nas.example, 192.168.2.240, 10.0.0.7 /home/jan/x\n"
    )
    place.write("var/log/goodwe.log", log + log + "\n".join(lines) + "\n")
    found = anonymous(gathered(place.machine()))
    (text,) = (file.text for file in found.files if file.name == "log/goodwe.log")
    first, second, *rest = text.splitlines()
    other = found.serials[0]
    assert first == second
    assert (len(other), other[:8]) == (16, SERIAL[:8])
    assert re.fullmatch(rf"New inverter .*: {other}\. At host-1, host-2, host-\d /home/user-1/x", first)
    stream = bytes.fromhex("".join(line.rpartition(" ")[2] for line in rest))
    (packet,) = Splitter().feed(stream)
    assert packet.frame.data == other.encode(), "in the bytes as well, with the right sum"
    everything = "\n".join(f"{file.name}{file.about}{file.text}" for file in found.files)
    for private in (SERIAL, "nas.example", "192.168.2.240", "10.0.0.7", "jan", SERIAL.encode().hex()):
        assert private not in everything


def test_wrong_sum_stays_wrong():
    request = frame("register_request", 0x7F, 0x80, SERIAL.encode()).encode()
    wrong = request[:-1] + bytes([request[-1] ^ 1])
    text = captures.with_serials(f"(1.0) w < {wrong.hex()}\nnothing\n", {SERIAL: "15000SIMX0000001"})
    assert Splitter().feed(bytes.fromhex(text.split()[3])) == []
    assert text.endswith("\nnothing\n")


# the verb


GATHERED = Gathered(
    [
        bundle.BundleFile("versions.txt", "Python, packages, kernel", "x" * 200),
        bundle.BundleFile("log/goodwe.log", "the last lines of /var/log/goodwe.log", "x" * 123_456),
        bundle.BundleFile(
            "losses/1.capture", "the minute before /dev/hidraw0 was lost (no answer)", "x" * 20_000
        ),
    ],
    [("configuration", "this user may not read it; run with sudo")],
    [SERIAL],
    ["nas", "raspberry"],
)


@pytest.mark.parametrize("columns", [40, 120])
def test_listing(columns):
    shown = listing(GATHERED, f"goodwe-bundle-2026-11-26-{SERIAL}.tar.gz", columns, is_anonymous=False)
    assert f"{shown}\n" == (GOLDEN / f"bundle-{columns}.txt").read_text()
    assert max(map(len, shown.splitlines())) <= columns


def test_listing_says_that_nobody_is_named():
    shown = listing(anonymous(GATHERED), "-", 200, is_anonymous=True)
    assert shown.endswith("\nSerials, hosts and users have other names in it, passwords and logins none.")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
def test_a_person_is_asked(answer, code, place, tmp_path):
    path = tmp_path / "b.tar.gz"
    out = Terminal()
    assert bundle.main([str(path)], place.machine(), out=out, ask=lambda question: answer) == code
    assert path.exists() == (code == 0)
    assert ("Nothing was written." in out.getvalue()) == (code == 1)
    # a long path is cut where the line ends, in the middle of a word too
    assert "".join(f"In {path} will be:".split()) in "".join(out.getvalue().split())


def test_file_is_for_its_owner_only_and_named_by_date_and_serial(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place.status = {
        "version": 1,
        "program": {"version": "1", "pid": 1},
        "inverters": {SERIAL: {}},
        "links": [],
    }
    out = io.StringIO()
    assert bundle.main(["--yes"], place.machine(), out=out, now=lambda: 1_795_662_000.0) == 0
    (path,) = tmp_path.glob("*.tar.gz")
    assert re.fullmatch(rf"goodwe-bundle-2026-11-\d\d-{SERIAL}\.tar\.gz", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        assert {(member.uid, member.uname, member.mode) for member in tar.getmembers()} == {(0, "", 0o600)}
        assert {member.name.partition("/")[0] for member in tar.getmembers()} == {
            path.name.removesuffix(".tar.gz")
        }


def test_no_file_is_replaced_and_none_is_written_where_it_cannot_be(place, tmp_path):
    path = tmp_path / "b.tar.gz"
    path.write_text("precious")
    with pytest.raises(BundleError, match="is there already; name another file"):
        bundle.main([str(path), "--yes"], place.machine(), out=io.StringIO())
    assert path.read_text() == "precious"
    with pytest.raises(BundleError, match="cannot write /nowhere/b: No such file or directory"):
        bundle.main(["/nowhere/b", "--yes"], place.machine(), out=io.StringIO())


@pytest.fixture
def house(tmp_path, mosquitto):
    house = House(tmp_path, mosquitto.port)
    yield house
    house.end()


def command(house, *arguments):
    return [
        sys.executable,
        GOODWE,
        "--config",
        str(house.config),
        "--pidfile",
        str(house.pidfile),
        "bundle",
        *arguments,
    ]


def test_script_has_to_say_yes(house):
    done = house("bundle")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nobody can be asked here whether what is in it may leave the house; add --yes\n"


def test_on_a_terminal_it_asks(house):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(house, str(house.folder / "b.tar.gz")), stdin=theirs, stderr=subprocess.PIPE
    ) as process:
        os.write(ours, b"y\n")
        said = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "Write it? [y/N] " in said
    assert (house.folder / "b.tar.gz").exists()
    os.close(ours)
    os.close(theirs)


def test_bundle_of_a_running_program_has_the_minute_before_a_loss(house, subscriber):
    simulator = house.simulate("--delay", "0", "--report-interval", "0")
    house("start")
    subscriber.until(f"goodwe/{SERIAL}/data")
    simulator.terminate()
    wait_for(lambda: "offline" in house.log.read_text(), "it is lost")
    done = subprocess.run(command(house, "-", "--yes"), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    files = {name.removeprefix("goodwe-bundle/"): content for name, content in unpacked(done.stdout).items()}
    assert json.loads(files["status.json"])["inverters"][SERIAL]["online"] is False
    text = files["losses/1.capture"].decode()
    assert re.search(r"^# lost: .*, unplugged", text, re.MULTILINE)
    out = io.StringIO()
    assert decode.main(["--summary"], source=io.StringIO(text), out=out) == 0
    assert re.search(r"running_info +[1-9]", out.getvalue())
    assert f"inverter {SERIAL}" in out.getvalue()
    assert b"New inverter found with serial id" in files["log/goodwe.log"]
    assert f"It names inverters, hosts and users of this machine (inverter {SERIAL}" in done.stderr.decode()


@pytest.mark.parametrize("what", ["hangs", "no configuration", "broken configuration"])
def test_bundle_is_made_whatever_is_wrong(what, tmp_path):
    house = House(tmp_path, free_port())
    if what == "no configuration":
        house.config.unlink()
    if what == "broken configuration":
        house.config.write_text("[mqtt]\npassword = Canary57\nrubbish Canary57\n")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if what == "hangs":
        listener.bind(str(tmp_path / "goodwe.sock"))
        listener.listen()
    began = time.monotonic()
    done = subprocess.run(command(house, "-", "--yes"), capture_output=True, timeout=60, check=False)
    assert time.monotonic() - began < 45.0
    listener.close()
    assert done.returncode == 0, done.stderr
    files = unpacked(done.stdout)
    assert b"Traceback" not in done.stderr
    assert json.loads(files["goodwe-bundle/doctor.json"])["checks"]
    assert_no_canary(files, b"Canary57")
