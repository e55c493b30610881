"""Start, stop, restart, status and foreground of a Unix daemon. Override `run()`; the rest is Unix.

`start` in order: lock the pid file; a pipe; fork, so that the shell's process can wait for the outcome;
setsid, away from the terminal; fork, so that no terminal can ever become ours; /, umask 022, standard
streams to /dev/null; our number into the locked file; `run()`. What goes wrong until `ready()` goes
through the pipe to the shell.
"""

import contextlib
import os
import select
import signal
import sys
import time
from typing import TextIO

from .notify import Notifier
from .pidfile import AlreadyRunning, Holder, PidFile, PidFileError, has_words, is_family

READY = b"\0"
"""The daemon's word through the pipe when it is up; anything else is why it is not."""
READY_WITHIN = 60.0
KILLED_WITHIN = 5.0
ENDED_WITHIN = 5.0
"""Seconds for a daemon that could not start to end, once it has said why."""
NUMBER_WITHIN = 2.0
"""Seconds from the lock of the pid file to the number in it, with a lot to spare."""

RUNNING, DEAD_WITH_PID_FILE, NOT_RUNNING = 0, 1, 3
"""Exit codes of status, as LSB has them."""


class DaemonStartError(Exception):
    """Raised by run() before ready(): why it cannot begin, one line for a person to act on."""


