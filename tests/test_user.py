"""Started by root, the daemon goes on as another user: `user` in [inverter]."""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from DaemonPy import user
from goodwe.config import parse, rules
from goodwe.errors import ConfigError

from .broker import let_pass, wait_for
from .children import unmeasured
from .test_program import GOODWE, House, topic

NOBODY = pwd.getpwuid(65534)
ROOT = Path(__file__).parents[1]

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


class System:
    """The calls of os that change who we are, noted; root can be had again if the test says so."""

    def __init__(self, *, way_back: bool = False) -> None:
        self.calls = []
        self.environ = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C"}
        self.way_back = way_back

    def initgroups(self, name, gid):
        self.calls.append(("initgroups", name, gid))

    def setresgid(self, *ids):
        self.calls.append(("setresgid", *ids))

    def setresuid(self, *ids):
        self.calls.append(("setresuid", *ids))

    def setuid(self, uid):
        if not self.way_back:
            raise PermissionError(1, "Operation not permitted")


WHO = pwd.struct_passwd(("goodwe", "x", 107, 112, "", "/nonexistent", "/usr/sbin/nologin"))


def test_groups_come_first_then_the_group_then_the_user():
    system = System()
    user.become(WHO, system)
    assert system.calls == [
        ("initgroups", "goodwe", 112),
        ("setresgid", 112, 112, 112),
        ("setresuid", 107, 107, 107),
    ]
    assert system.environ == {"HOME": "/nonexistent", "USER": "goodwe", "LOGNAME": "goodwe", "LANG": "C"}


def test_way_back_to_root_is_a_defect():
    with pytest.raises(RuntimeError, match="root could be had again after becoming goodwe"):
        user.become(WHO, System(way_back=True))


@pytest.mark.parametrize("kind", ["symlink", "hard link", "moved away"])
def test_file_that_may_be_another_s_is_not_given_away(tmp_path, kind):
    """The user may write to the folder of the log, and root opens what its path leads to."""
    secret, path = tmp_path / "secret", tmp_path / "log"
    secret.touch()
    if kind == "symlink":
        path.symlink_to(secret)
    elif kind == "hard link":
        path.hardlink_to(secret)
    else:
        path.touch()
    with path.open("a") as file:
        if kind == "moved away":
            path.rename(tmp_path / "log.1")
            path.touch()
        assert not user.give(file.fileno(), str(path), pwd.getpwuid(os.getuid()))


def test_plain_file_is_given(tmp_path):
    with (tmp_path / "log").open("a") as file:
        assert user.give(file.fileno(), str(tmp_path / "log"), pwd.getpwuid(os.getuid()))


@pytest.mark.parametrize("name", ["nobodyy", "goodwe ", "0", "65534", "-"])
def test_user_that_is_none_is_refused(name):
    with pytest.raises(
        ConfigError, match=r"^x:2: user = .*must be the name of a user of this machine \(sudo"
    ):
        parse(f"[inverter]\nuser = {name}x\n", "x")


def test_user_of_this_machine_is_taken():
    assert parse(f"[inverter]\nuser = {NOBODY.pw_name}\n", "x")[0].inverter.user == NOBODY.pw_name


# for real


def python() -> list[str]:
    """A Python of ours that everybody may run; nothing without one."""
    for path in filter(shutil.which, (sys.executable, "/usr/bin/python3")):
        command = [path, "-c", "import ssl, paho.mqtt.client, simplejson"]
        with contextlib.suppress(PermissionError):
            if not subprocess.run(
                command, env=environment(), user=65534, stderr=subprocess.DEVNULL, cwd="/"
            ).returncode:
                return [path]
    return []


