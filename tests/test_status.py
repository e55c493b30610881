"""`status`: what it prints of a snapshot, and what it says where nobody answers."""

import io
import json
import socket
from pathlib import Path

import pytest

from goodwe import paths
from goodwe.tools import status
from goodwe.tools.status import StatusAnswer, Style, asked, duration, shown

PLAIN = Style(200, colours=False)
SNAPSHOT = {
    "version": 1,
    "program": {
        "version": "1.0.0",
        "pid": 42,
        "uptime_seconds": 3 * 3600 + 12 * 60,
        "configuration": "/etc/goodwe.conf",
        "warnings": ["debug in [inverter] has no effect"],
        "cpu_seconds": 1.52,
        "memory_kilobytes": 27_000,
        "wake_ups": 4711,
    },
    "inverters": {
        "15000DSN000W0001": {
            "online": True,
            "model": "GW5000-DT",
            "last_reading_seconds": 1.24,
            "values": {"pac": 2351, "vac1": 231.2, "temp": 42.5},
            "today_kwh": 12.3,
            "total_kwh": 4360.1,
            "refused": {"value out of range": 2},
        },
        "15000DSN000W0002": {"online": False, "last_reading_seconds": 9 * 3600.0, "values": None},
    },
    "outputs": {
        "mqtt": {
            "connections": {
                "15000DSN000W0001": {
                    "server": "nas",
                    "state": "connected",
                    "connected_seconds": 75.0,
                    "next_try_seconds": None,
                    "why_not": "",
                },
                "15000DSN000W0002": {
                    "server": "nas",
                    "state": "paused",
                    "connected_seconds": None,
                    "next_try_seconds": 3.21,
                    "why_not": "nothing listens there",
                },
            },
            "features": {"backlog": {"kept": 7}},
            "dropped": [{"part": "sums", "error": "KeyError: 'pac'"}],
        }
    },
    "links": [],
    "places": [],
    "dropped": [{"part": "history", "error": "OSError: disk"}],
}
LINES = """\
GoodWe is running, pid 42
  version 1.0.0, for 3 h 12 min, 26 MB, 1.5 s of CPU, 4711 wake-ups
  configuration /etc/goodwe.conf
! debug in [inverter] has no effect
inverter 15000DSN000W0001 GW5000-DT: online, read 1.2 s ago
  2351 W, 231.2 V, 42.5 °C, today 12.3 kWh, total 4360.1 kWh
! refused: value out of range 2
inverter 15000DSN000W0002: away, read 9 h 0 min ago
broker nas for 15000DSN000W0001: connected for 1 min 15 s
! broker nas for 15000DSN000W0002: paused (nothing listens there); next try in 3.2 s
  backlog: 7 readings wait
! sums failed and is left out: KeyError: 'pac'
! history failed and is left out: OSError: disk"""


class Daemon:
    """One that says whether it runs."""

    def __init__(self, code):
        self.code = code
        self.looked = 0

    def status(self):
        self.looked += 1
        return self.code


def test_snapshot_for_a_person():
    assert shown(SNAPSHOT, PLAIN) == LINES


@pytest.mark.parametrize("width", [1, 20, 40, 80])
def test_no_line_is_wider_than_the_screen(width):
    lines = shown(SNAPSHOT, Style(width, colours=False)).splitlines()
    assert len(lines) == len(LINES.splitlines())
    assert max(map(len, lines)) <= width


def test_trouble_is_red_and_what_is_named_is_bold():
    lines = shown(SNAPSHOT, Style(200, colours=True)).splitlines()
    assert lines[0] == f"{status.BOLD}GoodWe is running, pid 42{status.PLAIN}"
    assert lines[1] == LINES.splitlines()[1]
    assert lines[3].startswith(f"{status.RED}! debug")


@pytest.mark.parametrize(
    ("links", "places", "told"),
    [
        ([], [], ["inverter: none is plugged in"]),
        (
            [{"name": "/dev/hidraw0"}],
            [{"trouble": None}],
            ["inverter: none has given a reading yet; asking at /dev/hidraw0"],
        ),
        ([], [{"trouble": "permission denied"}], ["inverter: none can be opened", "! permission denied"]),
    ],
)
def test_no_inverter_is_said_with_the_reason(links, places, told):
    snapshot = {**SNAPSHOT, "inverters": {}, "links": links, "places": places}
    assert "\n".join(told) in shown(snapshot, PLAIN)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_in_two_units(seconds, text):
    assert duration(seconds) == text


def test_nobody_listening_is_as_before(tmp_path, capsys):
    daemon = Daemon(3)
    assert status.main([], daemon, str(tmp_path / "pid")) == 3
    assert daemon.looked == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 4)])
