"""The configuration read again while the program runs: what goes on, what is made anew, what is refused."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from goodwe.app import App
from goodwe.config import parse
from goodwe.config.changes import changes
from goodwe.errors import ConfigError, StartError
from goodwe.loop import NEVER, Loop
from goodwe.outputs import Context, Output, make_outputs, mqtt
from goodwe.reload import Reloader, Report
from goodwe.transport.standin import StandInFinder

from .broker import PATIENCE, Mosquitto, Subscriber, free_port, let_pass, wait_for
from .fakes import Clock
from .test_program import GOODWE, SERIAL, House, topic

OTHER = "15000SIM268W0002"


@pytest.fixture
def house(tmp_path, mosquitto):
    house = House(tmp_path, mosquitto.port)
    yield house
    house.end()


@pytest.fixture
def reading(house, subscriber):
    """A house whose daemon reads its inverter."""
    house.simulate()
    assert house("start").returncode == 0
    subscriber.until(topic("online"), "1")
    return house


def sockets(pid: int, path: Path) -> set[str]:
    """The open descriptors, with the inodes, of a process's connections to anything but a file."""
    links = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:"):
            links[f"{number} {target}"] = target
    return set(links)


def said(subscriber: Subscriber, name: str) -> list[str]:
    """The payloads that came on a topic until now."""
    list(subscriber.rest())
    return [payload for found, payload, _ in subscriber.seen if found == name]


def of_control(answer: subprocess.CompletedProcess) -> tuple[int, str, str]:
    return answer.returncode, answer.stdout, answer.stderr


# what goes on


def test_nothing_changed_is_said_and_nothing_happens(reading, subscriber):
    before = sockets(reading.pid, reading.socket)
    assert of_control(reading("reload")) == (0, "nothing has changed\n", "")
    assert f"{reading.config} read again: nothing has changed" in reading.log.read_text()
    subscriber.until(topic("data"))
    assert before <= sockets(reading.pid, reading.socket)
    assert said(subscriber, topic("online")) == ["1"] * len(said(subscriber, topic("online")))


def test_other_settings_of_the_readings_keep_the_link_and_the_connection(reading, subscriber):
    before = sockets(reading.pid, reading.socket)
    reading.config.write_text(
        reading.config.read_text()
        .replace("pollinterval = 500", "pollinterval = 1500\nusbreset = on\nplausibility = off")
        .replace("[inverter]", "[inverter]\nloglevel = DEBUG")
    )
    done = reading("reload")
    assert of_control(done) == (
        0,
        "[inverter] loglevel = DEBUG, was INFO\n"
        "[inverter] pollinterval = 1500, was 500\n"
        "[inverter] plausibility = off, was on\n"
        "[inverter] usbreset = on, was off\n",
        "",
    )
    list(subscriber.rest())
    subscriber.until(topic("data"))  # one could have been under way
    seen = [json.loads(subscriber.until(topic("data"))[1])["lastSeen"] for _ in range(3)]
    assert seen[2] - seen[0] > 2500, "milliseconds"
    assert before <= sockets(reading.pid, reading.socket)
    assert set(said(subscriber, topic("online"))) == {"1"}
    assert reading.log.read_text().count("New inverter found") == 1
    assert "DEBUG: " in reading.log.read_text()


# what is made anew


def test_other_options_of_mqtt_never_say_that_the_inverter_is_away(reading, subscriber, mosquitto):
    link = set(sockets(reading.pid, reading.socket))
    reading.configure(reading.port, mqtt="values = on\nretain = on\n")
    done = reading("reload")
    assert of_control(done) == (0, "[mqtt] retain = on, was off\n[mqtt] values = on, was off\n", "")
    subscriber.until(topic("pac"))
    subscriber.until(topic("online"), "1")
    assert set(said(subscriber, topic("online"))) == {"1"}
    assert len(link & sockets(reading.pid, reading.socket)) >= 3, "link, control socket, signals"
    assert reading("stop").returncode == 0
    assert [p for t, p, kept in list_retained(mosquitto) if t == topic("online")] == ["0"]