class Daemon:
    """A program that runs in the background once, or in the foreground."""

    name = "daemon"
    older_ones: tuple[frozenset[str], ...] = ()
    """Words in the command line of a version that wrote a pid file but did not lock it; one set is enough."""

    def __init__(
        self,
        pidfile: str,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        grace: float = 10.0,
    ) -> None:
        """`pidfile` is the path of the pid file; `out` and `err` are written to in place of the streams.

        `grace` is how many seconds `stop` waits for a clean end before it kills.
        """
        self.detached = False
        """True in the background process, which has no terminal."""
        self.notifier = Notifier("", None)
        self._pidfile = PidFile(os.path.abspath(pidfile))
        self._out = out
        self._err = err
        self._grace = grace
        self._pipe = -1
        self._is_ready = False

    def run(self) -> int:
        """The work, to be overridden: returns the exit code, calls `ready()` once when it is up.

        Raises DaemonStartError when it cannot begin. Signals, log and threads are its own affair; it is
        called after the forks.
        """
        raise NotImplementedError

    def ready(self) -> None:
        """We are up: the shell that started us may go on."""
        self._is_ready = True
        self.notifier.ready()
        self._tell_parent(READY)
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def keep_pidfile(self) -> None:
        """Make our pid file anew, if it was removed; to be called now and then, since `stop` needs it."""
        self._pidfile.keep(os.getpid())

    def start(self) -> int:
        """Become a daemon. Returns the shell's exit code; in the daemon it ends with SystemExit."""
        _occupy_standard_streams()
        try:
            self._refuse_older()
            self._pidfile.lock()
            # Not ours: who stops us now means the daemon, not the shell's process that starts it.
            self._pidfile.write(0)
        except AlreadyRunning as error:
            return self._trouble(f"{self.name} is {error}", 1)
        except PidFileError as error:
            return self._trouble(str(error), 1)
        reader, self._pipe = os.pipe()
        self._flush()
        child = os.fork()
        if child:
            os.close(self._pipe)
            self._pidfile.let_go()
            return self._wait_until_ready(reader, child)
        os.close(reader)
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            self._detach()
            sys.exit(self._run_as_written())
        finally:
            self._pidfile.release()

    def stop(self) -> int:
        """End the daemon: asked first, killed after the grace time."""
        try:
            holder = self._settled_holder()
            if not holder.locked:
                return self._not_running()
        except PidFileError as error:
            return self._trouble(str(error), 1)
        if holder.pid is None:
            path = self._pidfile.path
            return self._trouble(f"{self.name} is running, but {path} does not say as which process", 1)
        for number, seconds in ((signal.SIGTERM, self._grace), (signal.SIGKILL, KILLED_WITHIN)):
            try:
                if _end(holder.pid, number, seconds):
                    self._remove_stale()  # one that was killed, or never removed it
                    return self._say(f"{self.name} stopped", 0)
            except PermissionError:
                return self._trouble(f"not allowed to stop pid {holder.pid}; run with sudo", 1)
        return self._trouble(f"pid {holder.pid} does not end, not even when killed", 1)

    def restart(self) -> int:
        """Stop it if it runs, then start it."""
        return self.stop() or self.start()

    def status(self) -> int:
        """Say whether it runs."""
        try:
            holder = self._holder()
        except PidFileError as error:
            return self._trouble(str(error), 1)
        if holder.locked:
            return self._say(f"{self.name} is running, pid {holder.pid or 'not written yet'}", RUNNING)
        if holder.exists and holder.pid is not None:
            path = self._pidfile.path
            return self._say(f"{self.name} is dead, but its pid file {path} remains", DEAD_WITH_PID_FILE)
        return self._say(f"{self.name} is not running", NOT_RUNNING)

    def foreground(self) -> int:
        """Run here, without a pid file, as systemd wants it."""
        self.notifier = Notifier.from_environment(os.environ, os.getpid())
        try:
            return self._run()
        except KeyboardInterrupt:  # before run() took the signals
            return 0
        finally:
            self.notifier.stopping()

    def _run_as_written(self) -> int:
        """_run(), once our number can be found."""
        try:
            self._pidfile.write(os.getpid())
        except PidFileError as error:
            return self._failed(str(error))
        return self._run()

    def _run(self) -> int:
        """run(), with what it raises told to the terminal and the log."""
        try:
            return self.run()
        except DaemonStartError as error:
            return self._failed(str(error))
        except Exception as error:  # a defect: in full to the log, in a line to whoever waits
            import logging  # here, since who only looks at a daemon needs none

            logging.getLogger(__name__).exception("%s ended by a defect", self.name)
            return self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, reason: str) -> int:
        if not self._is_ready:
            if self.detached:
                self._tell_parent(reason.encode(errors="replace"))
            else:
                self._trouble(f"{self.name}: {reason}", 1)
        return 1

    def _detach(self) -> None:
        self.detached = True
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until run() takes it: there is no terminal to lose
        os.chdir("/")
        os.umask(0o022)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        if null > 2:
            os.close(null)
        # Whoever started us may wait for the end of a file that he has left open, or of its lock. Only what
        # was inherited is inheritable: Python's own files are not.
        with contextlib.suppress(FileNotFoundError):  # no /proc
            for descriptor in map(int, os.listdir("/proc/self/fd")):
                with contextlib.suppress(OSError):
                    if descriptor > 2 and os.get_inheritable(descriptor):
                        os.close(descriptor)

    def _tell_parent(self, message: bytes) -> None:
        if self._pipe < 0:
            return
        # The parent may have given up or been killed; the daemon is up all the same.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, message[:4000])

    def _wait_until_ready(self, reader: int, child: int) -> int:
        os.waitpid(child, 0)  # it ends at once, its own child is the daemon
        if not select.select([reader], [], [], READY_WITHIN)[0]:
            return self._trouble(f"{self.name} is not ready after {READY_WITHIN:.0f} s; see its log", 1)
        message = os.read(reader, 4096)
        if message == READY:
            os.close(reader)
            holder = self._pidfile.holder()
            return self._say(f"{self.name} started, pid {holder.pid}", 0)
        # The end of the pipe is that of the process. It may have become another user, who cannot remove the
        # pid file that we have made.
        select.select([reader], [], [], ENDED_WITHIN)
        os.close(reader)
        self._remove_stale()
        reason = message.decode(errors="replace") or "it ended before it was ready; see its log"
        return self._trouble(f"{self.name} could not start: {reason}", 1)

    def _not_running(self) -> int:
        hint = f"; removed the stale {self._pidfile.path}" if self._remove_stale() else ""
        return self._trouble(f"{self.name} is not running{hint}", 0)

    def _settled_holder(self) -> Holder:
        """As _holder(); one that is just starting gets the time to write its number."""
        end = time.monotonic() + NUMBER_WITHIN
        while (holder := self._holder()).locked and holder.pid is None and time.monotonic() < end:
            select.select([], [], [], NUMBER_WITHIN / 20)
        return holder

    def _holder(self) -> Holder:
        """Who runs: whoever has the lock, or an older version that knows no lock. Raises PidFileError."""
        holder = self._pidfile.holder()
        return holder._replace(locked=holder.locked or self._is_older(holder.pid))

    def _refuse_older(self) -> None:
        """Raises AlreadyRunning for a version that has no lock, PidFileError."""
        pid = self._pidfile.holder().pid
        if self._is_older(pid):
            raise AlreadyRunning(pid)

    def _is_older(self, pid: int | None) -> bool:
        """True if that process is a version without a lock; a stale number can be that of our own shell."""
        if pid is None or not any(has_words(pid, words) for words in self.older_ones):
            return False
        return not is_family(pid)

    def _remove_stale(self) -> bool:
        """Remove the pid file if nobody holds it; False without one, and where we may not."""
        try:
            return self._pidfile.remove_stale()
        except PidFileError:
            return False

    def _say(self, text: str, code: int) -> int:
        print(text, file=self._out or sys.stdout, flush=True)
        return code

    def _trouble(self, text: str, code: int) -> int:
        print(text, file=self._err or sys.stderr, flush=True)
        return code

    def _flush(self) -> None:
        """Write all buffers out: each of the forked processes would write them again."""
        for stream in (self._out, self._err, sys.stdout, sys.stderr):
            if stream is not None:  # closed by whoever started us
                stream.flush()


def _occupy_standard_streams() -> None:
    """Give 0, 1 and 2 to /dev/null where they are closed, so that no file of ours gets such a number."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)


def _end(pid: int, number: signal.Signals, seconds: float) -> bool:
    """Signal the process; whether it ended within so many seconds. Raises PermissionError."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(process, number)
        # One that was stopped, by Ctrl-Z or a debugger, takes it only when it goes on.
        signal.pidfd_send_signal(process, signal.SIGCONT)
        return bool(select.select([process], [], [], seconds)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(process)
