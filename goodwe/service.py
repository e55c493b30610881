"""The program as a daemon or in the foreground: its log, its signals, systemd's watchdog.

Here the daemon meets the inverter: DaemonPy knows Unix, App knows inverters.
"""

import contextlib
import grp
import logging
import os
import resource
import select
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, SIGUSR1, Signals, getsignal

from DaemonPy import Daemon, DaemonStartError, Notifier
from DaemonPy.logfile import LogFile
from DaemonPy.memory import give_back, keep_one_heap
from DaemonPy.signals import Wakeup

from . import __version__, control, paths
from .app import App, outputs
from .config import Config, make_log_folder
from .errors import GoodWeError, RestartError
from .instance import NAME, OLDER_ONES
from .loop import NEVER, Group, Loop, Timer
from .snapshot import VERSION, Snapshot
from .traffic import HearsLine

log = logging.getLogger(__name__)

GROUP = "goodwe"
"""Who may ask at the control socket besides its owner."""
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
            log.info("%s", number.name)
            self._actions[number]()

    def tick(self, now: float) -> None:
        """Nothing is ever due."""


class WatchdogPart(Timer):
    """Tells systemd that the loop turns, as often as it wants to hear it."""

    def __init__(self, notifier: Notifier, interval: float, now: float) -> None:
        """`notifier` is told every `interval` seconds, `now` being the time on the loop's clock."""
        self.closed = False
        self.deadline = now + interval
        self._notifier = notifier
        self._interval = interval

    def tick(self, now: float) -> None:
        self._notifier.watchdog()
        self.deadline = now + self._interval


class GoodWe(Daemon):
    """The logger as a daemon."""

    name = NAME
    older_ones = OLDER_ONES

    def __init__(
        self, pidfile: str, settings: Config, warnings: list[str], *, configuration: str = paths.CONFIGURATION
    ) -> None:
        """`pidfile` is the path of the daemon's pid file.

        `configuration` is the path that the `settings` and the `warnings` about them are from.
        """
        super().__init__(pidfile)
        self._control_path = paths.control_socket(os.path.abspath(pidfile), os.environ)
        self._settings = settings
        self._warnings = warnings
        self._configuration = os.path.abspath(configuration)
        self._configuration_read = time.monotonic()
        self._dropped: list[dict[str, str]] = []
        """Each optional part of ours that has failed, with its error."""

    def run(self) -> int:
        keep_one_heap()
        reopen_log = self._open_log()
        loop = Loop(time.monotonic)
        try:
            make_outputs = partial(outputs, self._settings, loop, Random())
            app = App(self._settings, loop, make_outputs, wall_clock=time.time)
        except GoodWeError as error:
            log.error("%s", error)
            raise DaemonStartError(str(error)) from error
        # In the foreground a hang-up means that the terminal is gone.
        actions = {SIGTERM: app.stop, SIGINT: app.stop, SIGHUP: reopen_log or app.stop}
        if not self.detached and getsignal(SIGHUP) is SIG_IGN:  # by nohup
            del actions[SIGHUP]
        loop.add(SignalPart({**actions, SIGUSR1: app.tell_losses}))
        if self.notifier.watchdog_interval is not None:
            loop.add(WatchdogPart(self.notifier, self.notifier.watchdog_interval, loop.clock()))
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

    def _listen(self, loop: Loop, app: App) -> Callable[[], None]:
        """Serve the control socket, which the program can do without; returns what closes it."""
        began = loop.clock()
        group = Group(loop, lambda error: self._control_failed(error, listening))
        answers = {
            "status": lambda: self._snapshot(app, loop, began).plain(),
            "losses": lambda: app.losses(),
            "capture": lambda: self._capture(app, loop, group),
        }
        try:
            listening = control.ControlSocket(self._control_path, answers, loop=group)
        except OSError as error:
            log.info("status cannot be asked at %s: %s", self._control_path, error.strerror or error)
            return lambda: None
        except Exception as error:  # a defect in it is no reason to end
            self._control_dropped(error)
            return lambda: None
        group.add(listening)
        with contextlib.suppress(KeyError, OSError):  # no such group, or not root: its owner may ask
            os.chown(self._control_path, -1, grp.getgrnam(GROUP).gr_gid)
        return partial(group.call, listening.close)

    def _capture(self, app: App, loop: Loop, group: Group) -> control.Feed:
        """All that goes over the wires from now on, for a client of the control socket."""
        from . import capture  # here, since few programs are ever listened to

        def guarded(listener: HearsLine) -> HearsLine:
            return lambda *line: group.call(partial(listener, *line))

        now = loop.clock()
        return capture.feed(app.tap, app.status(now), now=now, epoch=time.time(), guarded=guarded)

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
                "taken_epoch": time.time(),
                "program": program,
                **status,
                "dropped": dropped,
            }
        )

    def _open_log(self) -> Callable[[], None] | None:
        """Log to the file as a daemon, else to the terminal; returns what opens the file again."""
        handler: logging.Handler
        if not self.detached:
            handler = logging.StreamHandler()
        else:
            path = self._settings.inverter.logfile
            try:
                make_log_folder(path)
                handler = LogFile(path)
            except OSError as error:
                denied = isinstance(error, PermissionError)
                reason = "permission denied; run with sudo, or" if denied else f"{error.strerror};"
                reason = f"cannot open the log file {path}: {reason} change logfile in [inverter]"
                raise DaemonStartError(reason) from error
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.basicConfig(level=self._settings.inverter.loglevel, handlers=[handler])
        return handler.reopen if isinstance(handler, LogFile) else None


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
