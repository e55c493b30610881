"""The program as a daemon or in the foreground: its log, its signals, systemd's watchdog.

Here the daemon meets the inverter: DaemonPy knows Unix, App knows inverters.
"""

import contextlib
import grp
import logging
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, SIGUSR1, Signals, getsignal
from typing import TYPE_CHECKING, Any

from DaemonPy import AlreadyRunning, Daemon, DaemonStartError, Notifier, PidFile, PidFileError
from DaemonPy.logfile import LogFile
from DaemonPy.signals import Wakeup

from . import __version__, config, control, paths
from .app import OF_THE_MACHINE, App, TimeOfDay, context_of, outputs
from .config import Config, make_log_folder
from .errors import GoodWeError, RestartError, StartError
from .instance import NAME, OLDER_ONES, why_not_as
from .loop import NEVER, Group, Loop, Timer
from .memory import give_back, keep_one_heap
from .snapshot import VERSION, Snapshot
from .traffic import HearsLine

if TYPE_CHECKING:
    from .reload import Load, Reloader

log = logging.getLogger(__name__)

GROUP = "goodwe"
"""Who may ask at the control socket besides its owner."""
RELOADED_WITHIN = 25.0
"""Seconds that whoever asks for a reload is kept waiting at most; the reload has deadlines of its own."""
STATUS_EVERY = 30.0
"""Seconds between two lines for systemd."""
LOOK_EVERY = 60.0
"""Seconds between two looks whether pid file and control socket are still there."""
LOG_FORMAT = "%(asctime)-15s %(funcName)s(%(lineno)d) - %(levelname)s: %(message)s"
"""The form that users' log readers know (CONTRACT 5)."""


class SignalPart:
    """Signals as a part of the loop: each calls what it is for."""

    def __init__(self, actions: Mapping[Signals, Callable[[], None]]) -> None:
        """`actions` are called in the loop's thread, each when its signal has come."""
        self.closed = False
        self.deadline = NEVER
        self._actions = actions
        self._wakeup = Wakeup(actions)

    def poll_for(self) -> tuple[int, int] | None:
        return self._wakeup.fileno(), select.POLLIN

    def ready(self, now: float) -> None:
        for number in self._wakeup.take():
            if number != SIGHUP:  # what it is for can come often, and tells by itself
                log.info("%s", number.name)
            self._actions[number]()

    def tick(self, now: float) -> None:
        """Nothing is ever due."""


class WatchdogPart(Timer):
    """Tells systemd that the program makes progress, as often as it wants to hear it.

    A loop that turns and reads nothing is no sign of life where an inverter answers: a restart mends that.
    It mends no night, no cable, no broken inverter and no broker that is away.
    """

    def __init__(
        self,
        notifier: Notifier,
        interval: float,
        now: float,
        *,
        stuck: Callable[[float], str] = lambda now: "",
    ) -> None:
        """`notifier` is told every `interval` seconds, `now` being the time on the loop's clock.

        `stuck` names the wire on which there is no progress; empty for none.
        """
        self.closed = False
        self.deadline = now + interval
        self._notifier = notifier
        self._interval = interval
        self._stuck = stuck
        self._was_stuck = ""
        self._told = ""
        """The wire that the log has named."""

    def tick(self, now: float) -> None:
        self.deadline = now + self._interval
        before, self._was_stuck = self._was_stuck, self._stuck(now)
        stuck = self._was_stuck
        # Twice in a row: once everything is late, when the whole process had been stopped for long.
        if not (stuck and before):
            self._notifier.watchdog()
            self._told = ""
        elif self._told != stuck:
            log.error("%s is not read any more, by a defect; systemd is to start the program anew", stuck)
            self._told = stuck


class Caretaker(Timer):
    """Looks after the files by which others find the program: they may be removed while it runs."""

    def __init__(self, now: float, *looks: Callable[[], object]) -> None:
        """`looks` are called every LOOK_EVERY seconds, `now` being the time on the loop's clock."""
        self.closed = False
        self.deadline = now + LOOK_EVERY
        self._looks = looks

    def tick(self, now: float) -> None:
        self.deadline = now + LOOK_EVERY
        for look in self._looks:
            look()


