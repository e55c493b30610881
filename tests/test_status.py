"""`status`: what it prints of a snapshot, and what it says where nobody answers."""

import contextlib
import fcntl
import io
import itertools
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goodwe import snapshot
from goodwe.tools import status
from goodwe.tools.status import StatusAnswer, Style, asked, duration, shown

from .broker import PATIENCE, wait_for
from .children import unmeasured
from .test_program import GOODWE, ROOT, SERIAL, House, topic

GOLDEN = Path(__file__).parent / "golden"
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
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(LINES.split()), "and nothing is lost"


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


@pytest.mark.parametrize("answer", [{}, {"program": 1}, {"program": {"pid": "1"}}, [], None, "yes"])
def test_another_program_at_the_socket_is_told_from_ours(answer):
    assert asked("/x.pid", lambda path: answer) == StatusAnswer(
        None, "no answer at /x.sock: another program listens there"
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


def test_trouble_with_the_programs_own_socket_is_told_before_that_with_systemds():
    def ask(path):
        raise TimeoutError if path == "/x.sock" else PermissionError

    assert "does not answer at /x.sock" in asked("/x.pid", ask).trouble


def test_snapshots_of_another_version_are_not_guessed_at():
    assert status.VERSION == snapshot.VERSION
    for other in ({**SNAPSHOT, "version": 2}, {"program": {"pid": 42}}, {**SNAPSHOT, "inverters": {"A": 1}}):
        assert shown(other, PLAIN) == (
            "GoodWe is running, pid 42\n! it is another version; restart it, then it can be asked"
        )


def test_letters_that_the_terminal_lacks_are_escapes_and_no_line_is_wider():
    lines = shown(SNAPSHOT, Style(40, colours=False, encoding="ascii")).splitlines()
    assert "  2351 W, 231.2 V, 42.5 \\xb0C, today" in lines
    assert max(map(len, lines)) <= 40


def test_screen_has_as_many_lines_as_there_is_room_for_and_the_last():
    lines = [f"line {number}" for number in range(10)]
    for rows, kept in ((24, lines), (11, lines), (6, [*lines[:4], lines[9]]), (2, lines[9:]), (1, lines[9:])):
        text = status._screen(lines, rows)
        assert (
            text == f"{status.HOME}{''.join(f'{line}{status.END_OF_LINE}' + chr(10) for line in kept)}\x1b[J"
        )


# as a person sees it: a process, a terminal, and whatever listens at the socket


@contextlib.contextmanager
def listening(path: Path, serve: Callable[[socket.socket], object]) -> Iterator[None]:
    """Something listens at `path`, and does with each connection what it likes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def run() -> None:
            with contextlib.suppress(OSError):  # closed in the end
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        threading.Thread(target=run, daemon=True).start()
        yield
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def answering(answer: object) -> Callable[[socket.socket], None]:
    """Serves that one answer, as bytes or as the status."""
    if not isinstance(answer, bytes):
        answer = json.dumps({"ok": True, "status": answer}).encode() + b"\n"

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return serve


def golden() -> dict[str, Any]:
    told: dict[str, Any] = json.loads((GOLDEN / "status.json").read_text())
    return dict(reversed(told.items()))


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, GOODWE, "--pidfile", str(folder / "goodwe.pid"), "status", *arguments]


def surroundings(**environ: str) -> dict[str, str]:
    kept = {key: text for key, text in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**kept, "TERM": "xterm", **environ}


@contextlib.contextmanager
def on_a_terminal(line: list[str], columns: int, rows: int, **environ: str) -> Iterator[tuple[Any, int]]:
    """The process and our end of its terminal."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(line, stdin=its, stdout=its, stderr=its, env=surroundings(**environ)) as process:
        os.close(its)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def shown_on_a_terminal(line: list[str], columns: int, **environ: str) -> str:
    with on_a_terminal(line, columns, 24, **environ) as (process, terminal):
        text = b""
        with contextlib.suppress(OSError):  # its end is closed
            while chunk := os.read(terminal, 65536):
                text += chunk
        assert process.wait(PATIENCE) == 0
    return text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 120])
@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_golden_screen(tmp_path, columns, environ):
    with listening(tmp_path / "goodwe.sock", answering(golden())):
        text = shown_on_a_terminal(command(tmp_path), columns, **environ)
    plain = re.sub(r"\x1b\[\d+m", "", text)
    assert plain == (GOLDEN / f"status-{columns}.txt").read_text("utf-8")
    assert (plain == text) == bool(environ)


