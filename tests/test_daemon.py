"""Real forks in a temporary directory: start, stop, restart, status, foreground and all that goes wrong."""

import ast
import ctypes
import errno
import logging
import os
import platform
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from DaemonPy import Notifier, PidFile
from DaemonPy.logfile import LogFile
from DaemonPy.pidfile import AlreadyRunning, PidFileError
from DaemonPy.signals import Wakeup
from goodwe.memory import give_back, keep_one_heap

from .broker import PATIENCE, wait_for
from .children import unmeasured

ROOT = Path(__file__).parents[1]

PROGRAM = """
import os, select, sys
from pathlib import Path
from signal import SIGHUP, SIGTERM, pthread_sigmask, SIG_BLOCK, signal, SIG_IGN
from DaemonPy import Daemon, DaemonStartError
from DaemonPy.signals import Wakeup

pidfile, verb, mode = sys.argv[1:]
folder = Path(pidfile).parent

class Example(Daemon):
    name = "Example"
    older_ones = (frozenset(("OldExample.py", "start")),)

    def _detach(self):
        if mode == "slow":
            select.select([], [], [], 0.5)
        super()._detach()

    def run(self):
        if mode == "refuse":
            raise DaemonStartError("cannot open the log file: permission denied")
        if mode == "defect":
            raise ZeroDivisionError("a defect")
        if mode == "vanish":
            os._exit(7)
        if mode == "slow":
            select.select([], [], [], 60)
        if mode == "late defect":
            self.ready()
            raise ZeroDivisionError("a defect")
        wakeup = Wakeup([SIGTERM])
        if mode == "stubborn":
            signal(SIGTERM, SIG_IGN)
        umask = os.umask(0o022)
        os.umask(umask)
        facts = [os.getcwd(), oct(umask), os.getsid(0) != os.getpid()]
        (folder / "facts").write_text(repr(facts))
        (folder / "streams").write_text(" ".join(os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)))
        self.ready()
        while mode == "stubborn" or not select.select([wakeup], [], [], 60)[0]:
            pass
        wakeup.take()
        (folder / "clean").touch()
        return 0

if os.environ.get("BECOME"):
    os.setuid(int(os.environ["BECOME"]))
daemon = Example(pidfile, grace=0.5 if mode == "stubborn" else 10.0)
sys.exit(getattr(daemon, verb)())
"""