class StatusLine:
    """The line that `systemctl status` shows: power, and when the last reading was."""

    def __init__(
        self,
        tell: Callable[[str], None],
        inverters: Callable[[float], Mapping[str, Any]],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`tell` takes a line, `inverters` gives their state on the loop's `clock`.

        `wall_clock` gives seconds since 1970.
        """
        self._tell = tell
        self._inverters = inverters
        self._clock = clock
        self._wall_clock = wall_clock
        self._next = -NEVER
        self._told = ""

    def renew(self) -> None:
        """Tell it if it has changed, seldom enough; to be called whenever something happened anyway."""
        now = self._clock()
        if now < self._next:
            return
        text = status_line(self._inverters(now), self._wall_clock())
        if text != self._told:
            self._next = now + STATUS_EVERY
            self._told = text
            self._tell(text)


def status_line(inverters: Mapping[str, Any], epoch: float) -> str:
    """Power and the time of the last reading, in words; empty without any. `epoch` is now.

    The time and not the age, which would be wrong while nothing happens.
    """
    ages = [one["last_reading_seconds"] for one in inverters.values()]
    known = [age for age in ages if age is not None]
    if not known:
        return ""
    read = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch - min(known)))
    online = [one for one in inverters.values() if one["online"]]
    if not online:
        return f"no inverter online, last reading at {read}"
    power = f"{sum(one['values']['pac'] for one in online)} W, last reading at {read}"
    return power if len(inverters) == 1 else f"{len(online)} of {len(inverters)} inverters online, {power}"


class GoodWe(Daemon):
    """The logger as a daemon."""

    name = NAME
    older_ones = OLDER_ONES

    def __init__(
        self,
        pidfile: str,
        settings: Config,
        warnings: list[str],
        *,
        configuration: str = paths.CONFIGURATION,
        load: "Load | None" = None,
        time_of_day: TimeOfDay = OF_THE_MACHINE,
    ) -> None:
        """`pidfile` is the path of the daemon's pid file.

        `configuration` is the path that the `settings` and the `warnings` about them are from; `load` reads
        them again, whatever the working directory is. `time_of_day` is the machine's, but for the demo.
        """
        super().__init__(pidfile)
        self._control_path = paths.control_socket(os.path.abspath(pidfile), os.environ)
        self._settings = settings
        self._warnings = warnings
        self._configuration = os.path.abspath(configuration)
        self._configuration_read = time.monotonic()
        self._was_there = os.path.exists(configuration)
        self._time_of_day = time_of_day
        self._load = load or partial(config.load, self._configuration, required=True)
        self._log_file: LogFile | None = None
        self._state_lock: PidFile | None = None
        """Held as long as the state file is ours."""
        self._listener: socket.socket | None = None
        """That of the control socket, where it was made before we became another user."""
        self._reloader: Reloader | None = None
        """None until somebody asks for a reload."""
        self._dropped: list[dict[str, str]] = []
        """Each optional part of ours that has failed, with its error."""

    def run(self) -> int:
        try:
            return self._run_program()
        finally:
            if self._state_lock is not None:
                self._state_lock.release()

    def _run_program(self) -> int:
        keep_one_heap()
        self._open_log()
        loop = Loop(time.monotonic)
        try:
            self._become_user()
            self._state_lock = lock_state(self._settings.inverter.statefile)
            clock, is_right = self._time_of_day
            make_outputs = partial(outputs, self._settings, loop, Random(), time_of_day=self._time_of_day)
            app = App(self._settings, loop, make_outputs, wall_clock=clock, clock_right=is_right)
        except GoodWeError as error:
            log.error("%s", error)
            raise DaemonStartError(str(error)) from error
        loop.add(SignalPart(self._actions(app, loop)))
        interval = self.notifier.watchdog_interval
        if interval is not None:
            loop.add(WatchdogPart(self.notifier, interval, loop.clock(), stuck=app.stuck))
        if self.notifier.is_heard:
            tell = self.notifier.status
            app.heard = StatusLine(tell, app.inverters, clock=loop.clock, wall_clock=clock).renew
        if self.detached:
            loop.add(Caretaker(loop.clock(), self.keep_pidfile))
        log.info("GoodWeUSBLogger %s started, pid %d", __version__, os.getpid())
        for warning in self._warnings:
            log.warning("%s", warning)
        close_control = self._listen(loop, app)
        self.ready()
        give_back()
        try:
            app.run()
        except RestartError as error:
            raise DaemonStartError(str(error)) from error
        finally:
            close_control()
        log.info("GoodWeUSBLogger stopped")
        return 0

    def _actions(self, app: App, loop: Loop) -> dict[Signals, Callable[[], None]]:
        """The purpose of each signal."""
        stop = partial(self._end, app)
        actions: dict[Signals, Callable[[], None]] = {SIGTERM: stop, SIGINT: stop, SIGUSR1: app.tell_losses}
        if self.detached or self.notifier.is_heard:
            actions[SIGHUP] = partial(self._reload, app, loop, "SIGHUP", lambda answer: None)
        elif getsignal(SIGHUP) is not SIG_IGN:  # as nohup has it
            actions[SIGHUP] = stop  # in the foreground a hang-up means that the terminal is gone
        return actions

    def _end(self, app: App) -> None:
        if self._reloader is None:
            app.stop()
        else:
            self._reloader.end(app.stop)

    def _become_user(self) -> None:
        """Go on as the user of the configuration, if we are root. Raises StartError."""
        name = self._settings.inverter.user
        if not name:
            return
        import pwd  # here, as the next two, since it is seldom wanted

        from DaemonPy import user

        from .users import name_of

        try:
            wanted = pwd.getpwnam(name)
        except KeyError:
            raise StartError(f"user = {name} in [inverter]: there is no such user any more") from None
        if os.geteuid() == wanted.pw_uid:
            return
        if os.geteuid() != 0:
            who = f"only root can become another, and it runs as {name_of(os.geteuid())}"
            self._warnings = [*self._warnings, f"user = {name} in [inverter] has no effect: {who}"]
            return
        if self._log_file is not None and not user.give(
            self._log_file.fileno(), self._log_file.baseFilename, wanted
        ):
            log.info("%s is not given to %s: it is no plain file", self._log_file.baseFilename, name)
        with contextlib.suppress(OSError):  # it is tried again, and said, where it is needed
            self._listener = control.listen(self._control_path)
            self._give_socket(wanted.pw_uid)
        folders = [os.path.dirname(path) for path in config.own_files(self._settings)]
        for folder in folders:
            user.make_folder(folder, wanted)
        user.become(wanted)
        if why := why_not_as(name, lambda path: os.access(path, os.R_OK)):
            raise StartError(why)
        log.info("Going on as user %s", name)
        for folder in dict.fromkeys(folders):
            if not os.access(folder, os.W_OK | os.X_OK):
                log.warning("%s may not write to %s; sudo chown -R %s %s", name, folder, name, folder)

    # the configuration, read again

    def _reload(self, app: App, loop: Loop, who: str, told: Callable[[Any], None]) -> None:
        """Read the configuration again; `told` gets what comes of it, for the control socket."""
        if self._reloader is None:
            self.reopen_log()
            try:
                self._reloader = self._make_reloader(app, loop)
            except Exception as error:  # no descriptor is left, or another version lies in the folder by now
                log.warning("%s: cannot read the configuration again: %s; restart it", who, error)
                told({"error": f"it cannot read the configuration again: {error}; restart it"})
                return
            loop.add(self._reloader)
        self._reloader.request(who, lambda report: told(report.answer()))

    def _make_reloader(self, app: App, loop: Loop) -> "Reloader":
        from .reload import Reloader  # here, since most programs never need it

        return Reloader(
            self._configuration,
            self._load,
            app=app,
            around=self,
            context=lambda config: context_of(config, loop, Random(), app, self._time_of_day),
            loop=loop,
            config=self._settings,
            warnings=self._warnings,
            was_there=self._was_there,
        )

    def reopen_log(self) -> None:
        if self._log_file is not None:
            self._log_file.reopen()

    def follow(self, config: Config) -> None:
        held, statefile = self._state_lock, config.inverter.statefile
        moves = held is None or held.path != f"{statefile}{paths.LOCK}"
        taken = lock_state(statefile) if moves else held
        path = config.inverter.logfile
        if self._log_file is not None and path != self._log_file.baseFilename:
            try:
                make_log_folder(path)
                self._log_file.move(path)
            except OSError as error:
                if moves and taken is not None:
                    taken.release()
                raise StartError(_cannot_log(path, error)) from error
        if moves and held is not None:
            held.release()
        self._state_lock = taken

    def in_force(self, config: Config, warnings: list[str]) -> None:
        if config.inverter.loglevel != self._settings.inverter.loglevel:  # else a command may have set it
            logging.getLogger().setLevel(config.inverter.loglevel)
        self._settings, self._warnings = config, warnings
        self._configuration_read = time.monotonic()

    def reloading(self) -> None:
        self.notifier.reloading(time.monotonic())

    def reloaded(self) -> None:
        self.notifier.ready()

    # the control socket

    def _listen(self, loop: Loop, app: App) -> Callable[[], None]:
        """Serve the control socket, which the program can do without; returns what closes it."""
        began = loop.clock()
        group = Group(loop, lambda error: self._control_failed(error, listening))

        def reload(told: Callable[[Any], None]) -> None:
            self._reload(app, loop, "A reload is asked for", lambda one: group.call(partial(told, one)))

        answers = {
            "status": lambda: self._snapshot(app, loop, began).plain(),
            "losses": lambda: app.losses(),
            "capture": lambda: self._capture(app, loop, group),
            "reload": lambda: control.Later(reload, RELOADED_WITHIN),
        }
        try:
            listening = control.ControlSocket(
                self._control_path, answers, loop=group, listener=self._listener
            )
        except OSError as error:
            log.info("status cannot be asked at %s: %s", self._control_path, self._why_no_control(error))
            return lambda: None
        except Exception as error:  # a defect in it is no reason to end
            self._control_dropped(error)
            return lambda: None
        group.add(listening)
        self._give_socket(-1)
        group.add(Caretaker(began, partial(self._renew_control, listening)))
        return partial(group.call, listening.close)

    def _renew_control(self, listening: control.ControlSocket) -> None:
        if listening.renew():
            self._give_socket(-1)

    def _why_no_control(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        if not isinstance(error, PermissionError):
            return reason
        folder = os.path.dirname(self._control_path)
        return f"{reason}; let its user write to {folder}, or choose another folder with --pidfile"

    def _give_socket(self, owner: int) -> None:
        """Let the group ask at it; -1 for the owner that it has."""
        with contextlib.suppress(KeyError, OSError):  # no such group, or not root: its owner may ask
            group = grp.getgrnam(GROUP).gr_gid
            os.chown(self._control_path, -1, group, follow_symlinks=False)
        if owner != -1:
            os.chown(self._control_path, owner, -1, follow_symlinks=False)

    def _capture(self, app: App, loop: Loop, group: Group) -> control.Feed:
        """All that goes over the wires from now on, for a client of the control socket."""
        from . import capture  # here, since few programs are ever listened to

        def guarded(listener: HearsLine) -> HearsLine:
            return lambda *line: group.call(partial(listener, *line))

        now, epoch = loop.clock(), self._time_of_day.clock()
        return capture.feed(app.tap, app.status(now), now=now, epoch=epoch, guarded=guarded)

    def _control_failed(self, error: Exception, listening: control.ControlSocket) -> None:
        self._control_dropped(error)
        try:
            listening.close()
        except Exception as second:  # said in full above; this is what follows from it
            log.error("The control socket could not be closed: %s", second)

    def _control_dropped(self, error: Exception) -> None:
        log.error("The control socket failed and is left out until the next start", exc_info=error)
        self._dropped.append({"part": "control socket", "error": f"{type(error).__name__}: {error}"})

    def _snapshot(self, app: App, loop: Loop, began: float) -> Snapshot:
        """How the program stands; it began at that time on the loop's clock."""
        now = loop.clock()
        used = resource.getrusage(resource.RUSAGE_SELF)
        program = {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": now - began,
            "configuration": self._configuration,
            "configuration_seconds": now - self._configuration_read,
            "warnings": self._warnings,
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "memory_kilobytes": _resident_kilobytes(),
            "wake_ups": loop.wake_ups,
        }
        status = app.status(now)
        dropped = [*status["dropped"], *self._dropped]
        return Snapshot(
            {
                "version": VERSION,
                "taken_epoch": self._time_of_day.clock(),
                "program": program,
                **status,
                "dropped": dropped,
            }
        )

    def _open_log(self) -> None:
        """Log to the file as a daemon, else to the terminal."""
        handler: logging.Handler
        if not self.detached:
            handler = logging.StreamHandler()
        else:
            path = self._settings.inverter.logfile
            try:
                make_log_folder(path)
                handler = self._log_file = LogFile(path)
            except OSError as error:
                raise DaemonStartError(_cannot_log(path, error)) from error
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.basicConfig(level=self._settings.inverter.loglevel, handlers=[handler])


def lock_state(statefile: str) -> PidFile | None:
    """The lock of that state file, ours from now on; None without one, or where none can be made.

    Whatever is removed or given another name of pid files and sockets: two programs that keep one state read
    the same inverters. Raises StartError when another one has it.
    """
    if not statefile:
        return None
    lock = PidFile(f"{statefile}{paths.LOCK}")
    try:
        os.makedirs(os.path.dirname(statefile), exist_ok=True)
        try:
            lock.lock()
        except PidFileError as error:
            if isinstance(error, AlreadyRunning) or not lock.holder().exists:
                raise
            _take_from_another_user(lock)
    except AlreadyRunning as error:
        kill = f"sudo kill {error.pid}" if error.pid else f"sudo fuser -k -TERM {lock.path}"
        remedy = f"end that one ({kill}, or with its unit of systemd)"
        raise StartError(
            f"it is {error}, with the same statefile = {statefile}; {remedy}, or name another statefile here"
        ) from error
    except (PidFileError, OSError) as error:  # nor can the state be saved there, which is said elsewhere
        log.debug("no lock of %s: %s", statefile, error)
        return None
    with contextlib.suppress(PidFileError):  # on a full disk it is locked, without a number in it
        lock.write(os.getpid())
    return lock


def _take_from_another_user(lock: PidFile) -> None:
    """Lock anew a file that we may not write. Raises AlreadyRunning while its owner runs, or PidFileError."""
    holder = lock.holder()
    if holder.locked:
        raise AlreadyRunning(holder.pid)
    with contextlib.suppress(OSError):
        os.unlink(lock.path)
    lock.lock()


def _cannot_log(path: str, error: OSError) -> str:
    denied = isinstance(error, PermissionError)
    reason = "permission denied; run with sudo, or" if denied else f"{error.strerror};"
    return f"cannot open the log file {path}: {reason} change logfile in [inverter]"


def _resident_kilobytes() -> int:
    """The memory that is in use now, not what the start took; without /proc, the most that ever was."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def stop_on_signal(loop: Loop, stop: Callable[[], None]) -> None:
    """Add to the loop what calls `stop` at SIGTERM and SIGINT."""
    loop.add(SignalPart({SIGTERM: stop, SIGINT: stop}))
