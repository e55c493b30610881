"""The program in the foreground with a clock that goes faster, for `demo --web`; run as a module.

    python3 -m goodwe.tools.fast_clock CONFIG PIDFILE EPOCH BEGAN SPEED

All that waits goes by the machine's clock. Only the time of day is another one: it was EPOCH, in seconds
since 1970, when the machine's monotonic clock showed BEGAN, and goes SPEED times as fast.
"""

import sys
import time
from collections.abc import Callable

from ..app import TimeOfDay
from ..cli import Call
from ..service import GoodWe


def fast(
    epoch: float, began: float, speed: float, monotonic: Callable[[], float] = time.monotonic
) -> TimeOfDay:
    """The time of day that is `epoch` when `monotonic` gives `began`, and goes `speed` times as fast."""
    return TimeOfDay(lambda: epoch + (monotonic() - began) * speed, lambda: True)


def main(arguments: list[str]) -> int:
    """Run until a signal comes; its exit code."""
    config_file, pidfile, epoch, began, speed = arguments
    call = Call(config_file, pidfile, [])
    settings, warnings = call.load()
    time_of_day = fast(float(epoch), float(began), float(speed))
    program = GoodWe(
        pidfile, settings, warnings, configuration=call.path, load=call.load, time_of_day=time_of_day
    )
    return program.foreground()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