class Example:
    """The daemon above, by its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pidfile = folder / "example.pid"
        self.script = folder / "example.py"
        self.script.write_text(PROGRAM)

    def __call__(self, verb: str, mode: str = "", *, pidfile: Path | None = None, uid: int | None = None):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if uid is not None:
            # Another user may not write the coverage data beside our sources.
            environment = {**unmeasured(), "PYTHONPATH": str(ROOT), "BECOME": str(uid)}
        return subprocess.run(
            [sys.executable, str(self.script), str(pidfile or self.pidfile), verb, mode],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())


@pytest.fixture
def example(tmp_path):
    example = Example(tmp_path)
    yield example
    if example.pidfile.exists():
        example("stop", "stubborn")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_start_returns_when_the_daemon_is_up_and_names_its_number(example):
    started = example("start")
    assert (started.returncode, started.stdout) == (0, f"Example started, pid {example.pid}\n")
    assert example.pidfile.read_text() == f"{example.pid}\n"
    assert alive(example.pid)
    directory, umask, no_leader = ast.literal_eval((example.folder / "facts").read_text())
    assert (directory, umask, no_leader) == ("/", "0o22", True)
    assert (example.folder / "streams").read_text() == "/dev/null /dev/null /dev/null"
    assert stat.S_IMODE((example.folder / "facts").stat().st_mode) == 0o644
    assert stat.S_IMODE(example.pidfile.stat().st_mode) == 0o644


def test_stop_ends_it_cleanly_and_the_pid_file_is_gone(example):
    example("start")
    pid = example.pid
    stopped = example("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Example stopped\n")
    assert not alive(pid)
    assert not example.pidfile.exists()
    assert (example.folder / "clean").exists()


def test_second_start_names_the_running_one(example):
    example("start")
    pid = example.pid
    again = example("start")
    assert (again.returncode, again.stderr) == (1, f"Example is already running, pid {pid}\n")
    assert example.pid == pid
    assert alive(pid)


def test_stop_when_it_does_not_run_is_no_failure(example):
    stopped = example("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "Example is not running\n")


def test_restart_is_another_process(example):
    example("start")
    first = example.pid
    restarted = example("restart")
    assert restarted.returncode == 0
    assert example.pid != first
    assert alive(example.pid)
    assert not alive(first)


def test_restart_of_one_that_does_not_run_starts_it(example):
    assert example("restart").returncode == 0
    assert alive(example.pid)


def test_status_has_the_codes_of_lsb(example):
    assert example("status").returncode == 3
    example("start")
    running = example("status")
    assert (running.returncode, running.stdout) == (0, f"Example is running, pid {example.pid}\n")
    os.kill(example.pid, signal.SIGKILL)
    wait_for(lambda: not alive(example.pid), "it is dead")
    dead = example("status")
    assert dead.returncode == 1
    assert str(example.pidfile) in dead.stdout
    example("stop")
    assert example("status").returncode == 3


def test_start_after_kill_9(example):
    example("start")
    first = example.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not alive(first), "it is dead")
    assert example("start").returncode == 0
    assert example.pid != first


def test_one_that_ignores_sigterm_is_killed_after_the_grace_time(example):
    example("start", "stubborn")
    pid = example.pid
    assert example("stop", "stubborn").returncode == 0
    assert not alive(pid)


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("refuse", "Example could not start: cannot open the log file: permission denied\n"),
        ("defect", "Example could not start: ZeroDivisionError: a defect\n"),
        ("vanish", "Example could not start: it ended before it was ready; see its log\n"),
    ],
)
def test_what_goes_wrong_before_it_is_ready_reaches_the_shell(example, mode, told):
    started = example("start", mode)
    assert (started.returncode, started.stderr) == (1, told)
    if mode != "vanish":
        assert not example.pidfile.exists()


def test_defect_after_it_was_ready_ends_it_with_the_pid_file_gone(example):
    assert example("start", "late defect").returncode == 0
    wait_for(lambda: not example.pidfile.exists(), "it is gone")


# the pid file


@pytest.mark.parametrize("content", ["", "rubbish\n", "-1\n", "0\n", "99999999\n", "12 34\n"])
def test_stale_or_garbage_pid_file_hinders_nothing(example, content):
    example.pidfile.write_text(content)
    assert example("status").returncode == (1 if content == "99999999\n" else 3)
    assert example("start").returncode == 0
    assert alive(example.pid)


def test_stop_removes_a_stale_pid_file_and_says_so(example):
    example.pidfile.write_text("rubbish\n")
    stopped = example("stop")
    assert (stopped.returncode, "removed the stale" in stopped.stderr) == (0, True)
    assert not example.pidfile.exists()


def test_number_that_another_process_has_by_now_is_not_killed(example):
    other = subprocess.Popen(["sleep", "60"])
    example.pidfile.write_text(f"{other.pid}\n")
    assert example("stop").returncode == 0
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.fixture
def older(example):
    """A version that writes the same pid file and knows no lock."""
    script = example.folder / "OldExample.py"
    script.write_text("import time; print('up', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, str(script), "start"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b"up\n"
    example.pidfile.write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait(PATIENCE)
    process.stdout.close()


def test_older_version_that_knows_no_lock_counts_as_running(example, older):
    assert example("status").stdout == f"Example is running, pid {older.pid}\n"
    assert example("start").stderr == f"Example is already running, pid {older.pid}\n"
    assert older.poll() is None


def test_restart_replaces_an_older_version(example, older):
    assert example("restart").returncode == 0
    assert older.wait(PATIENCE) == -signal.SIGTERM
    assert example.pid != older.pid
    assert alive(example.pid)


def test_stop_of_an_older_version_removes_its_pid_file(example, older):
    assert example("stop").returncode == 0
    assert older.wait(PATIENCE) == -signal.SIGTERM
    assert not example.pidfile.exists()


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_are_no_hindrance(example, closed):
    command = f'exec "$@" {closed}'
    arguments = [sys.executable, str(example.script), str(example.pidfile), "start", ""]
    done = subprocess.run(
        ["sh", "-c", command, "sh", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.returncode == 0
    assert example("status").returncode == 0
    assert (example.folder / "streams").read_text() == "/dev/null /dev/null /dev/null"


def test_stale_number_that_is_now_the_starting_process_hinders_nothing(example):
    script = example.folder / "OldExample.py"
    script.write_text(PROGRAM)
    command = 'echo $$ > "$2"; exec "$0" "$@"'
    arguments = [sys.executable, str(script), str(example.pidfile), "start", ""]
    done = subprocess.run(
        ["sh", "-c", command, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.returncode == 0
    assert alive(example.pid)


def test_stop_of_one_that_is_just_starting_stops_the_daemon(example):
    starting = subprocess.Popen(
        [sys.executable, str(example.script), str(example.pidfile), "start", "slow"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: PidFile(str(example.pidfile)).holder().locked, "the file is locked")
    stopped = example("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Example stopped\n")
    assert starting.wait(PATIENCE) == 1
    assert (example("status").returncode, example.pidfile.exists()) == (3, False)


def test_status_hinders_no_start(tmp_path):
    pidfile = PidFile(str(tmp_path / "x.pid"))
    pidfile.lock()
    pidfile.release()
    looking = True

    def look():
        while looking:
            PidFile(pidfile.path).holder()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            pidfile.lock()
            pidfile.release()
    finally:
        looking = False
        for looker in lookers:
            looker.join(PATIENCE)


def test_files_of_whoever_starts_it_are_closed(example):
    reader, writer = os.pipe()
    subprocess.run(
        [sys.executable, str(example.script), str(example.pidfile), "start", ""],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=[writer],
        timeout=60,
    )
    os.close(writer)
    assert alive(example.pid)
    assert select.select([reader], [], [], PATIENCE)[0], "nobody has the other end any more"
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_locked_file_without_a_number_is_said(example):
    held = PidFile(str(example.pidfile))
    held.lock()
    stopped = example("stop")
    assert stopped.returncode == 1
    assert "does not say as which process" in stopped.stderr
    assert example("start").stderr == "Example is already running, pid unknown\n"
    held.release()


@pytest.mark.parametrize("verb", ["start", "stop", "status"])
def test_directory_in_place_of_the_pid_file_is_said(example, verb):
    example.pidfile.mkdir()
    done = example(verb)
    assert done.returncode in (0, 1, 3)
    assert "Traceback" not in done.stderr
    if verb == "start":
        assert "choose another with --pidfile" in done.stderr
        assert done.returncode == 1
    example.pidfile.rmdir()


@pytest.mark.parametrize("where", ["missing/example.pid", "example.py/example.pid"])
def test_pid_file_that_cannot_be_is_said(example, where):
    started = example("start", pidfile=example.folder / where)
    assert started.returncode == 1
    assert "choose another with --pidfile" in started.stderr
    assert "Traceback" not in started.stderr


def test_folder_of_the_pid_file_is_made_where_it_is_empty_after_boot(tmp_path):
    pidfile = PidFile(f"{tmp_path}/run/goodwe/x.pid", empty_after_boot=(f"{tmp_path}/run/",))
    assert pidfile.holder() == (False, None, False)
    assert not (tmp_path / "run").exists(), "a look makes nothing"
    pidfile.lock()
    assert PidFile(pidfile.path).holder().locked
    pidfile.release()
    with pytest.raises(PidFileError, match="its directory does not exist; choose another with --pidfile"):
        PidFile(f"{tmp_path}/rum/goodwe/x.pid", empty_after_boot=(f"{tmp_path}/run/",)).lock()
    (tmp_path / "run" / "file").touch()
    with pytest.raises(PidFileError, match="choose another with --pidfile"):
        PidFile(f"{tmp_path}/run/file/x.pid", empty_after_boot=(f"{tmp_path}/run/",)).lock()
    assert PidFile("/run/goodwe/goodwe.pid")._makes_folder
    assert PidFile("/var/run/goodwecomm.pid")._makes_folder
    assert not PidFile("/running/goodwe.pid")._makes_folder


def reachable(folder: Path) -> None:
    """Let another user into a temporary directory, and no further."""
    for parent in [folder, *folder.parents]:
        if "pytest-of" in str(parent):
            parent.chmod(0o755)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_user_without_the_right_is_told_to_use_sudo(example):
    reachable(example.folder)
    example("start")
    pid = example.pid
    stopped = example("stop", uid=65534)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"not allowed to stop pid {pid}; run with sudo\n")
    assert alive(pid)
    started = example("start", uid=65534, pidfile=example.folder / "another.pid")
    assert started.returncode == 1
    assert "permission denied; run with sudo, or choose another with --pidfile" in started.stderr
    example.pidfile.chmod(0o600)
    for verb in ("status", "stop"):
        looked = example(verb, uid=65534)
        assert looked.returncode == 1
        told = "permission denied; run with sudo"
        assert looked.stderr.startswith(f"cannot open the pid file {example.pidfile}: {told}\n")
    example.pidfile.chmod(0o644)
    stale = example.folder / "stale.pid"
    stale.write_text("99999999\n")
    not_running = example("stop", uid=65534, pidfile=stale)
    assert (not_running.returncode, not_running.stderr) == (0, "Example is not running\n")
    example.pidfile.chmod(0o600)
    status = example("status", uid=65534)
    assert status.returncode == 1
    assert "permission denied" in status.stderr


def test_of_ten_starts_at_once_one_wins(example):
    command = [sys.executable, str(example.script), str(example.pidfile), "start", ""]
    starts = [
        subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(10)
    ]
    outcomes = [(start.communicate(timeout=60), start.returncode) for start in starts]
    assert sorted(code for _, code in outcomes) == [0] + [1] * 9
    (winner,) = [out for (out, _), code in outcomes if code == 0]
    assert winner == f"Example started, pid {example.pid}\n".encode()


def test_file_that_was_replaced_between_open_and_lock_is_not_taken_for_ours(tmp_path):
    path = tmp_path / "x.pid"

    class Slow(PidFile):
        """Another process ends, and removes the file, just between our open and our lock."""

        opened = 0

        def _open(self, flags: int) -> int:
            descriptor = super()._open(flags)
            self.opened += 1
            if self.opened == 1:
                path.unlink()
            return descriptor

    slow = Slow(str(path))
    slow.lock()
    assert slow.opened == 2
    with pytest.raises(AlreadyRunning):
        PidFile(str(path)).lock()
    slow.release()


def test_file_in_a_directory_that_became_read_only_is_emptied(tmp_path):
    file = PidFile(str(tmp_path / "x.pid"))
    file.lock()
    file.write(123)
    (tmp_path / "x.pid").unlink()  # what is not there cannot be removed
    file.release()
    file.release()
    assert file.holder() == (False, None, False)


def test_pid_file_that_was_removed_is_made_anew_by_whom_it_is_of(tmp_path):
    path = tmp_path / "example.pid"
    file = PidFile(str(path))
    file.keep(7)
    assert not path.exists(), "it was never ours"
    file.lock()
    file.write(7)
    path.unlink()
    file.keep(7)
    assert path.read_text() == "7\n"
    assert PidFile(str(path)).holder().locked
    file.release()
    assert not path.exists()


@pytest.fixture
def overtaken(tmp_path):
    """A pid file that was ours, and another program's at the same path since somebody has removed it."""
    path = tmp_path / "example.pid"
    file, other = PidFile(str(path)), PidFile(str(path))
    file.lock()
    path.unlink()
    other.lock()
    other.write(8)
    return path, file, other