def list_retained(mosquitto: Mosquitto) -> list[tuple[str, str, bool]]:
    late = Subscriber(mosquitto.port)
    try:
        late.until(topic("online"))
        let_pass(0.2)
        list(late.rest())
        return late.seen
    finally:
        late.close()


def test_stop_right_behind_a_reload_takes_online_back(reading, subscriber, mosquitto):
    """The connection that could say so is not there yet."""
    for qos in (1, 2, 0):
        reading.configure(reading.port, mqtt=f"qos = {qos}\n")
        os.kill(reading.pid, signal.SIGHUP)
        if qos == 0:
            let_pass(0.05)
        assert reading("stop").returncode == 0
        assert [p for t, p, kept in list_retained(mosquitto) if t == topic("online")] == ["0"]
        assert reading("start").returncode == 0
        subscriber.until(topic("online"), "1")


def test_kill_behind_a_reload_is_offline_for_everybody(reading, subscriber):
    reading.configure(reading.port, mqtt="qos = 1\n")
    assert reading("reload").returncode == 0
    subscriber.until(topic("online"), "1")
    os.kill(reading.pid, signal.SIGKILL)
    subscriber.until(topic("online"), "0")


def test_another_topic_is_told_and_the_old_one_takes_its_word_back(reading, subscriber):
    reading.configure(reading.port, mqtt="topic = roof\n")
    assert of_control(reading("reload")) == (0, "[mqtt] topic = roof, was goodwe\n", "")
    subscriber.until(topic("online"), "0")
    subscriber.until(f"roof/{SERIAL}/online", "1")
    assert reading.log.read_text().count("New inverter found") == 1


def test_another_broker_is_told_and_the_old_one_takes_its_word_back(reading, subscriber, tmp_path):
    other = Mosquitto(tmp_path).start()
    heard = Subscriber(other.port)
    try:
        reading.configure(other.port)
        assert reading("reload").returncode == 0
        subscriber.until(topic("online"), "0")
        heard.until(topic("online"), "1")
    finally:
        heard.close()
        other.stop()


def test_password_is_named_and_never_shown(reading, tmp_path):
    reading.configure(reading.port, mqtt="username = me\npassword = hunter2\n")
    done = reading("reload")
    assert done.stdout == "[mqtt] username = me, was (empty)\n[mqtt] password has changed\n"
    assert "hunter2" not in reading.log.read_text() + done.stdout + done.stderr


def test_output_that_is_switched_off_and_on_again(reading, subscriber):
    text = reading.config.read_text()
    reading.config.write_text(text.replace("[mqtt]", "[mqtt]\nenabled = off"))
    done = reading("reload")
    assert (done.returncode, done.stdout) == (0, "[mqtt] enabled = off, was on\n")
    assert "every output is off" in done.stderr
    subscriber.until(topic("online"), "0")
    subscriber.nothing(0.7)
    reading.config.write_text(text)
    assert reading("reload").returncode == 0
    subscriber.until(topic("data"))
    subscriber.until(topic("online"), "1")


def test_another_inverter_is_opened_and_the_one_before_closed(reading, subscriber):
    other = reading.folder / "other.sock"
    simulator = subprocess.Popen(
        [sys.executable, GOODWE, "simulate", "--listen", f"unix:{other}", "--serial", OTHER],
        stdout=subprocess.PIPE,
        text=True,
    )
    reading.running.append(simulator)
    assert "listens on" in simulator.stdout.readline()
    reading.config.write_text(reading.config.read_text().replace(str(reading.socket), str(other)))
    done = reading("reload")
    assert done.stdout == f"[inverter] device = unix:{other}, was unix:{reading.socket}\n"
    subscriber.until(topic("online"), "0")
    subscriber.until(topic("online", OTHER), "1")
    status = json.loads(reading("status", "--json").stdout)
    assert [link["name"] for link in status["links"]] == [f"unix:{other}"]


