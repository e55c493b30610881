"""The time of day: whether it is right, and what it is in the time zone of now."""

import ctypes
import os
import time

TIME_ERROR = 5
"""Returned by adjtimex() while nobody keeps the kernel's clock in step with the world's."""
TIMEX_SIZE = 208 * 2
"""Bytes of struct timex, with room: it is only read."""
TIMESYNCD = "/run/systemd/timesync"
"""There where systemd keeps the clock; it makes a file in it once the clock is right."""
CLOCK_CHIP = "/sys/class/rtc/rtc0/since_epoch"
CHIP_WITHIN = 300.0
"""Seconds that the chip may be off. One without a battery begins in the past; that sets no clock."""
LONG_PAST = time.mktime((2025, 1, 1, 0, 0, 0, 0, 0, -1))
"""No clock that is right shows a time before this program was written."""


def clock_is_right() -> bool:
    """True if the clock was set since the boot: by the network, or by a clock chip, which a Pi has not."""
    return time.time() > LONG_PAST and (_agrees_with_chip() or _kept_in_step())


def local_time(epoch: float) -> time.struct_time:
    """The local time of a moment in seconds since 1970, in the time zone that the machine has now.

    Raises OverflowError, OSError or ValueError for a moment that it cannot show.
    """
    time.tzset()  # else the zone of the start stays, whatever happens to /etc/localtime
    return time.localtime(epoch)


def _agrees_with_chip() -> bool:
    try:
        with open(CLOCK_CHIP, encoding="ascii") as file:
            return abs(int(file.read()) - time.time()) < CHIP_WITHIN
    except (OSError, ValueError):
        return False


def _kept_in_step() -> bool:
    """By systemd's word, or the kernel's; yes where asking the kernel is forbidden and nobody else knows."""
    if os.path.exists(TIMESYNCD):
        return os.path.exists(f"{TIMESYNCD}/synchronized")
    timex = ctypes.create_string_buffer(TIMEX_SIZE)
    return bool(ctypes.CDLL(None).adjtimex(timex) != TIME_ERROR)