def test_pid_file_in_whose_place_there_is_another_stays_away(overtaken, tmp_path):
    path, file, _ = overtaken
    file.keep(7)
    assert path.read_text() == "8\n"
    path.unlink()
    path.mkdir()
    file.keep(7)
    path.rmdir()
    tmp_path.joinpath("gone").mkdir()
    os.rename(tmp_path / "gone", path)
    file.keep(7)
    assert path.is_dir()


def test_pid_file_of_another_one_stays_when_we_end(overtaken):
    path, file, other = overtaken
    file.release()
    assert path.read_text() == "8\n"
    other.release()
    assert not path.exists()


def test_file_system_without_locks_is_told(tmp_path, monkeypatch):
    """A network's, without its lock daemon."""
    file = PidFile(str(tmp_path / "x.pid"))
    before = len(os.listdir("/proc/self/fd"))

    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("DaemonPy.pidfile.fcntl.flock", no_locks)
    with pytest.raises(PidFileError, match=r"x\.pid: No locks available; choose another with --pidfile"):
        file.lock()
    assert len(os.listdir("/proc/self/fd")) == before


def test_full_disk_is_told(tmp_path):
    file = PidFile(str(tmp_path / "x.pid"))
    file.lock()
    # Its own file is locked; only what is written goes to the full device, which is the whole machine's.
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, file._descriptor)
    os.close(full)
    with pytest.raises(PidFileError, match="No space left"):
        file.write(1)
    file.release()


