"""The verbs: what GoodWe.py does with its command line. Here the daemon meets the inverter."""

import argparse
import contextlib
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from logging.handlers import WatchedFileHandler
from random import Random
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, SIGUSR1, Signals, getsignal
from typing import NoReturn

from DaemonPy import Daemon, Notifier, Wakeup
from DaemonPy import StartError as DaemonStartError

from . import __version__, config
from .app import App, outputs
from .config import Config
from .errors import ConfigError, GoodWeError, StartError
from .loop import NEVER, Loop, Timer

log = logging.getLogger(__name__)

PIDFILE = "/var/run/goodwecomm.pid"
LOG_FORMAT = "%(asctime)-15s %(funcName)s(%(lineno)d) - %(levelname)s: %(message)s"
"""What users' log readers know (CONTRACT 5)."""

DAEMON_VERBS = {
    "start": "run in the background",
    "stop": "end the one in the background",
    "restart": "stop, then start",
    "status": "say whether it runs",
    "foreground": "run here, until Ctrl-C; for systemd",
}
TOOL_VERBS = {
    "check-config": "check the configuration and show what is in force",
    "decode": "explain bytes of the wire",
    "simulate": "be an inverter, on a socket; or a fleet of programs, for a broker",
    "discovery": "clear: take back what Home Assistant was told",
    "demo": "show it all: simulated inverter, broker, values; nothing is installed",
}


class LogFile(WatchedFileHandler):
    """A log that may be moved away, or not writable for a while: lines are lost then, nothing else."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it opens a file that has moved, outside the care that logging takes
            self.handleError(record)

    def reopen(self) -> None:
        """Look at the path again, as the next line would."""
        with contextlib.suppress(OSError):
            self.reopenIfNeeded()


class SignalPart:
    """Signals as a part of the loop: each calls what it is for."""

    def __init__(self, actions: Mapping[Signals, Callable[[], None]]) -> None:
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
        self.closed = False
        self.deadline = now + interval
        self._notifier = notifier
        self._interval = interval

    def tick(self, now: float) -> None:
        self._notifier.watchdog()
        self.deadline = now + self._interval


class GoodWe(Daemon):
    """The logger as a daemon."""

    name = "GoodWe"
    older_ones = tuple(frozenset(("GoodWe.py", verb)) for verb in ("start", "restart"))

    def __init__(self, pidfile: str, settings: Config, warnings: list[str]) -> None:
        super().__init__(pidfile)
        self._settings = settings
        self._warnings = warnings

    def run(self) -> int:
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
        self.ready()
        app.run()
        log.info("GoodWeUSBLogger stopped")
        return 0

    def _open_log(self) -> Callable[[], None] | None:
        """Log to the file as a daemon, else to the terminal; returns what opens the file again."""
        handler: logging.Handler
        if not self.detached:
            handler = logging.StreamHandler()
        else:
            path = self._settings.inverter.logfile
            try:
                handler = LogFile(path, encoding="utf-8")
            except OSError as error:
                reason = f"cannot open the log file {path}: {error.strerror}; change logfile in [inverter]"
                raise DaemonStartError(reason) from error
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.basicConfig(level=self._settings.inverter.loglevel, handlers=[handler])
        return handler.reopen if isinstance(handler, LogFile) else None


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code of CONTRACT 4."""
    options = _parse(arguments)
    try:
        if options.verb in DAEMON_VERBS:
            return _daemon(options)
        return _tool(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except GoodWeError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def installed() -> NoReturn:
    """Entry of the console script goodwe-logger.

    It becomes GoodWe.py: restartd finds the program by that name in the command line (CONTRACT 4).
    """
    program = os.path.join(os.path.dirname(__file__), os.pardir, "GoodWe.py")
    os.execv(sys.executable, [sys.executable, os.path.normpath(program), *sys.argv[1:]])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    verbs = "\n".join(f"  {verb:13} {meaning}" for verb, meaning in {**DAEMON_VERBS, **TOOL_VERBS}.items())
    parser = argparse.ArgumentParser(
        prog="GoodWe.py",
        description="GoodWe solar inverters on USB, to MQTT.",
        epilog="verbs:\n" + verbs,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help=f"configuration, default {config.PATH}")
    parser.add_argument("--pidfile", metavar="FILE", default=PIDFILE, help=f"default {PIDFILE}")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("verb", choices=[*DAEMON_VERBS, *TOOL_VERBS], metavar="VERB", help="see below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.error(f"which verb? one of {', '.join([*DAEMON_VERBS, *TOOL_VERBS])}")
    options = parser.parse_args(arguments)
    if options.rest and options.verb in (*DAEMON_VERBS, "check-config"):
        parser.error(f"{options.verb} takes no arguments; --config and --pidfile stand before it")
    return options


def _daemon(options: argparse.Namespace) -> int:
    if options.verb in ("stop", "status"):  # must work whatever is wrong with the file
        daemon = Daemon(options.pidfile)
        daemon.name, daemon.older_ones = GoodWe.name, GoodWe.older_ones
        return daemon.stop() if options.verb == "stop" else daemon.status()
    settings, warnings = _load(options)
    program = GoodWe(options.pidfile, settings, warnings)
    actions = {"start": program.start, "restart": program.restart, "foreground": program.foreground}
    return actions[options.verb]()


def _load(options: argparse.Namespace) -> tuple[Config, list[str]]:
    path = options.config or config.PATH
    settings, warnings = config.load(path, required=options.config is not None)
    if settings.mqtt.tls:
        from .outputs.mqtt.client import tls_for  # here, since only TLS needs it before the fork

        try:
            tls_for(settings.mqtt)
        except StartError as error:
            raise ConfigError(f"{path}: {error}") from error
    return settings, warnings


def _tool(options: argparse.Namespace) -> int:
    if options.verb == "check-config":
        settings, warnings = _load(options)
        print(config.shown(settings), end="")
        for warning in warnings:
            print(warning, file=sys.stderr)
        sys.stdout.flush()
        return 0
    if options.verb == "discovery":
        from .tools import discovery

        settings, _ = _load(options)
        return discovery.main(options.rest, settings)
    if options.verb == "decode":
        from .tools import decode

        return decode.main(options.rest)
    if options.verb == "simulate":
        from .tools import simulate

        return simulate.main(options.rest, stop_on_signal, lambda: _load(options)[0])
    from .tools import demo

    return demo.main(options.rest)


def stop_on_signal(loop: Loop, stop: Callable[[], None]) -> None:
    """Add to the loop what calls `stop` at SIGTERM and SIGINT."""
    loop.add(SignalPart({SIGTERM: stop, SIGINT: stop}))
