"""`reload`: the running program reads its configuration again; it is asked to at its control socket."""

import os
import sys
from typing import Any

from .. import paths
from . import client

WITHIN = 30.0
"""Seconds for the outcome; the program gives up sooner."""
DONE, FAILED, REFUSED = 0, 1, 2
"""Exit codes."""


def main(pidfile: str) -> int:
    """Print what came of it in the program with that pid file, or in systemd's; the exit code."""
    trouble = "GoodWe is not running"
    for path in sockets(pidfile):
        try:
            return _told(client.ask(path, "reload", within=WITHIN))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            continue
        except client.RequestRefused as error:
            return _complain(f"GoodWe: {error}; it goes on with the configuration of before", REFUSED)
        except PermissionError:
            trouble = f"GoodWe: you may not ask it at {path}; run with sudo, or as a user in group goodwe"
        except TimeoutError:
            trouble = f"GoodWe: it does not answer at {path}; look into its log, then restart it"
        except (OSError, ValueError) as error:
            trouble = f"GoodWe: no answer at {path}: {error}"
    return _complain(trouble, FAILED)


def sockets(pidfile: str) -> list[str]:
    """Where the program may listen: as its unit of systemd, beside that pid file, as ours of systemd."""
    own = paths.control_socket(pidfile, os.environ)
    return list(dict.fromkeys((own, paths.socket_beside(pidfile), paths.SYSTEMD_SOCKET)))


def _told(report: Any) -> int:
    if not isinstance(report, dict):
        raise ValueError("another program listens there")
    changed, at_restart = report.get("changed", []), report.get("at_restart", [])
    for line in changed:
        print(line)
    for line in at_restart:
        print(f"{line} (in force after a restart)")
    if not (changed or at_restart or report.get("error")):
        print("nothing has changed")
    for warning in report.get("warnings", []):
        print(warning, file=sys.stderr)
    if report.get("error"):
        return _complain(f"GoodWe: {report['error']}", FAILED)
    return DONE


def _complain(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