# the log


@pytest.fixture
def logfile(tmp_path):
    (tmp_path / "log").mkdir()
    handler = LogFile(str(tmp_path / "log" / "x.log"))
    yield handler
    handler.close()


def say(handler: LogFile, text: str) -> None:
    handler.handle(logging.LogRecord("x", logging.INFO, __file__, 1, text, None, None))


def test_folder_of_the_log_that_vanished_is_made_again(logfile, tmp_path):
    say(logfile, "before")
    shutil.rmtree(tmp_path / "log")
    say(logfile, "after")
    assert (tmp_path / "log" / "x.log").read_text() == "after\n"
    shutil.rmtree(tmp_path / "log")
    logfile.reopen()
    assert (tmp_path / "log" / "x.log").exists()


def test_folder_of_the_log_that_was_never_there_is_a_mistake(tmp_path):
    with pytest.raises(FileNotFoundError):
        LogFile(str(tmp_path / "misspelt" / "x.log"))


def test_log_that_cannot_be_opened_for_a_while_goes_on_later(logfile, tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)  # nobody sees the lost lines
    (tmp_path / "log").rename(tmp_path / "moved")
    (tmp_path / "log").touch()
    say(logfile, "lost")
    logfile.reopen()
    say(logfile, "lost")
    (tmp_path / "log").unlink()
    say(logfile, "written")
    assert (tmp_path / "log" / "x.log").read_text() == "written\n"


