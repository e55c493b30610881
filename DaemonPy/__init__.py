"""A Unix daemon: what it is to start, stop and be found, without knowing what it does."""

from .daemonpy import Daemon, DaemonStartError
from .logfile import LogFile
from .memory import give_back, keep_one_heap
from .notify import Notifier
from .pidfile import AlreadyRunning, Holder, PidFile, PidFileError
from .signals import Wakeup

__all__ = [
    "AlreadyRunning",
    "Daemon",
    "DaemonStartError",
    "Holder",
    "LogFile",
    "Notifier",
    "PidFile",
    "PidFileError",
    "Wakeup",
    "give_back",
    "keep_one_heap",
]
