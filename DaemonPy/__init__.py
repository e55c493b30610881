"""A Unix daemon: what it is to start, stop and be found, without knowing what it does.

The names here are enough to look at one; logfile, memory and signals are for the daemon itself.
"""

from .daemonpy import Daemon, DaemonStartError
from .notify import Notifier
from .pidfile import AlreadyRunning, Holder, PidFile, PidFileError

__all__ = [
    "AlreadyRunning",
    "Daemon",
    "DaemonStartError",
    "Holder",
    "Notifier",
    "PidFile",
    "PidFileError",
]
