"""A Unix daemon: what it is to start, stop and be found, without knowing what it does."""

from .daemonpy import Daemon, StartError
from .notify import Notifier
from .pidfile import AlreadyRunning, PidFile, PidFileError
from .signals import Wakeup

__all__ = ["AlreadyRunning", "Daemon", "Notifier", "PidFile", "PidFileError", "StartError", "Wakeup"]