@pytest.mark.parametrize(
    ("option", "file"), [("--long", "status-long.txt"), ("--json", "status.json"), ("", "")]
)
def test_golden_output_where_there_is_no_terminal(tmp_path, option, file):
    with listening(tmp_path / "goodwe.sock", answering(golden())):
        line = command(tmp_path, *filter(None, [option]))
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=60, env=surroundings(COLUMNS="40")
        )
    expected = (GOLDEN / file).read_text("utf-8") if file else "GoodWe is running, pid 4242\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 1_000_000)


def drop_by_drop(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("option", ["--json", "--long", "--watch"])
@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (answering(b""), "it hung up; ask again"),
        (answering(b"220 smtp.example.org ESMTP\r\n"), "another program listens there"),
        (answering(b"\xff\xfe\0\n"), "another program listens there"),
        (answering(b"[" * 200_000 + b"\n"), "another program listens there"),
        (answering(b"1" * 200_000 + b"\n"), "another program listens there"),
        (answering([]), "another program listens there"),
        (answering({"program": {}}), "another program listens there"),
        (endless, "another program listens there"),
        (drop_by_drop, "it does not answer"),
        (lambda connection: time.sleep(30), "it does not answer"),
    ],
)
def test_anything_may_listen_at_the_socket(tmp_path, option, serve, told):
    with listening(tmp_path / "goodwe.sock", serve):
        line = command(tmp_path, option)
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if option == "--watch":
            assert told in process.stdout.readline()
            process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in error
    if option != "--watch":
        assert (process.returncode, out if option == "--json" else "") == (4, "")
        assert told in error