def test_close_that_fails_ends_no_log(logfile, tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    for use in (lambda: say(logfile, "lost"), logfile.reopen):
        (tmp_path / "log" / "x.log").rename(tmp_path / "x.log.1")
        os.close(logfile.stream.fileno())  # as a file system that tells of its full disk only now
        use()
        say(logfile, "written")
        assert (tmp_path / "log" / "x.log").read_text() == "written\n"


@pytest.mark.parametrize("use", ["say", "reopen"])
def test_log_follows_its_path_and_leaves_the_moved_file_alone(logfile, tmp_path, use):
    path = tmp_path / "log" / "x.log"
    say(logfile, "before")
    path.rename(tmp_path / "x.log.1")
    path.write_text("of another\n")
    if use == "reopen":
        logfile.reopen()
        stream = logfile.stream
    say(logfile, "after")
    assert path.read_text() == "of another\nafter\n"
    assert (tmp_path / "x.log.1").read_text() == "before\n"
    if use == "reopen":
        assert logfile.stream is stream


def test_log_stays_open_while_it_is_at_its_path(logfile):
    stream = logfile.stream
    say(logfile, "one")
    logfile.reopen()
    say(logfile, "two")
    assert logfile.stream is stream


def test_log_whose_stream_was_closed_goes_on(logfile, tmp_path):
    logfile.stream.close()
    say(logfile, "after")
    assert (tmp_path / "log" / "x.log").read_text() == "after\n"


# memory


def in_a_process_of_its_own(script: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap, without holes"
)
def test_memory_that_is_free_below_something_in_use_goes_back():
    done = in_a_process_of_its_own(
        """
from goodwe.memory import give_back
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
held = [bytes(2000) for _ in range(20_000)]  # each of malloc, 40 MB
last = bytes(2000)
del held
before = resident()
give_back()
print(before - resident())
"""
    )
    assert int(done.stdout) > 30_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="as above")