def page(port: int, path: str = "/") -> str:
    """The page at this port of this machine; empty while nobody serves it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def test_history_and_web_come_change_and_go(reading, subscriber):
    before = sockets(reading.pid, reading.socket)
    first, second = free_port(), free_port()
    old, new = reading.folder / "old.db", reading.folder / "new.db"
    text = reading.config.read_text()

    def after(more: str) -> str:
        reading.config.write_text(text + more)
        done = reading("reload")
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def status() -> dict:
        return json.loads(reading("status", "--json").stdout)

    web = f"[web]\nlisten = 127.0.0.1:{first}\n"
    assert after(web) == f"section [web] is new\n[web] listen = 127.0.0.1:{first}\n"
    wait_for(lambda: SERIAL in page(first), "the page is served")
    assert "No history is kept" in page(first, "/events"), "without it, the page says what is missing"
    assert after(f"{web}[history]\nfile = {old}\n").startswith("section [history] is new\n")
    assert "history" in status()["outputs"]
    wait_for(
        lambda: page(first, "/events") and "No history is kept" not in page(first, "/events"),
        "the page knows of it",
    )
    assert after(f"{web}[history]\nfile = {new}\n") == f"[history] file = {new}, was {old}\n"
    wait_for(lambda: reading.log.read_text().count("The page is at") == 3, "the page reads that one")
    moved = f"[web]\nlisten = 127.0.0.1:{second}\n"
    assert (
        after(f"{moved}[history]\nfile = {new}\n")
        == f"[web] listen = 127.0.0.1:{second}, was 127.0.0.1:{first}\n"
    )
    wait_for(lambda: SERIAL in page(second), "it is served there")
    assert page(first) == ""
    reading.config.write_text(f"{text}[web]\nlisten = nowhere\n")
    assert ":10: listen = nowhere: " in refused(reading)
    reading.config.write_text(f"{text}[web]\nlisten = 127.0.0.1:{second}\n[history]\nfile = /proc/h.db\n")
    assert "/proc/h.db" in refused(reading)
    assert SERIAL in page(second), "the old one is in force"
    assert after("") == "section [web] is gone\nsection [history] is gone\n"
    assert page(second) == ""
    assert set(status()["outputs"]) == {"mqtt"}
    subscriber.until(topic("data"))
    assert before <= sockets(reading.pid, reading.socket), "link and connection were kept all the while"
    assert set(said(subscriber, topic("online"))) == {"1"}
    assert "Traceback" not in reading.log.read_text()


def test_another_log_file_goes_on_with_the_log(reading):
    moved = reading.folder / "logs" / "moved.log"
    reading.config.write_text(reading.config.read_text().replace(str(reading.log), str(moved)))
    assert reading("reload").returncode == 0
    assert f"logfile = {moved}, was {reading.log}" in moved.read_text()
    before = reading.log.read_text()
    assert reading("stop").returncode == 0
    assert "GoodWeUSBLogger stopped" in moved.read_text()
    assert reading.log.read_text() == before


def test_what_is_known_moves_to_another_state_file(reading):
    before, moved = reading.folder / "state.json", reading.folder / "moved.json"
    reading.config.write_text(reading.config.read_text().replace(str(before), str(moved)))
    assert reading("reload").returncode == 0
    wait_for(moved.exists, "it is saved there at once")
    assert SERIAL in json.loads(moved.read_text())["inverters"]
    kept = before.read_text() if before.exists() else ""
    assert reading("stop").returncode == 0
    assert (before.read_text() if before.exists() else "") == kept


def test_backlog_that_is_switched_on_keeps_what_no_broker_takes(reading, subscriber, mosquitto):
    reading.configure(reading.port, mqtt=f"backlog = {reading.folder / 'backlog.db'}\n")
    assert reading("reload").returncode == 0
    subscriber.until(topic("online"), "1")
    mosquitto.stop()
    let_pass(1.5)
    mosquitto.start()
    again = Subscriber(reading.port)
    again.until(topic("backlog"), seconds=40.0)
    again.close()


# what is refused


def test_pid_file_is_no_file_of_the_configuration_that_is_read_again(reading):
    text = reading.config.read_text()
    reading.config.write_text(re.sub("logfile = .*", f"logfile = {reading.pidfile}", text))
    assert f"logfile and the pid file {reading.pidfile} are one file" in refused(reading)


def refused(house: House) -> str:
    """The reason of a reload that is refused; readings go on in the meantime."""
    done = house("reload")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("; it goes on with the configuration of before\n")
    reason = done.stderr.removeprefix("GoodWe: ").removesuffix(
        "; it goes on with the configuration of before\n"
    )
    assert f"The configuration stays as it was: {reason}\n" in house.log.read_text()
    assert house("status").returncode == 0
    return reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[mqtt]\nsever = nas\n", ":2: unknown key sever in [mqtt]; is server meant?"),
        ("\1garbage\n", ":1: stands before the first section"),
        ("\0garbage\n", ": not UTF-8 text (byte 0) in line 1"),
        ("[inverter]\npollinterval = fast\n", ":2: pollinterval = fast: must be a whole number"),
        (
            "[mqtt]\ntls = on\ncafile = /nowhere.pem\n",
            ":3: cafile = /nowhere.pem: must be the path of a file",
        ),
        ("[inverter]\nlogfile = /dev/full/x.log\n", ":2: logfile = /dev/full/x.log: must be"),
    ],
)
def test_mistake_is_refused_with_its_reason_and_the_old_one_stays(reading, subscriber, text, told):
    before = sockets(reading.pid, reading.socket)
    reading.config.write_text(text)
    assert f"{reading.config}{told}" in refused(reading)
    subscriber.until(topic("data"))
    assert before <= sockets(reading.pid, reading.socket)


def test_file_that_vanished_is_refused_and_so_is_a_pipe_in_its_place(reading):
    text = reading.config.read_text()
    reading.config.unlink()
    assert refused(reading) == f"{reading.config}: it was there, and is no more"
    os.mkfifo(reading.config)
    let_pass(1.0)
    assert refused(reading) == f"{reading.config}: is a pipe, which can be read only once"
    reading.config.unlink()
    reading.config.mkdir()
    assert "cannot be read: Is a directory" in refused(reading)
    reading.config.rmdir()
    reading.config.touch()
    assert refused(reading) == f"{reading.config}: it is empty; restart the program if the defaults are meant"
    reading.config.write_text(text)
    assert of_control(reading("reload")) == (0, "nothing has changed\n", "")


def test_log_that_cannot_be_opened_is_refused_and_nothing_has_changed(reading):
    text = reading.config.read_text()
    blocked = reading.folder / "blocked"
    blocked.mkdir()
    reading.config.write_text(text.replace(str(reading.log), str(blocked / "x.log")).replace("500", "700"))
    blocked.rmdir()
    blocked.touch()
    done = reading("reload")
    assert done.returncode == 2
    reading.config.write_text(text)
    assert of_control(reading("reload")) == (0, "nothing has changed\n", "")


# how it is asked


def test_sighup_reads_it_again_however_often_it_comes(reading, subscriber):
    reading.configure(reading.port, inverter="loglevel = WARNING\nusbreset = on\n")
    for _ in range(100):
        os.kill(reading.pid, signal.SIGHUP)
        let_pass(0.01)
    wait_for(lambda: "usbreset = on, was off" in reading.log.read_text(), "it is read")
    assert reading("reload").stdout == "nothing has changed\n", "the last of them is over"
    reading.configure(reading.port, inverter="usbreset = on\n")
    assert reading("reload").stdout == "[inverter] loglevel = INFO, was WARNING\n"
    assert reading.log.read_text().count("read again") <= 4
    assert reading.log.read_text().count("SIGHUP") <= 4
    subscriber.until(topic("data"))
    assert "Traceback" not in reading.log.read_text()


def test_sighup_with_a_mistake_is_logged_and_the_log_is_opened_again(reading, subscriber):
    """Their logrotate sends it each week, whatever stands in the file by now."""
    reading.config.write_text("rubbish\n")
    rotated = reading.log.with_suffix(".1")
    reading.log.rename(rotated)
    os.kill(reading.pid, signal.SIGHUP)
    wait_for(lambda: reading.log.exists() and "stays as it was" in reading.log.read_text(), "it says so")
    assert "stands before the first section" in reading.log.read_text()
    subscriber.until(topic("data"))


def test_several_at_once_are_all_answered(reading):
    commands = [sys.executable, GOODWE, "--config", str(reading.config), "--pidfile", str(reading.pidfile)]
    asking = [
        subprocess.Popen([*commands, "reload"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    outcomes = {(*one.communicate(timeout=60), one.returncode) for one in asking}
    assert outcomes == {("nothing has changed\n", "", 0)}


def test_relative_paths_begin_where_it_was_started_though_the_daemon_works_in_the_root(house, subscriber):
    house.simulate()
    house.config.write_text(house.config.read_text().replace(f"{house.folder}/", ""))
    assert "device = unix:inv.sock\nlogfile = goodwe.log\n" in house.config.read_text()
    command = [
        sys.executable,
        GOODWE,
        "--config",
        house.config.name,
        "--pidfile",
        house.pidfile.name,
        "start",
    ]
    started = subprocess.run(command, cwd=house.folder, capture_output=True, text=True, timeout=60)
    assert started.returncode == 0, started.stderr
    subscriber.until(topic("online"), "1")
    assert of_control(house("reload")) == (0, "nothing has changed\n", "")
    os.kill(house.pid, signal.SIGHUP)
    wait_for(lambda: house.log.read_text().count("nothing has changed") == 2, "SIGHUP takes the same way")


def test_folder_that_was_deleted_is_no_reason_not_to_start_in_it(house, subscriber):
    gone = house.folder / "gone"
    gone.mkdir()
    in_there = ["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "sh"]
    house.simulate()
    started = subprocess.run([*in_there, *house.command("start")], capture_output=True, text=True, timeout=60)
    assert started.returncode == 0, started.stderr
    subscriber.until(topic("online"), "1")
    assert of_control(house("reload")) == (0, "nothing has changed\n", "")


def test_reload_of_what_does_not_run_is_no_success(house):
    assert of_control(house("reload")) == (1, "", "GoodWe is not running\n")
    house.pidfile.write_text("99999999\n")
    assert of_control(house("reload")) == (1, "", "GoodWe is not running\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(house.pidfile.with_suffix(".sock")))
    assert of_control(house("reload")) == (1, "", "GoodWe is not running\n")


def test_foreground_is_asked_at_its_socket(house, subscriber):
    house.simulate()
    house.foreground()
    subscriber.until(topic("online"), "1")
    house.configure(house.port, inverter="usbreset = on\n")
    assert of_control(house("reload")) == (0, "[inverter] usbreset = on, was off\n", "")


class Systemd:
    """The part of systemd, for the program: a socket, and a word in its environment."""

    def __init__(self, house: House, **environment: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(house.folder / "notify")
        self._socket.bind(path)
        self._socket.settimeout(PATIENCE)
        command = ["--config", str(house.config), "--pidfile", str(house.pidfile), "foreground"]
        self.program = subprocess.Popen(
            [sys.executable, GOODWE, *command],
            env={**os.environ, "NOTIFY_SOCKET": path, **environment},
            stderr=subprocess.DEVNULL,
        )
        house.running.append(self.program)

    def told(self) -> str:
        return self._socket.recv(1000).decode()

    def until(self, text: str) -> str:
        while not re.fullmatch(text, told := self.told()):
            pass
        return told

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("line", ["usbreset = on", "rubbish"])
def test_systemd_is_told_when_a_reload_begins_and_ends(house, line):
    systemd = Systemd(house)
    systemd.until("READY=1")
    house.config.write_text(house.config.read_text().replace("[inverter]", f"[inverter]\n{line}"))
    before = time.monotonic()
    systemd.program.send_signal(signal.SIGHUP)
    usec = int(systemd.until(r"RELOADING=1\nMONOTONIC_USEC=\d+").rpartition("=")[2])
    assert before <= usec / 1e6 <= time.monotonic()
    systemd.until("READY=1")
    systemd.program.send_signal(signal.SIGTERM)
    assert systemd.program.wait(PATIENCE) == 0
    systemd.close()


def test_sighup_while_it_starts_is_survived(house, subscriber):
    """logrotate may come at the worst moment."""
    house.simulate()
    start = subprocess.Popen(
        [sys.executable, GOODWE, "--config", str(house.config), "--pidfile", str(house.pidfile), "start"]
    )
    pid = wait_for(lambda: house.pidfile.exists() and house.pidfile.read_text().strip(), "its number")
    for _ in range(50):
        os.kill(int(pid), signal.SIGHUP)
        let_pass(0.005)
    assert start.wait(PATIENCE) == 0
    subscriber.until(topic("online"), "1")
    for _ in range(20):
        os.kill(int(pid), signal.SIGHUP)
    assert house("stop").returncode == 0
    assert "Traceback" not in house.log.read_text()


# its states, with a clock that goes when it is told to


def configured(text):
    """The configuration with that text, which keeps nothing: the default is a file of the machine."""
    config, _ = parse(text, "test")
    return config.having(replace(config.inverter, statefile=""))


class Around:
    """The process around the program, of the test's own; and what reads the file."""

    def __init__(self):
        self.told = []
        self.config = configured("")
        self.next = self.config
        self.cannot_log = ""

    def reopen_log(self):
        self.told.append("log")

    def follow(self, config):
        if self.cannot_log:
            raise StartError(self.cannot_log)

    def in_force(self, config, warnings):
        self.config = config

    def reloading(self):
        self.told.append("begins")

    def reloaded(self):
        self.told.append("ended")


