"""A program whose clock is known to be right, on a machine where nobody keeps it so: what it runs on stays as it is."""

import os
import subprocess
from functools import cache

SYNCHRONIZED = "/run/systemd/timesync"
"""Where the program looks (goodwe/readings/clock.py)."""
COMMAND = [
    "unshare",
    *([] if os.geteuid() == 0 else ["--map-root-user"]),
    *("--mount", "sh", "-c"),
    f'mount -t tmpfs none /run && mkdir -p {SYNCHRONIZED} && touch {SYNCHRONIZED}/synchronized && exec "$@"',
    "sh",
]
"""The words before a command: it sees a /run of its own, in which systemd has set the clock."""


@cache
def can_be() -> bool:
    """False where this machine lets nobody have a /run of his own."""
    try:
        return subprocess.run([*COMMAND, "true"], capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False