@pytest.mark.parametrize(("call", "heaps"), [("keep_one_heap()", 1), ("", 4)])
def test_threads_share_one_heap(call, heaps):
    done = in_a_process_of_its_own(
        f"""
import ctypes, threading
from goodwe.memory import keep_one_heap
{call}
barrier = threading.Barrier(4)
def work():
    held = [bytes(2000) for _ in range(100)]
    barrier.wait(30)
for _ in range(3):
    threading.Thread(target=work).start()
barrier.wait(30)
ctypes.CDLL(None).malloc_stats()
"""
    )
    assert done.stderr.count("Arena ") == heaps


def test_c_library_without_such_heaps_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_one_heap()
    give_back()


# in the foreground


def foreground(example: Example, mode: str = "", **environ: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(example.script), str(example.pidfile), "foreground", mode],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_foreground_has_no_pid_file_and_ends_on_sigterm(example):
    with foreground(example) as program:
        wait_for((example.folder / "streams").exists, "it runs")
        assert not example.pidfile.exists()
        program.terminate()
        assert program.wait(PATIENCE) == 0
    assert (example.folder / "clean").exists()


@pytest.mark.parametrize("mode", ["refuse", "defect"])
def test_foreground_that_cannot_begin_says_why(example, mode):
    with foreground(example, mode) as program:
        _, told = program.communicate(timeout=PATIENCE)
    assert program.returncode == 1
    assert told.splitlines()[-1].startswith("Example: ")


def test_systemd_is_told_ready_and_stopping(example, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        with foreground(example, NOTIFY_SOCKET=str(tmp_path / "notify")) as program:
            assert systemd.recv(100) == b"READY=1"
            program.terminate()
            assert systemd.recv(100) == b"STOPPING=1"


# systemd's protocol


def test_notifier_speaks_to_an_abstract_socket():
    name = f"goodwe-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name)
        systemd.settimeout(PATIENCE)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}, 1)
        notifier.watchdog()
        assert systemd.recv(100) == b"WATCHDOG=1"
        assert notifier.watchdog_interval is None


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000"}, 15.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "rubbish"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_is_fed_twice_as_often_as_systemd_wants(environ, interval):
    assert Notifier.from_environment(environ, 7).watchdog_interval == interval


def test_notifier_without_a_listener_is_silent():
    Notifier("", None).ready()
    Notifier("/no/such/socket", None).stopping()


# signals


def test_signal_makes_the_wakeup_readable_and_is_taken_once():
    previous = signal.getsignal(signal.SIGUSR1)
    wakeup = Wakeup([signal.SIGUSR1, signal.SIGUSR2])
    assert wakeup.take() == []
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert select.select([wakeup], [], [], PATIENCE)[0]
    assert set(wakeup.take()) == {signal.SIGUSR1, signal.SIGUSR2}
    assert wakeup.take() == []
    wakeup.close()
    assert signal.getsignal(signal.SIGUSR1) == previous


def test_signal_ends_a_poll_that_has_begun():
    wakeup = Wakeup([signal.SIGUSR1])
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
    assert select.select([wakeup], [], [], PATIENCE)[0]
    wakeup.close()