class Slow:
    """A worker whose jobs are done when the test says so."""

    def __init__(self):
        self.jobs = []

    def do(self, call, then):
        self.jobs.append((call, then))

    def finish(self):
        """It would end its thread."""

    def work(self):
        call, then = self.jobs.pop(0)
        try:
            result = call()
        except Exception as error:
            raised = error

            def outcome():
                raise raised

            then(outcome)
        else:
            then(lambda: result)


class Silent(Output):
    """An output that says nothing more at once, unless the test wants it to."""

    def __init__(self, settings, made, slow=False):
        self.settings, self.slow, self.events = settings, slow, []
        made.append(self)
        self.closed = False

    def handle(self, event):
        self.events.append(event)

    @property
    def stopped(self):
        return not self.slow

    def close(self):
        self.closed = True


class Bench:
    """A reloader on a program without inverters, with literal times."""

    def __init__(self, monkeypatch, tmp_path):
        self.clock = Clock(100.0)
        self.loop = Loop(self.clock)
        self.path = tmp_path / "t.conf"
        self.path.write_text("# whatever is in it, the next line of the test's own is what was read\n")
        self.around = Around()
        self.outcomes = []
        self.made = []
        self.refuses = []
        """Topics with which an output does not begin."""
        monkeypatch.setattr("goodwe.outputs.load", lambda name: self)
        self.SECTIONS, self.READS = mqtt.SECTIONS, mqtt.READS

        def context(config):
            return Context(self.loop, Random(1), lambda: 0.0, None, config, 300.0)

        self.app = App(
            self.around.config,
            self.loop,
            lambda app: make_outputs(self.around.config, context(self.around.config)),
            wall_clock=lambda: 1_700_000_000.0,
            find=lambda *_, **__: StandInFinder("/nowhere.sock", lambda wire: None),
        )
        self.worker = Slow()
        self.reloader = Reloader(
            str(self.path),
            lambda: (self.load(), []),
            app=self.app,
            around=self.around,
            context=context,
            loop=self.loop,
            config=self.around.config,
            warnings=[],
            was_there=True,
            worker=self.worker,
        )

    def load(self):
        return self.around.next

    def make(self, settings, context):
        if settings.topic in self.refuses:
            raise StartError(f"no {settings.topic} here")
        return Silent(settings, self.made)

    def ask(self):
        self.reloader.request("test", self.outcomes.append)

    def turn(self, now):
        self.clock.now = now
        while self.reloader.deadline <= now:
            self.reloader.tick(now)

    def reload(self, text, now):
        self.around.next = configured(text)
        self.ask()
        self.turn(now)
        self.worker.work()
        self.turn(now)
        return self.outcomes[-1]