def environment() -> dict[str, str]:
    """Another user may not write the coverage data beside our sources."""
    return {
        **unmeasured(),
        "PYTHONPATH": os.pathsep.join(site.getsitepackages()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class UserHouse(House):
    """A house whose program becomes nobody."""

    def configure(self, port: int, *, inverter: str = "", mqtt: str = "") -> None:
        text = f"statefile = {self.folder / 'lib' / 'state.json'}\nuser = {NOBODY.pw_name}\n{inverter}"
        super().configure(port, inverter="", mqtt=mqtt)
        lines = self.config.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("statefile")]
        self.config.write_text("".join(kept).replace("[mqtt]", f"{text}[mqtt]"))

    def __call__(self, *arguments, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        options = ["--config", str(self.config), "--pidfile", str(self.pidfile)]
        return subprocess.run(
            [*before, *python(), GOODWE, *options, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )


@pytest.fixture
def house(mosquitto):
    """In a folder that everybody may enter: another run of pytest closes its own ones again."""
    if not python():
        pytest.skip("no Python here that another user may run")
    with tempfile.TemporaryDirectory(prefix="goodwe-user-") as folder:
        os.chmod(folder, 0o755)
        house = UserHouse(Path(folder), mosquitto.port)
        yield house
        house.end()


@pytest.fixture
def reading(house, subscriber):
    house.simulate()
    house.socket.chmod(0o666)
    started = house("start")
    assert started.returncode == 0, started.stderr
    subscriber.until(topic("online"), "1")
    return house


def ids(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}


@as_root
def test_daemon_of_root_goes_on_as_the_user_and_nothing_is_left_of_root(reading):
    about = ids(reading.pid)
    assert about["Uid"] == about["Gid"] == ["65534"] * 4
    assert about["Groups"] == ["65534"]
    assert about["CapEff"] == about["CapPrm"] == ["0" * 16]
    assert (reading.log.stat().st_uid, reading.pidfile.with_suffix(".sock").stat().st_uid) == (65534, 65534)
    assert "Going on as user nobody" in reading.log.read_text()


@as_root
def test_root_asks_stops_and_restarts_it_and_nothing_is_left(reading, subscriber):
    assert f"already running, pid {reading.pid}" in reading("start").stderr
    assert reading("status").stdout == f"GoodWe is running, pid {reading.pid}\n"
    assert reading("reload").stdout == "nothing has changed\n"
    first = reading.pid
    assert reading("restart").returncode == 0
    assert reading.pid != first
    subscriber.until(topic("online"), "0")
    subscriber.until(topic("online"), "1")
    assert reading("stop").returncode == 0
    assert not reading.pidfile.exists()
    assert not reading.pidfile.with_suffix(".sock").exists()
    assert reading("status").returncode == 3
    assert (reading.folder / "lib" / "state.json").stat().st_uid == 65534


@as_root
def test_one_that_ended_by_itself_leaves_an_empty_pid_file_that_hinders_nothing(reading):
    """The folder is root's: the user may not remove what is in it."""
    os.kill(reading.pid, signal.SIGTERM)
    wait_for(lambda: not reading.pidfile.read_text(), "it is emptied")
    assert reading("status").returncode == 3
    assert reading("start").returncode == 0


@as_root
def test_log_that_root_moves_away_goes_on_where_it_can(reading):
    rotated = reading.log.with_suffix(".1")
    reading.log.rename(rotated)
    os.kill(reading.pid, signal.SIGHUP)
    wait_for(lambda: "may" in rotated.read_text() or "denied" in rotated.read_text(), "it says so")
    let_pass(1.0)
    reading.log.touch()
    os.chown(reading.log, 65534, 65534)  # as logrotate's `create` does
    os.kill(reading.pid, signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in reading.log.read_text(), "the new file is taken")
    assert rotated.read_text().count("permission denied to open") == 1


@as_root
def test_change_of_the_user_is_said_to_take_a_restart_each_time(reading):
    reading.config.write_text(reading.config.read_text().replace("user = nobody", "user = root"))
    for _ in range(2):
        told = reading("reload")
        assert (told.returncode, told.stdout) == (
            0,
            "[inverter] user = root, was nobody (in force after a restart)\n",
        )


@as_root
def test_configuration_that_the_user_may_not_read_again_is_refused_with_the_remedy(reading):
    reading.config.chmod(0o600)
    told = reading("reload")
    assert told.returncode == 2
    assert f"the program runs as nobody: sudo chgrp nogroup {reading.config} &&" in told.stderr


@as_root
def test_folder_of_the_state_that_is_root_s_is_said_with_the_remedy(house, subscriber):
    (house.folder / "lib").mkdir()
    house.simulate()
    house.socket.chmod(0o666)
    assert house("start").returncode == 0
    subscriber.until(topic("online"), "1")
    folder = house.folder / "lib"
    assert f"nobody may not write to {folder}; sudo chown -R nobody {folder}" in house.log.read_text()


@as_root
def test_second_program_is_refused_whoever_the_first_has_become(reading):
    """The lock is that of a user here and of root there."""
    mine = reading.config.read_text()
    refused = f"already running, pid {reading.pid}, with the same statefile"
    other = ["--pidfile", reading.folder / "other.pid"]
    assert refused in reading(*other, "start").stderr
    reading.config.write_text(mine.replace("user = nobody\n", ""))
    assert refused in reading(*other, "start").stderr
    assert reading("stop").returncode == 0
    lock = reading.folder / "lib" / "state.json.lock"
    with lock.open("w") as held:
        lock.chmod(0o644)
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("123\n")
        held.flush()
        reading.config.write_text(mine)
        assert "already running, pid 123, with the same statefile" in reading("start").stderr
    assert reading("start").returncode == 0, "root's lock remains, and nobody holds it"
    assert lock.stat().st_uid == 65534


def test_remedy_for_a_user_whose_group_has_no_name(monkeypatch, tmp_path):
    """As in a container, which has a line in passwd alone."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr("grp.getgrgid", unknown)
    monkeypatch.setattr(rules, "may", lambda name, right, path: right == "-x")
    file = tmp_path / "secret"
    group = pwd.getpwnam("nobody").pw_gid
    assert rules._opening("nobody", str(file)) == f"sudo chgrp {group} {file} && sudo chmod 640 {file}"


@as_root
@pytest.mark.parametrize("key", ["cafile", "passwordfile", "keyfile"])
@pytest.mark.parametrize("obstacle", ["", "file", "folder"])
def test_file_that_the_user_may_not_read_is_a_warning_with_the_remedy(house, key, obstacle):
    """Root reads it at the start; the user reads it again at each connection."""
    folder = house.folder / "secret"
    folder.mkdir(mode=0o700 if obstacle == "folder" else 0o755)
    file = folder / "file"
    file.touch(mode=0o600)
    if not obstacle:
        os.chown(file, 65534, 65534)
    text = {"passwordfile": "username = me\n", "keyfile": f"tls = on\ncertfile = {GOODWE}\n"}.get(
        key, "tls = on\n"
    )
    _, warnings = parse(f"[inverter]\nuser = nobody\n[mqtt]\n{text}{key} = {file}\n", "x")
    about = [warning for warning in warnings if "may not read" in warning]
    remedy = {
        "file": f"sudo chgrp nogroup {file} && sudo chmod 640 {file}",
        "folder": f"put it into a folder that nobody may enter: not {folder}",
    }
    wanted = f"x: nobody, as whom the program goes on, may not read {file}; {remedy.get(obstacle)}"
    assert about == ([wanted] if obstacle else [])
    _, warnings = parse(f"[inverter]\nuser = root\n[mqtt]\n{text}{key} = {file}\n", "x")
    assert not [warning for warning in warnings if "may not read" in warning]


@as_root
def test_foreground_of_root_goes_on_as_the_user_too(house, subscriber):
    house.simulate()
    house.socket.chmod(0o666)
    command = ["--config", str(house.config), "--pidfile", str(house.pidfile), "foreground"]
    program = subprocess.Popen([*python(), GOODWE, *command], env=environment(), stderr=subprocess.DEVNULL)
    house.running.append(program)
    subscriber.until(topic("online"), "1")
    assert ids(program.pid)["Uid"] == ["65534"] * 4


@as_root
@pytest.mark.parametrize(("uid", "name"), [(65534, "nobody"), (54321, "54321")])
def test_one_who_is_not_root_is_told_that_it_has_no_effect(house, uid, name):
    """Also one without a name, as in a container."""
    house.config.write_text(house.config.read_text().replace("user = nobody", "user = root"))
    house.folder.chmod(0o777)
    started = subprocess.run(
        [*python(), GOODWE, "--config", house.config, "--pidfile", house.pidfile, "start"],
        env=environment(),
        user=uid,
        timeout=60,
        cwd="/",
    )
    assert started.returncode == 0
    why = f"only root can become another, and it runs as {name}"
    assert f"WARNING: user = root in [inverter] has no effect: {why}" in house.log.read_text()


@as_root
def test_python_that_the_user_may_not_read_is_said(tmp_path, mosquitto):
    """Much is imported only when it is needed, and then it is too late."""
    hidden = tmp_path / "hidden"
    shutil.copytree(ROOT / "goodwe", hidden / "goodwe")
    shutil.copytree(ROOT / "DaemonPy", hidden / "DaemonPy")
    shutil.copy(GOODWE, hidden)
    hidden.chmod(0o700)
    house = UserHouse(tmp_path, mosquitto.port)

    def run(verb: str) -> subprocess.CompletedProcess:
        command = [sys.executable, hidden / "GoodWe.py", "--config", house.config, "--pidfile", house.pidfile]
        return subprocess.run([*command, verb], capture_output=True, text=True, timeout=60)

    started = run("start")
    assert started.returncode == 1
    assert "user = nobody in [inverter]: nobody may not read /" in started.stderr
    assert "install all where everybody may read" in started.stderr
    assert not house.pidfile.exists()
    assert not house.pidfile.with_suffix(".sock").exists()
    checked = run("check-config")
    assert (checked.returncode, checked.stdout) == (2, "")
    assert checked.stderr.removeprefix(f"{house.config}: ") == started.stderr.removeprefix(
        "GoodWe could not start: "
    )


@as_root
def test_start_that_failed_as_the_user_leaves_neither_pid_file_nor_socket(reading):
    """The user may not remove them: the folder is root's."""
    other = reading.folder / "other.pid"
    assert "with the same statefile" in reading("--pidfile", other, "start").stderr
    assert not other.exists()
    assert not other.with_suffix(".sock").exists()


@as_root
def test_what_the_user_may_read_is_right_for_check_config(house):
    done = house("check-config")
    assert (done.returncode, done.stderr) == (0, "")
