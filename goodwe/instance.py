"""The program as others see it who did not start it: by its pid file. That needs no configuration."""

import os
from collections.abc import Callable
from typing import TextIO

from DaemonPy import Daemon, Holder, PidFile, PidFileError

from .errors import StartError

NAME = "GoodWe"
OLDER_ONES = tuple(frozenset(("GoodWe.py", verb)) for verb in ("start", "restart"))
"""Words in the command line of a version that did not lock its pid file."""


def known_daemon(pidfile: str, *, out: TextIO | None = None, err: TextIO | None = None) -> Daemon:
    """The daemon of that pid file, to be looked at or stopped.

    It says what it finds on `out` and `err`, else on the streams that there are then.
    """
    daemon = Daemon(pidfile, out=out, err=err)
    daemon.name, daemon.older_ones = NAME, OLDER_ONES
    return daemon


def why_no_start(pidfile: str) -> str:
    """Why no daemon can be started with that pid file, whoever tries; empty where only a try can tell."""
    from .writable import why_never, why_not_now  # here, since stop and status do not need it

    path = os.path.abspath(pidfile)
    return PidFile(path).why_unusable() or why_never(path) or why_not_now(path)


def why_not_as(user: str, may_read: Callable[[str], bool]) -> str:
    """Why the program cannot go on as this user, who `may_read` some files; empty for no reason known.

    Much is imported later. Python and its packages may lie where only root may look.
    """
    import simplejson  # here, since stop and status do not need it

    for path in (os.__file__, simplejson.__file__, __file__):
        if not may_read(path):
            why = f"{user} may not read {path}, which it runs with"
            return f"user = {user} in [inverter]: {why}; install all where everybody may read"
    return ""


def holder_of(pidfile: str) -> Holder:
    """The process that holds the pid file. Raises StartError when that cannot be read."""
    try:
        return PidFile(pidfile).holder()
    except PidFileError as error:
        raise StartError(str(error)) from error