def test_program_that_does_not_answer_is_told_from_one_that_is_not_there(
    tmp_path, capsys, monkeypatch, code, expected
):
    monkeypatch.setattr(status, "WITHIN", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hanging:
        hanging.bind(str(tmp_path / "pid.sock"))
        hanging.listen()
        assert status.main([], Daemon(code), str(tmp_path / "pid.pid")) == expected
    assert "it does not answer at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(), "run with sudo"),
        (TimeoutError(), "does not answer"),
        (ValueError("no JSON"), "no answer at /x.sock: no JSON"),
        (FileNotFoundError(), ""),
        (ConnectionRefusedError(), ""),
    ],
)
def test_trouble_with_asking_is_told(error, told):
    def ask(path):
        if path == "/x.sock":
            raise error
        raise FileNotFoundError

    answer = asked("/x.pid", ask)
    assert answer.snapshot is None
    assert told in answer.trouble
    assert bool(told) == bool(answer.trouble)


@pytest.mark.parametrize("pidfile", ["file/pid", "p" * 150, "p" * 300])
def test_path_at_which_nobody_can_listen_is_as_nobody(tmp_path, capsys, pidfile):
    (tmp_path / "file").touch()
    assert status.main([], Daemon(3), str(tmp_path / pidfile)) == 3
    assert capsys.readouterr().err == ""


def test_units_program_is_asked_where_systemd_has_its_socket():
    def ask(path):
        if path != "/run/goodwe/control.sock":
            raise FileNotFoundError
        return {"program": {"pid": 1}}

    assert asked("/var/run/goodwecomm.pid", ask) == StatusAnswer({"program": {"pid": 1}}, "")


@pytest.mark.parametrize("answer", [{}, {"program": 1}, [], None, "yes"])
def test_another_program_at_the_socket_is_told_from_ours(answer):
    assert asked("/x.pid", lambda path: answer) == StatusAnswer(
        None, f"no answer at {paths.SYSTEMD_SOCKET}: another program listens there"
    )


def test_json_is_never_a_line_for_a_person(tmp_path, monkeypatch, capsys):
    """A program that may not ask reads no line that is no JSON, and no exit code 0."""
    monkeypatch.setattr(status, "asked", lambda pidfile: StatusAnswer(None, "you may not ask it"))

    class Saying(Daemon):
        def status(self):
            print("GoodWe is running, pid 42")
            return super().status()

    assert status.main(["--json"], Saying(0), str(tmp_path / "pid")) == 4
    told = capsys.readouterr()
    assert (told.out, "you may not ask it" in told.err) == ("", True)
    assert status.main([], Saying(0), str(tmp_path / "pid")) == 0
    assert capsys.readouterr().out == "GoodWe is running, pid 42\n"


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--long"], 0), (["--json"], 4)])
def test_program_that_runs_without_its_socket_is_told(tmp_path, capsys, options, code):
    """The older program has none, and somebody may have removed ours; restartd's own look stays silent."""
    assert status.main(options, Daemon(0), str(tmp_path / "pid")) == code
    assert ("nothing listens at" in capsys.readouterr().err) == bool(options)


def test_nothing_of_a_broker_or_an_inverter_reaches_the_terminal_unseen():
    snapshot = {**SNAPSHOT, "inverters": {"A": {"online": True, "model": "\x1b]0;x\x07\x9b2J"}}}
    assert all(letter.isprintable() for line in shown(snapshot, PLAIN).split("\n") for letter in line)


def test_json_is_the_snapshot(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "asked", lambda pidfile: StatusAnswer(SNAPSHOT, ""))
    out = io.StringIO()
    assert status.main(["--json"], Daemon(0), str(tmp_path / "pid"), out=out) == 0
    assert json.loads(out.getvalue()) == SNAPSHOT


def test_watch_renews_until_it_is_ended(monkeypatch):
    answers = iter([StatusAnswer(SNAPSHOT, ""), StatusAnswer(None, "")])
    monkeypatch.setattr(status, "asked", lambda pidfile: next(answers))
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        status.main(["--watch", "0.5"], Daemon(0), str(Path("/x.pid")), out=out)
    assert naps == [0.5, 0.5]
    assert LINES in out.getvalue()
    assert out.getvalue().endswith("! GoodWe is not running\n")


@pytest.mark.parametrize("arguments", [["--watch", "0"], ["--watch", "x"], ["--json", "--watch"], ["now"]])
def test_wrong_option_is_usage_and_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        status.main(arguments, Daemon(0), "/x.pid")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "usage: GoodWe.py status" in told
    assert ("must be from 0.1 to 3600" in told) == (arguments[0] == "--watch")