@pytest.fixture
def bench(monkeypatch, tmp_path):
    return Bench(monkeypatch, tmp_path)


def test_a_file_that_cannot_be_read_in_time_is_refused_until_it_is_free_again(bench):
    bench.ask()
    bench.turn(100.0)
    bench.turn(104.9)
    assert (bench.outcomes, bench.reloader.deadline) == ([], 105.0)
    bench.turn(105.0)
    assert bench.outcomes == [Report(f"{bench.path}: to read it takes longer than 5 s", is_bad=True)]
    bench.ask()
    bench.turn(105.0)
    assert len(bench.outcomes) == 2, "refused at once: one thread hangs, and no second one"
    assert len(bench.worker.jobs) == 1
    bench.worker.work()
    assert len(bench.outcomes) == 2
    assert bench.reload("[mqtt]\nqos = 1\n", 200.0).changed == ["[mqtt] qos = 1, was 0"]
    assert bench.around.told.count("begins") == bench.around.told.count("ended") == 3


def test_file_that_is_written_to_meanwhile_is_read_anew(bench):
    half = configured("")
    whole = configured("[mqtt]\nqos = 1\n")
    found = [half, half, whole]

    def load():
        if len(found) > 1:
            bench.path.write_text(f"# {len(found)} to come\n")
        return found.pop(0)

    bench.load = load
    assert bench.reload("", 100.0).changed == ["[mqtt] qos = 1, was 0"]
    assert found == []

    def written_to():
        bench.path.write_text(bench.path.read_text() + "#\n")
        raise ConfigError("half of it is wrong")

    bench.load = written_to
    why = f"{bench.path}: it is written to all the while; ask again when that has ended"
    assert bench.reload("", 102.0) == Report(why, is_bad=True)


