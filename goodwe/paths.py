"""Paths of ours, where the command line names no others."""

import os
from collections.abc import Mapping

CONFIGURATION = "/etc/goodwe.conf"
LOG = "/var/log/goodwe.log"
PIDFILE = "/var/run/goodwecomm.pid"
LOCK = ".lock"
"""Behind the name of the state file: the file that one program has locked."""
SYSTEMD_SOCKET = "/run/goodwe/control.sock"
"""The control socket of the unit's program: RuntimeDirectory=goodwe."""


def control_socket(pidfile: str, environ: Mapping[str, str]) -> str:
    """Path of this process's control socket: in its unit's RuntimeDirectory, else beside the pid file."""
    folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return os.path.join(folder, os.path.basename(SYSTEMD_SOCKET)) if folder else socket_beside(pidfile)


def socket_beside(pidfile: str) -> str:
    """Path of the control socket of a program with that pid file."""
    return f"{os.path.splitext(pidfile)[0]}.sock"