def test_watch_writes_over_what_was_there_and_follows_the_size_of_the_terminal(tmp_path):
    with (
        listening(tmp_path / "goodwe.sock", answering(golden())),
        on_a_terminal(command(tmp_path, "--watch", "0.2"), 120, 10) as (process, terminal),
    ):
        screens = as_screens(terminal)
        first = next(screens)
        assert len(first) == 9, "the last row stays free, else the first line would leave at the top"
        assert "GoodWe is running, pid 4242" in first[0]
        assert first[-1].endswith("Ctrl-C ends it")
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 40, 0, 0))
        narrow = next(screen for screen in itertools.islice(screens, 100) if len(screen) > 9)
        assert [*narrow[:-1], ""] == (GOLDEN / "status-40.txt").read_text("utf-8").split("\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def as_screens(terminal: int) -> Iterable[list[str]]:
    """The lines of each screen that a process writes, without colours."""
    text = ""
    while True:
        text += os.read(terminal, 65536).decode()
        while (end := text.find(status.REST_OF_SCREEN)) >= 0:
            screen, text = text[:end], text[end + len(status.REST_OF_SCREEN) :]
            assert screen.startswith(status.HOME)
            screen = re.sub(r"\x1b\[[\dHK]*m?", "", screen)
            yield screen.replace("\r\n", "\n").rstrip("\n").split("\n")


# of a real program


@pytest.fixture
def house(tmp_path, mosquitto):
    house = House(tmp_path, mosquitto.port)
    yield house
    for process in house.running:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
    house.end()


def looks(house: House) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of status, for a person and for a program."""
    done = [house("status", option) for option in ("--long", "--json")]
    return [(one.returncode, one.stdout, one.stderr) for one in done]


def test_status_in_each_state_of_a_daemon(house):
    """Hung, killed, started beside what is left of it, and without its socket."""
    house("start")
    pid = house.pid
    running, socket_path = f"GoodWe is running, pid {pid}\n", house.folder / "goodwe.sock"
    os.kill(pid, signal.SIGSTOP)
    no_answer = f"GoodWe: it does not answer at {socket_path}; look into its log, then restart it\n"
    assert looks(house) == [(0, running, no_answer), (4, "", running + no_answer)]
    os.kill(pid, signal.SIGCONT)
    assert [code for code, _, _ in looks(house)] == [0, 0]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: house("status").returncode == 1, "it is gone")
    dead = f"GoodWe is dead, but its pid file {house.pidfile} remains\n"
    assert socket_path.exists()
    assert looks(house) == [(1, dead, ""), (1, "", dead)]
    house("start")
    (long, told, _), (code, answer, _) = looks(house)
    assert (long, code, json.loads(answer)["program"]["pid"]) == (0, 0, house.pid)
    assert told.startswith(f"GoodWe is running, pid {house.pid}\n  version ")
    socket_path.unlink()
    unheard = f"GoodWe: nothing listens at {socket_path}; restart it, then it can be asked\n"
    running = f"GoodWe is running, pid {house.pid}\n"
    assert looks(house) == [(0, running, unheard), (4, "", running + unheard)]
    house("stop")
    assert looks(house) == [(3, "GoodWe is not running\n", ""), (3, "", "GoodWe is not running\n")]


def test_status_is_told_while_inverter_and_broker_hang(house, subscriber, mosquitto):
    simulator = house.simulate()
    house("start")
    subscriber.until(topic("online"), "1")
    mosquitto.freeze()
    simulator.send_signal(signal.SIGSTOP)
    time.sleep(3)  # some queries that nobody takes
    done = house("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["inverters"][SERIAL]["last_reading_seconds"] > 2.5
    mosquitto.thaw()


def test_status_while_it_starts_and_stops_is_one_or_the_other(house):
    """Never a traceback, a broken line or another code, whenever it is asked."""
    pids: set[int] = set()
    for verb in ("start", "stop", "start", "stop"):
        changing = subprocess.Popen(
            [sys.executable, GOODWE, "--config", str(house.config), "--pidfile", str(house.pidfile), verb],
            stdout=subprocess.DEVNULL,
        )
        while changing.poll() is None:
            done = house("status", "--json")
            assert (done.returncode, "Traceback" in done.stderr) in ((0, False), (3, False), (4, False))
            if done.returncode == 0:  # it may have ended since, with its pid file
                pids.add(json.loads(done.stdout)["program"]["pid"])
            else:
                assert done.stdout == ""
        assert changing.wait(PATIENCE) == 0
        pids |= {house.pid} if verb == "start" else set()
        assert len(pids) == 1, "one of it, told by its own number"
        if verb == "stop":
            pids.clear()
        assert house("status", "--json").returncode == (0 if verb == "start" else 3)


AS_NOBODY = """
import os, sys
from goodwe.cli import main
main(["--pidfile", "/dev/null/x", "status", "--json"])  # it may not read its own modules afterwards
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_status_of_another_users_daemon(house):
    house("start")
    for folder in (house.folder, *house.folder.parents):
        if str(folder).startswith(f"{tempfile.gettempdir()}/"):
            folder.chmod(0o755)
    for option, code, out in (("--long", 0, f"GoodWe is running, pid {house.pid}\n"), ("--json", 4, "")):
        line = [sys.executable, "-c", AS_NOBODY, "--pidfile", str(house.pidfile), "status", option]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=ROOT, env=unmeasured())
        assert (done.returncode, done.stdout) == (code, out)
        assert f"you may not ask it at {house.folder / 'goodwe.sock'}; run with sudo, or as" in done.stderr


def keys(value: Any, where: str = "") -> set[str]:
    """The keys of all objects with keys that are always the same, as paths."""
    if isinstance(value, list):
        return {path for one in value for path in keys(one, f"{where}[]")}
    if not isinstance(value, dict) or where.rpartition(".")[2] in FREE:
        return set()
    names = {name: "*" if where in BY_NAME else name for name in value}
    found = {f"{where}.{names[name]}" for name in value}
    return found.union(*(keys(inner, f"{where}.{names[name]}") for name, inner in value.items()))


BY_NAME = {
    ".inverters",
    ".links[].bus.inverters",
    ".outputs.mqtt.connections",
    ".outputs.mqtt.inverters",
}
"""Objects whose keys are serials."""
FREE = {"finder", "wire", "refused", "allowed", "counts", "troubles", "limits", "web", "values"}
"""Objects whose keys depend on the transport, the model and what has happened."""


def test_golden_snapshot_has_the_keys_of_a_real_one(tmp_path, house, subscriber):
    options = f"values = on\nsum = on\ncommands = on\nretain = on\nbacklog = {tmp_path / 'backlog.sqlite'}\n"
    house.configure(house.port, mqtt=options)
    house.simulate()
    house("start")
    subscriber.until(topic("online"), "1")
    real = json.loads(house("status", "--json").stdout)
    now_and_then = {".losses[].", ".dropped[].", ".inverters.*.waits_to_be_believed.", ".outputs.web"}
    expected = {path for path in keys(golden()) if not path.startswith(tuple(now_and_then))}
    assert keys(real) == expected