def test_file_is_read_once_a_second_at_most_and_each_is_told_of_what_came_after_it(bench):
    bench.ask()
    bench.turn(100.0)
    bench.ask()
    bench.ask()
    bench.worker.work()
    bench.turn(100.1)
    assert len(bench.outcomes) == 1
    assert bench.reloader.deadline == 101.0
    bench.turn(101.0)
    bench.worker.work()
    bench.turn(101.0)
    assert (len(bench.outcomes), bench.reloader.deadline) == (3, NEVER)


def test_output_that_does_not_begin_is_as_it_was_and_tried_again_with_the_next_reload(bench):
    bench.refuses = ["roof"]
    report = bench.reload("[mqtt]\ntopic = roof\n", 100.0)
    assert report.error == "output mqtt stays as it was: no roof here"
    assert not report.is_bad
    assert [output.settings.topic for output in bench.made] == ["goodwe", "goodwe"]
    assert bench.around.config.mqtt.topic == "goodwe"
    bench.refuses = []
    assert bench.reload("[mqtt]\ntopic = roof\n", 102.0).error == ""
    assert bench.made[-1].settings.topic == "roof"


def test_output_that_fails_by_a_defect_is_as_it_was(bench, monkeypatch, caplog):
    monkeypatch.setattr(bench, "make", lambda settings, context: {"goodwe": bench.made[0]}[settings.topic])
    report = bench.reload("[mqtt]\ntopic = roof\n", 100.0)
    assert report.error == "output mqtt stays as it was: KeyError: 'roof'"
    assert bench.app.fanout.names == ["mqtt"]


def test_output_that_does_not_find_its_end_is_closed(bench):
    bench.made[0].slow = True
    bench.ask()
    bench.around.next = configured("[mqtt]\nqos = 1\n")
    bench.turn(100.0)
    bench.worker.work()
    bench.turn(102.9)
    assert bench.outcomes == []
    bench.app.fanout.handle("between")
    bench.turn(103.0)
    assert bench.made[0].closed
    assert bench.made[1].events == ["between"], "nothing is lost meanwhile"
    assert bench.outcomes[0].changed == ["[mqtt] qos = 1, was 0"]


def test_end_waits_for_the_outputs_and_for_nothing_else(bench):
    ended = []

    def stop():
        bench.app.stop()
        ended.append(len(bench.made))

    bench.made[0].slow = True
    bench.around.next = configured("[mqtt]\nqos = 1\n")
    bench.ask()
    bench.turn(100.0)
    bench.worker.work()
    bench.reloader.end(stop)
    assert ended == []
    bench.made[0].slow = False
    bench.turn(100.1)
    assert ended == [2], "once the other is in its place: it has the goodbye to say"
    bench.ask()
    assert bench.outcomes[-1].error == "the program ends"


def test_end_while_the_file_is_read_refuses_the_reload(bench):
    bench.ask()
    bench.turn(100.0)
    bench.reloader.end(bench.app.stop)
    assert bench.outcomes == [Report("the program ends")]
    bench.worker.work()
    assert len(bench.outcomes) == 1


def test_log_that_cannot_be_opened_is_a_refusal(bench):
    bench.around.cannot_log = "cannot open the log file /x: Permission denied"
    assert bench.reload("[mqtt]\nqos = 1\n", 100.0) == Report(bench.around.cannot_log, is_bad=True)
    assert len(bench.made) == 1


def test_defect_in_reading_ends_nothing(bench, caplog):
    bench.around.next = None
    bench.ask()
    bench.turn(100.0)
    bench.worker.work()
    assert bench.outcomes[0].error.startswith("AttributeError: ")
    assert "Traceback" in caplog.text


def test_unchanged_file_touches_no_output(bench):
    report = bench.reload("", 100.0)
    assert (report.changed, report.error, len(bench.made)) == ([], "", 1)
    assert bench.reload("[inverter]\npollinterval = 5000\nusbreset = on\n", 102.0).error == ""
    assert len(bench.made) == 1
    assert bench.reload("[inverter]\nofflinevalues = keep\n", 104.0).error == ""
    assert len(bench.made) == 2, "it is told of that"


# the difference, in lines


def difference(old: str, new: str) -> list[str]:
    return changes(parse(old, "old")[0], parse(new, "new")[0]).lines


def test_secrets_and_what_may_be_one_are_named_only(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("hunter1")
    second.write_text("hunter2")
    login = "[mqtt]\nusername = me\n"
    assert difference(f"{login}passwordfile = {first}\n", f"{login}passwordfile = {second}\n") == [
        "[mqtt] password has changed",
        f"[mqtt] passwordfile = {second}, was {first}",
    ]
    assert difference(login, f"{login}password = hunter2\n") == ["[mqtt] password has changed"]


def test_difference_has_the_words_of_the_file():
    assert difference(
        "[mqtt]\nserver = a, b\n[homeassistant]\ndiscovery = off\n",
        "[inverter]\nvendorId = 1234\nloglevel = debug\n[mqtt]\nserver = c\nbacklog = /x/y.db\n",
    ) == [
        "[inverter] loglevel = DEBUG, was INFO",
        "[inverter] vendorId = 1234, was 0084",
        "[mqtt] server = c, was a, b",
        "[mqtt] backlog = /x/y.db, was (empty)",
        "[homeassistant] discovery = on, was off",
    ]
